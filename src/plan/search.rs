//! The exact search over cut, resume cut, encoding, exits, their thresholds and the node that tries each.
//!
//! The space: for every exit a threshold out of a grid (never, a grid of entropies, always) and the node that tries it,
//! exits tried on the device coming before those tried on the edge; every resume cut along the trunk's order; every
//! encoding that the scenario has at that cut. The device's own cut needs no search: whatever it runs beyond both the
//! last exit that it tries and the resume cut is neither looked at nor sent, so running it costs time and changes
//! nothing else. The best device cut is therefore the later of these two.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::outcomes::SampleSet;
use super::pareto::{Front, Point};
use super::plan::{Plan, Threshold};
use super::predict::{Prediction, predict_in};
use super::scenario::Scenario;
use super::select::{Pick, pick};
use super::space::{Path, Position, Space};
use crate::error::{Error, Result};
use crate::units::{Micros, Share};

/// Exits beyond this number would make the grid too large to search whole.
pub const MAX_EXITS: usize = 8;

/// Steps of the threshold grid, in even shares of the samples.
const GRID_STEPS: usize = 20;

/// What to optimize; the others may be constrained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Lowest interval; within 1 % of it, lowest latency.
    #[default]
    Rate,
    /// Lowest latency; within 1 % of it, lowest interval.
    Latency,
    /// Highest accuracy; then lowest interval.
    Accuracy,
}

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
    /// Tasks per second.
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
    /// The best plan that cuts, resumes or encodes otherwise.
    pub runner_up: Option<Predicted>,
    /// The Pareto front of rate, latency and accuracy, by falling rate.
    pub front: Vec<FrontPlan>,
    /// How many configurations were weighed.
    pub configurations: u64,
}

/// A configuration in indices: small enough to keep by the million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Per exit an index into its grid; 0 is "never".
    threshold: [u8; MAX_EXITS],
    /// Exits below this index are tried on the device, if at all.
    edge_from: u8,
    cut: u16,
    /// A row of the encoding table; `None` where nothing crosses.
    row: Option<u16>,
}

impl Config {
    /// What stays the same when only exits and thresholds change: the device's cut and what crosses after it.
    fn structure(&self) -> (u16, Option<u16>) {
        (self.cut, self.row)
    }
}

/// A threshold grid per exit: `[never, entropies…, always]`, the final exit `[never, always]`.
fn grids(scenario: &Scenario) -> Vec<Vec<Threshold>> {
    let last = scenario.exits.len() - 1;
    let grid = |exit: usize| {
        let mut grid = vec![Threshold::Never];
        if exit != last {
            grid.extend(scenario.outcomes[exit].entropy_quantiles(GRID_STEPS));
        }
        grid.push(Threshold::Always);
        grid
    };
    (0..=last).map(grid).collect()
}

/// Finds the best plan for `scenario` under its constraints, exactly.
pub fn search(scenario: &Scenario) -> Result<Found> {
    scenario.check()?;
    if scenario.exits.len() > MAX_EXITS || scenario.layers.len() > usize::from(u16::MAX) {
        return Err(Error::failed(format!(
            "at most {MAX_EXITS} exits can be searched, found {}",
            scenario.exits.len()
        )));
    }
    let space = Space::new(scenario)?;
    let mut walk = Walk::new(&space);
    walk.on_device();
    let configurations = walk.configurations;
    let best_of_structure = std::mem::take(&mut walk.best_of_structure);
    let front = walk.front.take();
    let best = match pick(scenario, &front) {
        Pick::Best(point) => point,
        Pick::Infeasible(message) => return Err(Error::unmet(message)),
    };
    let best_structure = best.config.structure();
    let others: Vec<Point<Config>> = best_of_structure
        .into_iter()
        .filter_map(|(structure, point)| (structure != best_structure).then_some(point))
        .collect();
    let runner_up = match pick(scenario, &others) {
        Pick::Best(point) => Some(walk.predicted(&point)?),
        Pick::Infeasible(_) => None,
    };
    let front = front.iter().map(|point| walk.front_plan(point)).collect::<Result<_>>()?;
    Ok(Found { best: walk.predicted(&best)?, runner_up, front, configurations })
}

