//! Quantization, and its reverse where codes have four bits, in AVX-512 and AVX2: with the bits of the portable loops, and
//! with instructions that no compiler finds in these.

use std::arch::x86_64::{__m128i, __m256, __m256i, __m512};

use pulp::x86::{V3, V4};
use pulp::{Arch, NullaryFnOnce, Simd, cast};

use super::grid::{Grid, Scaling};
use super::portable;

/// Values whose four-bit codes are packed at a time, and unpacked.
const PACKED: usize = 64;
const UNPACKED: usize = 32;

/// The code of each value, on a CPU that has vectors for it; else nothing is done and `false` said.
pub(super) fn quantize(arch: Arch, values: &[f32], codes: &mut [u8], scaling: &Scaling) -> bool {
    match arch {
        Arch::V4(simd) => simd.vectorize(Quantize { simd, values, codes, scaling }),
        Arch::V3(simd) => simd.vectorize(Quantize { simd, values, codes, scaling }),
        _ => return false,
    }
    true
}

/// The same, two codes to a byte. Does whole groups only, and returns how many values these are.
pub(super) fn quantize_nibbles(arch: Arch, values: &[f32], bytes: &mut [u8], scaling: &Scaling) -> usize {
    let values = values.as_chunks().0;
    let bytes = bytes.as_chunks_mut().0;
    match arch {
        Arch::V4(simd) => simd.vectorize(QuantizeNibbles { simd, values, bytes, scaling }),
        Arch::V3(simd) => simd.vectorize(QuantizeNibbles { simd, values, bytes, scaling }),
        _ => return 0,
    }
    values.len() * PACKED
}

/// The value of each code, two codes to a byte. Does whole groups only, and returns how many values these are.
pub(super) fn dequantize_nibbles(arch: Arch, bytes: &[u8], values: &mut [f32], grid: &Grid) -> usize {
    let bytes = bytes.as_chunks().0;
    let values = values.as_chunks_mut().0;
    let done = values.len() * UNPACKED;
    match arch {
        Arch::V4(simd) => simd.vectorize(DequantizeNibbles { simd, bytes, values, grid }),
        Arch::V3(simd) => simd.vectorize(DequantizeNibbles { simd, bytes, values, grid }),
        _ => return 0,
    }
    done
}

/// What pulp's vectors lack: ways between floats and bytes.
trait Narrow: Simd {
    /// The nearest integers as bytes, in order. What is negative or NaN becomes 0 on the way: the conversion makes NaN the
    /// least integer.
    fn to_bytes(self, values: [Self::f32s; 4]) -> Self::u8s;

    /// Two codes below 16 to a byte, the first one in its low half.
    fn join_nibbles(self, codes: [u8; PACKED]) -> [u8; PACKED / 2];

    /// The value of each code.
    fn split_nibbles(self, bytes: &[[u8; UNPACKED / 2]], values: &mut [[f32; UNPACKED]], grid: &Grid);
}

struct Quantize<'a, S> {
    simd: S,
    values: &'a [f32],
    codes: &'a mut [u8],
    scaling: &'a Scaling,
}

impl<S: Narrow> NullaryFnOnce for Quantize<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match (self.scaling.covers, self.scaling.min == 0.0) {
            (true, true) => self.run::<false, false>(),
            (true, false) => self.run::<false, true>(),
            (false, true) => self.run::<true, false>(),
            (false, false) => self.run::<true, true>(),
        }
    }
}

impl<S: Narrow> Quantize<'_, S> {
    #[inline(always)]
    fn run<const CLAMP: bool, const SHIFT: bool>(self) {
        let Self { simd, values, codes, scaling } = self;
        let groups = S::as_simd_f32s(values).0.as_chunks().0;
        let splat = Splat::new(simd, scaling);
        for (group, codes) in groups.iter().zip(S::as_mut_simd_u8s(codes).0) {
            *codes = splat.codes_of::<CLAMP, SHIFT>(simd, group);
        }
        let done = groups.len() * S::U8_LANES;
        portable::quantize(&values[done..], &mut codes[done..], scaling);
    }
}

