//! The codec of one link: frontiers to payloads and back, with buffers that are reused from frame to frame.

use super::coder::Deflate;
use super::{Coder, Element, Encoding};
use crate::error::{Error, Result};

/// Writes and reads the payloads of one link: an encoding and the lengths of the tensors that cross. After the first
/// frame it allocates nothing, if the caller keeps `out`.
#[derive(Debug)]
pub struct Codec {
    encoding: Encoding,
    /// Values per tensor.
    lens: Vec<usize>,
    /// The payload's size before the coder.
    raw_bytes: usize,
    deflate: Option<Deflate>,
}

impl Codec {
    /// For tensors of `lens` values each.
    ///
    /// # Panics
    /// On `Element::Quantized` with other bits than 8, 6, 4 and 2, which no name stands for.
    pub fn new(encoding: Encoding, lens: &[usize]) -> Self {
        if let Element::Quantized(bits) = encoding.element {
            assert!(matches!(bits, 2 | 4 | 6 | 8), "quantization to 2, 4, 6 or 8 bits, not {bits}");
        }
        let raw_bytes = lens.iter().map(|&len| encoding.element.packed_bytes(len)).sum();
        let deflate = (encoding.coder == Coder::Deflate).then(|| Deflate::new(raw_bytes));
        Self { encoding, lens: lens.to_vec(), raw_bytes, deflate }
    }

    /// The encoding that it was made for.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The most bytes that a valid payload has; without a coder every payload has exactly as many.
    pub fn max_payload_bytes(&self) -> usize {
        self.deflate.as_ref().map_or(self.raw_bytes, Deflate::max_bytes)
    }

    /// Overwrites `out` with the payload of these tensors.
    ///
    /// # Panics
    /// When the tensors' lengths are not those that it was made for.
    pub fn encode(&mut self, tensors: &[&[f32]], out: &mut Vec<u8>) {
        assert!(
            tensors.iter().map(|tensor| tensor.len()).eq(self.lens.iter().copied()),
            "tensors of {:?} values each",
            self.lens
        );
        match &mut self.deflate {
            None => {
                out.resize(self.raw_bytes, 0);
                pack_all(self.encoding.element, tensors, out);
            }
            Some(deflate) => {
                pack_all(self.encoding.element, tensors, deflate.data_mut());
                deflate.encode(out);
            }
        }
    }

    /// Reads a payload into `out`, one vector per tensor, each brought to its tensor's length. Any bytes may come in. A
    /// wrong length, a broken or overlong deflate stream and a header without a finite range are errors, after which
    /// `out` holds nothing of use.
    ///
    /// # Panics
    /// When `out` has another number of tensors than it was made for.
    pub fn decode(&mut self, payload: &[u8], out: &mut [Vec<f32>]) -> Result<()> {
        assert_eq!(out.len(), self.lens.len(), "one vector per tensor");
        let mut rest = match &mut self.deflate {
            Some(deflate) => deflate.decode(payload)?,
            None if payload.len() == self.raw_bytes => payload,
            None => {
                return Err(Error::peer(format!(
                    "expected a {} payload of {} bytes, found {}; do both sides run the same plan?",
                    self.encoding,
                    self.raw_bytes,
                    payload.len()
                )));
            }
        };
        for (&len, values) in self.lens.iter().zip(out) {
            let (bytes, tail) = rest.split_at(self.encoding.element.packed_bytes(len));
            values.resize(len, 0.0);
            self.encoding.element.unpack(bytes, values)?;
            rest = tail;
        }
        Ok(())
    }
}

