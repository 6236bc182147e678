//! How single tensors become bytes: conversion, quantization and bit packing. The loops are written over fixed-size
//! groups without branches, so that the compiler turns them into vector code on any target.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::Element;
use crate::error::{Error, Result};

/// Bytes before a quantized tensor's codes: its least value and its scale.
const HEADER: usize = 8;

/// Values converted at a time between buffers on the stack. A multiple of 8, so that every block ends on a byte.
const BLOCK: usize = 256;

/// Independent accumulators in the search for the extremes.
const LANES: usize = 16;

/// Magnitudes saturate here, so that neither `max - min` nor a value that is read back overflows.
const LIMIT: f32 = f32::from_bits((126 + 127) << 23);

/// Added to a value in 0..=255, this leaves the value, rounded to the nearest integer, in the low mantissa bits. Unlike
/// a cast it is one vector instruction on every target.
const ROUND: f32 = 8_388_608.0;

impl Element {
    /// The exact size in bytes of a tensor of `len` values.
    pub(super) fn packed_bytes(self, len: usize) -> usize {
        match self {
            Self::Pixels => len,
            Self::F32 => len * 4,
            Self::F16 => len * 2,
            Self::Quantized(bits) => HEADER + (len * usize::from(bits)).div_ceil(8),
        }
    }

    /// Writes `values` over `bytes`, which is [`Element::packed_bytes`] long.
    pub(super) fn pack(self, values: &[f32], bytes: &mut [u8]) {
        match self {
            Self::Pixels => quantize(values, bytes, &Range { min: 0.0, max: 255.0, per_value: 1.0 }),
            Self::F32 => {
                for (value, bytes) in values.iter().zip(bytes.as_chunks_mut::<4>().0) {
                    *bytes = value.to_le_bytes();
                }
            }
            Self::F16 => pack_f16(values, bytes),
            Self::Quantized(bits) => {
                let (header, codes) = bytes.split_at_mut(HEADER);
                let grid = Grid::spanning(values, bits);
                header[..4].copy_from_slice(&grid.min.to_le_bytes());
                header[4..].copy_from_slice(&grid.scale.to_le_bytes());
                pack_codes(values, codes, &grid.range(bits), bits);
            }
        }
    }

    /// Reads `bytes`, which is [`Element::packed_bytes`] long, over `values`. Fails on a header that no encoder writes.
    pub(super) fn unpack(self, bytes: &[u8], values: &mut [f32]) -> Result<()> {
        match self {
            Self::Pixels => dequantize(bytes, values, &Grid { min: 0.0, scale: 1.0 }),
            Self::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => unpack_f16(bytes, values),
            Self::Quantized(bits) => {
                let (header, codes) = bytes.split_at(HEADER);
                unpack_codes(codes, values, &Grid::from_header(header, bits)?, bits);
            }
        }
        Ok(())
    }
}

/// Where a tensor's codes lie: code `c` means `min + c * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    min: f32,
    scale: f32,
}

/// How values map to codes: clamped to `min..=max`, then `(value - min) * per_value`.
struct Range {
    min: f32,
    max: f32,
    per_value: f32,
}

impl Grid {
    /// The grid from the least to the greatest finite value.
    fn spanning(values: &[f32], bits: u8) -> Self {
        let (least, greatest) = extremes(values);
        let (min, max) = (least.clamp(-LIMIT, LIMIT), greatest.clamp(-LIMIT, LIMIT));
        let scale = (max - min) / greatest_code(bits);
        Self { min, scale: if scale.is_normal() { scale } else { 0.0 } }
    }

    fn range(&self, bits: u8) -> Range {
        let per_value = if self.scale == 0.0 { 0.0 } else { self.scale.recip() };
        Range { min: self.min, max: self.min + greatest_code(bits) * self.scale, per_value }
    }

