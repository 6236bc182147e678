//! The search against brute force: every plan in names, weighed by the predictor, on random scenarios.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::layers::Trunk;
use super::random::{names, random_exits, random_layers};
use super::tally::threshold_grid;
use super::*;
use crate::model::LayerSet;
use crate::model::ModelHash;
use crate::units::{BitRate, Micros, Share};

fn outcomes(rng: &mut StdRng, samples: usize) -> Outcomes {
    let right: Vec<bool> = (0..samples).map(|_| rng.random_bool(0.6)).collect();
    // Few distinct values, so that ties in entropy occur.
    let entropy = (0..samples).map(|_| rng.random_range(0..6) as f32 / 5.0).collect();
    Outcomes::new(&right, entropy).unwrap()
}

fn time(rng: &mut StdRng) -> Micros {
    Micros(f64::from(rng.random_range(0u32..50)))
}

fn times(rng: &mut StdRng, count: usize) -> Vec<Micros> {
    (0..count).map(|_| time(rng)).collect()
}

fn maybe<T>(rng: &mut StdRng, chance: f64, value: impl Fn(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(chance).then(|| value(rng))
}

fn random_node(rng: &mut StdRng, index: usize, trunk: &Trunk, cuts: &[LayerSet], exits: usize) -> Node {
    let layers = trunk.dag.len();
    let mut ranges = Vec::new();
    if rng.random_bool(0.3) {
        let pick = |rng: &mut StdRng| cuts[rng.random_range(0..cuts.len())].clone();
        let (from, to) = (pick(rng), pick(rng));
        if to.covers(&from) {
            ranges.push(Range { from: names(trunk, &from), to: names(trunk, &to), time_us: time(rng) });
        }
    }
    let factor = if index == 0 { 4.0 } else { 1.0 };
    Node {
        name: format!("node{index}"),
        emulated_slowdown: None,
        layers_us: times(rng, layers).into_iter().map(|time| time * factor).collect(),
        exits_us: times(rng, exits),
        ranges,
        memory_bytes: maybe(rng, 0.3, |rng| rng.random_range(100..900)),
        may_not_run: maybe(rng, 0.2, |rng| vec![format!("l{}", rng.random_range(0..layers))])
            .unwrap_or_default(),
        task_us: maybe(rng, 0.5, time).unwrap_or_default(),
        busy_factor: maybe(rng, 0.3, |rng| rng.random_range(1.0..2.0)).unwrap_or(1.0),
        pause_us: maybe(rng, 0.3, time).unwrap_or_default(),
        pause_factor: maybe(rng, 0.3, |rng| rng.random_range(1.0..2.0)).unwrap_or(1.0),
        ..Node::default()
    }
}

/// Where there are two, they may have one core between them.
fn random_nodes(rng: &mut StdRng, count: usize, trunk: &Trunk, cuts: &[LayerSet], exits: usize) -> Vec<Node> {
    let core = if count == 2 { maybe(rng, 0.3, |_| "core".to_owned()) } else { None };
    let node = |index| Node { core: core.clone(), ..random_node(rng, index, trunk, cuts, exits) };
    (0..count).map(node).collect()
}

fn random_link(rng: &mut StdRng) -> Link {
    Link {
        emulated: false,
        overhead_us: time(rng),
        bits_per_second: BitRate(f64::from(rng.random_range(1u32..40)) * 1e6),
        delay_us: time(rng),
        reply_us: maybe(rng, 0.5, time),
        handover_us: maybe(rng, 0.5, time).unwrap_or_default(),
        lone: maybe(rng, 0.5, random_lone).unwrap_or_default(),
        spread: Vec::new(),
    }
}

/// Lone messages that are faster or slower than those of a stream.
fn random_lone(rng: &mut StdRng) -> Vec<LoneMessage> {
    let (mut bytes, mut time_us) = (f64::from(rng.random_range(0u32..40)), time(rng));
    let mut points = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        points.push(LoneMessage { bytes, time_us });
        bytes += f64::from(rng.random_range(1u32..40));
        time_us += time(rng);
    }
    points
}

