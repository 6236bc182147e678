//! The exact search, the Pareto front and the ranges: growth with layers, nodes, exits and cuts, on made-up scenarios. `cargo bench --bench search`.

use criterion::{Criterion, criterion_group, criterion_main};

use coprof_core::codec::Encoding;
use coprof_core::plan::{
    Constraints, EncodedFrontier, ExitSite, LossyOutcomes, Node, Outcomes, Problem, SCHEMA, ScenarioFile,
    TrunkLayer, pareto_front, search, stays_best,
};
use coprof_core::units::{Micros, Share};

/// A reproducible stream of shares, 0 to 1.
struct Stream(u64);

impl Stream {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    fn times(&mut self, count: usize, scale: f64) -> Vec<Micros> {
        (0..count).map(|_| Micros(scale * (0.2 + self.share()))).collect()
    }

    /// What an exit answers behind an encoding: nearly what it answers uncut.
    fn nearly(&mut self, uncut: &Outcomes) -> Outcomes {
        let (mut right, mut entropy) = (Vec::new(), Vec::new());
        for (sample, sure) in uncut.entropies().iter().enumerate() {
            right.push(uncut.right().contains(sample) != (self.share() < 0.02));
            entropy.push((sure + 0.02 * (self.share() as f32 - 0.5)).clamp(0.0, 1.0));
        }
        Outcomes::new(&right, entropy).expect("as many of both")
    }

    /// An exit that is right on `skill` of the samples, more often where it is sure.
    fn outcomes(&mut self, samples: usize, skill: f64) -> Outcomes {
        let entropy: Vec<f32> = (0..samples).map(|_| self.share() as f32).collect();
        let right: Vec<bool> = entropy
            .iter()
            .map(|&entropy| self.share() < (skill + 0.3 * (0.5 - f64::from(entropy))).min(1.0))
            .collect();
        Outcomes::new(&right, entropy).expect("as many of both")
    }
}

/// What a made-up scenario is like.
struct Shape {
    layers: Vec<TrunkLayer>,
    /// Layers after which there is a side exit.
    sites: Vec<usize>,
    nodes: usize,
    samples: usize,
    steps: usize,
    memory: bool,
    encodings: bool,
}

fn layer(name: String, inputs: Vec<String>, channels: u64) -> TrunkLayer {
    TrunkLayer { name, inputs, output_bytes: channels * 1024, weight_bytes: channels * 4096 }
}

/// A chain; its tensors shrink towards the end.
fn chain(layers: usize) -> Vec<TrunkLayer> {
    (0..layers)
        .map(|index| layer(format!("layer{index}"), vec![], 4 + 60 * (layers - index) as u64 / layers as u64))
        .collect()
}

/// GoogLeNet's form: a stem of three layers, inception modules of four branches (1×1; 1×1, 3×3; 1×1, 5×5; pool, 1×1) and
/// their concatenation, and a classifier of two layers.
fn inception(modules: usize) -> Vec<TrunkLayer> {
    let mut layers: Vec<TrunkLayer> = Vec::new();
    let mut before = "input".to_owned();
    for name in ["stem1", "stem2", "stem3"] {
        layers.push(layer(name.into(), vec![before], 32));
        before = name.into();
    }
    for module in 0..modules {
        let channels = 40 - 3 * module as u64;
        let mut ends = Vec::new();
        for (branch, depth) in [1, 2, 2, 2].into_iter().enumerate() {
            let mut at = before.clone();
            for step in 0..depth {
                let name = format!("m{module}b{branch}s{step}");
                layers.push(layer(name.clone(), vec![at], channels / 4));
                at = name;
            }
            ends.push(at);
        }
        before = format!("m{module}concat");
        layers.push(layer(before.clone(), ends, channels));
    }
    for name in ["pool", "fc"] {
        layers.push(layer(name.into(), vec![before], 1));
        before = name.into();
    }
    layers
}

