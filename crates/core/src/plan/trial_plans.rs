//! Plans that a trial runs: one with work for both nodes, to see how they get along, and one for each node with all of it.

use super::plan::Threshold;
use super::predict::predict_in;
use super::problem::Problem;
use super::scenario::EncodedFrontier;
use super::search::Predicted;
use super::space::{CutId, EMPTY, Space};
use crate::error::Result;

/// Of the plans for two nodes without side exits, the one whose nodes have the most equal work and that waits the least for the
/// link. Encodings that need a calibration are left out. `None` where nothing can cross.
pub fn most_balanced(scenario: &Problem) -> Result<Option<Predicted>> {
    least(scenario, |_, [here, there], link| {
        let (less, more) = (here.min(there).max(1.0), here.max(there).max(1.0));
        Some(more / less + link / more)
    })
}

/// The plan in which the edge does all that layers do, with the encoding under which that is the fastest. `None` where the
/// input can't cross.
pub fn all_on_edge(scenario: &Problem) -> Result<Option<Predicted>> {
    least(scenario, |cut, [here, there], link| (cut == EMPTY).then_some(here + there + link))
}

/// The plan in which nothing crosses. `None` where the device may not run it all.
pub fn all_on_device(scenario: &Problem) -> Result<Option<Predicted>> {
    let space = Space::new(scenario)?;
    let last = scenario.exits.len() - 1;
    let whole = space.needs[last];
    if !space.may_run(0, EMPTY, whole) {
        return Ok(None);
    }
    predicted(&space, &[whole, whole], None, 0).map(Some)
}

/// Of the plans for two nodes that cross and have no side exits, the one with the least score. That gets the resume cut, the work
/// of both nodes and the link's time.
fn least(
    scenario: &Problem,
    score: impl Fn(CutId, [f64; 2], f64) -> Option<f64>,
) -> Result<Option<Predicted>> {
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
        let work = |row: &EncodedFrontier| {
            let here = runs[0] + (device.task_us + row.encode_us[0]).0;
            [here, runs[1] + (edge.task_us + edge.exits_us[last] + row.decode_us[1]).0]
        };
        for &index in &path.rows {
            let row = &scenario.encodings[index];
            let Some(score) = score(cut, work(row), space.link_time(0, row)) else { continue };
            if score < least && !row.encoding.needs_calibration() {
                (least, best) = (score, Some((cut, index)));
            }
        }
    }
    let Some((cut, row)) = best else { return Ok(None) };
    predicted(&space, &[cut, whole], Some(row), 1).map(Some)
}

/// The plan with these cuts in which all samples leave at the final exit, on this node.
fn predicted(space: &Space<'_>, cuts: &[CutId], row: Option<usize>, node: usize) -> Result<Predicted> {
    let mut exits = vec![(Threshold::Never, node); space.scenario.exits.len() - 1];
    exits.push((Threshold::Always, node));
    let plan = space.plan(cuts, &[row], &exits);
    let prediction = predict_in(space, &plan)?;
    Ok(Predicted { plan, prediction })
}

#[cfg(test)]
mod tests {
    use super::super::ScenarioFile;
    use super::super::brute_force::random_scenario;
    use super::*;
    use crate::units::Micros;

    fn scenario() -> Problem {
        let text = r#"{ "schema": "coprof.scenario/2", "input_bytes": 1000,
            "layers": [{ "name": "a", "output_bytes": 1000 }, { "name": "b", "output_bytes": 1000 }, { "name": "c", "output_bytes": 40 }],
            "nodes": [{ "name": "device", "layers_us": [100, 100, 100] }, { "name": "edge", "layers_us": [50, 50, 50] }],
            "links": [{ "bits_per_second": 1e9 }] }"#;
        Problem::from_json(text).unwrap()
    }

    fn nodes(prediction: &super::super::predict::Prediction) -> [Micros; 2] {
        [0, 2].map(|stage| prediction.stages[stage].time_us)
    }

    #[test]
    fn both_nodes_have_work() {
        let Predicted { plan, prediction } = most_balanced(&scenario()).unwrap().unwrap();
        assert_eq!(plan.nodes[0].cut, ["a"]);
        assert_eq!(nodes(&prediction), [Micros(100.0), Micros(100.0)]);
    }

    #[test]
    fn one_node_has_all_the_work() {
        let scenario = scenario();
        let edge = all_on_edge(&scenario).unwrap().unwrap();
        assert_eq!(nodes(&edge.prediction), [Micros::ZERO, Micros(150.0)]);
        let device = all_on_device(&scenario).unwrap().unwrap();
        assert_eq!(nodes(&device.prediction), [Micros(300.0), Micros::ZERO]);
        assert!(device.plan.links[0].is_none());
        let weaker = |node: usize, layer: &str| {
            scenario.varied(|file| file.nodes[node].may_not_run = vec![layer.into()])
        };
        assert!(all_on_device(&weaker(0, "b")).unwrap().is_none());
        assert!(all_on_edge(&weaker(1, "a")).unwrap().is_none());
    }

    #[test]
    fn whatever_is_found_can_be_predicted() {
        for seed in 0..500 {
            let without_limits =
                |file: &mut ScenarioFile| file.nodes.iter_mut().for_each(|node| node.memory_bytes = None);
            let scenario = random_scenario(seed, 2).varied(without_limits);
            for found in [most_balanced(&scenario), all_on_edge(&scenario)] {
                if let Some(found) = found.unwrap() {
                    let crossed = found.prediction.stages[1].share;
                    assert_eq!((crossed.0, found.plan.links[0].is_some()), (1.0, true));
                }
            }
            if let Some(found) = all_on_device(&scenario).unwrap() {
                assert_eq!(found.prediction.stages[2].time_us, Micros::ZERO);
            }
        }
    }
}
