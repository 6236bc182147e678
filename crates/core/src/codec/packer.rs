//! How single tensors become bytes: conversion of the values, quantization and bit packing.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::grid::{Grid, Scaling};
use super::{Quantization, TensorSpec, bits, lanes};
use crate::error::Result;

/// Values converted at a time between buffers on the stack.
const BLOCK: usize = 256;

/// Writes and reads one tensor: a header, then its units (codes, or floats of two or four bytes).
pub(super) struct Packer {
    values: usize,
    form: Form,
}

enum Form {
    Pixels,
    F32,
    F16,
    Bf16,
    Quantized(Quantizer),
}

/// Quantization of one tensor.
struct Quantizer {
    bits: u8,
    /// How many grids there are, and values on each.
    groups: usize,
    group_values: usize,
    /// Grids that do not stand in the payload.
    fixed: Option<Vec<Grid>>,
    /// A code for each value, where groups do not end on bytes.
    codes: Vec<u8>,
}

impl Packer {
    fn new(spec: TensorSpec, form: Form) -> Self {
        Self { values: spec.values(), form }
    }

    pub(super) fn pixels(spec: TensorSpec) -> Self {
        Self::new(spec, Form::Pixels)
    }

    pub(super) fn f32(spec: TensorSpec) -> Self {
        Self::new(spec, Form::F32)
    }

    pub(super) fn f16(spec: TensorSpec) -> Self {
        Self::new(spec, Form::F16)
    }

    pub(super) fn bf16(spec: TensorSpec) -> Self {
        Self::new(spec, Form::Bf16)
    }

    /// `ranges` are those of the calibration where it is clipped: one for each channel or one for all.
    pub(super) fn quantized(
        spec: TensorSpec,
        quantization: Quantization,
        ranges: Option<Vec<[f32; 2]>>,
    ) -> Self {
        let Quantization { bits, per_channel, clipped } = quantization;
        let by_channel = per_channel && (clipped || spec.channel_values() > 1);
        let groups = if by_channel { spec.channels() } else { 1 };
        let group_values = if by_channel { spec.channel_values() } else { spec.values() };
        let fixed =
            ranges.map(|ranges| ranges.into_iter().map(|[min, max]| Grid::between(min, max, bits)).collect());
        let aligned = groups <= 1 || group_values.is_multiple_of(8);
        let codes = vec![0; if aligned { 0 } else { spec.values() }];
        Self::new(spec, Form::Quantized(Quantizer { bits, groups, group_values, fixed, codes }))
    }

    /// The size of what comes before the units.
    pub(super) fn header_bytes(&self) -> usize {
        match &self.form {
            Form::Quantized(quantizer) => quantizer.header_bytes(),
            _ => 0,
        }
    }

    /// How many bytes a unit that is not packed has, and how many bits of each byte are used.
    pub(super) fn unit(&self) -> (usize, u8) {
        match &self.form {
            Form::Pixels => (1, 8),
            Form::F32 => (4, 8),
            Form::F16 | Form::Bf16 => (2, 8),
            Form::Quantized(quantizer) => (1, quantizer.bits),
        }
    }

    /// The size of all units, not packed.
    pub(super) fn units_bytes(&self) -> usize {
        self.values * self.unit().0
    }

    /// The exact size of the tensor.
    pub(super) fn packed_bytes(&self) -> usize {
        self.header_bytes() + bits::packed_bytes(self.units_bytes(), self.unit().1)
    }

    /// Writes `values` over `bytes`, which is [`Packer::packed_bytes`] long.
    pub(super) fn pack(&mut self, values: &[f32], bytes: &mut [u8]) {
        match &mut self.form {
            Form::Quantized(quantizer) => quantizer.pack(values, bytes),
            _ => self.write_units(values, &mut [], bytes),
        }
    }

    /// Reads `bytes`, which is [`Packer::packed_bytes`] long, over `values`. Fails on a header that no encoder writes.
    pub(super) fn unpack(&mut self, bytes: &[u8], values: &mut [f32]) -> Result<()> {
        match &mut self.form {
            Form::Quantized(quantizer) => quantizer.unpack(bytes, values),
            _ => self.read_units(&[], bytes, values),
        }
    }

    /// Writes `values` as header and units that are not packed.
    pub(super) fn write_units(&self, values: &[f32], header: &mut [u8], units: &mut [u8]) {
        match &self.form {
            Form::Pixels => lanes::quantize(values, units, &Scaling::PIXELS),
            Form::F32 => {
                for (value, bytes) in values.iter().zip(units.as_chunks_mut::<4>().0) {
                    *bytes = value.to_le_bytes();
                }
            }
            Form::F16 => write_halves(values, units),
            Form::Bf16 => {
                for (value, bytes) in values.iter().zip(units.as_chunks_mut::<2>().0) {
                    *bytes = bf16_of(value.to_bits()).to_le_bytes();
                }
            }
            Form::Quantized(quantizer) => quantizer.write_codes(values, header, units),
        }
    }

