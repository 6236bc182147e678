//! Tensors from a model's shapes and weights, and how they lie in memory.

use std::sync::Arc;

use tch::{Device, TchError, Tensor};

use coprof_core::model::{Shape, Weights};

/// How activations lie in memory between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row-major, as PyTorch's eager mode has it.
    Plain,
    /// The channels of a place side by side, as oneDNN's convolutions with packed weights have it; CPU only.
    ChannelsLast,
}

/// The same values, read row-major, under another shape. Where a shuffle has left gaps between channels they are closed
/// channels-last: row-major, the next convolution would have to turn them again.
pub fn reshaped(tensor: &Tensor, shape: &[i64]) -> Result<Tensor, TchError> {
    match (tensor.size().as_slice(), shape) {
        (&[1, _, _, rows, columns], &[1, channels, height, width])
            if (rows, columns) == (height, width) && tensor.stride().last() != Some(&1) =>
        {
            let places = tensor.f_permute([0, 3, 4, 1, 2])?.f_reshape([1, height, width, channels])?;
            places.f_permute([0, 3, 1, 2])
        }
        _ => tensor.f_reshape(shape),
    }
}

pub fn with_batch(shape: &Shape) -> Vec<i64> {
    std::iter::once(1).chain(shape.0.iter().map(|&side| side as i64)).collect()
}

pub fn constant(weights: &Weights, device: Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = weights.shape.iter().map(|&side| side as i64).collect();
    Tensor::f_from_slice(&weights.data)?.f_view(shape.as_slice())?.f_to(device)
}

pub fn optional(weights: &Option<Arc<Weights>>, device: Device) -> Result<Option<Tensor>, TchError> {
    weights.as_ref().map(|weights| constant(weights, device)).transpose()
}
