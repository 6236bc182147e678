//! What one exit answers for each sample: whether it is right, and how sure it is. The joint record of all exits keeps
//! samples apart, so that shares and accuracies are counts, never products of marginals.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plan::Threshold;
use crate::units::Share;

/// A set of samples, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleSet {
    words: Vec<u64>,
}

impl SampleSet {
    /// The samples for which `member` holds.
    pub fn of(samples: usize, member: impl Fn(usize) -> bool) -> Self {
        // Whole words without branches: which samples are members cannot be foreseen.
        let word = |first: usize| {
            let bits = (samples - first).min(64);
            (0..bits).fold(0u64, |word, bit| word | u64::from(member(first + bit)) << bit)
        };
        Self { words: (0..samples).step_by(64).map(word).collect() }
    }

    /// How many samples are in it.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many samples are in both.
    pub fn count_and(&self, other: &Self) -> usize {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }

    /// How many samples are in all three.
    pub fn count_and_both(&self, b: &Self, c: &Self) -> usize {
        let words = self.words.iter().zip(&b.words).zip(&c.words);
        words.map(|((a, b), c)| (a & b & c).count_ones() as usize).sum()
    }

    /// The samples that are in this set but not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self { words: self.words.iter().zip(&other.words).map(|(a, b)| a & !b).collect() }
    }

    /// The bits of all samples, 64 a word.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// 1 for a sample that is in it, 0 for another of those that it was made of.
    #[inline]
    pub fn bit(&self, sample: usize) -> u64 {
        self.words[sample / 64] >> (sample % 64) & 1
    }

    /// Whether a sample is in it.
    pub fn contains(&self, sample: usize) -> bool {
        self.words.get(sample / 64).is_some_and(|word| word >> (sample % 64) & 1 == 1)
    }
}

/// What one exit answers, sample by sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcomes {
    right: SampleSet,
    entropy: Vec<f32>,
}

impl Outcomes {
    /// `right[i]` and normalised `entropy[i]` of sample `i`. `None` unless both are of one length.
    pub fn new(right: &[bool], entropy: Vec<f32>) -> Option<Self> {
        (right.len() == entropy.len())
            .then(|| Self { right: SampleSet::of(right.len(), |sample| right[sample]), entropy })
    }

    /// The same of these samples alone, in this order.
    #[must_use]
    pub fn only(&self, samples: &[usize]) -> Self {
        Self {
            right: SampleSet::of(samples.len(), |at| self.right.contains(samples[at])),
            entropy: samples.iter().map(|&sample| self.entropy[sample]).collect(),
        }
    }

    /// Whether these are the first of `others`.
    pub fn is_start_of(&self, others: &Self) -> bool {
        let is_same = |sample| self.right.contains(sample) == others.right.contains(sample);
        others.entropy.starts_with(&self.entropy) && (0..self.len()).all(is_same)
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.entropy.len()
    }

    /// Whether it holds no sample.
    pub fn is_empty(&self) -> bool {
        self.entropy.is_empty()
    }

    /// Every sample so many times, all of them one time after the other.
    #[must_use]
    pub(super) fn repeated(&self, times: usize) -> Self {
        let samples = self.len();
        Self {
            right: SampleSet::of(samples * times, |sample| self.right.contains(sample % samples)),
            entropy: self.entropy.repeat(times),
        }
    }

    /// The samples that this exit gets right.
    pub fn right(&self) -> &SampleSet {
        &self.right
    }

    /// How many samples this exit gets right.
    pub fn right_count(&self) -> usize {
        self.right.count()
    }

    /// The normalised entropy of every sample.
    pub fn entropies(&self) -> &[f32] {
        &self.entropy
    }

    /// The normalised entropy of a sample.
    pub fn entropy(&self, sample: usize) -> Share {
        Share(f64::from(self.entropy[sample]))
    }

    /// The samples that would leave at this threshold.
    pub fn leaving(&self, threshold: Threshold) -> SampleSet {
        match threshold {
            Threshold::Never => SampleSet::of(self.len(), |_| false),
            Threshold::Always => SampleSet::of(self.len(), |_| true),
            Threshold::Entropy(_) => {
                SampleSet::of(self.len(), |sample| threshold.passes(self.entropy(sample)))
            }
        }
    }

    /// The entropies below which the given shares of all samples lie: a threshold grid with even steps in exit share.
    pub fn entropy_quantiles(&self, steps: usize) -> Vec<Threshold> {
        let mut sorted = self.entropy.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut grid: Vec<f32> =
            (1..steps).map(|step| sorted[(sorted.len() * step / steps).min(sorted.len() - 1)]).collect();
        grid.dedup();
        grid.into_iter().map(|entropy| Threshold::Entropy(Share(f64::from(entropy)))).collect()
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    /// One digit a sample, 1 where the exit is right.
    right: String,
    /// Left out where all are zero: the final exit's, which nobody asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entropy: Vec<f32>,
}

impl Serialize for Outcomes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let right =
            (0..self.len()).map(|sample| if self.right.contains(sample) { '1' } else { '0' }).collect();
        let asked = self.entropy.iter().any(|&entropy| entropy != 0.0);
        let entropy = if asked { self.entropy.clone() } else { Vec::new() };
        Document { right, entropy }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Outcomes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let document = Document::deserialize(deserializer)?;
        if document.right.bytes().any(|digit| digit != b'0' && digit != b'1') {
            return Err(D::Error::custom("`right` must be a text of the digits 0 and 1"));
        }
        if document.entropy.iter().any(|entropy| !(0.0..=1.0).contains(entropy)) {
            return Err(D::Error::custom("every normalised entropy must lie in 0 to 1"));
        }
        let right: Vec<bool> = document.right.bytes().map(|digit| digit == b'1').collect();
        let zeros = vec![0.0; if document.entropy.is_empty() { right.len() } else { 0 }];
        Self::new(&right, [document.entropy, zeros].concat())
            .ok_or_else(|| D::Error::custom("`right` and `entropy` must hold the same number of samples"))
    }
}

/// A count of parts beyond this might not fit into 32 bits with its sign.
pub(super) const MOST_PARTS: u64 = 1 << 30;

/// The least common multiple of two numbers of samples.
pub(super) fn parts(few: usize, more: usize) -> u64 {
    let (mut a, mut b) = (few, more);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    (few / a.max(1)) as u64 * more as u64
}
