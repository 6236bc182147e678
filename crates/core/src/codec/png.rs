//! A picture as PNG: what anyone would send who wants to lose nothing.
//!
//! A tensor is the file's length (little-endian `u32`) and a PNG file of 8 bits a channel: in colour where the input is,
//! else its planes below each other in grey. A tensor without values has no file.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits};

use super::{TensorSpec, colour};
use crate::error::{Error, Result};

const LENGTH_BYTES: usize = 4;

/// What a file holds besides its pixels, and what a pixel that does not compress takes: far above either.
const FILE_OVERHEAD: usize = 1024;
const MOST_GROWTH: usize = 2;

/// What the decoder may take besides the pixels: its window and tables.
const DECODER_BYTES: usize = 1 << 20;

/// Writes and reads one tensor of pixels as PNG.
pub(super) struct Png {
    spec: TensorSpec,
    width: u32,
    height: u32,
    /// Pixels as the file has them, where they are in colour.
    pixels: Vec<u8>,
}

impl Png {
    /// Fails where the picture would have a side that PNG has not.
    pub(super) fn new(spec: TensorSpec) -> Result<Self> {
        let height = if spec.in_colour() { spec.height() } else { spec.channels() * spec.height() };
        let side = |side: usize| i32::try_from(side).ok().map(i32::unsigned_abs);
        let (Some(width), Some(height)) = (side(spec.width()), side(height)) else {
            return Err(Error::failed(format!(
                "PNG has at most {} pixels a side, but this tensor would be {}×{height}; use another encoding",
                i32::MAX,
                spec.width()
            )));
        };
        Ok(Self { spec, width, height, pixels: vec![0; if spec.in_colour() { spec.values() } else { 0 }] })
    }

    /// The most bytes of a tensor.
    pub(super) fn max_bytes(&self) -> usize {
        LENGTH_BYTES + FILE_OVERHEAD + MOST_GROWTH * (self.spec.values() + self.height as usize)
    }

    fn colour_type(&self) -> ColorType {
        if self.spec.in_colour() { ColorType::Rgb } else { ColorType::Grayscale }
    }

    /// Appends a tensor of these pixels, plane by plane. Fails where the PNG library does.
    pub(super) fn encode(&mut self, planes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        let start = out.len();
        if !planes.is_empty() {
            let pixels = match self.spec.in_colour() {
                true => {
                    colour::interleave(planes, &mut self.pixels);
                    &self.pixels
                }
                false => planes,
            };
            let mut encoder = Encoder::new(&mut *out, self.width, self.height);
            encoder.set_color(self.colour_type());
            encoder.set_depth(BitDepth::Eight);
            encoder
                .write_header()
                .and_then(|mut writer| writer.write_image_data(pixels).and_then(|()| writer.finish()))
                .map_err(|error| Error::failed(format!("cannot write the input as PNG: {error}")))?;
        }
        let len = (out.len() - start) as u32;
        out[start - LENGTH_BYTES..start].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Reads a tensor from the front of `payload` over `planes`, and gives what is behind it.
    pub(super) fn decode<'a>(&mut self, payload: &'a [u8], planes: &mut [u8]) -> Result<&'a [u8]> {
        let (width, height) = (self.width, self.height);
        let broken = |what: String| {
            Error::peer(format!(
                "expected a PNG of {width}×{height} pixels, found {what}; do both sides run the same plan?"
            ))
        };
        let cut_short = || broken("a payload cut short".to_owned());
        let (len, rest) = payload.split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut_short)?;
        let (file, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut_short)?;
        if planes.is_empty() {
            return if file.is_empty() {
                Ok(rest)
            } else {
                Err(broken("one where nothing is to show".into()))
            };
        }
        let wanted = (width, height, self.colour_type());
        match self.spec.in_colour() {
            true => {
                read_png(file, wanted, &mut self.pixels).map_err(broken)?;
                colour::separate(&self.pixels, planes);
            }
            false => read_png(file, wanted, planes).map_err(broken)?,
        }
        Ok(rest)
    }
}

