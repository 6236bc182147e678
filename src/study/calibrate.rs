//! What a trial found becomes terms of the scenario: what the parts that are measured one by one do not tell (caches that both
//! nodes share or that go cold in a pause, cores that threads and the kernel share with layers).

use super::refine::Nodes;
use super::trial::{Found, Plans, run};
use crate::report::Emulation;
use coprof_core::error::Result;
use coprof_core::plan::{Predicted, Problem, ScenarioFile};
use coprof_core::units::Micros;

/// A node takes at most so many times as long as its parts: what goes beyond is no property of a pipeline, but somebody else's
/// doing in just this moment.
const MOST: f64 = 1.3;

/// Runs a trial of what `scenario` says; the scenario with what it finds.
pub fn calibrate(scenario: Problem, nodes: &Nodes<'_>, emulation: &Emulation) -> Result<Problem> {
    let _bar = nodes.context.progress("trial: a full pipeline, and each node alone");
    let Some(plans) = Plans::of(&scenario)? else { return Ok(scenario) };
    let found = run(&plans, &scenario.links[0], nodes, emulation)?;
    scenario.with(|file| apply(file, &Work::of(&plans), &found))
}

/// What the scenario predicted for the trial's plans: both nodes' stages.
struct Work {
    balanced: [Micros; 2],
    /// In the plan that has all work on the edge what the device does.
    passing_on: Option<Micros>,
}

impl Work {
    fn of(plans: &Plans) -> Self {
        let stage = |found: &Predicted, node: usize| found.prediction.stages[2 * node].time_us;
        Self {
            balanced: [0, 1].map(|node| stage(&plans.balanced, node)),
            passing_on: plans.alone[1].as_ref().map(|found| stage(found, 0)),
        }
    }
}

fn apply(scenario: &mut ScenarioFile, work: &Work, found: &Found) {
    let moved = [0, 1].map(|node| {
        let moved = scenario.nodes[node].whole_us.map_or(1.0, |whole| found.whole[node] / whole);
        if moved.is_finite() { moved } else { 1.0 }
    });
    for (node, &factor) in moved.iter().enumerate() {
        scale(scenario, node, factor);
        let of_node = &mut scenario.nodes[node];
        of_node.whole_us = Some(found.whole[node]);
        of_node.pause_factor = found.alone[node]
            .map_or(1.0, |alone| within((alone.after_pause - of_node.pause_us) / alone.in_a_row));
    }
    let mut balanced = [0, 1].map(|node| work.balanced[node] * moved[node]);
    if let Some((found, predicted)) = found.passing_on.zip(work.passing_on) {
        // Such a task costs a device next to nothing else, and no more in a full pipeline than while it waits for the edge.
        let more = (found - predicted * moved[0]).min(Micros::ZERO);
        balanced[0] += more;
        let task = &mut scenario.nodes[0].task_us;
        *task = (*task + more).max(Micros::ZERO);
    }
    // Nodes that take turns are planned so: what one waited for the other is no work of its own.
    if scenario.shares_a_core() {
        return;
    }
    scenario
        .nodes
        .iter_mut()
        .zip(found.whole_busy)
        .for_each(|(node, whole)| node.whole_busy_us = Some(whole));
    scenario.contention = contention(balanced, found);
    // The device hands over those tasks only that it writes.
    let encoding = scenario.encodings.iter_mut().map(|row| &mut row.encode_us[0]);
    encoding.for_each(|time| *time = (*time + found.turnarounds[0]).max(Micros::ZERO));
    let task = &mut scenario.nodes[1].task_us;
    *task = (*task + found.turnarounds[1]).max(Micros::ZERO);
    if let Some(handover) = found.handover {
        scenario.links[0].handover_us = handover.max(Micros::ZERO);
    }
}

/// What share of the lesser node's work both take longer: what both nodes' whole models and both stages of the balanced plan took
/// beyond what they take alone, on average, since each by itself is known no better than to some percent.
fn contention(balanced: [Micros; 2], found: &Found) -> f64 {
    let shared = Micros::min(balanced[0], balanced[1]);
    let of_stage = |node: usize| Some((found.balanced[node]? - balanced[node]) / shared);
    let of_layers = |node: usize| Some(found.whole_busy[node] / found.whole[node] - 1.0);
    let shares: Vec<f64> =
        [of_layers(0), of_layers(1), of_stage(0), of_stage(1)].into_iter().flatten().collect();
    within(1.0 + shares.iter().sum::<f64>() / shares.len() as f64) - 1.0
}

/// A factor within what is plausible; 1 for what is no number.
fn within(factor: f64) -> f64 {
    if factor.is_nan() { 1.0 } else { factor.clamp(1.0, MOST) }
}

