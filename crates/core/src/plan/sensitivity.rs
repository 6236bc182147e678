//! How far a link's rate or the device's speed may move before another plan is the best.
//!
//! The figures of every configuration are piecewise linear in the varied quantity `y` (see [`Sensitivity`]), so the first `y` at
//! which the pick changes is a crossing of two lines. Going away from the present value, the best plan is lost
//!
//! - where it misses a constraint;
//! - where a *competitor*, better in the first figure, undercuts it by more than a tie;
//! - or where a *challenger*, better in the figure that breaks ties, ties with the least first figure of all.
//!
//! A walk through all configurations keeps those that could do so within a window of `y`. Every competitor or challenger that
//! defeats the plan by itself shrinks the window, so that few are kept. What remains is settled along the lower envelope of
//! the competitors' first figure.

use serde::{Deserialize, Serialize};

use super::answers::{Answers, Grids};
use super::curve::{Curve, Envelope, ROUNDING, Span, below, feasible, parts, preferred};
use super::pareto::Point;
use super::problem::Problem;
use super::search::Found;
use super::select::Criteria;
use super::sink::{Config, Sensitivity, Sink, Varied, Walk};
use super::space::Space;
use super::tiers::Tiers;
use super::two_nodes::TwoNodes;
use crate::error::Result;
use crate::units::BitRate;

/// A range around a present value; `None` where no end was found up to a thousandth or a thousandfold of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Within<T> {
    /// The low end.
    pub from: Option<T>,
    /// The high end.
    pub to: Option<T>,
}

/// Where the best plan stays the best, all else being equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// Rates of each link.
    pub links_bits_per_second: Vec<Within<BitRate>>,
    /// Factors on the times of the real device.
    pub device_slowdown: Within<f64>,
}

/// How far is looked: up to so many times the present value, and down to one part in as many.
const FARTHEST: f64 = 1000.0;

/// Most plans are lost near by, and the nearer the end of a window, the fewer configurations could matter within it.
const FARTHER_AND_FARTHER: [f64; 10] = [1.1, 1.4, 2.0, 3.0, 5.0, 8.0, 14.0, 30.0, 100.0, FARTHEST];

/// With more than two nodes a look into a narrow window takes nearly as long as into a wide one: every so many will do.
const FARTHER_OF_TIERS: usize = 3;

/// Where more configurations than these could matter within a window, a narrower one is looked into first.
const MOST_CURVES: usize = if cfg!(test) { 2 } else { 1000 };

/// No window is made narrower than this.
const NARROWEST: f64 = 1.0005;

/// Where the best plan that a search found stays the best; `None` where `is_over` ends that early.
pub fn stays_best(
    scenario: &Problem,
    found: &Found,
    is_over: &dyn Fn() -> bool,
) -> Result<Option<Stability>> {
    let space = Space::new(scenario)?;
    let grids = Grids::new(scenario);
    let answers = Answers::new(&space, &grids);
    let mut walks = Walks::new(&space, &grids, &answers);
    let slowdown = scenario.nodes[0].emulated_slowdown.unwrap_or(1.0);
    let mut links_bits_per_second = Vec::new();
    for (link, spec) in scenario.links.iter().enumerate() {
        let Some(within) = factors(&space, &mut walks, found, Varied::Link(link), is_over)? else {
            return Ok(None);
        };
        let rate = |longer| BitRate(spec.bits_per_second.0 / longer);
        links_bits_per_second.push(Within { from: within.to.map(rate), to: within.from.map(rate) });
    }
    let Some(device) = factors(&space, &mut walks, found, Varied::Device, is_over)? else {
        return Ok(None);
    };
    let device_slowdown = Within {
        from: device.from.map(|factor| slowdown * factor),
        to: device.to.map(|factor| slowdown * factor),
    };
    Ok(Some(Stability { links_bits_per_second, device_slowdown }))
}

