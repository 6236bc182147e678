//! What encodings cost: encode and decode of typical frontiers in each, with a copy of the `f32` tensor beside it.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use coprof::codec::{Codec, Encoding};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

/// A tensor and the name of its group.
struct Tensor {
    name: &'static str,
    values: Vec<f32>,
    encodings: Vec<Encoding>,
}

/// Uniform values in 0 to 1 from a linear congruential generator.
fn uniform(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// What a ReLU leaves: about half zeros, the rest half a bell.
fn features(len: usize) -> Vec<f32> {
    let mut next = uniform(1);
    (0..len).map(|_| ((0..12).map(|_| next()).sum::<f32>() - 6.0).max(0.0)).collect()
}

/// A picture with slopes and a little noise, 0 to 255.
fn pixels(len: usize) -> Vec<f32> {
    let mut next = uniform(2);
    (0..len).map(|i| ((i % 32) as f32 * 6.0 + (i / 32 % 32) as f32 + next() * 8.0).floor()).collect()
}

fn tensors() -> [Tensor; 3] {
    let few = ["q6", "q6+deflate", "q2", "q2+deflate"].map(|name| name.parse().expect("an encoding's name"));
    let of_features = [Encoding::for_features(), few.to_vec()].concat();
    [
        Tensor { name: "64x8x8", values: features(4096), encodings: of_features.clone() },
        Tensor { name: "32x16x16", values: features(8192), encodings: of_features },
        Tensor { name: "pixels", values: pixels(3072), encodings: Encoding::for_input() },
    ]
}

fn both_ways(
    group: &mut BenchmarkGroup<'_, WallTime>,
    encoding: Encoding,
    values: &[f32],
    sizes: &mut String,
) {
    let mut codec = Codec::new(encoding, &[values.len()]);
    let mut payload = Vec::new();
    codec.encode(&[values], &mut payload);
    write!(sizes, " {encoding} {}", payload.len()).expect("a string takes all");
    let mut out = vec![Vec::new()];
    group.bench_function(format!("encode {encoding}"), |bencher| {
        bencher.iter(|| codec.encode(&[black_box(values)], black_box(&mut payload)));
    });
    group.bench_function(format!("decode {encoding}"), |bencher| {
        bencher.iter(|| codec.decode(black_box(&payload), black_box(&mut out)).expect("its own payload"));
    });
}

fn codecs(criterion: &mut Criterion) {
    for Tensor { name, values, encodings } in tensors() {
        let mut group = criterion.benchmark_group(name);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .sample_size(50);
        group.throughput(Throughput::Bytes(values.len() as u64 * 4));
        let mut copy = values.clone();
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&values)));
        });
        let mut sizes = String::new();
        for encoding in encodings {
            both_ways(&mut group, encoding, &values, &mut sizes);
        }
        group.finish();
        eprintln!("{name}: payload bytes:{sizes}\n");
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
