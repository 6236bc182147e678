//! How well a prediction is known: 95 % intervals by the bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap",
//! 1993, chapters 8 and 13), as percentiles of replicates. Every replicate draws anew
//!
//! - per node its speed: the mean of one stretch of its whole models, as long as a replay, over the mean of some short ones, as
//!   those that its times rest on (moving blocks: Künsch, "The jackknife and the bootstrap for general stationary
//!   observations", 1989, section 2.3). Layers that ran one after another are slow together, so that single timings must not be
//!   drawn independently;
//! - per link the level of its time-against-size line: one of the measured streams over the line, as a replay is one more stream;
//! - the images, with their exits and answers.
//!
//! All draws come from one seed: the same scenario and plan give the same intervals.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::outcomes::Outcomes;
use super::plan::Plan;
use super::predict::{Interval95, Prediction, in_pipeline, paused, predict_in, slowest};
use super::problem::Problem;
use super::script::{Passage, Script};
use super::space::Space;
use crate::error::Result;
use crate::units::{Micros, Share};

const REPLICATES: usize = 400;
const SEED: u64 = 0x636f_7072_6f66;
/// The share of the time that a node was watched for that stands for a replay.
const STRETCH: usize = 4;
/// So many moments, each some whole models long, are what a node's times rest on.
const WINDOWS: usize = 4;

/// A prediction of this plan with its intervals.
pub fn with_intervals(scenario: &Problem, plan: &Plan) -> Result<Prediction> {
    let space = Space::new(scenario)?;
    let mut prediction = predict_in(&space, plan)?;
    let images = Images::new(&space, plan)?;
    let mut random = Pcg64::seed_from_u64(SEED);
    let replicates: Vec<Replicate> =
        (0..REPLICATES).map(|_| replicate(scenario, &prediction, &images, &mut random)).collect();
    let between = |figure: &dyn Fn(&Replicate) -> f64| middle95(replicates.iter().map(figure).collect());
    prediction.interval95 = Some(Interval95 {
        rate_per_s: between(&|replicate| 1e6 / replicate.interval),
        latency_us: between(&|replicate| replicate.latency).map(Micros),
        accuracy: between(&|replicate| replicate.accuracy.clamp(0.0, 1.0)).map(Share),
        stages_us: (0..prediction.stages.len())
            .map(|stage| between(&|replicate| replicate.stages[stage]).map(Micros))
            .collect(),
    });
    Ok(prediction)
}

struct Replicate {
    interval: f64,
    latency: f64,
    accuracy: f64,
    stages: Vec<f64>,
}

fn replicate(scenario: &Problem, prediction: &Prediction, images: &Images, random: &mut Pcg64) -> Replicate {
    let drawn = images.draw(random);
    let stages = prediction.stages.len();
    let factors: Vec<f64> = (0..stages)
        .map(|stage| match stage % 2 {
            0 => speed(&scenario.nodes[stage / 2].speeds, random),
            _ => level(&scenario.links[stage / 2].spread, random),
        })
        .collect();
    let parts: Vec<Micros> =
        drawn.stages.iter().zip(factors).map(|(time, factor)| Micros(time * factor)).collect();
    let stages = in_pipeline(&prediction.nodes, prediction.contention, &parts);
    let alone = parts.iter().copied().sum::<Micros>() + paused(&prediction.nodes, &parts);
    Replicate {
        interval: slowest(&stages, prediction.one_core).0.0,
        latency: drawn.travel + alone.0,
        accuracy: drawn.accuracy,
        stages: stages.iter().map(|time| time.0).collect(),
    }
}

/// What a plan does with each image.
struct Images {
    /// Per image its time at each stage, what it travels besides, and what its encoding changes: right answers more or less.
    passages: Vec<(Vec<f64>, f64, f64)>,
    /// Per image that is known uncut, whether its answer is right under the plan's thresholds.
    uncut: Vec<bool>,
}

struct Drawn {
    stages: Vec<f64>,
    travel: f64,
    accuracy: f64,
}

impl Images {
    fn new(space: &Space<'_>, plan: &Plan) -> Result<Self> {
        let (scenario, script) = (space.scenario, Script::new(space, plan)?);
        let uncut = |outcomes: &[Outcomes], sample: usize| {
            let leaves = plan.exits.iter().zip(outcomes).find(|(exit, outcomes)| {
                exit.threshold.is_on() && exit.threshold.passes(outcomes.entropy(sample))
            });
            leaves.is_some_and(|(_, outcomes)| outcomes.right().contains(sample))
        };
        let passage = |sample: usize| {
            let Passage { service, travel, right, .. } = script.follow(sample)?;
            let changed = f64::from(u8::from(right)) - f64::from(u8::from(uncut(&scenario.outcomes, sample)));
            Ok((service.into_iter().map(|time| time.0).collect(), travel.0, changed))
        };
        let more =
            if scenario.uncut_outcomes.is_empty() { &scenario.outcomes } else { &scenario.uncut_outcomes };
        let samples = more.first().map_or(0, Outcomes::len);
        Ok(Self {
            passages: (0..scenario.samples()).map(passage).collect::<Result<_>>()?,
            uncut: (0..samples).map(|sample| uncut(more, sample)).collect(),
        })
    }

