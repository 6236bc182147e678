//! Grids of quantization: from a range to the meaning of codes and back.

use half::bf16;

use crate::error::{Error, Result};

/// Magnitudes saturate here, so that neither `max - min` nor a value that is read back overflows.
pub(super) const LIMIT: f32 = f32::from_bits((126 + 127) << 23);

/// Where a tensor's codes lie: code `c` means `min + c * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grid {
    pub(super) min: f32,
    pub(super) scale: f32,
}

/// How values become codes: `(value - min) * per_value`, rounded, within 0 to `greatest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    pub(super) min: f32,
    pub(super) per_value: f32,
    pub(super) greatest: f32,
    /// Whether all values but NaN are known to lie on the grid already.
    pub(super) covers: bool,
}

impl Scaling {
    /// To whole numbers from 0 to 255.
    pub(super) const PIXELS: Self = Self { min: 0.0, per_value: 1.0, greatest: 255.0, covers: false };
}

impl Grid {
    /// The whole numbers from 0 to 255.
    pub(super) const PIXELS: Self = Self { min: 0.0, scale: 1.0 };

    /// The grid with its least code at `min` and its greatest at `max`, both finite and within [`LIMIT`].
    pub(super) fn between(min: f32, max: f32, bits: u8) -> Self {
        let scale = (max - min) / greatest_code(bits);
        Self { min, scale: if scale.is_normal() { scale } else { 0.0 } }
    }

    /// How values go to this grid; `covers` says that none but NaN lies beyond it.
    pub(super) fn scaling(&self, bits: u8, covers: bool) -> Scaling {
        let per_value = if self.scale == 0.0 { 0.0 } else { self.scale.recip() };
        Scaling { min: self.min, per_value, greatest: greatest_code(bits), covers }
    }

    /// As the header of a tensor's only grid.
    pub(super) fn to_f32_header(self) -> [u8; 8] {
        let ([a, b, c, d], [e, f, g, h]) = (self.min.to_le_bytes(), self.scale.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }

    pub(super) fn from_f32_header([a, b, c, d, e, f, g, h]: [u8; 8], bits: u8) -> Result<Self> {
        let (min, scale) = (f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]));
        Self { min, scale }.checked(bits)
    }

    /// As the header of one grid of several; exact for those of [`Grid::spanning_coarsely`].
    pub(super) fn to_bf16_header(self) -> [u8; 4] {
        let high = |value: f32| ((value.to_bits() >> 16) as u16).to_le_bytes();
        let ([a, b], [c, d]) = (high(self.min), high(self.scale));
        [a, b, c, d]
    }

    pub(super) fn from_bf16_header([a, b, c, d]: [u8; 4], bits: u8) -> Result<Self> {
        let (min, scale) = (bf16::from_le_bytes([a, b]).to_f32(), bf16::from_le_bytes([c, d]).to_f32());
        Self { min, scale }.checked(bits)
    }

    /// A finite least and greatest value and a scale that is not negative keep all between them finite too.
    fn checked(self, bits: u8) -> Result<Self> {
        let Self { min, scale } = self;
        if min.is_finite() && scale >= 0.0 && (min + greatest_code(bits) * scale).is_finite() {
            return Ok(self);
        }
        Err(Error::peer(format!(
            "expected a q{bits} tensor with a finite range, found least value {min} and scale {scale}; payload broken"
        )))
    }
}

pub(super) fn greatest_code(bits: u8) -> f32 {
    f32::from((1_u16 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_no_encoder_writes_are_refused() {
        let broken = [
            (f32::NAN, 1.0),
            (f32::INFINITY, 1.0),
            (0.0, f32::NAN),
            (0.0, f32::INFINITY),
            (0.0, -1.0),
            (0.0, f32::MAX),
            (f32::MAX, f32::MAX / 15.0),
        ];
        for (min, scale) in broken {
            let grid = Grid { min, scale };
            assert!(Grid::from_f32_header(grid.to_f32_header(), 4).is_err(), "{min} {scale}");
            assert!(Grid::from_bf16_header(grid.to_bf16_header(), 4).is_err(), "{min} {scale}");
        }
        let grid = Grid { min: -1.0, scale: 0.5 };
        assert_eq!(Grid::from_f32_header(grid.to_f32_header(), 4), Ok(grid));
        assert_eq!(Grid::from_bf16_header(grid.to_bf16_header(), 4), Ok(grid));
    }

    #[test]
    fn coarse_grids_are_bf16_and_cut_nothing_off() {
        for values in
            [[0.1_f32, 0.7], [-0.1, 0.3], [1e6, 1.001e6], [-LIMIT, LIMIT], [3e-39, 1e-38], [-1.7, -1.6]]
        {
            for bits in [2, 8] {
                let (grid, _) = Grid::spanning_coarsely(&values, bits);
                assert_eq!(Grid::from_bf16_header(grid.to_bf16_header(), bits), Ok(grid));
                let top = grid.min + greatest_code(bits) * grid.scale;
                assert!(
                    grid.min <= values[0] && (top >= values[1] * (1.0 - f32::EPSILON) || grid.scale == 0.0)
                );
                let width = values[1] - values[0] + values[0].abs() / 128.0;
                assert!(top - grid.min <= width * 1.01, "{values:?} {grid:?}");
            }
        }
    }
}
