//! The loops of `lanes.rs` in AVX-512 and AVX2, with the same bits. The room's unsafe code is here: calls of
//! functions that need these behind a check of the CPU, and loads and stores within arrays.
//!
//! Each function does as many whole groups as there are and returns what is left of both slices.

use std::arch::x86_64::*;

use super::grid::{Grid, Scaling};

/// The vector instructions of this CPU. Only a check makes one, so that whoever holds one may use them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Isa {
    has_avx512: bool,
}

impl Isa {
    /// The best that this CPU has, if any.
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        let has_avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        is_x86_feature_detected!("avx2").then_some(Self { has_avx512 })
    }

    /// The same without AVX-512.
    #[cfg(test)]
    pub(super) fn avx2_alone(self) -> Self {
        Self { has_avx512: false }
    }

    pub(super) fn extremes(self, values: &[f32]) -> (f32, f32) {
        // SAFETY: the CPU has these instructions.
        unsafe { if self.has_avx512 { extremes_avx512(values) } else { extremes_avx2(values) } }
    }

    pub(super) fn quantize<'a, 'b>(
        self,
        mut values: &'a [f32],
        mut codes: &'b mut [u8],
        scaling: &Scaling,
    ) -> (&'a [f32], &'b mut [u8]) {
        if self.has_avx512 {
            let (ins, outs);
            (ins, outs, values, codes) = in_groups(values, codes);
            // SAFETY: the CPU has these instructions.
            unsafe {
                match (scaling.covers, scaling.min == 0.0) {
                    (true, true) => quantize_avx512::<false, false>(ins, outs, scaling),
                    (true, false) => quantize_avx512::<false, true>(ins, outs, scaling),
                    (false, true) => quantize_avx512::<true, false>(ins, outs, scaling),
                    (false, false) => quantize_avx512::<true, true>(ins, outs, scaling),
                }
            }
        }
        let (ins, outs, values, codes) = in_groups(values, codes);
        // SAFETY: the CPU has these instructions.
        unsafe {
            match scaling.covers {
                true => quantize_avx2::<false>(ins, outs, scaling),
                false => quantize_avx2::<true>(ins, outs, scaling),
            }
        }
        (values, codes)
    }

    /// The same, two codes to a byte.
    pub(super) fn quantize_nibbles<'a, 'b>(
        self,
        values: &'a [f32],
        bytes: &'b mut [u8],
        scaling: &Scaling,
    ) -> (&'a [f32], &'b mut [u8]) {
        let (ins, outs, values, bytes) = in_groups(values, bytes);
        // SAFETY: the CPU has these instructions.
        unsafe {
            match (self.has_avx512, scaling.covers, scaling.min == 0.0) {
                (true, true, true) => quantize_nibbles_avx512::<false, false>(ins, outs, scaling),
                (true, true, false) => quantize_nibbles_avx512::<false, true>(ins, outs, scaling),
                (true, false, true) => quantize_nibbles_avx512::<true, false>(ins, outs, scaling),
                (true, false, false) => quantize_nibbles_avx512::<true, true>(ins, outs, scaling),
                (false, true, _) => quantize_nibbles_avx2::<false>(ins, outs, scaling),
                (false, false, _) => quantize_nibbles_avx2::<true>(ins, outs, scaling),
            }
        }
        (values, bytes)
    }

    pub(super) fn dequantize<'a, 'b>(
        self,
        codes: &'a [u8],
        values: &'b mut [f32],
        grid: &Grid,
    ) -> (&'a [u8], &'b mut [f32]) {
        let (ins, outs, codes, values) = in_groups(codes, values);
        // SAFETY: the CPU has these instructions.
        unsafe {
            match self.has_avx512 {
                true => dequantize_avx512(ins, outs, grid),
                false => dequantize_avx2(ins, outs, grid),
            }
        }
        (codes, values)
    }

    /// The same, two codes to a byte.
    pub(super) fn dequantize_nibbles<'a, 'b>(
        self,
        bytes: &'a [u8],
        values: &'b mut [f32],
        grid: &Grid,
    ) -> (&'a [u8], &'b mut [f32]) {
        let (ins, outs, bytes, values) = in_groups(bytes, values);
        // SAFETY: the CPU has these instructions.
        unsafe {
            match self.has_avx512 {
                true => dequantize_nibbles_avx512(ins, outs, grid),
                false => dequantize_nibbles_avx2(ins, outs, grid),
            }
        }
        (bytes, values)
    }
}