/// Writes the tensors one behind the other over `bytes`, which they fill.
fn pack_all(element: Element, tensors: &[&[f32]], bytes: &mut [u8]) {
    let mut rest = bytes;
    for tensor in tensors {
        let (bytes, tail) = rest.split_at_mut(element.packed_bytes(tensor.len()));
        element.pack(tensor, bytes);
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codec(name: &str, lens: &[usize]) -> Codec {
        Codec::new(name.parse().unwrap(), lens)
    }

    fn refs(tensors: &[Vec<f32>]) -> Vec<&[f32]> {
        tensors.iter().map(Vec::as_slice).collect()
    }

    fn round_trip(encoding: Encoding, tensors: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let lens: Vec<usize> = tensors.iter().map(Vec::len).collect();
        let (mut sender, mut receiver) = (Codec::new(encoding, &lens), Codec::new(encoding, &lens));
        let mut payload = Vec::new();
        sender.encode(&refs(tensors), &mut payload);
        assert!(payload.len() <= receiver.max_payload_bytes());
        let mut out = vec![Vec::new(); lens.len()];
        receiver.decode(&payload, &mut out).unwrap();
        out
    }

    fn tensors(value: impl Strategy<Value = f32> + 'static) -> impl Strategy<Value = Vec<Vec<f32>>> {
        prop::collection::vec(prop::collection::vec(value.boxed(), 0..300), 0..4)
    }

    fn coders() -> impl Strategy<Value = Coder> {
        prop_oneof![Just(Coder::Raw), Just(Coder::Deflate)]
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        prop::sample::select(crate::codec::tests::all())
    }

    fn bit_widths() -> impl Strategy<Value = u8> {
        prop::sample::select(vec![2_u8, 4, 6, 8])
    }

    /// The span between neighbouring codes, and a rounding error's worth at the tensor's greatest magnitude.
    fn grid_of(tensor: &[f32], bits: u8) -> (f32, f32) {
        let min = tensor.iter().copied().fold(f32::INFINITY, f32::min);
        let max = tensor.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (
            (max - min) / f32::from((1_u16 << bits) - 1),
            min.abs().max(max.abs()) * 2.0 * f32::EPSILON + 256.0 * f32::MIN_POSITIVE,
        )
    }

    fn bits_of(tensors: &[Vec<f32>]) -> Vec<Vec<u32>> {
        tensors.iter().map(|tensor| tensor.iter().map(|value| value.to_bits()).collect()).collect()
    }

    proptest! {
        // Every case builds compressors anew, which takes most of its time.
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn f32_keeps_every_bit(tensors in tensors(any::<u32>().prop_map(f32::from_bits)), coder in coders()) {
            let back = round_trip(Encoding { element: Element::F32, coder }, &tensors);
            prop_assert_eq!(bits_of(&back), bits_of(&tensors));
        }

        #[test]
        fn pixels_keep_every_pixel(tensors in tensors(any::<u8>().prop_map(f32::from)), coder in coders()) {
            prop_assert_eq!(round_trip(Encoding { element: Element::Pixels, coder }, &tensors), tensors);
        }

        #[test]
        fn quantized_values_are_at_most_half_a_step_off(
            tensors in tensors(prop_oneof![Just(0.0), -10.0_f32..10.0, -1e30_f32..1e30, 1e6_f32..1.001e6]),
            bits in bit_widths(),
            coder in coders(),
        ) {
            let back = round_trip(Encoding { element: Element::Quantized(bits), coder }, &tensors);
            for (tensor, back) in tensors.iter().zip(&back) {
                let (step, rounding) = grid_of(tensor, bits);
                for (value, read) in tensor.iter().zip(back) {
                    prop_assert!((value - read).abs() <= step / 2.0 * 1.0001 + rounding, "{} {}", value, read);
                }
            }
        }

        #[test]
        fn a_second_round_trip_changes_nothing(
            tensors in tensors(prop_oneof![Just(0.0), -10.0_f32..10.0, 1e6_f32..1.001e6, any::<f32>()]),
            encoding in encodings(),
        ) {
            let once = round_trip(encoding, &tensors);
            let twice = round_trip(encoding, &once);
            let Element::Quantized(bits) = encoding.element else {
                prop_assert_eq!(bits_of(&once), bits_of(&twice));
                return Ok(());
            };
            // The greatest value is rounded when it is read, and with it the scale by as much.
            for (once, twice) in once.iter().zip(&twice) {
                let (_, rounding) = grid_of(once, bits);
                for (first, second) in once.iter().zip(twice) {
                    prop_assert!((first - second).abs() <= 2.0 * rounding, "{} {}", first, second);
                }
            }
        }

        #[test]
        fn values_in_any_state_encode_to_finite_ones(
            tensors in tensors(any::<u32>().prop_map(f32::from_bits)),
            bits in bit_widths(),
            coder in coders(),
        ) {
            let back = round_trip(Encoding { element: Element::Quantized(bits), coder }, &tensors);
            prop_assert!(back.iter().flatten().all(|value| value.is_finite()));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            lens in prop::collection::vec(0_usize..40, 0..4),
            encoding in encodings(),
        ) {
            let mut out = vec![Vec::new(); lens.len()];
            let _ = Codec::new(encoding, &lens).decode(&payload, &mut out);
            prop_assert!(out.iter().zip(&lens).all(|(tensor, &len)| tensor.len() <= len));
        }

        #[test]
        fn damaged_payloads_decode_or_are_refused(
            tensor in prop::collection::vec(prop_oneof![Just(0.0), -1.0_f32..1.0], 1..300),
            (at, flip) in (any::<prop::sample::Index>(), 1..=255_u8),
            encoding in encodings(),
        ) {
            let mut codec = Codec::new(encoding, &[tensor.len()]);
            let mut payload = Vec::new();
            codec.encode(&[&tensor], &mut payload);
            let at = at.index(payload.len());
            payload[at] ^= flip;
            let mut out = [Vec::new()];
            let damaged = codec.decode(&payload, &mut out);
            prop_assert!(damaged.is_err() || out[0].len() == tensor.len());
            prop_assert!(out[0].capacity() <= 2 * tensor.len().max(4));
        }
    }

    #[test]
    fn payloads_have_the_documented_size() {
        let lens = [5, 0, 3];
        let sizes = [("f32", 32), ("f16", 16), ("pixels", 8), ("q8", 32), ("q6", 31), ("q4", 29), ("q2", 27)];
        for (name, size) in sizes {
            let mut payload = vec![9; 100];
            let mut codec = codec(name, &lens);
            codec.encode(&[&[1.0; 5], &[], &[2.0; 3]], &mut payload);
            assert_eq!((payload.len(), codec.max_payload_bytes()), (size, size), "{name}");
        }
    }

    #[test]
    fn payloads_of_another_length_are_refused() {
        for encoding in crate::codec::tests::all() {
            let mut codec = Codec::new(encoding, &[7, 2]);
            let mut payload = Vec::new();
            codec.encode(&[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], &[0.5, 0.25]], &mut payload);
            let mut out = vec![Vec::new(); 2];
            assert!(codec.decode(&payload[..payload.len() - 1], &mut out).is_err(), "{encoding}");
            assert!(codec.decode(&[&payload[..], &[0]].concat(), &mut out).is_err(), "{encoding}");
            assert!(codec.decode(&[], &mut out).is_err(), "{encoding}");
            assert!(codec.decode(&payload, &mut out).is_ok(), "{encoding}");
        }
    }

    #[test]
    fn buffers_are_reused_and_frames_independent() {
        let mut codec = codec("q4+deflate", &[1000]);
        let (mut payload, mut out) = (Vec::new(), vec![Vec::new()]);
        let frames: Vec<Vec<f32>> =
            (0..4).map(|k| (0..1000).map(|i| ((i ^ k) % 16) as f32).collect()).collect();
        codec.encode(&[&frames[0]], &mut payload);
        codec.decode(&payload, &mut out).unwrap();
        let places = (payload.as_ptr(), out[0].as_ptr());
        for frame in &frames {
            codec.encode(&[frame], &mut payload);
            codec.decode(&payload, &mut out).unwrap();
            assert_eq!(&out[0], frame);
        }
        assert_eq!(places, (payload.as_ptr(), out[0].as_ptr()));
    }
}
