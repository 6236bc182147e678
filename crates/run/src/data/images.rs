//! Pictures as bytes, with their labels.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use coprof_core::error::{Error, Result};
use coprof_core::model::{Output, confidence};

/// A part of a data set. What is chosen on `Validation` is reported on `Test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What models are trained on.
    Train,
    /// Held out of training: thresholds and plans are chosen on it.
    Validation,
    /// What results are reported on.
    Test,
}

impl Split {
    /// Its name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Train, Self::Validation, Self::Test];
        all.into_iter()
            .find(|split| split.name() == name)
            .ok_or_else(|| Error::failed(format!("a split is train, validation or test; found '{name}'")))
    }
}

/// Pictures of one size, channel by channel and row by row, one byte a value; or other inputs of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// Of each.
    values: usize,
    data: Values,
    labels: Option<Vec<u32>>,
    answers: Option<Answers>,
}

/// What a network is to answer to each, where answers are more than classes.
#[derive(Clone, Debug, PartialEq)]
struct Answers {
    /// What they are made of, which tells which two count as the same.
    parts: Vec<Output>,
    expected: Vec<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

impl Images {
    /// Pictures of `picture_bytes` each, with as many labels where they are known. `None` when the sizes do not fit.
    pub fn new(picture_bytes: usize, pixels: Vec<u8>, labels: Option<Vec<u8>>) -> Option<Self> {
        let labels = labels.map(|labels| labels.into_iter().map(u32::from).collect());
        Self { values: picture_bytes, data: Values::Bytes(pixels), labels, answers: None }.checked()
    }

    /// Pictures of sizes that are known to fit, without labels.
    pub(super) fn of_pixels(picture_bytes: usize, pixels: Vec<u8>) -> Self {
        Self { values: picture_bytes, data: Values::Bytes(pixels), labels: None, answers: None }
    }

    /// Inputs of `values` numbers each. Where all of them are whole and from 0 to 255, they are pictures.
    pub fn from_floats(values: usize, numbers: Vec<f32>) -> Option<Self> {
        // Casts saturate, so what is no byte comes back as another number.
        let is_byte = |number: &f32| f32::from(*number as u8).to_bits() == number.to_bits();
        let data = if numbers.iter().all(is_byte) {
            Values::Bytes(numbers.into_iter().map(|number| number as u8).collect())
        } else {
            Values::Floats(numbers)
        };
        Self { values, data, labels: None, answers: None }.checked()
    }

    fn checked(self) -> Option<Self> {
        let whole = self.values > 0 && self.numbers().is_multiple_of(self.values);
        let labelled = self.labels.as_ref().is_none_or(|labels| labels.len() * self.values == self.numbers());
        (whole && labelled).then_some(self)
    }

    fn numbers(&self) -> usize {
        match &self.data {
            Values::Bytes(bytes) => bytes.len(),
            Values::Floats(floats) => floats.len(),
        }
    }

    /// The same with these labels. `None` unless there is one for each.
    #[must_use]
    pub fn labelled(self, labels: Vec<u32>) -> Option<Self> {
        Self { labels: Some(labels), ..self }.checked()
    }

    /// The same, each to be answered with these numbers, which are made of `parts`. `None` unless there is an answer for each.
    #[must_use]
    pub fn answered(self, parts: Vec<Output>, expected: Vec<Vec<f32>>) -> Option<Self> {
        let fits = expected.len() == self.len();
        fits.then_some(Self { answers: Some(Answers { parts, expected }), ..self })
    }

    /// Whether it is known what is right.
    pub fn tell_what_is_right(&self) -> bool {
        self.labels.is_some() || self.answers.is_some()
    }

    /// Whether these numbers are the right answer to picture `i`: its class, or what the network was to answer. `None` where neither
    /// is known.
    pub fn is_right(&self, i: usize, logits: &[f32]) -> Option<bool> {
        match &self.answers {
            Some(Answers { parts, expected }) => Some(Output::agree(parts, &expected[i], logits)),
            None => self.label(i).map(|label| confidence(logits).class == label),
        }
    }

    /// How many pictures.
    pub fn len(&self) -> usize {
        self.numbers() / self.values
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers() == 0
    }

    /// Whether every value is a byte, as a camera's are, so that `pixels` carries them exactly.
    pub fn are_pixels(&self) -> bool {
        matches!(self.data, Values::Bytes(_))
    }

