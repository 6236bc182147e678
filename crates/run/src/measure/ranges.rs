//! Times of whole ranges of layers: what a node takes for a stretch of the trunk in one call.

use super::budget::Budget;
use super::sampler::Sampler;
use super::stats::Samples;
use super::watch::Watch;
use crate::backend::Backend;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Result};
use coprof_core::model::{Cut, Graph, LayerId, Source};

/// Passes that warm caches, allocator and threads up before any is timed.
const WARM_UP: usize = 3;

/// Times the layers between each pair of cuts in one call, as a stage of the pipeline runs them: every pass takes the
/// next of `inputs`, and brings a range's own inputs about before it is timed. `budget` counts undisturbed passes and time.
pub fn profile_ranges(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    ranges: &[(Cut, Cut)],
    inputs: &[&[f32]],
    budget: Budget,
    watch: &mut Watch<'_>,
) -> Result<Vec<Samples>> {
    if inputs.is_empty() {
        return Err(no_inputs());
    }
    let graph = backend.graph().clone();
    let mut stretches: Vec<Stretch> =
        ranges.iter().map(|(from, to)| Stretch::new(&graph, from, to)).collect();
    let mut start = clock.now();
    for pass in 0_usize.. {
        if pass == WARM_UP {
            stretches.iter_mut().for_each(|stretch| stretch.times.forget());
            start = clock.now();
        }
        let (runs, spent) = (pass.saturating_sub(WARM_UP), clock.now().saturating_sub(start));
        if runs > 0 {
            let kept = stretches.iter().map(|stretch| stretch.times.kept()).min().unwrap_or(runs);
            if budget.is_met(kept, spent) || budget.is_exhausted(runs, spent) {
                break;
            }
        }
        watch.step(if runs > 0 { budget.share(runs, spent) } else { 0.0 })?;
        for stretch in &mut stretches {
            stretch.pass(backend, clock, inputs[pass % inputs.len()])?;
        }
    }
    let none = || Error::unmet("the budget allows no runs");
    stretches.into_iter().map(|stretch| stretch.times.finish().ok_or_else(none)).collect()
}

/// Times the whole trunk in one call, again and again. `budget` counts undisturbed runs and time.
pub fn profile_whole(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    inputs: &[&[f32]],
    budget: Budget,
    watch: &mut Watch<'_>,
) -> Result<Samples> {
    let graph = backend.graph().clone();
    let mut whole = Stretch::new(&graph, &Cut::default(), &Cut::needed_by(&graph, graph.final_exit()));
    whole.pass(backend, clock, inputs.first().ok_or_else(no_inputs)?)?;
    whole.times.forget();
    let start = clock.now();
    for run in 0.. {
        let spent = clock.now().saturating_sub(start);
        if run > 0 && (budget.is_met(whole.times.kept(), spent) || budget.is_exhausted(run, spent)) {
            break;
        }
        watch.step(budget.share(run, spent))?;
        whole.pass(backend, clock, inputs[run % inputs.len()])?;
    }
    whole.times.finish().ok_or_else(|| Error::unmet("the budget allows no runs"))
}

fn no_inputs() -> Error {
    Error::failed("profiling needs at least one input")
}

/// A range of layers with its timings.
struct Stretch {
    before: Vec<LayerId>,
    own: Vec<LayerId>,
    /// What crosses behind it.
    kept: Vec<Source>,
    times: Sampler,
}

impl Stretch {
    fn new(graph: &Graph, from: &Cut, to: &Cut) -> Self {
        Self {
            before: from.layers().collect(),
            own: to.layers_beyond(from),
            kept: to.frontier(graph, &[]),
            times: Sampler::default(),
        }
    }

    fn pass(&mut self, backend: &mut dyn Backend, clock: &dyn Clock, input: &[f32]) -> Result<()> {
        backend.clear();
        backend.put(Source::Input, input)?;
        backend.run(&self.before)?;
        let (own, kept) = (&self.own, &self.kept);
        self.times.time(clock, || backend.run_keeping(own, kept))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::FakeBackend;
    use coprof_core::clock::ManualClock;
    use coprof_core::model::samples::chain;
    use coprof_core::units::Micros;

    #[test]
    fn a_range_takes_the_time_of_its_own_layers() {
        let graph = chain();
        let clock = ManualClock::default();
        let times = (1..=graph.layers.len() as u64).map(Duration::from_micros).collect();
        let mut backend = FakeBackend::new(graph.clone(), times, clock.clone());
        let cuts = Cut::along_trunk(&graph);
        let ranges = [(cuts[0].clone(), cuts[2].clone()), (cuts[2].clone(), cuts[4].clone())];
        let budget = Budget { min_runs: 5, min_time: Duration::ZERO, max_runs: 100 };
        let input = vec![0.0; 192];
        let mut ignore = |_| ();
        let found = profile_ranges(
            &mut backend,
            &clock,
            &ranges,
            &[&input],
            budget,
            &mut Watch::new(&mut ignore, &|| false),
        )
        .unwrap();
        let sum = |cut: &Cut, from: &Cut| -> f64 {
            cut.layers_beyond(from).iter().map(|layer| (layer.0 + 1) as f64).sum()
        };
        for (samples, (from, to)) in found.iter().zip(&ranges) {
            assert_eq!((samples.median(), samples.raw().len()), (Micros(sum(to, from)), 5));
        }
    }
}
