//! Canonical Huffman codes of quantized values.
//!
//! A tensor is a byte that names the form, and then
//! - `0`: all codes, packed;
//! - `1`: for each code from 0 up its length in half a byte, the low half first (0: does not occur), then the codes of
//!   the values from the low bit up, each with its first bit lowest, filled up to a whole byte with zeros.

use super::bits;
use crate::error::{Error, Result};

const PLAIN: u8 = 0;
const CODED: u8 = 1;

/// No code is longer, which keeps the decoder's table within the first-level cache.
const MAX_LENGTH: u32 = 12;
const TABLE: usize = 1 << MAX_LENGTH;

/// A reusable coder for tensors of a known size.
pub(super) struct Huffman {
    bits: u8,
    values: usize,
    /// What the next bits mean: a symbol, and the length of its code (0: no code begins so).
    table: Box<[(u8, u8); TABLE]>,
}

/// The code length of each symbol.
type Lengths = [u8; 256];

impl Huffman {
    /// For tensors of so many values of `bits` bits.
    pub(super) fn new(values: usize, bits: u8) -> Self {
        Self { bits, values, table: Box::new([(0, 0); TABLE]) }
    }

    fn packed_bytes(&self) -> usize {
        bits::packed_bytes(self.values, self.bits)
    }

    /// The most bytes of a tensor.
    pub(super) fn max_bytes(&self) -> usize {
        1 + self.packed_bytes()
    }

    fn symbols(&self) -> usize {
        1 << self.bits
    }

    /// Appends a tensor.
    pub(super) fn encode(&self, codes: &[u8], out: &mut Vec<u8>) {
        let counts = count(codes);
        let lengths = code_lengths(&counts);
        let coded_bits: u64 =
            counts.iter().zip(&lengths).map(|(&count, &length)| u64::from(count) * u64::from(length)).sum();
        let coded_bytes = self.symbols() / 2 + coded_bits.div_ceil(8) as usize;
        if coded_bytes >= self.packed_bytes() {
            out.push(PLAIN);
            let start = out.len();
            out.resize(start + self.packed_bytes(), 0);
            return bits::pack(codes, &mut out[start..], self.bits);
        }
        out.push(CODED);
        out.extend(lengths[..self.symbols()].as_chunks().0.iter().map(|[low, high]| low | high << 4));
        let words = code_words(&lengths);
        let (mut pending, mut filled) = (0_u64, 0_u32);
        for &code in codes {
            let (word, length) = (words[usize::from(code)], lengths[usize::from(code)]);
            pending |= u64::from(word) << filled;
            filled += u32::from(length);
            if filled >= 32 {
                out.extend_from_slice(&(pending as u32).to_le_bytes());
                pending >>= 32;
                filled -= 32;
            }
        }
        out.extend_from_slice(&pending.to_le_bytes()[..filled.div_ceil(8) as usize]);
    }

    /// Reads a tensor from the front of `payload` over `codes`, and gives what is behind it.
    pub(super) fn decode<'a>(&mut self, payload: &'a [u8], codes: &mut [u8]) -> Result<&'a [u8]> {
        self.read(payload, codes).ok_or_else(|| {
            Error::peer(format!(
                "expected a Huffman-coded tensor of {} values, found it broken or cut short; do both sides run the \
                 same plan?",
                self.values
            ))
        })
    }

    fn read<'a>(&mut self, payload: &'a [u8], codes: &mut [u8]) -> Option<&'a [u8]> {
        let (&form, rest) = payload.split_first()?;
        if form == PLAIN {
            let (packed, rest) = rest.split_at_checked(self.packed_bytes())?;
            bits::unpack(packed, codes, self.bits);
            return Some(rest);
        }
        let (halves, rest) = rest.split_at_checked(self.symbols() / 2)?;
        let mut lengths = [0; 256];
        for (pair, byte) in lengths.as_chunks_mut().0.iter_mut().zip(halves) {
            *pair = [byte & 15, byte >> 4];
        }
        if form != CODED || !is_code(&lengths) {
            return None;
        }
        let table = self.table_of(&lengths);
        let mut at = 0;
        // As many as one look at the stream has bits for: 57 at least.
        for group in codes.chunks_mut(4) {
            let mut window = bits_at(rest, at);
            for code in group {
                let (symbol, length) = table[window as usize & (table.len() - 1)];
                if length == 0 {
                    return None;
                }
                *code = symbol;
                window >>= length;
                at += usize::from(length);
            }
        }
        rest.get(at.div_ceil(8)..)
    }

    /// The table of this code, as long as its longest word needs.
    fn table_of(&mut self, lengths: &Lengths) -> &[(u8, u8)] {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let table = &mut self.table[..1 << longest];
        table.fill((0, 0));
        for ((symbol, word), &length) in (0..=255).zip(code_words(lengths)).zip(lengths) {
            if length > 0 {
                let places = table[usize::from(word)..].iter_mut().step_by(1 << length);
                places.for_each(|place| *place = (symbol, length));
            }
        }
        table
    }
}

