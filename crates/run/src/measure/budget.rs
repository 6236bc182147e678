//! How long to measure.

use std::time::Duration;

/// A figure has settled after `min_runs` runs and `min_time`, or after `max_runs` whatever the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// At least so many runs.
    pub min_runs: usize,
    /// At least so much time.
    pub min_time: Duration,
    /// No more runs than this: bounds the raw samples that are kept.
    pub max_runs: usize,
}

impl Budget {
    /// For layers: passes over the whole network, so every figure has as many runs as there were passes. 64 runs settle
    /// the 90th percentile.
    pub const LAYERS: Self = Self { min_runs: 10, min_time: Duration::from_millis(500), max_runs: 10_000 };

    /// For codecs. A dozen frontiers under the ladder make nearly 4,000 figures, and half a second for each would take half an
    /// hour. They only tell plans apart whose codecs take milliseconds, which these few runs settle; faster ones are small
    /// beside any stage. 2 ms for each encoding of each frontier keep the whole at some seconds.
    pub const CODECS: Self = Self { min_runs: 6, min_time: Duration::from_millis(2), max_runs: 60 };

    /// Whether `runs` that took `spent` are enough.
    pub fn is_met(&self, runs: usize, spent: Duration) -> bool {
        runs >= self.max_runs || (runs >= self.min_runs && spent >= self.min_time)
    }

    /// Whether to give up on more undisturbed runs after `runs` in all that took `spent`: on a core that others use, some figures
    /// never get them.
    pub fn is_exhausted(&self, runs: usize, spent: Duration) -> bool {
        const PATIENCE: u32 = 4;
        runs >= self.max_runs
            || (runs >= PATIENCE as usize * self.min_runs && spent >= PATIENCE * self.min_time)
    }

    /// How far along `runs` that took `spent` are, 0 to 1.
    pub fn share(&self, runs: usize, spent: Duration) -> f64 {
        let by_runs = runs as f64 / self.min_runs.max(1) as f64;
        let by_time = spent.as_secs_f64() / self.min_time.as_secs_f64().max(1e-9);
        by_runs.min(by_time).max(runs as f64 / self.max_runs.max(1) as f64).min(1.0)
    }
}
