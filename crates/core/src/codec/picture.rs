//! Feature-space encoding (AVSS 2018): a tensor's channels as tiles of one greyscale picture, coded as JPEG. The
//! network's input in colour is that picture itself, coded as any camera would.
//!
//! A tensor is its grid's least value and scale (two little-endian `f32`; not of the input in colour), the JPEG's length
//! (`u32`), and a JPEG file. The tiles lie row by row in a picture that is about as wide as high; places without a tile
//! are black. A tensor without values has no JPEG. Both directions work in integers without vector code of their own, so that every CPU
//! reads the same pixels.

use jpeg_encoder::{ColorType, Encoder};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::grid::{Grid, Scaling};
use super::{TensorSpec, colour, lanes};
use crate::error::{Error, Result};

const GRID_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// What a JPEG file holds besides its blocks, and a block at most: 64 codes of 27 bits, each byte stuffed.
const FILE_OVERHEAD: usize = 1024;
const BLOCK_BYTES: usize = 64 * 27 / 8 * 2;

/// The longest side that JPEG has.
const MAX_SIDE: usize = 65_535;

/// Writes and reads one tensor as a picture.
pub(super) struct Picture {
    spec: TensorSpec,
    quality: u8,
    columns: usize,
    width: u16,
    height: u16,
    /// A code for each value, channel by channel, and as the picture has them.
    codes: Vec<u8>,
    pixels: Vec<u8>,
}

impl Picture {
    /// Fails where the picture would have a side that JPEG has not.
    pub(super) fn new(spec: TensorSpec, quality: u8) -> Result<Self> {
        let channels = if spec.in_colour() { 1 } else { spec.channels() };
        let tile_width = spec.width().max(1);
        let ratio = (channels * spec.height()).div_ceil(tile_width);
        let columns = ratio.isqrt() + usize::from(ratio.isqrt().pow(2) < ratio);
        let columns = columns.clamp(1, channels.max(1));
        let (width, height) = (columns * spec.width(), channels.div_ceil(columns) * spec.height());
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(Error::failed(format!(
                "encoding 'jpeg{quality}' makes pictures of at most {MAX_SIDE} pixels a side, but this tensor would be \
                 {width}×{height}; use another one"
            )));
        }
        Ok(Self {
            spec,
            quality,
            columns,
            width: width as u16,
            height: height as u16,
            codes: vec![0; spec.values()],
            pixels: vec![0; if spec.values() == 0 { 0 } else { width * height * components(spec) }],
        })
    }

    /// The most bytes of a tensor.
    pub(super) fn max_bytes(&self) -> usize {
        let blocks = usize::from(self.width).div_ceil(8) * usize::from(self.height).div_ceil(8);
        GRID_BYTES + LENGTH_BYTES + FILE_OVERHEAD + blocks * BLOCK_BYTES * components(self.spec)
    }

    /// Appends a tensor. Fails where the JPEG library does.
    pub(super) fn encode(&mut self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        if self.spec.in_colour() {
            lanes::quantize(values, &mut self.codes, &Scaling::PIXELS);
            colour::interleave(&self.codes, &mut self.pixels);
        } else {
            let (grid, scaling) = Grid::spanning(values, 8);
            lanes::quantize(values, &mut self.codes, &scaling);
            self.lay_tiles();
            out.extend_from_slice(&grid.to_f32_header());
        }
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        let start = out.len();
        if !self.pixels.is_empty() {
            let mut encoder = Encoder::new(&mut *out, self.quality);
            // Tables that fit: the usual ones alone are longer than many a frontier. In colour the encoder then writes a scan
            // for each component, which zune-jpeg reads wrongly (its issues 422 and 448).
            encoder.set_optimized_huffman_tables(!self.spec.in_colour());
            let kind = if self.spec.in_colour() { ColorType::Rgb } else { ColorType::Luma };
            encoder
                .encode(&self.pixels, self.width, self.height, kind)
                .map_err(|error| Error::failed(format!("cannot write a frontier as JPEG: {error}")))?;
        }
        let len = (out.len() - start) as u32;
        out[start - LENGTH_BYTES..start].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Reads a tensor from the front of `payload` over `values`, and gives what is behind it.
    pub(super) fn decode<'a>(&mut self, payload: &'a [u8], values: &mut [f32]) -> Result<&'a [u8]> {
        let broken = |what: String| {
            let (width, height, components) = (self.width, self.height, components(self.spec));
            Error::peer(format!(
                "expected a JPEG of {width}×{height} pixels with {components} components, found {what}; do both sides run \
                 the same plan?"
            ))
        };
        let cut_short = || broken("a payload cut short".to_owned());
        let (grid, rest) = match self.spec.in_colour() {
            true => (Grid::PIXELS, payload),
            false => {
                let (header, rest) = payload.split_first_chunk::<GRID_BYTES>().ok_or_else(cut_short)?;
                (Grid::from_f32_header(*header, 8)?, rest)
            }
        };
        let (len, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut_short)?;
        let (file, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut_short)?;
        if !self.pixels.is_empty() {
            let size = (self.width, self.height, self.spec.in_colour());
            read_jpeg(file, size, &mut self.pixels).map_err(broken)?;
        } else if !file.is_empty() {
            return Err(broken("one where there is nothing to show".to_owned()));
        }
        match self.spec.in_colour() {
            true => colour::separate(&self.pixels, &mut self.codes),
            false => self.take_tiles(),
        }
        lanes::dequantize(&self.codes, values, &grid);
        Ok(rest)
    }

    fn lay_tiles(&mut self) {
        // Decoding leaves its picture here, also where no tile lies.
        self.pixels.fill(0);
        for (row, codes) in self.codes.chunks_exact(self.spec.width().max(1)).enumerate() {
            let at = self.place(row);
            self.pixels[at..at + codes.len()].copy_from_slice(codes);
        }
    }

    fn take_tiles(&mut self) {
        for row in 0..self.spec.channels() * self.spec.height() {
            let (at, width) = (self.place(row), self.spec.width());
            self.codes[row * width..][..width].copy_from_slice(&self.pixels[at..at + width]);
        }
    }

    /// Where in the picture a row of the tensor begins; rows counted through all channels.
    fn place(&self, row: usize) -> usize {
        let (channel, line) = (row / self.spec.height(), row % self.spec.height());
        let y = channel / self.columns * self.spec.height() + line;
        y * usize::from(self.width) + channel % self.columns * self.spec.width()
    }
}

