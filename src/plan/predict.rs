//! What a plan would do: the pipeline model, sample by sample.

use serde::{Deserialize, Serialize};

use super::outcomes::Outcomes;
use super::plan::{Plan, Threshold};
use super::scenario::{EncodedFrontier, Scenario};
use super::space::{Path, Position, Space};
use crate::error::{Error, Result};
use crate::units::{Micros, Share};

/// One stage of the pipeline: a node's or a link's mean work per task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The node's name, or `link`.
    pub name: String,
    /// Mean time per task, over all tasks, also those that never reach it.
    pub time_us: Micros,
    /// Share of tasks that reach it.
    pub share: Share,
}

/// What a plan would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Steady-state rate: one over the interval.
    pub rate_per_s: f64,
    /// Time between finished tasks: the slowest stage's.
    pub interval_us: Micros,
    /// Mean time of a task that is alone in the pipeline.
    pub latency_us: Micros,
    /// Share of the validation samples answered right.
    pub accuracy: Share,
    /// Mean bytes over the link per task.
    pub bytes_per_task: f64,
    /// The stage that sets the rate.
    pub bottleneck: String,
    /// Device, link, edge.
    pub stages: Vec<Stage>,
    /// Per exit the share of samples that leave there.
    pub exit_shares: Vec<Share>,
}

impl Prediction {
    /// The time of the stage with this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// Sums over samples; divided by their number at the end.
#[derive(Default)]
struct Sums {
    device: Micros,
    link: Micros,
    edge: Micros,
    transit: Micros,
    crossed: usize,
    right: usize,
    left: Vec<usize>,
}

/// A plan's parts, looked up in the scenario.
struct Parts<'a, 'b> {
    plan: &'b Plan,
    cut: Position,
    crossing: Option<(&'b Path<'a>, &'a EncodedFrontier)>,
}

/// Predicts what `plan` does under `scenario`. Errors when the plan names what the scenario does not have.
pub fn predict(scenario: &Scenario, plan: &Plan) -> Result<Prediction> {
    let space = Space::new(scenario)?;
    predict_in(&space, plan)
}

pub(super) fn predict_in(space: &Space<'_>, plan: &Plan) -> Result<Prediction> {
    let parts = resolve(space, plan)?;
    let scenario = space.scenario;
    let mut sums = Sums { left: vec![0; scenario.exits.len()], ..Sums::default() };
    for sample in 0..scenario.samples() {
        follow(space, &parts, sample, &mut sums)?;
    }
    Ok(finish(scenario, &parts, &sums))
}

fn resolve<'a, 'b>(space: &'b Space<'a>, plan: &'b Plan) -> Result<Parts<'a, 'b>> {
    let scenario = space.scenario;
    let names = plan.exits.iter().map(|exit| &exit.name);
    if plan.model != scenario.model.sha256 || !names.eq(scenario.exits.iter().map(|exit| &exit.name)) {
        return Err(Error::failed(format!(
            "the plan is for model {}, the scenario for {} ({}); run `coprof optimize` again",
            plan.model.short(),
            scenario.model.sha256.short(),
            scenario.model.name
        )));
    }
    let (Some(device), [link]) = (plan.nodes.first(), plan.links.as_slice()) else {
        return Err(Error::failed("a plan for two nodes and one link was expected"));
    };
    let cut = space.position(&device.cut)?;
    let crossing = match link {
        Some(link) => Some(space.find_row(space.position(&link.resume)?, link.encoding)?),
        None => None,
    };
    Ok(Parts { plan, cut, crossing })
}

/// Walks one sample along its own path, charging only what it runs.
fn follow(space: &Space<'_>, parts: &Parts<'_, '_>, sample: usize, sums: &mut Sums) -> Result<()> {
    let scenario = space.scenario;
    let tried = |node: usize| {
        let on =
            move |(_, exit): &(usize, &super::plan::ExitPlan)| exit.threshold.is_on() && exit.node == node;
        parts.plan.exits.iter().enumerate().filter(on)
    };
    let mut at = 0;
    for (index, exit) in tried(0) {
        sums.device += space.run_time(0, at, space.needs[index]) + scenario.nodes[0].exits_us[index];
        at = space.needs[index];
        if leaves(&scenario.outcomes[index], exit.threshold, sample, index, sums) {
            return Ok(());
        }
    }
    let (path, row) =
        parts.crossing.ok_or_else(|| Error::failed("the plan neither ends on the device nor crosses"))?;
    sums.device += space.run_time(0, at, parts.cut.max(at)) + row.encode_us[0];
    let link = &scenario.links[0];
    sums.link += space.link_time(row);
    sums.transit += link.delay_us + link.reply_us;
    sums.crossed += 1;
    sums.edge += row.decode_us[1];
    let mut at = path.resume;
    for (index, exit) in tried(1) {
        let outcomes = path.outcomes[index]
            .ok_or_else(|| Error::failed(format!("exit '{}' cannot be tried behind this cut", exit.name)))?;
        sums.edge += space.run_time(1, at, space.needs[index]) + scenario.nodes[1].exits_us[index];
        at = space.needs[index];
        if leaves(outcomes, exit.threshold, sample, index, sums) {
            return Ok(());
        }
    }
    Err(Error::failed("the plan ends before every sample has left"))
}

fn leaves(outcomes: &Outcomes, threshold: Threshold, sample: usize, exit: usize, sums: &mut Sums) -> bool {
    let leaves = threshold.passes(outcomes.entropy(sample));
    if leaves {
        sums.left[exit] += 1;
        sums.right += usize::from(outcomes.right().contains(sample));
    }
    leaves
}

fn finish(scenario: &Scenario, parts: &Parts<'_, '_>, sums: &Sums) -> Prediction {
    let samples = scenario.samples();
    let mean = |sum: Micros| sum * (1.0 / samples as f64);
    let crossed = Share::of(sums.crossed, samples);
    let stages = vec![
        Stage { name: scenario.nodes[0].name.clone(), time_us: mean(sums.device), share: Share(1.0) },
        Stage { name: "link".into(), time_us: mean(sums.link), share: crossed },
        Stage { name: scenario.nodes[1].name.clone(), time_us: mean(sums.edge), share: crossed },
    ];
    // On a tie the earlier stage is named.
    let slowest =
        stages.iter().rev().max_by(|a, b| a.time_us.0.total_cmp(&b.time_us.0)).unwrap_or(&stages[0]);
    let interval_us = slowest.time_us;
    Prediction {
        rate_per_s: interval_us.rate_per_s(),
        interval_us,
        latency_us: mean(sums.device + sums.link + sums.transit + sums.edge),
        accuracy: Share::of(sums.right, samples),
        bytes_per_task: parts.crossing.map_or(0.0, |(_, row)| row.bytes * crossed.0),
        bottleneck: slowest.name.clone(),
        exit_shares: sums.left.iter().map(|&left| Share::of(left, samples)).collect(),
        stages,
    }
}
