//! Fills in what a scenario leaves out, so that the planner sees complete tables only.

use std::collections::{BTreeSet, HashSet};

use super::layers::Trunk;
use super::marginal;
use super::outcomes::{MOST_PARTS, Outcomes, parts};
use super::scenario::{AccuracyBasis, EncodedFrontier, ExitSite, LossyOutcomes, ScenarioFile};
use crate::codec::{Element, Encoding};
use crate::error::{Error, Result};
use crate::model::{Dag, LayerSet};
use crate::units::Micros;

/// Cuts beyond this number are not all listed.
const MOST_CUTS: usize = 20_000;

/// The cuts along the topological order, and the smallest one around each layer.
fn simple_cuts(dag: &Dag) -> Vec<LayerSet> {
    let around = (0..dag.len()).map(|layer| dag.up_to([layer]));
    dag.cuts_along().into_iter().chain(around).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A frontier as it is: no codec, no loss.
const AS_IT_IS: Encoding = Encoding::plain(Element::F32);

impl ScenarioFile {
    /// The scenario with every default written out, checked.
    pub(super) fn completed(mut self) -> Result<Self> {
        self.fill_in().map_err(|what| {
            Error::failed(format!(
                "scenario: {what}; docs/formats.md shows a valid one, `coprof optimize` writes such"
            ))
        })?;
        self.check()?;
        Ok(self)
    }

    fn fill_in(&mut self) -> Result<(), String> {
        let mut before = "input".to_owned();
        for layer in &mut self.layers {
            if layer.inputs.is_empty() {
                layer.inputs = vec![before];
            }
            before = layer.name.clone();
        }
        self.check_shape()?;
        let trunk = Trunk::new(&self.layers)?;
        let layers = &self.layers;
        let names = |tips: Vec<usize>| tips.into_iter().map(|tip| layers[tip].name.clone()).collect();
        if self.exits.is_empty() {
            self.exits.push(ExitSite { name: "final".into(), after: None, weight_bytes: 0, marginal: None });
        }
        for exit in &mut self.exits {
            exit.after.get_or_insert_with(|| names(trunk.dag.tips(trunk.dag.trunk())));
        }
        for node in self.nodes.iter_mut().filter(|node| node.exits_us.is_empty()) {
            node.exits_us = vec![Micros::ZERO; self.exits.len()];
        }
        if self.encodings.is_empty() {
            self.list_frontiers(&trunk);
        } else {
            self.all_cuts = self.all_cuts && self.lists_every_cut(&trunk);
        }
        for row in &mut self.encodings {
            for times in [&mut row.encode_us, &mut row.decode_us] {
                if times.is_empty() {
                    *times = vec![Micros::ZERO; self.nodes.len()];
                }
            }
        }
        self.fill_in_outcomes(&trunk)
    }

    /// Every cut whose frontier has a known size, as 32-bit floats.
    fn list_frontiers(&mut self, trunk: &Trunk) {
        let every = trunk.dag.cuts(MOST_CUTS);
        self.all_cuts = every.is_some();
        let cuts = every.unwrap_or_else(|| simple_cuts(&trunk.dag));
        for cut in cuts.iter().filter(|cut| *cut != trunk.dag.trunk()) {
            if let Some(bytes) = self.frontier_bytes(trunk, cut) {
                self.encodings.push(EncodedFrontier {
                    cut: trunk.dag.tips(cut).into_iter().map(|tip| self.layers[tip].name.clone()).collect(),
                    encoding: AS_IT_IS,
                    bytes: bytes as f64,
                    encode_us: Vec::new(),
                    decode_us: Vec::new(),
                    accuracy: None,
                });
            }
        }
    }

    /// Whether every cut whose frontier has a known size has a row.
    fn lists_every_cut(&self, trunk: &Trunk) -> bool {
        let cut = |row: &EncodedFrontier| {
            let tips = row.cut.iter().map(|name| trunk.find(name)).collect::<Option<Vec<_>>>()?;
            Some(trunk.dag.up_to(tips))
        };
        let listed: HashSet<LayerSet> = self.encodings.iter().filter_map(cut).collect();
        let can_cross =
            |cut: &&LayerSet| *cut != trunk.dag.trunk() && self.frontier_bytes(trunk, cut).is_some();
        let every = trunk.dag.cuts(MOST_CUTS);
        every.is_some_and(|cuts| cuts.iter().filter(can_cross).all(|cut| listed.contains(cut)))
    }

    fn frontier_bytes(&self, trunk: &Trunk, cut: &LayerSet) -> Option<u64> {
        let size = |tensor: Option<usize>| {
            tensor.map_or(self.input_bytes, |layer| Some(self.layers[layer].output_bytes))
        };
        trunk.dag.frontier(cut).into_iter().map(size).sum()
    }

    fn fill_in_outcomes(&mut self, trunk: &Trunk) -> Result<(), String> {
        let given = self.exits.iter().filter(|exit| exit.marginal.is_some()).count();
        if self.outcomes.is_empty() && !self.uncut_outcomes.is_empty() {
            return Err("uncut_outcomes are more samples beside those of `outcomes`, found none there".into());
        }
        let tables = self.exits.iter().filter_map(|exit| Some((&exit.name, exit.marginal.as_ref()?)));
        let stand_ins = tables
            .map(|(name, table)| marginal::outcomes(table).map_err(|what| format!("exit '{name}': {what}")));
        let stand_ins = stand_ins.collect::<Result<Vec<_>, _>>()?;
        match (self.outcomes.is_empty(), given) {
            (false, 0) => (),
            // A scenario that was filled in before.
            (false, _) if self.outcomes == stand_ins => (),
            (false, _) => return Err("exits have outcomes or marginal tables, not both".into()),
            (true, 0) if self.exits.len() == 1 => {
                self.accuracy_basis = AccuracyBasis::Relative;
                self.outcomes = vec![marginal::always_right()];
            }
            (true, given) if given == self.exits.len() => {
                self.accuracy_basis = AccuracyBasis::Marginals;
                self.outcomes = stand_ins;
            }
            (true, _) => {
                return Err(
                    "with side exits, `outcomes` or a `marginal` table for every exit was expected".into()
                );
            }
        }
        self.repeat_samples()?;
        self.fill_in_lossy(trunk)
    }

    /// Lets samples count several times where accuracies behind encodings are no whole numbers of them: all shares of samples
    /// stay what they are.
    fn repeat_samples(&mut self) -> Result<(), String> {
        let samples = self.samples();
        let known = |row: &EncodedFrontier| {
            let element = row.encoding.without_coder();
            self.lossy_outcomes.iter().any(|lossy| lossy.element == element && lossy.cut == row.cut)
        };
        let open = self.encodings.iter().filter(|row| !known(row));
        let mut shares = Vec::new();
        for (row, (name, &share)) in
            open.flat_map(|row| row.accuracy.iter().flatten().map(move |named| (row, named)))
        {
            if !self.exits.iter().any(|exit| exit.name == *name) || !(0.0..=1.0).contains(&share.0) {
                return Err(format!(
                    "encoding {} at cut {:?} has an accuracy of {} for '{name}'; shares from 0 to 1 by the name of an \
                     exit were expected",
                    row.encoding, row.cut, share.0
                ));
            }
            shares.push(share);
        }
        if samples == 0 || shares.is_empty() {
            return Ok(());
        }
        let fits = |times: &usize| {
            self.uncut_outcomes.is_empty() || parts(samples * times, self.uncut_samples()) <= MOST_PARTS
        };
        let times = (1..=marginal::repeats(samples, &shares)).rfind(fits).unwrap_or(1);
        if times > 1 {
            let lossy = self.lossy_outcomes.iter_mut().flat_map(|row| row.exits.iter_mut().flatten());
            self.outcomes.iter_mut().chain(lossy).for_each(|outcomes| *outcomes = outcomes.repeated(times));
        }
        Ok(())
    }

    /// Outcomes behind lossy encodings that only tell an accuracy.
    fn fill_in_lossy(&mut self, trunk: &Trunk) -> Result<(), String> {
        for index in 0..self.encodings.len() {
            let row = &self.encodings[index];
            let element = row.encoding.without_coder();
            let known = |lossy: &LossyOutcomes| lossy.element == element && lossy.cut == row.cut;
            let Some(accuracy) = &row.accuracy else { continue };
            if self.lossy_outcomes.iter().any(known) {
                continue;
            }
            let of_exit = |(exit, site): (&Outcomes, &ExitSite)| {
                let share = accuracy.get(&site.name)?;
                Some(marginal::with_accuracy(exit, *share))
            };
            let exits: Vec<_> = self.outcomes.iter().zip(&self.exits).map(of_exit).collect();
            let site = row.cut.iter().all(|name| trunk.find(name).is_some());
            if !site || exits.last().is_none_or(Option::is_none) {
                return Err(format!(
                    "encoding {} at cut {:?} needs a cut of layers and an accuracy of the final exit",
                    row.encoding, row.cut
                ));
            }
            self.accuracy_basis = AccuracyBasis::Marginals;
            self.lossy_outcomes.push(LossyOutcomes {
                cut: row.cut.clone(),
                element,
                exits,
                calibration: None,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, Policy, Problem, Threshold, pareto_front, search};
    use super::*;
    use crate::units::Share;

    /// What a person would write: layers, times and one link.
    const BY_HAND: &str = r#"{
        "schema": "coprof.scenario/2",
        "layers": [
            {"name": "conv1", "output_bytes": 65536},
            {"name": "conv2", "output_bytes": 4096},
            {"name": "fc", "output_bytes": 40}
        ],
        "nodes": [
            {"name": "phone", "layers_us": [2000, 8000, 4000]},
            {"name": "server", "layers_us": [100, 400, 200]}
        ],
        "links": [{"bits_per_second": 1e7}]
    }"#;

    #[test]
    fn layers_times_and_a_link_are_enough() {
        let scenario = Problem::from_json(BY_HAND).unwrap();
        assert_eq!(scenario.layers[0].inputs, ["input"]);
        assert_eq!(scenario.layers[2].inputs, ["conv2"]);
        assert_eq!(scenario.exits[0].tips(), ["fc"]);
        // The input's size is unknown, so it does not cross; nor does the whole network's output.
        let cuts: Vec<_> = scenario.encodings.iter().map(|row| row.cut.concat()).collect();
        assert_eq!(cuts, ["conv1", "conv2"]);
        assert_eq!(scenario.accuracy_basis, AccuracyBasis::Relative);
        let best = search(&scenario).unwrap().best;
        // 4,096 bytes at 10 Mbit/s take 3.3 ms: less than conv1 and conv2 on the phone.
        assert_eq!(best.plan.nodes[0].cut, ["conv2"]);
        assert_eq!(best.prediction.interval_us, Micros(10_000.0));
        assert_eq!(best.prediction.latency_us, Micros(10_000.0 + 3276.8 + 200.0));
        assert_eq!(best.prediction.accuracy, Share(1.0));
        assert!(Policy::EdgeOnly.choose(&scenario).is_err());
    }

    #[test]
    fn a_completed_scenario_stays_as_it_is() {
        let scenario = Problem::from_json(BY_HAND).unwrap();
        let again = Problem::from_json(&serde_json::to_string(&scenario).unwrap()).unwrap();
        assert_eq!(again, scenario);
    }

    fn with(changes: serde_json::Value) -> Result<Problem> {
        let mut document: serde_json::Value = serde_json::from_str(BY_HAND).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            document[key] = value.clone();
        }
        Problem::from_json(&document.to_string())
    }

    #[test]
    fn marginal_tables_stand_in_for_samples() {
        let exits = serde_json::json!([
            {"name": "early", "after": ["conv1"], "marginal": {
                "accuracy": 0.6,
                "steps": [
                    {"entropy": 0.1, "share": 0.3, "accuracy": 0.9},
                    {"entropy": 0.5, "share": 0.7, "accuracy": 0.8}
                ]
            }},
            {"name": "final", "marginal": {"accuracy": 0.9}}
        ]);
        let scenario = with(serde_json::json!({"exits": exits, "input_bytes": 3072})).unwrap();
        assert_eq!(scenario.accuracy_basis, AccuracyBasis::Marginals);
        let early = |plan: &Plan| plan.exits[0].threshold;
        let tried = pareto_front(&scenario, None)
            .unwrap()
            .plans
            .iter()
            .map(|point| early(&point.plan))
            .collect::<Vec<_>>();
        assert!(tried.iter().any(|threshold| threshold.is_on()), "{tried:?}");
        let wrong = with(serde_json::json!({"exits": [exits[0], {"name": "final"}]})).unwrap_err();
        assert!(wrong.to_string().contains("marginal"), "{wrong}");
    }

    #[test]
    fn every_step_of_a_table_can_be_chosen() {
        let exits = serde_json::json!([
            {"name": "e", "after": ["conv1"], "marginal": {
                "accuracy": 0.02, "steps": [{"entropy": 0.125, "share": 0.02, "accuracy": 1}]
            }},
            {"name": "final", "marginal": {"accuracy": 1}}
        ]);
        let layers =
            serde_json::json!([{"name": "conv1", "output_bytes": 100}, {"name": "fc", "output_bytes": 4}]);
        let node = |name: &str| serde_json::json!({"name": name, "layers_us": [10, 1000]});
        let scenario = with(serde_json::json!({
            "exits": exits, "layers": layers, "nodes": [node("n0"), node("n1")],
            "links": [{"bits_per_second": 1e9}], "constraints": {"objective": "latency"}
        }))
        .unwrap();
        let best = search(&scenario).unwrap().best;
        assert_eq!(best.plan.exits[0].threshold, Threshold::Entropy(Share(0.125)));
        // 98 of 100 go on to the other node, over a link that takes 0.8 µs.
        assert!((best.prediction.latency_us.0 - (10.0 + 0.98 * 1000.8)).abs() < 1e-9, "{best:?}");
        let again = Problem::from_json(&serde_json::to_string(&scenario).unwrap()).unwrap();
        assert_eq!(again, scenario);
        let contradicted = scenario.with(|file| file.outcomes.swap(0, 1)).unwrap_err();
        assert!(contradicted.to_string().contains("not both"), "{contradicted}");
    }

    #[test]
    fn more_samples_stand_beside_some() {
        let more = serde_json::json!([{"right": "1101"}]);
        let error = with(serde_json::json!({"uncut_outcomes": more})).unwrap_err();
        assert!(error.to_string().contains("found none there"), "{error}");
        let few = serde_json::json!([{"right": "1"}]);
        let scenario = with(serde_json::json!({"outcomes": few, "uncut_outcomes": more})).unwrap();
        assert_eq!(search(&scenario).unwrap().best.prediction.accuracy, Share(0.75));
    }

    #[test]
    fn an_accuracy_stands_in_for_lossy_samples() {
        let row = |accuracy| {
            serde_json::json!({"encodings": [
                {"cut": ["conv1"], "encoding": "q4", "bytes": 500, "accuracy": accuracy}
            ]})
        };
        let scenario = with(row(serde_json::json!({"final": 1.0}))).unwrap();
        assert_eq!(search(&scenario).unwrap().best.plan.nodes[0].cut, ["conv1"]);
        assert_eq!(scenario.accuracy_basis, AccuracyBasis::Marginals);
        assert!(with(row(serde_json::json!({}))).unwrap_err().to_string().contains("final exit"));
        let other = with(row(serde_json::json!({"other": 1.0}))).unwrap_err().to_string();
        assert!(other.contains("for 'other'"), "{other}");
    }

    #[test]
    fn an_accuracy_behind_an_encoding_is_kept_as_it_was_given() {
        let document = |accuracy: f64, more: serde_json::Value| {
            let mut changes = serde_json::json!({"encodings": [
                {"cut": ["conv1"], "encoding": "f32", "bytes": 4096},
                {"cut": ["conv1"], "encoding": "q4", "bytes": 500, "accuracy": {"final": accuracy}}
            ]});
            changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            with(changes).unwrap()
        };
        let chosen = |accuracy: f64, floor: f64, more: serde_json::Value| {
            let scenario = document(accuracy, more);
            let best =
                search(&scenario.with(|file| file.constraints.min_accuracy = Some(Share(floor))).unwrap());
            let best = best.unwrap().best;
            (best.plan.links[0].clone().unwrap().encoding.to_string(), best.prediction.accuracy.0)
        };
        let none = || serde_json::json!({});
        assert_eq!(chosen(0.97, 0.99, none()), ("f32".into(), 1.0));
        assert_eq!(chosen(0.97, 0.97, none()), ("q4".into(), 0.97));
        assert_eq!(chosen(0.4, 0.0, none()), ("q4".into(), 0.4));
        // Two samples of three are right uncut.
        let few = || serde_json::json!({"outcomes": [{"right": "110"}]});
        assert_eq!(chosen(0.66, 2.0 / 3.0, few()), ("f32".into(), 2.0 / 3.0));
        let (encoding, accuracy) = chosen(0.66, 0.6, few());
        assert!(encoding == "q4" && (accuracy - 0.66).abs() < 1e-4, "{encoding} {accuracy}");
        let more = serde_json::json!({"outcomes": [{"right": "110"}], "uncut_outcomes": [{"right": "1101"}]});
        let (_, accuracy) = chosen(0.66, 0.6, more);
        assert!((accuracy - (0.75 + 0.66 - 2.0 / 3.0)).abs() < 1e-4, "{accuracy}");
        let scenario = document(0.97, none());
        assert_eq!(Problem::from_json(&serde_json::to_string(&scenario).unwrap()).unwrap(), scenario);
    }

    #[test]
    fn an_exit_may_stand_on_the_input() {
        let scenario = with(serde_json::json!({
            "layers": [{"name": "a", "output_bytes": 100}, {"name": "b", "output_bytes": 4}],
            "input_bytes": 400,
            "nodes": [{"name": "n0", "layers_us": [100, 100]}, {"name": "n1", "layers_us": [100, 100]}],
            "exits": [{"name": "e", "after": []}, {"name": "final"}],
            "outcomes": [{"right": "1100", "entropy": [0, 0, 1, 1]}, {"right": "1111"}],
            "constraints": {"min_accuracy": 0.9}
        }))
        .unwrap();
        let best = search(&scenario).unwrap().best;
        // Two of four leave before the first layer; the others have one layer on each node.
        assert_eq!(best.prediction.interval_us, Micros(50.0));
        assert_eq!(Problem::from_json(&serde_json::to_string(&scenario).unwrap()).unwrap(), scenario);
        let no_end = with(serde_json::json!({"exits": [{"name": "final", "after": []}]})).unwrap();
        assert!(search(&no_end).unwrap_err().to_string().contains("after all layers"));
    }

    /// The device has to make one result, the edge the other.
    fn two_results(more: serde_json::Value) -> Problem {
        let layer =
            |name: &str, input: &str| serde_json::json!({"name": name, "output_bytes": 4, "inputs": [input]});
        let node = |name: &str, not: &[&str]| serde_json::json!({"name": name, "layers_us": [10, 10, 10], "may_not_run": not});
        let mut changes = serde_json::json!({
            "layers": [layer("a", "input"), layer("b", "a"), layer("c", "a")],
            "nodes": [node("n0", &["c"]), node("n1", &["a", "b"])],
            "links": [{"bits_per_second": 1e18}],
        });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(changes).unwrap()
    }

    #[test]
    fn a_result_stays_where_it_was_made() {
        let row = serde_json::json!({"encodings": [{"cut": ["b"], "encoding": "f32", "bytes": 4}]});
        for more in [row, serde_json::json!({})] {
            let best = search(&two_results(more)).unwrap().best;
            assert_eq!(best.plan.links[0].as_ref().unwrap().resume, ["b"]);
            assert_eq!(best.prediction.stages[0].time_us, Micros(20.0));
            assert_eq!(best.prediction.stages[2].time_us, Micros(10.0));
        }
    }

    #[test]
    fn cuts_that_are_not_listed_are_told() {
        let rows = |cuts: &[&[&str]]| {
            let row = |cut: &&[&str]| serde_json::json!({"cut": cut, "encoding": "f32", "bytes": 4});
            serde_json::json!({"encodings": cuts.iter().map(row).collect::<Vec<_>>(), "all_cuts": true})
        };
        assert!(!two_results(rows(&[&["b"]])).all_cuts);
        // The input's size is unknown, so it cannot cross.
        assert!(two_results(rows(&[&["a"], &["b"], &["c"]])).all_cuts);
        assert!(two_results(serde_json::json!({})).all_cuts);
    }

    #[test]
    fn many_exits_are_searched_and_too_many_refused() {
        let exits: Vec<_> = (0..12)
            .map(|exit| serde_json::json!({"name": format!("e{exit}"), "after": ["conv1"]}))
            .chain([serde_json::json!({"name": "final"})])
            .collect();
        let entropy: Vec<f64> = (0..100).map(|sample| f64::from(sample) / 100.0).collect();
        let outcomes = vec![serde_json::json!({"right": "1".repeat(100), "entropy": entropy}); 13];
        let too_many = with(serde_json::json!({"exits": exits, "outcomes": outcomes})).unwrap();
        assert!(search(&too_many).unwrap_err().to_string().contains("at most 12 exits"));
        let (exits, outcomes) = (&exits[5..], &outcomes[5..]);
        let many = with(serde_json::json!({"exits": exits, "outcomes": outcomes})).unwrap();
        assert_eq!(search(&many).unwrap().gap, Share(0.0));
        let steps: Vec<_> = (1..50)
            .map(|step| serde_json::json!({"entropy": f64::from(step) / 50.0, "share": 0.1, "accuracy": 1}))
            .collect();
        let table = serde_json::json!({"accuracy": 0.5, "steps": steps});
        let tables: Vec<_> = exits
            .iter()
            .map(|exit| {
                let mut exit = exit.clone();
                exit["marginal"] = table.clone();
                exit
            })
            .collect();
        let tables = with(serde_json::json!({"exits": tables})).unwrap();
        assert_eq!(search(&tables).unwrap().gap, Share(0.0));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (changes, expected) in [
            (serde_json::json!({"schema": "coprof.scenario/1"}), "coprof.scenario/2"),
            (serde_json::json!({"nodes": []}), "nodes"),
            (serde_json::json!({"links": [{"bits_per_second": 0}]}), "positive bits_per_second"),
            (serde_json::json!({"layers": []}), "at least one layer"),
            (serde_json::json!({"threshold_steps": 0}), "threshold_steps"),
        ] {
            let found = with(changes).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
    }
}
