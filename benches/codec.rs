//! What encodings cost: encode and decode of typical frontiers in each, with a copy of the `f32` tensor beside it. First
//! come ratios to that copy, from rounds that take turns, since a shared machine's speed changes from second to second.
//!
//! Without libtorch: `cargo bench --no-default-features --bench codec`.

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use coprof_core::codec::{Calibration, Calibrator, Codec, Encoding, TensorSpec};
use coprof_core::model::Shape;
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

/// Rounds behind each ratio, and how long each step of a round runs at least.
const ROUNDS: usize = 301;
const STEP: Duration = Duration::from_micros(50);

/// A tensor and the encodings to try on it.
struct Tensor {
    name: &'static str,
    spec: TensorSpec,
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

fn named(names: &[&str]) -> Vec<Encoding> {
    names.iter().map(|name| name.parse().expect("an encoding's name")).collect()
}

fn tensors() -> [Tensor; 4] {
    let more = named(&[
        "bf16",
        "f32+zero",
        "f32+lz4",
        "f32+zstd",
        "f16+zero",
        "f16+zstd",
        "q8+zero",
        "q8+lz4",
        "q8+zstd",
        "q8+zstd3",
        "q8+zstd9",
        "q8+zstd19",
        "jalad8",
        "q4+zero",
        "q4+deflate6",
        "q4+lz4",
        "q4+zstd",
        "q4+zstd3",
        "q4+zstd9",
        "q4+zstd19",
        "jalad4",
        "q6",
        "jalad6",
        "q3",
        "jalad3",
        "q2",
        "jalad2",
        "q4c",
        "q4ck",
        "q4ck+zstd",
        "q3ck+zstd",
        "q2ck+zstd",
        "prune75-q4ck+zstd",
        "prune50-q4ck+zstd",
        "jpeg90",
        "jpeg75",
        "jpeg50",
    ]);
    let of_features = [Encoding::for_features(), more].concat();
    let of = |name, sides: [usize; 3], values: fn(usize) -> Vec<f32>, encodings| {
        let spec = TensorSpec::of(&Shape(sides.to_vec())).expect("a small shape");
        Tensor { name, spec, values: values(spec.values()), encodings }
    };
    [
        of("64x8x8", [64, 8, 8], features, of_features.clone()),
        of("32x16x16", [32, 16, 16], features, of_features),
        of("64x56x56", [64, 56, 56], features, named(&["q8", "q4", "q4+zero", "jalad4", "jpeg75"])),
        of("pixels", [3, 32, 32], pixels, [Encoding::for_input(), named(&["pixels+zstd"])].concat()),
    ]
}

impl Tensor {
    fn calibration(&self, encodings: &[Encoding]) -> Calibration {
        let mut calibrator = Calibrator::new(&[self.spec]);
        calibrator.feed(&[&self.values]);
        calibrator.finish(encodings)
    }

    fn codec(&self, encoding: Encoding, calibration: &Calibration) -> Codec {
        Codec::new(encoding, &[self.spec], Some(calibration)).expect("a calibration for all")
    }
}

/// The time that one call takes, from as many as fill a step.
fn time_of(mut work: impl FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed().as_secs_f64() / f64::from(calls)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Prints how long encode and decode take, in copies of the `f32` tensor.
fn print_ratios(tensor: &Tensor) {
    println!("{}: encode and decode in copies of the f32 tensor, medians of {ROUNDS} rounds", tensor.name);
    let values = &tensor.values[..];
    let mut copied = values.to_vec();
    let mut copy = |calls| time_of(|| black_box(&mut copied).copy_from_slice(black_box(values)), calls);
    let calls = ((STEP.as_secs_f64() / copy(1000)) as u32).max(1);
    let names =
        ["q8", "q4", "q8k", "q4k", "q8c", "q4c", "q8ck", "q4ck", "q6", "q3", "q2", "f32", "f16", "bf16"];
    let encodings = named(&names);
    let calibration = tensor.calibration(&encodings);
    for encoding in encodings {
        let mut codec = tensor.codec(encoding, &calibration);
        let (mut payload, mut out) = (Vec::new(), vec![Vec::new()]);
        let mut both = || {
            let copy = copy(calls);
            let encode = time_of(
                || codec.encode(&[black_box(values)], black_box(&mut payload)).expect("memory"),
                calls / 2 + 1,
            );
            let decode = time_of(
                || codec.decode(black_box(&payload), black_box(&mut out)).expect("its own payload"),
                calls / 2 + 1,
            );
            (copy, encode / copy, decode / copy)
        };
        both();
        let rounds: Vec<_> = (0..ROUNDS).map(|_| both()).collect();
        let [copy, encode, decode] = [
            rounds.iter().map(|round| round.0).collect(),
            rounds.iter().map(|round| round.1).collect(),
            rounds.iter().map(|round| round.2).collect(),
        ]
        .map(median);
        println!("  {encoding:>5} encode {encode:5.2} decode {decode:5.2} (copy {:.2} µs)", copy * 1e6);
    }
}

fn both_ways(
    group: &mut BenchmarkGroup<'_, WallTime>,
    tensor: &Tensor,
    mut codec: Codec,
    sizes: &mut String,
) {
    let (encoding, values) = (codec.encoding(), &tensor.values);
    let mut payload = Vec::new();
    codec.encode(&[values], &mut payload).expect("memory");
    write!(sizes, " {encoding} {}", payload.len()).expect("a string takes all");
    let mut out = vec![Vec::new()];
    group.bench_function(format!("encode {encoding}"), |bencher| {
        bencher.iter(|| codec.encode(&[black_box(values)], black_box(&mut payload)).expect("memory"));
    });
    group.bench_function(format!("decode {encoding}"), |bencher| {
        bencher.iter(|| codec.decode(black_box(&payload), black_box(&mut out)).expect("its own payload"));
    });
}

fn codecs(criterion: &mut Criterion) {
    let tensors = tensors();
    for tensor in &tensors {
        print_ratios(tensor);
    }
    for tensor in &tensors {
        let calibration = tensor.calibration(&tensor.encodings);
        let mut group = criterion.benchmark_group(tensor.name);
        group
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500))
            .sample_size(30);
        group.throughput(Throughput::Bytes(tensor.values.len() as u64 * 4));
        let mut copy = tensor.values.clone();
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&tensor.values)));
        });
        let mut sizes = String::new();
        for &encoding in &tensor.encodings {
            both_ways(&mut group, tensor, tensor.codec(encoding, &calibration), &mut sizes);
        }
        group.finish();
        eprintln!("{}: payload bytes:{sizes}\n", tensor.name);
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
