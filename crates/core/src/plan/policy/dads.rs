//! DADS (C. Hu, W. Bao, D. Wang, F. Liu: "Dynamic Adaptive DNN Surgery for Inference Acceleration on the Edge", INFOCOM
//! 2019): partitions of a DAG by minimum cuts; no early exit, features as they are.
//!
//! - Light load (DSL): the least sum of the times of device, link and edge, which is one minimum cut (`min_cut.rs`).
//! - Heavy load (DSH): the least of the greatest of the three, which the paper shows to be NP-hard and approximates within
//!   a factor of 3.
//!
//! Interpreted: the paper's model knows no message overhead, delay or codec time. What its minimum cut finds is weighed with
//! them beside device only and edge only, the two ends of its own space: where the overhead is the same for every crossing,
//! that is still the best partition. Where the scenario has no row for the cut, or a node cannot hold its part, the best
//! of the scenario's cuts by the same objective stands in.
//!
//! DSH here: minimum cuts under weights on the three times. The first cut has equal weights: its greatest time is at most
//! its sum, which is at most the sum of the best partition, which is at most three times the greatest time of that, so the
//! paper's factor holds for its model whatever follows. Then the weight of each time grows with its share of the
//! greatest, so that later cuts relieve the bottleneck, and the best of all that were found is taken. The
//! steps are ours; their kind and the factor are the paper's.

use super::super::plan::Plan;
use super::super::space::Space;
use super::min_cut::{Weights, min_cut};
use super::one_way::{OneWay, crossing, is_raw, plans};
use crate::model::LayerSet;

/// How many cuts DSH looks at.
const ROUNDS: u32 = 24;

pub(super) fn light(space: &Space<'_>) -> Option<Plan> {
    let known = Known::new(space);
    let found = min_cut(space, [1.0; 3]).and_then(|cut| known.least(Some(&cut), OneWay::latency));
    known.best(found, OneWay::latency)
}

pub(super) fn heavy(space: &Space<'_>) -> Option<Plan> {
    let known = Known::new(space);
    let mut best: Option<&OneWay> = None;
    let mut weights: Weights = [1.0; 3];
    for round in 1..=ROUNDS {
        let cut = min_cut(space, weights);
        let Some(found) = cut.and_then(|cut| known.least(Some(&cut), OneWay::interval)) else { break };
        if best.is_none_or(|kept| found.interval() < kept.interval()) {
            best = Some(found);
        }
        let most = found.interval().max(f64::MIN_POSITIVE);
        // Falling steps, so that the weights settle.
        let step = 1.0 / f64::from(round).sqrt();
        for (weight, stage) in weights.iter_mut().zip(&found.stages) {
            *weight *= 1.0 + step * stage / most;
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    known.best(best, OneWay::interval)
}

/// The plans that DADS may choose, weighed, each with its cut; `None` where nothing crosses.
struct Known {
    plans: Vec<(Option<LayerSet>, OneWay)>,
    whole: LayerSet,
}

impl Known {
    fn new(space: &Space<'_>) -> Self {
        let weighed = plans(space, space.needs.len() - 1, is_raw).into_iter().filter_map(|plan| {
            let cut = crossing(&plan).and_then(|link| space.cut(&link.resume).ok());
            Some((cut, OneWay::new(space, plan)?))
        });
        Self { plans: weighed.collect(), whole: space.trunk.dag.trunk().clone() }
    }

    /// The best plan that crosses at `cut`, or crosses not; the whole trunk is no crossing.
    fn least(&self, cut: Option<&LayerSet>, figure: impl Fn(&OneWay) -> f64) -> Option<&OneWay> {
        let cut = cut.filter(|cut| **cut != self.whole);
        let there = self.plans.iter().filter(|(known, _)| known.as_ref() == cut).map(|(_, plan)| plan);
        there.min_by(|a, b| figure(a).total_cmp(&figure(b)))
    }

    /// The best of what the cuts have found and both ends, or of all where the cuts found nothing.
    fn best(&self, found: Option<&OneWay>, figure: impl Fn(&OneWay) -> f64) -> Option<Plan> {
        let is_end = |cut: &Option<LayerSet>| cut.as_ref().is_none_or(|cut| cut.iter().next().is_none());
        let all = self.plans.iter().filter(|(cut, _)| found.is_none() || is_end(cut)).map(|(_, plan)| plan);
        let best = all.chain(found).min_by(|a, b| figure(a).total_cmp(&figure(b)));
        best.map(|best| best.plan.clone())
    }
}