/// Depth-first over the exits on the device, then over paths, then over the exits on the edge. Every level narrows the
/// set of samples still in flight, so a share is always a count of joint records.
struct Walk<'s, 'a> {
    space: &'s Space<'a>,
    grids: Vec<Vec<Threshold>>,
    /// `leaving[path][exit][grid]`; the last path is the device's own, without a link.
    leaving: Vec<Vec<Vec<SampleSet>>>,
    front: Front<Config>,
    best_of_structure: HashMap<(u16, Option<u16>), Point<Config>>,
    configurations: u64,
}

/// What has been decided and spent so far. Times are sums over samples.
#[derive(Clone)]
struct State {
    config: Config,
    alive: SampleSet,
    in_flight: usize,
    at: Position,
    device: Micros,
    edge: Micros,
    right: usize,
}

impl<'s, 'a> Walk<'s, 'a> {
    fn new(space: &'s Space<'a>) -> Self {
        let grids = grids(space.scenario);
        let leaving_on = |outcomes: Option<&super::outcomes::Outcomes>, exit: usize| -> Vec<SampleSet> {
            outcomes.map_or_else(Vec::new, |o| {
                grids[exit].iter().map(|&threshold| o.leaving(threshold)).collect()
            })
        };
        let behind =
            |path: &Path<'_>| path.outcomes.iter().enumerate().map(|(e, o)| leaving_on(*o, e)).collect();
        let mut leaving: Vec<Vec<Vec<SampleSet>>> = space.paths.iter().map(behind).collect();
        leaving
            .push(space.scenario.outcomes.iter().enumerate().map(|(e, o)| leaving_on(Some(o), e)).collect());
        Self {
            space,
            grids,
            leaving,
            front: Front::default(),
            best_of_structure: HashMap::new(),
            configurations: 0,
        }
    }

    fn on_device(&mut self) {
        let samples = self.space.scenario.samples();
        let start = State {
            config: Config { threshold: [0; MAX_EXITS], edge_from: 0, cut: 0, row: None },
            alive: SampleSet::of(samples, |_| true),
            in_flight: samples,
            at: 0,
            device: Micros::ZERO,
            edge: Micros::ZERO,
            right: 0,
        };
        self.device_exits(&start, 0);
    }

    /// Crosses here, or tries one more exit on the device.
    fn device_exits(&mut self, state: &State, next: usize) {
        self.cross(state, next);
        let own = self.leaving.len() - 1;
        for exit in next..self.grids.len() {
            let step = self.space.run_time(0, state.at, self.space.needs[exit])
                + self.space.scenario.nodes[0].exits_us[exit];
            for grid in 1..self.grids[exit].len() {
                let mut then = self.try_exit(state, own, exit, grid);
                then.device += step * state.in_flight as f64;
                if self.grids[exit][grid] == Threshold::Always {
                    then.config.cut = self.space.needs[exit] as u16;
                    then.config.edge_from = self.grids.len() as u8;
                    self.weigh(&then, Micros::ZERO, Micros::ZERO);
                } else if then.in_flight > 0 {
                    // With nobody left in flight the rest of the tree repeats "always" at this exit.
                    self.device_exits(&then, exit + 1);
                }
            }
        }
    }

    /// The state after trying `exit` under a path's records; the time is the caller's to add.
    fn try_exit(&self, state: &State, path: usize, exit: usize, grid: usize) -> State {
        let outcomes = match self.space.paths.get(path) {
            Some(path) => path.outcomes[exit],
            None => Some(&self.space.scenario.outcomes[exit]),
        };
        let right = outcomes.map(super::outcomes::Outcomes::right);
        let mut config = state.config;
        config.threshold[exit] = grid as u8;
        let mut then =
            State { config, at: self.space.needs[exit], alive: SampleSet::default(), in_flight: 0, ..*state };
        if self.grids[exit][grid] == Threshold::Always {
            // Most tries end here, so the empty set of those who go on is not worked out.
            then.right += right.map_or(0, |right| state.alive.count_and(right));
            return then;
        }
        let leaving = &self.leaving[path][exit][grid];
        then.right += right.map_or(0, |right| state.alive.count_and_both(leaving, right));
        then.alive = state.alive.minus(leaving);
        then.in_flight = then.alive.count();
        then
    }