fn random_constraints(rng: &mut StdRng) -> Constraints {
    Constraints {
        objective: [Objective::Rate, Objective::Latency, Objective::Accuracy][rng.random_range(0..3)],
        min_accuracy: maybe(rng, 0.7, |rng| Share(rng.random_range(0.0..0.9))),
        max_latency_us: maybe(rng, 0.3, |rng| Micros(rng.random_range(1.0..400.0))),
        min_rate_per_s: maybe(rng, 0.3, |rng| rng.random_range(1000.0..20_000.0)),
        ties: maybe(rng, 0.3, |rng| Share([0.0, 0.1][rng.random_range(0..2)])),
        ..Constraints::default()
    }
}

/// A chain or another small graph on so many nodes.
pub(super) fn random_scenario(seed: u64, nodes: usize) -> Problem {
    let rng = &mut StdRng::seed_from_u64(seed);
    let small = nodes > 2;
    let count = rng.random_range(1..if small { 4 } else { 6 });
    let layers = random_layers(rng, count);
    let samples = rng.random_range(1..12);
    let more = maybe(rng, 0.5, |rng| rng.random_range(1..20)).unwrap_or(0);
    let trunk = Trunk::new(&layers).unwrap();
    let exits = random_exits(rng, &trunk, if small { 1 } else { 3 });
    let cuts = trunk.dag.cuts(1000).unwrap();
    let (mut encodings, mut lossy_outcomes) = (Vec::new(), Vec::new());
    for cut in cuts.iter().filter(|cut| *cut != trunk.dag.trunk()) {
        let here = names(&trunk, cut);
        let exact = if here.is_empty() { "pixels" } else { "f32" };
        for label in [exact, "q4", "q4+deflate"] {
            if rng.random_bool(0.3) {
                continue;
            }
            encodings.push(EncodedFrontier {
                cut: here.clone(),
                encoding: label.parse().unwrap(),
                bytes: f64::from(rng.random_range(0u32..100)),
                encode_us: times(rng, nodes),
                decode_us: times(rng, nodes),
                accuracy: None,
            });
        }
        let exits = exits.iter().map(|_| Some(outcomes(rng, samples))).collect();
        lossy_outcomes.push(LossyOutcomes {
            cut: here,
            element: "q4".parse().unwrap(),
            exits,
            calibration: None,
        });
    }
    let file = ScenarioFile {
        schema: SCHEMA.into(),
        model: ModelId { name: "random".into(), sha256: ModelHash::of(b"random") },
        input_bytes: maybe(rng, 0.5, |rng| rng.random_range(0..40)),
        nodes: random_nodes(rng, nodes, &trunk, &cuts, exits.len()),
        links: (1..nodes).map(|_| random_link(rng)).collect(),
        contention: if nodes == 2 {
            maybe(rng, 0.3, |rng| rng.random_range(0.0..1.0)).unwrap_or(0.0)
        } else {
            0.0
        },
        outcomes: exits.iter().map(|_| outcomes(rng, samples)).collect(),
        uncut_outcomes: if more > 0 {
            exits.iter().map(|_| outcomes(rng, more)).collect()
        } else {
            Vec::new()
        },
        layers,
        exits,
        // Never empty, which would stand for all cuts.
        encodings: if encodings.is_empty() { vec![only_row(nodes)] } else { encodings },
        lossy_outcomes,
        accuracy_basis: AccuracyBasis::Samples,
        all_cuts: true,
        threshold_steps: rng.random_range(1..5),
        in_flight: rng.random_range(1..4),
        constraints: random_constraints(rng),
    };
    Problem::of(file).unwrap()
}

fn only_row(nodes: usize) -> EncodedFrontier {
    EncodedFrontier {
        cut: Vec::new(),
        encoding: "pixels".parse().unwrap(),
        bytes: 10.0,
        encode_us: vec![Micros(1.0); nodes],
        decode_us: vec![Micros(1.0); nodes],
        accuracy: None,
    }
}

