//! The exact search: over what crosses each link, the exits, their thresholds, and the node that tries each.

use serde::{Deserialize, Serialize};

use super::answers::{Answers, Grids};
use super::pareto::{Front, Point};
use super::plan::Plan;
use super::predict::{Prediction, predict, predict_in};
use super::problem::Problem;
use super::scenario::{Constraints, Objective};
use super::select::{Criteria, unmet};
use super::sink::{Best, Config, Walk};
use super::space::Space;
use super::tally::{MAX_EXITS, Tally};
use super::tiers::Tiers;
use super::two_nodes::TwoNodes;
use crate::error::{Error, Remedy, Result};
use crate::units::{Micros, Share, rate};

/// A plan with what it would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The plan.
    pub plan: Plan,
    /// What it would do.
    pub prediction: Prediction,
}

/// A plan of the Pareto front with its three figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPlan {
    /// Tasks per second; infinite, in JSON `null`, where nothing takes any time.
    #[serde(deserialize_with = "rate")]
    pub rate_per_s: f64,
    /// Mean latency of a task alone.
    pub latency_us: Micros,
    /// Share answered right.
    pub accuracy: Share,
    /// The plan.
    pub plan: Plan,
}

/// A Pareto front of rate, latency and accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct ParetoFront {
    /// By falling rate.
    pub plans: Vec<FrontPlan>,
    /// Where the scenario has too many settings of its exits for a whole front: how many of each exit's thresholds were looked
    /// at, evenly spread.
    pub thresholds: Option<usize>,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best plan.
    pub best: Predicted,
    /// The best plan that resumes or encodes otherwise; `None` where there is none, or where that is not known.
    pub runner_up: Option<Predicted>,
    /// Whether the search for the runner-up came to its end.
    pub knows_runner_up: bool,
    /// The interval or latency, whichever is the objective, of the very best plan: less than that of `best` where ties were broken;
    /// `None` where accuracy is the objective.
    pub very_best: Option<Micros>,
    /// By which share of the best plan's interval, latency or accuracy, whichever is the objective, another plan may be better:
    /// 0 unless the search ended early.
    pub gap: Share,
    /// How many configurations were weighed, with two nodes by bounds on many at once. With more nodes those are counted
    /// that were followed to their end; the others share a stretch that a better way replaces.
    pub configurations: u64,
    /// How many cuts can be crossed.
    pub cuts: usize,
    /// Right answers of the best plan, in parts of the scenario's tally.
    pub(super) best_right: u32,
}

/// Finds the best plan for `scenario` under its constraints, exactly.
pub fn search(scenario: &Problem) -> Result<Found> {
    search_until(scenario, &|| false)
}

/// The same, but ends once `is_over` says so, with the best plan found and a proved bound on all others. One region of settings
/// is then still looked at for each choice of the exits that are on, which takes seconds with ten side exits.
pub fn search_until(scenario: &Problem, is_over: &dyn Fn() -> bool) -> Result<Found> {
    scenario.check()?;
    check_size(scenario)?;
    let space = Space::new(scenario)?;
    let grids = Grids::new(scenario);
    let answers = Answers::new(&space, &grids);
    if scenario.nodes.len() == 2 {
        find(&space, TwoNodes::new(&space, &grids, &answers), is_over)
    } else {
        check_cuts(&space)?;
        find(&space, Tiers::new(&space, &grids, &answers), is_over)
    }
}

/// A front of more settings than these would take minutes.
const MOST_FRONT_SETTINGS: f64 = 1e6;

/// The Pareto front of rate, latency and accuracy over all configurations, or over those with some of the thresholds where there
/// are too many; `best` is then put to them.
pub fn pareto_front(scenario: &Problem, best: Option<&Predicted>) -> Result<ParetoFront> {
    front_of_settings(scenario, best, MOST_FRONT_SETTINGS)
}

fn front_of_settings(
    scenario: &Problem,
    best: Option<&Predicted>,
    most_settings: f64,
) -> Result<ParetoFront> {
    check_size(scenario)?;
    let space = Space::new(scenario)?;
    let all = Grids::new(scenario);
    let thinned = all.thinned(most_settings);
    let grids = thinned.as_ref().unwrap_or(&all);
    let answers = Answers::new(&space, grids);
    let mut plans = if scenario.nodes.len() == 2 {
        named_front(scenario, TwoNodes::new(&space, grids, &answers))
    } else {
        check_cuts(&space)?;
        named_front(scenario, Tiers::new(&space, grids, &answers))
    };
    if let (Some(best), true) = (best, thinned.is_some()) {
        add(&mut plans, best);
    }
    if plans.is_empty() {
        return Err(too_little_memory(scenario));
    }
    let thresholds = thinned.map(|grids| grids.steps().into_iter().max().unwrap_or(0).into());
    Ok(ParetoFront { plans, thresholds })
}