    fn from_header(header: &[u8], bits: u8) -> Result<Self> {
        let [min, scale] =
            [0, 4].map(|at| f32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        // A finite least and greatest value and a scale that is not negative keep all between them finite too.
        if min.is_finite() && scale >= 0.0 && (min + greatest_code(bits) * scale).is_finite() {
            return Ok(Self { min, scale });
        }
        Err(Error::peer(format!(
            "expected a q{bits} tensor with a finite range, found least value {min} and scale {scale}; payload broken"
        )))
    }
}

fn greatest_code(bits: u8) -> f32 {
    f32::from((1_u16 << bits) - 1)
}

/// The least and the greatest finite value; zeros where there is none.
fn extremes(values: &[f32]) -> (f32, f32) {
    let (groups, rest) = values.as_chunks();
    let (least, greatest) = extremes_by_lane(groups);
    let min = least.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    let max = greatest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    if min.is_finite() && max.is_finite() {
        return (min, max);
    }
    // Infinities among the values, or nothing but NaN.
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    finite().reduce(f32::min).zip(finite().reduce(f32::max)).unwrap_or((0.0, 0.0))
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

/// The code of each value, rounded to the nearest.
#[inline]
fn quantize(values: &[f32], codes: &mut [u8], range: &Range) {
    for (&value, code) in values.iter().zip(codes) {
        // False for NaN, which so becomes the least value.
        let floored = if value > range.min { value } else { range.min };
        let clamped = if floored < range.max { floored } else { range.max };
        *code = ((clamped - range.min) * range.per_value + ROUND).to_bits() as u8;
    }
}

/// The value of each code.
#[inline]
fn dequantize(codes: &[u8], values: &mut [f32], grid: &Grid) {
    for (&code, value) in codes.iter().zip(values) {
        *value = grid.min + f32::from(code) * grid.scale;
    }
}

fn pack_codes(values: &[f32], bytes: &mut [u8], range: &Range, bits: u8) {
    if bits == 8 {
        return quantize(values, bytes, range);
    }
    let mut codes = [0; BLOCK];
    for (values, bytes) in values.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK / 8 * usize::from(bits))) {
        let codes = &mut codes[..values.len()];
        quantize(values, codes, range);
        match bits {
            6 => pack_bits::<6>(codes, bytes),
            4 => pack_bits::<4>(codes, bytes),
            _ => pack_bits::<2>(codes, bytes),
        }
    }
}

fn unpack_codes(bytes: &[u8], values: &mut [f32], grid: &Grid, bits: u8) {
    if bits == 8 {
        return dequantize(bytes, values, grid);
    }
    let mut codes = [0; BLOCK];
    for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK / 8 * usize::from(bits))) {
        let codes = &mut codes[..values.len()];
        match bits {
            6 => unpack_bits::<6>(bytes, codes),
            4 => unpack_bits::<4>(bytes, codes),
            _ => unpack_bits::<2>(bytes, codes),
        }
        dequantize(codes, values, grid);
    }
}

/// Packs codes below `2^BITS` from the low bits up: 8 codes to `BITS` bytes.
#[inline]
fn pack_bits<const BITS: usize>(codes: &[u8], bytes: &mut [u8]) {
    let (groups, rest) = codes.as_chunks::<8>();
    let (packed, last) = bytes.split_at_mut(groups.len() * BITS);
    for (group, packed) in groups.iter().zip(packed.as_chunks_mut::<BITS>().0) {
        packed.copy_from_slice(&squeeze(*group, BITS).to_le_bytes()[..BITS]);
    }
    let mut group = [0; 8];
    group[..rest.len()].copy_from_slice(rest);
    last.copy_from_slice(&squeeze(group, BITS).to_le_bytes()[..last.len()]);
}

/// The reverse of [`pack_bits`].
#[inline]
fn unpack_bits<const BITS: usize>(bytes: &[u8], codes: &mut [u8]) {
    let (groups, rest) = codes.as_chunks_mut::<8>();
    let (packed, last) = bytes.split_at(groups.len() * BITS);
    for (group, packed) in groups.iter_mut().zip(packed.as_chunks::<BITS>().0) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(packed);
        *group = spread(u64::from_le_bytes(word), BITS);
    }
    let mut word = [0; 8];
    word[..last.len()].copy_from_slice(last);
    rest.copy_from_slice(&spread(u64::from_le_bytes(word), BITS)[..rest.len()]);
}

/// Moves eight codes together, to the low end of a word: first in pairs, then in fours, then all.
#[inline]
fn squeeze(codes: [u8; 8], bits: usize) -> u64 {
    let join = |word: u64, width: usize, used: usize| {
        let low = lanes(2 * width, used);
        (word & low) | ((word >> (width - used)) & (low << used))
    };
    join(join(join(u64::from_le_bytes(codes), 8, bits), 16, 2 * bits), 32, 4 * bits)
}

/// The reverse of [`squeeze`]; what lies above the eight codes does not matter.
#[inline]
fn spread(word: u64, bits: usize) -> [u8; 8] {
    let part = |word: u64, width: usize, used: usize| {
        let low = lanes(2 * width, used);
        (word & low) | ((word & (low << used)) << (width - used))
    };
    part(part(part(word, 32, 4 * bits), 16, 2 * bits), 8, bits).to_le_bytes()
}

/// A mask of the low `used` bits of every lane of `width` bits.
#[inline]
const fn lanes(width: usize, used: usize) -> u64 {
    let lane = (1 << used) - 1;
    let mut mask = 0;
    let mut at = 0;
    while at < 64 {
        mask |= lane << at;
        at += width;
    }
    mask
}