/// As many whole groups as both slices have, and what is left of both.
#[expect(clippy::type_complexity, reason = "four slices have no better name")]
fn in_groups<'a, 'b, I, O, const IN: usize, const OUT: usize>(
    ins: &'a [I],
    outs: &'b mut [O],
) -> (&'a [[I; IN]], &'b mut [[O; OUT]], &'a [I], &'b mut [O]) {
    let groups = (ins.len() / IN).min(outs.len() / OUT);
    let ((ins, ins_left), (outs, outs_left)) = (ins.split_at(groups * IN), outs.split_at_mut(groups * OUT));
    (ins.as_chunks().0, outs.as_chunks_mut().0, ins_left, outs_left)
}

#[target_feature(enable = "avx2")]
fn extremes_avx2(values: &[f32]) -> (f32, f32) {
    let (groups, rest) = values.as_chunks::<32>();
    let mut least = [_mm256_set1_ps(f32::INFINITY); 4];
    let mut greatest = [_mm256_set1_ps(f32::NEG_INFINITY); 4];
    for group in groups {
        let (vectors, _) = group.as_chunks();
        for ((vector, least), greatest) in vectors.iter().zip(&mut least).zip(&mut greatest) {
            let vector = load(vector);
            // Where one side is NaN, these give the second.
            *least = _mm256_min_ps(vector, *least);
            *greatest = _mm256_max_ps(vector, *greatest);
        }
    }
    let [a, b, c, d] = least;
    let least = _mm256_min_ps(_mm256_min_ps(a, b), _mm256_min_ps(c, d));
    let [a, b, c, d] = greatest;
    let greatest = _mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d));
    // Both reduced at once: the greatest value is the least one of the opposite numbers, turned around.
    let opposite = _mm256_xor_ps(greatest, _mm256_set1_ps(-0.0));
    let halves = _mm256_min_ps(
        _mm256_permute2f128_ps::<0x20>(least, opposite),
        _mm256_permute2f128_ps::<0x31>(least, opposite),
    );
    let pairs = _mm256_min_ps(halves, _mm256_permute_ps::<0b01_00_11_10>(halves));
    let ones = _mm256_min_ps(pairs, _mm256_permute_ps::<0b10_11_00_01>(pairs));
    let least = _mm256_cvtss_f32(ones);
    let greatest = -_mm_cvtss_f32(_mm256_extractf128_ps::<1>(ones));
    (rest.iter().copied().fold(least, f32::min), rest.iter().copied().fold(greatest, f32::max))
}

#[target_feature(enable = "avx2")]
fn quantize_avx2<const CLAMP: bool>(values: &[[f32; 32]], codes: &mut [[u8; 32]], scaling: &Scaling) {
    for (values, codes) in values.iter().zip(codes) {
        store_bytes(codes, codes_of::<CLAMP>(values, scaling));
    }
}

#[target_feature(enable = "avx2")]
fn quantize_nibbles_avx2<const CLAMP: bool>(values: &[[f32; 64]], bytes: &mut [[u8; 32]], scaling: &Scaling) {
    // A pair's first code once and its second 16 times.
    let weights = _mm256_set1_epi16(0x1001);
    for (values, bytes) in values.iter().zip(bytes) {
        let [first, second] = values.as_chunks().0 else { continue };
        let first = _mm256_maddubs_epi16(codes_of::<CLAMP>(first, scaling), weights);
        let second = _mm256_maddubs_epi16(codes_of::<CLAMP>(second, scaling), weights);
        let packed = _mm256_packus_epi16(first, second);
        store_bytes(bytes, _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
    }
}

#[target_feature(enable = "avx2")]
fn dequantize_avx2(codes: &[[u8; 32]], values: &mut [[f32; 32]], grid: &Grid) {
    for (codes, values) in codes.iter().zip(values) {
        for (codes, values) in codes.as_chunks().0.iter().zip(values.as_chunks_mut().0) {
            let codes = _mm_cvtsi64_si128(i64::from_le_bytes(*codes));
            store(values, values_of(codes, grid));
        }
    }
}

#[target_feature(enable = "avx2")]
fn dequantize_nibbles_avx2(bytes: &[[u8; 16]], values: &mut [[f32; 32]], grid: &Grid) {
    let low = _mm_set1_epi8(15);
    for (bytes, values) in bytes.iter().zip(values) {
        let ([a, b, c, d], _) = values.as_chunks_mut() else { continue };
        let bytes = load_bytes(bytes);
        let (even, odd) = (_mm_and_si128(bytes, low), _mm_and_si128(_mm_srli_epi16::<4>(bytes), low));
        let (first, second) = (_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd));
        store(a, values_of(first, grid));
        store(b, values_of(_mm_unpackhi_epi64(first, first), grid));
        store(c, values_of(second, grid));
        store(d, values_of(_mm_unpackhi_epi64(second, second), grid));
    }
}

