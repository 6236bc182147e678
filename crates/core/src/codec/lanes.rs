//! The loops that touch every value: extremes, quantization and its reverse. Each has a portable form, written over
//! groups without branches so that the compiler turns it into vector code on any target, and on x86-64 one in AVX-512
//! and one in AVX2 (`x86.rs`) with the same bits.

use super::bits;
use super::grid::{Grid, Scaling};
#[cfg(target_arch = "x86_64")]
use super::x86::Isa;

/// Independent accumulators in the search for the extremes.
const LANES: usize = 16;

/// Values quantized at a time into codes on the stack. A multiple of 8, so that every block ends on a byte.
const BLOCK: usize = 512;

/// Added to a value in 0..=255, this leaves the value, rounded to the nearest integer, in the low mantissa bits. Unlike
/// a cast it is one vector instruction on every target.
const ROUND: f32 = 8_388_608.0;

/// The least and the greatest value but NaN; infinity and minus infinity where there is none. Of zeros of both signs it
/// is either.
pub(super) fn extremes(values: &[f32]) -> (f32, f32) {
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = Isa::detect() {
        return isa.extremes(values);
    }
    portable_extremes(values)
}

/// The code of each value.
pub(super) fn quantize(values: &[f32], codes: &mut [u8], scaling: &Scaling) {
    debug_assert_eq!(values.len(), codes.len());
    #[cfg(target_arch = "x86_64")]
    let (values, codes) = match Isa::detect() {
        Some(isa) => isa.quantize(values, codes, scaling),
        None => (values, codes),
    };
    portable_quantize(values, codes, scaling);
}

/// The code of each value, packed to `bits` bits.
pub(super) fn quantize_packed(values: &[f32], bytes: &mut [u8], scaling: &Scaling, bits: u8) {
    if bits == 8 {
        return quantize(values, bytes, scaling);
    }
    #[cfg(target_arch = "x86_64")]
    let (values, bytes) = match Isa::detect() {
        Some(isa) if bits == 4 => isa.quantize_nibbles(values, bytes, scaling),
        _ => (values, bytes),
    };
    let mut codes = [0; BLOCK];
    for (values, bytes) in values.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK / 8 * usize::from(bits))) {
        let codes = &mut codes[..values.len()];
        quantize(values, codes, scaling);
        bits::pack(codes, bytes, bits);
    }
}

/// The value of each code.
pub(super) fn dequantize(codes: &[u8], values: &mut [f32], grid: &Grid) {
    debug_assert_eq!(values.len(), codes.len());
    #[cfg(target_arch = "x86_64")]
    let (codes, values) = match Isa::detect() {
        Some(isa) => isa.dequantize(codes, values, grid),
        None => (codes, values),
    };
    portable_dequantize(codes, values, grid);
}

/// The value of each code of `bits` bits.
pub(super) fn dequantize_packed(bytes: &[u8], values: &mut [f32], grid: &Grid, bits: u8) {
    if bits == 8 {
        return dequantize(bytes, values, grid);
    }
    #[cfg(target_arch = "x86_64")]
    let (bytes, values) = match Isa::detect() {
        Some(isa) if bits == 4 => isa.dequantize_nibbles(bytes, values, grid),
        _ => (bytes, values),
    };
    let mut codes = [0; BLOCK];
    for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK / 8 * usize::from(bits))) {
        let codes = &mut codes[..values.len()];
        bits::unpack(bytes, codes, bits);
        dequantize(codes, values, grid);
    }
}

fn portable_extremes(values: &[f32]) -> (f32, f32) {
    let (groups, rest) = values.as_chunks();
    let (least, greatest) = extremes_by_lane(groups);
    let min = least.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    let max = greatest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    (min, max)
}

/// The least and the greatest value of each lane but NaN. On its own, because inlined its loop loses the vector code.
#[inline(never)]
fn extremes_by_lane(groups: &[[f32; LANES]]) -> ([f32; LANES], [f32; LANES]) {
    let mut least = [f32::INFINITY; LANES];
    let mut greatest = [f32::NEG_INFINITY; LANES];
    for group in groups {
        for lane in 0..LANES {
            // The comparisons are false for NaN and so pass over it.
            least[lane] = if group[lane] < least[lane] { group[lane] } else { least[lane] };
            greatest[lane] = if group[lane] > greatest[lane] { group[lane] } else { greatest[lane] };
        }
    }
    (least, greatest)
}

fn portable_quantize(values: &[f32], codes: &mut [u8], scaling: &Scaling) {
    for (&value, code) in values.iter().zip(codes) {
        let scaled = (value - scaling.min) * scaling.per_value;
        // False for NaN, which so becomes the least code.
        let floored = if scaled > 0.0 { scaled } else { 0.0 };
        let clamped = if floored < scaling.greatest { floored } else { scaling.greatest };
        *code = (clamped + ROUND).to_bits() as u8;
    }
}

