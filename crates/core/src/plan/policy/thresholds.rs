//! Baselines that set exit thresholds, on the scenario's grid, by the exact walk over its configurations with a rule of their own
//! for what is allowed and what is best. Where nothing is as accurate as asked, each takes the most accurate plan, of these
//! the best by its rule.

use super::super::answers::{Answers, Grids};
use super::super::pareto::Point;
use super::super::plan::Plan;
use super::super::search::check_size;
use super::super::select::Criteria;
use super::super::sink::{Config, Sensitivity, Sink, Varied, Walk};
use super::super::space::Space;
use super::super::two_nodes::{Place, TwoNodes};
use crate::error::Result;

/// BranchyNet on the device (S. Teerapittayanon, B. McDanel, H. T. Kung: "BranchyNet: Fast Inference via Early Exiting from
/// Deep Neural Networks", ICPR 2016, section III): a sample leaves at the first exit at which its entropy lies below that
/// exit's threshold; nothing crosses.
///
/// Interpreted: the paper leaves the thresholds to the user, who picks a point from a sweep of runtime against accuracy.
/// Here it is the point with the least mean runtime that keeps the accuracy floor.
pub(super) fn branchynet(space: &Space<'_>) -> Result<Option<Plan>> {
    let mut alone = Space::new(space.scenario)?;
    alone.paths.clear();
    best(&alone, |_| true, |_, latency| [latency, 0.0])
}

/// The optimizer of the pipeline paper (S. Hu, C. Dong, W. Wen: "Enable Pipeline Processing of DNN Co-inference Tasks In the
/// Mobile-Edge Cloud", ICCCS 2021): partition, early exits and compression of what crosses, jointly, for the highest rate
/// of the pipeline under an accuracy floor; then for the least latency of a task alone, the paper's second aim.
///
/// Without what coprof adds: a node sends the frontier of its own cut, never an earlier one, and a plan that is slower by any
/// amount is no tie. Interpreted: how the paper searches is not reproduced; every configuration is looked at, which cannot
/// find worse. Every encoding of the scenario is taken as compression.
pub(super) fn pipeline(space: &Space<'_>) -> Result<Option<Plan>> {
    let sends_own_frontier = |config: &Config<Place>| {
        let place = config.place;
        let Some(row) = place.row else { return true };
        let tried = (0..place.edge_from).rfind(|&exit| config.setting[exit] > 0);
        let path = space.paths.iter().find(|path| path.rows.contains(&row));
        path.is_some_and(|path| {
            let resume = &space.resumes[path.resume];
            resume.with[tried.map_or(0, |exit| exit + 1)] == resume.cut()
        })
    };
    best(space, sends_own_frontier, |interval, latency| [interval, latency])
}

/// The allowed configuration with the least figures, the first one counting first. No figure may grow when interval or
/// latency shrink.
fn best(
    space: &Space<'_>,
    allows: impl Fn(&Config<Place>) -> bool,
    figures: impl Fn(f64, f64) -> [f64; 2],
) -> Result<Option<Plan>> {
    check_size(space.scenario)?;
    let grids = Grids::new(space.scenario);
    let answers = Answers::new(space, &grids);
    let mut walk = TwoNodes::new(space, &grids, &answers);
    let mut kept = Least { min_right: Criteria::of(space.scenario).min_right, allows, figures, kept: None };
    walk.walk(&mut kept);
    Ok(kept.kept.map(|(_, config)| walk.plan(&config)))
}

struct Least<A, F> {
    min_right: u32,
    allows: A,
    figures: F,
    /// Samples short of the floor and the two figures, in this order.
    kept: Option<([f64; 3], Config<Place>)>,
}

impl<A, F: Fn(f64, f64) -> [f64; 2]> Least<A, F> {
    fn key(&self, interval: f64, latency: f64, right: u32) -> [f64; 3] {
        let [first, second] = (self.figures)(interval, latency);
        [f64::from(self.min_right.saturating_sub(right)), first, second]
    }
}

impl<A: Fn(&Config<Place>) -> bool, F: Fn(f64, f64) -> [f64; 2]> Sink<Place> for Least<A, F> {
    /// No part of the key grows with better figures, so the key of the best figures is the least in lexicographic order too.
    fn is_pruned(&self, interval: f64, latency: f64, right: u32) -> bool {
        self.kept.as_ref().is_some_and(|(kept, _)| self.key(interval, latency, right) >= *kept)
    }

    fn take(&mut self, point: Point<Config<Place>>, _: impl FnOnce(Varied) -> Sensitivity) {
        if (self.allows)(&point.config) {
            let key = self.key(point.interval, point.latency, point.right);
            self.kept = Some((key, point.config));
        }
    }
}