/// How often each symbol occurs. Four counters for each, since neighbours are often the same.
fn count(codes: &[u8]) -> [u32; 256] {
    let mut counts = [[0_u32; 256]; 4];
    let (groups, rest) = codes.as_chunks::<4>();
    for group in groups {
        for (counts, &code) in counts.iter_mut().zip(group) {
            counts[usize::from(code)] += 1;
        }
    }
    let [mut sum, others @ ..] = counts;
    for &code in rest {
        sum[usize::from(code)] += 1;
    }
    for others in others {
        sum.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
    }
    sum
}

/// Lengths of an optimal prefix code. Where one would be too long, counts are halved until none is, which moves them
/// together and costs next to nothing, since such symbols are rare.
fn code_lengths(counts: &[u32; 256]) -> Lengths {
    let mut counts = *counts;
    loop {
        let lengths = unlimited_lengths(&counts);
        if lengths.iter().all(|&length| u32::from(length) <= MAX_LENGTH) {
            return lengths;
        }
        counts.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
    }
}

/// Huffman's algorithm with two queues: leaves by count and inner nodes in the order in which they are made, which is by
/// count too.
fn unlimited_lengths(counts: &[u32; 256]) -> Lengths {
    let mut lengths = [0; 256];
    let mut leaves = [(0_u32, 0_u8); 256];
    let mut used = 0;
    for (symbol, &count) in (0..=255).zip(counts).filter(|(_, count)| **count > 0) {
        leaves[used] = (count, symbol);
        used += 1;
    }
    let leaves = &mut leaves[..used];
    leaves.sort_unstable();
    if let [(_, symbol)] = leaves {
        lengths[usize::from(*symbol)] = 1;
    }
    if used < 2 {
        return lengths;
    }
    // Nodes: first the leaves, then the inner ones.
    let (mut weights, mut parents) = ([0_u64; 511], [0_usize; 511]);
    weights.iter_mut().zip(&*leaves).for_each(|(weight, (count, _))| *weight = u64::from(*count));
    let (mut leaf, mut inner) = (0, used);
    let last = 2 * used - 2;
    for made in used..=last {
        for _ in 0..2 {
            let takes_leaf = leaf < used && (inner == made || weights[leaf] <= weights[inner]);
            let next = if takes_leaf { &mut leaf } else { &mut inner };
            weights[made] += weights[*next];
            parents[*next] = made;
            *next += 1;
        }
    }
    let mut depths = [0_u8; 511];
    for node in (0..last).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    for (&(_, symbol), depth) in leaves.iter().zip(depths) {
        lengths[usize::from(symbol)] = depth;
    }
    lengths
}

/// The canonical code of each symbol, first bit lowest.
fn code_words(lengths: &Lengths) -> [u16; 256] {
    let mut next = [0_u16; MAX_LENGTH as usize + 1];
    for &length in lengths {
        // Each length's first code is that of the shorter ones carried on.
        for (longer, next) in (0_u8..).zip(&mut next).filter(|(longer, _)| length > 0 && *longer > length) {
            *next += 1 << (longer - length);
        }
    }
    let mut words = [0; 256];
    for (word, &length) in words.iter_mut().zip(lengths).filter(|(_, length)| **length > 0) {
        let code = &mut next[usize::from(length)];
        *word = code.reverse_bits() >> (16 - length);
        *code += 1;
    }
    words
}

