//! Each rule against every plan that there is, weighed by the predictor, on random scenarios; the minimum cut against every
//! downward-closed set; and a few choices that can be worked out by hand.

use proptest::prelude::*;

use super::super::layers::Trunk;
use super::super::random::names;
use super::super::tally::threshold_grid;
use super::super::*;
use super::min_cut::min_cut;
use super::random::{Extras, random_scenario};
use super::*;
use crate::codec::{Coder, Element, Encoding, Quantization};
use crate::model::LayerSet;
use crate::units::{Micros, Share};

/// Every way to give each exit a threshold and a node: in order, ended by an "always", nothing on behind it.
fn exit_settings(scenario: &Problem) -> Vec<Vec<ExitPlan>> {
    let mut open: Vec<Vec<ExitPlan>> = vec![Vec::new()];
    let mut settings = Vec::new();
    let last = scenario.exits.len() - 1;
    for (index, site) in scenario.exits.iter().enumerate() {
        let exit = |threshold, node| ExitPlan { name: site.name.clone(), threshold, node };
        let mut longer = Vec::new();
        for begun in open {
            let from = begun.iter().filter(|exit| exit.threshold.is_on()).map(|exit| exit.node).max();
            longer.push([begun.clone(), vec![exit(Threshold::Never, 0)]].concat());
            for node in from.unwrap_or(0)..2 {
                for threshold in threshold_grid(scenario, index) {
                    if index != last {
                        longer.push([begun.clone(), vec![exit(threshold, node)]].concat());
                    }
                }
                let mut whole = [begun.clone(), vec![exit(Threshold::Always, node)]].concat();
                let off =
                    |site: &ExitSite| ExitPlan { name: site.name.clone(), threshold: Threshold::Never, node };
                whole.extend(scenario.exits[index + 1..].iter().map(off));
                settings.push(whole);
            }
        }
        open = longer;
    }
    settings
}

/// Every plan that is allowed, with what it would do: the device runs what its exits and what it sends need.
fn all_plans(scenario: &Problem) -> Vec<(Plan, Prediction)> {
    let trunk = Trunk::new(&scenario.layers).unwrap();
    let mut plans = Vec::new();
    for exits in exit_settings(scenario) {
        let needed = |node: usize, and: &[String]| {
            let own = exits.iter().zip(&scenario.exits);
            let own = own.filter(|(exit, _)| exit.threshold.is_on() && exit.node == node);
            let tips = own.flat_map(|(_, site)| site.tips()).chain(and);
            trunk.dag.up_to(tips.map(|name| trunk.find(name).unwrap()))
        };
        let ends_on = exits.iter().find(|exit| exit.threshold == Threshold::Always).unwrap().node;
        let rows: Vec<Option<&EncodedFrontier>> =
            if ends_on == 0 { vec![None] } else { scenario.encodings.iter().map(Some).collect() };
        for row in rows {
            let sent = row.map_or(&[][..], |row| &row.cut);
            let link = row.map(|row| LinkPlan {
                resume: row.cut.clone(),
                encoding: row.encoding,
                calibration: None,
            });
            let nodes = (0..2).map(|node| NodePlan { cut: names(&trunk, &needed(node, sent)) });
            let plan = Plan {
                model: scenario.model.sha256.clone(),
                nodes: nodes.collect(),
                links: vec![link],
                exits: exits.clone(),
            };
            if let Ok(prediction) = predict(scenario, &plan)
                && fits(scenario, &prediction)
            {
                plans.push((plan, prediction));
            }
        }
    }
    plans
}

fn fits(scenario: &Problem, prediction: &Prediction) -> bool {
    let mut limits = scenario.nodes.iter().zip(&prediction.memory_bytes);
    limits.all(|(node, &bytes)| node.memory_bytes.is_none_or(|limit| bytes <= limit as f64))
}

/// The exit at which every sample leaves, if all others are off.
fn only_exit(plan: &Plan) -> Option<usize> {
    let on: Vec<usize> = (0..plan.exits.len()).filter(|&exit| plan.exits[exit].threshold.is_on()).collect();
    (on.len() == 1).then(|| on[0])
}

