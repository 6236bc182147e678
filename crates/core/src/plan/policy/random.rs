//! Random scenarios of two nodes for the tests of the baselines.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::layers::Trunk;
use super::super::random::{names, random_exits, random_layers};
use super::super::*;
use crate::model::ModelHash;
use crate::units::{BitRate, Micros, Share};

fn time(rng: &mut StdRng, most: u32) -> Micros {
    Micros(f64::from(rng.random_range(0..most)))
}

fn times(rng: &mut StdRng, count: usize, most: u32) -> Vec<Micros> {
    (0..count).map(|_| time(rng, most)).collect()
}

fn outcomes(rng: &mut StdRng, samples: usize) -> Outcomes {
    let right: Vec<bool> = (0..samples).map(|_| rng.random_bool(0.7)).collect();
    let entropy = (0..samples).map(|_| rng.random_range(0..8) as f32 / 7.0).collect();
    Outcomes::new(&right, entropy).unwrap()
}

/// What a random scenario may have beyond layers, exits, and every frontier as floats.
#[derive(Clone, Copy)]
pub(super) struct Extras {
    /// Overheads, delays, codec and head times, as the baselines' own models do not know them.
    pub costs: bool,
    /// Memory limits, forbidden layers, measured ranges, and rows that are missing.
    pub limits: bool,
    pub layers: usize,
}

fn random_node(rng: &mut StdRng, index: usize, layers: usize, exits: usize, extras: Extras) -> Node {
    let limited = extras.limits && rng.random_bool(0.3);
    let forbidden = extras.limits && rng.random_bool(0.3);
    Node {
        name: format!("node{index}"),
        layers_us: times(rng, layers, if index == 0 { 80 } else { 20 }),
        exits_us: times(rng, exits, if extras.costs { 10 } else { 1 }),
        memory_bytes: limited.then(|| rng.random_range(100..900)),
        may_not_run: if forbidden { vec![format!("l{}", rng.random_range(0..layers))] } else { Vec::new() },
        ..Node::default()
    }
}

fn row(rng: &mut StdRng, cut: &[String], encoding: &str, bytes: f64, extras: Extras) -> EncodedFrontier {
    let most = if extras.costs { 10 } else { 1 };
    EncodedFrontier {
        cut: cut.to_vec(),
        encoding: encoding.parse().unwrap(),
        bytes,
        encode_us: times(rng, 2, most),
        decode_us: times(rng, 2, most),
        accuracy: None,
    }
}

/// What the rows of a scenario depend on.
struct Shape<'s> {
    layers: &'s [TrunkLayer],
    trunk: &'s Trunk,
    exits: usize,
    samples: usize,
    input_bytes: u64,
}

/// Every cut as floats, quantized and coded, and what the exits answer behind each lossy one.
fn random_rows(
    rng: &mut StdRng,
    shape: &Shape<'_>,
    extras: Extras,
) -> (Vec<EncodedFrontier>, Vec<LossyOutcomes>) {
    let &Shape { layers, trunk, exits, samples, input_bytes } = shape;
    let size = |tensor: &Option<usize>| tensor.map_or(input_bytes, |layer| layers[layer].output_bytes) as f64;
    let (mut encodings, mut lossy_outcomes) = (Vec::new(), Vec::new());
    for cut in trunk.dag.cuts(1000).unwrap().iter().filter(|cut| *cut != trunk.dag.trunk()) {
        let here = names(trunk, cut);
        let bytes: f64 = trunk.dag.frontier(cut).iter().map(size).sum();
        let mut rows = vec![("f32", bytes), ("q8+deflate", bytes / 5.0), ("q4+deflate", bytes / 9.0)];
        rows.extend([("f32+deflate", bytes * 0.8), ("q4", bytes / 8.0)]);
        if here.is_empty() {
            rows[0] = ("pixels", bytes / 4.0);
        }
        for (encoding, bytes) in rows {
            if !(extras.limits && rng.random_bool(0.3)) {
                encodings.push(row(rng, &here, encoding, bytes, extras));
            }
        }
        for element in ["q8", "q4"] {
            let exits = (0..exits).map(|_| Some(outcomes(rng, samples))).collect();
            lossy_outcomes.push(LossyOutcomes {
                cut: here.clone(),
                element: element.parse().unwrap(),
                exits,
                calibration: None,
            });
        }
    }
    (encodings, lossy_outcomes)
}

pub(super) fn random_scenario(seed: u64, extras: Extras) -> Problem {
    let rng = &mut StdRng::seed_from_u64(seed);
    let count = rng.random_range(1..=extras.layers);
    let layers = random_layers(rng, count);
    let trunk = Trunk::new(&layers).unwrap();
    let exits = random_exits(rng, &trunk, 2);
    let samples = rng.random_range(1..30);
    let more = if rng.random_bool(0.5) { rng.random_range(1..60) } else { 0 };
    // Floats; one byte a value where it crosses as pixels.
    let input_bytes = 4 * rng.random_range(0..20);
    let shape = Shape { layers: &layers, trunk: &trunk, exits: exits.len(), samples, input_bytes };
    let (encodings, lossy_outcomes) = random_rows(rng, &shape, extras);
    let cost = if extras.costs { 20 } else { 1 };
    let file = ScenarioFile {
        schema: SCHEMA.into(),
        model: ModelId { name: "random".into(), sha256: ModelHash::of(b"random") },
        input_bytes: Some(input_bytes),
        nodes: (0..2).map(|index| random_node(rng, index, layers.len(), exits.len(), extras)).collect(),
        links: vec![Link {
            emulated: false,
            overhead_us: time(rng, cost),
            bits_per_second: BitRate(f64::from(rng.random_range(1u32..40)) * 1e6),
            delay_us: time(rng, cost),
            reply_us: None,
            handover_us: Micros::ZERO,
            lone: Vec::new(),
            spread: Vec::new(),
        }],
        contention: 0.0,
        outcomes: exits.iter().map(|_| outcomes(rng, samples)).collect(),
        uncut_outcomes: if more > 0 {
            exits.iter().map(|_| outcomes(rng, more)).collect()
        } else {
            Vec::new()
        },
        layers,
        exits,
        encodings,
        lossy_outcomes,
        accuracy_basis: AccuracyBasis::Samples,
        all_cuts: true,
        threshold_steps: rng.random_range(1..5),
        in_flight: 2,
        constraints: Constraints {
            min_accuracy: rng.random_bool(0.7).then(|| Share(rng.random_range(0.3..0.9))),
            max_latency_us: rng.random_bool(0.6).then(|| Micros(rng.random_range(1.0..300.0))),
            ..Constraints::default()
        },
    };
    Problem::of(file).unwrap()
}