    fn draw(&self, random: &mut Pcg64) -> Drawn {
        let stages = self.passages.first().map_or(0, |(stages, ..)| stages.len());
        let mut drawn = Drawn { stages: vec![0.0; stages], travel: 0.0, accuracy: 0.0 };
        let share = 1.0 / self.passages.len() as f64;
        for _ in 0..self.passages.len() {
            let (stages, travel, changed) = &self.passages[below(self.passages.len(), random)];
            drawn.stages.iter_mut().zip(stages).for_each(|(sum, time)| *sum += time * share);
            drawn.travel += travel * share;
            drawn.accuracy += changed * share;
        }
        let right = (0..self.uncut.len()).filter(|_| self.uncut[below(self.uncut.len(), random)]).count();
        drawn.accuracy += Share::of(right, self.uncut.len()).0;
        drawn
    }
}

/// A number below `end`, which is not 0.
fn below(end: usize, random: &mut Pcg64) -> usize {
    // 64 bits times a small number: the bias is beyond measure.
    ((u128::from(random.next_u64()) * end as u128) >> 64) as usize
}

/// How much slower than on average a node may be in a replay.
fn speed(speeds: &[f64], random: &mut Pcg64) -> f64 {
    let n = speeds.len();
    if n < 2 {
        return 1.0;
    }
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        sum / f64::from(count)
    };
    // Around the end, so that all stand in as many blocks.
    let block = |random: &mut Pcg64, length: usize| {
        let start = below(n, random);
        (0..length).map(move |at| speeds[(start + at) % n])
    };
    let known = mean(&mut (0..WINDOWS).flat_map(|_| block(random, 2)));
    let replayed = mean(&mut block(random, n.div_ceil(STRETCH)));
    replayed / known
}

/// How much slower than its line a link may be.
fn level(spread: &[f64], random: &mut Pcg64) -> f64 {
    if spread.is_empty() { 1.0 } else { spread[below(spread.len(), random)] }
}

/// The 2.5th and the 97.5th percentile.
fn middle95(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() as f64 * share) as usize).min(values.len() - 1)];
    [at(0.025), at(0.975)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::brute_force::random_scenario;
    use super::super::search;
    use super::*;

    #[test]
    fn a_steady_node_is_known_and_an_unsteady_one_is_not() {
        let mut random = Pcg64::seed_from_u64(1);
        assert_eq!(speed(&[1.0; 100], &mut random), 1.0);
        // Half of the time 1.5 times as slow, for long: a replay may meet either.
        let two: Vec<f64> = (0..100).map(|at| if at < 50 { 0.8 } else { 1.2 }).collect();
        let drawn = middle95((0..1000).map(|_| speed(&two, &mut random)).collect());
        assert!(drawn[0] < 0.9 && drawn[1] > 1.1, "{drawn:?}");
        assert_eq!((speed(&[], &mut random), level(&[], &mut random)), (1.0, 1.0));
    }

    #[test]
    fn more_images_tell_accuracy_better() {
        let width = |samples: usize| {
            let images = Images {
                passages: vec![(vec![1.0], 0.0, 0.0); samples],
                uncut: (0..samples).map(|at| at % 5 > 0).collect(),
            };
            let mut random = Pcg64::seed_from_u64(2);
            let [low, high] = middle95((0..400).map(|_| images.draw(&mut random).accuracy).collect());
            assert!(low < 0.8 && high > 0.8);
            high - low
        };
        // 1.96 standard errors of 0.4 / sqrt(n) on either side.
        let expected = |samples: f64| 2.0 * 1.96 * 0.4 / samples.sqrt();
        assert!((width(100) / expected(100.0) - 1.0).abs() < 0.2);
        assert!((width(2500) / expected(2500.0) - 1.0).abs() < 0.2);
    }

    proptest! {
        #[test]
        fn figures_lie_in_their_intervals_and_do_not_change(seed in 0u64..500, nodes in 2usize..4) {
            let scenario = random_scenario(seed, nodes);
            let Ok(found) = search(&scenario) else { return Ok(()) };
            let prediction = with_intervals(&scenario, &found.best.plan).unwrap();
            let interval = prediction.interval95.clone().unwrap();
            prop_assert_eq!(&Prediction { interval95: None, ..prediction.clone() }, &found.best.prediction);
            let slack = 1e-9;
            prop_assert!(interval.latency_us[0].0 <= interval.latency_us[1].0 + slack);
            prop_assert!(interval.rate_per_s[0] <= interval.rate_per_s[1]);
            let [low, high] = interval.accuracy;
            prop_assert!(low.0 <= prediction.accuracy.0 + slack && prediction.accuracy.0 <= high.0 + slack);
            prop_assert_eq!(with_intervals(&scenario, &found.best.plan).unwrap(), prediction);
        }
    }
}