/// Decodes a PNG of this size and kind that fills all of `file` over `pixels`, or says what was found instead. Takes memory
/// for pixels only once the file has said that it has this size.
fn read_png(
    file: &[u8],
    (width, height, kind): (u32, u32, ColorType),
    pixels: &mut [u8],
) -> Result<(), String> {
    let unreadable = |error: png::DecodingError| format!("a broken file ({error})");
    let mut cursor = Cursor::new(file);
    let limits = Limits { bytes: pixels.len() + DECODER_BYTES };
    let mut decoder = Decoder::new_with_limits(&mut cursor, limits);
    // Neither says anything about pixels, and both may unpack to much.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(unreadable)?;
    let info = reader.info();
    let found = (info.width, info.height, info.color_type);
    if found != (width, height, kind) || info.bit_depth != BitDepth::Eight || info.interlaced {
        return Err(format!("one of {}×{} pixels of another kind", info.width, info.height));
    }
    reader.next_frame(pixels).and_then(|_| reader.finish()).map_err(unreadable)?;
    drop(reader);
    if cursor.position() == file.len() as u64 { Ok(()) } else { Err("bytes behind its end".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;

    fn colour(width: usize, height: usize) -> Png {
        Png::new(TensorSpec::of_input(&Shape(vec![3, height, width])).unwrap()).unwrap()
    }

    #[test]
    fn an_input_in_colour_is_an_ordinary_file() {
        let planes: Vec<u8> = (0..3 * 32 * 16).map(|i| (i * i % 251) as u8).collect();
        let mut png = colour(16, 32);
        let mut payload = Vec::new();
        png.encode(&planes, &mut payload).unwrap();
        assert_eq!(payload[LENGTH_BYTES..][1..4], *b"PNG");
        assert!(payload.len() <= png.max_bytes());
        let mut back = vec![0; planes.len()];
        assert_eq!(png.decode(&payload, &mut back), Ok(&[][..]));
        assert_eq!(back, planes);
    }

    #[test]
    fn noise_stays_within_the_bound() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for sides in [[1, 1], [224, 224], [1, 500], [500, 1]] {
            let planes: Vec<u8> = (0..3 * sides[0] * sides[1]).map(|_| noise()).collect();
            let mut png = colour(sides[0], sides[1]);
            let mut payload = Vec::new();
            png.encode(&planes, &mut payload).unwrap();
            assert!(payload.len() <= png.max_bytes(), "{sides:?}: {}", payload.len());
        }
    }

    #[test]
    fn files_of_another_size_or_kind_are_refused() {
        let decode = |file: &[u8]| {
            let payload = [&(file.len() as u32).to_le_bytes(), file].concat();
            colour(16, 16).decode(&payload, &mut [0; 768]).is_ok()
        };
        let file = |width: u32, height: u32, kind: ColorType, depth: BitDepth| {
            let mut file = Vec::new();
            let mut encoder = Encoder::new(&mut file, width, height);
            encoder.set_color(kind);
            encoder.set_depth(depth);
            let mut writer = encoder.write_header().unwrap();
            let bytes = kind.samples() * width as usize * height as usize * depth as usize / 8;
            writer.write_image_data(&vec![9; bytes]).unwrap();
            writer.finish().unwrap();
            file
        };
        let good = file(16, 16, ColorType::Rgb, BitDepth::Eight);
        assert!(decode(&good));
        assert!(!decode(&file(16, 17, ColorType::Rgb, BitDepth::Eight)));
        assert!(!decode(&file(60_000, 60_000 / 500, ColorType::Rgb, BitDepth::Eight)));
        assert!(!decode(&file(16, 16, ColorType::Rgba, BitDepth::Eight)));
        assert!(!decode(&file(16, 16, ColorType::Rgb, BitDepth::Sixteen)));
        assert!(!decode(&[&good[..], b"x"].concat()));
        for end in 0..good.len() {
            assert!(!decode(&good[..end]), "cut at {end}");
        }
    }
}
