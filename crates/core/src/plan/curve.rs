//! A configuration's figures as one of the scenario's quantities moves: lines and their crossings, and the lower envelope of many.

use super::script::Script;
use super::search::Predicted;
use super::select::Criteria;
use super::sink::{Sensitivity, Varied};
use super::space::Space;
use crate::error::Result;

/// Figures that differ by a lesser share of them are equal but for rounding.
pub(super) const ROUNDING: f64 = 1e-10;

/// A configuration's figures over `t`, which is `y` where a sweep goes upwards and `-y` where it goes downwards: it thus
/// always goes towards greater `t`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve {
    others: f64,
    fixed: [f64; 2],
    unvaried: f64,
    slope: [f64; 2],
    latency_slope: f64,
    right: u32,
}

impl Curve {
    /// Of a plan, going upwards.
    pub fn of_plan(space: &Space<'_>, best: &Predicted, right: u32, varied: Varied) -> Result<Self> {
        let script = Script::new(space, &best.plan)?;
        let (prediction, contention) = (&best.prediction, space.contention());
        let times: Vec<f64> = prediction.uncontended().iter().map(|time| time.0).collect();
        let greatest = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
        let sensitivity = match (varied, times.as_slice()) {
            (Varied::Device, &[own, ref others @ ..]) => {
                let basis = prediction.nodes[0];
                let alone = own / basis.busy_factor * basis.pause_factor;
                // There is no contention among more than two.
                let (link, edge) =
                    if let &[link, edge] = others { (link, edge) } else { (greatest(others), 0.0) };
                Sensitivity::of_device(own, edge, link, contention, alone)
            }
            (Varied::Link(link), times) => {
                let spec = &space.scenario.links[link];
                let share = prediction.stages[2 * link + 1].share.0;
                let bytes = script.message_bytes[link];
                let slope = bytes.map_or(0.0, |bytes| spec.bits_per_second.time_for(bytes).0 * share);
                let lone = bytes.map_or(0.0, |bytes| spec.lone_time(bytes).0 * share);
                let mut others = times.to_vec();
                let own = std::mem::take(&mut others[2 * link + 1]);
                if let &[device, _, edge] = times {
                    others[0] = device.max(edge) + device.min(edge) * contention;
                }
                Sensitivity {
                    others: greatest(&others),
                    fixed: [own - slope, 0.0],
                    slope: [slope, 0.0],
                    latency_slope: if spec.lone.is_empty() { slope } else { lone },
                }
            }
            (Varied::Device, []) => Sensitivity::default(),
        };
        Ok(Self::new((prediction.latency_us.0, right), sensitivity, 1.0, 1.0))
    }

    /// The same for a sweep that goes this way.
    pub fn towards(self, sign: f64) -> Self {
        Self { slope: self.slope.map(|slope| sign * slope), latency_slope: sign * self.latency_slope, ..self }
    }

    /// Of a configuration with this latency at `y = at`, and so many right answers.
    pub fn new((latency, right): (f64, u32), sensitivity: Sensitivity, at: f64, sign: f64) -> Self {
        Self {
            others: sensitivity.others,
            fixed: sensitivity.fixed,
            unvaried: latency - sensitivity.latency_slope,
            slope: sensitivity.slope.map(|slope| sign * slope / at),
            latency_slope: sign * sensitivity.latency_slope / at,
            right,
        }
    }

    /// Whether it is nowhere worse than `other` in any figure.
    pub fn dominates(&self, other: &Self) -> bool {
        // A sweep downwards turns the signs of all slopes.
        let rises = |a: f64, b: f64| a.abs() <= b.abs();
        self.right >= other.right
            && self.others <= other.others
            && self.unvaried <= other.unvaried
            && rises(self.latency_slope, other.latency_slope)
            && (0..2).all(|line| {
                self.fixed[line] <= other.fixed[line] && rises(self.slope[line], other.slope[line])
            })
    }

    fn interval(&self, t: f64) -> f64 {
        let line = |line: usize| self.fixed[line] + self.slope[line] * t;
        self.others.max(line(0)).max(line(1))
    }

    pub fn latency(&self, t: f64) -> f64 {
        self.unvaried + self.latency_slope * t
    }

    pub fn figures(&self, criteria: &Criteria, t: f64) -> [f64; 3] {
        criteria.figures(self.interval(t), self.latency(t), self.right)
    }

    /// Where the interval may change its slope: the crossings of the lines that it is the greatest of. What is no number is none.
    fn kinks(&self) -> [f64; 3] {
        let ([a, b], [rise_a, rise_b]) = (self.fixed, self.slope);
        [(self.others - a) / rise_a, (self.others - b) / rise_b, (b - a) / (rise_a - rise_b)]
    }
}

/// A stretch of `t`.
pub(super) type Span = (f64, f64);

/// The parts of a span between the kinks of these, where they lie in it.
pub(super) fn parts<const N: usize>(span: Span, curves: [&Curve; N]) -> impl Iterator<Item = Span> {
    let mut ends = [span.1; MOST_ENDS];
    ends[0] = span.0;
    let inside = curves.into_iter().flat_map(Curve::kinks).filter(|kink| *kink > span.0 && *kink < span.1);
    let mut last = 0;
    for (end, kink) in ends[1..MOST_ENDS - 1].iter_mut().zip(inside) {
        *end = kink;
        last += 1;
    }
    ends[..=last].sort_unstable_by(f64::total_cmp);
    // Kinks that are one but for rounding enclose nothing.
    let is_wide = |(from, to): &Span| to - from > ROUNDING * from.abs();
    (0..=last).map(move |part| (ends[part], ends[part + 1])).filter(is_wide)
}

