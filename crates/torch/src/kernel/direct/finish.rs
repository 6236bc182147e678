//! What is done to each value of a convolution before it is written.

use std::sync::Arc;

use pulp::Simd;

use super::vectors::load;
use crate::kernel::activation::is_usual;
use coprof_core::model::{Activation, Weights};

/// A bias to start from, and a function at the end.
pub struct Finish {
    /// One for each output channel.
    bias: Vec<f32>,
    function: Function,
}

#[derive(Clone, Copy)]
enum Function {
    Identity,
    Clip { least: f32, most: f32 },
    HardSigmoid,
    HardSwish,
    Sigmoid,
    Silu,
}

impl Finish {
    pub fn new(bias: &Option<Arc<Weights>>, channels: usize) -> Self {
        let bias = bias.as_ref().map_or_else(|| vec![0.0; channels], |bias| bias.data.clone());
        Self { bias, function: Function::Identity }
    }

    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Takes in the function; returns what is left to be done.
    pub fn take_in(&mut self, activation: Option<Activation>) -> Option<Activation> {
        self.function = match activation {
            Some(Activation::Relu) => Function::Clip { least: 0.0, most: f32::INFINITY },
            Some(Activation::Clip { least, most }) => Function::Clip { least, most },
            Some(usual @ Activation::HardSigmoid { .. }) if is_usual(usual) => Function::HardSigmoid,
            Some(Activation::HardSwish) => Function::HardSwish,
            Some(Activation::Sigmoid) => Function::Sigmoid,
            Some(Activation::Silu) => Function::Silu,
            left => return left,
        };
        None
    }

    /// The biases of some vectors of channels, 0 behind the last one.
    #[inline(always)]
    pub fn bias<S: Simd, const N: usize>(&self, simd: S, first: usize) -> [S::f32s; N] {
        load(simd, &self.bias, first)
    }

    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, values: S::f32s) -> S::f32s {
        let gate = || {
            let slope = simd.splat_f32s(1.0 / 6.0);
            clip(simd, simd.mul_add_f32s(values, slope, simd.splat_f32s(0.5)), 0.0, 1.0)
        };
        match self.function {
            Function::Identity => values,
            Function::Clip { least, most } => clip(simd, values, least, most),
            Function::HardSigmoid => gate(),
            Function::HardSwish => simd.mul_f32s(gate(), values),
            Function::Sigmoid => sigmoid(simd, values),
            Function::Silu => simd.mul_f32s(sigmoid(simd, values), values),
        }
    }
}

/// The values come last: where one is no number, x86 answers with the second operand.
#[inline(always)]
fn clip<S: Simd>(simd: S, values: S::f32s, least: f32, most: f32) -> S::f32s {
    simd.min_f32s(simd.splat_f32s(most), simd.max_f32s(simd.splat_f32s(least), values))
}

#[inline(always)]
fn sigmoid<S: Simd>(simd: S, values: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(values))))
}

/// `e^x = 2^n e^r` with a whole `n` and `|r| <= ln 2 / 2`, `e^r` by its Taylor series up to `r^6`. Below -87 and above 88
/// as there.
#[inline(always)]
fn exp<S: Simd>(simd: S, values: S::f32s) -> S::f32s {
    /// Added to a small number, it leaves the nearest whole one in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    /// Upper bits of ln 2, so that their product with `n` is exact, and the rest.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let values = clip(simd, values, -87.0, 88.0);
    let rounding = simd.splat_f32s(ROUNDING);
    let rounded = simd.mul_add_f32s(values, simd.splat_f32s(std::f32::consts::LOG2_E), rounding);
    let n = simd.sub_f32s(rounded, rounding);
    let mut r = values;
    for part in LN_2 {
        r = simd.mul_add_f32s(n, simd.splat_f32s(-part), r);
    }
    let mut series = simd.splat_f32s(1.0 / 720.0);
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = simd.mul_add_f32s(series, r, simd.splat_f32s(coefficient));
    }
    // `n` in the lowest bits moves to the exponent, and the rest of the bits out.
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(series), exponent))
}
