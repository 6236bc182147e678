//! What running layers one by one costs over running them in one call, and what the confidence and moving tensors in and
//! out cost beside them. `cargo bench --bench layers`.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};

use coprof_core::model::{Graph, Source, confidence};
use coprof_run::backend::Backend;
use coprof_torch::{ComputeThread, TorchBackend, TorchDevice};

fn layers(criterion: &mut Criterion) {
    let thread = ComputeThread::prepare(1, Some(0));
    let graph = Arc::new(
        Graph::from_onnx("alexnet", include_bytes!("../models/alexnet.onnx")).expect("bundled model"),
    );
    let mut backend =
        TorchBackend::load(Arc::clone(&graph), TorchDevice::CPU, &thread).expect("bundled model");
    let pixels = vec![127.0f32; graph.input.elements()];
    let trunk = graph.trunk();
    let logits = Source::Layer(graph.exits[graph.final_exit().0].logits);
    backend.put(Source::Input, &pixels).expect("an input of the right size");
    let mut group = criterion.benchmark_group("alexnet");
    group.bench_function("trunk in one call", |bencher| {
        bencher.iter(|| backend.run(&trunk).expect("a valid order"));
    });
    group.bench_function("trunk layer by layer", |bencher| {
        bencher.iter(|| trunk.iter().for_each(|&id| backend.run(&[id]).expect("a valid order")));
    });
    let mut values = Vec::new();
    group.bench_function("input in, logits out, confidence", |bencher| {
        bencher.iter(|| {
            backend.put(Source::Input, &pixels).expect("an input of the right size");
            backend.get(logits, &mut values).expect("logits of the last run");
            confidence(&values)
        });
    });
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