/// Every way to give each exit a threshold and a node.
fn exit_settings(scenario: &Problem) -> Vec<Vec<ExitPlan>> {
    let mut settings = vec![Vec::new()];
    let last = scenario.exits.len() - 1;
    for (index, exit) in scenario.exits.iter().enumerate() {
        let mut thresholds = vec![Threshold::Always];
        if index != last {
            thresholds.extend(threshold_grid(scenario, index));
        }
        let mut choices = vec![(Threshold::Never, 0)];
        for node in 0..scenario.nodes.len() {
            choices.extend(thresholds.iter().map(|&threshold| (threshold, node)));
        }
        let extend = |setting: &Vec<ExitPlan>, &(threshold, node): &(Threshold, usize)| {
            let mut longer = setting.clone();
            longer.push(ExitPlan { name: exit.name.clone(), threshold, node });
            longer
        };
        settings =
            settings.iter().flat_map(|s| choices.iter().map(|c| extend(s, c)).collect::<Vec<_>>()).collect();
    }
    let in_order = |setting: &Vec<ExitPlan>| {
        let on: Vec<usize> =
            setting.iter().filter(|exit| exit.threshold.is_on()).map(|exit| exit.node).collect();
        let after_always = setting.iter().skip_while(|exit| exit.threshold != Threshold::Always).skip(1);
        let ends = setting.iter().any(|exit| exit.threshold == Threshold::Always);
        on.is_sorted() && ends && after_always.into_iter().all(|exit| !exit.threshold.is_on())
    };
    settings.retain(in_order);
    settings
}

/// Every way to cross the links up to node `end`, each resuming behind the one before.
fn crossings(scenario: &Problem, trunk: &Trunk, end: usize) -> Vec<Vec<Option<LinkPlan>>> {
    let mut found: Vec<(LayerSet, Vec<Option<LinkPlan>>)> = vec![(LayerSet::default(), Vec::new())];
    for _ in 0..end {
        let mut longer = Vec::new();
        for (from, links) in &found {
            for row in &scenario.encodings {
                let cut = set(trunk, &row.cut);
                if cut.covers(from) {
                    let link =
                        LinkPlan { resume: row.cut.clone(), encoding: row.encoding, calibration: None };
                    longer.push((cut, [links.clone(), vec![Some(link)]].concat()));
                }
            }
        }
        found = longer;
    }
    let pad = |(_, mut links): (_, Vec<_>)| {
        links.resize(scenario.links.len(), None);
        links
    };
    found.into_iter().map(pad).collect()
}

fn set(trunk: &Trunk, tips: &[String]) -> LayerSet {
    trunk.dag.up_to(tips.iter().map(|name| trunk.find(name).unwrap()))
}

/// Every plan that the predictor lets pass: each node runs what its exits and the cut that it sends need. With
/// `longer`, node 0 also runs further than that.
fn all_plans(scenario: &Problem, longer: bool) -> Vec<Plan> {
    let trunk = Trunk::new(&scenario.layers).unwrap();
    let cuts = trunk.dag.cuts(1000).unwrap();
    let mut plans = Vec::new();
    for exits in exit_settings(scenario) {
        let end = exits.iter().find(|exit| exit.threshold == Threshold::Always).map_or(0, |exit| exit.node);
        for links in crossings(scenario, &trunk, end) {
            let needed = |node: usize| {
                let tried = exits.iter().zip(&scenario.exits);
                let own = tried.filter(|(exit, _)| exit.threshold.is_on() && exit.node == node);
                let sent = links.get(node).and_then(Option::as_ref).map(|link| set(&trunk, &link.resume));
                let taken =
                    node.checked_sub(1).and_then(|k| links[k].as_ref()).map(|l| set(&trunk, &l.resume));
                own.map(|(_, site)| set(&trunk, site.tips()))
                    .chain(sent)
                    .chain(taken)
                    .fold(LayerSet::default(), |all, part| all.union(&part))
            };
            let of_nodes: Vec<LayerSet> = (0..scenario.nodes.len()).map(needed).collect();
            let device = cuts.iter().filter(|cut| longer && links[0].is_some() && cut.covers(&of_nodes[0]));
            for device in device.chain([&of_nodes[0]]) {
                let nodes = std::iter::once(device).chain(&of_nodes[1..]);
                plans.push(Plan {
                    model: scenario.model.sha256.clone(),
                    nodes: nodes.map(|cut| NodePlan { cut: names(&trunk, cut) }).collect(),
                    links: links.clone(),
                    exits: exits.clone(),
                });
            }
        }
    }
    plans
}

