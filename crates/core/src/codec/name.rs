//! The names of encodings: `[pruneN-]ELEMENT[+CODER]`, to text and back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Coder, Element, Encoding, Quantization};
use crate::error::{Error, Result};

/// What exists, for whoever asked for something else.
const GRAMMAR: &str = "pixels, f32, f16, bf16, q8, q6, q4, q3, q2 (with c behind it: a range for each channel; with k: \
     ranges calibrated on data), jalad8 to jalad2, jpeg1 to jpeg100; +deflate, +lz4, +zstd (+deflate6, +zstd19: with a \
     level) or +zero behind it, not behind jalad and jpeg; +png behind pixels alone; prune50- before it: half of the channels, or prune50 alone";

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels => f.pad("pixels"),
            Self::F32 => f.pad("f32"),
            Self::F16 => f.pad("f16"),
            Self::Bf16 => f.pad("bf16"),
            Self::Quantized(Quantization { bits, per_channel, clipped }) => {
                let mark = |set: &bool, mark| if *set { mark } else { "" };
                f.pad(&format!("q{bits}{}{}", mark(per_channel, "c"), mark(clipped, "k")))
            }
            Self::Jpeg(quality) => f.pad(&format!("jpeg{quality}")),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match (self.element, self.coder) {
            (Element::Quantized(quantization), Coder::Huffman) => format!("jalad{}", quantization.bits),
            (element, _) => element.to_string(),
        };
        let element = match self.kept_percent {
            None => element,
            Some(percent) if self.element == Element::F32 => format!("prune{percent}"),
            Some(percent) => format!("prune{percent}-{element}"),
        };
        let level = |usual, level: u8| if level == usual { String::new() } else { level.to_string() };
        let coder = match self.coder {
            Coder::Raw | Coder::Huffman => String::new(),
            Coder::Deflate(of) => format!("+deflate{}", level(Coder::DEFLATE_LEVEL, of)),
            Coder::Lz4 => "+lz4".to_owned(),
            Coder::Zstd(of) => format!("+zstd{}", level(Coder::ZSTD_LEVEL, of)),
            Coder::Zero => "+zero".to_owned(),
            Coder::Png => "+png".to_owned(),
        };
        f.pad(&(element + &coder))
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        parse(name)
            .filter(Self::is_valid)
            .ok_or_else(|| Error::usage(format!("unknown encoding '{name}'; there are {GRAMMAR}")))
    }
}

fn parse(name: &str) -> Option<Encoding> {
    let (front, coder) = match name.split_once('+') {
        Some((front, coder)) => (front, parse_coder(coder)?),
        None => (name, Coder::Raw),
    };
    let (kept_percent, element) = match front.strip_prefix("prune") {
        None => (None, front),
        Some(pruned) => match pruned.split_once('-') {
            Some((percent, element)) => (Some(number(percent)?), element),
            None => (Some(number(pruned)?), "f32"),
        },
    };
    match element.strip_prefix("jalad") {
        Some(bits) if coder == Coder::Raw => {
            let element = Element::Quantized(Quantization::plain(number(bits)?));
            Some(Encoding { kept_percent, element, coder: Coder::Huffman })
        }
        _ => Some(Encoding { kept_percent, element: parse_element(element)?, coder }),
    }
}

fn parse_element(name: &str) -> Option<Element> {
    match name {
        "pixels" => return Some(Element::Pixels),
        "f32" => return Some(Element::F32),
        "f16" => return Some(Element::F16),
        "bf16" => return Some(Element::Bf16),
        _ => {}
    }
    if let Some(quality) = name.strip_prefix("jpeg") {
        return Some(Element::Jpeg(number(quality)?));
    }
    let quantization = name.strip_prefix('q')?;
    let (quantization, clipped) = strip_mark(quantization, 'k');
    let (bits, per_channel) = strip_mark(quantization, 'c');
    Some(Element::Quantized(Quantization { bits: number(bits)?, per_channel, clipped }))
}

fn strip_mark(name: &str, mark: char) -> (&str, bool) {
    name.strip_suffix(mark).map_or((name, false), |rest| (rest, true))
}

fn parse_coder(name: &str) -> Option<Coder> {
    match name {
        "deflate" => Some(Coder::Deflate(Coder::DEFLATE_LEVEL)),
        "zstd" => Some(Coder::Zstd(Coder::ZSTD_LEVEL)),
        "lz4" => Some(Coder::Lz4),
        "zero" => Some(Coder::Zero),
        "png" => Some(Coder::Png),
        _ => match name.strip_prefix("deflate") {
            Some(level) => Some(Coder::Deflate(number(level)?)),
            None => Some(Coder::Zstd(number(name.strip_prefix("zstd")?)?)),
        },
    }
}