struct QuantizeNibbles<'a, S> {
    simd: S,
    values: &'a [[f32; PACKED]],
    bytes: &'a mut [[u8; PACKED / 2]],
    scaling: &'a Scaling,
}

impl<S: Narrow> NullaryFnOnce for QuantizeNibbles<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match (self.scaling.covers, self.scaling.min == 0.0) {
            (true, true) => self.run::<false, false>(),
            (true, false) => self.run::<false, true>(),
            (false, true) => self.run::<true, false>(),
            (false, false) => self.run::<true, true>(),
        }
    }
}

impl<S: Narrow> QuantizeNibbles<'_, S> {
    #[inline(always)]
    fn run<const CLAMP: bool, const SHIFT: bool>(self) {
        let Self { simd, values, bytes, scaling } = self;
        let splat = Splat::new(simd, scaling);
        for (values, bytes) in values.iter().zip(bytes) {
            let mut codes = [0; PACKED];
            let groups = S::as_simd_f32s(values).0.as_chunks().0;
            for (group, codes) in groups.iter().zip(S::as_mut_simd_u8s(&mut codes).0) {
                *codes = splat.codes_of::<CLAMP, SHIFT>(simd, group);
            }
            *bytes = simd.join_nibbles(codes);
        }
    }
}

struct DequantizeNibbles<'a, S> {
    simd: S,
    bytes: &'a [[u8; UNPACKED / 2]],
    values: &'a mut [[f32; UNPACKED]],
    grid: &'a Grid,
}

impl<S: Narrow> NullaryFnOnce for DequantizeNibbles<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.simd.split_nibbles(self.bytes, self.values, self.grid);
    }
}

/// A scaling in vectors. Read off the scaling in each step, it would be loaded each time, since the compiler cannot know that
/// the codes are not written over it.
struct Splat<S: Simd> {
    min: S::f32s,
    per_value: S::f32s,
    greatest: S::f32s,
}

impl<S: Narrow> Splat<S> {
    #[inline(always)]
    fn new(simd: S, scaling: &Scaling) -> Self {
        Self {
            min: simd.splat_f32s(scaling.min),
            per_value: simd.splat_f32s(scaling.per_value),
            greatest: simd.splat_f32s(scaling.greatest),
        }
    }

    /// Behind a ReLU the least value is zero, and nothing need be taken off.
    #[inline(always)]
    fn codes_of<const CLAMP: bool, const SHIFT: bool>(&self, simd: S, values: &[S::f32s; 4]) -> S::u8s {
        let mut scaled = *values;
        for values in &mut scaled {
            if SHIFT {
                *values = simd.sub_f32s(*values, self.min);
            }
            *values = simd.mul_f32s(*values, self.per_value);
            if CLAMP {
                // NaN stays, as the second one.
                *values = simd.min_f32s(self.greatest, *values);
            }
        }
        simd.to_bytes(scaled)
    }
}

impl Narrow for V3 {
    #[inline(always)]
    fn to_bytes(self, values: [Self::f32s; 4]) -> Self::u8s {
        let (avx, avx2) = (self.avx, self.avx2);
        let [a, b, c, d]: [__m256; 4] = cast(values);
        let first = avx2._mm256_packs_epi32(avx._mm256_cvtps_epi32(a), avx._mm256_cvtps_epi32(b));
        let second = avx2._mm256_packs_epi32(avx._mm256_cvtps_epi32(c), avx._mm256_cvtps_epi32(d));
        // The packs work on halves of vectors: this puts the groups of four in order.
        let order = avx._mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        cast(avx2._mm256_permutevar8x32_epi32(avx2._mm256_packus_epi16(first, second), order))
    }

