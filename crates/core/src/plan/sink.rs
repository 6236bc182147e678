//! What a walk through the configurations is for: the sinks tell which ones need no look, and keep the others.

use super::pareto::{Front, Point};
use super::plan::Plan;
use super::select::Criteria;
use super::tally::Setting;

/// A configuration in indices: small enough to keep by the million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Config<P> {
    pub setting: Setting,
    /// What crosses where, and which node tries which exit: as the walk names it.
    pub place: P,
}

/// How a configuration's figures move with one of the scenario's quantities, `y`, of which the present value is 1: the time
/// that bytes (and whole lone messages, where they take another) take on a link, or the device's times. The interval is the
/// greatest of `others` and both `fixed + slope * y`, the latency `latency + latency_slope * (y - 1)`. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sensitivity {
    pub others: f64,
    pub fixed: [f64; 2],
    pub slope: [f64; 2],
    pub latency_slope: f64,
}

impl Sensitivity {
    /// Whether no figure that is no worse for `y` of 1 becomes worse than with `other` as `y` grows.
    pub fn is_no_worse(&self, other: &Self) -> bool {
        let all = |mine: &[f64], theirs: &[f64]| mine.iter().zip(theirs).all(|(a, b)| a <= b);
        self.others <= other.others
            && all(&self.fixed, &other.fixed)
            && all(&self.slope, &other.slope)
            && self.latency_slope <= other.latency_slope
    }

    /// Of sums over so many samples, their means.
    pub fn over(&self, samples: f64) -> Self {
        Self {
            others: self.others / samples,
            fixed: self.fixed.map(|fixed| fixed / samples),
            slope: self.slope.map(|slope| slope / samples),
            latency_slope: self.latency_slope / samples,
        }
    }

    /// The device's times, `own`, are varied beside `others` and an edge with which there is this contention.
    pub fn of_device(own: f64, edge: f64, others: f64, contention: f64, latency_slope: f64) -> Self {
        if contention == 0.0 {
            return Self { others: others.max(edge), slope: [own, 0.0], latency_slope, ..Self::default() };
        }
        // The greater one plus a share of the less is the greater of these two.
        Self { others, fixed: [contention * edge, edge], slope: [own, contention * own], latency_slope }
    }
}

/// The quantity that [`Sensitivity`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Varied {
    /// The time that bytes take on this link.
    Link(usize),
    /// Everything that node 0 does.
    Device,
}

/// A walk through configurations that it names by a setting and a place.
pub(super) trait Walk: Sized {
    type Place: Copy;
    /// Shows `sink` every configuration that it does not prune.
    fn walk(&mut self, sink: &mut impl Sink<Self::Place>);
    /// The configuration in names.
    fn plan(&self, config: &Config<Self::Place>) -> Plan;
    /// Walks through all configurations that cross otherwise than this one, in parts that do not overlap.
    fn others(&self, config: &Config<Self::Place>) -> Vec<Self>;
    /// How many configurations were looked at.
    fn configurations(&self) -> u64;
}

pub(super) trait Sink<P> {
    /// Whether no configuration is wanted whose figures are at best these.
    fn is_pruned(&self, interval: f64, latency: f64, right: u32) -> bool;
    /// Whether no configuration is wanted whose figures are at best these, as times move: asked where the figures alone prune
    /// nothing.
    fn is_hopeless(&self, _latency: f64, _right: u32, _: impl FnOnce(Varied) -> Sensitivity) -> bool {
        false
    }
    /// Whether the walk is to end before its time: what is still possible is then left.
    fn is_over(&self) -> bool {
        false
    }
    /// Learns of configurations that nobody will look at, and whose figures are at best these.
    fn leave(&mut self, _interval: f64, _latency: f64, _right: u32) {}
    /// Takes a configuration that is not pruned. How its figures move is worked out where it is asked for.
    fn take(&mut self, point: Point<Config<P>>, sensitivity: impl FnOnce(Varied) -> Sensitivity);
}

/// Keeps the whole Pareto front.
impl<P: Copy> Sink<P> for Front<Config<P>> {
    #[inline]
    fn is_pruned(&self, interval: f64, latency: f64, right: u32) -> bool {
        self.dominates(interval, latency, right)
    }

    fn take(&mut self, point: Point<Config<P>>, _: impl FnOnce(Varied) -> Sensitivity) {
        self.add(point);
    }
}

/// Keeps what the best of all feasible configurations is picked from.
pub(super) struct Best<'o, P> {
    pub criteria: Criteria,
    pub front: Front<Config<P>>,
    /// The least first figure found so far.
    pub least: f64,
    is_over: &'o dyn Fn() -> bool,
    /// The least first figure that configurations may have which were left; infinite where there are none.
    pub left: f64,
}

impl<'o, P: Copy> Best<'o, P> {
    /// Ends its walk once this says so.
    pub fn new(criteria: Criteria, is_over: &'o dyn Fn() -> bool) -> Self {
        Self { criteria, front: Front::default(), least: f64::INFINITY, is_over, left: f64::INFINITY }
    }
}

impl<P: Copy> Sink<P> for Best<'_, P> {
    #[inline]
    fn is_pruned(&self, interval: f64, latency: f64, right: u32) -> bool {
        // Constraints and objective favour better figures, so what is missed at best is missed by all.
        !self.criteria.is_met(interval, latency, right)
            || self.criteria.figures(interval, latency, right)[0] > self.criteria.tied_with(self.least)
            || self.front.dominates(interval, latency, right)
    }

    fn is_over(&self) -> bool {
        (self.is_over)()
    }

    fn leave(&mut self, interval: f64, latency: f64, right: u32) {
        self.left = self.left.min(self.criteria.figures(interval, latency, right)[0]);
    }

    fn take(&mut self, point: Point<Config<P>>, _: impl FnOnce(Varied) -> Sensitivity) {
        let first = self.criteria.figures(point.interval, point.latency, point.right)[0];
        self.least = self.least.min(first);
        self.front.add(point);
    }
}
