//! When tasks arrive, and which sample each of them is: all that is random in a simulation.

use std::fmt;
use std::str::FromStr;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::workload::{Class, Workload};
use crate::error::{Error, Result};

/// The most tasks in flight; the warm-up is at least as long.
const MAX_IN_FLIGHT: usize = 10_000;

/// Arrival rates that are neither typing errors nor beyond the resolution of the clock.
const RATES_PER_S: std::ops::RangeInclusive<f64> = 1e-3..=1e9;

/// How tasks come. On the command line and in documents: `closed:4`, `rate:30`, `poisson:30`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// A fresh task starts as soon as the first stage is free and fewer than so many are unanswered.
    Closed {
        /// The most tasks under way.
        in_flight: usize,
    },
    /// Tasks come at this mean rate, whatever the state of the pipeline.
    Open {
        /// How they are spaced.
        spacing: Spacing,
        /// Their mean rate.
        rate_per_s: f64,
    },
}

/// How the tasks of an open stream are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly, as a camera's frames.
    Periodic,
    /// Independently of each other, with exponential gaps: many unrelated users.
    Poisson,
}

impl Arrival {
    /// Whether the numbers make sense.
    pub fn check(self) -> Result<Self> {
        match self {
            Self::Closed { in_flight } if !(1..=MAX_IN_FLIGHT).contains(&in_flight) => Err(Error::usage(
                format!("1 to {MAX_IN_FLIGHT} tasks in flight were expected, found {in_flight}"),
            )),
            Self::Open { rate_per_s, .. } if !RATES_PER_S.contains(&rate_per_s) => {
                Err(Error::usage(format!(
                    "an arrival rate of {} to {:.0e} tasks per second was expected, found {rate_per_s}",
                    RATES_PER_S.start(),
                    RATES_PER_S.end()
                )))
            }
            sane => Ok(sane),
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { in_flight } => write!(f, "closed:{in_flight}"),
            Self::Open { spacing: Spacing::Periodic, rate_per_s } => write!(f, "rate:{rate_per_s}"),
            Self::Open { spacing: Spacing::Poisson, rate_per_s } => write!(f, "poisson:{rate_per_s}"),
        }
    }
}

impl FromStr for Arrival {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "closed:N (N tasks in flight), rate:R (R per second, evenly spaced) or poisson:R was expected, \
                 found '{text}'"
            ))
        };
        let (kind, number) = text.split_once(':').ok_or_else(wrong)?;
        let spacing = match kind {
            "closed" => {
                return Self::Closed { in_flight: number.parse().map_err(|_| wrong())? }.check();
            }
            "rate" => Spacing::Periodic,
            "poisson" => Spacing::Poisson,
            _ => return Err(wrong()),
        };
        Self::Open { spacing, rate_per_s: number.parse().map_err(|_| wrong())? }.check()
    }
}

