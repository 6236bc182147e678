//! What is done to each value of a convolution before it is written.

use std::sync::Arc;

use pulp::Simd;

use crate::model::{Activation, Weights};
use crate::runtime::kernel::activation::is_usual;

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
            left => return left,
        };
        None
    }

    /// The biases of a vector of channels, 0 behind the last one.
    #[inline(always)]
    pub fn bias<S: Simd>(&self, simd: S, channel: usize) -> S::f32s {
        load(simd, &self.bias, channel)
    }

    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, values: S::f32s) -> S::f32s {
        // The value comes last: where it is no number, x86 answers with the second operand.
        let clip = |values, least, most| {
            simd.min_f32s(simd.splat_f32s(most), simd.max_f32s(simd.splat_f32s(least), values))
        };
        let sixth = || simd.splat_f32s(1.0 / 6.0);
        match self.function {
            Function::Identity => values,
            Function::Clip { least, most } => clip(values, least, most),
            Function::HardSigmoid => clip(simd.mul_add_f32s(values, sixth(), simd.splat_f32s(0.5)), 0.0, 1.0),
            Function::HardSwish => {
                let gate = clip(simd.mul_add_f32s(values, sixth(), simd.splat_f32s(0.5)), 0.0, 1.0);
                simd.mul_f32s(gate, values)
            }
        }
    }
}

/// A vector from `start` on, 0 behind the end.
#[inline(always)]
pub fn load<S: Simd>(simd: S, values: &[f32], start: usize) -> S::f32s {
    match values.get(start..start + S::F32_LANES) {
        Some(whole) => S::as_simd_f32s(whole).0[0],
        None => simd.partial_load_f32s(values.get(start..).unwrap_or(&[])),
    }
}

/// Writes a vector from `start` on, as far as there is room.
#[inline(always)]
pub fn store<S: Simd>(simd: S, into: &mut [f32], start: usize, values: S::f32s) {
    if let Some(whole) = into.get_mut(start..start + S::F32_LANES) {
        S::as_mut_simd_f32s(whole).0[0] = values;
    } else if let Some(rest) = into.get_mut(start..) {
        simd.partial_store_f32s(rest, values);
    }
}
