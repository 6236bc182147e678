//! Pictures as bytes, with their labels.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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

/// Pictures of one size, channel by channel and row by row, one byte a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub(super) picture_bytes: usize,
    pub(super) pixels: Vec<u8>,
    pub(super) labels: Option<Vec<u8>>,
}

impl Images {
    /// Pictures of `picture_bytes` each, with as many labels where they are known. `None` when the sizes do not fit.
    pub fn new(picture_bytes: usize, pixels: Vec<u8>, labels: Option<Vec<u8>>) -> Option<Self> {
        let whole = picture_bytes > 0 && pixels.len().is_multiple_of(picture_bytes);
        let labelled = labels.as_ref().is_none_or(|labels| labels.len() * picture_bytes == pixels.len());
        (whole && labelled).then_some(Self { picture_bytes, pixels, labels })
    }

    /// How many pictures.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.picture_bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The bytes of picture `i`.
    pub fn pixels(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.picture_bytes..][..self.picture_bytes]
    }

    /// The class of picture `i`; `None` for made-up pictures.
    pub fn label(&self, i: usize) -> Option<u8> {
        self.labels.as_ref().map(|labels| labels[i])
    }

    /// Picture `i` as the numbers 0 to 255, which is how models take it; replaces what `into` held.
    pub fn read_into(&self, i: usize, into: &mut Vec<f32>) {
        into.clear();
        into.extend(self.pixels(i).iter().map(|&byte| f32::from(byte)));
    }

    /// Picture `i` as the numbers 0 to 255.
    pub fn floats(&self, i: usize) -> Vec<f32> {
        let mut values = Vec::new();
        self.read_into(i, &mut values);
        values
    }

    /// Only the first `n` pictures.
    pub fn truncate(&mut self, n: usize) {
        self.pixels.truncate(n * self.picture_bytes);
        if let Some(labels) = &mut self.labels {
            labels.truncate(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_labels_must_fit() {
        assert!(Images::new(3, vec![0; 7], None).is_none());
        assert!(Images::new(3, vec![0; 6], Some(vec![1])).is_none());
        assert!(Images::new(0, vec![], None).is_none());
        let mut images = Images::new(3, vec![0, 1, 2, 3, 4, 255], Some(vec![7, 8])).unwrap();
        assert_eq!((images.len(), images.pixels(1), images.label(1)), (2, &[3, 4, 255][..], Some(8)));
        assert_eq!(images.floats(1), [3.0, 4.0, 255.0]);
        images.truncate(1);
        assert_eq!((images.len(), images.label(0)), (1, Some(7)));
    }

    #[test]
    fn split_names_read_back() {
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert_eq!(split.to_string().parse(), Ok(split));
        }
        assert!("dev".parse::<Split>().is_err());
    }
}
