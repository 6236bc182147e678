//! Accuracy with a guarantee. A search that picks the fastest of millions of plans among those that reach a floor on some images
//! picks the lucky ones: on other images they reach less.
//!
//! Here half of the images choose, and the other half certify. The first half's Pareto front becomes a sequence of plans, from the
//! most accurate one to ever faster ones. On the other half each is tested in this order against "its true accuracy is below the
//! floor" by the exact binomial test, until the first one that is not certain enough (fixed-sequence testing: Angelopoulos, Bates,
//! Candès, Jordan, Lei: "Learn then Test", 2021, section 3.2). With the confidence asked for *all* plans before that one keep the
//! floor, however many there were to choose from, so the best of them may be taken.
//!
//! The alternative is one test per configuration on all images, each at a share of the error (Bonferroni): with ten million
//! configurations and 5,000 images it certifies only what lies 2.3 points above the floor, where this one needs 1.0.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use statrs::function::beta::beta_reg;

use super::outcomes::{MOST_PARTS, parts};
use super::pareto::Point;
use super::plan::Plan;
use super::predict::predict_in;
use super::problem::Problem;
use super::scenario::AccuracyBasis;
use super::search::{FrontPlan, Predicted, pareto_front};
use super::select::Criteria;
use super::space::Space;
use super::tally::Tally;
use crate::error::{Error, Result};
use crate::units::Share;

/// Which images choose is drawn once and for all: the same scenario always gives the same plan.
const SEED: u64 = 0x6c74_7400;

/// What is certain of a plan's accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guarantee {
    /// The probability, over the draw of the images that certify, that no plan is given out that misses the floor.
    pub confidence: Share,
    /// The floor that the plan's true accuracy is not below.
    pub accuracy: Share,
    /// Images that the plan was chosen on.
    pub chosen_on: usize,
    /// Images that certified it, none of which it was chosen on.
    pub certified_on: usize,
    /// The share of these that it answers right.
    pub right: Share,
    /// Plans that were tested one after the other, up to the first one that did not pass or the last one.
    pub tested: usize,
}

/// A plan whose accuracy is certain.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The plan, with what it would do by all images.
    pub predicted: Predicted,
    /// What is certain.
    pub guarantee: Guarantee,
}

/// Plans that keep the scenario's accuracy floor with its `confidence`, all of them at once, best first. `None` where the scenario
/// asks for no confidence. A floor that is not given is a point under the uncut model on the images that choose.
pub fn certify(scenario: &Problem) -> Result<Option<Vec<Certified>>> {
    let Some(confidence) = scenario.constraints.confidence else { return Ok(None) };
    let halves = Halves::of(scenario)?;
    let floor = halves.choosing.accuracy_floor();
    let any_accuracy = halves.choosing.varied(|file| file.constraints.min_accuracy = Some(Share(0.0)));
    let (uncut, lossy) = (Space::new(&halves.uncut)?, Space::new(&halves.lossy)?);
    let (mut passed, mut tested, mut nearest) = (Vec::new(), 0, None);
    for plan in sequence(&any_accuracy, &pareto_front(&any_accuracy, None)?.plans) {
        let held_out = HeldOut::of(if is_lossy(&plan) { &lossy } else { &uncut }, &plan)?;
        tested += 1;
        if held_out.chance_below(floor) > 1.0 - confidence.0 {
            nearest = passed.is_empty().then_some(held_out);
            break;
        }
        passed.push((plan, held_out));
    }
    let space = Space::new(scenario)?;
    let mut certified = Vec::new();
    for (plan, held_out) in passed.into_iter().rev() {
        let prediction = predict_in(&space, &plan)?;
        let guarantee = Guarantee {
            confidence,
            accuracy: floor,
            chosen_on: halves.chosen_on,
            certified_on: held_out.samples,
            right: held_out.accuracy(),
            tested,
        };
        certified.push(Certified { predicted: Predicted { plan, prediction }, guarantee });
    }
    certified.retain(|plan| meets_times(scenario, &plan.predicted));
    if certified.is_empty() { Err(uncertain(confidence, floor, nearest)) } else { Ok(Some(certified)) }
}

fn is_lossy(plan: &Plan) -> bool {
    plan.links.iter().flatten().any(|link| !link.encoding.is_lossless())
}