fn meets(scenario: &Problem, p: &Prediction) -> bool {
    let constraints = &scenario.constraints;
    p.accuracy.0 >= scenario.accuracy_floor().0 - 1e-12
        && constraints.max_latency_us.is_none_or(|most| p.latency_us.0 <= most.0 * (1.0 + 1e-12))
        && constraints.min_rate_per_s.is_none_or(|least| p.interval_us.0 <= 1e6 / least * (1.0 + 1e-12))
}

fn fits(scenario: &Problem, p: &Prediction) -> bool {
    let limits = scenario.nodes.iter().zip(&p.memory_bytes);
    limits.into_iter().all(|(node, &bytes)| node.memory_bytes.is_none_or(|limit| bytes <= limit as f64))
}

/// Holds the search to all plans that there are.
fn compare(scenario: &Problem) -> Result<(), TestCaseError> {
    let longer = scenario.nodes.len() == 2
        && scenario.nodes[0].ranges.is_empty()
        && scenario.nodes[0].memory_bytes.is_none();
    let plans = all_plans(scenario, longer);
    let all: Vec<Prediction> = plans
        .iter()
        .filter_map(|plan| predict(scenario, plan).ok())
        .filter(|prediction| fits(scenario, prediction))
        .collect();
    let feasible: Vec<&Prediction> = all.iter().filter(|p| meets(scenario, p)).collect();
    let found = search(scenario);
    if feasible.is_empty() {
        prop_assert_eq!(found.unwrap_err().exit_code(), 4);
        return Ok(());
    }
    let found = found.unwrap();
    prop_assert!(meets(scenario, &found.best.prediction));
    prop_assert!(fits(scenario, &found.best.prediction));
    let interval = |p: &Prediction| p.interval_us.0;
    let latency = |p: &Prediction| p.latency_us.0;
    let least = |figure: &dyn Fn(&Prediction) -> f64, below: &dyn Fn(&Prediction) -> bool| {
        feasible.iter().filter(|p| below(p)).map(|p| figure(p)).fold(f64::INFINITY, f64::min)
    };
    let best = &found.best.prediction;
    let tie = (1.0 + scenario.constraints.ties.map_or(0.01, |ties| ties.0)) * (1.0 + 1e-10);
    let everyone: &dyn Fn(&Prediction) -> bool = &|_| true;
    match scenario.constraints.objective {
        Objective::Accuracy => {
            let highest = feasible.iter().map(|p| p.accuracy.0).fold(0.0, f64::max);
            prop_assert_eq!(best.accuracy.0, highest);
            let expected = least(&interval, &|p| p.accuracy.0 == highest);
            prop_assert!((interval(best) - expected).abs() < 1e-9);
        }
        Objective::Rate => {
            let limit = least(&interval, everyone) * tie;
            prop_assert!(interval(best) <= limit + 1e-9);
            prop_assert!((latency(best) - least(&latency, &|p| interval(p) <= limit)).abs() < 1e-9);
        }
        Objective::Latency => {
            let limit = least(&latency, everyone) * tie;
            prop_assert!(latency(best) <= limit + 1e-9);
            prop_assert!((interval(best) - least(&interval, &|p| latency(p) <= limit)).abs() < 1e-9);
        }
    }
    let very_best = match scenario.constraints.objective {
        Objective::Rate => Some(least(&interval, everyone)),
        Objective::Latency => Some(least(&latency, everyone)),
        Objective::Accuracy => None,
    };
    let misses_by = found.very_best.zip(very_best).map_or(0.0, |(found, least)| (found.0 - least).abs());
    prop_assert!(found.very_best.is_some() == very_best.is_some() && misses_by < 1e-9);
    let front = pareto_front(scenario, None).unwrap().plans;
    for front in &front {
        let p = predict(scenario, &front.plan).unwrap();
        let same = (p.interval_us.0 - 1e6 / front.rate_per_s).abs() < 1e-6
            && (p.latency_us.0 - front.latency_us.0).abs() < 1e-6
            && (p.accuracy.0 - front.accuracy.0).abs() < 1e-9;
        prop_assert!(same, "{:?} predicts {:?}", front, p);
    }
    for p in &all {
        let covered = front.iter().any(|f| {
            1e6 / f.rate_per_s <= interval(p) + 1e-9
                && f.latency_us.0 <= latency(p) + 1e-9
                && f.accuracy >= p.accuracy
        });
        prop_assert!(covered, "the front misses {:?}", p);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn the_search_finds_what_brute_force_finds_for_two_nodes(seed in any::<u64>()) {
        compare(&random_scenario(seed, 2))?;
    }

    #[test]
    fn the_search_finds_what_brute_force_finds_for_more_nodes(seed in any::<u64>(), nodes in 3usize..5) {
        compare(&random_scenario(seed, nodes))?;
    }
}

/// The same with tables in place of its samples, or with accuracies in place of what its exits answer behind encodings.
fn without_samples(scenario: &Problem, seed: u64) -> Problem {
    let rng = &mut StdRng::seed_from_u64(seed);
    let tables = rng.random_bool(0.5);
    let change = |file: &mut ScenarioFile| {
        file.lossy_outcomes.clear();
        file.uncut_outcomes.clear();
        if tables {
            file.outcomes.clear();
            file.exits.iter_mut().for_each(|exit| exit.marginal = Some(random_table(rng)));
        }
        for row in file.encodings.iter_mut().filter(|row| !row.encoding.is_lossless()) {
            let accuracy = |exit: &ExitSite| (exit.name.clone(), Share(rng.random_range(0.0..1.0)));
            row.accuracy = Some(file.exits.iter().map(accuracy).collect());
        }
    };
    scenario.with(change).unwrap()
}

/// Steps far narrower and as wide as those of a grid; no step contradicts the accuracy of all.
fn random_table(rng: &mut StdRng) -> Marginal {
    let (mut share, mut entropy) = (0.0, 0.0);
    let mut steps = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        share += [0.01, 0.3][rng.random_range(0..2)];
        entropy += 0.25;
        steps.push(MarginalStep { entropy: Share(entropy), share: Share(share), accuracy: Share(0.8) });
    }
    Marginal { accuracy: Share(0.8), steps }
}

