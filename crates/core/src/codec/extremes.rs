//! The search for the least and the greatest value.

use pulp::{Simd, WithSimd, bytemuck};

/// The least and the greatest value but NaN; infinity and minus infinity where there is none. Of zeros of both signs it
/// is either.
pub(super) struct Extremes<'a>(pub(super) &'a [f32]);

impl WithSimd for Extremes<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let (least, greatest) = of_vectors(simd, vectors);
        (rest.iter().copied().fold(least, f32::min), rest.iter().copied().fold(greatest, f32::max))
    }
}

/// Floats from zero up are in order as integers too, and above all negative ones. Comparing integers uses other units of the
/// CPU than comparing floats, so both at once take less time.
#[inline(always)]
fn of_vectors<S: Simd>(simd: S, vectors: &[S::f32s]) -> (f32, f32) {
    let mut least = [simd.splat_f32s(f32::INFINITY); 4];
    let mut greatest = [simd.splat_i32s(i32::MIN); 4];
    // Four that do not wait for each other. Of a number that is known, or they would not stay in registers.
    let (groups, rest) = vectors.as_chunks::<4>();
    for group in groups {
        for ((&vector, least), greatest) in group.iter().zip(&mut least).zip(&mut greatest) {
            (*least, *greatest) = with(simd, vector, *least, *greatest);
        }
    }
    for &vector in rest {
        (least[0], greatest[0]) = with(simd, vector, least[0], greatest[0]);
    }
    let [a, b, c, d] = least;
    let least = [simd.min_f32s(simd.min_f32s(a, b), simd.min_f32s(c, d))];
    let [a, b, c, d] = greatest;
    let greatest = [simd.max_i32s(simd.max_i32s(a, b), simd.max_i32s(c, d))];
    let has_nan = bytemuck::cast_slice(&least).iter().any(|value: &f32| value.is_nan());
    let bits = bytemuck::cast_slice(&greatest).iter().copied().fold(i32::MIN, i32::max);
    match u32::try_from(bits).map(f32::from_bits) {
        Ok(greatest) if greatest.is_finite() && !has_nan => (simd.reduce_min_f32s(least[0]), greatest),
        // All are negative, or a NaN or an infinity is among them.
        _ => by_comparison(simd, vectors),
    }
}

#[inline(always)]
fn with<S: Simd>(simd: S, vector: S::f32s, least: S::f32s, greatest: S::i32s) -> (S::f32s, S::i32s) {
    // Where `vector` is NaN, the least one is the second operand on x86, and NaN itself on others.
    (simd.min_f32s(vector, least), simd.max_i32s(simd.transmute_i32s_f32s(vector), greatest))
}

#[inline(always)]
fn by_comparison<S: Simd>(simd: S, vectors: &[S::f32s]) -> (f32, f32) {
    let mut least = simd.splat_f32s(f32::INFINITY);
    let mut greatest = simd.splat_f32s(f32::NEG_INFINITY);
    for &vector in vectors {
        // The comparisons are false for NaN and so pass over it.
        least = simd.select_f32s(simd.less_than_f32s(vector, least), vector, least);
        greatest = simd.select_f32s(simd.greater_than_f32s(vector, greatest), vector, greatest);
    }
    (simd.reduce_min_f32s(least), simd.reduce_max_f32s(greatest))
}