/// The factors on a quantity's present value within which the best plan stays the best; `None` where that ends early.
fn factors(
    space: &Space<'_>,
    walks: &mut Walks<'_, '_>,
    found: &Found,
    varied: Varied,
    is_over: &dyn Fn() -> bool,
) -> Result<Option<Within<f64>>> {
    let best = Curve::of_plan(space, &found.best, found.best_right, varied)?;
    let mut look = |end: f64, most_curves: usize| -> Result<Look> {
        let limits = Limits { most_curves, is_over };
        let mut window = Window::new(Criteria::of(space.scenario), varied, best, end, limits);
        if end > 1.0 {
            walks.walk(varied, &mut window);
        } else {
            let scenario = scaled(space.scenario, varied, end);
            walks.at(&Space::new(&scenario)?, varied).walk(varied, &mut window);
        }
        Ok(window.look())
    };
    let every = if space.scenario.nodes.len() == 2 { 1 } else { FARTHER_OF_TIERS };
    let mut first_lost = |towards: fn(f64) -> f64| -> Result<Option<Option<f64>>> {
        let mut kept = 1.0;
        for farther in FARTHER_AND_FARTHER.into_iter().step_by(every) {
            let mut wide = farther / kept;
            while kept < farther {
                let end = farther.min(kept * wide);
                let most_curves = if wide < NARROWEST { usize::MAX } else { MOST_CURVES };
                match look(towards(end), most_curves)? {
                    _ if is_over() => return Ok(None),
                    Look::Lost(at) => return Ok(Some(Some(at))),
                    Look::Kept => (kept, wide) = (end, wide * wide),
                    Look::TooMuch => wide = wide.sqrt(),
                }
            }
        }
        Ok(Some(None))
    };
    let (Some(from), Some(to)) = (first_lost(f64::recip)?, first_lost(|end| end)?) else { return Ok(None) };
    Ok(Some(Within { from, to }))
}

/// What a look into a window showed.
enum Look {
    /// The plan is first lost at this `y`.
    Lost(f64),
    Kept,
    /// So many configurations that nothing was settled.
    TooMuch,
}

/// The walk through all configurations, for two nodes or more.
enum Walks<'s, 'a> {
    Two(Box<TwoNodes<'s, 'a>>),
    More(Box<Tiers<'s, 'a>>),
}

impl<'s, 'a> Walks<'s, 'a> {
    fn new(space: &'s Space<'a>, grids: &'s Grids, answers: &'s Answers) -> Self {
        if space.scenario.nodes.len() == 2 {
            Self::Two(Box::new(TwoNodes::new(space, grids, answers)))
        } else {
            Self::More(Box::new(Tiers::new(space, grids, answers)))
        }
    }

    /// The same where the varied quantity has another value.
    fn at<'t, 'b>(&'t self, space: &'t Space<'b>, varied: Varied) -> Walks<'t, 'b> {
        match self {
            Self::Two(walk) => Walks::Two(Box::new(walk.at(space))),
            Self::More(walk) => Walks::More(Box::new(walk.at(space, varied))),
        }
    }

    fn walk(&mut self, varied: Varied, window: &mut Window<'_>) {
        match self {
            Self::Two(walk) => walk.walk(window),
            Self::More(walk) => {
                walk.vary(varied);
                walk.walk(window);
            }
        }
    }
}

/// The scenario with a quantity at `y` times its present value.
fn scaled(scenario: &Problem, varied: Varied, y: f64) -> Problem {
    scenario.varied(|scenario| match varied {
        Varied::Link(link) => {
            let link = &mut scenario.links[link];
            link.bits_per_second.0 /= y;
            link.lone.iter_mut().for_each(|message| message.time_us.0 *= y);
        }
        Varied::Device => {
            let node = &mut scenario.nodes[0];
            node.task_us.0 *= y;
            let own = node.layers_us.iter_mut().chain(&mut node.exits_us);
            let ranges = node.ranges.iter_mut().map(|range| &mut range.time_us);
            let codecs =
                scenario.encodings.iter_mut().flat_map(|row| [&mut row.encode_us[0], &mut row.decode_us[0]]);
            own.chain(ranges).chain(codecs).for_each(|time| time.0 *= y);
        }
    })
}

