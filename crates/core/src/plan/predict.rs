//! What a plan would do: the pipeline model, sample by sample.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::problem::Problem;
use super::scenario::Node;
use super::script::{Passage, Script};
use super::simulate::{Class, Workload};
use super::space::Space;
use super::tally::{Tally, right_uncut};
use crate::error::{Error, Result};
use crate::units::{Micros, Share, rate, rates};

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

/// Where a plan's figures lie with a probability of 95 %.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval95 {
    /// Tasks per second; infinite, in JSON `null`, where nothing takes any time.
    #[serde(deserialize_with = "rates")]
    pub rate_per_s: [f64; 2],
    /// Mean time of a task that is alone in the pipeline.
    pub latency_us: [Micros; 2],
    /// Share answered right.
    pub accuracy: [Share; 2],
    /// Each stage's mean time per task, in order.
    pub stages_us: Vec<[Micros; 2]>,
}

/// What a plan would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Steady-state rate: one over the interval; infinite, in JSON `null`, where nothing takes any time.
    #[serde(deserialize_with = "rate")]
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
    /// Per node what its times rest on.
    #[serde(default)]
    pub nodes: Vec<NodeBasis>,
    /// Whether the nodes have one core between them and take turns.
    #[serde(default)]
    pub one_core: bool,
    /// What share of the work of the one that has less to do both nodes' stages are longer by; 0 where they take turns.
    #[serde(default)]
    pub contention: f64,
    /// Where the figures lie with a probability of 95 %; absent in what a search weighs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval95: Option<Interval95>,
}

/// What a node's times in a prediction rest on: see the fields of the same name of a scenario's node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeBasis {
    /// Its whole trunk when it was measured; `null` where the scenario does not tell.
    pub whole_us: Option<Micros>,
    /// By this its stage's time is longer than its parts by themselves.
    pub busy_factor: f64,
    /// By this its work takes longer after a pause.
    #[serde(default = "one")]
    pub pause_factor: f64,
}

fn one() -> f64 {
    1.0
}

impl Prediction {
    /// The time of the stage with this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Interval and latency, were every node's work to take so many times as long (since it was measured, or in truth), and the
    /// messages in the pipeline so many times. A lone message's time is left as it is: it depends on its size in another way.
    pub fn at_speeds(&self, nodes: &[f64], messages: f64) -> (Micros, Micros) {
        let factor = |node: usize| nodes.get(node).copied().unwrap_or(1.0);
        let mut times = self.uncontended();
        let mut latency = self.latency_us;
        for (index, time) in times.iter_mut().enumerate() {
            if index % 2 == 1 {
                *time = *time * messages;
                continue;
            }
            if let Some(basis) = self.nodes.get(index / 2) {
                latency += *time * ((factor(index / 2) - 1.0) * basis.pause_factor / basis.busy_factor);
            }
            *time = *time * factor(index / 2);
        }
        contend(&mut times, self.contention);
        (slowest(&times, self.one_core).0, latency)
    }

    /// The stages' times were neither of two nodes to slow the other down.
    pub(super) fn uncontended(&self) -> Vec<Micros> {
        let mut times: Vec<Micros> = self.stages.iter().map(|stage| stage.time_us).collect();
        contend(&mut times, -self.contention / (1.0 + self.contention));
        times
    }
}

/// Lengthens both nodes' stages by a share of the shorter one. While both work, each is slower, and the one that has more to do
/// works alone for the rest of the time.
pub(super) fn contend(stages: &mut [Micros], contention: f64) {
    if let [device, _, edge] = stages {
        let shared = Micros(device.0.min(edge.0)) * contention;
        *device += shared;
        *edge += shared;
    }
}

/// Predicts what `plan` does under `scenario`. Errors when the plan names what the scenario does not have.
pub fn predict(scenario: &Problem, plan: &Plan) -> Result<Prediction> {
    predict_in(&Space::new(scenario)?, plan)
}

/// The plan's tasks as the simulation takes them: samples that leave at the same exit take the same passage.
pub fn workload(scenario: &Problem, plan: &Plan) -> Result<Workload> {
    workload_in(&Space::new(scenario)?, plan)
}

