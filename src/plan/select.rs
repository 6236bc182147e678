//! Which point is best: objective, ties and constraints.

use super::pareto::Point;
use super::scenario::Scenario;
use super::search::Objective;
use crate::units::Micros;

/// Points within this factor of the best count as ties, to be broken by the second figure.
const TIE: f64 = 1.01;

pub(super) enum Pick<C> {
    Best(Point<C>),
    /// Names the constraint that stands in the way and the nearest plan's figures.
    Infeasible(String),
}

/// The best of `points` under the scenario's objective and constraints. Objective, ties and constraints only ever favour
/// a lower interval, a lower latency or a higher accuracy, so the best of a Pareto front is the best of all.
pub(super) fn pick<C: Copy>(scenario: &Scenario, points: &[Point<C>]) -> Pick<C> {
    let feasible: Vec<&Point<C>> = points.iter().filter(|point| excess(scenario, point) <= 0.0).collect();
    let Some(first) = feasible.iter().map(|point| figures(scenario, point).0).min_by(f64::total_cmp) else {
        return infeasible(scenario, points);
    };
    let limit = if scenario.constraints.objective == Objective::Accuracy { first } else { first * TIE };
    let tied = feasible.into_iter().filter(|point| figures(scenario, point).0 <= limit);
    let order = |a: &&Point<C>, b: &&Point<C>| {
        let (a, b) = (figures(scenario, a), figures(scenario, b));
        a.1.total_cmp(&b.1).then_with(|| a.2.total_cmp(&b.2)).then_with(|| a.0.total_cmp(&b.0))
    };
    tied.min_by(order).map_or_else(|| infeasible(scenario, points), |point| Pick::Best(*point))
}

/// Whether `a` comes before `b` when only one of a kind can be kept: constraints first, then the figures in order.
pub(super) fn beats<C>(scenario: &Scenario, a: &Point<C>, b: &Point<C>) -> bool {
    let key = |point: &Point<C>| {
        let (first, second, third) = figures(scenario, point);
        [excess(scenario, point), first, second, third]
    };
    key(a).partial_cmp(&key(b)) == Some(std::cmp::Ordering::Less)
}

/// The figures to minimise, most important first.
fn figures<C>(scenario: &Scenario, point: &Point<C>) -> (f64, f64, f64) {
    match scenario.constraints.objective {
        Objective::Rate => (point.interval, point.latency, -point.accuracy),
        Objective::Latency => (point.latency, point.interval, -point.accuracy),
        Objective::Accuracy => (-point.accuracy, point.interval, point.latency),
    }
}

/// By how much a point misses its constraints, as a sum of shares; zero where it meets them all.
fn excess<C>(scenario: &Scenario, point: &Point<C>) -> f64 {
    misses(scenario, point).map(|(_, miss)| miss.max(0.0)).into_iter().sum()
}

/// Rounding must not turn "exactly the floor" into a miss.
const ROUNDING: f64 = 1e-12;

fn misses<C>(scenario: &Scenario, point: &Point<C>) -> [(String, f64); 3] {
    let constraints = &scenario.constraints;
    let floor = scenario.accuracy_floor();
    let latency = constraints.max_latency_us.unwrap_or(Micros(f64::INFINITY));
    let interval = constraints.min_rate_per_s.map_or(f64::INFINITY, |rate| 1e6 / rate);
    [
        (format!("accuracy of at least {floor}"), floor.0 - point.accuracy - ROUNDING),
        (format!("latency of at most {latency}"), point.latency / latency.0 - 1.0 - ROUNDING),
        (
            format!("rate of at least {:.1}/s", constraints.min_rate_per_s.unwrap_or(0.0)),
            point.interval / interval - 1.0 - ROUNDING,
        ),
    ]
}

fn infeasible<C>(scenario: &Scenario, points: &[Point<C>]) -> Pick<C> {
    let nearest = points.iter().min_by(|a, b| excess(scenario, a).total_cmp(&excess(scenario, b)));
    let Some(nearest) = nearest else {
        return Pick::Infeasible(
            "the scenario allows no plan at all: it has neither encodings nor exits".into(),
        );
    };
    let missed: Vec<String> =
        misses(scenario, nearest).into_iter().filter(|(_, miss)| *miss > 0.0).map(|(what, _)| what).collect();
    Pick::Infeasible(format!(
        "no plan has the {} that was asked for together with the other constraints\nthe nearest plan: {:.1}/s, latency {}, \
         accuracy {:.2} %",
        missed.join(" and the "),
        1e6 / nearest.interval,
        Micros(nearest.latency),
        nearest.accuracy * 100.0
    ))
}
