//! What encodings there are, what each promises, and which a search tries.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::model::Source;

/// How a frontier is written: the channels that cross, the element type, then a coder. Its name (`q8+deflate`) is its
/// text form everywhere; `name.rs` has the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding {
    /// `prune50-`: only this many percent of each tensor's channels cross, 1 to 99, those that matter most on the
    /// calibration data; rounded up to a whole channel. Each of the others comes out as its mean on that data, which of
    /// all constants is the closest and keeps the sums that the next layer takes where they were.
    pub kept_percent: Option<u8>,
    /// How each value is written.
    pub element: Element,
    /// The coder behind it.
    pub coder: Coder,
}

/// How each value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// `pixels`: the network's input as the 8-bit values that it came as, exactly. Only for the input. Other values are
    /// rounded and clamped to 0 to 255 (NaN: 0).
    Pixels,
    /// `f32`: as it is.
    F32,
    /// `f16`: IEEE half precision, nearest even; magnitudes from 65520 on become infinite.
    F16,
    /// `bf16`: the upper half of the `f32`, nearest even.
    Bf16,
    /// `q8` and the like.
    Quantized(Quantization),
    /// `jpeg75`: the channels side by side in one greyscale picture, coded as JPEG of this quality, 1 to 100. The network's
    /// input of three channels is that picture itself, in colour.
    Jpeg(u8),
}

/// `q8`, `q6`, `q4`, `q3`, `q2`: uniform quantization to this many bits. Code `c` means `min + c as f32 * scale`, so
/// everywhere the same bits; a value takes the nearest code.
///
/// Corner cases: infinities become the grid's ends, NaN its least value. Of a grid from least to greatest value: those
/// are the finite ones, zero where there is none; magnitudes saturate at 2^126; where the scale would be subnormal
/// (all values the same, for instance) every value becomes the least one. Codes are packed from the low bits of each
/// byte up without gaps between channels, and what is left of a tensor's last byte is zero and not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantization {
    /// 8, 6, 4, 3 or 2.
    pub bits: u8,
    /// Suffix `c`: a grid for each channel instead of one for each tensor. Not clipped, a flat tensor, whose channels
    /// have one value each, still has a single grid, and the grid of a tensor of several channels stands in the payload
    /// as two `bf16` a channel, rounded so that no value is cut off; else it is two `f32` a tensor.
    pub per_channel: bool,
    /// Suffix `k`: the grid spans a range of the calibration instead of the frame's own from least to greatest value,
    /// and does not stand in the payload. The range is the one with the least mean squared error on that data.
    pub clipped: bool,
}

/// The coder behind the elements; it loses nothing, so that encodings that differ by it alone share every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coder {
    /// No coder.
    Raw,
    /// `+deflate`, `+deflate6`: RFC 1951 through flate2 at this level, 1 to 9; the whole payload is one stream.
    Deflate(u8),
    /// `+lz4`: an LZ4 block through lz4_flex; the whole payload is one block.
    Lz4,
    /// `+zstd`, `+zstd19`: RFC 8878 at this level, 1 to 22; the whole payload is one frame.
    Zstd(u8),
    /// `+zero`: which codes are not zero, as a bitmap or as a bitmap of its non-zero bytes and those, then these codes
    /// alone; each tensor for itself, in the shortest of these forms.
    Zero,
    /// `jalad4` instead of `q4`: canonical Huffman codes of the quantized values, as JALAD (ICPADS 2018) has it, each
    /// tensor with a code of its own, or as it is where that is no longer.
    Huffman,
    /// `pixels+png`: the input as a PNG file; behind `pixels` alone.
    Png,
}

impl Quantization {
    /// The bit widths that there are.
    pub const BITS: [u8; 5] = [8, 6, 4, 3, 2];

    /// One grid for each tensor, from its least to its greatest value.
    pub const fn plain(bits: u8) -> Self {
        Self { bits, per_channel: false, clipped: false }
    }
}

impl Coder {
    /// The level that `+deflate` stands for. On quantized features (`benches/codec.rs`) it is the fastest, and no higher
    /// one writes less; on `f32` level 2 saves 5 % for more than twice the time.
    pub const DEFLATE_LEVEL: u8 = 1;
    /// The level that `+zstd` stands for.
    pub const ZSTD_LEVEL: u8 = 1;
}

impl Encoding {
    /// All channels, no coder.
    pub const fn plain(element: Element) -> Self {
        Self { kept_percent: None, element, coder: Coder::Raw }
    }

