//! Layer times: each layer alone, the trunk in one call, and each exit's head with its confidence.

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::sampler::{Disturbance, Sampler};
use super::stats::Samples;
use super::watch::Watch;
use crate::backend::Backend;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Result};
use coprof_core::model::{Graph, LayerId, Source};
use coprof_core::units::Micros;

/// Passes that warm caches, allocator and threads up before any is timed.
const WARM_UP: usize = 3;

/// The first layer is timed alone in each so many of the passes, which are slower for it.
const FIRST_AGAIN: usize = 5;

/// How often a profile is measured until it is settled.
const ATTEMPTS: usize = 3;

/// How far the sum of the layers may lie from the whole model, as a share of it …
const MOST_APART: f64 = 0.1;

/// … beside what calling each layer by itself takes at most.
const CALL: Micros = Micros(1.0);

/// What [`profile_layers`] measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    /// Per layer of the graph, timed alone.
    pub layers: Vec<Samples>,
    /// The whole trunk in one call, without bringing the input in or the logits out.
    pub whole: Samples,
    /// Per exit: its head in one call (none for the final exit), reading its logits, and the confidence.
    pub exits: Vec<Samples>,
    /// Forgetting the last task and bringing the input in: what every task begins with on the first node.
    #[serde(default)]
    pub input: Option<Samples>,
    /// The same with the first layer, again and again: on a node that runs nothing else its code and data stay in the caches,
    /// where other layers have put them out before the next task otherwise.
    #[serde(default)]
    pub input_and_first: Option<Samples>,
    /// How many timings were taken for all of these, and set aside.
    #[serde(default)]
    pub disturbance: Disturbance,
    /// How often it was measured until it was settled, or given up.
    #[serde(default)]
    pub attempts: usize,
}

impl LayerProfile {
    /// Whether it can be relied on: the layers' sum is within a tenth of the whole model, and most timings were undisturbed.
    pub fn is_settled(&self, graph: &Graph) -> bool {
        let whole = self.whole.mean();
        let apart = (self.mean_sum(graph) - whole).0.abs();
        let calls = CALL * graph.trunk().len() as f64;
        apart <= (whole * MOST_APART + calls).0 && !self.disturbance.is_heavy()
    }

    /// By what factor bringing the input in and the first layer take less on a node that runs no other layer; 1 where that is
    /// not known, or not so.
    pub fn first_alone(&self, graph: &Graph) -> f64 {
        let first = graph.trunk().first().map(|id| &self.layers[id.0]);
        match (&self.input_and_first, &self.input, first) {
            (Some(both), Some(input), Some(first)) if both.mean() > Micros::ZERO => {
                (both.mean() / (input.mean() + first.mean())).min(1.0)
            }
            _ => 1.0,
        }
    }

    /// The sum of the trunk layers' medians: to be compared with the median of `whole`.
    pub fn layer_sum(&self, graph: &Graph) -> Micros {
        graph.trunk().into_iter().map(|id| self.layers[id.0].median()).sum()
    }

    /// The same of means. A host that changes between two speeds moves medians of layers and whole apart, but not their means.
    pub fn mean_sum(&self, graph: &Graph) -> Micros {
        graph.trunk().into_iter().map(|id| self.layers[id.0].mean()).sum()
    }
}

/// Times layers, trunk and exit heads on the calling thread. Every pass takes the next of `inputs` and times all three
/// kinds, so that whatever slows the machine down for a while slows down all that is compared. `budget` counts undisturbed
/// passes and the time since the first one. A profile that is not settled is measured again, at most three times in all; the
/// last one stands.
pub fn profile_layers(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    inputs: &[&[f32]],
    budget: Budget,
    watch: &mut Watch<'_>,
) -> Result<LayerProfile> {
    let graph = backend.graph().clone();
    let mut attempts = 1;
    loop {
        let profile = LayerProfile { attempts, ..profile_once(backend, clock, inputs, budget, watch)? };
        if profile.is_settled(&graph) || attempts == ATTEMPTS {
            return Ok(profile);
        }
        attempts += 1;
    }
}

fn profile_once(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    inputs: &[&[f32]],
    budget: Budget,
    watch: &mut Watch<'_>,
) -> Result<LayerProfile> {
    if inputs.is_empty() {
        return Err(Error::failed("profiling needs at least one input"));
    }
    let mut profiler = Profiler::new(backend, clock);
    for pass in 0..WARM_UP {
        profiler.pass(inputs[pass % inputs.len()])?;
        watch.step(0.0)?;
    }
    profiler.forget();
    let start = clock.now();
    for pass in 0.. {
        let spent = clock.now().saturating_sub(start);
        let settled = budget.is_met(profiler.kept(), spent) || budget.is_exhausted(pass, spent);
        if settled && pass > 0 {
            break;
        }
        watch.step(budget.share(pass, spent))?;
        profiler.pass(inputs[pass % inputs.len()])?;
    }
    profiler.finish()
}