/// The codes of 32 values. What is negative or NaN becomes 0 on the way: the conversion makes NaN the least integer.
#[target_feature(enable = "avx2")]
#[inline]
fn codes_of<const CLAMP: bool>(values: &[f32; 32], scaling: &Scaling) -> __m256i {
    let (min, per_value) = (_mm256_set1_ps(scaling.min), _mm256_set1_ps(scaling.per_value));
    let greatest = _mm256_set1_ps(scaling.greatest);
    let [a, b, c, d] = [0, 8, 16, 24].map(|at| {
        let mut group = [0.0; 8];
        group.copy_from_slice(&values[at..at + 8]);
        let scaled = _mm256_mul_ps(_mm256_sub_ps(load(&group), min), per_value);
        // NaN stays, as the second one.
        _mm256_cvtps_epi32(if CLAMP { _mm256_min_ps(greatest, scaled) } else { scaled })
    });
    let packed = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    // The packs work on halves of vectors: this puts the groups of four in order.
    _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// The values of the eight codes in the low half.
#[target_feature(enable = "avx2")]
#[inline]
fn values_of(codes: __m128i, grid: &Grid) -> __m256 {
    let codes = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
    // Not fused: the portable code rounds twice too.
    _mm256_add_ps(_mm256_set1_ps(grid.min), _mm256_mul_ps(codes, _mm256_set1_ps(grid.scale)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: the array is as long as the vector, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(values: &mut [f32; 8], vector: __m256) {
    // SAFETY: the array is as long as the vector, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), vector) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_bytes(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: the array is as long as the vector, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

/// Floats from zero up are in order as integers too, and above all negative ones. Comparing integers uses other units of the
/// CPU than comparing floats, so both at once take less time.
#[target_feature(enable = "avx512f,avx512bw")]
fn extremes_avx512(values: &[f32]) -> (f32, f32) {
    let (groups, rest) = values.as_chunks::<64>();
    let mut least = [_mm512_set1_ps(f32::INFINITY); 4];
    let mut greatest = [_mm512_set1_epi32(i32::MIN); 4];
    for group in groups {
        let (vectors, _) = group.as_chunks();
        for ((vector, least), greatest) in vectors.iter().zip(&mut least).zip(&mut greatest) {
            let vector = load_512(vector);
            *least = _mm512_min_ps(vector, *least);
            *greatest = _mm512_max_epi32(_mm512_castps_si512(vector), *greatest);
        }
    }
    let [a, b, c, d] = least;
    let least = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(a, b), _mm512_min_ps(c, d)));
    let [a, b, c, d] = greatest;
    let bits = _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d)));
    let greatest = match u32::try_from(bits).map(f32::from_bits) {
        Ok(greatest) if greatest.is_finite() => greatest,
        // All are negative, or a NaN or an infinity is among them.
        _ => greatest_avx512(groups),
    };
    (rest.iter().copied().fold(least, f32::min), rest.iter().copied().fold(greatest, f32::max))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn greatest_avx512(groups: &[[f32; 64]]) -> f32 {
    let vectors = groups.iter().flat_map(|group| group.as_chunks().0);
    // Where one side is NaN, this gives the second.
    let greatest = |greatest, vector| _mm512_max_ps(load_512(vector), greatest);
    _mm512_reduce_max_ps(vectors.fold(_mm512_set1_ps(f32::NEG_INFINITY), greatest))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn quantize_avx512<const CLAMP: bool, const SHIFT: bool>(
    values: &[[f32; 64]],
    codes: &mut [[u8; 64]],
    scaling: &Scaling,
) {
    for (values, codes) in values.iter().zip(codes) {
        let packed = codes_of_512::<CLAMP, SHIFT>(values, scaling);
        // SAFETY: the array is as long as the vector, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), packed) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn quantize_nibbles_avx512<const CLAMP: bool, const SHIFT: bool>(
    values: &[[f32; 64]],
    bytes: &mut [[u8; 32]],
    scaling: &Scaling,
) {
    let weights = _mm512_set1_epi16(0x1001);
    for (values, bytes) in values.iter().zip(bytes) {
        let pairs = _mm512_maddubs_epi16(codes_of_512::<CLAMP, SHIFT>(values, scaling), weights);
        store_bytes(bytes, _mm512_cvtepi16_epi8(pairs));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn dequantize_avx512(codes: &[[u8; 32]], values: &mut [[f32; 32]], grid: &Grid) {
    let (min, scale) = (_mm512_set1_ps(grid.min), _mm512_set1_ps(grid.scale));
    for (codes, values) in codes.iter().zip(values) {
        for (codes, values) in codes.as_chunks().0.iter().zip(values.as_chunks_mut().0) {
            let codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_bytes(codes)));
            // Not fused: the portable code rounds twice too.
            store_512(values, _mm512_add_ps(min, _mm512_mul_ps(codes, scale)));
        }
    }
}

/// Looks each value up in a table of the sixteen that there are.
#[target_feature(enable = "avx512f,avx512bw")]
fn dequantize_nibbles_avx512(bytes: &[[u8; 16]], values: &mut [[f32; 32]], grid: &Grid) {
    let mut table = [0.0; 16];
    for (code, value) in (0_u8..).zip(&mut table) {
        *value = grid.min + f32::from(code) * grid.scale;
    }
    let table = load_512(&table);
    for (bytes, values) in bytes.iter().zip(values) {
        let ([first, second], _) = values.as_chunks_mut() else { continue };
        let bytes = load_bytes(bytes);
        for (bytes, values) in [(bytes, first), (_mm_unpackhi_epi64(bytes, bytes), second)] {
            // The byte in the low half of 64 bits and its upper four bits in the high half; a look-up takes four bits.
            let pairs = _mm512_cvtepu8_epi64(bytes);
            let codes = _mm512_or_si512(pairs, _mm512_slli_epi64::<28>(pairs));
            store_512(values, _mm512_permutexvar_ps(codes, table));
        }
    }
}

/// The codes of 64 values, as [`codes_of`] makes them. Behind a ReLU the least value is zero, and nothing need be taken off.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn codes_of_512<const CLAMP: bool, const SHIFT: bool>(values: &[f32; 64], scaling: &Scaling) -> __m512i {
    let (min, per_value) = (_mm512_set1_ps(scaling.min), _mm512_set1_ps(scaling.per_value));
    let greatest = _mm512_set1_ps(scaling.greatest);
    let [a, b, c, d] = [0, 16, 32, 48].map(|at| {
        let mut group = [0.0; 16];
        group.copy_from_slice(&values[at..at + 16]);
        let values = load_512(&group);
        let scaled = _mm512_mul_ps(if SHIFT { _mm512_sub_ps(values, min) } else { values }, per_value);
        _mm512_cvtps_epi32(if CLAMP { _mm512_min_ps(greatest, scaled) } else { scaled })
    });
    let packed = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    // The packs work on quarters of vectors: this puts the groups of four in order.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, packed)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_512(values: &[f32; 16]) -> __m512 {
    // SAFETY: the array is as long as the vector, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_512(values: &mut [f32; 16], vector: __m512) {
    // SAFETY: the array is as long as the vector, and the store needs no alignment.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), vector) }
}

#[inline]
fn load_bytes(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array is as long as the vector, and the load needs no alignment; every x86-64 has SSE2.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
