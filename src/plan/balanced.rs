//! A plan with work for both nodes: what a trial runs, to see how they get along.

use super::plan::Threshold;
use super::predict::predict_in;
use super::scenario::Scenario;
use super::search::Predicted;
use super::space::{EMPTY, Space};
use crate::error::Result;

/// Of the plans for two nodes without side exits, the one whose nodes have the most equal work and that waits the least for the
/// link. Encodings that need a calibration are left out. `None` where nothing can cross.
pub fn most_balanced(scenario: &Scenario) -> Result<Option<Predicted>> {
    let space = Space::new(scenario)?;
    let last = scenario.exits.len() - 1;
    let whole = space.needs[last];
    let [device, edge] = [&scenario.nodes[0], &scenario.nodes[1]];
    let mut best = None;
    let mut least = f64::INFINITY;
    for path in &space.paths {
        let resume = &space.resumes[path.resume];
        let cut = resume.cut();
        let known = resume.can_try[last] && path.outcomes(scenario, last).is_some();
        if !known || !space.may_run(0, EMPTY, cut) || !space.may_run(1, cut, whole) {
            continue;
        }
        let runs = [space.run_time(0, EMPTY, cut), space.run_time(1, cut, whole)];
        for &index in &path.rows {
            let row = &scenario.encodings[index];
            let here = runs[0] + (device.task_us + row.encode_us[0]).0;
            let there = runs[1] + (edge.task_us + edge.exits_us[last] + row.decode_us[1]).0;
            let (less, more) = (here.min(there).max(1.0), here.max(there).max(1.0));
            let score = more / less + space.link_time(0, row) / more;
            if score < least && !row.encoding.needs_calibration() {
                (least, best) = (score, Some((cut, index)));
            }
        }
    }
    let Some((cut, row)) = best else { return Ok(None) };
    let mut exits = vec![(Threshold::Never, 1); last];
    exits.push((Threshold::Always, 1));
    let plan = space.plan(&[cut, whole], &[Some(row)], &exits);
    let prediction = predict_in(&space, &plan)?;
    Ok(Some(Predicted { plan, prediction }))
}

#[cfg(test)]
mod tests {
    use super::super::brute_force::random_scenario;
    use super::*;
    use crate::units::Micros;

    #[test]
    fn both_nodes_have_work() {
        let text = r#"{ "schema": "coprof.scenario/2", "input_bytes": 1000,
            "layers": [{ "name": "a", "output_bytes": 1000 }, { "name": "b", "output_bytes": 1000 }, { "name": "c", "output_bytes": 40 }],
            "nodes": [{ "name": "device", "layers_us": [100, 100, 100] }, { "name": "edge", "layers_us": [50, 50, 50] }],
            "links": [{ "bits_per_second": 1e9 }] }"#;
        let Predicted { plan, prediction } =
            most_balanced(&Scenario::from_json(text).unwrap()).unwrap().unwrap();
        assert_eq!(plan.nodes[0].cut, ["a"]);
        assert_eq!([0, 2].map(|stage| prediction.stages[stage].time_us), [Micros(100.0), Micros(100.0)]);
    }

    #[test]
    fn whatever_is_found_can_be_predicted() {
        for seed in 0..500 {
            let mut scenario = random_scenario(seed, 2);
            scenario.nodes.iter_mut().for_each(|node| node.memory_bytes = None);
            if let Some(found) = most_balanced(&scenario).unwrap() {
                let crossed = found.prediction.stages[1].share;
                assert_eq!((crossed.0, found.plan.links[0].is_some()), (1.0, true));
            }
        }
    }
}