    #[inline(always)]
    fn join_nibbles(self, codes: [u8; PACKED]) -> [u8; PACKED / 2] {
        let avx2 = self.avx2;
        // A pair's first code once and its second 16 times.
        let weights = self.avx._mm256_set1_epi16(0x1001);
        let [first, second]: [__m256i; 2] = cast(codes);
        let (first, second) =
            (avx2._mm256_maddubs_epi16(first, weights), avx2._mm256_maddubs_epi16(second, weights));
        cast(avx2._mm256_permute4x64_epi64::<0b11_01_10_00>(avx2._mm256_packus_epi16(first, second)))
    }

    #[inline(always)]
    fn split_nibbles(self, bytes: &[[u8; UNPACKED / 2]], values: &mut [[f32; UNPACKED]], grid: &Grid) {
        let (sse2, avx, avx2) = (self.sse2, self.avx, self.avx2);
        let low = sse2._mm_set1_epi8(15);
        let (min, scale) = (avx._mm256_set1_ps(grid.min), avx._mm256_set1_ps(grid.scale));
        for (bytes, values) in bytes.iter().zip(values) {
            let bytes: __m128i = cast(*bytes);
            let even = sse2._mm_and_si128(bytes, low);
            let odd = sse2._mm_and_si128(sse2._mm_srli_epi16::<4>(bytes), low);
            let (first, second) = (sse2._mm_unpacklo_epi8(even, odd), sse2._mm_unpackhi_epi8(even, odd));
            let (first_high, second_high) =
                (sse2._mm_unpackhi_epi64(first, first), sse2._mm_unpackhi_epi64(second, second));
            let codes = [first, first_high, second, second_high];
            for (codes, values) in codes.into_iter().zip(values.as_chunks_mut::<8>().0) {
                let codes = avx._mm256_cvtepi32_ps(avx2._mm256_cvtepu8_epi32(codes));
                // Not fused: the portable code rounds twice too.
                *values = cast(avx._mm256_add_ps(min, avx._mm256_mul_ps(codes, scale)));
            }
        }
    }
}

impl Narrow for V4 {
    #[inline(always)]
    fn to_bytes(self, values: [Self::f32s; 4]) -> Self::u8s {
        let (f, bw) = (self.avx512f, self.avx512bw);
        let [a, b, c, d]: [__m512; 4] = cast(values);
        let first = bw._mm512_packs_epi32(f._mm512_cvtps_epi32(a), f._mm512_cvtps_epi32(b));
        let second = bw._mm512_packs_epi32(f._mm512_cvtps_epi32(c), f._mm512_cvtps_epi32(d));
        // The packs work on quarters of vectors: this puts the groups of four in order.
        let order = f._mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        cast(f._mm512_permutexvar_epi32(order, bw._mm512_packus_epi16(first, second)))
    }

    #[inline(always)]
    fn join_nibbles(self, codes: [u8; PACKED]) -> [u8; PACKED / 2] {
        let weights = self.avx512f._mm512_set1_epi16(0x1001);
        let pairs = self.avx512bw._mm512_maddubs_epi16(cast(codes), weights);
        cast(self.avx512bw._mm512_cvtepi16_epi8(pairs))
    }

    /// Looks each value up in a table of the sixteen that there are.
    #[inline(always)]
    fn split_nibbles(self, bytes: &[[u8; UNPACKED / 2]], values: &mut [[f32; UNPACKED]], grid: &Grid) {
        let (sse2, f) = (self.sse2, self.avx512f);
        let mut table = [0.0; 16];
        for (code, value) in (0_u8..).zip(&mut table) {
            *value = grid.min + f32::from(code) * grid.scale;
        }
        let table = cast(table);
        for (bytes, values) in bytes.iter().zip(values) {
            let low: __m128i = cast(*bytes);
            let halves = [low, sse2._mm_unpackhi_epi64(low, low)];
            for (bytes, values) in halves.into_iter().zip(values.as_chunks_mut::<16>().0) {
                // The byte in the low half of 64 bits and its upper four bits in the high half; a look-up takes four bits.
                let pairs = f._mm512_cvtepu8_epi64(bytes);
                let codes = f._mm512_or_si512(pairs, f._mm512_slli_epi64::<28>(pairs));
                *values = cast(f._mm512_permutexvar_ps(codes, table));
            }
        }
    }
}