/// Whether these are the lengths of a code: none too long, and either every sequence of bits has a meaning or there is
/// one symbol alone.
fn is_code(lengths: &Lengths) -> bool {
    let used = || lengths.iter().map(|&length| u32::from(length)).filter(|&length| length > 0);
    if used().any(|length| length > MAX_LENGTH) {
        return false;
    }
    let space: usize = used().map(|length| TABLE >> length).sum();
    space == TABLE || used().eq([1]) || used().count() == 0
}

/// The bits from place `at` on, zeros behind the end; 57 at least are true.
#[inline]
fn bits_at(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at / 8..).unwrap_or_default();
    let word = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        word
    });
    u64::from_le_bytes(word) >> (at % 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(codes: &[u8], bits: u8) -> usize {
        let mut huffman = Huffman::new(codes.len(), bits);
        let mut payload = vec![5];
        huffman.encode(codes, &mut payload);
        assert!(payload.len() - 1 <= huffman.max_bytes());
        payload.push(77);
        let mut back = vec![9; codes.len()];
        assert_eq!(huffman.decode(&payload[1..], &mut back), Ok(&[77][..]));
        assert_eq!(back, codes);
        payload.len() - 2
    }

    #[test]
    fn lengths_are_those_of_the_textbook() {
        let mut counts = [0; 256];
        counts[..6].copy_from_slice(&[45, 13, 12, 16, 9, 5]);
        assert_eq!(code_lengths(&counts)[..6], [1, 3, 3, 3, 4, 4]);
        // The codes of RFC 1951, section 3.2.2, with their bits turned around.
        let mut lengths = [0; 256];
        lengths[..8].copy_from_slice(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let words = [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111];
        assert_eq!(code_words(&lengths)[..8], words);
    }

    #[test]
    fn skewed_counts_stay_within_the_limit() {
        let mut counts = [0; 256];
        let (mut last, mut next) = (1, 1);
        for count in &mut counts[..40] {
            *count = last;
            (last, next) = (next, last + next);
        }
        let lengths = code_lengths(&counts);
        assert!(is_code(&lengths));
        assert!(lengths[..40].iter().all(|&length| (1..=12).contains(&length)));
        assert!(is_code(&code_lengths(&[u32::MAX; 256])));
    }

    #[test]
    fn few_symbols_are_short_and_noise_stays_as_it_is() {
        assert_eq!(round_trip(&[5; 800], 8), 1 + 128 + 100);
        assert_eq!(round_trip(&[], 8), 1);
        let noise: Vec<u8> = (0..1024_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(round_trip(&noise, 8), 1 + 1024);
    }

    #[test]
    fn lengths_of_no_code_are_refused() {
        let mut huffman = Huffman::new(4, 2);
        let mut read = |payload: &[u8]| huffman.decode(payload, &mut [0; 4]).is_ok();
        assert!(read(&[CODED, 0x21, 0x33, 0, 0]));
        // Too full, with a gap, too long, cut short, a bit that the only code does not have, another form.
        assert!(!read(&[CODED, 0x11, 0x33, 0, 0]));
        assert!(!read(&[CODED, 0x21, 0x43, 0, 0]));
        assert!(!read(&[CODED, 0x21, 0xd3, 0, 0]));
        assert!(!read(&[CODED, 0x21, 0x33]));
        assert!(!read(&[CODED, 0x01, 0x00, 0b100]));
        assert!(!read(&[2, 0x21, 0x33, 0, 0]));
    }

    proptest! {
        #[test]
        fn any_codes_round_trip(
            codes in prop::collection::vec(prop_oneof![4 => Just(0), 1 => any::<u8>()], 0..2000),
            bits in prop::sample::select(vec![8_u8, 6, 4, 3, 2]),
        ) {
            let codes: Vec<u8> = codes.iter().map(|code| code & ((1_u16 << bits) - 1) as u8).collect();
            round_trip(&codes, bits);
        }
    }
}
