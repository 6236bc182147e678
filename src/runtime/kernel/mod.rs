//! One layer prepared for libtorch: weights on the device, in the layout that the backend runs in.

mod activation;
mod direct;
mod linear;
mod onednn;
mod prepared;
mod way;
mod window;

use std::sync::Arc;

use tch::{Device, TchError, Tensor};

use crate::model::{Layer, Shape, Weights};
use way::{Way, ways};

/// How activations lie in memory between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Row-major, as PyTorch's eager mode has it.
    Plain,
    /// The channels of a place side by side, as oneDNN's convolutions with packed weights have it; CPU only.
    ChannelsLast,
}

/// A layer, and the ways there are to run it in a layout.
pub(super) struct Kernel {
    /// Never empty.
    ways: Vec<Way>,
    chosen: usize,
    /// The output's shape with the batch dimension.
    output: Vec<i64>,
}

impl Kernel {
    /// `input` is the shape of the layer's first input.
    pub fn prepare(layer: &Layer, input: &Shape, device: Device, layout: Layout) -> Result<Self, TchError> {
        let ways = ways(layer, input, device, layout)?;
        Ok(Self { ways, chosen: 0, output: with_batch(&layer.output) })
    }

    /// How many ways there are to run it.
    pub fn ways(&self) -> usize {
        self.ways.len()
    }

    /// Runs it in this way from now on.
    pub fn choose(&mut self, way: usize) {
        self.chosen = way.min(self.ways.len() - 1);
    }

    /// Forgets the ways that are not chosen.
    pub fn settle(&mut self) {
        self.ways.swap(0, self.chosen);
        self.ways.truncate(1);
        self.chosen = 0;
    }

    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let output = self.ways[self.chosen].run(inputs)?;
        if output.size() == self.output { Ok(output) } else { reshaped(&output, &self.output) }
    }
}

/// The same values, read row-major, under another shape. Where a shuffle has left gaps between channels they are closed
/// channels-last: row-major, the next convolution would have to turn them again.
fn reshaped(tensor: &Tensor, shape: &[i64]) -> Result<Tensor, TchError> {
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

fn with_batch(shape: &Shape) -> Vec<i64> {
    std::iter::once(1).chain(shape.0.iter().map(|&side| side as i64)).collect()
}

fn constant(weights: &Weights, device: Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = weights.shape.iter().map(|&side| side as i64).collect();
    Tensor::f_from_slice(&weights.data)?.f_view(shape.as_slice())?.f_to(device)
}

fn optional(weights: &Option<Arc<Weights>>, device: Device) -> Result<Option<Tensor>, TchError> {
    weights.as_ref().map(|weights| constant(weights, device)).transpose()
}