/// A transformer's form: blocks of three branches of so many layers each, in a chain of `between` layers.
fn transformer(blocks: usize, depth: usize, between: usize) -> Vec<TrunkLayer> {
    let mut layers: Vec<TrunkLayer> = Vec::new();
    let mut before = vec!["input".to_owned()];
    for block in 0..=blocks {
        let chained = between * (block + 1) / (blocks + 1) - between * block / (blocks + 1);
        for step in 0..chained {
            let name = format!("b{block}s{step}");
            layers.push(layer(name.clone(), std::mem::take(&mut before), 40));
            before = vec![name];
        }
        if block == blocks {
            break;
        }
        let branch = |branch: usize, layers: &mut Vec<TrunkLayer>| {
            let mut at = before.clone();
            for step in 0..depth {
                let name = format!("b{block}branch{branch}s{step}");
                layers.push(layer(name.clone(), at, 12));
                at = vec![name];
            }
            at
        };
        before = (0..3).flat_map(|index| branch(index, &mut layers)).collect();
    }
    layers
}

impl Shape {
    /// Every cut as 32-bit floats is listed by the scenario itself; the encodings of the real search are then put in for
    /// each, with outcomes behind the lossy ones.
    fn scenario(&self) -> Problem {
        let stream = &mut Stream(1);
        let mut sites = self.sites.clone();
        sites.push(self.layers.len() - 1);
        let skill = |exit: usize| 0.7 + 0.2 * exit as f64 / sites.len() as f64;
        let node = |node: usize, stream: &mut Stream| Node {
            name: format!("node{node}"),
            layers_us: stream.times(self.layers.len(), 1600.0 / f64::powi(6.0, node as i32)),
            exits_us: stream.times(sites.len(), 400.0 / f64::powi(6.0, node as i32)),
            memory_bytes: self.memory.then_some(self.layers.iter().map(|l| l.weight_bytes).sum::<u64>() / 2),
            ..Node::default()
        };
        let exit = |(index, &site): (usize, &usize)| ExitSite {
            name: format!("exit{index}"),
            after: Some(vec![self.layers[site].name.clone()]),
            weight_bytes: 0,
            marginal: None,
        };
        let outcomes =
            (0..sites.len()).map(|exit| Stream(exit as u64 + 9).outcomes(self.samples, skill(exit)));
        let links = r#"{"overhead_us": 30, "bits_per_second": 2e7, "delay_us": 5000}"#;
        let links: Vec<&str> = vec![links; self.nodes - 1];
        let bare = ScenarioFile {
            schema: SCHEMA.into(),
            model: Default::default(),
            input_bytes: Some(12_288),
            layers: self.layers.clone(),
            exits: sites.iter().enumerate().map(exit).collect(),
            nodes: (0..self.nodes).map(|index| node(index, stream)).collect(),
            links: serde_json::from_str(&format!("[{}]", links.join(","))).expect("links"),
            contention: 0.0,
            encodings: Vec::new(),
            outcomes: outcomes.collect(),
            uncut_outcomes: Vec::new(),
            lossy_outcomes: Vec::new(),
            accuracy_basis: Default::default(),
            all_cuts: true,
            threshold_steps: self.steps,
            in_flight: 4,
            constraints: Constraints { min_accuracy: Some(Share(0.65)), ..Constraints::default() },
        };
        let problem = Problem::of(bare).expect("it makes sense");
        let encoded = |file: &mut ScenarioFile| self.encode(file, stream);
        if self.encodings { problem.with(encoded).expect("it makes sense") } else { problem }
    }

    fn encode(&self, scenario: &mut ScenarioFile, stream: &mut Stream) {
        for plain in std::mem::take(&mut scenario.encodings) {
            for encoding in
                if plain.cut.is_empty() { Encoding::for_input() } else { Encoding::for_features() }
            {
                let bits = if encoding.is_lossless() { 1.0 } else { 0.1 + 0.3 * stream.share() };
                scenario.encodings.push(EncodedFrontier {
                    encoding,
                    bytes: plain.bytes * bits * (0.7 + 0.3 * stream.share()),
                    encode_us: stream.times(2, 20.0),
                    decode_us: stream.times(2, 20.0),
                    ..plain.clone()
                });
                if !encoding.is_lossless() && encoding == encoding.without_coder() {
                    let behind = |exit: usize| Some(stream.nearly(&scenario.outcomes[exit]));
                    scenario.lossy_outcomes.push(LossyOutcomes {
                        cut: plain.cut.clone(),
                        element: encoding,
                        exits: (0..scenario.exits.len()).map(behind).collect(),
                        calibration: None,
                    });
                }
            }
        }
    }
}