proptest! {
    // Thousands of samples each.
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
    #[test]
    fn the_search_finds_what_brute_force_finds_without_samples(seed in any::<u64>()) {
        let small = (0..).map(|more| random_scenario(seed.wrapping_add(more), 2)).find(|scenario| {
            scenario.exits.len() < 3 && scenario.encodings.len() < 6
        });
        compare(&without_samples(&small.unwrap(), seed))?;
    }
}

#[test]
fn a_plan_for_another_model_is_refused() {
    let scenario = random_scenario(1, 2);
    let any_accuracy = Constraints { min_accuracy: Some(Share(0.0)), ..Constraints::default() };
    let free = scenario.varied(|file| file.constraints = any_accuracy);
    let mut plan = search(&free).unwrap().best.plan;
    plan.model = ModelHash::of(b"another");
    let error = predict(&scenario, &plan).unwrap_err();
    assert!(error.to_string().contains("the plan is for model"), "{error}");
}

#[test]
fn a_scenario_survives_its_document() {
    let scenario = random_scenario(7, 2);
    let text = serde_json::to_string(&scenario).unwrap();
    assert_eq!(Problem::from_json(&text).unwrap(), scenario);
    let foreign = text.replacen(SCHEMA, "coprof.scenario/99", 1);
    assert!(Problem::from_json(&foreign).unwrap_err().to_string().contains(SCHEMA));
    assert!(Problem::from_json(&text[..text.len() / 2]).is_err());
}