/// The images that choose are fewer than all, and say something else of times, too.
fn meets_times(scenario: &Problem, Predicted { prediction, .. }: &Predicted) -> bool {
    let criteria = Criteria { min_right: 0, ..Criteria::of(scenario) };
    criteria.is_met(prediction.interval_us.0, prediction.latency_us.0, 0)
}

fn uncertain(confidence: Share, floor: Share, nearest: Option<HeldOut>) -> Error {
    let asked =
        format!("no plan is certain to keep an accuracy of {floor} with a confidence of {confidence}");
    Error::unmet(match nearest {
        Some(HeldOut { right, samples }) => format!(
            "{asked}\nthe most accurate one is right on {right} of the {samples} samples that it was not chosen on; more samples, a \
             lower floor or less confidence would do"
        ),
        None => format!("{asked} together with the other constraints"),
    })
}

/// The plans to test, in this order: for a floor that sinks over all accuracies, the best plan above it, as long as it is better
/// than the one before by more than a tie.
fn sequence(scenario: &Problem, front: &[FrontPlan]) -> Vec<Plan> {
    let (criteria, tally) = (Criteria::of(scenario), Tally::of(scenario));
    let point = |(config, plan): (usize, &FrontPlan)| Point {
        interval: 1e6 / plan.rate_per_s,
        latency: plan.latency_us.0,
        right: tally.parts_in(plan.accuracy),
        config,
    };
    let points: Vec<Point<usize>> = front.iter().enumerate().map(point).collect();
    let mut floors: Vec<u32> = points.iter().map(|point| point.right).collect();
    floors.sort_unstable_by(|a, b| b.cmp(a));
    floors.dedup();
    let mut chosen: Vec<Point<usize>> = Vec::new();
    for min_right in floors {
        let Some(best) = (Criteria { min_right, ..criteria }).pick(&points) else { continue };
        let first = |point: &Point<usize>| criteria.figures(point.interval, point.latency, point.right)[0];
        let is_better = |last: &Point<usize>| criteria.tied_with(first(&best)) < first(last);
        if chosen.last().is_none_or(is_better) {
            chosen.push(best);
        }
    }
    chosen.into_iter().map(|point| front[point.config].plan.clone()).collect()
}

/// What a plan does on images that it was not chosen on.
#[derive(Clone, Copy, Debug)]
struct HeldOut {
    right: usize,
    samples: usize,
}

impl HeldOut {
    fn of(images: &Space<'_>, plan: &Plan) -> Result<Self> {
        let right = Tally::of(images.scenario).parts_in(predict_in(images, plan)?.accuracy);
        Ok(Self { right: right as usize, samples: images.scenario.samples() })
    }

    fn accuracy(self) -> Share {
        Share::of(self.right, self.samples)
    }

    /// The probability of so many right answers or more, were the true accuracy the floor: the p-value of the exact binomial test.
    fn chance_below(self, floor: Share) -> f64 {
        match (self.right, floor.0) {
            (0, _) => 1.0,
            (_, floor) if floor <= 0.0 => 0.0,
            (_, floor) if floor >= 1.0 => 1.0,
            // A sum of binomial probabilities (Abramowitz and Stegun, 26.5.24).
            (right, floor) => beta_reg(right as f64, (self.samples - right + 1) as f64, floor),
        }
    }
}

/// A scenario's images, one half to choose plans on and one to certify them.
struct Halves {
    choosing: Problem,
    chosen_on: usize,
    /// For plans that change no answer by what they send: all images that are known uncut.
    uncut: Problem,
    /// For the others: images that are known behind encodings.
    lossy: Problem,
}