    /// Whether each frontier that it may carry comes out as it went in.
    pub fn is_lossless(&self) -> bool {
        self.kept_percent.is_none() && matches!(self.element, Element::Pixels | Element::F32)
    }

    /// Whether a codec for it needs a calibration.
    pub fn needs_calibration(&self) -> bool {
        self.kept_percent.is_some() || matches!(self.element, Element::Quantized(q) if q.clipped)
    }

    /// The same elements without a coder (of `jalad4`: `q4`): encodings that share this form share every answer.
    #[must_use]
    pub fn without_coder(self) -> Self {
        Self { coder: Coder::Raw, ..self }
    }

    /// The ladder where the input itself crosses the link: what is measured and searched there. Nothing is pruned: an input
    /// has few channels, and all of them matter.
    pub fn for_input() -> Vec<Self> {
        let pixels = Self::plain(Element::Pixels);
        let coders =
            [Coder::Raw, Coder::Deflate(Coder::DEFLATE_LEVEL), Coder::Zstd(Coder::ZSTD_LEVEL), Coder::Png];
        let of_pixels = coders.map(|coder| Self { coder, ..pixels });
        let others = Self::for_features().into_iter().filter(|encoding| encoding.kept_percent.is_none());
        of_pixels.into_iter().chain(others).collect()
    }

    /// The ladder where feature maps cross the link: what is measured and searched there. The tables beside the models hold
    /// answers behind these alone.
    pub fn for_features() -> Vec<Self> {
        let coders = [
            Coder::Raw,
            Coder::Deflate(Coder::DEFLATE_LEVEL),
            Coder::Lz4,
            Coder::Zstd(Coder::ZSTD_LEVEL),
            Coder::Zero,
        ];
        let jalad = |bits| Self {
            coder: Coder::Huffman,
            ..Self::plain(Element::Quantized(Quantization::plain(bits)))
        };
        let jpeg = |quality| Self::plain(Element::Jpeg(quality));
        let with_coders =
            ladder_elements().into_iter().flat_map(|element| coders.map(|coder| Self { coder, ..element }));
        with_coders.chain(Quantization::BITS.map(jalad)).chain(JPEG_QUALITIES.map(jpeg)).collect()
    }

    /// What is measured and searched where several tensors cross that are no smaller than what crosses before: exact, and
    /// quick to write.
    pub fn for_wide_frontiers() -> Vec<Self> {
        [Coder::Raw, Coder::Zero].map(|coder| Self { coder, ..Self::plain(Element::F32) }).to_vec()
    }

    /// The whole ladder: every encoding that is measured and searched anywhere.
    pub fn ladder() -> Vec<Self> {
        let all: BTreeSet<Self> = Self::for_input().into_iter().chain(Self::for_features()).collect();
        all.into_iter().collect()
    }

    /// A short ladder, for models that have no record: the encodings of which one or the other wins almost everywhere.
    pub fn short_ladder() -> Vec<Self> {
        const NAMES: [&str; 22] = [
            "pixels",
            "pixels+png",
            "jpeg90",
            "jpeg75",
            "jpeg50",
            "f32",
            "f32+zero",
            "f32+zstd",
            "f16",
            "f16+zero",
            "q8",
            "q8+zero",
            "q8+zstd",
            "q6",
            "q6+zero",
            "q4k",
            "q4k+zero",
            "q4k+zstd",
            "q3k+zero",
            "q3k+zstd",
            "q2k+zero",
            "q2k+zstd",
        ];
        let named: BTreeSet<Self> = NAMES.iter().filter_map(|name| name.parse().ok()).collect();
        named.into_iter().collect()
    }

    /// Checks that it may carry this frontier: `pixels` only carries the input, alone.
    pub fn check_frontier(&self, frontier: &[Source]) -> Result<()> {
        if self.element == Element::Pixels && frontier != [Source::Input] {
            return Err(Error::failed(format!(
                "encoding '{self}' carries the network's input alone, but feature maps cross this cut; use another one"
            )));
        }
        Ok(())
    }

