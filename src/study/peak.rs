//! The host's peak, measured once per host and then kept.

use super::Context;
use super::local_node::LocalNode;
use crate::runtime::DenseSolver;
use coprof_core::clock::SystemClock;
use coprof_core::error::Result;
use coprof_run::measure::{Exercises, HostPeak, PeakCache, PeakOptions, Watch, measure_peak, multiply_add};

/// The peak of this host with as many threads as `device` has: from the user's cache, or measured now.
pub fn host_peak(device: &LocalNode, context: &Context) -> Result<HostPeak> {
    if let Some(peak) = PeakCache::of_user().and_then(|cache| cache.get(&device.facts.peak_key())) {
        return Ok(peak);
    }
    context.say("measuring this host's peak once (a few seconds; kept in the user's cache)");
    let peak = measure(device, context)?;
    keep(&peak, device)?;
    Ok(peak)
}

/// Measures the peak once more where a layer was faster than it: somebody else may have slowed this host down at the time.
/// The higher one is kept.
pub fn not_below_layers(known: HostPeak, device: &LocalNode, context: &Context) -> Result<HostPeak> {
    context.say("a layer is above this host's peak as it is known; measuring the peak again");
    let again = measure(device, context)?;
    if again.peak_gflops <= known.peak_gflops {
        return Ok(known);
    }
    keep(&again, device)?;
    Ok(again)
}

fn measure(device: &LocalNode, context: &Context) -> Result<HostPeak> {
    let bar = context.progress("host peak");
    device.on_thread(|_| {
        let mut solver = DenseSolver::default();
        let exercises = Exercises {
            // Threads that it starts may run where this one may, as libtorch's do.
            multiply_add: &mut |time| multiply_add(device.threads, time),
            solve: &mut |n| solver.solve(n),
        };
        let mut progress = |share: f64| bar.set(share);
        let mut watch = Watch::new(&mut progress, context.stop());
        measure_peak(exercises, &PeakOptions::new(device.threads), &SystemClock::default(), &mut watch)
    })
}

fn keep(peak: &HostPeak, device: &LocalNode) -> Result<()> {
    PeakCache::of_user().map_or(Ok(()), |cache| cache.put(&device.facts.peak_key(), peak.clone()))
}