impl Halves {
    fn of(scenario: &Problem) -> Result<Self> {
        let samples = scenario.samples();
        if !matches!(scenario.accuracy_basis, AccuracyBasis::Samples | AccuracyBasis::Agreement)
            || samples < 2
        {
            return Err(Error::failed(
                "a confidence needs the scenario's `outcomes` of two samples or more: it is not to be had from tables",
            ));
        }
        let mut random = Pcg64::seed_from_u64(SEED);
        let (choose, certify) = halved(0..samples, &mut random);
        let (mut choose_of_all, mut certify_of_all) = (choose.clone(), certify.clone());
        let knows_more = knows_more(scenario);
        if knows_more {
            let (first, second) = halved(samples..scenario.uncut_samples(), &mut random);
            choose_of_all.extend(first);
            certify_of_all.extend(second);
        }
        let all = if knows_more { &scenario.uncut_outcomes } else { &scenario.outcomes };
        let of_all = |samples: &[usize]| all.iter().map(|exit| exit.only(samples)).collect::<Vec<_>>();
        let choosing = scenario.varied(|file| {
            file.only(&choose);
            file.uncut_outcomes = if knows_more { of_all(&choose_of_all) } else { Vec::new() };
        });
        let uncut = scenario.varied(|file| {
            file.outcomes = of_all(&certify_of_all);
            file.uncut_outcomes.clear();
            file.lossy_outcomes.clear();
            file.encodings.retain(|row| row.encoding.is_lossless());
        });
        let lossy = scenario.varied(|file| {
            file.only(&certify);
            file.uncut_outcomes.clear();
        });
        Ok(Self { choosing, chosen_on: choose_of_all.len(), uncut, lossy })
    }
}

/// Whether more of the same images are known uncut: a hand-made scenario may have others there, which tell nothing of these.
fn knows_more(scenario: &Problem) -> bool {
    let (few, more) = (&scenario.outcomes, &scenario.uncut_outcomes);
    let half = scenario.samples() / 2;
    few.len() == more.len()
        && few.iter().zip(more).all(|(few, more)| few.is_start_of(more))
        && parts(half, half + (scenario.uncut_samples() - scenario.samples()) / 2) <= MOST_PARTS
}

