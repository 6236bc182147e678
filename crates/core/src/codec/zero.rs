//! Zero-aware packing: where the non-zero units of a tensor are, then these alone. After a rectifier most are zero.
//!
//! A tensor is a byte that names the form, and then
//! - `0`: all units, packed;
//! - `1`: a bitmap of the units that are not zero, and these, packed;
//! - `2`: a bitmap of the bytes of that bitmap that are not zero, these, and the units that are not zero, packed. This
//!   makes runs of zeros an eighth of a bit each.

use super::bits;
use crate::error::{Error, Result};

const PLAIN: u8 = 0;
const BITMAP: u8 = 1;
const BITMAP_OF_BITMAP: u8 = 2;

/// A reusable packer for tensors of a known size.
pub(super) struct ZeroPacker {
    /// Bytes to a unit, and bits of each byte that are used.
    unit_bytes: usize,
    bits: u8,
    units: usize,
    bitmap: Vec<u8>,
    top: Vec<u8>,
    /// The units that are not zero.
    kept: Vec<u8>,
}

impl ZeroPacker {
    /// For tensors of so many units of 1, 2 or 4 bytes, of which `bits` bits are used.
    pub(super) fn new(units: usize, (unit_bytes, bits): (usize, u8)) -> Self {
        let bitmap = vec![0; units.div_ceil(8)];
        let top = vec![0; bitmap.len().div_ceil(8)];
        // One more than there are, since each unit is written before it is known to stay.
        Self { unit_bytes, bits, units, bitmap, top, kept: vec![0; (units + 1) * unit_bytes] }
    }

    fn packed_bytes(&self, units: usize) -> usize {
        bits::packed_bytes(units * self.unit_bytes, self.bits)
    }

    /// The most bytes of a tensor.
    pub(super) fn max_bytes(&self) -> usize {
        1 + self.packed_bytes(self.units)
    }

    /// Appends a tensor.
    pub(super) fn encode(&mut self, units: &[u8], out: &mut Vec<u8>) {
        let kept = match self.unit_bytes {
            1 => compact::<1>(units, &mut self.bitmap, &mut self.kept),
            2 => compact::<2>(units, &mut self.bitmap, &mut self.kept),
            _ => compact::<4>(units, &mut self.bitmap, &mut self.kept),
        };
        let full = self.bitmap.iter().filter(|&&byte| byte != 0).count();
        let packed = self.packed_bytes(kept);
        let sizes = [
            (self.packed_bytes(self.units), PLAIN),
            (self.bitmap.len() + packed, BITMAP),
            (self.top.len() + full + packed, BITMAP_OF_BITMAP),
        ];
        let (size, form) = sizes.into_iter().min().unwrap_or_default();
        out.push(form);
        let start = out.len();
        match form {
            BITMAP => out.extend_from_slice(&self.bitmap),
            BITMAP_OF_BITMAP => {
                for (byte, top) in self.bitmap.chunks(8).zip(&mut self.top) {
                    *top = (0..).zip(byte).fold(0, |top, (at, &byte)| top | u8::from(byte != 0) << at);
                }
                out.extend_from_slice(&self.top);
                out.extend(self.bitmap.iter().filter(|&&byte| byte != 0));
            }
            _ => {}
        }
        let from = out.len();
        out.resize(start + size, 0);
        let units = if form == PLAIN { units } else { &self.kept[..kept * self.unit_bytes] };
        bits::pack(units, &mut out[from..], self.bits);
    }

    /// Reads a tensor from the front of `payload` over `units`, and gives what is behind it.
    pub(super) fn decode<'a>(&mut self, payload: &'a [u8], units: &mut [u8]) -> Result<&'a [u8]> {
        self.read(payload, units).ok_or_else(|| {
            Error::peer(format!(
                "expected a zero-packed tensor of {} units, found it broken or cut short; do both sides run the same \
                 plan?",
                self.units
            ))
        })
    }

    fn read<'a>(&mut self, payload: &'a [u8], units: &mut [u8]) -> Option<&'a [u8]> {
        let (&form, mut rest) = payload.split_first()?;
        match form {
            PLAIN => {
                let (packed, rest) = rest.split_at_checked(self.packed_bytes(self.units))?;
                bits::unpack(packed, units, self.bits);
                return Some(rest);
            }
            BITMAP => {
                let (bitmap, behind) = rest.split_at_checked(self.bitmap.len())?;
                self.bitmap.copy_from_slice(bitmap);
                rest = behind;
            }
            BITMAP_OF_BITMAP => {
                let (top, behind) = rest.split_at_checked(self.top.len())?;
                rest = behind;
                for (bytes, &top) in self.bitmap.chunks_mut(8).zip(top) {
                    for (at, byte) in (0..).zip(bytes) {
                        *byte = 0;
                        if top >> at & 1 == 1 {
                            (*byte, rest) = rest.split_first().map(|(&byte, rest)| (byte, rest))?;
                        }
                    }
                }
            }
            _ => return None,
        }
        let kept: usize = self.bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        let past_the_end = match self.units % 8 {
            0 => 0,
            used => self.bitmap.last()? >> used,
        };
        let (packed, rest) = rest.split_at_checked(self.packed_bytes(kept))?;
        if past_the_end != 0 {
            return None;
        }
        let kept = kept * self.unit_bytes;
        bits::unpack(packed, &mut self.kept[..kept], self.bits);
        match self.unit_bytes {
            1 => expand::<1>(&self.kept, &self.bitmap, units),
            2 => expand::<2>(&self.kept, &self.bitmap, units),
            _ => expand::<4>(&self.kept, &self.bitmap, units),
        }
        Some(rest)
    }
}

