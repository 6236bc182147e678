//! Layer times: each layer alone, the trunk in one call, and each exit's head with its confidence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::stats::Samples;
use super::watch::Watch;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::{Graph, LayerId, Source, confidence};
use crate::runtime::Backend;
use crate::units::Micros;

/// Passes that warm caches, allocator and threads up before any is timed.
const WARM_UP: usize = 3;

/// What [`profile_layers`] measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    /// Per layer of the graph, timed alone.
    pub layers: Vec<Samples>,
    /// The whole trunk in one call, without bringing the input in or the logits out.
    pub whole: Samples,
    /// Per exit: its head in one call (none for the final exit), reading its logits, and the confidence.
    pub exits: Vec<Samples>,
}

impl LayerProfile {
    /// The sum of the trunk layers' medians: to be compared with the median of `whole`.
    pub fn layer_sum(&self, graph: &Graph) -> Micros {
        graph.trunk().into_iter().map(|id| self.layers[id.0].median()).sum()
    }
}

/// Times layers, trunk and exit heads on the calling thread. Every pass takes the next of `inputs` and times all three
/// kinds, so that whatever slows the machine down for a while slows down all that is compared. `budget` counts passes
/// and the time since the first one.
pub fn profile_layers(
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
        if budget.is_met(pass, spent) && pass > 0 {
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
    layer_times: Vec<Vec<Micros>>,
    whole_times: Vec<Micros>,
    exit_times: Vec<Vec<Micros>>,
}

impl<'a> Profiler<'a> {
    fn new(backend: &'a mut dyn Backend, clock: &'a dyn Clock) -> Self {
        let graph = backend.graph().clone();
        let exits: Vec<_> = (0..graph.exits.len())
            .map(|exit| (graph.head(crate::model::ExitId(exit)), graph.exits[exit].logits))
            .collect();
        Self {
            clock,
            all: graph.layers_and_kept(),
            trunk: graph.trunk(),
            behind_trunk: graph.read_by(exits.iter().flat_map(|(head, _)| head.iter().copied())).collect(),
            logits: Vec::new(),
            layer_times: vec![Vec::new(); graph.layers.len()],
            whole_times: Vec::new(),
            exit_times: vec![Vec::new(); exits.len()],
            exits,
            backend,
        }
    }

    fn since(&self, start: Duration) -> Micros {
        self.clock.now().saturating_sub(start).into()
    }

    fn pass(&mut self, input: &[f32]) -> Result<()> {
        self.begin(input)?;
        for at in 0..self.all.len() {
            let (id, kept) = &self.all[at];
            let start = self.clock.now();
            self.backend.run_keeping(&[*id], kept)?;
            let time = self.since(start);
            self.layer_times[at].push(time);
        }
        self.begin(input)?;
        let start = self.clock.now();
        self.backend.run_keeping(&self.trunk, &self.behind_trunk)?;
        let time = self.since(start);
        self.whole_times.push(time);
        for exit in 0..self.exits.len() {
            let start = self.clock.now();
            let (head, logits) = &self.exits[exit];
            self.backend.run(head)?;
            self.backend.get(Source::Layer(*logits), &mut self.logits)?;
            std::hint::black_box(confidence(&self.logits));
            let time = self.since(start);
            self.exit_times[exit].push(time);
        }
        Ok(())
    }

    fn begin(&mut self, input: &[f32]) -> Result<()> {
        self.backend.clear();
        self.backend.put(Source::Input, input)
    }

    fn forget(&mut self) {
        self.layer_times.iter_mut().chain(&mut self.exit_times).for_each(Vec::clear);
        self.whole_times.clear();
    }

    fn finish(self) -> Result<LayerProfile> {
        let samples = |times: Vec<Micros>| {
            Samples::new(times).ok_or_else(|| Error::unmet("nothing was measured: the budget allows no runs"))
        };
        Ok(LayerProfile {
            layers: self.layer_times.into_iter().map(samples).collect::<Result<_>>()?,
            whole: samples(self.whole_times)?,
            exits: self.exit_times.into_iter().map(samples).collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::ManualClock;
    use crate::error::Kind;
    use crate::model::samples::chain;
    use crate::runtime::FakeBackend;

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
        // A pass takes 477 + 470 + 7 µs.
        let by_time = Budget { min_runs: 10, min_time: Duration::from_micros(954 * 25), max_runs: 100 };
        assert_eq!(profile(by_time, &|| false).unwrap().whole.raw().len(), 25);
        let by_count = Budget { max_runs: 12, ..by_time };
        assert_eq!(profile(by_count, &|| false).unwrap().whole.raw().len(), 12);
    }

    #[test]
    fn it_can_be_stopped() {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) > 5;
        assert_eq!(profile(Budget::LAYERS, &stop).unwrap_err().kind(), Kind::Interrupted);
    }
}
