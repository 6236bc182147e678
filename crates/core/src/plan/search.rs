//! The exact search: over what crosses each link, the exits, their thresholds, and the node that tries each.

use serde::{Deserialize, Serialize};

use super::answers::{Answers, Grids};
use super::pareto::{Front, Point};
use super::plan::Plan;
use super::predict::{Prediction, predict, predict_in};
use super::problem::Problem;
use super::scenario::{Constraints, threshold_steps};
use super::select::{Criteria, unmet};
use super::sink::{Best, Config, Walk};
use super::space::Space;
use super::tally::{MAX_EXITS, Tally, threshold_grid};
use super::tiers::Tiers;
use super::two_nodes::TwoNodes;
use crate::error::{Error, Result};
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

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best plan.
    pub best: Predicted,
    /// The best plan that resumes or encodes otherwise.
    pub runner_up: Option<Predicted>,
    /// The Pareto front of rate, latency and accuracy, by falling rate.
    pub front: Vec<FrontPlan>,
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
    scenario.check()?;
    check_size(scenario)?;
    let space = Space::new(scenario)?;
    let grids = Grids::new(scenario);
    let answers = Answers::new(&space, &grids);
    if scenario.nodes.len() == 2 {
        find(&space, TwoNodes::new(&space, &grids, &answers))
    } else {
        check_cuts(&space)?;
        find(&space, Tiers::new(&space, &grids, &answers))
    }
}

/// The Pareto front of rate, latency and accuracy over all configurations, by falling rate.
pub(super) fn front(scenario: &Problem) -> Result<Vec<FrontPlan>> {
    check_size(scenario)?;
    let space = Space::new(scenario)?;
    let grids = Grids::new(scenario);
    let answers = Answers::new(&space, &grids);
    let named = if scenario.nodes.len() == 2 {
        named_front(scenario, TwoNodes::new(&space, &grids, &answers))
    } else {
        check_cuts(&space)?;
        named_front(scenario, Tiers::new(&space, &grids, &answers))
    };
    if named.is_empty() { Err(too_little_memory(scenario)) } else { Ok(named) }
}

fn named_front(scenario: &Problem, mut walk: impl Walk) -> Vec<FrontPlan> {
    let mut front = Front::default();
    walk.walk(&mut front);
    in_names(scenario, &front.take(), &walk)
}

fn find(space: &Space<'_>, mut walk: impl Walk) -> Result<Found> {
    let mut front = Front::default();
    walk.walk(&mut front);
    let front = front.take();
    let (criteria, best) = best_of(space, &front)?;
    let (mut seconds, mut plans) = (Vec::new(), Vec::new());
    for mut other in walk.others(&best.config) {
        let mut second = Best::new(criteria);
        other.walk(&mut second);
        if let Some(point) = criteria.pick(&second.front.take()) {
            let Point { interval, latency, right, config } = point;
            seconds.push(Point { interval, latency, right, config: plans.len() });
            plans.push(other.plan(&config));
        }
    }
    let predicted = |plan: Plan| {
        let prediction = predict_in(space, &plan)?;
        Ok::<_, Error>(Predicted { plan, prediction })
    };
    let second = criteria.pick(&seconds).map(|point| predicted(plans.swap_remove(point.config)));
    Ok(Found {
        best: predicted(walk.plan(&best.config))?,
        runner_up: second.transpose()?,
        front: in_names(space.scenario, &front, &walk),
        configurations: walk.configurations(),
        cuts: space.resumes.len(),
        best_right: best.right,
    })
}

fn best_of<C: Copy>(space: &Space<'_>, front: &[Point<C>]) -> Result<(Criteria, Point<C>)> {
    let criteria = Criteria::of(space.scenario);
    match criteria.pick(front) {
        Some(best) => Ok((criteria, best)),
        None if front.is_empty() => Err(too_little_memory(space.scenario)),
        None => Err(Error::unmet(unmet(space.scenario, front))),
    }
}

/// Says which nodes cannot hold what they would have to, in the plan without memory limits that exceeds them the least.
fn too_little_memory(scenario: &Problem) -> Error {
    let limited = scenario.nodes.iter().any(|node| node.memory_bytes.is_some());
    let free = scenario.varied(|file| {
        file.nodes.iter_mut().for_each(|node| node.memory_bytes = None);
        file.constraints = Constraints { min_accuracy: Some(Share(0.0)), ..Constraints::default() };
    });
    let found = if limited { search(&free).ok() } else { None };
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
    let all = found.iter().flat_map(|found| &found.front).map(misses);
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

/// More settings of the exits before the last two side exits would take hours.
const MOST_OUTER_SETTINGS: f64 = 1e4;

/// With more than two nodes, more cuts than this would make too many pairs.
const MOST_CUTS_OF_TIERS: usize = 4000;

/// The steps of a threshold grid that is searched within a minute or two: the default, and with more than three side exits as
/// many as make no more than a hundred thousand settings.
pub fn practical_threshold_steps(exits: usize) -> usize {
    let side_exits = exits.saturating_sub(1);
    if side_exits <= 3 {
        return threshold_steps();
    }
    // Each grid also has "never" and "always". Roots of round numbers come out a little below them.
    let width = (1e5_f64.powf(1.0 / side_exits as f64) + 1e-9) as usize;
    width.saturating_sub(2).max(1)
}

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
    let outer = 0..scenario.exits.len().saturating_sub(3);
    // "Never" and "always" stand beside the thresholds.
    let settings: f64 = outer.map(|exit| threshold_grid(scenario, exit).len() as f64 + 2.0).product();
    if settings > MOST_OUTER_SETTINGS {
        return Err(Error::failed(format!(
            "{} exits make too many settings to search whole; lower threshold_steps to {}, shorten marginal tables or leave \
             exits out",
            scenario.exits.len(),
            practical_threshold_steps(scenario.exits.len()),
        )));
    }
    Ok(())
}