fn portable_dequantize(codes: &[u8], values: &mut [f32], grid: &Grid) {
    for (&code, value) in codes.iter().zip(values) {
        *value = grid.min + f32::from(code) * grid.scale;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            8 => -10.0_f32..10.0,
            2 => Just(0.0_f32),
            1 => any::<u32>().prop_map(f32::from_bits),
            1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN]),
        ];
        prop::collection::vec(value, 0..400)
    }

    proptest! {
        // On a CPU without AVX2 both sides are the portable one.
        #[test]
        fn every_cpu_finds_the_same_extremes(values in values()) {
            let ((min, max), expected) = (extremes(&values), portable_extremes(&values));
            prop_assert_eq!((min + 0.0, max + 0.0), (expected.0 + 0.0, expected.1 + 0.0));
        }

        #[test]
        fn negative_values_have_extremes_too(values in prop::collection::vec(-10.0_f32..=-0.0, 0..400)) {
            let ((min, max), expected) = (extremes(&values), portable_extremes(&values));
            prop_assert_eq!((min + 0.0, max + 0.0), (expected.0 + 0.0, expected.1 + 0.0));
        }

        #[test]
        fn every_cpu_writes_the_same_codes(
            values in values(),
            fixed in prop::option::of((prop_oneof![Just(0.0), -5.0_f32..5.0], 0.0_f32..5.0)),
            bits in prop::sample::select(vec![8_u8, 6, 4, 3, 2]),
            rectified: bool,
        ) {
            let values: Vec<f32> =
                values.into_iter().map(|value| if rectified && value < 0.0 { 0.0 } else { value }).collect();
            let scaling = match fixed {
                Some((min, width)) => Grid::between(min, min + width, bits).scaling(bits, false),
                None => Grid::spanning(&values, bits).1,
            };
            let mut expected = vec![0; values.len()];
            portable_quantize(&values, &mut expected, &scaling);
            let mut codes = vec![1; values.len()];
            quantize(&values, &mut codes, &scaling);
            prop_assert_eq!(&codes, &expected);
            let mut packed = vec![1; bits::packed_bytes(values.len(), bits)];
            quantize_packed(&values, &mut packed, &scaling, bits);
            let mut expected_bytes = vec![2; packed.len()];
            bits::pack(&expected, &mut expected_bytes, bits);
            prop_assert_eq!(packed, expected_bytes);
        }

        #[test]
        fn every_cpu_reads_the_same_values(
            codes in prop::collection::vec(any::<u8>(), 0..400),
            (min, scale) in (any::<f32>(), any::<f32>()),
            bits in prop::sample::select(vec![8_u8, 6, 4, 3, 2]),
        ) {
            let grid = Grid { min, scale };
            let codes: Vec<u8> = codes.iter().map(|code| code & ((1_u16 << bits) - 1) as u8).collect();
            let to_bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let mut expected = vec![0.0; codes.len()];
            portable_dequantize(&codes, &mut expected, &grid);
            let mut values = vec![1.0; codes.len()];
            dequantize(&codes, &mut values, &grid);
            prop_assert_eq!(to_bits(&values), to_bits(&expected));
            let mut packed = vec![0; bits::packed_bytes(codes.len(), bits)];
            bits::pack(&codes, &mut packed, bits);
            let mut values = vec![1.0; codes.len()];
            dequantize_packed(&packed, &mut values, &grid, bits);
            prop_assert_eq!(to_bits(&values), to_bits(&expected));
        }

        #[cfg(target_arch = "x86_64")]
        #[test]
        fn avx2_alone_does_the_same(
            values in values(),
            fixed in prop::option::of((-5.0_f32..5.0, 0.0_f32..5.0)),
            bits in prop::sample::select(vec![8_u8, 4]),
        ) {
            let Some(isa) = Isa::detect().map(Isa::avx2_alone) else { return Ok(()) };
            let ((min, max), expected) = (isa.extremes(&values), portable_extremes(&values));
            prop_assert_eq!((min + 0.0, max + 0.0), (expected.0 + 0.0, expected.1 + 0.0));
            let (grid, scaling) = match fixed {
                Some((min, width)) => {
                    let grid = Grid::between(min, min + width, bits);
                    (grid, grid.scaling(bits, false))
                }
                None => Grid::spanning(&values, bits),
            };
            let mut expected = vec![0; values.len()];
            portable_quantize(&values, &mut expected, &scaling);
            let mut read = vec![0.0; values.len()];
            portable_dequantize(&expected, &mut read, &grid);
            let mut codes = vec![1; values.len()];
            let left = isa.quantize(&values, &mut codes, &scaling).0.len();
            let done = values.len() - left;
            prop_assert!(left < 32 && codes[..done] == expected[..done]);
            let mut back = vec![1.0; values.len()];
            isa.dequantize(&expected, &mut back, &grid);
            prop_assert_eq!(&back[..done], &read[..done]);
            if bits == 4 {
                let mut packed = vec![1; bits::packed_bytes(values.len(), bits)];
                let done = values.len() - isa.quantize_nibbles(&values, &mut packed, &scaling).0.len();
                let mut whole = vec![0; packed.len()];
                bits::pack(&expected, &mut whole, bits);
                prop_assert_eq!(&packed[..done / 2], &whole[..done / 2]);
                let left = isa.dequantize_nibbles(&whole, &mut back, &grid).1.len();
                prop_assert!(left < 32 && back[..read.len() - left] == read[..read.len() - left]);
            }
        }
    }
}
