//! The search against brute force: every plan in names, weighed by the predictor, on random scenarios.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::codec::Encoding;
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

/// A chain of `layers` layers called l0, l1, … with side exits after some of them.
fn random_scenario(seed: u64) -> Scenario {
    let rng = &mut StdRng::seed_from_u64(seed);
    let layers = rng.random_range(1..5);
    let samples = rng.random_range(1..12);
    let name = |index: usize| format!("l{index}");
    let mut sites: Vec<usize> = (0..rng.random_range(0..3)).map(|_| rng.random_range(0..layers)).collect();
    sites.push(layers - 1);
    sites.sort_unstable();
    let tips = |cut: usize| if cut == 0 { vec![] } else { vec![name(cut - 1)] };
    let mut encodings = Vec::new();
    let mut lossy_outcomes = Vec::new();
    for cut in 0..layers {
        for label in if cut == 0 { ["pixels", "q4", "q4+deflate"] } else { ["f32", "q4", "q4+deflate"] } {
            let encoding: Encoding = label.parse().unwrap();
            let bytes = f64::from(rng.random_range(0u32..100));
            let (encode_us, decode_us) = (times(rng, 2), times(rng, 2));
            encodings.push(EncodedFrontier { cut: tips(cut), encoding, bytes, encode_us, decode_us });
        }
        let behind = |&site: &usize, rng: &mut StdRng| (site + 1 >= cut).then(|| outcomes(rng, samples));
        let exits = sites.iter().map(|site| behind(site, rng)).collect();
        lossy_outcomes.push(LossyOutcomes { cut: tips(cut), element: "q4".parse().unwrap(), exits });
    }
    let mut node = |name: &str, factor: f64| Node {
        name: name.into(),
        emulated_slowdown: None,
        layers_us: times(rng, layers).into_iter().map(|time| time * factor).collect(),
        exits_us: times(rng, sites.len()),
    };
    let nodes = vec![node("device", 4.0), node("edge", 1.0)];
    let link = Link {
        emulated: false,
        overhead_us: time(rng),
        bits_per_second: BitRate(f64::from(rng.random_range(1u32..40)) * 1e6),
        delay_us: time(rng),
        reply_us: time(rng),
    };
    let constraints = Constraints {
        objective: [Objective::Rate, Objective::Latency, Objective::Accuracy][rng.random_range(0..3)],
        min_accuracy: rng.random_bool(0.7).then(|| Share(rng.random_range(0.0..0.9))),
        max_latency_us: rng.random_bool(0.3).then(|| Micros(rng.random_range(1.0..400.0))),
        min_rate_per_s: rng.random_bool(0.3).then(|| rng.random_range(1000.0..20_000.0)),
    };
    let layer = |index: usize| TrunkLayer {
        name: name(index),
        inputs: vec![if index == 0 { "input".into() } else { name(index - 1) }],
        output_bytes: 4,
    };
    let exit =
        |(index, &site): (usize, &usize)| ExitSite { name: format!("e{index}"), after: vec![name(site)] };
    Scenario {
        schema: SCHEMA.into(),
        model: ModelId { name: "random".into(), sha256: ModelHash::of(b"random") },
        layers: (0..layers).map(layer).collect(),
        exits: sites.iter().enumerate().map(exit).collect(),
        nodes,
        links: vec![link],
        encodings,
        outcomes: sites.iter().map(|_| outcomes(rng, samples)).collect(),
        lossy_outcomes,
        constraints,
    }
}