    /// The bytes of picture `i`; of inputs that are none, the little-endian 32-bit floats.
    pub fn bytes(&self, i: usize) -> Cow<'_, [u8]> {
        let values = i * self.values..(i + 1) * self.values;
        match &self.data {
            Values::Bytes(bytes) => Cow::Borrowed(&bytes[values]),
            Values::Floats(floats) => floats[values].iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// The class of picture `i`; `None` where it is not known.
    pub fn label(&self, i: usize) -> Option<u32> {
        self.labels.as_ref().map(|labels| labels[i])
    }

    /// Picture `i` as the numbers 0 to 255, which is how models take it; replaces what `into` held.
    pub fn read_into(&self, i: usize, into: &mut Vec<f32>) {
        let values = i * self.values..(i + 1) * self.values;
        into.clear();
        match &self.data {
            Values::Bytes(bytes) => into.extend(bytes[values].iter().map(|&byte| f32::from(byte))),
            Values::Floats(floats) => into.extend_from_slice(&floats[values]),
        }
    }

    /// Picture `i` as the numbers 0 to 255.
    pub fn floats(&self, i: usize) -> Vec<f32> {
        let mut values = Vec::new();
        self.read_into(i, &mut values);
        values
    }

    /// Only the first `n` pictures.
    pub fn truncate(&mut self, n: usize) {
        self.split_off(n.min(self.len()));
    }

    /// The pictures from the `n`th on; the first `n` stay.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn split_off(&mut self, n: usize) -> Self {
        let data = match &mut self.data {
            Values::Bytes(bytes) => Values::Bytes(bytes.split_off(n * self.values)),
            Values::Floats(floats) => Values::Floats(floats.split_off(n * self.values)),
        };
        let labels = self.labels.as_mut().map(|labels| labels.split_off(n));
        let answers = self
            .answers
            .as_mut()
            .map(|answers| Answers { parts: answers.parts.clone(), expected: answers.expected.split_off(n) });
        Self { values: self.values, data, labels, answers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::model::Agreement;
    use coprof_core::model::samples::chain;

    #[test]
    fn pictures_and_labels_must_fit() {
        assert!(Images::new(3, vec![0; 7], None).is_none());
        assert!(Images::new(3, vec![0; 6], Some(vec![1])).is_none());
        assert!(Images::new(0, vec![], None).is_none());
        let mut images = Images::new(3, vec![0, 1, 2, 3, 4, 255], Some(vec![7, 8])).unwrap();
        assert_eq!((images.len(), &*images.bytes(1), images.label(1)), (2, &[3, 4, 255][..], Some(8)));
        assert_eq!(images.floats(1), [3.0, 4.0, 255.0]);
        images.truncate(9);
        assert_eq!(images.len(), 2);
        let rest = images.split_off(1);
        assert_eq!((images.len(), images.label(0)), (1, Some(7)));
        assert_eq!((rest.floats(0), rest.label(0)), (vec![3.0, 4.0, 255.0], Some(8)));
        assert!(rest.clone().labelled(vec![1, 2]).is_none());
        assert_eq!(rest.labelled(vec![999]).unwrap().label(0), Some(999));
    }

    #[test]
    fn right_is_the_class_or_what_agrees_with_the_answer() {
        let images = Images::new(1, vec![1, 2, 3], None).unwrap();
        assert_eq!(images.is_right(0, &[1.0, 2.0]), None);
        let labelled = images.clone().labelled(vec![1, 0, 0]).unwrap();
        let right = |images: &Images, at| images.is_right(at, &[1.0, 2.0, 0.0, 0.0]);
        assert_eq!([0, 1].map(|at| right(&labelled, at)), [Some(true), Some(false)]);
        let parts = vec![Output { agreement: Agreement::NUMBERS, ..chain().outputs[0].clone() }];
        let expected = vec![vec![1.0, 2.0, 0.0, 0.0], vec![1.0, 3.0, 0.0, 0.0]];
        assert!(images.clone().answered(parts.clone(), expected.clone()).is_none(), "one short");
        let more = [expected, vec![vec![1.0, 2.01, 0.0, 0.0]]].concat();
        let mut answered = images.answered(parts, more).unwrap();
        assert_eq!([0, 1, 2].map(|at| right(&answered, at)), [Some(true), Some(false), Some(true)]);
        let rest = answered.split_off(1);
        assert_eq!(
            [right(&answered, 0), right(&rest, 0), right(&rest, 1)],
            [Some(true), Some(false), Some(true)]
        );
    }

    #[test]
    fn numbers_that_are_bytes_are_pictures() {
        let pictures = Images::from_floats(2, vec![0.0, 255.0, 7.0, 8.0]).unwrap();
        assert!(pictures.are_pixels() && *pictures.bytes(1) == [7, 8]);
        for other in [-1.0, 0.5, 256.0, -0.0, f32::NAN, f32::INFINITY] {
            let inputs = Images::from_floats(1, vec![3.0, other]).unwrap();
            assert!(!inputs.are_pixels() && *inputs.bytes(1) == other.to_le_bytes());
            assert_eq!(inputs.floats(1)[0].to_bits(), other.to_bits());
        }
        assert!(Images::from_floats(2, vec![0.5; 3]).is_none());
    }

    #[test]
    fn split_names_read_back() {
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert_eq!(split.to_string().parse(), Ok(split));
        }
        assert!("dev".parse::<Split>().is_err());
    }
}