/// All that a node does takes so many times as long.
fn scale(scenario: &mut ScenarioFile, node: usize, factor: f64) {
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
    use super::super::trial::Alone;
    use super::*;

    fn scenario() -> ScenarioFile {
        let text = r#"{ "schema": "coprof.scenario/2", "input_bytes": 1000,
            "layers": [{ "name": "a", "output_bytes": 1000 }, { "name": "b", "output_bytes": 1000 }, { "name": "c", "output_bytes": 40 }],
            "nodes": [{ "name": "device", "layers_us": [100, 100, 100], "whole_us": 300, "task_us": 30 },
                      { "name": "edge", "layers_us": [50, 50, 50], "pause_us": 10 }],
            "links": [{ "bits_per_second": 1e9, "handover_us": 7 }] }"#;
        ScenarioFile::clone(&Problem::from_json(text).unwrap())
    }

    /// The device has become 1.2 times as slow; both nodes take a tenth of the lesser stage longer together.
    fn found() -> Found {
        Found {
            whole: [Micros(360.0), Micros(150.0)],
            whole_busy: [Micros(360.0 * 1.1), Micros(150.0 * 1.1)],
            balanced: [Some(Micros(126.0 + 10.0)), Some(Micros(100.0 + 10.0))],
            alone: [
                Some(Alone { in_a_row: Micros(360.0), after_pause: Micros(378.0) }),
                Some(Alone { in_a_row: Micros(150.0), after_pause: Micros(175.0) }),
            ],
            turnarounds: [Micros(5.0), Micros(6.0)],
            passing_on: Some(Micros(6.0)),
            handover: Some(Micros(40.0)),
        }
    }

    fn work() -> Work {
        Work { balanced: [Micros(130.0), Micros(100.0)], passing_on: Some(Micros(30.0)) }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn nodes_are_brought_to_the_speed_of_the_trial_and_charged_what_the_parts_do_not_tell() {
        let mut scenario = scenario();
        let encode = scenario.encodings[0].encode_us[0];
        apply(&mut scenario, &work(), &found());
        let [device, edge] = [&scenario.nodes[0], &scenario.nodes[1]];
        device.layers_us.iter().for_each(|time| close(time.0, 120.0));
        edge.layers_us.iter().for_each(|time| close(time.0, 50.0));
        assert_eq!((device.whole_us, edge.whole_us), (Some(Micros(360.0)), Some(Micros(150.0))));
        close(device.whole_busy_us.unwrap().0, 396.0);
        // Beside a constant that the null network tells.
        close(device.pause_factor, 1.05);
        close(edge.pause_factor, 1.1);
        // A task that is only passed on took 6 µs instead of 36, so the balanced plan's work is 126 µs.
        close(device.task_us.0, 6.0);
        close(scenario.contention, 0.1);
        close(scenario.encodings[0].encode_us[0].0, 1.2 * encode.0 + 5.0);
        close(edge.task_us.0, 6.0);
        close(scenario.links[0].handover_us.0, 40.0);
    }

    #[test]
    fn no_time_becomes_negative() {
        let mut scenario = scenario();
        apply(&mut scenario, &work(), &Found { turnarounds: [Micros(-1e6), Micros(-1e6)], ..found() });
        assert_eq!(
            (scenario.encodings[0].encode_us[0], scenario.nodes[1].task_us),
            (Micros::ZERO, Micros::ZERO)
        );
    }

    #[test]
    fn nodes_that_take_turns_are_not_in_each_others_way() {
        let mut scenario = scenario();
        scenario.nodes.iter_mut().for_each(|node| node.core = Some("core 0".into()));
        apply(&mut scenario, &work(), &found());
        assert_eq!((scenario.contention, scenario.nodes[1].task_us), (0.0, Micros::ZERO));
        close(scenario.nodes[0].layers_us[0].0, 120.0);
    }

    #[test]
    fn what_only_one_plan_shows_is_somebody_elses_doing() {
        let mut scenario = scenario();
        let disturbed = Found { balanced: [Some(Micros(900.0)), None], ..found() };
        apply(&mut scenario, &work(), &disturbed);
        close(scenario.contention, MOST - 1.0);
    }

    #[test]
    fn an_edge_that_tells_of_no_time_is_no_panic() {
        let nothing = [Micros::ZERO; 2];
        let alone = Some(Alone { in_a_row: Micros::ZERO, after_pause: Micros::ZERO });
        let empty = Found {
            whole: nothing,
            whole_busy: nothing,
            balanced: [Some(Micros::ZERO); 2],
            alone: [alone, alone],
            turnarounds: nothing,
            passing_on: None,
            handover: None,
        };
        for whole_us in [Some(Micros::ZERO), Some(Micros(50.0)), None] {
            let mut scenario = scenario();
            scenario.nodes[1].whole_us = whole_us;
            apply(&mut scenario, &work(), &empty);
            assert!(scenario.contention.is_finite() && scenario.nodes[1].pause_factor >= 1.0);
        }
    }
}
