//! Packing of codes of a few bits, eight at a time, written without branches so that any target does it fast.

/// The bytes that `len` codes of this many bits take.
pub(super) fn packed_bytes(len: usize, bits: u8) -> usize {
    // In this order no length that fits memory overflows.
    len / 8 * usize::from(bits) + (len % 8 * usize::from(bits)).div_ceil(8)
}

/// Packs codes below `2^bits` from the low bits up over `bytes`, which is [`packed_bytes`] long.
pub(super) fn pack(codes: &[u8], bytes: &mut [u8], bits: u8) {
    match bits {
        8 => bytes.copy_from_slice(codes),
        6 => pack_groups::<6>(codes, bytes),
        4 => pack_groups::<4>(codes, bytes),
        3 => pack_groups::<3>(codes, bytes),
        _ => pack_groups::<2>(codes, bytes),
    }
}

/// The reverse of [`pack`]; bits behind the last code are not looked at.
pub(super) fn unpack(bytes: &[u8], codes: &mut [u8], bits: u8) {
    match bits {
        8 => codes.copy_from_slice(bytes),
        6 => unpack_groups::<6>(bytes, codes),
        4 => unpack_groups::<4>(bytes, codes),
        3 => unpack_groups::<3>(bytes, codes),
        _ => unpack_groups::<2>(bytes, codes),
    }
}

/// Eight codes become `BITS` bytes.
fn pack_groups<const BITS: usize>(codes: &[u8], bytes: &mut [u8]) {
    let (groups, rest) = codes.as_chunks::<8>();
    let (packed, last) = bytes.split_at_mut(groups.len() * BITS);
    for (group, packed) in groups.iter().zip(packed.as_chunks_mut::<BITS>().0) {
        packed.copy_from_slice(&squeeze(*group, BITS).to_le_bytes()[..BITS]);
    }
    let mut group = [0; 8];
    group[..rest.len()].copy_from_slice(rest);
    last.copy_from_slice(&squeeze(group, BITS).to_le_bytes()[..last.len()]);
}

fn unpack_groups<const BITS: usize>(bytes: &[u8], codes: &mut [u8]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_packed_from_the_low_bits() {
        let packed = |codes: &[u8], bits| {
            let mut bytes = vec![0xff; packed_bytes(codes.len(), bits)];
            pack(codes, &mut bytes, bits);
            bytes
        };
        assert_eq!(packed(&[1, 2, 3], 4), [0x21, 0x03]);
        assert_eq!(packed(&[1, 2, 3, 0, 2], 2), [0b0011_1001, 0b10]);
        assert_eq!(packed(&[1, 2, 3, 63], 6), [0b1000_0001, 0b0011_0000, 0b1111_1100]);
        assert_eq!(packed(&[1, 2, 7, 4], 3), [0b1101_0001, 0b1001]);
    }

    #[test]
    fn every_code_comes_back_at_every_length() {
        for bits in [2, 3, 4, 6, 8] {
            for len in 0..40_usize {
                let codes: Vec<u8> = (0..len).map(|i| ((i * 7 + 5) % (1 << bits)) as u8).collect();
                let mut bytes = vec![0xff; packed_bytes(len, bits)];
                assert_eq!(bytes.len(), (len * usize::from(bits)).div_ceil(8));
                pack(&codes, &mut bytes, bits);
                let mut back = vec![0xff; len];
                unpack(&bytes, &mut back, bits);
                assert_eq!(back, codes);
            }
        }
    }
}