/// Digits alone, and none before that are not needed: a number has one name.
fn number(digits: &str) -> Option<u8> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
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
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each element, by name.
    pub(in crate::codec) const ELEMENTS: [&str; 26] = [
        "pixels", "f32", "f16", "bf16", "q8", "q6", "q4", "q3", "q2", "q8c", "q6c", "q4c", "q3c", "q2c",
        "q8k", "q6k", "q4k", "q3k", "q2k", "q8ck", "q6ck", "q4ck", "q3ck", "q2ck", "jpeg75", "jpeg1",
    ];

    /// Every element with and without pruning behind every coder that it may have, at a few levels.
    pub(in crate::codec) fn all() -> Vec<Encoding> {
        let coders = ["", "+deflate", "+deflate9", "+lz4", "+zstd", "+zstd6", "+zero", "+png"];
        let jalads = ["jalad8", "jalad6", "jalad4", "jalad3", "jalad2"];
        let with_coders = ELEMENTS.iter().flat_map(|element| coders.map(|coder| format!("{element}{coder}")));
        let names = with_coders.chain(jalads.map(str::to_owned));
        names
            .flat_map(|name| [format!("prune50-{name}"), format!("prune1-{name}"), name])
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    #[test]
    fn names_round_trip_as_text_and_json() {
        let all = all();
        assert!(all.len() > 400, "{}", all.len());
        for encoding in all.into_iter().chain(Encoding::for_input()) {
            let name = encoding.to_string();
            assert_eq!(name.parse(), Ok(encoding));
            let json = serde_json::to_string(&encoding).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Encoding>(&json).unwrap(), encoding);
        }
        assert_eq!(format!("{:>8}", "q8".parse::<Encoding>().unwrap()), "      q8");
    }

    #[test]
    fn a_name_says_what_it_means() {
        let quantized = |bits, per_channel, clipped| {
            Encoding::plain(Element::Quantized(Quantization { bits, per_channel, clipped }))
        };
        let expected = [
            ("q6+deflate", Encoding { coder: Coder::Deflate(1), ..quantized(6, false, false) }),
            ("q3ck+zstd19", Encoding { coder: Coder::Zstd(19), ..quantized(3, true, true) }),
            ("jalad4", Encoding { coder: Coder::Huffman, ..quantized(4, false, false) }),
            ("prune50", Encoding { kept_percent: Some(50), ..Encoding::plain(Element::F32) }),
            ("prune7-q8k", Encoding { kept_percent: Some(7), ..quantized(8, false, true) }),
            ("jpeg75", Encoding::plain(Element::Jpeg(75))),
        ];
        for (name, encoding) in expected {
            assert_eq!(name.parse(), Ok(encoding));
        }
    }

    #[test]
    fn unknown_names_list_what_exists() {
        let wrong = [
            "",
            "q5",
            "q",
            "q04",
            "q+4",
            "q8+",
            "q8+gzip",
            "Q8",
            "+deflate",
            "q8+deflate+deflate",
            "q8+deflate0",
            "q8+deflate10",
            "q8+zstd23",
            "q8+zstd0",
            "q4kc",
            "jalad5",
            "jalad4c",
            "jalad4+zstd",
            "jpeg0",
            "jpeg101",
            "jpeg75+zero",
            "prune0-q8",
            "prune100-q8",
            "prune50-pixels",
            "prune50-",
            "prune-q8",
            "q8+raw",
            "q8+png",
            "f32+png",
            "pixels+png9",
            "q260",
        ];
        for name in wrong {
            let error = name.parse::<Encoding>().unwrap_err().to_string();
            assert!(error.contains("pixels, f32, f16, bf16, q8, q6, q4, q3, q2"), "{name}: {error}");
        }
        assert!(serde_json::from_str::<Encoding>("\"q5\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_a_name_of_what_it_says(
            text in "(prune[0-9]{1,3}-?)?(q[0-9]c?k?|f32|bf16|jpeg[0-9]{1,3}|jalad[0-9])(\\+(zstd|deflate|zero)[0-9]{0,2})?",
        ) {
            if let Ok(encoding) = text.parse::<Encoding>() {
                prop_assert_eq!(encoding.to_string().parse(), Ok(encoding));
            }
        }
    }
}
