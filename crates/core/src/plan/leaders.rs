//! What plans do under arrivals, and which of the leading ones holds a ceiling on the 99th percentile of latency. The exact
//! search ranks plans by means; how tasks wait for each other only a simulation tells.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::predict::{predict_in, workload_in};
use super::problem::Problem;
use super::scenario::Objective;
use super::search::{FrontPlan, Predicted};
use super::select::Criteria;
use super::simulate::{Arrival, Simulated, simulate, sustained_rate};
use super::space::Space;
use super::tally::Tally;
use crate::error::{Error, Result};
use crate::units::Micros;

/// Makes every simulation repeatable.
const SEED: u64 = 1;

/// How many leaders are simulated at most: about a hundredth of a second each.
const MOST_LEADERS: usize = 64;

/// A plan under arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderLoad {
    /// The arrivals.
    pub arrival: Arrival,
    /// What the simulation found.
    pub simulated: Simulated,
    /// The largest rate at which the queues do not grow without end.
    pub sustained_rate_per_s: f64,
}

/// The plan that a ceiling on the 99th percentile was decided for.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The plan.
    pub best: Predicted,
    /// How many leaders were simulated.
    pub simulated: usize,
}

/// Simulates `predicted` under arrivals.
pub fn under_load(scenario: &Problem, predicted: &Predicted, arrival: Arrival) -> Result<UnderLoad> {
    load(&Space::new(scenario)?, predicted, arrival)
}

fn load(space: &Space<'_>, predicted: &Predicted, arrival: Arrival) -> Result<UnderLoad> {
    let workload = workload_in(space, &predicted.plan)?;
    let simulated = simulate(&workload, arrival, SEED)?;
    Ok(UnderLoad { arrival, simulated, sustained_rate_per_s: sustained_rate(&workload) })
}

/// The first of the leading plans of the Pareto front that stays below the scenario's ceiling under its arrivals; `None` where
/// the scenario has no ceiling. With more than [`MOST_LEADERS`] plans, the first half of these are the very first, the
/// others lie evenly between the rest: not all of the front is then simulated.
pub fn decide(scenario: &Problem, best: &Plan, front: &[FrontPlan]) -> Result<Option<Decided>> {
    decide_among(scenario, leaders(scenario, best, front).into_iter().map(|leader| &leader.plan))
}

/// The same among these plans, best first.
pub fn decide_among<'p>(
    scenario: &Problem,
    plans: impl Iterator<Item = &'p Plan>,
) -> Result<Option<Decided>> {
    let (Some(arrival), Some(limit)) = (scenario.constraints.arrival, scenario.constraints.p99_below_us)
    else {
        return Ok(None);
    };
    let space = Space::new(scenario)?;
    let (mut simulated, mut nearest): (usize, Option<Micros>) = (0, None);
    for plan in plans {
        let predicted = Predicted { plan: plan.clone(), prediction: predict_in(&space, plan)? };
        simulated += 1;
        let loaded = load(&space, &predicted, arrival)?;
        let p99 =
            loaded.simulated.latency_us.filter(|_| !loaded.simulated.saturated).map(|latency| latency.p99);
        if p99.is_some_and(|p99| p99 <= limit) {
            return Ok(Some(Decided { best: predicted, simulated }));
        }
        nearest = [nearest, p99].into_iter().flatten().min_by(|a, b| a.0.total_cmp(&b.0));
    }
    let nearest = nearest
        .map_or("all of them are slower than tasks arrive".into(), |p99| format!("the nearest has {p99}"));
    Err(Error::unmet(format!(
        "none of {simulated} leading plans keeps the 99th percentile of latency below {limit} under {arrival}\n{nearest}"
    )))
}

