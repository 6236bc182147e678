//! The loops of `lanes.rs` for any target, written without branches so that the compiler makes vector code of them.

use pulp::{Simd, WithSimd};

use super::grid::{Grid, Scaling};

/// Added to a value in 0..=255, this leaves the value, rounded to the nearest integer, in the low mantissa bits. Unlike
/// a cast it is one vector instruction on every target.
const ROUND: f32 = 8_388_608.0;

/// The code of each value.
#[inline(always)]
pub(super) fn quantize(values: &[f32], codes: &mut [u8], scaling: &Scaling) {
    for (&value, code) in values.iter().zip(codes) {
        let scaled = (value - scaling.min) * scaling.per_value;
        // False for NaN, which so becomes the least code.
        let floored = if scaled > 0.0 { scaled } else { 0.0 };
        let clamped = if floored < scaling.greatest { floored } else { scaling.greatest };
        *code = (clamped + ROUND).to_bits() as u8;
    }
}

/// The value of each code. No instructions chosen by hand were faster than those that the compiler finds.
pub(super) struct Dequantize<'a> {
    pub(super) codes: &'a [u8],
    pub(super) values: &'a mut [f32],
    pub(super) grid: &'a Grid,
}

impl WithSimd for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Grid { min, scale } = *self.grid;
        for (&code, value) in self.codes.iter().zip(self.values) {
            *value = min + f32::from(code) * scale;
        }
    }
}
