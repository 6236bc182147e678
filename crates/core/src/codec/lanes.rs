//! The loops that touch every value: extremes, quantization and its reverse. On every CPU they give the same bits, in the best
//! vectors that it has, which is found out at run time.

use pulp::Arch;

use super::extremes::Extremes;
use super::grid::{Grid, Scaling};
use super::portable::Dequantize;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{bits, portable};

/// Values quantized at a time into codes on the stack. A multiple of 8, so that every block ends on a byte.
const BLOCK: usize = 512;

/// The least and the greatest value but NaN; infinity and minus infinity where there is none. Of zeros of both signs it
/// is either.
pub(super) fn extremes(values: &[f32]) -> (f32, f32) {
    Arch::new().dispatch(Extremes(values))
}

/// The code of each value.
pub(super) fn quantize(values: &[f32], codes: &mut [u8], scaling: &Scaling) {
    debug_assert_eq!(values.len(), codes.len());
    #[cfg(target_arch = "x86_64")]
    if x86::quantize(Arch::new(), values, codes, scaling) {
        return;
    }
    portable::quantize(values, codes, scaling);
}

/// The code of each value, packed to `bits` bits.
pub(super) fn quantize_packed(values: &[f32], bytes: &mut [u8], scaling: &Scaling, bits: u8) {
    if bits == 8 {
        return quantize(values, bytes, scaling);
    }
    #[cfg(target_arch = "x86_64")]
    let (values, bytes) = match bits {
        4 => {
            let done = x86::quantize_nibbles(Arch::new(), values, bytes, scaling);
            (&values[done..], &mut bytes[done / 2..])
        }
        _ => (values, bytes),
    };
    if values.is_empty() {
        // Clearing a block on the stack takes as long as a small channel.
        return;
    }
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
    Arch::new().dispatch(Dequantize { codes, values, grid });
}