fn pack_f16(values: &[f32], bytes: &mut [u8]) {
    let mut halves = [f16::ZERO; BLOCK];
    for (values, bytes) in values.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK * 2)) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (half, bytes) in halves.reinterpret_cast().iter().zip(bytes.as_chunks_mut::<2>().0) {
            *bytes = half.to_le_bytes();
        }
    }
}

fn unpack_f16(bytes: &[u8], values: &mut [f32]) {
    let mut words = [0_u16; BLOCK];
    for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK * 2)) {
        let words = &mut words[..values.len()];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *word = u16::from_le_bytes(*bytes);
        }
        words.reinterpret_cast::<f16>().convert_to_f32_slice(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(element: Element, values: &[f32]) -> Vec<f32> {
        let mut bytes = vec![0xff; element.packed_bytes(values.len())];
        element.pack(values, &mut bytes);
        let mut back = vec![f32::NAN; values.len()];
        element.unpack(&bytes, &mut back).unwrap();
        back
    }

    #[test]
    fn codes_are_packed_from_the_low_bits_up() {
        let mut bytes = [0; 8];
        pack_bits::<4>(&[1, 2, 3], &mut bytes[..2]);
        assert_eq!(bytes[..2], [0x21, 0x03]);
        pack_bits::<2>(&[1, 2, 3, 0, 2], &mut bytes[..2]);
        assert_eq!(bytes[..2], [0b0011_1001, 0b10]);
        pack_bits::<6>(&[1, 2, 3, 63], &mut bytes[..3]);
        assert_eq!(bytes[..3], [0b1000_0001, 0b0011_0000, 0b1111_1100]);
    }

    #[test]
    fn every_code_comes_back_at_every_length() {
        fn check<const BITS: usize>() {
            for len in 0..40_usize {
                let codes: Vec<u8> = (0..len).map(|i| ((i * 7 + 5) % (1 << BITS)) as u8).collect();
                let mut bytes = vec![0xff; (len * BITS).div_ceil(8)];
                pack_bits::<BITS>(&codes, &mut bytes);
                let mut back = vec![0xff; len];
                unpack_bits::<BITS>(&bytes, &mut back);
                assert_eq!(back, codes);
            }
        }
        check::<2>();
        check::<4>();
        check::<6>();
    }

    #[test]
    fn pixels_are_exact_and_clamped() {
        let all: Vec<f32> = (0..=255_u8).map(f32::from).collect();
        assert_eq!(round_trip(Element::Pixels, &all), all);
        let odd = [-3.0, 300.0, 1.4, 1.6, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(round_trip(Element::Pixels, &odd), [0.0, 255.0, 1.0, 2.0, 0.0, 255.0, 0.0]);
    }

    #[test]
    fn extremes_and_non_finite_values_are_as_documented() {
        let q8 = |values: &[f32]| round_trip(Element::Quantized(8), values);
        assert!(q8(&[]).is_empty());
        assert_eq!(q8(&[-1.5]), [-1.5]);
        assert_eq!(q8(&[2.5; 20]), [2.5; 20]);
        let mixed = [f32::NAN, -1.0, f32::INFINITY, 254.0, f32::NEG_INFINITY];
        assert_eq!(q8(&mixed), [-1.0, -1.0, 254.0, 254.0, -1.0]);
        assert_eq!(q8(&[f32::NAN, f32::INFINITY]), [0.0, 0.0]);
        assert_eq!(q8(&[f32::NAN; 33]), [0.0; 33]);
        assert_eq!(q8(&[f32::MIN, f32::MAX]), [-LIMIT, LIMIT]);
        assert_eq!(q8(&[0.0, f32::from_bits(300)]), [0.0, 0.0]);
        // In every lane and behind the last full group.
        for at in 0..2 * LANES + 3 {
            let mut values = [0.0; 2 * LANES + 3];
            values[at] = -255.0;
            assert_eq!(q8(&values), values);
            values[at] = 255.0;
            assert_eq!(q8(&values), values);
        }
    }

    #[test]
    fn headers_that_no_encoder_writes_are_refused() {
        let header = |min: f32, scale: f32| [min.to_le_bytes(), scale.to_le_bytes()].concat();
        let read = |header: &[u8]| Element::Quantized(4).unpack(&[header, &[0xff]].concat(), &mut [0.0; 2]);
        assert!(read(&header(-1.0, 0.5)).is_ok());
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
            assert!(read(&header(min, scale)).is_err(), "{min} {scale}");
        }
    }

    #[test]
    fn halves_round_to_nearest_even() {
        let values = [1.0, -0.0, 2049.0, 2051.0, 65_519.0, 65_520.0, f32::NEG_INFINITY];
        let expected = [1.0, -0.0, 2048.0, 2052.0, 65_504.0, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(round_trip(Element::F16, &values), expected);
        assert!(round_trip(Element::F16, &[f32::NAN])[0].is_nan());
    }
}