/// Plans of the front that meet the other constraints, best first.
fn leaders<'f>(scenario: &Problem, best: &Plan, front: &'f [FrontPlan]) -> Vec<&'f FrontPlan> {
    let criteria = Criteria::of(scenario);
    let tally = Tally::of(scenario);
    let right = |plan: &FrontPlan| tally.parts_in(plan.accuracy);
    let figures = |plan: &FrontPlan| (1e6 / plan.rate_per_s, plan.latency_us.0, right(plan));
    let feasible = front.iter().filter(|plan| {
        let (interval, latency, right) = figures(plan);
        criteria.is_met(interval * (1.0 - 1e-12), latency, right)
    });
    let mut feasible: Vec<&FrontPlan> = feasible.collect();
    let key = |plan: &FrontPlan| {
        let (interval, latency, right) = figures(plan);
        criteria.figures(interval, latency, right)
    };
    feasible.sort_by(|a, b| {
        let pairs = key(a).into_iter().zip(key(b));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    // The search's own choice comes first: within a tie it is not the first by the first figure alone.
    if criteria.objective != Objective::Accuracy
        && let Some(at) = feasible.iter().position(|plan| plan.plan == *best)
    {
        let best = feasible.remove(at);
        feasible.insert(0, best);
    }
    let first = MOST_LEADERS / 2;
    if feasible.len() > MOST_LEADERS {
        let rest = feasible.split_off(first);
        let spread = |index: usize| rest[index * (rest.len() - 1) / (MOST_LEADERS - first - 1)];
        feasible.extend((0..MOST_LEADERS - first).map(spread));
    }
    feasible
}

#[cfg(test)]
mod tests {
    use super::super::search::{Found, pareto_front, search};
    use super::*;

    fn scenario(constraints: serde_json::Value) -> Problem {
        let text = serde_json::json!({
            "schema": super::super::SCHEMA,
            "layers": [{"name": "a", "output_bytes": 1000}, {"name": "b", "output_bytes": 1000}],
            "nodes": [
                {"name": "device", "layers_us": [4000, 4000]},
                {"name": "edge", "layers_us": [1000, 1000]}
            ],
            "links": [{"bits_per_second": 1e6, "delay_us": 3000}],
            "constraints": constraints,
        });
        Problem::from_json(&text.to_string()).unwrap()
    }

    fn decided(scenario: &Problem, found: &Found) -> Result<Option<Decided>> {
        decide(scenario, &found.best.plan, &pareto_front(scenario, Some(&found.best)).unwrap().plans)
    }

    #[test]
    fn a_ceiling_can_overrule_the_search() {
        // Alone the device needs 8 ms a task; with the edge tasks take 4 + 8 + 1 + 6 ms, and the link is the slowest.
        let free = scenario(serde_json::json!({"objective": "latency"}));
        let found = search(&free).unwrap();
        assert_eq!(found.best.prediction.latency_us, Micros(8000.0));
        assert!(decided(&free, &found).unwrap().is_none());
        let held = scenario(serde_json::json!({"arrival": "rate:100", "p99_below_us": 8000}));
        let decided = decided(&held, &search(&held).unwrap()).unwrap().unwrap();
        assert_eq!(decided.best.prediction.latency_us, Micros(8000.0));
        let loaded = under_load(&held, &decided.best, "rate:100".parse().unwrap()).unwrap();
        assert_eq!(loaded.simulated.latency_us.unwrap().p99, Micros(8000.0));
        assert!((loaded.sustained_rate_per_s - 125.0).abs() < 1e-9);
    }

    #[test]
    fn what_nobody_holds_is_unmet() {
        let held = scenario(serde_json::json!({"arrival": "poisson:120", "p99_below_us": 8000}));
        let error = decided(&held, &search(&held).unwrap()).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("99th percentile"), "{error}");
        let swamped = scenario(serde_json::json!({"arrival": "rate:1000", "p99_below_us": 8000}));
        let error = decided(&swamped, &search(&swamped).unwrap()).unwrap_err();
        assert!(error.to_string().contains("slower than tasks arrive"), "{error}");
    }
}