/// A span's ends and three kinks of each of three curves.
const MOST_ENDS: usize = 2 + 3 * 3;

/// The part of a span where a line is not above zero, from its values at the span's ends.
fn not_above_zero((from, to): Span, (first, last): Span) -> Option<Span> {
    let crossing = || (from + (to - from) * (first / (first - last))).clamp(from, to);
    match (first <= 0.0, last <= 0.0) {
        (true, true) => Some((from, to)),
        (true, false) => Some((from, crossing())),
        (false, true) => Some((crossing(), to)),
        (false, false) => None,
    }
}

fn both(a: Span, b: Span) -> Option<Span> {
    let (from, to) = (a.0.max(b.0), a.1.min(b.1));
    // What is shorter is a crossing, where rounding decides.
    (to - from > ROUNDING * from.abs()).then_some((from, to))
}

/// `a - b`, or zero where they are equal but for rounding.
pub(super) fn difference(a: f64, b: f64) -> f64 {
    let difference = a - b;
    if difference.abs() <= ROUNDING * (a.abs() + b.abs()) { 0.0 } else { difference }
}

/// Where, within a span in which all figures are lines, a configuration meets the constraints.
pub(super) fn feasible(criteria: &Criteria, z: &Curve, span: Span) -> Option<Span> {
    if z.right < criteria.min_right {
        return None;
    }
    let over = |figure: &dyn Fn(f64) -> f64, most: f64| (figure(span.0) - most, figure(span.1) - most);
    let quick = not_above_zero(span, over(&|t| z.latency(t), criteria.max_latency))?;
    both(quick, not_above_zero(span, over(&|t| z.interval(t), criteria.max_interval))?)
}

/// Where a configuration, feasible, first lies below `other` in the first figure, even when its own is raised so.
pub(super) fn below(
    criteria: &Criteria,
    z: &Curve,
    other: &Curve,
    span: Span,
    raise: impl Fn(f64) -> f64,
) -> Option<f64> {
    parts(span, [z, other]).find_map(|part| {
        let gap = |t| difference(raise(z.figures(criteria, t)[0]), other.figures(criteria, t)[0]);
        let gaps = (gap(part.0), gap(part.1));
        if gaps == (0.0, 0.0) {
            return None;
        }
        Some(both(feasible(criteria, z, part)?, not_above_zero(part, gaps)?)?.0)
    })
}

/// Where a configuration, feasible, is first preferred to `best` among ties while its first figure is at most `least`'s,
/// raised so.
pub(super) fn preferred(
    criteria: &Criteria,
    z: &Curve,
    best: &Curve,
    span: Span,
    (least, raise): (&Curve, &dyn Fn(f64) -> f64),
) -> Option<f64> {
    parts(span, [z, best, least]).find_map(|part| {
        let ends = [part.0, part.1].map(|t| (z.figures(criteria, t), best.figures(criteria, t)));
        let gaps = |figure: usize| {
            let [first, last] = ends.map(|(z, best)| difference(z[figure], best[figure]));
            (first, last)
        };
        let order = [gaps(1), gaps(2), gaps(0)];
        let better = not_above_zero(part, order.into_iter().find(|&gaps| gaps != (0.0, 0.0))?)?;
        let excess = |t| z.figures(criteria, t)[0] - raise(least.figures(criteria, t)[0]);
        let tied = not_above_zero(part, (excess(part.0), excess(part.1)))?;
        Some(both(both(feasible(criteria, z, part)?, better)?, tied)?.0)
    })
}

/// The lower envelope of the first figure over a span: the configuration that has the least one, part by part.
pub(super) struct Envelope<'c> {
    pub criteria: Criteria,
    pub curves: &'c [Curve],
    /// What is left of the span.
    pub span: Span,
}

impl<'c> Envelope<'c> {
    /// The least just behind the start of the span.
    fn least(&self) -> Option<&'c Curve> {
        let (from, to) = self.span;
        let lasts = |z: &&Curve| {
            let ahead = parts(self.span, [z]).next();
            ahead.and_then(|part| feasible(&self.criteria, z, part)).is_some_and(|met| met.0 <= from)
        };
        let value = |z: &Curve, t: f64| z.figures(&self.criteria, t)[0];
        let order = |a: &&'c Curve, b: &&'c Curve| {
            // Of equals the one that falls behind last: neither has a kink before `near`.
            let kinks = [a, b].into_iter().flat_map(|z| z.kinks()).filter(|&kink| kink > from);
            let near = kinks.fold(to, f64::min);
            let gap = difference(value(a, from), value(b, from));
            gap.total_cmp(&0.0).then_with(|| value(a, near).total_cmp(&value(b, near)))
        };
        self.curves.iter().filter(lasts).min_by(order)
    }
}

impl<'c> Iterator for Envelope<'c> {
    type Item = (&'c Curve, Span);

    fn next(&mut self) -> Option<Self::Item> {
        let (from, to) = self.span;
        if from >= to {
            return None;
        }
        let least = self.least()?;
        let met = parts(self.span, [least])
            .map(|part| (feasible(&self.criteria, least, part).map_or(part.0, |met| met.1), part.1))
            .find_map(|(until, end)| (until < end).then_some(until))
            .unwrap_or(to);
        let passed = |z: &Curve| below(&self.criteria, z, least, self.span, |first| first);
        let end = self.curves.iter().filter_map(passed).fold(met, f64::min);
        // Rounding must not keep it from going on.
        let end = end.max(from + ROUNDING * from.abs()).min(to);
        self.span.0 = end;
        Some((least, (from, end)))
    }
}
