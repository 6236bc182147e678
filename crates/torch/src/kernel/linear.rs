//! Fully connected layers: products of matrices.

use tch::{TchError, Tensor};

use super::onednn::PackedConv;
use super::window::Sides;
use coprof_core::model::Activation;

/// Rows of values times a weight `[outputs, inputs]`.
pub struct Linear {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub inputs: i64,
}

impl Linear {
    /// Reads the input as rows, whatever its shape.
    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        input.f_reshape([-1, self.inputs])?.f_linear(&self.weight, self.bias.as_ref())
    }
}

/// The same by oneDNN, as a convolution of rows that lie one below the other: its weight is packed, and a function of single
/// values costs no pass of its own.
pub struct PackedLinear {
    conv: PackedConv,
    inputs: i64,
}

impl PackedLinear {
    /// Packs the weight for inputs of `rows`; returns what is left to be done of `activation`.
    pub fn prepare(
        linear: &Linear,
        rows: i64,
        activation: Option<Activation>,
    ) -> Result<(Self, Option<Activation>), TchError> {
        let weight = linear.weight.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
        let bias = linear.bias.as_ref().map(Tensor::shallow_clone);
        let column = [1, linear.inputs, rows, 1];
        let mut conv = PackedConv::prepare(&weight, bias, Sides::single(), 1, &column)?;
        let left = conv.take_in(activation, false);
        Ok((Self { conv, inputs: linear.inputs }, left))
    }

    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let column = input.f_reshape([1, -1, 1, self.inputs])?.f_permute([0, 3, 1, 2])?;
        self.conv.run(&column, None)?.f_permute([0, 2, 3, 1])
    }
}
