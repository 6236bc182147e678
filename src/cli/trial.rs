//! A trial: a plan with work for both nodes runs through the real pipeline for a moment, full and one task at a time, beside the
//! whole model on each node alone and on both at once. What the parts that are measured one by one do not tell (caches that both
//! nodes share or that go cold in a pause, cores that threads and the kernel share with layers) becomes a term for each node.

use std::time::Duration;

use super::args;
use super::frames::TimingFrames;
use super::gauge::{Gauge, Speeds};
use super::refine::Nodes;
use super::stop;
use crate::error::{Error, Result};
use crate::measure::Samples;
use crate::pipeline::{ReplayOptions, Trace, replay};
use crate::plan::{Plan, Predicted, Prediction, Route, Scenario, most_balanced};
use crate::report::Emulation;
use crate::units::Micros;

const ROUNDS: usize = 4;
/// The name of the stage between both nodes.
const LINK: &str = "link";
/// The whole model runs for so long each time …
const GAUGE: Duration = Duration::from_millis(60);
/// … and a full pipeline for so long, within these numbers of tasks.
const FULL: Micros = Micros(400e3);
const TASKS: (usize, usize) = (8, 150);
const IN_FLIGHT: usize = 16;
/// So many times as many tasks run with the pipeline full as one at a time.
const FULL_PER_SINGLE: usize = 4;
const FEWEST_SINGLE: usize = 5;
/// A node takes at most so many times as long as its parts: what goes beyond is no property of a pipeline, but somebody else's
/// doing in just this moment.
const MOST: f64 = 1.3;
/// Only of a node that works for so much of the time a full pipeline says how it works; others wait, and go cold.
const WORKING: f64 = 0.75;

/// What a trial found of one node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    /// The whole model alone, and beside that on the other node.
    whole: Micros,
    whole_busy: Micros,
    /// Its stage in a full pipeline, with what it waits although it is the slowest, and with one task at a time.
    full: Micros,
    single: Micros,
    /// Whether a full pipeline kept it working.
    works: bool,
}

/// Runs a trial of what `scenario` says and puts what it finds into its nodes.
pub fn calibrate(scenario: &mut Scenario, nodes: &Nodes<'_>, emulation: &Emulation) -> Result<()> {
    let _bar = nodes.output.progress("both nodes at once");
    let Some(Predicted { plan, prediction }) = most_balanced(scenario)? else { return Ok(()) };
    let found = run(&plan, &prediction, nodes, emulation)?;
    for (node, found) in found.into_iter().enumerate() {
        apply(scenario, node, found, prediction.stages[2 * node].time_us);
    }
    Ok(())
}

fn run(plan: &Plan, predicted: &Prediction, nodes: &Nodes<'_>, emulation: &Emulation) -> Result<[Found; 2]> {
    let &Nodes { model, device, route, .. } = nodes;
    let mut backend = device.on_thread(|thread| device.load(&model.graph, thread))?;
    let mut peer = route.connect_with(model)?;
    let resolved = Route::new(&model.graph, plan)?;
    let inputs = TimingFrames::of(&model.graph);
    let tasks = ((FULL / predicted.interval_us) as usize).clamp(TASKS.0, TASKS.1);
    let (prepare, stop, clock) = (|| _ = device.prepare_thread(), stop::flag(), device.clock());
    let (pace, pause) = (args::pace(emulation)?, predicted.interval_us.to_duration());
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let mut pass = |tasks, in_flight, pause| {
            let pin = Some(&prepare as &(dyn Fn() + Sync));
            let options = ReplayOptions {
                tasks,
                first_frame: 0,
                in_flight,
                pause,
                pace,
                clock: &*clock,
                pin,
                stop: &stop,
            };
            replay(Some(&mut peer), &mut backend, &resolved, plan, &inputs, &options, &mut |_| ())
        };
        let full = pass(tasks, IN_FLIGHT, Duration::ZERO)?;
        let single = pass((tasks / FULL_PER_SINGLE).max(FEWEST_SINGLE), 1, pause)?;
        let mut gauge = Gauge { device, backend: &mut backend, peer: Some(&mut peer) };
        let (together, alone) = (gauge.together(GAUGE)?, gauge.in_turn(GAUGE)?);
        rounds.push([round(0, &full, &single, alone, together)?, round(1, &full, &single, alone, together)?]);
    }
    Ok([0, 1].map(|node| {
        let middle = |figure: fn(&Found) -> Micros| {
            let all = rounds.iter().map(|round| figure(&round[node])).collect();
            Samples::new(all).map_or(Micros::ZERO, |all| all.median())
        };
        Found {
            whole: middle(|found| found.whole),
            whole_busy: middle(|found| found.whole_busy),
            full: middle(|found| found.full),
            single: middle(|found| found.single),
            works: 2 * rounds.iter().filter(|round| round[node].works).count() > ROUNDS,
        }
    }))
}