/// Both halves of a range in random order.
fn halved(range: std::ops::Range<usize>, random: &mut Pcg64) -> (Vec<usize>, Vec<usize>) {
    let mut all: Vec<usize> = range.collect();
    for at in (1..all.len()).rev() {
        all.swap(at, (random.next_u64() % (at as u64 + 1)) as usize);
    }
    let second = all.split_off(all.len() / 2);
    (all, second)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng as _};

    use super::super::{Outcomes, predict, search};
    use super::*;

    /// A network with one side exit, which is wrong the more often the less sure it is; `samples` images of an endless stock.
    fn drawn(samples: usize, seed: u64, constraints: serde_json::Value) -> Problem {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut early = (Vec::new(), Vec::new());
        let mut last = Vec::new();
        for _ in 0..samples {
            let entropy: f32 = random.random();
            early.0.push(random.random::<f32>() > 0.4 * entropy);
            early.1.push(entropy);
            last.push(random.random::<f32>() < 0.9);
        }
        let outcomes =
            [Outcomes::new(&early.0, early.1), Outcomes::new(&last, vec![0.0; samples])].map(Option::unwrap);
        let text = serde_json::json!({
            "schema": super::super::SCHEMA,
            "layers": [{"name": "a", "output_bytes": 100}, {"name": "b", "output_bytes": 100}],
            "exits": [{"name": "early", "after": ["a"]}, {"name": "final"}],
            "nodes": [
                {"name": "device", "layers_us": [100, 900], "exits_us": [10, 10]},
                {"name": "edge", "layers_us": [50, 400], "exits_us": [5, 5]}
            ],
            "links": [{"bits_per_second": 1e6}],
            "outcomes": outcomes,
            "constraints": constraints,
        });
        Problem::from_json(&text.to_string()).unwrap()
    }

    #[test]
    fn the_floor_is_kept_as_often_as_promised() {
        let stock = drawn(40_000, 1, serde_json::json!({}));
        let (mut certain, mut missed, mut missed_without) = (0, 0, 0);
        for seed in 0..300 {
            let asked = serde_json::json!({"min_accuracy": 0.88, "confidence": 0.9});
            let scenario = drawn(600, 100 + seed, asked);
            let misses = |plan: &Plan| predict(&stock, plan).unwrap().accuracy.0 < 0.88;
            missed_without += u32::from(search(&scenario).is_ok_and(|found| misses(&found.best.plan)));
            let Ok(Some(certified)) = certify(&scenario) else { continue };
            certain += 1;
            // All of them keep it at once.
            missed += u32::from(certified.iter().any(|plan| misses(&plan.predicted.plan)));
        }
        assert!(certain > 150, "{certain} of 300 have a plan that is certain");
        assert!(missed <= 30, "{missed} of 300 miss the floor, at most a tenth was promised");
        assert!(missed_without > 100, "{missed_without} of 300 miss it without a guarantee");
    }

    #[test]
    fn plans_come_best_first_with_what_is_certain() {
        let asked = serde_json::json!({"min_accuracy": 0.8, "confidence": 0.95});
        let certified = certify(&drawn(2000, 7, asked)).unwrap().unwrap();
        let rates: Vec<f64> = certified.iter().map(|plan| plan.predicted.prediction.rate_per_s).collect();
        assert!(rates.len() > 2 && rates.is_sorted_by(|a, b| a >= b), "{rates:?}");
        let Guarantee { accuracy, confidence, chosen_on, certified_on, right, tested } =
            certified[0].guarantee;
        assert_eq!((accuracy, confidence, chosen_on, certified_on), (Share(0.8), Share(0.95), 1000, 1000));
        assert!(right > accuracy && tested >= rates.len());
        assert!(certify(&drawn(50, 7, serde_json::json!({}))).unwrap().is_none());
    }

    #[test]
    fn a_plan_is_certified_on_the_samples_that_it_is_known_on() {
        let asked = |floor: f64| serde_json::json!({"min_accuracy": floor, "confidence": 0.95});
        let with_encodings = |floor: f64| {
            let all = drawn(2000, 5, asked(floor));
            let few: Vec<usize> = (0..800).collect();
            all.with(|file| {
                file.uncut_outcomes = std::mem::take(&mut file.outcomes);
                file.outcomes = file.uncut_outcomes.iter().map(|exit| exit.only(&few)).collect();
                let row = |encoding: &str, bytes: f64| {
                    let row = serde_json::json!({"cut": ["a"], "encoding": encoding, "bytes": bytes,
                        "encode_us": [1, 1], "decode_us": [1, 1]});
                    serde_json::from_value(row).unwrap()
                };
                file.encodings = vec![row("f32", 100.0), row("q8", 25.0)];
                // One in twenty is lost.
                let last = &file.outcomes[1];
                let right: Vec<bool> = (0..800).map(|at| last.right().contains(at) && at % 20 > 0).collect();
                let lossy = Outcomes::new(&right, vec![0.0; 800]).unwrap();
                file.lossy_outcomes = vec![
                    serde_json::from_value(serde_json::json!({
                        "cut": ["a"], "element": "q8", "exits": [file.outcomes[0], lossy]
                    }))
                    .unwrap(),
                ];
            })
            .unwrap()
        };
        let best = |floor: f64| certify(&with_encodings(floor)).unwrap().unwrap().swap_remove(0);
        let (exact, lossy) = (best(0.875), best(0.75));
        assert_eq!((is_lossy(&exact.predicted.plan), exact.guarantee.certified_on), (false, 1000));
        assert_eq!((is_lossy(&lossy.predicted.plan), lossy.guarantee.certified_on), (true, 400));
        assert_eq!((exact.guarantee.chosen_on, lossy.guarantee.chosen_on), (1000, 1000));
    }

    #[test]
    fn what_is_not_certain_is_unmet() {
        let few = drawn(20, 3, serde_json::json!({"min_accuracy": 0.88, "confidence": 0.99}));
        let error = certify(&few).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("of the 10 samples"), "{error}");
        let nothing = few.with(|file| {
            file.outcomes.clear();
            file.exits.truncate(1);
            file.exits[0].after = None;
            file.nodes.iter_mut().for_each(|node| node.exits_us.truncate(1));
        });
        let error = certify(&nothing.unwrap()).unwrap_err();
        assert!(error.to_string().contains("not to be had from tables"), "{error}");
    }

    #[test]
    fn the_test_is_the_exact_binomial_one() {
        let choose = |n: usize, k: usize| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
        for (right, samples, floor) in [(0, 5, 0.3), (5, 5, 0.3), (17, 20, 0.7), (180, 200, 0.88_f64)] {
            let held_out = HeldOut { right, samples };
            let term = |k: usize| {
                choose(samples, k) * floor.powi(k as i32) * (1.0 - floor).powi((samples - k) as i32)
            };
            let tail: f64 = (right..=samples).map(term).sum();
            assert!((held_out.chance_below(Share(floor)) - tail).abs() < 1e-9);
        }
        assert_eq!(HeldOut { right: 3, samples: 5 }.chance_below(Share(1.0)), 1.0);
        assert_eq!(HeldOut { right: 3, samples: 5 }.chance_below(Share(0.0)), 0.0);
    }
}
