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
    /// The processor time that the calling thread has used, where the system tells it. While the thread computes by itself
    /// it grows as [`Clock::now`] does; it stands still while others have the core.
    fn thread_time(&self) -> Option<Duration> {
        None
    }
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

    #[cfg(unix)]
    fn thread_time(&self) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one `timespec` through a pointer to one.
        let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        (code == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

/// A piece of work is disturbed where its thread was without a core for more than this share of it: less does not move a figure by
/// more than clocks and caches do.
const MOST_AWAY: f64 = 0.05;

/// Times a piece of work of the calling thread, and tells whether others had its core meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Lap {
    worked: Option<Duration>,
    start: Duration,
}

/// What a [`Lap`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LapTime {
    /// What the work took.
    pub span: Duration,
    /// Of it, without a core: as far as the clock tells.
    pub away: Duration,
}

impl Lap {
    /// From now on.
    pub fn start(clock: &dyn Clock) -> Self {
        // The thread's own time is read outside of the span: undisturbed, it has worked at least as long as the clock says.
        let worked = clock.thread_time();
        Self { worked, start: clock.now() }
    }

    /// Until now. On the same thread.
    pub fn end(self, clock: &dyn Clock) -> LapTime {
        let span = clock.now().saturating_sub(self.start);
        let worked = self.worked.zip(clock.thread_time()).map(|(before, after)| after.saturating_sub(before));
        LapTime { span, away: worked.map_or(Duration::ZERO, |worked| span.saturating_sub(worked)) }
    }
}

impl LapTime {
    /// Whether others had the core for a notable part of it.
    pub fn is_disturbed(self) -> bool {
        self.away > self.span.mul_f64(MOST_AWAY)
    }
}

/// A clock that says nothing of threads: for work that its caller hands to others (several threads, a GPU) and waits for.
#[derive(Clone, Debug, Default)]
pub struct WallClock(pub SystemClock);

impl Clock for WallClock {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn sleep_until(&self, moment: Duration) {
        self.0.sleep_until(moment);
    }
}

/// A clock that moves only when told to; clones share their time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
    /// Of it, without a core.
    away: Arc<AtomicU64>,
}

impl ManualClock {
    /// Moves the time on, in which the thread works.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(span.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Moves the time on, in which another has the thread's core.
    pub fn advance_away(&self, span: Duration) {
        self.away.fetch_add(span.as_nanos() as u64, Ordering::Relaxed);
        self.advance(span);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, moment: Duration) {
        self.now.fetch_max(moment.as_nanos() as u64, Ordering::Relaxed);
    }

    fn thread_time(&self) -> Option<Duration> {
        Some(self.now() - Duration::from_nanos(self.away.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_own_time_grows_with_its_work() {
        let clock = SystemClock::default();
        let before = clock.thread_time().unwrap();
        while clock.thread_time().unwrap() == before {
            std::hint::spin_loop();
        }
        assert!(clock.thread_time().unwrap() > before);
    }

    #[test]
    fn a_threads_own_time_stands_still_while_others_have_its_core() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_millis(2));
        clock.advance_away(Duration::from_millis(5));
        assert_eq!(
            (clock.now(), clock.thread_time()),
            (Duration::from_millis(7), Some(Duration::from_millis(2)))
        );
    }
}
