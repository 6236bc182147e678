//! What a plan would do: the pipeline model, sample by sample.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::scenario::Scenario;
use super::script::Script;
use super::simulate::{Class, Workload};
use super::space::Space;
use super::tally::{Tally, right_uncut};
use crate::error::Result;
use crate::units::{Micros, Share};

/// One stage of the pipeline: a node's or a link's mean work per task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The node's name, or `link` (`link 2` and so on where there are several).
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
    /// Share of the validation samples answered right: of all, where the scenario knows more uncut than behind encodings
    /// (`tally.rs`).
    pub accuracy: Share,
    /// Mean bytes over all links per task.
    pub bytes_per_task: f64,
    /// The stage that sets the rate.
    pub bottleneck: String,
    /// Node, link, node, and so on.
    pub stages: Vec<Stage>,
    /// Per exit the share of samples that leave there.
    pub exit_shares: Vec<Share>,
    /// Per node what it must hold: weights as far as the scenario gives them, live activations, messages in flight.
    #[serde(default)]
    pub memory_bytes: Vec<f64>,
}

impl Prediction {
    /// The time of the stage with this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// Predicts what `plan` does under `scenario`. Errors when the plan names what the scenario does not have.
pub fn predict(scenario: &Scenario, plan: &Plan) -> Result<Prediction> {
    predict_in(&Space::new(scenario)?, plan)
}

/// The plan's tasks as the simulation takes them: samples that leave at the same exit go the same way.
pub fn workload(scenario: &Scenario, plan: &Plan) -> Result<Workload> {
    workload_in(&Space::new(scenario)?, plan)
}

pub(super) fn workload_in(space: &Space<'_>, plan: &Plan) -> Result<Workload> {
    let script = Script::new(space, plan)?;
    let mut of_exit: Vec<Option<Class>> = vec![None; space.scenario.exits.len()];
    for sample in 0..space.scenario.samples() {
        let way = script.follow(sample)?;
        let class = of_exit[way.exit].get_or_insert_with(|| Class {
            samples: 0,
            service_us: way.service[..way.stages].to_vec(),
            delay_us: way.travel,
        });
        class.samples += 1;
    }
    let stages = (0..2 * space.scenario.nodes.len() - 1).map(|stage| space.scenario.stage_name(stage));
    Workload::new(stages.collect(), of_exit.into_iter().flatten().collect())
}

/// The accuracy of a plan that answers so many of the samples right that are known behind encodings.
fn accuracy(scenario: &Scenario, plan: &Plan, right: usize) -> Share {
    let uncut = right_uncut(&scenario.outcomes, &plan.exits);
    let more_uncut = right_uncut(&scenario.uncut_outcomes, &plan.exits);
    let tally = Tally::of(scenario);
    tally.accuracy(tally.count(right, uncut, more_uncut))
}

pub(super) fn predict_in(space: &Space<'_>, plan: &Plan) -> Result<Prediction> {
    let scenario = space.scenario;
    let script = Script::new(space, plan)?;
    let stages = 2 * scenario.nodes.len() - 1;
    let (mut times, mut reached) = (vec![Micros::ZERO; stages], vec![0; stages]);
    let (mut travel, mut right, mut left) = (Micros::ZERO, 0, vec![0; scenario.exits.len()]);
    for sample in 0..scenario.samples() {
        let way = script.follow(sample)?;
        for (stage, time) in way.service.iter().enumerate() {
            times[stage] += *time;
            reached[stage] += usize::from(stage < way.stages);
        }
        travel += way.travel;
        left[way.exit] += 1;
        right += usize::from(way.right);
    }
    let samples = scenario.samples();
    let mean = |sum: Micros| sum * (1.0 / samples as f64);
    let stages: Vec<Stage> = (0..stages)
        .map(|stage| Stage {
            name: scenario.stage_name(stage),
            time_us: mean(times[stage]),
            share: Share::of(reached[stage], samples),
        })
        .collect();
    // On a tie the earlier stage is named.
    let slowest =
        stages.iter().rev().max_by(|a, b| a.time_us.0.total_cmp(&b.time_us.0)).unwrap_or(&stages[0]);
    let interval_us = slowest.time_us;
    let crossed = script.message_bytes.iter().enumerate();
    Ok(Prediction {
        rate_per_s: interval_us.rate_per_s(),
        interval_us,
        latency_us: mean(times.iter().copied().sum::<Micros>() + travel),
        accuracy: accuracy(scenario, plan, right),
        bytes_per_task: crossed.map(|(k, bytes)| bytes.unwrap_or(0.0) * stages[2 * k + 1].share.0).sum(),
        bottleneck: slowest.name.clone(),
        exit_shares: left.iter().map(|&left| Share::of(left, samples)).collect(),
        memory_bytes: script.memory_bytes,
        stages,
    })
}
