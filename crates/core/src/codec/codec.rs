//! The codec of one link: frontiers to payloads and back, with buffers that are reused from frame to frame.

use std::fmt;

use super::huffman::Huffman;
use super::packer::Packer;
use super::picture::Picture;
use super::png::Png;
use super::stream::Stream;
use super::zero::ZeroPacker;
use super::{Calibration, Coder, Element, Encoding, TensorCalibration, TensorSpec};
use crate::error::{Error, Result};

/// Writes and reads the payloads of one link: an encoding and the tensors that cross. After the first frame it allocates
/// nothing, if the caller keeps `out`, but for `jpeg` and `png`, whose libraries take memory for each picture.
pub struct Codec {
    encoding: Encoding,
    tensors: Vec<Tensor>,
    /// Of all tensors together, where the coder is one.
    stream: Option<Stream>,
    /// The most bytes that a payload has.
    max_bytes: usize,
    /// The channels that cross, and units that are not packed; as long as the longest tensor needs.
    gathered: Vec<f32>,
    units: Vec<u8>,
}

/// One tensor of the frontier.
struct Tensor {
    spec: TensorSpec,
    pruning: Option<Pruning>,
    writer: Writer,
}

/// Which channels cross, and what stands in for the others.
struct Pruning {
    kept: Vec<bool>,
    means: Vec<f32>,
}

enum Writer {
    Packed(Packer),
    Zero(Packer, ZeroPacker),
    Huffman(Packer, Huffman),
    Png(Packer, Png),
    Picture(Picture),
}

impl Codec {
    /// For tensors of these shapes. Fails on an encoding without a name, and where it needs a calibration and gets none
    /// that fits.
    pub fn new(
        encoding: Encoding,
        tensors: &[TensorSpec],
        calibration: Option<&Calibration>,
    ) -> Result<Self> {
        if !encoding.is_valid() {
            return Err(Error::usage(format!("there is no such encoding: {encoding:?}")));
        }
        let known = match calibration {
            _ if !encoding.needs_calibration() => &[],
            Some(calibration) => calibration.checked(encoding, tensors)?,
            None => {
                return Err(Error::failed(format!(
                    "encoding '{encoding}' needs a calibration of this cut, found none; make one or use another encoding"
                )));
            }
        };
        let known = known.iter().map(Some).chain(std::iter::repeat(None));
        let tensors = tensors
            .iter()
            .zip(known)
            .map(|(&spec, known)| Tensor::new(encoding, spec, known))
            .collect::<Result<Vec<_>>>()?;
        let raw_bytes = tensors.iter().map(Tensor::max_bytes).sum();
        let stream = Stream::new(encoding.coder, raw_bytes)?;
        let max_bytes = stream.as_ref().map_or(raw_bytes, Stream::max_bytes);
        let gathered = tensors.iter().filter(|tensor| tensor.pruning.is_some()).map(Tensor::crossing_values);
        let gathered = vec![0.0; gathered.max().unwrap_or(0)];
        let units = vec![0; tensors.iter().map(Tensor::units_bytes).max().unwrap_or(0)];
        Ok(Self { encoding, tensors, stream, max_bytes, gathered, units })
    }

    /// The encoding that it was made for.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The most bytes that a valid payload has; without a coder every payload but a picture has exactly as many.
    pub fn max_payload_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Overwrites `out` with the payload of these tensors. Fails where a coder's library does, out of memory for one.
    ///
    /// # Panics
    /// When the tensors' lengths are not those that it was made for.
    pub fn encode(&mut self, tensors: &[&[f32]], out: &mut Vec<u8>) -> Result<()> {
        assert!(
            tensors
                .iter()
                .map(|tensor| tensor.len())
                .eq(self.tensors.iter().map(|tensor| tensor.spec.values())),
            "a frontier of other tensors"
        );
        if let Some(stream) = &mut self.stream {
            pack_all(&mut self.tensors, tensors, &mut self.gathered, stream.data_mut());
            stream.encode(out)?;
        } else if self.encoding.coder == Coder::Raw && !matches!(self.encoding.element, Element::Jpeg(_)) {
            out.resize(self.max_bytes, 0);
            pack_all(&mut self.tensors, tensors, &mut self.gathered, out);
        } else {
            out.clear();
            // At once, so that no later frame that is longer takes more.
            out.reserve(self.max_bytes);
            for (tensor, values) in self.tensors.iter_mut().zip(tensors) {
                tensor.append(values, &mut self.gathered, &mut self.units, out)?;
            }
        }
        Ok(())
    }

