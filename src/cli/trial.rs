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

/// Many short ones: a host's speed moves by a tenth and more within tenths of a second, and what is compared must have run at
/// the same speed on average.
const ROUNDS: usize = 20;
/// The whole model runs for so long each time …
const GAUGE: Duration = Duration::from_millis(50);
/// … and a full pipeline for so long, within these numbers of tasks.
const FULL: Micros = Micros(150e3);
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
    /// Its stage in a full pipeline, and with one task at a time.
    full: Micros,
    single: Micros,
    /// From one task to the next that waits; zero where none did.
    turnaround: Micros,
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
        let (alone, together) = (gauge.in_turn(GAUGE)?, gauge.together(GAUGE)?);
        rounds.push([round(0, &full, &single, alone, together)?, round(1, &full, &single, alone, together)?]);
    }
    Ok([0, 1].map(|node| Found::over(rounds.iter().map(|round| round[node]).collect())))
}

impl Found {
    /// Of all rounds. What was measured side by side is compared round by round.
    fn over(rounds: Vec<Self>) -> Self {
        let samples = |figure: &dyn Fn(&Self) -> Micros| Samples::new(rounds.iter().map(figure).collect());
        let ratio = |figure: fn(&Self) -> Micros, to: fn(&Self) -> Micros| {
            samples(&|round| Micros(figure(round) / to(round))).map_or(0.0, |all| all.median().0)
        };
        let turnarounds =
            rounds.iter().map(|round| round.turnaround).filter(|time| *time > Micros::ZERO).collect();
        let whole = samples(&|found| found.whole).map_or(Micros::ZERO, |all| all.mean());
        let whole_busy = whole * ratio(|found| found.whole_busy, |found| found.whole);
        Self {
            whole,
            whole_busy,
            full: whole_busy * ratio(|found| found.full, |found| found.whole_busy),
            single: whole * ratio(|found| found.single, |found| found.whole),
            turnaround: Samples::new(turnarounds).map_or(Micros::ZERO, |times| times.mean()),
            works: 2 * rounds.iter().filter(|round| round.works).count() > rounds.len(),
        }
    }
}

/// What one round found of a node.
fn round(node: usize, full: &Trace, single: &Trace, alone: Speeds, together: Speeds) -> Result<Found> {
    let of_node = |speeds: Speeds| if node == 0 { Some(speeds.device) } else { speeds.edge };
    let stage = |trace: &Trace| trace.stages()[2 * node].time_us;
    let bottleneck = full.bottleneck().ok_or_else(|| Error::failed("the trial ran no tasks"))?;
    let [device, edge] = full.turnarounds();
    let turnarounds = if node == 0 { device } else { edge };
    Ok(Found {
        whole: of_node(alone).ok_or_else(no_edge)?,
        whole_busy: of_node(together).ok_or_else(no_edge)?,
        full: stage(full),
        single: stage(single),
        // A mean would hold what others do to one of them.
        turnaround: Samples::new(turnarounds).map_or(Micros::ZERO, |times| times.median()),
        works: stage(full) > bottleneck.time_us * WORKING,
    })
}

fn no_edge() -> Error {
    Error::peer("the edge measured no whole model; is it the same coprof?")
}

/// Brings a node's times to the speed that it had in the trial, in which its stage was predicted to take `stage` before.
fn apply(scenario: &mut Scenario, node: usize, found: Found, stage: Micros) {
    let moved = scenario.nodes[node].whole_us.map_or(1.0, |whole| found.whole / whole);
    let busy = (found.whole_busy / found.whole).clamp(1.0, MOST);
    let take_turns = scenario.shares_a_core();
    // In a pipeline a node has colder caches than when it only runs layers: what it works on is slower by a factor.
    let in_pipeline = found.full / (stage * (moved * busy));
    let in_pipeline = if found.works && !take_turns { in_pipeline.clamp(1.0 / MOST, MOST) } else { 1.0 };
    // The edge works in no other way, but the device may keep all tasks to itself.
    let (always, in_full) = if node == 0 { (1.0, in_pipeline) } else { (in_pipeline, 1.0) };
    scale(scenario, node, moved * always);
    let of_node = &mut scenario.nodes[node];
    of_node.whole_us = Some(found.whole);
    // Nodes that take turns are planned so: what one waited for the other is no work of its own.
    if take_turns {
        return;
    }
    of_node.whole_busy_us = Some(found.whole_busy);
    of_node.busy_factor = (busy * in_full).clamp(1.0, MOST);
    let stage = stage * (moved * always);
    // A task alone does not wait for the turnaround before it, which counts for every task.
    let pause = (found.single - stage - found.turnaround).min(stage * (MOST - 1.0)).max(Micros::ZERO);
    // All but the first of an emulated node's repetitions find its caches warm, whatever was before.
    of_node.pause_us = if of_node.emulated_slowdown.is_some() { Micros::ZERO } else { pause };
    if node == 0 {
        // It hands over those tasks only that it writes.
        scenario.encodings.iter_mut().for_each(|row| row.encode_us[0] += found.turnaround);
    } else {
        of_node.task_us += found.turnaround;
    }
}

