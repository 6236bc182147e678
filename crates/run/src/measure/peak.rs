//! The host's peak: arithmetic by multiply-adds in registers, beside it a LINPACK-style dense solve, and memory by a copy
//! loop. A layer's speed reads as a share of the first, which no layer beats.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fma::Operations;
use super::stats::Samples;
use super::watch::Watch;
use crate::data::{user_cache, write_whole};
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Result};
use coprof_core::units::Micros;

/// How to measure the peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakOptions {
    /// Threads of the copy loop; multiply-adds and the solve have their own.
    pub threads: usize,
    /// The system grows until one solve takes this long.
    pub solve_time: Duration,
    /// Solves, copies and series of bursts that are timed, in turns.
    pub rounds: usize,
    /// Bursts of multiply-adds in a round: some of them are disturbed by nobody …
    pub bursts: usize,
    /// … if they are short.
    pub burst_time: Duration,
    /// Size of each of the two buffers, beyond any cache.
    pub copy_bytes: usize,
}

impl PeakOptions {
    /// A few seconds on `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            solve_time: Duration::from_millis(300),
            rounds: 3,
            bursts: 100,
            burst_time: Duration::from_millis(2),
            copy_bytes: beyond_caches(),
        }
    }
}

/// What the host can do at best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostPeak {
    /// Billions of floating-point operations per second in the best burst of multiply-adds.
    pub peak_gflops: f64,
    /// The same in the best of the solves.
    pub solve_gflops: f64,
    /// The number of unknowns that were solved for.
    pub solve_unknowns: usize,
    /// Bytes read plus bytes written per second by the median copy.
    pub copy_bytes_per_s: f64,
    /// When it was measured, in seconds since 1970.
    pub measured_unix_s: u64,
    /// Every burst of multiply-adds.
    pub bursts_gflops: Vec<f64>,
    /// Every timed solve.
    pub solve_us: Samples,
    /// Every timed copy.
    pub copy_us: Samples,
}

/// Twice the largest cache that the host shows, within 64 MiB and 512 MiB.
fn beyond_caches() -> usize {
    let size = |index: usize| {
        let text =
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok().map(|kib| kib << 10)
    };
    let largest = (0..5).filter_map(size).max().unwrap_or(0);
    (2 * largest).clamp(64 << 20, 512 << 20)
}

/// The operations of solving `n` equations by LU decomposition: 2/3 n³ + 2 n² (Dongarra, Luszczek and Petitet, "The
/// LINPACK Benchmark: past, present and future", 2003).
fn solve_flops(n: usize) -> f64 {
    let n = n as f64;
    2.0 / 3.0 * n.powi(3) + 2.0 * n.powi(2)
}

/// What the host does while it is timed.
pub struct Exercises<'a> {
    /// Multiplies and adds in registers for about this long, on all threads.
    pub multiply_add: &'a mut dyn FnMut(Duration) -> Operations,
    /// Solves a dense single-precision system of so many unknowns. Each number is first solved once without being counted,
    /// so the first call may also make the system.
    pub solve: &'a mut dyn FnMut(usize) -> Result<()>,
}

/// Measures the peak.
pub fn measure_peak(
    exercises: Exercises<'_>,
    options: &PeakOptions,
    clock: &dyn Clock,
    watch: &mut Watch<'_>,
) -> Result<HostPeak> {
    let Exercises { multiply_add, solve } = exercises;
    let mut timed = |n: usize| -> Result<Duration> {
        let start = clock.now();
        solve(n)?;
        Ok(clock.now().saturating_sub(start))
    };
    let mut n = 256;
    watch.step(0.0)?;
    // 16,384 unknowns take a GiB: a host that is faster still shows its speed there.
    while timed(n)? < options.solve_time && n < 16_384 {
        n += n / 2;
        watch.step(0.1)?;
    }
    let source = vec![1u8; options.copy_bytes];
    let mut target = vec![2u8; options.copy_bytes];
    let (mut bursts_gflops, mut solves, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds.max(1) {
        watch.step(0.3 + 0.7 * round as f64 / options.rounds as f64)?;
        bursts_gflops.extend((0..options.bursts.max(1)).map(|_| gflops(multiply_add(options.burst_time))));
        solves.push(timed(n)?.into());
        let start = clock.now();
        copy(&source, &mut target, options.threads);
        copies.push(clock.now().saturating_sub(start).into());
    }
    std::hint::black_box(&target);
    let none = || Error::unmet("the host's peak could not be measured");
    let (solve_us, copy_us) =
        (Samples::new(solves).ok_or_else(none)?, Samples::new(copies).ok_or_else(none)?);
    Ok(HostPeak {
        peak_gflops: bursts_gflops.iter().copied().fold(0.0, f64::max),
        solve_gflops: solve_flops(n) / at_least_a_ns(solve_us.min()) / 1e3,
        solve_unknowns: n,
        copy_bytes_per_s: 2e6 * options.copy_bytes as f64 / at_least_a_ns(copy_us.median()),
        measured_unix_s: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        bursts_gflops,
        solve_us,
        copy_us,
    })
}

fn gflops(burst: Operations) -> f64 {
    burst.operations / at_least_a_ns(burst.time.into()) / 1e3
}

/// In µs: keeps a clock without resolution from making the peak infinite, which no JSON number can be.
fn at_least_a_ns(time: Micros) -> f64 {
    time.0.max(1e-3)
}

/// Copies on `threads` threads, each its own part.
fn copy(source: &[u8], target: &mut [u8], threads: usize) {
    let part = source.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        for (from, to) in source.chunks(part).zip(target.chunks_mut(part)) {
            scope.spawn(|| to.copy_from_slice(from));
        }
    });
}