    /// Reads a payload into `out`, one vector per tensor, each brought to its tensor's length. Any bytes may come in.
    /// What no encoder writes (a wrong length, a broken or overlong stream, a grid without a finite range, a picture of
    /// another size) is an error, after which `out` holds nothing of use.
    ///
    /// # Panics
    /// When `out` has another number of tensors than it was made for.
    pub fn decode(&mut self, payload: &[u8], out: &mut [Vec<f32>]) -> Result<()> {
        assert_eq!(out.len(), self.tensors.len(), "one vector per tensor");
        let mut rest = match &mut self.stream {
            Some(stream) => stream.decode(payload)?,
            None if payload.len() <= self.max_bytes => payload,
            None => return Err(wrong_length(self.encoding, self.max_bytes, payload.len())),
        };
        for (tensor, values) in self.tensors.iter_mut().zip(out) {
            values.resize(tensor.spec.values(), 0.0);
            let before = rest.len();
            rest = match &tensor.pruning {
                None => tensor.writer.read(rest, &mut self.units, values)?,
                Some(pruning) => {
                    let crossing = tensor.spec.channel_values() * pruning.kept_channels();
                    let gathered = &mut self.gathered[..crossing];
                    let behind = tensor.writer.read(rest, &mut self.units, gathered)?;
                    pruning.scatter(gathered, values);
                    behind
                }
            }
            .ok_or_else(|| wrong_length(self.encoding, self.max_bytes, payload.len()))?;
            debug_assert!(rest.len() <= before);
        }
        if rest.is_empty() {
            return Ok(());
        }
        Err(wrong_length(self.encoding, self.max_bytes, payload.len()))
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let specs: Vec<TensorSpec> = self.tensors.iter().map(|tensor| tensor.spec).collect();
        f.debug_struct("Codec")
            .field("encoding", &self.encoding)
            .field("tensors", &specs)
            .finish_non_exhaustive()
    }
}

fn wrong_length(encoding: Encoding, expected: usize, found: usize) -> Error {
    Error::peer(format!(
        "expected a whole {encoding} payload of at most {expected} bytes, found {found}; do both sides run the same plan?"
    ))
}

/// Writes the tensors one behind the other over `bytes`, which they fill.
fn pack_all(tensors: &mut [Tensor], values: &[&[f32]], gathered: &mut [f32], bytes: &mut [u8]) {
    let mut rest = bytes;
    for (tensor, values) in tensors.iter_mut().zip(values) {
        let (bytes, tail) = rest.split_at_mut(tensor.max_bytes());
        let values = crossing(tensor.pruning.as_ref(), values, gathered);
        if let Writer::Packed(packer) = &mut tensor.writer {
            packer.pack(values, bytes);
        }
        rest = tail;
    }
}

/// The values that cross: all, or those gathered.
fn crossing<'a>(pruning: Option<&Pruning>, values: &'a [f32], gathered: &'a mut [f32]) -> &'a [f32] {
    match pruning {
        None => values,
        Some(pruning) => pruning.gather(values, gathered),
    }
}

impl Tensor {
    fn new(encoding: Encoding, spec: TensorSpec, known: Option<&TensorCalibration>) -> Result<Self> {
        let pruning = encoding.kept_percent.zip(known).map(|(percent, known)| {
            Pruning::new(percent, &known.channels_by_importance, &known.channel_means)
        });
        let kept_channels = pruning.as_ref().map_or(spec.channels(), Pruning::kept_channels);
        let sent = spec.with_channels(kept_channels);
        let packer = match encoding.element {
            Element::Jpeg(quality) => {
                let writer = Writer::Picture(Picture::new(sent, quality)?);
                return Ok(Self { spec, pruning, writer });
            }
            Element::Pixels => Packer::pixels(sent),
            Element::F32 => Packer::f32(sent),
            Element::F16 => Packer::f16(sent),
            Element::Bf16 => Packer::bf16(sent),
            Element::Quantized(quantization) => {
                let ranges = known
                    .filter(|_| quantization.clipped)
                    .and_then(|known| known.ranges_for(quantization.bits, quantization.per_channel));
                let ranges = ranges.map(|ranges| match &pruning {
                    Some(pruning) if quantization.per_channel => pruning.of_kept(ranges),
                    _ => ranges.to_vec(),
                });
                Packer::quantized(sent, quantization, ranges)
            }
        };
        let (unit_bytes, bits) = packer.unit();
        let units = packer.units_bytes() / unit_bytes;
        let writer = match encoding.coder {
            Coder::Zero => Writer::Zero(packer, ZeroPacker::new(units, (unit_bytes, bits))),
            Coder::Huffman => Writer::Huffman(packer, Huffman::new(units, bits)),
            Coder::Png => Writer::Png(packer, Png::new(sent)?),
            _ => Writer::Packed(packer),
        };
        Ok(Self { spec, pruning, writer })
    }

    fn crossing_values(&self) -> usize {
        let channels = self.pruning.as_ref().map_or(self.spec.channels(), Pruning::kept_channels);
        channels * self.spec.channel_values()
    }

    fn units_bytes(&self) -> usize {
        match &self.writer {
            Writer::Zero(packer, _) | Writer::Huffman(packer, _) | Writer::Png(packer, _) => {
                packer.units_bytes()
            }
            Writer::Packed(_) | Writer::Picture(_) => 0,
        }
    }