/// Bytes of a pixel.
fn components(spec: TensorSpec) -> usize {
    if spec.in_colour() { 3 } else { 1 }
}

/// Decodes a JPEG of this size, in colour or not, over `pixels`, or says what was found instead. Takes memory only once the
/// file has said that it has this size.
fn read_jpeg(
    file: &[u8],
    (width, height, in_colour): (u16, u16, bool),
    pixels: &mut [u8],
) -> Result<(), String> {
    let (components, space) = if in_colour { (3, ColorSpace::RGB) } else { (1, ColorSpace::Luma) };
    let options = DecoderOptions::new_safe()
        .set_max_width(width.into())
        .set_max_height(height.into())
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|error| format!("a broken file ({error:?})"))?;
    let info = decoder.info().ok_or("a file without a size")?;
    // Many scans over one picture would take time without end.
    if (info.width, info.height, info.components) != (width, height, components) || info.sof.is_progressive()
    {
        return Err(format!(
            "one of {}×{} pixels with {} components, or one in several scans",
            info.width, info.height, info.components
        ));
    }
    decoder.decode_into(pixels).map_err(|error| format!("a broken file ({error:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;

    fn picture(sides: &[usize], quality: u8) -> Picture {
        Picture::new(TensorSpec::of(&Shape(sides.to_vec())).unwrap(), quality).unwrap()
    }

    #[test]
    fn pictures_are_about_square() {
        let size = |sides: &[usize]| {
            let picture = picture(sides, 75);
            (picture.width, picture.height)
        };
        assert_eq!(size(&[64, 8, 8]), (64, 64));
        assert_eq!(size(&[32, 16, 16]), (96, 96));
        assert_eq!(size(&[100]), (10, 10));
        assert_eq!(size(&[3, 2, 50]), (50, 6));
        assert_eq!(size(&[1, 7, 9]), (9, 7));
    }

    #[test]
    fn smooth_channels_come_back_in_their_places() {
        let values: Vec<f32> = (0..5 * 16 * 16).map(|i| (i / 256 * 50 + i % 16) as f32).collect();
        let mut picture = picture(&[5, 16, 16], 95);
        let mut payload = Vec::new();
        picture.encode(&values, &mut payload).unwrap();
        assert!(payload.len() <= picture.max_bytes());
        let mut back = vec![0.0; values.len()];
        assert_eq!(picture.decode(&payload, &mut back), Ok(&[][..]));
        let furthest = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 6.0, "{furthest}");
    }

    #[test]
    fn noise_of_the_best_quality_stays_within_the_bound() {
        let mut state = 1_u32;
        let values: Vec<f32> = (0..16 * 64)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 31) as f32
            })
            .collect();
        let mut picture = picture(&[16, 8, 8], 100);
        let mut payload = Vec::new();
        picture.encode(&values, &mut payload).unwrap();
        assert!(payload.len() <= picture.max_bytes(), "{} {}", payload.len(), picture.max_bytes());
    }

    #[test]
    fn files_of_another_size_or_kind_are_refused() {
        let with = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut file = Vec::new();
            encode(&mut file);
            let mut payload = [[0; 4], 1.0_f32.to_le_bytes(), (file.len() as u32).to_le_bytes()].concat();
            payload.extend_from_slice(&file);
            picture(&[1, 16, 16], 75).decode(&payload, &mut [0.0; 256]).is_ok()
        };
        let sized = |width: u16, height: u16, color: ColorType, progressive: bool| {
            let pixels = vec![100; usize::from(width) * usize::from(height) * 3];
            with(&|file| {
                let mut encoder = Encoder::new(&mut *file, 75);
                encoder.set_progressive(progressive);
                encoder.encode(&pixels, width, height, color).unwrap();
            })
        };
        assert!(sized(16, 16, ColorType::Luma, false));
        assert!(!sized(16, 15, ColorType::Luma, false));
        assert!(!sized(4096, 4096, ColorType::Luma, false));
        assert!(!sized(16, 16, ColorType::Rgb, false));
        assert!(!sized(16, 16, ColorType::Luma, true));
        assert!(!with(&|file| file.extend_from_slice(b"not a picture")));
        assert!(!with(&|_| ()));
    }

    #[test]
    fn what_was_read_before_leaves_no_trace_in_what_is_written() {
        // 128 values in 12×11 pixels: four places without a tile, within a block of others.
        let values: Vec<f32> = (0..128).map(|i| (i * i % 251) as f32).collect();
        let (mut fresh, mut used) = (picture(&[128], 75), picture(&[128], 75));
        let mut expected = Vec::new();
        fresh.encode(&values, &mut expected).unwrap();
        let (mut payload, mut back) = (Vec::new(), vec![0.0; 128]);
        used.encode(&vec![1.0; 128], &mut payload).unwrap();
        used.decode(&payload, &mut back).unwrap();
        used.decode(&expected, &mut back).unwrap();
        payload.clear();
        used.encode(&values, &mut payload).unwrap();
        assert_eq!(payload, expected);
    }

    #[test]
    fn an_input_in_colour_crosses_as_that_picture() {
        let mut payload = Vec::new();
        // Below 90 the colours are halved both ways, which smooth ones survive.
        for (quality, height, width) in [(95, 16, 24), (95, 32, 32), (75, 32, 32), (50, 48, 64), (75, 17, 19)]
        {
            let spec = TensorSpec::of_input(&Shape(vec![3, height, width])).unwrap();
            let plane = height * width;
            let values: Vec<f32> =
                (0..3 * plane).map(|i| (i / plane * 50 + i % width + i % plane / width) as f32).collect();
            let mut picture = Picture::new(spec, quality).unwrap();
            payload.clear();
            picture.encode(&values, &mut payload).unwrap();
            // An ordinary file stands behind its length.
            assert_eq!(payload[LENGTH_BYTES..][..2], [0xff, 0xd8]);
            assert!(payload.len() <= picture.max_bytes());
            let mut back = vec![0.0; values.len()];
            assert_eq!(picture.decode(&payload, &mut back), Ok(&[][..]));
            let furthest = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest < 12.0, "{quality} {height}×{width}: {furthest}");
        }
        let spec = TensorSpec::of_input(&Shape(vec![3, 16, 24])).unwrap();
        payload.clear();
        Picture::new(spec, 95).unwrap().encode(&[100.0; 1152], &mut payload).unwrap();
        let mut grey = Picture::new(TensorSpec::of(&Shape(vec![1, 16, 24])).unwrap(), 95).unwrap();
        assert!(grey.decode(&[&[0; 8][..], &payload].concat(), &mut [0.0; 384]).is_err());
    }

    #[test]
    fn sides_that_jpeg_has_not_are_refused() {
        assert!(Picture::new(TensorSpec::of(&Shape(vec![1, 1, 65_536])).unwrap(), 75).is_err());
        assert!(Picture::new(TensorSpec::of(&Shape(vec![1, 65_535])).unwrap(), 75).is_ok());
        assert!(Picture::new(TensorSpec::flat(u32::MAX), 75).is_err());
    }
}
