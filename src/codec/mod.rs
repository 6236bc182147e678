//! Encodings: how a frontier is written for the link. Bytes in, bytes out; knows no runtime and no sockets.
//!
//! [`Encoding`] names one, [`Codec`] writes and reads payloads in it. A payload is the frontier's tensors one after the
//! other, each starting on a byte; both sides know the tensors' lengths from the plan, so none is in the payload.

#[expect(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod codec;
mod coder;
mod element;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::codec::Codec;
use crate::error::{Error, Result};
use crate::model::Source;

/// How a frontier is written: element type, then a lossless coder. Its name (`q8+deflate`) is its text form everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding {
    /// How each value is written.
    pub element: Element,
    /// The lossless coder behind it.
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
    /// `q8`, `q6`, `q4`, `q2`: uniform quantization to this many bits between the tensor's least and greatest value.
    ///
    /// Each tensor starts with its least value and its scale (two little-endian `f32`); value `i` reads back as
    /// `min + code as f32 * scale`, so everywhere to the same bits. Corner cases: infinities become the finite
    /// extremes, NaN the least finite value, a tensor without finite values zeros; magnitudes saturate at 2^126; a
    /// tensor whose scale would be subnormal (a constant one, for instance) becomes its least value. Codes are packed
    /// from the low bits of each byte up, and what is left of the last byte is zero and not read.
    Quantized(u8),
}

/// The lossless coder behind the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coder {
    /// No coder.
    Raw,
    /// `+deflate`: RFC 1951 through flate2; the whole payload is one stream.
    Deflate,
}

/// Every element and its name.
const ELEMENTS: [(Element, &str); 7] = [
    (Element::Pixels, "pixels"),
    (Element::F32, "f32"),
    (Element::F16, "f16"),
    (Element::Quantized(8), "q8"),
    (Element::Quantized(6), "q6"),
    (Element::Quantized(4), "q4"),
    (Element::Quantized(2), "q2"),
];

/// What follows the element's name where the coder is deflate.
const DEFLATE_SUFFIX: &str = "+deflate";

impl Encoding {
    /// Whether each frontier that it may carry comes out as it went in.
    pub fn is_lossless(&self) -> bool {
        matches!(self.element, Element::Pixels | Element::F32)
    }

    /// The same elements without a lossless coder: encodings that share this form share every answer.
    #[must_use]
    pub fn without_coder(self) -> Self {
        Self { coder: Coder::Raw, ..self }
    }

    /// The encodings that a search tries where the input itself crosses the link.
    pub fn for_input() -> Vec<Self> {
        let mut encodings = both_coders(Element::Pixels);
        encodings.extend(Self::for_features());
        encodings
    }

    /// The encodings that a search tries where feature maps cross the link.
    pub fn for_features() -> Vec<Self> {
        [Element::F32, Element::F16, Element::Quantized(8), Element::Quantized(4)]
            .into_iter()
            .flat_map(both_coders)
            .collect()
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
}

fn both_coders(element: Element) -> Vec<Encoding> {
    [Coder::Raw, Coder::Deflate].map(|coder| Encoding { element, coder }).to_vec()
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels => f.pad("pixels"),
            Self::F32 => f.pad("f32"),
            Self::F16 => f.pad("f16"),
            Self::Quantized(bits) => f.pad(&format!("q{bits}")),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.coder {
            Coder::Raw => self.element.fmt(f),
            Coder::Deflate => f.pad(&format!("{}{DEFLATE_SUFFIX}", self.element)),
        }
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (element_name, coder) = match name.strip_suffix(DEFLATE_SUFFIX) {
            Some(element) => (element, Coder::Deflate),
            None => (name, Coder::Raw),
        };
        match ELEMENTS.iter().find(|(_, known)| *known == element_name) {
            Some(&(element, _)) => Ok(Self { element, coder }),
            None => {
                let names = ELEMENTS.map(|(_, known)| known).join(", ");
                Err(Error::usage(format!(
                    "unknown encoding '{name}'; there are {names}, each alone or with {DEFLATE_SUFFIX} behind it"
                )))
            }
        }
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerId;

    pub(in crate::codec) fn all() -> Vec<Encoding> {
        ELEMENTS.iter().flat_map(|&(element, _)| both_coders(element)).collect()
    }

    #[test]
    fn names_round_trip_as_text_and_json() {
        for encoding in all() {
            let name = encoding.to_string();
            assert_eq!(name.parse(), Ok(encoding));
            let json = serde_json::to_string(&encoding).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Encoding>(&json).unwrap(), encoding);
        }
        assert_eq!(
            "q6+deflate".parse(),
            Ok(Encoding { element: Element::Quantized(6), coder: Coder::Deflate })
        );
        assert_eq!(format!("{:>6}", "q8".parse::<Encoding>().unwrap()), "    q8");
    }

    #[test]
    fn unknown_names_list_what_exists() {
        for name in ["", "q5", "q8+", "q8+gzip", "Q8", "+deflate", "q8+deflate+deflate"] {
            let error = name.parse::<Encoding>().unwrap_err().to_string();
            assert!(error.contains("pixels, f32, f16, q8, q6, q4, q2"), "{error}");
        }
        assert!(serde_json::from_str::<Encoding>("\"q5\"").is_err());
    }

    #[test]
    fn search_lists_differ_by_pixels_alone() {
        let names = |list: Vec<Encoding>| list.iter().map(Encoding::to_string).collect::<Vec<_>>();
        let features = names(Encoding::for_features());
        assert_eq!(features.join(" "), "f32 f32+deflate f16 f16+deflate q8 q8+deflate q4 q4+deflate");
        let input = names(Encoding::for_input());
        assert_eq!(input[..2], ["pixels", "pixels+deflate"]);
        assert_eq!(input[2..], features);
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