/// The value of each code of `bits` bits.
pub(super) fn dequantize_packed(bytes: &[u8], values: &mut [f32], grid: &Grid, bits: u8) {
    if bits == 8 {
        return dequantize(bytes, values, grid);
    }
    #[cfg(target_arch = "x86_64")]
    let (bytes, values) = match bits {
        4 => {
            let done = x86::dequantize_nibbles(Arch::new(), bytes, values, grid);
            (&bytes[done / 2..], &mut values[done..])
        }
        _ => (bytes, values),
    };
    if values.is_empty() {
        // Clearing a block on the stack takes as long as a small channel.
        return;
    }
    let mut codes = [0; BLOCK];
    for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK / 8 * usize::from(bits))) {
        let codes = &mut codes[..values.len()];
        bits::unpack(bytes, codes, bits);
        dequantize(codes, values, grid);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the processor has, and all that it could lack. Processors that have nothing else try the same thing again.
    fn arches() -> Vec<Arch> {
        #[cfg(target_arch = "x86_64")]
        let without_avx512 = pulp::x86::V3::try_new().map(Arch::V3);
        #[cfg(not(target_arch = "x86_64"))]
        let without_avx512 = None;
        [Some(Arch::new()), without_avx512, Some(Arch::Scalar)].into_iter().flatten().collect()
    }

    /// One value after another, as plainly as it can be said.
    mod plain {
        use super::{Grid, Scaling};

        pub fn extremes(values: &[f32]) -> (f32, f32) {
            values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, greatest), &value| {
                (least.min(value), greatest.max(value))
            })
        }

        pub fn codes(values: &[f32], scaling: &Scaling) -> Vec<u8> {
            let code = |value: f32| {
                let scaled = (value - scaling.min) * scaling.per_value;
                let clamped = if scaled > scaling.greatest { scaling.greatest } else { scaled };
                // A cast makes 0 of NaN and of what is below.
                clamped.round_ties_even() as u8
            };
            values.iter().copied().map(code).collect()
        }

        pub fn values(codes: &[u8], grid: &Grid) -> Vec<f32> {
            codes.iter().map(|&code| grid.min + f32::from(code) * grid.scale).collect()
        }
    }

    /// Zeros of both signs are one.
    fn assert_extremes(values: &[f32]) {
        let (least, greatest) = plain::extremes(values);
        for arch in arches() {
            let found = arch.dispatch(Extremes(values));
            assert_eq!((found.0 + 0.0, found.1 + 0.0), (least + 0.0, greatest + 0.0), "{arch:?} {values:?}");
        }
    }

    fn assert_codes(values: &[f32], scaling: &Scaling, bits: u8) {
        let expected = plain::codes(values, scaling);
        let mut codes = vec![1; values.len()];
        quantize(values, &mut codes, scaling);
        assert_eq!(codes, expected, "{scaling:?} {values:?}");
        let mut packed = vec![1; bits::packed_bytes(values.len(), bits)];
        quantize_packed(values, &mut packed, scaling, bits);
        let mut expected_bytes = vec![2; packed.len()];
        bits::pack(&expected, &mut expected_bytes, bits);
        assert_eq!(packed, expected_bytes, "{scaling:?} {values:?}");
        codes.fill(1);
        portable::quantize(values, &mut codes, scaling);
        assert_eq!(codes, expected, "{scaling:?} {values:?}");
        #[cfg(target_arch = "x86_64")]
        for arch in arches() {
            codes.fill(1);
            if x86::quantize(arch, values, &mut codes, scaling) {
                assert_eq!(codes, expected, "{arch:?} {scaling:?} {values:?}");
            }
            if bits == 4 {
                packed.fill(1);
                let done = x86::quantize_nibbles(arch, values, &mut packed, scaling);
                assert!(matches!(arch, Arch::Scalar) || values.len() - done < 64);
                assert_eq!(packed[..done / 2], expected_bytes[..done / 2], "{arch:?} {scaling:?} {values:?}");
            }
        }
    }

    fn assert_values(codes: &[u8], grid: &Grid, bits: u8) {
        let to_bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let expected = to_bits(&plain::values(codes, grid));
        let mut values = vec![1.0; codes.len()];
        dequantize(codes, &mut values, grid);
        assert_eq!(to_bits(&values), expected);
        let mut packed = vec![0; bits::packed_bytes(codes.len(), bits)];
        bits::pack(codes, &mut packed, bits);
        values.fill(1.0);
        dequantize_packed(&packed, &mut values, grid, bits);
        assert_eq!(to_bits(&values), expected);
        for arch in arches() {
            values.fill(1.0);
            arch.dispatch(Dequantize { codes, values: &mut values, grid });
            assert_eq!(to_bits(&values), expected, "{arch:?}");
            #[cfg(target_arch = "x86_64")]
            if bits == 4 {
                values.fill(1.0);
                let done = x86::dequantize_nibbles(arch, &packed, &mut values, grid);
                assert!(matches!(arch, Arch::Scalar) || codes.len() - done < 32);
                assert_eq!(to_bits(&values)[..done], expected[..done], "{arch:?}");
            }
        }
    }

    /// Values at the edges of what a float is, in every lane of every vector and behind the last whole one.
    #[test]
    fn every_length_and_every_place_of_a_special_value() {
        let special = [
            f32::NAN,
            -f32::NAN,
            f32::from_bits(0x7f80_0001),
            f32::from_bits(0xffff_ffff),
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            -0.0,
            0.5,
            2.5,
        ];
        for len in (0..=131).chain([511, 512, 513, 575]) {
            for sign in [1.0, -1.0] {
                let mut values: Vec<f32> = (0..len).map(|at| sign * ((at * 7) % 16) as f32 / 2.0).collect();
                assert_extremes(&values);
                for (turn, value) in special.into_iter().enumerate() {
                    let places = (len > 0).then(|| (turn * 29 + len) % len);
                    places.into_iter().for_each(|place| values[place] = value);
                    assert_extremes(&values);
                    for bits in [8, 4, 3] {
                        assert_codes(&values, &Grid::spanning(&values, bits).1, bits);
                        assert_codes(&values, &Grid::between(0.0, 5.0, bits).scaling(bits, false), bits);
                        assert_codes(&values, &Grid::between(-2.0, 5.0, bits).scaling(bits, false), bits);
                    }
                }
            }
            for bits in [8, 4, 3] {
                let codes: Vec<u8> = (0..len).map(|at| (at * 11 % (1 << bits)) as u8).collect();
                assert_values(&codes, &Grid { min: -0.3, scale: 0.1 }, bits);
            }
        }
    }

    #[test]
    fn a_special_value_is_found_in_every_lane() {
        for special in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for rest in [1.0, 0.0, -1.0] {
                for place in 0..200 {
                    let mut values = vec![rest; 200];
                    values[place] = special;
                    values[(place + 77) % 200] = rest * 2.0 - 0.5;
                    assert_extremes(&values);
                }
            }
        }
    }

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
        #[test]
        fn every_cpu_finds_the_same_extremes(values in values()) {
            assert_extremes(&values);
        }

        #[test]
        fn negative_values_have_extremes_too(values in prop::collection::vec(-10.0_f32..=-0.0, 0..400)) {
            assert_extremes(&values);
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
            assert_codes(&values, &scaling, bits);
        }

        #[test]
        fn every_cpu_reads_the_same_values(
            codes in prop::collection::vec(any::<u8>(), 0..400),
            (min, scale) in (any::<f32>(), any::<f32>()),
            bits in prop::sample::select(vec![8_u8, 6, 4, 3, 2]),
        ) {
            let codes: Vec<u8> = codes.iter().map(|code| code & ((1_u16 << bits) - 1) as u8).collect();
            assert_values(&codes, &Grid { min, scale }, bits);
        }
    }
}