/// Marks the units that are not zero in `bitmap` and moves them to the front of `kept`; how many they are.
fn compact<const BYTES: usize>(units: &[u8], bitmap: &mut [u8], kept: &mut [u8]) -> usize {
    let units = units.as_chunks::<BYTES>().0;
    let kept = kept.as_chunks_mut::<BYTES>().0;
    let mut count = 0;
    for (group, byte) in units.chunks(8).zip(bitmap) {
        let mut marks = 0;
        for (at, unit) in group.iter().enumerate() {
            let is_kept = u8::from(*unit != [0; BYTES]);
            // Written in any case, since a branch costs more where zeros come and go.
            kept[count] = *unit;
            count += usize::from(is_kept);
            marks |= is_kept << at;
        }
        *byte = marks;
    }
    count
}

/// The reverse of [`compact`].
fn expand<const BYTES: usize>(kept: &[u8], bitmap: &[u8], units: &mut [u8]) {
    let units = units.as_chunks_mut::<BYTES>().0;
    let kept = kept.as_chunks::<BYTES>().0;
    let mut count = 0;
    for (group, &byte) in units.chunks_mut(8).zip(bitmap) {
        for (at, unit) in group.iter_mut().enumerate() {
            let is_kept = byte >> at & 1;
            // All ones for a unit that is kept.
            let mask = is_kept.wrapping_neg();
            *unit = kept[count].map(|byte| byte & mask);
            count += usize::from(is_kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(units: &[u8], unit: (usize, u8)) -> usize {
        let mut packer = ZeroPacker::new(units.len() / unit.0, unit);
        let mut payload = vec![5];
        packer.encode(units, &mut payload);
        assert!(payload.len() - 1 <= packer.max_bytes());
        let mut back = vec![9; units.len()];
        payload.push(77);
        assert_eq!(packer.decode(&payload[1..], &mut back), Ok(&[77][..]));
        assert_eq!(back, units);
        payload.len() - 2
    }

    #[test]
    fn the_shortest_form_is_taken() {
        let dense = [3; 640];
        assert_eq!(round_trip(&dense, (1, 4)), 1 + 320);
        let mut half = [0; 640];
        half.iter_mut().step_by(2).for_each(|unit| *unit = 3);
        assert_eq!(round_trip(&half, (1, 4)), 1 + 80 + 160);
        let mut sparse = [0; 640];
        sparse[100] = 3;
        assert_eq!(round_trip(&sparse, (1, 4)), 1 + 10 + 1 + 1);
        assert_eq!(round_trip(&[0; 640], (1, 4)), 1 + 10);
        assert_eq!(round_trip(&[], (4, 8)), 1);
    }

    #[test]
    fn bitmaps_that_do_not_fit_are_refused() {
        let mut packer = ZeroPacker::new(3, (1, 8));
        let mut read = |payload: &[u8]| packer.decode(payload, &mut [0; 3]).is_ok();
        assert!(read(&[BITMAP, 0b101, 1, 2]));
        assert!(!read(&[BITMAP, 0b1101, 1, 2, 3]));
        assert!(!read(&[BITMAP, 0b101, 1]));
        assert!(!read(&[BITMAP_OF_BITMAP, 1]));
        assert!(!read(&[3, 1, 2, 3]));
        assert!(!read(&[]));
    }

    proptest! {
        #[test]
        fn any_units_round_trip(
            units in prop::collection::vec(prop_oneof![Just(0), 0..4_u8], 0..300),
            unit in prop::sample::select(vec![(1, 2), (1, 3), (1, 8), (2, 8), (4, 8)]),
        ) {
            round_trip(&units[..units.len() / unit.0 * unit.0], unit);
        }
    }
}