pub(super) fn workload_in(space: &Space<'_>, plan: &Plan) -> Result<Workload> {
    let (scenario, script) = (space.scenario, Script::new(space, plan)?);
    if scenario.shares_a_core() {
        return Err(Error::failed(
            "queues are simulated for nodes with a core each, and these share one; leave --arrival out, or give them two",
        ));
    }
    let passages =
        (0..scenario.samples()).map(|sample| script.follow(sample)).collect::<Result<Vec<Passage>>>()?;
    let mut total = vec![Micros::ZERO; 2 * scenario.nodes.len() - 1];
    passages
        .iter()
        .for_each(|passage| total.iter_mut().zip(&passage.service).for_each(|(sum, time)| *sum += *time));
    let nodes = bases(scenario, &script);
    let longer: Vec<f64> = in_pipeline(&nodes, scenario.contention, &total)
        .into_iter()
        .zip(total)
        .map(|(busy, own)| if own > Micros::ZERO { busy / own } else { 1.0 })
        .collect();
    let mut of_exit: Vec<Option<Class>> = vec![None; scenario.exits.len()];
    for passage in &passages {
        let class = of_exit[passage.exit].get_or_insert_with(|| Class {
            samples: 0,
            service_us: passage.service[..passage.stages]
                .iter()
                .zip(&longer)
                .map(|(time, longer)| *time * *longer)
                .collect(),
            // In a stream no message is faster than the link's own time for it.
            delay_us: (passage.travel + paused(&nodes, &passage.service)).max(Micros::ZERO),
        });
        class.samples += 1;
    }
    let stages = (0..2 * space.scenario.nodes.len() - 1).map(|stage| space.scenario.stage_name(stage));
    Workload::new(stages.collect(), of_exit.into_iter().flatten().collect())
}

/// The accuracy of a plan that answers so many of the samples right that are known behind encodings.
fn accuracy(scenario: &Problem, plan: &Plan, right: usize) -> Share {
    let uncut = right_uncut(&scenario.outcomes, &plan.exits);
    let more_uncut = right_uncut(&scenario.uncut_outcomes, &plan.exits);
    let tally = Tally::of(scenario);
    tally.accuracy(tally.count(right, uncut, more_uncut))
}

/// What the nodes' times rest on. They keep each other busy only where something crosses.
fn bases(scenario: &Problem, script: &Script<'_>) -> Vec<NodeBasis> {
    let crosses = script.message_bytes.iter().any(Option::is_some);
    let basis = |node: &Node| NodeBasis {
        whole_us: node.whole_us,
        busy_factor: if crosses { node.busy_factor } else { 1.0 },
        pause_factor: node.pause_factor,
    };
    scenario.nodes.iter().map(basis).collect()
}

/// What each stage takes in a full pipeline, from the work of its parts.
pub(super) fn in_pipeline(nodes: &[NodeBasis], contention: f64, parts: &[Micros]) -> Vec<Micros> {
    let factor = |stage: usize| if stage.is_multiple_of(2) { nodes[stage / 2].busy_factor } else { 1.0 };
    let mut stages: Vec<Micros> =
        parts.iter().enumerate().map(|(stage, &time)| time * factor(stage)).collect();
    contend(&mut stages, contention);
    stages
}

/// What nodes work longer on a task that is alone.
pub(super) fn paused(nodes: &[NodeBasis], parts: &[Micros]) -> Micros {
    nodes.iter().zip(parts.iter().step_by(2)).map(|(node, time)| *time * (node.pause_factor - 1.0)).sum()
}

/// The interval, and the stage that sets it: on a tie the earlier one. Nodes with one core between them take turns, so that what
/// either takes, the other waits for; of them the one is named that takes longer.
pub(super) fn slowest(stages: &[Micros], one_core: bool) -> (Micros, usize) {
    let nodes: Micros = stages.iter().step_by(2).copied().sum();
    let occupied = |index: usize| if one_core && index.is_multiple_of(2) { nodes } else { stages[index] };
    let order = |index: &usize| [occupied(*index).0, stages[*index].0];
    let compare = |a: &usize, b: &usize| order(a).partial_cmp(&order(b)).unwrap_or(Ordering::Equal);
    let slowest = (0..stages.len()).rev().max_by(compare).unwrap_or(0);
    (occupied(slowest), slowest)
}