/// All that a node does takes so many times as long.
fn scale(scenario: &mut Scenario, node: usize, factor: f64) {
    let of_node = &mut scenario.nodes[node];
    let ranges = of_node.ranges.iter_mut().map(|range| &mut range.time_us);
    let own =
        of_node.layers_us.iter_mut().chain(&mut of_node.exits_us).chain(ranges).chain([&mut of_node.task_us]);
    let codecs =
        scenario.encodings.iter_mut().flat_map(|row| [&mut row.encode_us[node], &mut row.decode_us[node]]);
    own.chain(codecs).for_each(|time| time.0 *= factor);
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
            whole_busy: Micros(396.0),
            full: Micros(145.2),
            single: Micros(160.0),
            turnaround: Micros(5.0),
            works: true,
        };
        let at_first = scenario.nodes[1].clone();
        let handed_over = |scenario: &Scenario| scenario.encodings[0].encode_us[0];
        let encode = handed_over(&scenario);
        apply(&mut scenario, 0, found, Micros(100.0));
        let node = &scenario.nodes[0];
        let close = |found: Micros, expected: f64| assert!((found.0 - expected).abs() < 1e-9, "{found:?}");
        // 1.2 times as slow as in the profile, 1.1 times beside the edge, and 1.1 times in a pipeline.
        node.layers_us.iter().for_each(|time| close(*time, 120.0));
        assert_eq!((node.whole_us, node.whole_busy_us), (Some(Micros(360.0)), Some(Micros(396.0))));
        assert!((node.busy_factor - 1.21).abs() < 1e-9);
        close(node.pause_us, 160.0 - 120.0 - 5.0);
        close(handed_over(&scenario), 1.2 * encode.0 + 5.0);
        assert_eq!(scenario.nodes[1], at_first);
        // Where a node waited for the other, its stage tells nothing of a full pipeline.
        let idle = Found { full: Micros(300.0), single: Micros(10.0), works: false, ..found };
        apply(&mut scenario, 1, idle, Micros(60.0));
        let node = &scenario.nodes[1];
        node.layers_us.iter().for_each(|time| close(*time, 50.0));
        assert_eq!((node.task_us, node.pause_us), (Micros(5.0), Micros::ZERO));
    }

    #[test]
    fn what_was_measured_side_by_side_is_compared_round_by_round() {
        // The host is twice as slow in the second round, and others disturb the third.
        let round = |slow: f64, busy: f64, turnaround| Found {
            whole: Micros(100.0 * slow),
            whole_busy: Micros(100.0 * slow * busy),
            full: Micros(50.0 * slow * busy),
            single: Micros(60.0 * slow),
            turnaround: Micros(turnaround),
            works: true,
        };
        let found = Found::over(vec![round(1.0, 1.1, 4.0), round(2.0, 1.1, 0.0), round(1.5, 1.9, 6.0)]);
        let close = |found: Micros, expected: f64| assert!((found.0 - expected).abs() < 1e-9, "{found:?}");
        close(found.whole, 150.0);
        close(found.whole_busy, 165.0);
        close(found.full, 82.5);
        close(found.single, 90.0);
        // Of the two rounds in which a task waited.
        close(found.turnaround, 5.0);
        assert!(found.works);
    }

    #[test]
    fn an_edge_that_tells_of_no_time_is_no_panic() {
        let nothing = Micros::ZERO;
        let empty = Found {
            whole: nothing,
            whole_busy: nothing,
            full: nothing,
            single: nothing,
            turnaround: nothing,
            works: true,
        };
        for whole_us in [Some(Micros::ZERO), Some(Micros(50.0)), None] {
            let mut scenario = scenario();
            scenario.nodes[1].whole_us = whole_us;
            apply(&mut scenario, 1, Found::over(vec![empty; 3]), Micros(100.0));
        }
    }
}