/// Puts a plan to a front that may lack it.
fn add(plans: &mut Vec<FrontPlan>, best: &Predicted) {
    let Prediction { rate_per_s, latency_us, accuracy, .. } = best.prediction;
    let is_no_worse = |a: &FrontPlan, b: &FrontPlan| {
        a.rate_per_s >= b.rate_per_s && a.latency_us.0 <= b.latency_us.0 && a.accuracy.0 >= b.accuracy.0
    };
    let best = FrontPlan { rate_per_s, latency_us, accuracy, plan: best.plan.clone() };
    if !plans.iter().any(|plan| is_no_worse(plan, &best)) {
        plans.retain(|plan| !is_no_worse(&best, plan));
        plans.insert(plans.partition_point(|plan| plan.rate_per_s > best.rate_per_s), best);
    }
}

fn named_front(scenario: &Problem, mut walk: impl Walk) -> Vec<FrontPlan> {
    let mut front = Front::default();
    walk.walk(&mut front);
    in_names(scenario, &front.take(), &walk)
}

fn find(space: &Space<'_>, mut walk: impl Walk, is_over: &dyn Fn() -> bool) -> Result<Found> {
    let criteria = Criteria::of(space.scenario);
    let mut sink = Best::new(criteria, is_over);
    walk.walk(&mut sink);
    let (left, least) = (sink.left, sink.least);
    let Some(best) = criteria.pick(&sink.front.take()) else { return Err(no_plan(space.scenario, left)) };
    let gap = criteria.gap(&best, left, Tally::of(space.scenario));
    let second = if gap.0 > 0.0 { None } else { runner_up(&walk, &best.config, criteria, is_over) };
    let knows_runner_up = second.is_some();
    let predicted = |plan: Plan| {
        let prediction = predict_in(space, &plan)?;
        Ok::<_, Error>(Predicted { plan, prediction })
    };
    Ok(Found {
        best: predicted(walk.plan(&best.config))?,
        runner_up: second.flatten().map(predicted).transpose()?,
        knows_runner_up,
        very_best: (criteria.objective != Objective::Accuracy).then_some(Micros(least)),
        gap,
        configurations: walk.configurations(),
        cuts: space.resumes.len(),
        best_right: best.right,
    })
}

/// The best of the configurations that cross otherwise, where there are any; `None` where the search for it ended early.
fn runner_up<W: Walk>(
    walk: &W,
    best: &Config<W::Place>,
    criteria: Criteria,
    is_over: &dyn Fn() -> bool,
) -> Option<Option<Plan>> {
    let (mut seconds, mut plans) = (Vec::new(), Vec::new());
    for mut other in walk.others(best) {
        let mut second = Best::new(criteria, is_over);
        other.walk(&mut second);
        if second.left < f64::INFINITY {
            return None;
        }
        if let Some(point) = criteria.pick(&second.front.take()) {
            let Point { interval, latency, right, config } = point;
            seconds.push(Point { interval, latency, right, config: plans.len() });
            plans.push(other.plan(&config));
        }
    }
    Some(criteria.pick(&seconds).map(|point| plans.swap_remove(point.config)))
}

/// Why no plan was found, where so much was left.
fn no_plan(scenario: &Problem, left: f64) -> Error {
    if left < f64::INFINITY {
        return Error::unmet("no plan that meets the constraints was found in time; there may be one")
            .with(Remedy::SearchLonger);
    }
    match pareto_front(scenario, None) {
        Ok(front) => {
            let tally = Tally::of(scenario);
            let point = |plan: &FrontPlan| Point {
                interval: 1e6 / plan.rate_per_s,
                latency: plan.latency_us.0,
                right: tally.parts_in(plan.accuracy),
                config: (),
            };
            Error::unmet(unmet(scenario, &front.plans.iter().map(point).collect::<Vec<_>>()))
        }
        Err(error) => error,
    }
}

/// Says which nodes cannot hold what they would have to, in the plan without memory limits that exceeds them the least.
fn too_little_memory(scenario: &Problem) -> Error {
    let limited = scenario.nodes.iter().any(|node| node.memory_bytes.is_some());
    let free = scenario.varied(|file| {
        file.nodes.iter_mut().for_each(|node| node.memory_bytes = None);
        file.constraints = Constraints { min_accuracy: Some(Share(0.0)), ..Constraints::default() };
    });
    let front = if limited { pareto_front(&free, None).ok() } else { None };
    let misses = |plan: &FrontPlan| -> Vec<(usize, f64, f64)> {
        let needs = predict(&free, &plan.plan).map(|prediction| prediction.memory_bytes).unwrap_or_default();
        let limits =
            scenario.nodes.iter().map(|node| node.memory_bytes.map_or(f64::INFINITY, |limit| limit as f64));
        needs
            .into_iter()
            .zip(limits)
            .enumerate()
            .filter(|(_, (need, limit))| need > limit)
            .map(|(k, (need, limit))| (k, need, limit))
            .collect()
    };
    let excess = |misses: &[(usize, f64, f64)]| {
        misses.iter().map(|(_, need, limit)| need / limit.max(1.0)).sum::<f64>()
    };
    let all = front.iter().flat_map(|front| &front.plans).map(misses);
    let Some(least) = all.min_by(|a, b| excess(a).total_cmp(&excess(b))) else {
        return Error::unmet(unmet::<()>(scenario, &[]));
    };
    let of_node = |&(node, need, limit): &(usize, f64, f64)| {
        format!("node '{}' needs {need:.0} bytes, its memory_bytes are {limit:.0}", scenario.nodes[node].name)
    };
    let missed: Vec<String> = least.iter().map(of_node).collect();
    Error::unmet(format!("no plan fits into the nodes' memory\nin the nearest one {}", missed.join("; ")))
}