    /// The reverse of [`Packer::write_units`].
    pub(super) fn read_units(&self, header: &[u8], units: &[u8], values: &mut [f32]) -> Result<()> {
        match &self.form {
            Form::Pixels => lanes::dequantize(units, values, &Grid::PIXELS),
            Form::F32 => {
                for (value, bytes) in values.iter_mut().zip(units.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Form::F16 => read_halves(units, values),
            Form::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(units.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            Form::Quantized(quantizer) => quantizer.read_codes(header, units, values)?,
        }
        Ok(())
    }
}

impl Quantizer {
    fn header_bytes(&self) -> usize {
        match (&self.fixed, self.groups) {
            (Some(_), _) => 0,
            (None, 1) => 8,
            (None, groups) => 4 * groups,
        }
    }

    fn pack(&mut self, values: &[f32], bytes: &mut [u8]) {
        let (header, packed) = bytes.split_at_mut(self.header_bytes());
        if !self.codes.is_empty() {
            let mut codes = std::mem::take(&mut self.codes);
            self.write_codes(values, header, &mut codes);
            bits::pack(&codes, packed, self.bits);
            self.codes = codes;
            return;
        }
        let group_bytes = bits::packed_bytes(self.group_values, self.bits);
        for group in 0..self.groups {
            let values = &values[group * self.group_values..][..self.group_values];
            let scaling = self.write_grid(group, values, header);
            let packed = &mut packed[group * group_bytes..][..group_bytes];
            lanes::quantize_packed(values, packed, &scaling, self.bits);
        }
    }

    fn unpack(&mut self, bytes: &[u8], values: &mut [f32]) -> Result<()> {
        let (header, packed) = bytes.split_at(self.header_bytes());
        if !self.codes.is_empty() {
            bits::unpack(packed, &mut self.codes, self.bits);
            return self.read_codes(header, &self.codes, values);
        }
        let group_bytes = bits::packed_bytes(self.group_values, self.bits);
        for group in 0..self.groups {
            let values = &mut values[group * self.group_values..][..self.group_values];
            let packed = &packed[group * group_bytes..][..group_bytes];
            lanes::dequantize_packed(packed, values, &self.read_grid(group, header)?, self.bits);
        }
        Ok(())
    }

    fn write_codes(&self, values: &[f32], header: &mut [u8], codes: &mut [u8]) {
        for group in 0..self.groups {
            let place = group * self.group_values..(group + 1) * self.group_values;
            let scaling = self.write_grid(group, &values[place.clone()], header);
            lanes::quantize(&values[place.clone()], &mut codes[place], &scaling);
        }
    }

    fn read_codes(&self, header: &[u8], codes: &[u8], values: &mut [f32]) -> Result<()> {
        for group in 0..self.groups {
            let place = group * self.group_values..(group + 1) * self.group_values;
            let grid = self.read_grid(group, header)?;
            lanes::dequantize(&codes[place.clone()], &mut values[place], &grid);
        }
        Ok(())
    }

    /// Finds a group's grid and writes it into the header, if it stands there.
    fn write_grid(&self, group: usize, values: &[f32], header: &mut [u8]) -> Scaling {
        match (&self.fixed, self.groups) {
            (Some(grids), _) => grids[group].scaling(self.bits, false),
            (None, 1) => {
                let (grid, scaling) = Grid::spanning(values, self.bits);
                header.copy_from_slice(&grid.to_f32_header());
                scaling
            }
            (None, _) => {
                let (grid, scaling) = Grid::spanning_coarsely(values, self.bits);
                header.as_chunks_mut().0[group] = grid.to_bf16_header();
                scaling
            }
        }
    }

    fn read_grid(&self, group: usize, header: &[u8]) -> Result<Grid> {
        match (&self.fixed, self.groups) {
            (Some(grids), _) => Ok(grids[group]),
            (None, 1) => Grid::from_f32_header(header.as_chunks().0[0], self.bits),
            (None, _) => Grid::from_bf16_header(header.as_chunks().0[group], self.bits),
        }
    }
}

fn write_halves(values: &[f32], bytes: &mut [u8]) {
    let mut halves = [f16::ZERO; BLOCK];
    for (values, bytes) in values.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK * 2)) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (half, bytes) in halves.reinterpret_cast().iter().zip(bytes.as_chunks_mut::<2>().0) {
            *bytes = half.to_le_bytes();
        }
    }
}

fn read_halves(bytes: &[u8], values: &mut [f32]) {
    let mut words = [0_u16; BLOCK];
    for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK * 2)) {
        let words = &mut words[..values.len()];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *word = u16::from_le_bytes(*bytes);
        }
        words.reinterpret_cast::<f16>().convert_to_f32_slice(values);
    }
}

/// The upper half, rounded to the nearest even; NaN stays NaN. Written without branches, unlike the `half` crate's.
fn bf16_of(bits: u32) -> u16 {
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let kept = if is_nan { bits | 0x40_0000 } else { rounded };
    (kept >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bf16_is_that_of_the_half_crate(bits in any::<u32>()) {
            prop_assert_eq!(bf16_of(bits), bf16::from_f32(f32::from_bits(bits)).to_bits());
        }
    }
}
