//! Statistics of samples. Raw samples are kept, so that any analysis can be redone.

use serde::{Deserialize, Serialize};

use coprof_core::units::{Micros, Share};

/// Durations as they were measured, in order; at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Micros>", into = "Vec<Micros>")]
pub struct Samples(Vec<Micros>);

/// The figures of some samples, under the JSON keys that every report uses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `sorted[floor(n * 0.5)]`.
    pub median: Micros,
    /// `sorted[floor(n * 0.9)]`.
    pub p90: Micros,
    /// Whether there were enough samples for `p90` to mean something.
    pub p90_settled: bool,
    /// Arithmetic mean.
    pub mean: Micros,
    /// Standard deviation of the sample (over `n - 1`); zero for one sample.
    pub stddev: Micros,
    /// How many samples.
    pub runs: usize,
}

impl Samples {
    /// Keeps raw durations; `None` when there is none, or one is not a number.
    pub fn new(raw: Vec<Micros>) -> Option<Self> {
        (!raw.is_empty() && raw.iter().all(|sample| sample.0.is_finite())).then_some(Self(raw))
    }

    /// The durations in the order in which they were measured.
    pub fn raw(&self) -> &[Micros] {
        &self.0
    }

    /// The percentile `p` (0 to 1) as `sorted[floor(n * p)]`, the last one for `p = 1`.
    pub fn percentile(&self, p: f64) -> Micros {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        sorted[((sorted.len() as f64 * p) as usize).min(sorted.len() - 1)]
    }

    /// The percentile 0.5.
    pub fn median(&self) -> Micros {
        self.percentile(0.5)
    }

    /// The shortest.
    pub fn min(&self) -> Micros {
        self.percentile(0.0)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> Micros {
        Micros(self.0.iter().copied().sum::<Micros>().0 / self.0.len() as f64)
    }

    /// The standard deviation of the sample; zero for one sample.
    pub fn stddev(&self) -> Micros {
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|&sample| (sample - mean).0.powi(2)).sum();
        Micros((squares / (self.0.len() - 1).max(1) as f64).sqrt())
    }

    /// All figures at once.
    pub fn summary(&self) -> Summary {
        Summary {
            median: self.median(),
            p90: self.percentile(0.9),
            p90_settled: enough_samples(0.9, self.0.len()),
            mean: self.mean(),
            stddev: self.stddev(),
            runs: self.0.len(),
        }
    }
}

impl TryFrom<Vec<Micros>> for Samples {
    type Error = &'static str;

    fn try_from(raw: Vec<Micros>) -> Result<Self, Self::Error> {
        Self::new(raw).ok_or("samples must be numbers, and at least one")
    }
}

impl From<Samples> for Vec<Micros> {
    fn from(samples: Samples) -> Self {
        samples.0
    }
}

/// Whether `n` samples are enough for the percentile `p` to be reported without a mark.
pub fn enough_samples(p: f64, n: usize) -> bool {
    let needed = match p {
        p if p >= 0.99 => 662,
        p if p >= 0.95 => 130,
        p if p >= 0.9 => 64,
        _ => 1,
    };
    n >= needed
}

/// Wilson's 95 % score interval for a share of which `part` of `whole` were counted; 0 to 1 of nothing.
pub fn wilson95(part: usize, whole: usize) -> [Share; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    if whole == 0 {
        return [Share(0.0), Share(1.0)];
    }
    let (n, p) = (whole as f64, part as f64 / whole as f64);
    let middle = p + Z * Z / (2.0 * n);
    let reach = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let [low, high] = [middle - reach, middle + reach].map(|bound| bound / (1.0 + Z * Z / n));
    // At shares of 0 and 1 a bound equals the share, but for rounding.
    [Share(low.clamp(0.0, p)), Share(high.clamp(p, 1.0))]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples::new(values.iter().copied().map(Micros).collect()).unwrap()
    }

    #[test]
    fn no_rounding_puts_a_share_outside_its_interval() {
        for whole in 1..200 {
            assert_eq!(wilson95(0, whole)[0], Share(0.0), "0 of {whole}");
            assert_eq!(wilson95(whole, whole)[1], Share(1.0), "{whole} of {whole}");
        }
    }

    #[test]
    fn figures_of_known_samples() {
        let summary = samples(&[4.0, 1.0, 3.0, 2.0]).summary();
        assert_eq!((summary.median, summary.p90, summary.mean), (Micros(3.0), Micros(4.0), Micros(2.5)));
        assert!((summary.stddev.0 - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!((summary.runs, summary.p90_settled), (4, false));
        assert_eq!(samples(&[7.0]).summary().stddev, Micros(0.0));
        let hundred: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(samples(&hundred).percentile(0.9), Micros(90.0));
        assert!(samples(&hundred).summary().p90_settled);
    }

    #[test]
    fn nothing_and_no_number_are_no_samples() {
        assert!(Samples::new(vec![]).is_none() && Samples::new(vec![Micros(f64::NAN)]).is_none());
        assert!(serde_json::from_str::<Samples>("[]").is_err());
        assert_eq!(serde_json::to_string(&samples(&[1.5, 2.0])).unwrap(), "[1.5,2.0]");
    }

    #[test]
    fn percentiles_need_their_samples() {
        for (p, n) in [(0.9, 64), (0.95, 130), (0.99, 662)] {
            assert!(enough_samples(p, n) && !enough_samples(p, n - 1));
        }
    }

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe (Statistics in Medicine, 1998), table I: 81 of 263, 15 of 148, 0 of 20.
        for (part, whole, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
        {
            let [found_low, found_high] = wilson95(part, whole);
            assert!(
                (found_low.0 - low).abs() < 5e-5 && (found_high.0 - high).abs() < 5e-5,
                "{part} of {whole}"
            );
        }
        assert_eq!(wilson95(0, 0), [Share(0.0), Share(1.0)]);
    }

    proptest! {
        #[test]
        fn figures_lie_among_the_samples(values in prop::collection::vec(0.0..1e9f64, 1..200), p in 0.0..=1.0f64) {
            let samples = samples(&values);
            let (min, max) = (samples.min(), samples.percentile(1.0));
            for figure in [samples.percentile(p), samples.median()] {
                prop_assert!(values.contains(&figure.0) && min <= figure && figure <= max);
            }
            let slack = 1e-9 * max.0;
            prop_assert!(min.0 - slack <= samples.mean().0 && samples.mean().0 <= max.0 + slack);
            prop_assert!(samples.percentile(p / 2.0) <= samples.percentile(p));
            let below = values.iter().filter(|&&value| value < samples.percentile(p).0).count();
            prop_assert!(below as f64 <= values.len() as f64 * p + 1e-9);
        }

        #[test]
        fn order_does_not_matter(mut values in prop::collection::vec(0.0..1e6f64, 1..50)) {
            let before = samples(&values).summary();
            values.reverse();
            let after = samples(&values).summary();
            prop_assert_eq!((before.median, before.p90, before.runs), (after.median, after.p90, after.runs));
        }

        #[test]
        fn wilson_holds_the_share_and_narrows(part in 0usize..500, rest in 0usize..500) {
            let whole = part + rest + 1;
            let [low, high] = wilson95(part, whole);
            let share = Share::of(part, whole);
            prop_assert!(low <= share && share <= high);
            let [tight_low, tight_high] = wilson95(part * 10, whole * 10);
            prop_assert!(tight_high.0 - tight_low.0 < high.0 - low.0);
        }
    }
}