/// When a look into a window ends before its time.
#[derive(Clone, Copy)]
struct Limits<'o> {
    most_curves: usize,
    is_over: &'o dyn Fn() -> bool,
}

/// What can take the best plan's place within a window.
struct Window<'o> {
    criteria: Criteria,
    varied: Varied,
    /// The `y` at which configurations are weighed: where all figures are at their least.
    at: f64,
    sign: f64,
    best: Curve,
    start: f64,
    /// The plan is lost here at the latest.
    end: f64,
    /// Whether it is lost at the end, not only looked at so far.
    closed: bool,
    /// The plan's figures where they are worst.
    worst: [f64; 3],
    competitors: Vec<Curve>,
    challengers: Vec<Curve>,
    limits: Limits<'o>,
}

impl<'o> Window<'o> {
    fn new(criteria: Criteria, varied: Varied, best: Curve, end: f64, limits: Limits<'o>) -> Self {
        let sign = if end > 1.0 { 1.0 } else { -1.0 };
        let mut window = Self {
            criteria,
            varied,
            at: end.min(1.0),
            sign,
            best: best.towards(sign),
            start: sign,
            end: sign * end,
            closed: false,
            worst: [0.0; 3],
            competitors: Vec::new(),
            challengers: Vec::new(),
            limits,
        };
        window.shrink(sign * end, false);
        window.meet_constraints();
        window
    }

    fn is_too_much(&self) -> bool {
        self.competitors.len().max(self.challengers.len()) > self.limits.most_curves
    }

    /// What the configurations that were kept come to.
    fn look(self) -> Look {
        if self.is_too_much() {
            return Look::TooMuch;
        }
        self.lost().map_or(Look::Kept, Look::Lost)
    }

    fn span(&self) -> Span {
        (self.start, self.end)
    }

    fn shrink(&mut self, end: f64, closed: bool) {
        (self.end, self.closed) = (end, closed);
        let worst = if self.sign > 0.0 { end } else { self.start };
        self.worst = self.best.figures(&self.criteria, worst);
    }

    /// Ends the window where the plan misses a constraint.
    fn meet_constraints(&mut self) {
        let until = |part: Span| feasible(&self.criteria, &self.best, part).map_or(part.0, |met| met.1);
        let missed = parts(self.span(), [&self.best])
            .find_map(|part| Some(until(part)).filter(|&until| until < part.1));
        if let Some(end) = missed {
            self.shrink(end, true);
        }
    }

    /// Where a competitor, feasible, is first better than the plan by more than a tie.
    fn undercut(&self, z: &Curve) -> Option<f64> {
        below(&self.criteria, z, &self.best, self.span(), |first| self.criteria.tied_with(first))
    }

    /// Whether a configuration, feasible, ever lies below the plan in the first figure.
    fn competes(&self, z: &Curve) -> bool {
        below(&self.criteria, z, &self.best, self.span(), |first| first).is_some()
    }

    /// Where a challenger, feasible, is first preferred among ties with `least`.
    fn preferred(&self, z: &Curve, least: &Curve, span: Span) -> Option<f64> {
        preferred(&self.criteria, z, &self.best, span, (least, &|first| self.criteria.tied_with(first)))
    }

    /// Keeps a configuration if it may matter, and ends the window where it defeats the plan by itself.
    fn weigh(&mut self, z: Curve) {
        let competitor = self.competes(&z);
        let challenger = self.preferred(&z, &self.best, self.span()).is_some();
        let undercut = if competitor { self.undercut(&z) } else { None };
        let dominates =
            || preferred(&self.criteria, &z, &self.best, self.span(), (&self.best, &|first| first));
        let defeat = [undercut, if challenger { dominates() } else { None }];
        if competitor {
            self.competitors.push(z);
        }
        if challenger {
            self.challengers.push(z);
        }
        if let Some(end) = defeat.into_iter().flatten().min_by(f64::total_cmp) {
            self.shrink(end, true);
        }
    }