    /// Sends every sample in flight over every path, then goes through the exits on the edge from `next` on.
    fn cross(&mut self, state: &State, next: usize) {
        for path in 0..self.space.paths.len() {
            let resume = self.space.paths[path].resume;
            let last = self.grids.len() - 1;
            if resume >= self.space.needs[last] || self.space.paths[path].outcomes[last].is_none() {
                continue;
            }
            let cut = state.at.max(resume);
            let mut there = state.clone();
            there.device += self.space.run_time(0, state.at, cut) * state.in_flight as f64;
            there.config.cut = cut as u16;
            there.config.edge_from = next as u8;
            there.at = resume;
            self.edge_exits(&there, path, next, state.in_flight);
        }
    }

    fn edge_exits(&mut self, state: &State, path: usize, next: usize, crossed: usize) {
        for exit in next..self.grids.len() {
            if self.leaving[path][exit].is_empty() {
                continue;
            }
            let step = self.space.run_time(1, state.at, self.space.needs[exit])
                + self.space.scenario.nodes[1].exits_us[exit];
            for grid in 1..self.grids[exit].len() {
                let mut then = self.try_exit(state, path, exit, grid);
                then.edge += step * state.in_flight as f64;
                if self.grids[exit][grid] == Threshold::Always {
                    self.weigh_rows(&then, path, crossed);
                } else if then.in_flight > 0 {
                    self.edge_exits(&then, path, exit + 1, crossed);
                }
            }
        }
    }

    /// Every lossless coder of a path shares its answers; only times and bytes differ.
    fn weigh_rows(&mut self, state: &State, path: usize, crossed: usize) {
        let space = self.space;
        let link = &space.scenario.links[0];
        let crossed = crossed as f64;
        for &index in &space.paths[path].rows {
            let row = &space.scenario.encodings[index];
            let mut full = state.clone();
            full.config.row = Some(index as u16);
            full.device += row.encode_us[0] * crossed;
            full.edge += row.decode_us[1] * crossed;
            self.weigh(&full, space.link_time(row) * crossed, (link.delay_us + link.reply_us) * crossed);
        }
    }

    fn weigh(&mut self, state: &State, link: Micros, transit: Micros) {
        let samples = self.space.scenario.samples() as f64;
        let point = Point {
            interval: state.device.max(link).max(state.edge).0 / samples,
            latency: (state.device + link + state.edge + transit).0 / samples,
            accuracy: state.right as f64 / samples,
            config: state.config,
        };
        self.configurations += 1;
        let scenario = self.space.scenario;
        let kept = self.best_of_structure.entry(point.config.structure()).or_insert(point);
        if super::select::beats(scenario, &point, kept) {
            *kept = point;
        }
        self.front.add(point);
    }

    fn predicted(&self, point: &Point<Config>) -> Result<Predicted> {
        let plan = self.plan(&point.config)?;
        let prediction = predict_in(self.space, &plan)?;
        Ok(Predicted { plan, prediction })
    }

    fn front_plan(&self, point: &Point<Config>) -> Result<FrontPlan> {
        Ok(FrontPlan {
            rate_per_s: Micros(point.interval).rate_per_s(),
            latency_us: Micros(point.latency),
            accuracy: Share(point.accuracy),
            plan: self.plan(&point.config)?,
        })
    }

    /// The configuration in names.
    fn plan(&self, config: &Config) -> Result<Plan> {
        let exits: Vec<(Threshold, usize)> = (0..self.grids.len())
            .map(|exit| {
                let node = usize::from(exit >= usize::from(config.edge_from));
                (self.grids[exit][usize::from(config.threshold[exit])], node)
            })
            .collect();
        let crossing = config
            .row
            .map(|row| &self.space.scenario.encodings[usize::from(row)])
            .map(|row| Ok::<_, Error>((self.space.position(&row.cut)?, row.encoding)))
            .transpose()?;
        Ok(self.space.plan(usize::from(config.cut), crossing, &exits))
    }
}
