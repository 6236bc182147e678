//! The simulation under arrivals: growth with tasks, stages and the kind of arrival. `cargo bench --bench simulate`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use coprof_core::plan::{Arrival, Class, Spacing, Workload, highest_rate_with_p99_below, simulate};
use coprof_core::units::Micros;

/// As many stages as asked for, a quarter of the samples leaving after each node but the last; the second stage is the
/// slowest.
fn workload(stages: usize, samples: usize) -> Workload {
    let service = |stage: usize| Micros(400.0 + 100.0 * ((stage * 7 + 1) % 5) as f64);
    let nodes = stages.div_ceil(2);
    let class = |node: usize| Class {
        // A run measures each sample equally often, 100,000 tasks or more: as many as there are samples here.
        samples: samples / nodes + if node == 0 { samples % nodes } else { 0 },
        service_us: (0..=2 * node).map(service).collect(),
        delay_us: Micros(50.0 * node as f64),
    };
    let names = (0..stages).map(|stage| format!("stage{stage}")).collect();
    Workload::new(names, (0..nodes).map(class).collect()).expect("sane times")
}

fn simulations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulate");
    for (stages, tasks) in [(3, 100_000), (3, 200_000), (5, 100_000), (9, 100_000)] {
        let workload = workload(stages, tasks);
        let rate_per_s = 0.8 * coprof_core::plan::sustained_rate(&workload);
        let open = |spacing| Arrival::Open { spacing, rate_per_s };
        let kinds = [
            ("closed", Arrival::Closed { in_flight: 8 }),
            ("periodic", open(Spacing::Periodic)),
            ("poisson", open(Spacing::Poisson)),
        ];
        group.throughput(Throughput::Elements(tasks as u64));
        for (name, arrival) in kinds {
            let id = BenchmarkId::new(name, format!("{stages} stages, {tasks} tasks"));
            group.bench_function(id, |bencher| bencher.iter(|| simulate(&workload, arrival, 1)));
        }
    }
    group.finish();
}

fn highest_rate(criterion: &mut Criterion) {
    let workload = workload(3, 10_000);
    criterion.bench_function("highest_rate_with_p99_below/3 stages, 10000 samples", |bencher| {
        bencher.iter(|| highest_rate_with_p99_below(&workload, Spacing::Poisson, Micros(4000.0), 1));
    });
}

criterion_group!(benches, simulations, highest_rate);
criterion_main!(benches);