impl Serialize for Arrival {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Arrival {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A seeded stream of random numbers. The generator is PCG XSL RR 128/64, whose output its crate keeps across versions;
/// what is derived from it (shuffle, exponential gaps) is written out here, so that a seed means the same for good.
struct Random(Pcg64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    /// A number below `bound`, from the high half of a product; off from uniform by less than `bound / 2^64`.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Fisher–Yates.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Exponential with mean one, by inversion; `u < 1`, so the logarithm is finite.
    fn exponential(&mut self) -> f64 {
        let u = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        -(-u).ln_1p()
    }
}

/// At least so many tasks are measured, so that 1000 of them lie above the 99th percentile.
const MEASURED: usize = 100_000;

/// The tasks of a run, in order of arrival.
///
/// - Measured: each sample equally often, as many times as it takes to reach [`MEASURED`] tasks, in shuffled order. The
///   mix of classes is thus exactly the validation split's; only its order is random.
/// - Before them the warm-up, not measured: a tenth as many, and at least as many as can be in flight, drawn at random.
pub(super) struct Tasks<'a> {
    /// Warm-up first.
    pub classes: Vec<&'a Class>,
    /// How many belong to the warm-up.
    pub warm_up: usize,
}

impl<'a> Tasks<'a> {
    /// Draws the tasks and, where they come on their own, their times of arrival in units of the mean gap.
    ///
    /// The measured tasks are drawn first, so that runs with the same seed share them whatever the arrival.
    pub fn draw(workload: &'a Workload, arrival: Arrival, seed: u64) -> (Self, Vec<f64>) {
        let random = &mut Random::new(seed);
        let copies = MEASURED.div_ceil(workload.samples());
        let repeat = |class: &'a Class| std::iter::repeat_n(class, class.samples * copies);
        let mut measured: Vec<&Class> = workload.classes().iter().flat_map(repeat).collect();
        random.shuffle(&mut measured);
        let in_flight = if let Arrival::Closed { in_flight } = arrival { in_flight } else { 0 };
        let warm_up = (measured.len() / 10).max(in_flight);
        let mut classes: Vec<&Class> = (0..warm_up).map(|_| measured[random.below(measured.len())]).collect();
        classes.append(&mut measured);
        let unit_arrivals = match arrival {
            Arrival::Closed { .. } => Vec::new(),
            Arrival::Open { spacing, .. } => unit_arrivals(spacing, classes.len(), random),
        };
        (Self { classes, warm_up }, unit_arrivals)
    }
}

fn unit_arrivals(spacing: Spacing, tasks: usize, random: &mut Random) -> Vec<f64> {
    let mut now = 0.0;
    let poisson = |_| {
        now += random.exponential();
        now
    };
    match spacing {
        Spacing::Periodic => (0..tasks).map(|task| task as f64).collect(),
        Spacing::Poisson => (0..tasks).map(poisson).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Micros;

    #[test]
    fn arrivals_read_as_they_are_written() {
        for (text, arrival) in [
            ("closed:4", Arrival::Closed { in_flight: 4 }),
            ("rate:30", Arrival::Open { spacing: Spacing::Periodic, rate_per_s: 30.0 }),
            ("rate:29.97", Arrival::Open { spacing: Spacing::Periodic, rate_per_s: 29.97 }),
            ("poisson:0.5", Arrival::Open { spacing: Spacing::Poisson, rate_per_s: 0.5 }),
        ] {
            assert_eq!(text.parse(), Ok(arrival));
            assert_eq!(arrival.to_string(), text);
            let json = serde_json::to_string(&arrival).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Arrival>(&json).unwrap(), arrival);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for text in [
            "",
            "4",
            "closed",
            "closed:",
            "closed:1.5",
            "closed:-1",
            "rate:",
            "rate:fast",
            "burst:3",
            "rate:3:4",
        ] {
            let error = text.parse::<Arrival>().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(
                error.to_string().contains(&format!("poisson:R was expected, found '{text}'")),
                "{error}"
            );
        }
        for (text, words) in [
            ("closed:0", "1 to 10000 tasks in flight were expected, found 0"),
            ("closed:10001", "found 10001"),
            ("rate:0", "an arrival rate of 0.001 to 1e9 tasks per second was expected, found 0"),
            ("rate:-3", "found -3"),
            ("poisson:NaN", "found NaN"),
            ("poisson:inf", "found inf"),
        ] {
            let error = text.parse::<Arrival>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(serde_json::from_str::<Arrival>(&format!("\"{text}\"")).is_err());
        }
    }

    /// A change here changes every saved simulation: a seed must mean the same for good.
    #[test]
    fn a_seed_means_the_same_for_good() {
        let random = &mut Random::new(7);
        let mut items: Vec<u8> = (0..10).collect();
        random.shuffle(&mut items);
        assert_eq!(items, [4, 1, 3, 9, 6, 8, 5, 7, 2, 0]);
        let gap = random.exponential();
        assert!((gap - 0.838_560_982_871_766_8).abs() < 1e-12, "{gap}");
    }

    #[test]
    fn gaps_are_exponential() {
        let random = &mut Random::new(1);
        let n = 100_000;
        let gaps: Vec<f64> = (0..n).map(|_| random.exponential()).collect();
        // Kolmogorov–Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand seeds.
        let mut sorted = gaps.clone();
        sorted.sort_by(f64::total_cmp);
        let distance = sorted.iter().enumerate().map(|(rank, gap)| {
            let expected = 1.0 - (-gap).exp();
            (expected - rank as f64 / n as f64).abs().max((expected - (rank + 1) as f64 / n as f64).abs())
        });
        let distance = distance.fold(0.0, f64::max);
        assert!(distance < 1.95 / f64::from(n).sqrt(), "{distance}");
        // Independent: the correlation of neighbours has standard deviation 1 / sqrt(n).
        let neighbours =
            gaps.windows(2).map(|pair| (pair[0] - 1.0) * (pair[1] - 1.0)).sum::<f64>() / f64::from(n);
        assert!(neighbours.abs() < 4.0 / f64::from(n).sqrt(), "{neighbours}");
    }

    #[test]
    fn every_sample_is_measured_equally_often() {
        let class = |samples: usize| Class {
            samples,
            service_us: vec![Micros(samples as f64)],
            delay_us: Micros::ZERO,
        };
        let workload = Workload::new(vec!["device".into()], vec![class(1), class(0), class(6_999)]).unwrap();
        for (arrival, expected_warm_up) in
            [("closed:4", 10_500), ("closed:10000", 10_500), ("rate:30", 10_500)]
        {
            let (tasks, times) = Tasks::draw(&workload, arrival.parse().unwrap(), 3);
            assert_eq!(tasks.warm_up, expected_warm_up);
            assert_eq!(times.len(), if arrival == "rate:30" { tasks.classes.len() } else { 0 });
            let measured = &tasks.classes[tasks.warm_up..];
            assert_eq!(measured.len(), 105_000);
            assert_eq!(measured.iter().filter(|class| class.samples == 1).count(), 15);
        }
    }

    #[test]
    fn arrivals_share_the_measured_tasks() {
        let class = |samples: usize| Class { samples, service_us: vec![Micros(1.0)], delay_us: Micros::ZERO };
        let workload = Workload::new(vec!["device".into()], vec![class(3), class(4)]).unwrap();
        let order = |arrival: &str, seed: u64| -> Vec<usize> {
            let (tasks, _) = Tasks::draw(&workload, arrival.parse().unwrap(), seed);
            tasks.classes[tasks.warm_up..].iter().map(|class| class.samples).collect()
        };
        assert_eq!(order("closed:9000", 1), order("poisson:3", 1));
        assert_ne!(order("poisson:3", 1), order("poisson:3", 2));
    }
}