    /// Whether there is a name for it. Fields can be put together in ways that mean nothing.
    pub fn is_valid(&self) -> bool {
        let element = match self.element {
            Element::Pixels | Element::F32 | Element::F16 | Element::Bf16 => true,
            Element::Quantized(quantization) => Quantization::BITS.contains(&quantization.bits),
            Element::Jpeg(quality) => (1..=100).contains(&quality),
        };
        let coder = match self.coder {
            Coder::Raw => true,
            // A JPEG is compressed already.
            _ if matches!(self.element, Element::Jpeg(_)) => false,
            Coder::Deflate(level) => (1..=9).contains(&level),
            Coder::Zstd(level) => (1..=22).contains(&level),
            Coder::Lz4 | Coder::Zero => true,
            Coder::Png => self.element == Element::Pixels,
            Coder::Huffman => {
                matches!(self.element, Element::Quantized(q) if q == Quantization::plain(q.bits))
            }
        };
        let kept = self
            .kept_percent
            .is_none_or(|percent| (1..=99).contains(&percent) && self.element != Element::Pixels);
        element && coder && kept
    }
}

/// The qualities of the ladder's pictures.
const JPEG_QUALITIES: [u8; 5] = [95, 90, 75, 50, 25];

/// The shares of channels that the ladder keeps, in percent, and the bits of what it keeps.
const KEPT_PERCENTS: [u8; 3] = [75, 50, 25];
const PRUNED_BITS: [u8; 2] = [8, 4];

/// The ladder's encodings that coders stand behind, themselves without one.
fn ladder_elements() -> Vec<Encoding> {
    let floats = [Element::F32, Element::F16, Element::Bf16];
    let grids = [(false, false), (true, false), (false, true), (true, true)];
    let quantized = Quantization::BITS.into_iter().flat_map(|bits| {
        grids.map(|(per_channel, clipped)| Element::Quantized(Quantization { bits, per_channel, clipped }))
    });
    let pruned = KEPT_PERCENTS.into_iter().flat_map(|percent| {
        let of = |bits| Encoding::plain(Element::Quantized(Quantization::plain(bits)));
        PRUNED_BITS.map(|bits| Encoding { kept_percent: Some(percent), ..of(bits) })
    });
    floats.into_iter().chain(quantized).map(Encoding::plain).chain(pruned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerId;

    #[test]
    fn the_ladder_holds_each_encoding_once_and_valid_ones_alone() {
        for ladder in [Encoding::for_features(), Encoding::for_input(), Encoding::ladder()] {
            let once: BTreeSet<_> = ladder.iter().collect();
            assert_eq!(once.len(), ladder.len());
            assert!(ladder.iter().all(Encoding::is_valid));
            // A row without a coder holds the answers of those with one.
            assert!(ladder.iter().all(|encoding| once.contains(&encoding.without_coder())));
        }
        let names: Vec<String> = Encoding::for_input().iter().map(Encoding::to_string).collect();
        assert_eq!(names[..4], ["pixels", "pixels+deflate", "pixels+zstd", "pixels+png"]);
        for name in ["f32", "q8+deflate", "q3ck+zero", "jalad4", "jpeg75"] {
            assert!(names.iter().any(|other| other == name), "{name}");
        }
        assert!(!names.iter().any(|name| name.starts_with("prune")));
        assert!(Encoding::for_features().iter().any(|encoding| encoding.to_string() == "prune50-q8+lz4"));
    }

    #[test]
    fn promises_follow_from_the_name() {
        let of = |name: &str| name.parse::<Encoding>().unwrap();
        for name in ["f32", "f32+zstd", "pixels+lz4", "f32+zero"] {
            assert!(of(name).is_lossless() && !of(name).needs_calibration(), "{name}");
        }
        for name in ["f16", "bf16+zero", "q8", "q4c", "jalad8", "jpeg100"] {
            assert!(!of(name).is_lossless() && !of(name).needs_calibration(), "{name}");
        }
        for name in ["q4k", "q4ck+zstd", "prune50", "prune99-q8", "prune50-jpeg75", "prune10-jalad4"] {
            assert!(!of(name).is_lossless() && of(name).needs_calibration(), "{name}");
        }
        for (name, form) in [("jalad4", "q4"), ("prune50-q4ck+zstd19", "prune50-q4ck"), ("jpeg75", "jpeg75")]
        {
            assert_eq!(of(name).without_coder(), of(form));
        }
    }

    #[test]
    fn pixels_carry_the_input_alone() {
        let pixels: Encoding = "pixels+deflate".parse().unwrap();
        let q8: Encoding = "q8".parse().unwrap();
        let feature = Source::Layer(LayerId(0));
        assert!(pixels.check_frontier(&[Source::Input]).is_ok());
        for frontier in [&[feature][..], &[Source::Input, feature], &[]] {
            assert!(pixels.check_frontier(frontier).is_err());
            assert!(q8.check_frontier(frontier).is_ok());
        }
    }
}
