//! What encodings learn from data before they are used.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::grid::LIMIT;
use super::{Element, Encoding, TensorSpec};
use crate::error::{Error, Result};

/// What encodings know of a frontier from calibration data. Both sides of a link need the same one; a payload repeats
/// nothing of it. A [`Calibrator`](super::Calibrator) makes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// One for each tensor of the frontier.
    pub tensors: Vec<TensorCalibration>,
}

/// What is known of one tensor; what no encoding asked for is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorCalibration {
    /// Every channel, the one that matters most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels_by_importance: Vec<u32>,
    /// What stands in for each channel that does not cross.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel_means: Vec<f32>,
    /// By bits: the least and the greatest value of the grid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "by_bits")]
    pub ranges: BTreeMap<u8, [f32; 2]>,
    /// By bits: the same for each channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "by_bits")]
    pub channel_ranges: BTreeMap<u8, Vec<[f32; 2]>>,
}

/// Keys of JSON objects are text, which serde does not turn into numbers inside a flattened document.
fn by_bits<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u8, V>, D::Error> {
    let named = BTreeMap::<String, V>::deserialize(deserializer)?;
    let parsed = named.into_iter().map(|(bits, of)| Ok((bits.parse().map_err(D::Error::custom)?, of)));
    parsed.collect()
}

impl Calibration {
    /// The part that this encoding needs: nothing for most.
    #[must_use]
    pub fn only_for(&self, encoding: Encoding) -> Self {
        if !encoding.needs_calibration() {
            return Self::default();
        }
        Self { tensors: self.tensors.iter().map(|tensor| tensor.only_for(encoding)).collect() }
    }

    /// One for each of these tensors, which hold all that the encoding needs.
    pub(super) fn checked(&self, encoding: Encoding, tensors: &[TensorSpec]) -> Result<&[TensorCalibration]> {
        let fits = self.tensors.len() == tensors.len()
            && self.tensors.iter().zip(tensors).all(|(known, spec)| known.fits(encoding, spec.channels()));
        if fits {
            return Ok(&self.tensors);
        }
        let channels: Vec<usize> = tensors.iter().map(TensorSpec::channels).collect();
        Err(Error::failed(format!(
            "expected a calibration of '{encoding}' for tensors of {channels:?} channels, found one that is for another \
             frontier, lacks it or is broken; calibrate this cut again"
        )))
    }
}

impl TensorCalibration {
    fn only_for(&self, encoding: Encoding) -> Self {
        let mut part = Self::default();
        if encoding.kept_percent.is_some() {
            part.channels_by_importance.clone_from(&self.channels_by_importance);
            part.channel_means.clone_from(&self.channel_means);
        }
        if let Element::Quantized(quantization) = encoding.element
            && quantization.clipped
        {
            let bits = quantization.bits;
            if quantization.per_channel {
                part.channel_ranges
                    .extend(self.channel_ranges.get_key_value(&bits).map(|(k, v)| (*k, v.clone())));
            } else {
                part.ranges.extend(self.ranges.get_key_value(&bits));
            }
        }
        part
    }

    /// The ranges for a clipped encoding: one, or one for each channel.
    pub(super) fn ranges_for(&self, bits: u8, per_channel: bool) -> Option<&[[f32; 2]]> {
        match per_channel {
            true => self.channel_ranges.get(&bits).map(Vec::as_slice),
            false => self.ranges.get(&bits).map(std::slice::from_ref),
        }
    }

    fn fits(&self, encoding: Encoding, channels: usize) -> bool {
        let ranges_fit = match encoding.element {
            Element::Quantized(quantization) if quantization.clipped => {
                let expected = if quantization.per_channel { channels } else { 1 };
                self.ranges_for(quantization.bits, quantization.per_channel)
                    .is_some_and(|ranges| ranges.len() == expected && ranges.iter().all(is_range))
            }
            _ => true,
        };
        let pruning_fits = encoding.kept_percent.is_none()
            || (is_order(&self.channels_by_importance, channels)
                && self.channel_means.len() == channels
                && self.channel_means.iter().all(|mean| mean.is_finite()));
        ranges_fit && pruning_fits
    }
}