fn shapes() -> Vec<(&'static str, Shape)> {
    let plain = |layers: usize, sites: Vec<usize>, nodes: usize| Shape {
        layers: chain(layers),
        sites,
        nodes,
        samples: 5000,
        steps: 50,
        memory: false,
        encodings: false,
    };
    vec![
        ("12 layers, 2 nodes, no side exits", Shape { encodings: true, ..plain(12, vec![], 2) }),
        ("12 layers, 2 nodes, 1 side exit", Shape { encodings: true, ..plain(12, vec![2], 2) }),
        ("12 layers, 2 nodes, 2 side exits", Shape { encodings: true, ..plain(12, vec![2, 5], 2) }),
        ("24 layers, 2 nodes, 2 side exits", Shape { encodings: true, ..plain(24, vec![4, 10], 2) }),
        ("48 layers, 2 nodes, 2 side exits", Shape { encodings: true, ..plain(48, vec![8, 20], 2) }),
        (
            "googlenet (9 modules), all cuts, 2 side exits",
            Shape { layers: inception(9), encodings: true, ..plain(1, vec![26, 50], 2) },
        ),
        ("110 layers, 3 nodes, 1 side exit, 5 steps", Shape { steps: 5, ..plain(110, vec![30], 3) }),
        // 111 · 112 / 2 pairs of nested cuts times 7 · 7 thresholds.
        (
            "110 layers, 3 nodes, 2 side exits, 304,584 placements",
            Shape { steps: 6, ..plain(110, vec![30, 60], 3) },
        ),
        ("110 layers, 3 nodes, 2 side exits, 20 steps", Shape { steps: 20, ..plain(110, vec![30, 60], 3) }),
        ("270 layers, 3 nodes, memory limits", Shape { memory: true, ..plain(270, vec![], 3) }),
        ("270 layers, 4 nodes, memory limits", Shape { memory: true, ..plain(270, vec![], 4) }),
        ("270 layers, 5 nodes, memory limits", Shape { memory: true, ..plain(270, vec![], 5) }),
        ("18 layers, 2 nodes, 3 side exits", Shape { encodings: true, ..plain(18, vec![4, 8, 12], 2) }),
        (
            "24 layers, 2 nodes, 6 side exits",
            Shape { encodings: true, ..plain(24, (1..7).map(|exit| 3 * exit).collect(), 2) },
        ),
        (
            "24 layers, 2 nodes, 10 side exits",
            Shape { encodings: true, ..plain(24, (1..11).map(|exit| 2 * exit).collect(), 2) },
        ),
        (
            "129 operators, 1,426 cuts, 7 nodes",
            Shape { layers: transformer(4, 6, 57), ..plain(1, vec![], 7) },
        ),
        (
            "228 operators, 1,699 cuts, 7 nodes",
            Shape { layers: transformer(3, 7, 165), ..plain(1, vec![], 7) },
        ),
        (
            "425 operators, 2,876 cuts, 7 nodes",
            Shape { layers: transformer(5, 7, 320), ..plain(1, vec![], 7) },
        ),
    ]
}

fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("search");
    group.sample_size(10);
    for (name, shape) in shapes() {
        let scenario = shape.scenario();
        group.bench_with_input(name, &scenario, |bencher, scenario| {
            bencher.iter(|| search(scenario).expect("a plan exists"));
        });
        let found = search(&scenario).expect("a plan exists");
        group.bench_with_input(format!("{name}: the front"), &scenario, |bencher, scenario| {
            bencher.iter(|| pareto_front(scenario, Some(&found.best)).expect("a front"));
        });
        group.bench_with_input(format!("{name}: the ranges"), &scenario, |bencher, scenario| {
            bencher.iter(|| stays_best(scenario, &found, &|| false).expect("ranges"));
        });
    }
}

criterion_group!(benches, growth);
criterion_main!(benches);