/// The peaks that this user has measured, in a file of the user's cache: `host.json`.
#[derive(Clone, Debug)]
pub struct PeakCache {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    schema: String,
    peaks: BTreeMap<String, HostPeak>,
}

const SCHEMA: &str = "coprof.host/2";

impl PeakCache {
    /// In this file.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// In the user's cache; `None` where there is no home.
    pub fn of_user() -> Option<Self> {
        Some(Self::at(user_cache()?.join("host.json")))
    }

    /// The peak that was kept under `key` ([`HostFacts::peak_key`](super::HostFacts::peak_key)).
    pub fn get(&self, key: &str) -> Option<HostPeak> {
        self.read().peaks.remove(key)
    }

    /// Keeps a peak beside those of other keys.
    pub fn put(&self, key: &str, peak: HostPeak) -> Result<()> {
        let mut document = self.read();
        document.peaks.insert(key.into(), peak);
        let json = serde_json::to_vec_pretty(&document).map_err(|error| Error::failed(error.to_string()))?;
        write_whole(&self.path, &json)
    }

    /// A missing, damaged or foreign file holds nothing: its contents can be measured again.
    fn read(&self) -> Document {
        let document =
            fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok());
        document
            .filter(|document| document.schema == SCHEMA)
            .unwrap_or_else(|| Document { schema: SCHEMA.into(), peaks: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::clock::ManualClock;

    /// Measures a host that solves with 10 GFLOP/s, with the sizes that it was asked to solve. It multiplies and adds with 20
    /// GFLOP/s, and once, when nobody disturbs it, with 40.
    fn measure() -> (HostPeak, Vec<usize>) {
        let clock = ManualClock::default();
        let mut asked = Vec::new();
        let mut bursts = 0;
        let mut multiply_add = |time: Duration| {
            bursts += 1;
            let gflops = if bursts == 2 { 40.0 } else { 20.0 };
            Operations { operations: gflops * 1e9 * time.as_secs_f64(), time }
        };
        let mut solve = |n: usize| {
            asked.push(n);
            clock.advance(Micros(solve_flops(n) / 10e3).to_duration());
            Ok(())
        };
        let options = PeakOptions { copy_bytes: 1 << 10, threads: 3, bursts: 2, ..PeakOptions::new(1) };
        let exercises = Exercises { multiply_add: &mut multiply_add, solve: &mut solve };
        let peak =
            measure_peak(exercises, &options, &clock, &mut Watch::new(&mut |_| (), &|| false)).unwrap();
        (peak, asked)
    }

    #[test]
    fn the_system_grows_until_a_solve_is_long_enough() {
        let (peak, asked) = measure();
        assert!((peak.solve_gflops - 10.0).abs() < 1e-3, "{}", peak.solve_gflops);
        assert!(peak.solve_us.min().0 >= 300e3 && peak.solve_us.min().0 < 300e3 * 3.5);
        assert_eq!(asked[asked.len() - 4..], [peak.solve_unknowns; 4]);
    }

    #[test]
    fn the_peak_is_the_best_burst_of_multiply_adds() {
        let (peak, _) = measure();
        assert!((peak.peak_gflops - 40.0).abs() < 1e-6, "{}", peak.peak_gflops);
        assert_eq!(peak.bursts_gflops.len(), 6);
    }

    #[test]
    fn every_byte_is_copied_on_any_number_of_threads() {
        let source: Vec<u8> = (0..1001).map(|i| i as u8).collect();
        for threads in [0, 1, 3, 2000] {
            let mut target = vec![0; source.len()];
            copy(&source, &mut target, threads);
            assert_eq!(target, source);
        }
    }

    #[test]
    fn the_cache_keeps_peaks_apart_and_survives_damage() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PeakCache::at(dir.path().join("coprof/host.json"));
        assert_eq!(cache.get("a"), None);
        let (peak, _) = measure();
        cache.put("a", peak.clone()).unwrap();
        cache.put("b", HostPeak { peak_gflops: 2.0, ..peak.clone() }).unwrap();
        assert_eq!((cache.get("a"), cache.get("c")), (Some(peak.clone()), None));
        let older = fs::read_to_string(&cache.path).unwrap().replace(SCHEMA, "coprof.host/1");
        for unknown in ["{\"schema\":", &older] {
            fs::write(&cache.path, unknown).unwrap();
            assert_eq!(cache.get("a"), None);
        }
        cache.put("a", peak.clone()).unwrap();
        assert_eq!(cache.get("a"), Some(peak));
    }
}