/// Whether a plan leaves at one exit and crosses, if at all, before it and in a row that `knows`.
fn splits(scenario: &Problem, plan: &Plan, exit: usize, knows: &dyn Fn(&[String], Encoding) -> bool) -> bool {
    let trunk = Trunk::new(&scenario.layers).unwrap();
    let cut = |tips: &[String]| trunk.dag.up_to(tips.iter().map(|name| trunk.find(name).unwrap()));
    let before = |link: &LinkPlan| cut(scenario.exits[exit].tips()).covers(&cut(&link.resume));
    only_exit(plan) == Some(exit)
        && plan.links[0].as_ref().is_none_or(|link| before(link) && knows(&link.resume, link.encoding))
}

fn raw(cut: &[String], encoding: Encoding) -> bool {
    encoding.is_lossless() && (cut.is_empty() || encoding.coder == Coder::Raw)
}

fn least(figures: impl Iterator<Item = f64>) -> Option<f64> {
    figures.min_by(f64::total_cmp)
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// The least figure of those that are most nearly as accurate as asked.
fn under_floor(
    scenario: &Problem,
    plans: &[&(Plan, Prediction)],
    figure: impl Fn(&Prediction) -> f64,
) -> Option<(f64, f64)> {
    let short = |p: &Prediction| (scenario.accuracy_floor().0 - p.accuracy.0 - 1e-9).max(0.0);
    let nearest = least(plans.iter().map(|(_, p)| short(p)))?;
    let near = plans.iter().filter(|(_, p)| short(p) <= nearest + 1e-9);
    Some((nearest, least(near.map(|(_, p)| figure(p)))?))
}

fn latency(prediction: &Prediction) -> f64 {
    prediction.latency_us.0
}

fn interval(prediction: &Prediction) -> f64 {
    prediction.interval_us.0
}

/// Holds a policy's choice to what the whole list of plans says; both may find nothing.
fn agrees(
    policy: Policy,
    scenario: &Problem,
    expected: Option<f64>,
    figure: fn(&Prediction) -> f64,
) -> Result<Option<Predicted>, TestCaseError> {
    let chosen = policy.choose(scenario).ok();
    prop_assert_eq!(chosen.as_ref().map(|_| ()), expected.map(|_| ()), "{}", policy);
    if let (Some(chosen), Some(expected)) = (&chosen, expected) {
        let found = figure(&chosen.prediction);
        prop_assert!(same(found, expected), "{policy}: {found} instead of {expected}");
    }
    Ok(chosen)
}

fn check_edgent(scenario: &Problem, plans: &[(Plan, Prediction)]) -> Result<(), TestCaseError> {
    let of_exit = |exit: usize| {
        least(plans.iter().filter(|(plan, _)| splits(scenario, plan, exit, &raw)).map(|(_, p)| latency(p)))
    };
    let found: Vec<(usize, f64)> =
        (0..scenario.exits.len()).rev().filter_map(|exit| Some((exit, of_exit(exit)?))).collect();
    let deadline = scenario.constraints.max_latency_us.map_or(f64::INFINITY, |most| most.0);
    let meets = found.iter().find(|(_, latency)| *latency <= deadline);
    let expected = meets.or_else(|| found.iter().min_by(|a, b| a.1.total_cmp(&b.1)));
    let chosen = agrees(Policy::Edgent, scenario, expected.map(|(_, latency)| *latency), latency)?;
    if let (Some(chosen), Some((exit, _)), true) = (chosen, expected, meets.is_some()) {
        prop_assert_eq!(only_exit(&chosen.plan), Some(*exit));
    }
    Ok(())
}

fn check_thresholds(scenario: &Problem, plans: &[(Plan, Prediction)]) -> Result<(), TestCaseError> {
    let on_device: Vec<_> = plans.iter().filter(|(plan, _)| plan.links[0].is_none()).collect();
    let expected = under_floor(scenario, &on_device, latency);
    let chosen = agrees(Policy::Branchynet, scenario, expected.map(|(_, time)| time), latency)?;
    if let (Some(chosen), Some((short, _))) = (&chosen, expected) {
        let floor = scenario.accuracy_floor().0 - short;
        prop_assert!(chosen.prediction.accuracy.0 >= floor - 1e-6);
        prop_assert_eq!(chosen.plan.links[0].as_ref(), None);
    }
    let own = |plan: &Plan| plan.links[0].as_ref().is_none_or(|link| link.resume == plan.nodes[0].cut);
    let own: Vec<_> = plans.iter().filter(|(plan, _)| own(plan)).collect();
    let expected = under_floor(scenario, &own, interval);
    let chosen = agrees(Policy::Pipeline, scenario, expected.map(|(_, time)| time), interval)?;
    if let (Some(chosen), Some((short, time))) = (&chosen, expected) {
        let tied = own.iter().filter(|(_, p)| {
            same(interval(p), time) && p.accuracy.0 >= scenario.accuracy_floor().0 - short - 1e-6
        });
        let quickest = least(tied.map(|(_, p)| latency(p))).unwrap();
        prop_assert!(latency(&chosen.prediction) <= quickest + 1e-6);
        let sent = chosen.plan.links[0].as_ref();
        prop_assert!(sent.is_none_or(|link| link.resume == chosen.plan.nodes[0].cut));
    }
    Ok(())
}

fn check_all(scenario: &Problem) -> Result<(), TestCaseError> {
    let plans = all_plans(scenario);
    let last = scenario.exits.len() - 1;
    let whole: Vec<_> = plans.iter().filter(|(plan, _)| splits(scenario, plan, last, &raw)).collect();
    let end = |on_device: bool| {
        let is = |plan: &Plan| match &plan.links[0] {
            None => on_device,
            Some(link) => !on_device && link.resume.is_empty(),
        };
        least(whole.iter().filter(|(plan, _)| is(plan)).map(|(_, p)| latency(p)))
    };
    agrees(Policy::DeviceOnly, scenario, end(true), latency)?;
    let all = least(whole.iter().map(|(_, p)| latency(p)));
    agrees(Policy::Neurosurgeon, scenario, all, latency)?;
    check_edgent(scenario, &plans)?;
    let quantized = |cut: &[String], encoding: Encoding| match encoding.element {
        Element::Quantized(Quantization { per_channel: false, clipped: false, .. }) => {
            !cut.is_empty() && encoding.coder != Coder::Raw && encoding.kept_percent.is_none()
        }
        _ => cut.is_empty(),
    };
    let jalad: Vec<_> = plans.iter().filter(|(plan, _)| splits(scenario, plan, last, &quantized)).collect();
    let expected = under_floor(scenario, &jalad, latency).map(|(_, time)| time);
    agrees(Policy::Jalad, scenario, expected, latency)?;
    check_thresholds(scenario, &plans)?;
    let best_of = |policy: Policy| policy.choose(scenario).ok();
    let ends = [Policy::DeviceOnly, Policy::EdgeOnly].map(best_of);
    for (policy, figure) in [
        (Policy::Neurosurgeon, latency as fn(&Prediction) -> f64),
        (Policy::DadsLight, latency),
        (Policy::DadsHeavy, interval),
    ] {
        let chosen = best_of(policy);
        for end in ends.iter().flatten() {
            let chosen = chosen.as_ref().expect("an end of its space is allowed");
            prop_assert!(figure(&chosen.prediction) <= figure(&end.prediction) + 1e-6, "{policy}");
        }
    }
    for chosen in Policy::ALL.into_iter().filter_map(best_of) {
        let again = predict(scenario, &chosen.plan).unwrap();
        prop_assert!(fits(scenario, &again));
        prop_assert_eq!(again, chosen.prediction);
    }
    Ok(())
}

/// Device, link and edge time of every downward-closed set by the paper's model; layers that may not run take for ever. The
/// input alone crosses in so many bytes.
fn partitions(scenario: &Problem, alone: f64) -> Vec<(LayerSet, [f64; 3])> {
    let trunk = Trunk::new(&scenario.layers).unwrap();
    let time = |node: usize, layer: usize| {
        let spec = &scenario.nodes[node];
        let may = !spec.may_not_run.contains(&scenario.layers[layer].name);
        if may { spec.layers_us[layer].0 } else { f64::INFINITY }
    };
    let figures = |cut: &LayerSet| {
        let here = |layer: &usize| cut.contains(*layer);
        let input = if cut.iter().next().is_none() { alone } else { float_input(scenario) };
        let size = |tensor: Option<usize>| tensor.map_or(input, |l| scenario.layers[l].output_bytes as f64);
        let bytes: f64 = trunk.dag.frontier(cut).into_iter().map(size).sum();
        let whole = cut == trunk.dag.trunk();
        let one_result = trunk.dag.tips(trunk.dag.trunk()).len() == 1;
        let head =
            |node: usize| if one_result { scenario.nodes[node].exits_us.last().unwrap().0 } else { 0.0 };
        let device: f64 = (0..trunk.dag.len()).filter(here).map(|l| time(0, l)).sum();
        let edge: f64 = (0..trunk.dag.len()).filter(|l| !here(l)).map(|l| time(1, l)).sum();
        let device = device + if whole { head(0) } else { 0.0 };
        [device, bytes * 8e6 / scenario.links[0].bits_per_second.0, edge + if whole { 0.0 } else { head(1) }]
    };
    trunk.dag.cuts(10_000).unwrap().into_iter().map(|cut| (cut.clone(), figures(&cut))).collect()
}

fn float_input(scenario: &Problem) -> f64 {
    scenario.input_bytes.unwrap() as f64
}

fn pixel_input(scenario: &Problem) -> f64 {
    let rows = scenario.encodings.iter().filter(|row| row.cut.is_empty() && raw(&row.cut, row.encoding));
    least(rows.map(|row| row.bytes)).unwrap()
}

fn check_min_cut(scenario: &Problem, weights: [f64; 3]) -> Result<(), TestCaseError> {
    let cost =
        |times: &[f64; 3]| -> f64 { times.iter().zip(weights).map(|(time, weight)| time * weight).sum() };
    let all = partitions(scenario, float_input(scenario));
    let expected = all.iter().map(|(_, times)| cost(times)).fold(f64::INFINITY, f64::min);
    let space = Space::new(scenario).unwrap();
    match min_cut(&space, weights) {
        None => prop_assert_eq!(expected, f64::INFINITY),
        Some(cut) => {
            let found = all.iter().find(|(known, _)| *known == cut).map(|(_, times)| cost(times)).unwrap();
            prop_assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
    Ok(())
}

/// The greatest stage under the heavy policy over that of the best partition, where the paper's model is the scenario's.
fn heavy_gap(seed: u64, layers: usize) -> f64 {
    let scenario = random_scenario(seed, Extras { costs: false, limits: false, layers });
    let greatest = |times: &[f64; 3]| times.iter().copied().fold(0.0, f64::max);
    let all = partitions(&scenario, pixel_input(&scenario));
    let best = all.iter().map(|(_, times)| greatest(times)).fold(f64::INFINITY, f64::min);
    let found = Policy::DadsHeavy.choose(&scenario).unwrap().prediction.interval_us.0;
    if best == 0.0 { 1.0 + found } else { found / best }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_rule_finds_the_best_that_it_allows(seed in any::<u64>()) {
        check_all(&random_scenario(seed, Extras { costs: true, limits: false, layers: 5 }))?;
    }

    #[test]
    fn limits_are_kept(seed in any::<u64>()) {
        check_all(&random_scenario(seed, Extras { costs: true, limits: true, layers: 5 }))?;
    }

    #[test]
    fn a_minimum_cut_is_the_least_of_all_partitions(
        seed in any::<u64>(), limits in any::<bool>(), weights in [0.1f64..4.0, 0.1f64..4.0, 0.1f64..4.0],
    ) {
        check_min_cut(&random_scenario(seed, Extras { costs: true, limits, layers: 9 }), weights)?;
    }

    #[test]
    fn light_load_without_overheads_is_the_least_latency(seed in any::<u64>()) {
        let scenario = random_scenario(seed, Extras { costs: false, limits: false, layers: 9 });
        let all = partitions(&scenario, pixel_input(&scenario));
        let expected = least(all.iter().map(|(_, times)| times.iter().sum())).unwrap();
        let chosen = Policy::DadsLight.choose(&scenario).unwrap();
        prop_assert!(same(chosen.prediction.latency_us.0, expected));
    }

    #[test]
    fn heavy_load_stays_within_the_papers_factor(seed in any::<u64>()) {
        let gap = heavy_gap(seed, 9);
        prop_assert!((1.0 - 1e-9..=3.0 + 1e-9).contains(&gap), "{gap}");
    }
}

/// A chain of three layers with an exit after the first one, on a device five times slower than the edge. At 8 Mbit/s a byte
/// takes a microsecond.
const BY_HAND: &str = r#"{
    "schema": "coprof.scenario/2",
    "input_bytes": 4000,
    "layers": [
        {"name": "conv1", "output_bytes": 2000},
        {"name": "conv2", "output_bytes": 400},
        {"name": "fc", "output_bytes": 40}
    ],
    "exits": [{"name": "early", "after": ["conv1"]}, {"name": "final"}],
    "nodes": [
        {"name": "phone", "layers_us": [500, 1000, 2500], "exits_us": [100, 0]},
        {"name": "server", "layers_us": [100, 200, 500], "exits_us": [20, 0]}
    ],
    "links": [{"bits_per_second": 8e6}],
    "encodings": [
        {"cut": [], "encoding": "pixels", "bytes": 1000},
        {"cut": ["conv1"], "encoding": "f32", "bytes": 2000},
        {"cut": ["conv2"], "encoding": "f32", "bytes": 400},
        {"cut": ["conv1"], "encoding": "q4+deflate", "bytes": 150, "accuracy": {"early": 0.5, "final": 0.5}},
        {"cut": ["conv1"], "encoding": "q8+deflate", "bytes": 300, "accuracy": {"early": 0.5, "final": 0.75}}
    ],
    "outcomes": [
        {"right": "1101", "entropy": [0.1, 0.2, 0.9, 0.8]},
        {"right": "1110", "entropy": [0.0, 0.0, 0.0, 0.0]}
    ],
    "threshold_steps": 4
}"#;

fn by_hand(max_latency_us: Option<f64>) -> Problem {
    let changed = |file: &mut ScenarioFile| file.constraints.max_latency_us = max_latency_us.map(Micros);
    Problem::from_json(BY_HAND).unwrap().with(changed).unwrap()
}

fn crosses(chosen: &Predicted) -> Option<(String, String)> {
    chosen.plan.links[0].as_ref().map(|link| (link.resume.concat(), link.encoding.to_string()))
}

fn at(cut: &str, encoding: &str) -> Option<(String, String)> {
    Some((cut.into(), encoding.into()))
}

#[test]
fn choices_worked_out_by_hand() {
    let scenario = by_hand(None);
    let choose = |policy: Policy| policy.choose(&scenario).unwrap();
    let figures = |policy| {
        let prediction = choose(policy).prediction;
        (prediction.latency_us.0, prediction.interval_us.0)
    };
    assert_eq!(figures(Policy::DeviceOnly), (4000.0, 4000.0));
    // The picture takes 1,000 µs, all layers on the server 800.
    assert_eq!(figures(Policy::EdgeOnly), (1800.0, 1000.0));
    // After conv1: 500 + 2,000 + 700; after conv2: 1,500 + 400 + 500.
    for policy in [Policy::Neurosurgeon, Policy::DadsLight, Policy::Edgent] {
        assert_eq!(
            (figures(policy), crosses(&choose(policy))),
            ((1800.0, 1000.0), at("", "pixels")),
            "{policy}"
        );
    }
    assert_eq!(crosses(&choose(Policy::DadsHeavy)), at("", "pixels"));
    // 4 bits are too coarse: 0.5 of 0.75. With 8 bits: 500 + 300 + 700.
    assert_eq!(crosses(&choose(Policy::Jalad)), at("conv1", "q8+deflate"));
    assert_eq!(figures(Policy::Jalad), (1500.0, 700.0));
    // The early exit is right about the first two and the last, so even without the rest 3 of 4 are right.
    let branchy = choose(Policy::Branchynet);
    assert_eq!((branchy.prediction.latency_us.0, branchy.prediction.accuracy.0), (600.0, 0.75));
    assert_eq!(branchy.plan.exits[0].threshold, Threshold::Always);
}

#[test]
fn jalad_takes_its_own_codes_and_no_quantization_beyond_the_paper() {
    let chosen = |name: &str| {
        let scenario = BY_HAND.replace("q8+deflate\", \"bytes\": 300", &format!("{name}\", \"bytes\": 200"));
        assert_ne!(scenario, BY_HAND);
        crosses(&Policy::Jalad.choose(&Problem::from_json(&scenario).unwrap()).unwrap())
    };
    for name in ["jalad8", "q6+zstd", "q3+zero"] {
        assert_eq!(chosen(name), at("conv1", name));
    }
    for name in ["q8", "q8c+zstd", "q8k+zstd", "prune50-jalad8", "jpeg75", "f16+zstd"] {
        assert_eq!(chosen(name), at("", "pixels"), "{name}");
    }
}

#[test]
fn edgent_takes_the_last_exit_in_time() {
    let exit = |deadline| {
        let chosen = Policy::Edgent.choose(&by_hand(Some(deadline))).unwrap();
        (only_exit(&chosen.plan), chosen.prediction.latency_us.0)
    };
    assert_eq!(exit(1800.0), (Some(1), 1800.0));
    // As far as conv1 on the device with the exit's head; by way of the server it would be 1,120.
    assert_eq!(exit(1799.0), (Some(0), 600.0));
    assert_eq!(exit(599.0), (Some(0), 600.0));
}

#[test]
fn a_higher_floor_keeps_hard_samples() {
    let scenario = by_hand(None).with(|file| file.constraints.min_accuracy = Some(Share(1.0))).unwrap();
    let chosen = Policy::Branchynet.choose(&scenario).unwrap();
    // Sample 3 must go on and sample 4 must not: 3 leave below 0.8, which costs 600 each and 4,100 for the other.
    assert_eq!(chosen.prediction.accuracy, Share(1.0));
    assert_eq!(chosen.prediction.latency_us.0, (3.0 * 600.0 + 4100.0) / 4.0);
    assert_eq!(chosen.plan.exits[0].threshold, Threshold::Entropy(Share(f64::from(0.8f32))));
}

#[test]
fn more_nodes_are_for_those_that_know_them() {
    let with_gateway = |file: &mut ScenarioFile| {
        let middle = Node { name: "gateway".into(), ..file.nodes[1].clone() };
        file.nodes.insert(1, middle);
        let link = Link { delay_us: Micros(7.0), ..file.links[0].clone() };
        file.links.push(link);
        for row in &mut file.encodings {
            row.encode_us = vec![Micros(1.0); 3];
            row.decode_us = vec![Micros(2.0); 3];
        }
    };
    let scenario = by_hand(None).with(with_gateway).unwrap();
    assert_eq!(Policy::DeviceOnly.choose(&scenario).unwrap().prediction.latency_us.0, 4000.0);
    let edge = Policy::EdgeOnly.choose(&scenario).unwrap();
    // Twice the picture with writing and reading, the second link's delay there and back, and the server.
    assert_eq!(edge.prediction.latency_us.0, 2.0 * 1003.0 + 14.0 + 800.0);
    assert_eq!(edge.plan.exits[1].node, 2);
    for policy in &Policy::ALL[2..] {
        let refused = policy.choose(&scenario).unwrap_err().to_string();
        assert!(refused.contains("two nodes") && refused.contains(policy.name()), "{refused}");
    }
}

#[test]
fn names_are_read_back() {
    for policy in Policy::ALL {
        assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        assert_eq!(serde_json::to_value(policy).unwrap(), policy.name());
        assert!(policy.label().len() <= 14);
    }
    let unknown = "coprof".parse::<Policy>().unwrap_err();
    assert_eq!(unknown.exit_code(), 2);
    assert!(unknown.to_string().contains("dads-heavy"), "{unknown}");
}
