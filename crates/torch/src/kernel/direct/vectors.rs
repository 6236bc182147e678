//! Some vectors side by side, read from and written to slices that may end within them.

use pulp::Simd;

/// `N` vectors from `start` on, 0 behind the end.
#[inline(always)]
pub fn load<S: Simd, const N: usize>(simd: S, values: &[f32], start: usize) -> [S::f32s; N] {
    let whole = values.get(start..start + N * S::F32_LANES);
    if let Some(&vectors) = whole.and_then(|whole| S::as_simd_f32s(whole).0.first_chunk()) {
        return vectors;
    }
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (part, vector) in vectors.iter_mut().enumerate() {
        let rest = values.get(start + part * S::F32_LANES..).unwrap_or(&[]);
        *vector = simd.partial_load_f32s(rest.get(..S::F32_LANES).unwrap_or(rest));
    }
    vectors
}

/// Writes vectors from `start` on, as far as there is room.
#[inline(always)]
pub fn store<S: Simd, const N: usize>(simd: S, into: &mut [f32], start: usize, vectors: [S::f32s; N]) {
    let whole = into.get_mut(start..start + N * S::F32_LANES);
    if let Some(room) = whole.and_then(|whole| S::as_mut_simd_f32s(whole).0.first_chunk_mut()) {
        *room = vectors;
        return;
    }
    for (part, vector) in vectors.into_iter().enumerate() {
        let rest = into.get_mut(start + part * S::F32_LANES..).unwrap_or(&mut []);
        let room = rest.len().min(S::F32_LANES);
        simd.partial_store_f32s(&mut rest[..room], vector);
    }
}
