//! The host's peak, measured once per host and then kept.

use super::device::Device;
use super::output::Output;
use super::stop;
use crate::clock::SystemClock;
use crate::error::Result;
use crate::measure::{HostPeak, PeakCache, PeakOptions, Watch, measure_peak};
use crate::runtime::DenseSolver;

/// The peak of this host with as many threads as `device` has: from the user's cache, or measured now.
pub fn host_peak(device: &Device, output: Output) -> Result<HostPeak> {
    let (cache, key) = (PeakCache::of_user(), device.facts.peak_key());
    if let Some(peak) = cache.as_ref().and_then(|cache| cache.get(&key)) {
        return Ok(peak);
    }
    output.say("measuring this host's peak once (a few seconds; kept in the user's cache)");
    let bar = output.progress("host peak");
    let peak = device.on_thread(|_| {
        let mut solver = DenseSolver::default();
        let mut progress = |share: f64| bar.set(share);
        let mut watch = Watch::new(&mut progress, &stop::asked);
        let options = PeakOptions::new(device.threads);
        measure_peak(&mut |n| solver.solve(n), &options, &SystemClock::default(), &mut watch)
    })?;
    if let Some(cache) = cache {
        cache.put(&key, peak.clone())?;
    }
    Ok(peak)
}

/// Puts the peak beside the host's facts in a document.
pub fn add_to(host: &mut serde_json::Value, peak: &HostPeak) {
    if let Some(facts) = host.as_object_mut() {
        facts.insert("peak_gflops".into(), peak.peak_gflops.into());
        facts.insert("copy_bytes_per_s".into(), peak.copy_bytes_per_s.into());
        facts.insert("peak_measured_unix_s".into(), peak.measured_unix_s.into());
    }
}