/// Every way to give each exit a threshold and a node.
fn exit_settings(scenario: &Scenario) -> Vec<Vec<ExitPlan>> {
    let mut settings = vec![Vec::new()];
    let last = scenario.exits.len() - 1;
    for (index, exit) in scenario.exits.iter().enumerate() {
        let mut choices = vec![(Threshold::Never, 0), (Threshold::Always, 0), (Threshold::Always, 1)];
        if index != last {
            for threshold in scenario.outcomes[index].entropy_quantiles(20) {
                choices.extend([(threshold, 0), (threshold, 1)]);
            }
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

/// Every plan of the space, also those with a longer device cut than any exit or the resume cut asks for.
fn all_plans(scenario: &Scenario) -> Vec<Plan> {
    let tips = |cut: usize| if cut == 0 { vec![] } else { vec![format!("l{}", cut - 1)] };
    let site = |exit: &ExitPlan| {
        let site = scenario.exits.iter().find(|site| site.name == exit.name).unwrap();
        site.after[0][1..].parse::<usize>().unwrap() + 1
    };
    let mut plans = Vec::new();
    for exits in exit_settings(scenario) {
        let needs_on = |node| exits.iter().filter(move |e| e.threshold.is_on() && e.node == node).map(site);
        let ends_on_device = exits.iter().any(|e| e.threshold == Threshold::Always && e.node == 0);
        for cut in needs_on(0).max().unwrap_or(0)..=scenario.layers.len() {
            let plan = |links| Plan {
                model: scenario.model.sha256.clone(),
                nodes: vec![NodePlan { cut: tips(cut) }, NodePlan { cut: tips(scenario.layers.len()) }],
                links: vec![links],
                exits: exits.clone(),
            };
            if ends_on_device {
                plans.push(plan(None));
                continue;
            }
            for row in &scenario.encodings {
                let resume = row.cut.first().map_or(0, |name| name[1..].parse::<usize>().unwrap() + 1);
                if resume <= cut && needs_on(1).all(|need| need >= resume) {
                    plans.push(plan(Some(LinkPlan { resume: row.cut.clone(), encoding: row.encoding })));
                }
            }
        }
    }
    plans
}

fn meets(scenario: &Scenario, p: &Prediction) -> bool {
    let constraints = &scenario.constraints;
    p.accuracy.0 >= scenario.accuracy_floor().0 - 1e-12
        && constraints.max_latency_us.is_none_or(|most| p.latency_us.0 <= most.0 * (1.0 + 1e-12))
        && constraints.min_rate_per_s.is_none_or(|least| p.interval_us.0 <= 1e6 / least * (1.0 + 1e-12))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn the_search_finds_what_brute_force_finds(seed in any::<u64>()) {
        let scenario = random_scenario(seed);
        let all: Vec<Prediction> =
            all_plans(&scenario).iter().map(|plan| predict(&scenario, plan).unwrap()).collect();
        let feasible: Vec<&Prediction> = all.iter().filter(|p| meets(&scenario, p)).collect();
        let found = search(&scenario);
        if feasible.is_empty() {
            prop_assert_eq!(found.unwrap_err().exit_code(), 4);
            return Ok(());
        }
        let found = found.unwrap();
        prop_assert!(meets(&scenario, &found.best.prediction));
        let interval = |p: &Prediction| p.interval_us.0;
        let latency = |p: &Prediction| p.latency_us.0;
        let least = |figure: &dyn Fn(&Prediction) -> f64, below: &dyn Fn(&Prediction) -> bool| {
            feasible.iter().filter(|p| below(p)).map(|p| figure(p)).fold(f64::INFINITY, f64::min)
        };
        let best = &found.best.prediction;
        let everyone: &dyn Fn(&Prediction) -> bool = &|_| true;
        match scenario.constraints.objective {
            Objective::Accuracy => {
                let highest = feasible.iter().map(|p| p.accuracy.0).fold(0.0, f64::max);
                prop_assert_eq!(best.accuracy.0, highest);
                let expected = least(&interval, &|p| p.accuracy.0 == highest);
                prop_assert!((interval(best) - expected).abs() < 1e-9);
            }
            Objective::Rate => {
                let limit = least(&interval, everyone) * 1.01;
                prop_assert!(interval(best) <= limit + 1e-9);
                prop_assert!((latency(best) - least(&latency, &|p| interval(p) <= limit)).abs() < 1e-9);
            }
            Objective::Latency => {
                let limit = least(&latency, everyone) * 1.01;
                prop_assert!(latency(best) <= limit + 1e-9);
                prop_assert!((interval(best) - least(&interval, &|p| latency(p) <= limit)).abs() < 1e-9);
            }
        }
        for front in &found.front {
            let p = predict(&scenario, &front.plan).unwrap();
            let same = (p.interval_us.0 - 1e6 / front.rate_per_s).abs() < 1e-6
                && (p.latency_us.0 - front.latency_us.0).abs() < 1e-6
                && (p.accuracy.0 - front.accuracy.0).abs() < 1e-9;
            prop_assert!(same, "{:?} predicts {:?}", front, p);
        }
        for p in &all {
            let covered = found.front.iter().any(|f| {
                1e6 / f.rate_per_s <= interval(p) + 1e-9
                    && f.latency_us.0 <= latency(p) + 1e-9
                    && f.accuracy >= p.accuracy
            });
            prop_assert!(covered, "the front misses {:?}", p);
        }
    }
}

#[test]
fn a_plan_for_another_model_is_refused() {
    let scenario = random_scenario(1);
    let mut plan = search(&Scenario {
        constraints: Constraints { min_accuracy: Some(Share(0.0)), ..Constraints::default() },
        ..scenario.clone()
    })
    .unwrap()
    .best
    .plan;
    plan.model = ModelHash::of(b"another");
    let error = predict(&scenario, &plan).unwrap_err();
    assert!(error.to_string().contains("the plan is for model"), "{error}");
}

#[test]
fn a_scenario_survives_its_document() {
    let scenario = random_scenario(7);
    let text = serde_json::to_string(&scenario).unwrap();
    assert_eq!(Scenario::from_json(&text).unwrap(), scenario);
    let foreign = text.replacen(SCHEMA, "coprof.scenario/99", 1);
    assert!(Scenario::from_json(&foreign).unwrap_err().to_string().contains("coprof.scenario/1"));
    assert!(Scenario::from_json(&text[..text.len() / 2]).is_err());
}
