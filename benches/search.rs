//! The exact search: growth with layers, exits and samples, on made-up scenarios. `cargo bench --bench search`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use coprof::codec::Encoding;
use coprof::model::ModelHash;
use coprof::plan::{
    Constraints, EncodedFrontier, ExitSite, Link, LossyOutcomes, ModelId, Node, Outcomes, SCHEMA, Scenario,
    TrunkLayer, search,
};
use coprof::units::{BitRate, Micros, Share};

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

/// A chain of `layers` layers with `side_exits` exits spread over its first half, every encoding of the real search at
/// every cut.
fn scenario(layers: usize, side_exits: usize, samples: usize) -> Scenario {
    let stream = &mut Stream(1);
    let name = |index: usize| format!("layer{index}");
    let tips = |cut: usize| if cut == 0 { vec![] } else { vec![name(cut - 1)] };
    let mut sites: Vec<usize> =
        (0..side_exits).map(|exit| (exit + 1) * layers / (2 * side_exits + 1)).collect();
    sites.push(layers - 1);
    let skill = |exit: usize| 0.7 + 0.2 * exit as f64 / sites.len() as f64;
    let (mut encodings, mut lossy_outcomes) = (Vec::new(), Vec::new());
    for cut in 0..layers {
        for encoding in if cut == 0 { Encoding::for_input() } else { Encoding::for_features() } {
            let bytes = 500.0 + 8000.0 * stream.share();
            let (encode_us, decode_us) = (stream.times(2, 20.0), stream.times(2, 20.0));
            encodings.push(EncodedFrontier { cut: tips(cut), encoding, bytes, encode_us, decode_us });
            if !encoding.is_lossless() && encoding == encoding.without_coder() {
                let behind = |(exit, &site): (usize, &usize)| {
                    (site + 1 >= cut).then(|| stream.outcomes(samples, skill(exit) - 0.01))
                };
                let exits = sites.iter().enumerate().map(behind).collect();
                lossy_outcomes.push(LossyOutcomes { cut: tips(cut), element: encoding, exits });
            }
        }
    }
    let mut node = |name: &str, scale: f64| Node {
        name: name.into(),
        emulated_slowdown: None,
        layers_us: stream.times(layers, scale),
        exits_us: stream.times(sites.len(), scale),
    };
    let nodes = vec![node("device", 1600.0), node("edge", 200.0)];
    let layer = |index: usize| TrunkLayer {
        name: name(index),
        inputs: vec![if index == 0 { "input".into() } else { name(index - 1) }],
        output_bytes: 16_384,
    };
    let exit =
        |(index, &site): (usize, &usize)| ExitSite { name: format!("exit{index}"), after: vec![name(site)] };
    Scenario {
        schema: SCHEMA.into(),
        model: ModelId { name: "made-up".into(), sha256: ModelHash::of(b"made-up") },
        layers: (0..layers).map(layer).collect(),
        exits: sites.iter().enumerate().map(exit).collect(),
        nodes,
        links: vec![Link {
            emulated: false,
            overhead_us: Micros(30.0),
            bits_per_second: BitRate(2e7),
            delay_us: Micros(5000.0),
            reply_us: Micros(5050.0),
        }],
        encodings,
        outcomes: (0..sites.len())
            .map(|exit| Stream(exit as u64 + 9).outcomes(samples, skill(exit)))
            .collect(),
        lossy_outcomes,
        constraints: Constraints { min_accuracy: Some(Share(0.5)), ..Constraints::default() },
    }
}

fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("search");
    group.sample_size(10);
    for (layers, side_exits, samples) in
        [(12, 2, 5000), (12, 1, 5000), (12, 0, 5000), (12, 2, 1000), (24, 2, 5000), (110, 2, 1000)]
    {
        let scenario = scenario(layers, side_exits, samples);
        let configurations = search(&scenario).expect("a plan exists").configurations;
        group.throughput(Throughput::Elements(configurations));
        let id = format!("{layers} layers, {side_exits} side exits, {samples} samples");
        group.bench_with_input(BenchmarkId::from_parameter(id), &scenario, |bencher, scenario| {
            bencher.iter(|| search(scenario).expect("a plan exists"));
        });
    }
}

criterion_group!(benches, growth);
criterion_main!(benches);
