//! Times of whole ranges of layers: what a node takes for a stretch of the trunk in one call.

use std::time::Duration;

use super::budget::Budget;
use super::stats::Samples;
use super::watch::Watch;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::{Cut, LayerId, Source};
use crate::runtime::Backend;

/// Passes that warm caches, allocator and threads up before any is timed.
const WARM_UP: usize = 3;

/// Times the layers between each pair of cuts in one call, as a stage of the pipeline runs them: every pass takes the
/// next of `inputs`, and brings a range's own inputs about before it is timed. `budget` counts passes and time.
pub fn profile_ranges(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    ranges: &[(Cut, Cut)],
    inputs: &[&[f32]],
    budget: Budget,
    watch: &mut Watch<'_>,
) -> Result<Vec<Samples>> {
    if inputs.is_empty() {
        return Err(Error::failed("profiling needs at least one input"));
    }
    let stretches: Vec<(&[LayerId], Vec<LayerId>)> = ranges
        .iter()
        .map(|(from, to)| {
            let own = to.layers().iter().copied().filter(|&layer| !from.contains(layer)).collect();
            (from.layers(), own)
        })
        .collect();
    let mut times = vec![Vec::new(); ranges.len()];
    let mut start = clock.now();
    for pass in 0_usize.. {
        let timed = pass.checked_sub(WARM_UP);
        if timed == Some(0) {
            start = clock.now();
        }
        let (runs, spent) = (timed.unwrap_or(0), clock.now().saturating_sub(start));
        if timed.is_some() && budget.is_met(runs, spent) && runs > 0 {
            break;
        }
        watch.step(if timed.is_some() { budget.share(runs, spent) } else { 0.0 })?;
        for ((before, own), times) in stretches.iter().zip(&mut times) {
            let time = one(backend, clock, inputs[pass % inputs.len()], before, own)?;
            if timed.is_some() {
                times.push(time.into());
            }
        }
    }
    let samples = |times| Samples::new(times).ok_or_else(|| Error::unmet("the budget allows no runs"));
    times.into_iter().map(samples).collect()
}

fn one(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    input: &[f32],
    before: &[LayerId],
    own: &[LayerId],
) -> Result<Duration> {
    backend.clear();
    backend.put(Source::Input, input)?;
    backend.run(before)?;
    let start = clock.now();
    backend.run(own)?;
    Ok(clock.now().saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::model::samples::chain;
    use crate::runtime::FakeBackend;
    use crate::units::Micros;

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
            let own = cut.layers().iter().filter(|&&layer| !from.contains(layer));
            own.map(|layer| (layer.0 + 1) as f64).sum()
        };
        for (samples, (from, to)) in found.iter().zip(&ranges) {
            assert_eq!((samples.median(), samples.raw().len()), (Micros(sum(to, from)), 5));
        }
    }
}