fn is_range([min, max]: &[f32; 2]) -> bool {
    -LIMIT <= *min && min <= max && *max <= LIMIT
}

/// Whether each channel is there once.
fn is_order(order: &[u32], channels: usize) -> bool {
    let mut seen = vec![false; if order.len() == channels { channels } else { 0 }];
    order.len() == channels
        && order
            .iter()
            .all(|&channel| seen.get_mut(channel as usize).is_some_and(|seen| !std::mem::replace(seen, true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;

    fn known() -> TensorCalibration {
        TensorCalibration {
            channels_by_importance: vec![2, 0, 1],
            channel_means: vec![0.5, 0.1, 0.25],
            ranges: BTreeMap::from([(4, [0.0, 1.0]), (2, [0.0, 0.5])]),
            channel_ranges: BTreeMap::from([(4, vec![[0.0, 1.0]; 3])]),
        }
    }

    fn encoding(name: &str) -> Encoding {
        name.parse().unwrap()
    }

    #[test]
    fn only_what_an_encoding_needs_is_kept_and_enough() {
        let specs = [TensorSpec::of(&Shape(vec![3, 2, 2])).unwrap()];
        let all = Calibration { tensors: vec![known()] };
        for name in ["q4k", "q2k+zstd", "q4ck", "prune50", "prune50-q4ck", "prune10-q8"] {
            let part = all.only_for(encoding(name));
            assert!(part != all && part.checked(encoding(name), &specs).is_ok(), "{name}");
            let json = serde_json::to_string(&part).unwrap();
            assert_eq!(serde_json::from_str::<Calibration>(&json).unwrap(), part);
        }
        assert_eq!(all.only_for(encoding("q4")), Calibration::default());
        let part = all.only_for(encoding("q4k"));
        assert!(part.checked(encoding("q2k"), &specs).is_err());
        assert!(part.checked(encoding("q4ck"), &specs).is_err());
        assert!(part.checked(encoding("prune50"), &specs).is_err());
    }

    #[test]
    fn a_calibration_is_read_inside_a_flattened_document() {
        #[derive(PartialEq, Debug, Serialize, Deserialize)]
        struct Inner {
            known: Calibration,
        }
        #[derive(PartialEq, Debug, Serialize, Deserialize)]
        struct Document {
            #[serde(flatten)]
            inner: Inner,
        }
        let document = Document { inner: Inner { known: Calibration { tensors: vec![known()] } } };
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document);
        for wrong in ["\"x\"", "\"256\"", "\"-1\""] {
            assert!(serde_json::from_str::<Document>(&json.replace("\"4\"", wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let specs = [TensorSpec::of(&Shape(vec![3, 2, 2])).unwrap()];
        let check = |name: &str, change: &dyn Fn(&mut TensorCalibration)| {
            let mut tensor = known();
            change(&mut tensor);
            Calibration { tensors: vec![tensor] }.checked(encoding(name), &specs).is_ok()
        };
        assert!(check("prune50-q4ck", &|_| ()));
        assert!(!check("prune50", &|known| known.channels_by_importance = vec![0, 1, 1]));
        assert!(!check("prune50", &|known| known.channels_by_importance = vec![0, 1, 3]));
        assert!(!check("prune50", &|known| known.channels_by_importance = vec![0, 1]));
        assert!(!check("prune50", &|known| known.channel_means[1] = f32::NAN));
        assert!(!check("q4k", &|known| known.ranges = BTreeMap::from([(4, [1.0, 0.0])])));
        assert!(!check("q4k", &|known| known.ranges = BTreeMap::from([(4, [f32::NAN, 0.0])])));
        assert!(!check("q4k", &|known| known.ranges = BTreeMap::from([(4, [0.0, f32::MAX])])));
        assert!(!check("q4ck", &|known| known.channel_ranges = BTreeMap::from([(4, vec![[0.0, 1.0]])])));
        assert!(!check("q3k", &|_| ()));
        let twice = Calibration { tensors: vec![known(), known()] };
        assert!(twice.checked(encoding("q4k"), &specs).is_err());
    }
}