/// What one round found of a node.
fn round(node: usize, full: &Trace, single: &Trace, alone: Speeds, together: Speeds) -> Result<Found> {
    let of_node = |speeds: Speeds| if node == 0 { Some(speeds.device) } else { speeds.edge };
    let stage = |trace: &Trace| trace.stages()[2 * node].time_us;
    let bottleneck = full.bottleneck().ok_or_else(|| Error::failed("the trial ran no tasks"))?;
    // Where a node is the slowest stage and still waits, messages and the kernel have its core, or tasks come unevenly.
    let waits = if bottleneck.name == LINK { 1.0 } else { 1.0 / full.efficiency().unwrap_or(1.0) };
    Ok(Found {
        whole: of_node(alone).ok_or_else(no_edge)?,
        whole_busy: of_node(together).ok_or_else(no_edge)?,
        full: stage(full) * waits.clamp(1.0, MOST),
        single: stage(single),
        works: stage(full) > bottleneck.time_us * WORKING,
    })
}

fn no_edge() -> Error {
    Error::peer("the edge measured no whole model; is it the same coprof?")
}

/// Brings a node's times to the speed that it had in the trial, in which its stage was predicted to take `stage` before.
fn apply(scenario: &mut Scenario, node: usize, found: Found, stage: Micros) {
    let moved = scenario.nodes[node].whole_us.map_or(1.0, |whole| found.whole / whole);
    let of_node = &mut scenario.nodes[node];
    let ranges = of_node.ranges.iter_mut().map(|range| &mut range.time_us);
    let own =
        of_node.layers_us.iter_mut().chain(&mut of_node.exits_us).chain(ranges).chain([&mut of_node.task_us]);
    let codecs =
        scenario.encodings.iter_mut().flat_map(|row| [&mut row.encode_us[node], &mut row.decode_us[node]]);
    own.chain(codecs).for_each(|time| time.0 *= moved);
    let take_turns = scenario.shares_a_core();
    let of_node = &mut scenario.nodes[node];
    of_node.whole_us = Some(found.whole);
    // Nodes that take turns are planned so: what one waited for the other is no work of its own.
    if take_turns {
        return;
    }
    of_node.whole_busy_us = Some(found.whole_busy);
    let stage = stage * moved;
    let beyond = |time: Micros, parts: Micros| (time.min(stage * MOST) - parts).max(Micros::ZERO);
    of_node.busy_factor = (found.whole_busy / found.whole).clamp(1.0, MOST);
    of_node.pause_us = beyond(found.single, stage);
    let full = if found.works { found.full } else { stage };
    if node == 0 {
        // It takes in no messages: what its parts do not tell is in the work itself.
        of_node.busy_factor = (full / stage).clamp(of_node.busy_factor, MOST);
        return;
    }
    // What messages take of its core, while it works on others.
    let beside_messages = beyond(full * (1.0 / of_node.busy_factor), stage);
    of_node.task_us += beside_messages;
    of_node.pause_us = beyond(of_node.pause_us, beside_messages);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let text = r#"{ "schema": "coprof.scenario/2", "input_bytes": 1000,
            "layers": [{ "name": "a", "output_bytes": 1000 }, { "name": "b", "output_bytes": 1000 }, { "name": "c", "output_bytes": 40 }],
            "nodes": [{ "name": "device", "layers_us": [100, 100, 100], "whole_us": 300 },
                      { "name": "edge", "layers_us": [50, 50, 50] }],
            "links": [{ "bits_per_second": 1e9 }] }"#;
        Scenario::from_json(text).unwrap()
    }

    #[test]
    fn a_node_is_brought_to_the_speed_of_the_trial_and_charged_what_the_parts_do_not_tell() {
        let mut scenario = scenario();
        let found = Found {
            whole: Micros(360.0),
            whole_busy: Micros(450.0),
            full: Micros(162.5),
            single: Micros(150.0),
            works: true,
        };
        let at_first = scenario.nodes[1].clone();
        apply(&mut scenario, 0, found, Micros(100.0));
        let node = &scenario.nodes[0];
        assert_eq!(node.layers_us, [Micros(120.0); 3]);
        assert_eq!((node.whole_us, node.whole_busy_us), (Some(Micros(360.0)), Some(Micros(450.0))));
        // 120 µs of its own, 162.5 in a full pipeline, of which no more counts than is plausible; alone 30 µs more.
        assert_eq!(node.busy_factor, MOST);
        assert_eq!((node.task_us, node.pause_us), (Micros::ZERO, Micros(30.0)));
        assert_eq!(scenario.nodes[1], at_first);
        // The edge, too, but what goes beyond the whole model's 1.25 is 10 µs for each message, which it has alone, too.
        apply(&mut scenario, 1, found, Micros(120.0));
        let node = &scenario.nodes[1];
        assert_eq!((node.busy_factor, node.task_us, node.pause_us), (1.25, Micros(10.0), Micros(20.0)));
    }
}