    /// The most bytes that it takes; exact where it is merely packed.
    fn max_bytes(&self) -> usize {
        match &self.writer {
            Writer::Packed(packer) => packer.packed_bytes(),
            Writer::Zero(packer, zero) => packer.header_bytes() + zero.max_bytes(),
            Writer::Huffman(packer, huffman) => packer.header_bytes() + huffman.max_bytes(),
            Writer::Png(_, png) => png.max_bytes(),
            Writer::Picture(picture) => picture.max_bytes(),
        }
    }

    /// Appends a tensor whose length its values decide.
    fn append(
        &mut self,
        values: &[f32],
        gathered: &mut [f32],
        units: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let values = crossing(self.pruning.as_ref(), values, gathered);
        let mut write_units = |packer: &Packer, out: &mut Vec<u8>| {
            let start = out.len();
            out.resize(start + packer.header_bytes(), 0);
            packer.write_units(values, &mut out[start..], &mut units[..packer.units_bytes()]);
        };
        match &mut self.writer {
            Writer::Packed(packer) => {
                let start = out.len();
                out.resize(start + packer.packed_bytes(), 0);
                packer.pack(values, &mut out[start..]);
            }
            Writer::Zero(packer, zero) => {
                write_units(packer, out);
                zero.encode(&units[..packer.units_bytes()], out);
            }
            Writer::Huffman(packer, huffman) => {
                write_units(packer, out);
                huffman.encode(&units[..packer.units_bytes()], out);
            }
            Writer::Png(packer, png) => {
                write_units(packer, out);
                png.encode(&units[..packer.units_bytes()], out)?;
            }
            Writer::Picture(picture) => picture.encode(values, out)?,
        }
        Ok(())
    }
}

impl Writer {
    /// Reads a tensor from the front of `payload`, and gives what is behind it; nothing where the payload is too short.
    fn read<'a>(
        &mut self,
        payload: &'a [u8],
        units: &mut [u8],
        values: &mut [f32],
    ) -> Result<Option<&'a [u8]>> {
        let size = match self {
            Self::Packed(packer) => packer.packed_bytes(),
            Self::Zero(packer, _) | Self::Huffman(packer, _) => packer.header_bytes(),
            Self::Png(..) | Self::Picture(_) => 0,
        };
        let Some((front, rest)) = payload.split_at_checked(size) else { return Ok(None) };
        let rest = match self {
            Self::Packed(packer) => {
                packer.unpack(front, values)?;
                rest
            }
            Self::Zero(packer, zero) => {
                let units = &mut units[..packer.units_bytes()];
                let rest = zero.decode(rest, units)?;
                packer.read_units(front, units, values)?;
                rest
            }
            Self::Huffman(packer, huffman) => {
                let units = &mut units[..packer.units_bytes()];
                let rest = huffman.decode(rest, units)?;
                packer.read_units(front, units, values)?;
                rest
            }
            Self::Png(packer, png) => {
                let units = &mut units[..packer.units_bytes()];
                let rest = png.decode(rest, units)?;
                packer.read_units(front, units, values)?;
                rest
            }
            Self::Picture(picture) => picture.decode(rest, values)?,
        };
        Ok(Some(rest))
    }
}

impl Pruning {
    /// Keeps so many percent of the channels, rounded up, from the front of this order.
    fn new(percent: u8, channels_by_importance: &[u32], means: &[f32]) -> Self {
        let channels = channels_by_importance.len();
        let mut kept = vec![false; channels];
        for &channel in &channels_by_importance[..(channels * usize::from(percent)).div_ceil(100)] {
            kept[channel as usize] = true;
        }
        Self { kept, means: means.to_vec() }
    }

    fn kept_channels(&self) -> usize {
        self.kept.iter().filter(|kept| **kept).count()
    }

    fn of_kept<T: Copy>(&self, by_channel: &[T]) -> Vec<T> {
        self.kept.iter().zip(by_channel).filter(|(kept, _)| **kept).map(|(_, of)| *of).collect()
    }

    fn gather<'a>(&self, values: &[f32], gathered: &'a mut [f32]) -> &'a [f32] {
        let channel_values = values.len() / self.kept.len().max(1);
        let mut crossing = 0;
        // Of tensors without values there are no chunks at all.
        let channels = values.chunks(channel_values.max(1)).zip(&self.kept);
        for (channel, _) in channels.filter(|(_, kept)| **kept) {
            gathered[crossing..crossing + channel_values].copy_from_slice(channel);
            crossing += channel_values;
        }
        &gathered[..crossing]
    }

    fn scatter(&self, gathered: &[f32], values: &mut [f32]) {
        let channel_values = (values.len() / self.kept.len().max(1)).max(1);
        let mut crossed = gathered.chunks(channel_values);
        for ((channel, kept), &mean) in values.chunks_mut(channel_values).zip(&self.kept).zip(&self.means) {
            match kept.then(|| crossed.next()).flatten() {
                Some(crossed) => channel.copy_from_slice(crossed),
                None => channel.fill(mean),
            }
        }
    }
}
