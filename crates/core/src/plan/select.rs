//! Which point is best: objective, ties and constraints.

use super::pareto::Point;
use super::problem::Problem;
use super::scenario::Objective;
use super::tally::Tally;
use crate::units::{Micros, Share};

/// Points within this share of the best count as ties, to be broken by the second figure.
const TIES: Share = Share(0.01);

/// Rounding must not turn "exactly the floor" into a miss.
const ROUNDING: f64 = 1e-12;

/// Figures that lie no further apart are equal but for rounding: sums of the same times in another order.
const EQUAL: f64 = 1e-10;

/// A scenario's objective and constraints, in the figures of points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Criteria {
    pub objective: Objective,
    /// Parts of the scenario's tally that must be right at least.
    pub min_right: u32,
    pub max_latency: f64,
    pub max_interval: f64,
    /// Points whose first figure is no greater than the least times this count as ties: at least those that are equal but for
    /// rounding.
    pub tie: f64,
}

impl Criteria {
    pub fn of(scenario: &Problem) -> Self {
        let constraints = &scenario.constraints;
        let above = 1.0 + ROUNDING;
        Self {
            objective: constraints.objective,
            min_right: Tally::of(scenario).parts_of(scenario.accuracy_floor().0 - ROUNDING),
            max_latency: constraints.max_latency_us.map_or(f64::INFINITY, |most| most.0 * above),
            tie: (1.0 + constraints.ties.unwrap_or(TIES).0) * (1.0 + EQUAL),
            max_interval: constraints.min_rate_per_s.map_or(f64::INFINITY, |least| 1e6 / least * above),
        }
    }

    pub fn is_met(&self, interval: f64, latency: f64, right: u32) -> bool {
        right >= self.min_right && latency <= self.max_latency && interval <= self.max_interval
    }

    /// The figures to minimise, most important first.
    pub fn figures(&self, interval: f64, latency: f64, right: u32) -> [f64; 3] {
        let wrong = -f64::from(right);
        match self.objective {
            Objective::Rate => [interval, latency, wrong],
            Objective::Latency => [latency, interval, wrong],
            Objective::Accuracy => [wrong, interval, latency],
        }
    }

    /// How far the first figure may lie above the least one: ties beside an objective that is a time.
    pub fn tied_with(&self, least: f64) -> f64 {
        if self.objective == Objective::Accuracy { least } else { least * self.tie }
    }

    /// By which share of its first figure a point may be beaten by one whose first figure is `left` at the least.
    pub fn gap<C>(&self, point: &Point<C>, left: f64, tally: Tally) -> Share {
        let first = self.of_point(point)[0];
        Share(match self.objective {
            _ if left >= first => 0.0,
            Objective::Accuracy => 1.0 - tally.accuracy(point.right).0 / tally.accuracy((-left) as u32).0,
            _ => 1.0 - left / first,
        })
    }

    fn of_point<C>(&self, point: &Point<C>) -> [f64; 3] {
        self.figures(point.interval, point.latency, point.right)
    }

    /// The best of these points, if one meets the constraints. Objective, ties and constraints only ever favour a lower
    /// interval, a lower latency or a higher accuracy, so the best of a Pareto front is the best of all.
    pub fn pick<C: Copy>(&self, points: &[Point<C>]) -> Option<Point<C>> {
        let meets = |point: &&Point<C>| self.is_met(point.interval, point.latency, point.right);
        let feasible: Vec<&Point<C>> = points.iter().filter(meets).collect();
        let least = feasible.iter().map(|point| self.of_point(point)[0]).min_by(f64::total_cmp)?;
        let limit = self.tied_with(least);
        let mut left: Vec<&Point<C>> =
            feasible.into_iter().filter(|point| self.of_point(point)[0] <= limit).collect();
        for figure in [1, 2, 0] {
            let least = left.iter().map(|point| self.of_point(point)[figure]).min_by(f64::total_cmp)?;
            left.retain(|point| self.of_point(point)[figure] <= least + EQUAL * least.abs());
        }
        left.first().map(|&&point| point)
    }
}

/// Says which constraints stand in the way, and the figures of the nearest plan: the one that misses them by the least sum of
/// shares.
pub(super) fn unmet<C>(scenario: &Problem, front: &[Point<C>]) -> String {
    let excess =
        |point: &Point<C>| -> f64 { misses(scenario, point).iter().map(|(_, miss)| miss.max(0.0)).sum() };
    let Some(nearest) = front.iter().min_by(|a, b| excess(a).total_cmp(&excess(b))) else {
        return "the scenario allows no plan at all: nothing may cross its links, and no node may run all layers".into();
    };
    let missed = misses(scenario, nearest).into_iter().filter(|(_, miss)| *miss > 0.0);
    let missed: Vec<String> = missed.map(|(what, _)| what).collect();
    format!(
        "no plan has the {} that was asked for together with the other constraints\nthe nearest plan: {:.1}/s, latency {}, \
         accuracy {:.2} %",
        missed.join(" and the "),
        1e6 / nearest.interval,
        Micros(nearest.latency),
        Tally::of(scenario).accuracy(nearest.right).0 * 100.0
    )
}

fn misses<C>(scenario: &Problem, point: &Point<C>) -> [(String, f64); 3] {
    let (criteria, constraints) = (Criteria::of(scenario), &scenario.constraints);
    let short = Tally::of(scenario).shortfall(criteria.min_right, point.right);
    let latency = constraints.max_latency_us.unwrap_or(Micros(f64::INFINITY));
    [
        (format!("accuracy of at least {}", scenario.accuracy_floor()), short),
        (format!("latency of at most {latency}"), over(point.latency, criteria.max_latency)),
        (
            format!("rate of at least {:.1}/s", constraints.min_rate_per_s.unwrap_or(0.0)),
            over(point.interval, criteria.max_interval),
        ),
    ]
}

/// By which share of `most` a figure lies above it.
fn over(figure: f64, most: f64) -> f64 {
    if figure <= most { 0.0 } else { figure / most - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criteria(objective: Objective) -> Criteria {
        Criteria {
            objective,
            min_right: 0,
            max_latency: f64::INFINITY,
            max_interval: f64::INFINITY,
            tie: 1.01,
        }
    }

    fn point(interval: f64, latency: f64, right: u32) -> Point<usize> {
        Point { interval, latency, right, config: 0 }
    }

    #[test]
    fn rounding_breaks_no_tie() {
        // 67 + 253.579310345 in two orders of summing: of equals, the more accurate one is the better.
        let latency = 320.579_310_345;
        let points = [point(67.0, latency, 3), point(67.0, latency * (1.0 + 1e-13), 7)];
        for objective in [Objective::Rate, Objective::Latency] {
            assert_eq!(criteria(objective).pick(&points).unwrap().right, 7);
        }
        let faster = [point(67.0, latency * 0.999_999, 3), points[1]];
        assert_eq!(criteria(Objective::Rate).pick(&faster).unwrap().right, 3);
        assert!(criteria(Objective::Rate).pick::<usize>(&[]).is_none());
    }
}