struct Profiler<'a> {
    backend: &'a mut dyn Backend,
    clock: &'a dyn Clock,
    /// Every layer, with what is still needed of its inputs.
    all: Vec<(LayerId, Vec<Source>)>,
    trunk: Vec<LayerId>,
    /// What the heads read of the trunk.
    behind_trunk: Vec<Source>,
    /// Per exit its head and the layer of its logits.
    exits: Vec<(Vec<LayerId>, LayerId)>,
    logits: Vec<f32>,
    layer_times: Vec<Sampler>,
    whole_times: Sampler,
    exit_times: Vec<Sampler>,
    input_times: Sampler,
    first_times: Sampler,
    passes: usize,
}

impl<'a> Profiler<'a> {
    fn new(backend: &'a mut dyn Backend, clock: &'a dyn Clock) -> Self {
        let graph = backend.graph().clone();
        let exits: Vec<_> = (0..graph.exits.len())
            .map(|exit| (graph.head(coprof_core::model::ExitId(exit)), graph.exits[exit].logits))
            .collect();
        Self {
            clock,
            all: graph.layers_and_kept(),
            trunk: graph.trunk(),
            behind_trunk: graph.read_by(exits.iter().flat_map(|(head, _)| head.iter().copied())).collect(),
            logits: Vec::new(),
            layer_times: vec![Sampler::default(); graph.layers.len()],
            whole_times: Sampler::default(),
            exit_times: vec![Sampler::default(); exits.len()],
            input_times: Sampler::default(),
            first_times: Sampler::default(),
            passes: 0,
            exits,
            backend,
        }
    }

    fn pass(&mut self, input: &[f32]) -> Result<()> {
        let (clock, graph) = (self.clock, self.backend.graph().clone());
        self.begin(input)?;
        for at in 0..self.all.len() {
            let (id, kept) = &self.all[at];
            let backend = &mut *self.backend;
            self.layer_times[at].time(clock, || backend.run_keeping(&[*id], kept))?;
        }
        self.begin(input)?;
        let (backend, trunk, kept) = (&mut *self.backend, &self.trunk, &self.behind_trunk);
        self.whole_times.time(clock, || backend.run_keeping(trunk, kept))?;
        for ((head, logits), times) in self.exits.iter().zip(&mut self.exit_times) {
            let (backend, values) = (&mut *self.backend, &mut self.logits);
            times.time(clock, || {
                backend.run(head)?;
                backend.get(Source::Layer(*logits), values)?;
                std::hint::black_box(graph.confidence(values));
                Ok(())
            })?;
        }
        self.passes += 1;
        if self.passes.is_multiple_of(FIRST_AGAIN) { self.first_again(input) } else { Ok(()) }
    }

    /// Times the first layer right after itself; the others run once more afterwards, so that the next pass finds the caches as
    /// ever.
    fn first_again(&mut self, input: &[f32]) -> Result<()> {
        let Some((&first, others)) = self.trunk.split_first() else { return Ok(()) };
        let backend = &mut *self.backend;
        let mut run = || {
            backend.clear();
            backend.put(Source::Input, input)?;
            backend.run(&[first])
        };
        run()?;
        self.first_times.time(self.clock, &mut run)?;
        backend.run(others)
    }

    fn begin(&mut self, input: &[f32]) -> Result<()> {
        let backend = &mut *self.backend;
        self.input_times.time(self.clock, || {
            backend.clear();
            backend.put(Source::Input, input)
        })
    }

    fn all_times(&mut self) -> impl Iterator<Item = &mut Sampler> {
        let layers_and_exits = self.layer_times.iter_mut().chain(&mut self.exit_times);
        layers_and_exits.chain([&mut self.whole_times, &mut self.input_times])
    }

    fn forget(&mut self) {
        self.all_times().for_each(Sampler::forget);
        self.first_times.forget();
    }

    /// The undisturbed timings of what has the fewest.
    fn kept(&mut self) -> usize {
        self.all_times().map(|times| times.kept()).min().unwrap_or(0)
    }