pub(super) fn predict_in(space: &Space<'_>, plan: &Plan) -> Result<Prediction> {
    let scenario = space.scenario;
    let script = Script::new(space, plan)?;
    let stages = 2 * scenario.nodes.len() - 1;
    let (mut times, mut reached) = (vec![Micros::ZERO; stages], vec![0; stages]);
    let (mut travel, mut right, mut left) = (Micros::ZERO, 0, vec![0; scenario.exits.len()]);
    for sample in 0..scenario.samples() {
        let passage = script.follow(sample)?;
        for (stage, time) in passage.service.iter().enumerate() {
            times[stage] += *time;
            reached[stage] += usize::from(stage < passage.stages);
        }
        travel += passage.travel;
        left[passage.exit] += 1;
        right += usize::from(passage.right);
    }
    let samples = scenario.samples();
    times.iter_mut().chain([&mut travel]).for_each(|sum| *sum = *sum * (1.0 / samples as f64));
    let stage = |(stage, time_us): (usize, &Micros)| Stage {
        name: scenario.stage_name(stage),
        time_us: *time_us,
        share: Share::of(reached[stage], samples),
    };
    let nodes = bases(scenario, &script);
    let one_core = scenario.shares_a_core();
    let contention = if one_core { 0.0 } else { scenario.contention };
    let busy = in_pipeline(&nodes, contention, &times);
    let (interval_us, slowest) = slowest(&busy, one_core);
    let stages: Vec<Stage> = busy.iter().enumerate().map(stage).collect();
    let crossed = script.message_bytes.iter().enumerate();
    Ok(Prediction {
        rate_per_s: interval_us.rate_per_s(),
        interval_us,
        latency_us: times.iter().copied().sum::<Micros>() + paused(&nodes, &times) + travel,
        accuracy: accuracy(scenario, plan, right),
        bytes_per_task: crossed.map(|(k, bytes)| bytes.unwrap_or(0.0) * stages[2 * k + 1].share.0).sum(),
        bottleneck: stages[slowest].name.clone(),
        exit_shares: left.iter().map(|&left| Share::of(left, samples)).collect(),
        memory_bytes: script.memory_bytes,
        stages,
        nodes,
        one_core,
        contention,
        interval95: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::brute_force::random_scenario;
    use super::super::search;
    use super::*;

    /// The scenario in which all that these nodes do takes so many times as long.
    fn slowed(scenario: &Problem, factors: &[f64]) -> Problem {
        scenario.varied(|file| {
            let (nodes, encodings) = (&mut file.nodes, &mut file.encodings);
            for (index, (node, factor)) in nodes.iter_mut().zip(factors).enumerate() {
                let ranges = node.ranges.iter_mut().map(|range| &mut range.time_us);
                let own = node.layers_us.iter_mut().chain(&mut node.exits_us).chain(ranges);
                let codecs = encodings
                    .iter_mut()
                    .flat_map(|row| [&mut row.encode_us[index], &mut row.decode_us[index]]);
                own.chain(codecs).chain([&mut node.task_us]).for_each(|time| *time = *time * *factor);
            }
        })
    }

    #[test]
    fn nodes_that_both_work_are_slower_by_a_share_of_the_lesser_ones_work() {
        let text = r#"{ "schema": "coprof.scenario/2", "input_bytes": 1000, "contention": 0.2,
            "layers": [{ "name": "a", "output_bytes": 1000 }, { "name": "b", "output_bytes": 40 }],
            "nodes": [{ "name": "device", "layers_us": [100, 100], "pause_us": 7, "pause_factor": 1.5 },
                      { "name": "edge", "layers_us": [80, 50], "pause_us": 9, "pause_factor": 1.1 }],
            "links": [{ "bits_per_second": 1e12 }] }"#;
        let scenario = Problem::from_json(text).unwrap();
        let best = search(&scenario).unwrap().best.prediction;
        // The device runs a, the edge b, half of the time beside each other.
        let stages = [0, 2].map(|stage| best.stages[stage].time_us);
        assert_eq!((stages, best.interval_us), ([Micros(110.0), Micros(60.0)], Micros(110.0)));
        // A task alone does not know of it, but each node has paused.
        let link = best.stages[1].time_us;
        assert!((best.latency_us - Micros(150.0 + 7.0 + 55.0 + 9.0) - link).0.abs() < 1e-9, "{best:?}");
        let one_core =
            scenario.nodes.iter().map(|node| Node { core: Some("0".into()), ..node.clone() }).collect();
        let taking_turns = scenario.varied(|file| file.nodes = one_core);
        let best = search(&taking_turns).unwrap().best.prediction;
        assert_eq!((best.contention, best.interval_us), (0.0, Micros(130.0)));
    }

    proptest! {
        #[test]
        fn a_prediction_at_other_speeds_is_that_of_slower_nodes(
            seed in 0u64..500, nodes in 2usize..4, factors in [0.5..3.0f64, 0.5..3.0, 0.5..3.0],
        ) {
            let scenario = random_scenario(seed, nodes);
            let Ok(found) = search(&scenario) else { return Ok(()) };
            let (plan, prediction) = (&found.best.plan, &found.best.prediction);
            let expected = predict(&slowed(&scenario, &factors), plan).unwrap();
            let (interval, latency) = prediction.at_speeds(&factors[..nodes], 1.0);
            let same = |found: Micros, expected: Micros| (found - expected).0.abs() < 1e-6 * (1.0 + expected.0);
            prop_assert!(same(interval, expected.interval_us) && same(latency, expected.latency_us));
            prop_assert_eq!(prediction.at_speeds(&[], 1.0).0, prediction.interval_us);
        }
    }
}
