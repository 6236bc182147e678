//! Where the time comes from, so that tests can bring their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A monotonic clock. Only differences between its readings mean anything.
pub trait Clock: Send + Sync {
    /// The time since some fixed moment.
    fn now(&self) -> Duration;
    /// Returns no earlier than `moment`.
    fn sleep_until(&self, moment: Duration);
}

/// The machine's monotonic clock.
#[derive(Clone, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, moment: Duration) {
        // A sleeping thread wakes some 50 µs late, so the last stretch is spun.
        const SPIN: Duration = Duration::from_micros(80);
        loop {
            let left = moment.saturating_sub(self.now());
            if left.is_zero() {
                return;
            } else if left > SPIN {
                std::thread::sleep(left - SPIN);
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// A clock that moves only when told to; clones share their time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the time on.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(span.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, moment: Duration) {
        self.0.fetch_max(moment.as_nanos() as u64, Ordering::Relaxed);
    }
}