fn in_names<W: Walk>(scenario: &Problem, front: &[Point<Config<W::Place>>], walk: &W) -> Vec<FrontPlan> {
    let named = |point: &Point<_>| FrontPlan {
        rate_per_s: Micros(point.interval).rate_per_s(),
        latency_us: Micros(point.latency),
        accuracy: Tally::of(scenario).accuracy(point.right),
        plan: walk.plan(&point.config),
    };
    front.iter().map(named).collect()
}

/// With more than two nodes, more cuts than this would make too many pairs.
const MOST_CUTS_OF_TIERS: usize = 20_000;

fn check_cuts(space: &Space<'_>) -> Result<()> {
    let cuts = space.resumes.len();
    if cuts <= MOST_CUTS_OF_TIERS {
        return Ok(());
    }
    Err(Error::failed(format!(
        "at most {MOST_CUTS_OF_TIERS} cuts can be searched for more than two nodes, found {cuts}; list fewer in `encodings`"
    )))
}

pub(super) fn check_size(scenario: &Problem) -> Result<()> {
    if scenario.exits.len() > MAX_EXITS {
        return Err(Error::failed(format!(
            "at most {MAX_EXITS} exits can be searched, found {}; leave the least useful ones out",
            scenario.exits.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::super::brute_force::random_scenario;
    use super::*;

    /// The figure that counts first, the less the better.
    fn first(scenario: &Problem, found: &Found) -> f64 {
        let prediction = &found.best.prediction;
        match scenario.constraints.objective {
            Objective::Rate => prediction.interval_us.0,
            Objective::Latency => prediction.latency_us.0,
            Objective::Accuracy => -prediction.accuracy.0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
        #[test]
        fn no_plan_is_better_than_an_early_end_leaves_possible(
            seed in any::<u64>(), nodes in 2usize..4, looks in 0usize..40,
        ) {
            let scenario = random_scenario(seed, nodes);
            let left = Cell::new(looks);
            let is_over = || left.replace(left.get().saturating_sub(1)) == 0;
            match (search(&scenario), search_until(&scenario, &is_over)) {
                (Ok(best), Ok(early)) => {
                    prop_assert!(best.knows_runner_up);
                    if early.gap.0 == 0.0 && early.knows_runner_up {
                        prop_assert_eq!(early.runner_up.is_some(), best.runner_up.is_some());
                    } else {
                        prop_assert!(early.runner_up.is_none());
                    }
                    let (best, found) = (first(&scenario, &best), first(&scenario, &early));
                    let possible = match scenario.constraints.objective {
                        Objective::Accuracy => found / (1.0 - early.gap.0),
                        _ => found * (1.0 - early.gap.0),
                    };
                    // Ties may be taken in the first figure.
                    let reached = possible <= best + 1e-9 * best.abs();
                    prop_assert!(reached, "{possible} of {found} at best, {best} found");
                    let tie = scenario.constraints.ties.map_or(0.01, |ties| ties.0) + 1e-9;
                    prop_assert!(early.gap.0 > 0.0 || found <= best + best.abs() * tie);
                }
                (Err(_), early) => prop_assert!(early.is_err()),
                (Ok(_), Err(error)) => prop_assert_eq!(error.remedy(), Some(Remedy::SearchLonger)),
            }
        }

        #[test]
        fn a_thinned_front_is_one_and_holds_the_best_plan(seed in any::<u64>(), most in 1u32..40) {
            let scenario = random_scenario(seed, 2);
            let Ok(found) = search(&scenario) else { return Ok(()) };
            let front = front_of_settings(&scenario, Some(&found.best), f64::from(most)).unwrap();
            let whole = front_of_settings(&scenario, None, f64::INFINITY).unwrap().plans;
            let reaches = |a: &FrontPlan, b: &FrontPlan| {
                a.rate_per_s >= b.rate_per_s * (1.0 - 1e-9)
                    && a.latency_us.0 <= b.latency_us.0 * (1.0 + 1e-9)
                    && a.accuracy >= b.accuracy
            };
            for plan in &front.plans {
                prop_assert!(whole.iter().any(|other| reaches(other, plan)));
            }
            prop_assert!(front.plans.is_sorted_by(|a, b| a.rate_per_s >= b.rate_per_s));
            let Prediction { rate_per_s, latency_us, accuracy, .. } = found.best.prediction;
            let best = FrontPlan { rate_per_s, latency_us, accuracy, plan: found.best.plan };
            prop_assert!(front.plans.iter().any(|plan| reaches(plan, &best)));
            prop_assert!(front.thresholds.is_some() || front.plans.len() == whole.len());
        }
    }
}
