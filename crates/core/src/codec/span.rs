//! The grid that a tensor's own values span.

use super::grid::{Grid, LIMIT, Scaling};
use super::lanes;

impl Grid {
    /// The grid from the least to the greatest finite value, and how these values go there.
    pub(super) fn spanning(values: &[f32], bits: u8) -> (Self, Scaling) {
        let (min, max, covers) = range_of(values);
        let grid = Self::between(min, max, bits);
        (grid, grid.scaling(bits, covers))
    }

    /// The same with a least value and a scale that are `bf16`, so a little wider.
    pub(super) fn spanning_coarsely(values: &[f32], bits: u8) -> (Self, Scaling) {
        let (min, max, covers) = range_of(values);
        let min = bf16_below(min);
        let Self { scale, .. } = Self::between(min, max, bits);
        let grid = Self { min, scale: -bf16_below(-scale) };
        (grid, grid.scaling(bits, covers))
    }
}

/// The greatest `bf16` that is not above a value within [`LIMIT`].
fn bf16_below(value: f32) -> f32 {
    let bits = value.to_bits();
    let toward_zero = bits & 0xffff_0000;
    let away = if value < 0.0 && toward_zero != bits { 0x1_0000 } else { 0 };
    f32::from_bits(toward_zero + away)
}

/// The least and the greatest finite value, zeros where there is none, and whether all values but NaN are between them.
fn range_of(values: &[f32]) -> (f32, f32, bool) {
    let (least, greatest) = lanes::extremes(values);
    let covers = least >= -LIMIT && greatest <= LIMIT;
    let (least, greatest) = if least.is_finite() && greatest.is_finite() {
        (least, greatest)
    } else {
        // Infinities among the values, or nothing but NaN.
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        finite().reduce(f32::min).zip(finite().reduce(f32::max)).unwrap_or((0.0, 0.0))
    };
    // Adding zero turns -0 into 0: which of the two is found first is up to the order of the search.
    (least.clamp(-LIMIT, LIMIT) + 0.0, greatest.clamp(-LIMIT, LIMIT) + 0.0, covers)
}