    /// The `y` at which the plan is first lost.
    fn lost(mut self) -> Option<f64> {
        let (span, criteria, best) = (self.span(), self.criteria, self.best);
        self.competitors.retain(|z| below(&criteria, z, &best, span, |first| first).is_some());
        let challengers = std::mem::take(&mut self.challengers);
        let challengers: Vec<Curve> =
            challengers.into_iter().filter(|z| self.preferred(z, &best, span).is_some()).collect();
        self.competitors.push(best);
        let lost = Envelope { criteria, curves: &self.competitors, span }.find_map(|(least, part)| {
            challengers.iter().filter_map(|z| self.preferred(z, least, part)).min_by(f64::total_cmp)
        });
        lost.or(self.closed.then_some(self.end)).map(|t| t * self.sign)
    }
}

impl<P: Copy> Sink<P> for Window<'_> {
    fn is_over(&self) -> bool {
        self.is_too_much() || (self.limits.is_over)()
    }

    fn is_pruned(&self, interval: f64, latency: f64, right: u32) -> bool {
        // What is no better than the plan at its worst, in either of the first two figures, cannot matter; of equals the
        // third might.
        let figures = self.criteria.figures(interval, latency, right);
        let close = |figure: f64| figure + ROUNDING * figure.abs();
        !self.criteria.is_met(interval, latency, right)
            || figures[0] > self.criteria.tied_with(self.worst[0])
            || (figures[0] >= self.worst[0] && figures[1] > close(self.worst[1]))
    }

    fn is_hopeless(&self, latency: f64, right: u32, sensitivity: impl FnOnce(Varied) -> Sensitivity) -> bool {
        let z = Curve::new((latency, right), sensitivity(self.varied), self.at, self.sign);
        let matters = self.competes(&z) || self.preferred(&z, &self.best, self.span()).is_some();
        // What another one dominates is never ahead of it, nor preferred to it.
        !matters || self.challengers.iter().chain(&self.competitors).any(|other| other.dominates(&z))
    }

    fn take(&mut self, point: Point<Config<P>>, sensitivity: impl FnOnce(Varied) -> Sensitivity) {
        let sensitivity = sensitivity(self.varied);
        self.weigh(Curve::new((point.latency, point.right), sensitivity, self.at, self.sign));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::brute_force::random_scenario;
    use super::super::curve::difference;
    use super::super::plan::Plan;
    use super::super::predict::{Prediction, predict};
    use super::super::search::search;
    use super::super::tally::Tally;
    use super::*;

    /// The best plan of a scenario that has one, with where it stays the best.
    fn ranges(scenario: &Problem, varied: Varied) -> Option<(Plan, Within<f64>)> {
        let found = search(scenario).ok()?;
        let space = Space::new(scenario).unwrap();
        let grids = Grids::new(scenario);
        let answers = Answers::new(&space, &grids);
        let mut walks = Walks::new(&space, &grids, &answers);
        let range = factors(&space, &mut walks, &found, varied, &|| false).unwrap().unwrap();
        Some((found.best.plan, range))
    }

    /// But for rounding: plans that part slowly differ by little more just beyond a range.
    fn equal(a: f64, b: f64) -> bool {
        difference(a, b) == 0.0
    }

    /// What the search finds at `y`, and what `plan` does there.
    fn at(scenario: &Problem, plan: &Plan, varied: Varied, y: f64) -> (Option<Prediction>, Prediction) {
        let there = scaled(scenario, varied, y);
        (search(&there).ok().map(|found| found.best.prediction), predict(&there, plan).unwrap())
    }

    /// The first figure, in the order in which ties are broken, in which two plans differ by more than rounding: its place
    /// in that order, and by how much it is greater in `a`.
    fn gap(scenario: &Problem, a: &Prediction, b: &Prediction) -> Option<(usize, f64)> {
        let right = Tally::of(scenario);
        let figures = |p: &Prediction| {
            Criteria::of(scenario).figures(p.interval_us.0, p.latency_us.0, right.parts_in(p.accuracy))
        };
        let (a, b) = (figures(a), figures(b));
        [1, 2, 0].into_iter().enumerate().find_map(|(place, figure)| {
            (!equal(a[figure], b[figure])).then_some((place, a[figure] - b[figure]))
        })
    }

    /// Whether one plan's first figure lies above the other's by just the width of a tie, so that rounding decides.
    fn just_tied(scenario: &Problem, a: &Prediction, b: &Prediction) -> bool {
        let criteria = Criteria::of(scenario);
        let first = |p: &Prediction| criteria.figures(p.interval_us.0, p.latency_us.0, 0)[0];
        let (a, b) = (first(a), first(b));
        a != b && equal(criteria.tied_with(a.min(b)), a.max(b))
    }

    /// Looks at shares of the way through the range, at both of its ends, and just beyond them.
    fn check(seed: u64, nodes: usize, device: bool, shares: &[f64]) -> Result<(), TestCaseError> {
        let scenario = random_scenario(seed, nodes);
        let varied = if device { Varied::Device } else { Varied::Link(seed as usize % (nodes - 1)) };
        let Some((plan, range)) = ranges(&scenario, varied) else { return Ok(()) };
        let (from, to) = (range.from.unwrap_or(1e-3), range.to.unwrap_or(1e3));
        prop_assert!((1e-3..=1.0).contains(&from) && (1.0..=1e3).contains(&to), "{range:?}");
        let (low, high) = (from * (1.0 + 1e-6), to * (1.0 - 1e-6));
        for y in shares.iter().map(|&share| low * (high / low).powf(share)).chain([low, high]) {
            let (found, kept) = at(&scenario, &plan, varied, y);
            // Of plans that tie but for rounding, the search may take one that is worse in a later figure.
            let stays = |found: Prediction| {
                just_tied(&scenario, &found, &kept)
                    || gap(&scenario, &found, &kept).is_none_or(|(place, worse)| place > 0 && worse > 0.0)
            };
            prop_assert!(low > high || found.is_some_and(stays), "lost at {y} within {range:?}");
        }
        let beyond = [range.from.map(|from| from * (1.0 - 1e-6)), range.to.map(|to| to * (1.0 + 1e-6))];
        for y in beyond.into_iter().flatten() {
            let (found, kept) = at(&scenario, &plan, varied, y);
            // Where lines cross at a small angle the other one lies ahead by less than rounding, but it does.
            let is_ahead = |found: &Prediction| {
                found.interval_us != kept.interval_us || found.latency_us != kept.latency_us
            };
            let differs = |found: Prediction| gap(&scenario, &found, &kept).is_some() || is_ahead(&found);
            prop_assert!(found.is_none_or(differs), "still found at {y} beyond {range:?}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
        #[test]
        fn a_plan_is_found_again_within_its_range_and_not_beyond(
            seed in any::<u64>(), nodes in 2usize..4, device in any::<bool>(), shares in proptest::collection::vec(0.0f64..1.0, 5),
        ) {
            check(seed, nodes, device, &shares)?;
        }
    }

    #[test]
    fn a_plan_that_ties_with_a_more_accurate_one_but_for_rounding_is_not_the_best() {
        check(16_677_125_800_579_456_078, 3, false, &[0.0]).unwrap();
    }

    #[test]
    fn a_range_ends_where_a_plan_begins_to_lie_ahead_slowly() {
        check(10_355_046_570_286_765_070, 3, true, &[0.0]).unwrap();
    }

    #[test]
    fn kinks_that_are_one_but_for_rounding_end_no_range() {
        check(760_742_477_851_449_467, 2, true, &[0.0]).unwrap();
    }

    #[test]
    fn plans_that_are_equal_but_for_rounding_tie_even_where_nothing_else_does() {
        check(15_426_366_197_814_769_266, 3, true, &[0.0]).unwrap();
    }

    #[test]
    fn a_plan_that_lies_ahead_by_less_than_rounding_ends_a_range() {
        check(3_951_317_316_119_235_413, 3, true, &[0.0]).unwrap();
    }
}