    fn finish(mut self) -> Result<LayerProfile> {
        let none = || Error::unmet("nothing was measured: the budget allows no runs");
        let samples = |times: Sampler| times.finish().ok_or_else(none);
        let disturbance =
            self.all_times().map(|times| times.disturbance()).fold(Disturbance::default(), Disturbance::and);
        Ok(LayerProfile {
            layers: self.layer_times.into_iter().map(samples).collect::<Result<_>>()?,
            whole: samples(self.whole_times)?,
            exits: self.exit_times.into_iter().map(samples).collect::<Result<_>>()?,
            input: self.input_times.finish(),
            input_and_first: self.first_times.finish(),
            disturbance,
            attempts: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::backend::FakeBackend;
    use coprof_core::clock::ManualClock;
    use coprof_core::error::Kind;
    use coprof_core::model::samples::chain;

    const MICROS: [u64; 6] = [100, 20, 7, 300, 40, 10];

    fn profile(budget: Budget, stop: &dyn Fn() -> bool) -> Result<LayerProfile> {
        let clock = ManualClock::default();
        let mut backend =
            FakeBackend::new(chain(), MICROS.map(Duration::from_micros).to_vec(), clock.clone());
        let inputs = [vec![1.0; 192], vec![2.0; 192]];
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        profile_layers(&mut backend, &clock, &inputs, budget, &mut Watch::new(&mut |_| (), stop))
    }

    #[test]
    fn known_times_are_found_and_the_layers_sum_up_to_the_whole() {
        let budget = Budget { min_runs: 10, min_time: Duration::ZERO, max_runs: 100 };
        let profile = profile(budget, &|| false).unwrap();
        for (layer, micros) in profile.layers.iter().zip(MICROS) {
            assert_eq!((layer.median(), layer.raw().len()), (Micros(micros as f64), 10));
        }
        assert_eq!(profile.whole.median(), Micros(470.0));
        assert_eq!(profile.layer_sum(&chain()), Micros(470.0));
        let exits: Vec<Micros> = profile.exits.iter().map(Samples::median).collect();
        assert_eq!(exits, [Micros(7.0), Micros(0.0)]);
    }

    #[test]
    fn the_budget_is_kept() {
        // A pass takes 477 + 470 + 7 µs, and each fifth of them the first layer twice and the others once more: 570.
        let by_time = Budget { min_runs: 10, min_time: Duration::from_micros(1068 * 25), max_runs: 100 };
        assert_eq!(profile(by_time, &|| false).unwrap().whole.raw().len(), 25);
        let by_count = Budget { max_runs: 12, ..by_time };
        assert_eq!(profile(by_count, &|| false).unwrap().whole.raw().len(), 12);
    }

    /// A backend that does something of its own before it runs layers.
    struct Around<F> {
        inner: FakeBackend<ManualClock>,
        before: F,
    }

    impl<F: FnMut(&[LayerId]) + Send> Backend for Around<F> {
        fn graph(&self) -> &std::sync::Arc<Graph> {
            self.inner.graph()
        }
        fn clear(&mut self) {
            self.inner.clear();
        }
        fn put(&mut self, tensor: Source, values: &[f32]) -> Result<()> {
            self.inner.put(tensor, values)
        }
        fn run(&mut self, layers: &[LayerId]) -> Result<()> {
            (self.before)(layers);
            self.inner.run(layers)
        }
        fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()> {
            self.inner.get(tensor, into)
        }
    }

    fn profile_around(clock: &ManualClock, before: impl FnMut(&[LayerId]) + Send) -> LayerProfile {
        let inner = FakeBackend::new(chain(), MICROS.map(Duration::from_micros).to_vec(), clock.clone());
        let budget = Budget { min_runs: 10, min_time: Duration::ZERO, max_runs: 100 };
        let input = vec![1.0; 192];
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        profile_layers(&mut Around { inner, before }, clock, &[&input], budget, &mut watch).unwrap()
    }

    /// The thread loses its core for 5 ms in every so many calls.
    fn crowded(every: usize) -> LayerProfile {
        let (clock, mut calls) = (ManualClock::default(), 0_usize);
        profile_around(&clock, |_| {
            calls += 1;
            if calls.is_multiple_of(every) {
                clock.advance_away(Duration::from_millis(5));
            }
        })
    }

    #[test]
    fn what_others_took_of_the_core_is_in_no_figure() {
        let profile = crowded(7);
        assert_eq!(profile.whole.median(), Micros(470.0));
        assert_eq!(profile.layer_sum(&chain()), Micros(470.0));
        assert!(profile.disturbance.set_aside > 0 && profile.is_settled(&chain()));
        assert_eq!(profile.attempts, 1);
    }

    #[test]
    fn a_profile_that_others_disturbed_throughout_is_measured_again_and_marked() {
        let profile = crowded(1);
        assert!(profile.disturbance.is_heavy() && !profile.is_settled(&chain()));
        assert_eq!(profile.attempts, ATTEMPTS);
    }

    #[test]
    fn the_first_layer_is_timed_after_others_and_alone() {
        let (clock, mut last) = (ManualClock::default(), None);
        // It takes 60 µs longer after others.
        let profile = profile_around(&clock, |layers| {
            if layers.first() == Some(&LayerId(0)) && last != Some(LayerId(0)) {
                clock.advance(Duration::from_micros(60));
            }
            last = layers.last().copied();
        });
        assert_eq!(profile.layers[0].median(), Micros(160.0));
        assert_eq!(profile.input_and_first.as_ref().map(Samples::median), Some(Micros(100.0)));
        assert!((profile.first_alone(&chain()) - 100.0 / 160.0).abs() < 1e-9);
        let unknown = LayerProfile { input_and_first: None, ..profile };
        assert_eq!(unknown.first_alone(&chain()), 1.0);
    }

    #[test]
    fn it_can_be_stopped() {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) > 5;
        assert_eq!(profile(Budget::LAYERS, &stop).unwrap_err().kind(), Kind::Interrupted);
    }
}
