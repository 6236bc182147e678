//! The slow node: emulated by doing its work over and over.

use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};

/// Makes the calling thread `slowdown` times slower than it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    slowdown: f64,
}

impl Default for Pace {
    /// As fast as the machine is.
    fn default() -> Self {
        Self { slowdown: 1.0 }
    }
}

impl Pace {
    /// `slowdown` times slower; at least 1.
    pub fn new(slowdown: f64) -> Result<Self> {
        if slowdown.is_finite() && slowdown >= 1.0 {
            return Ok(Self { slowdown });
        }
        Err(Error::usage(format!("a slowdown is a factor of at least 1, found {slowdown}")))
    }

    /// How many times slower.
    pub fn slowdown(self) -> f64 {
        self.slowdown
    }

    /// Whether anything is emulated.
    pub fn is_emulated(self) -> bool {
        self.slowdown > 1.0
    }

    /// Does `work`, which must give the same whenever it is done, again and again until `slowdown` times the processor
    /// time of one repetition has passed. A slow processor is busy with this work all that time and has its data in its
    /// caches; one that waited instead would lose them to others and be slower still, by a factor that is nobody's.
    /// Processor time, because time in which other threads (the emulated link's, say) held the core is not work.
    pub fn stretch<T>(self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        if self.is_emulated() { self.stretch_by(&SystemClock::default(), thread_time, work) } else { work() }
    }

    fn stretch_by<T>(
        self,
        clock: &dyn Clock,
        worked: impl Fn() -> Duration,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let start = clock.now();
        let mut times = Vec::new();
        loop {
            let before = worked();
            let result = work()?;
            times.push(worked().saturating_sub(before));
            // The first time warms the caches up, so it counts only where there is no other.
            let cold = usize::from(times.len() > 1);
            let warm = &mut times[cold..];
            warm.sort_unstable();
            let one = warm[warm.len() / 2];
            let end = start + one.mul_f64(self.slowdown);
            if clock.now() + one > end {
                clock.sleep_until(end);
                return Ok(result);
            }
        }
    }
}

/// The processor time that the calling thread has used.
#[cfg(unix)]
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec` through a pointer to one.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    // The clock has been there since Linux 2.6.12 and macOS 10.12; without it nothing would be slowed down.
    debug_assert_eq!(code, 0, "a thread has a processor clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time on the wall, where threads have no clock of their own.
#[cfg(not(unix))]
fn thread_time() -> Duration {
    use std::sync::LazyLock;
    static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::default);
    CLOCK.now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn work_takes_as_many_times_longer() {
        let clock = ManualClock::default();
        let work = || {
            clock.advance(Duration::from_millis(10));
            Ok(())
        };
        Pace::new(8.0).unwrap().stretch_by(&clock, || clock.now(), work).unwrap();
        assert_eq!(clock.now(), Duration::from_millis(80));
    }

    #[test]
    fn time_that_other_threads_took_is_not_multiplied() {
        let (wall, own) = (ManualClock::default(), ManualClock::default());
        let work = || {
            own.advance(Duration::from_millis(10));
            wall.advance(Duration::from_millis(15));
            Ok(())
        };
        Pace::new(3.5).unwrap().stretch_by(&wall, || own.now(), work).unwrap();
        assert_eq!(wall.now(), Duration::from_millis(35));
    }

    #[test]
    fn a_cold_first_time_does_not_count() {
        let clock = ManualClock::default();
        let mut next = 30;
        let work = || {
            clock.advance(Duration::from_millis(next));
            next = 10;
            Ok(())
        };
        Pace::new(8.0).unwrap().stretch_by(&clock, || clock.now(), work).unwrap();
        assert_eq!(clock.now(), Duration::from_millis(80));
    }

    #[test]
    fn work_that_fails_is_not_done_again() {
        let clock = ManualClock::default();
        let mut times = 0;
        let work = || -> Result<()> {
            times += 1;
            Err(Error::failed("broken"))
        };
        assert!(Pace::new(8.0).unwrap().stretch_by(&clock, || clock.now(), work).is_err());
        assert_eq!(times, 1);
    }

    #[test]
    fn a_threads_own_time_grows_with_its_work() {
        let before = thread_time();
        while thread_time() == before {
            std::hint::spin_loop();
        }
        assert!(thread_time() > before);
    }

    #[test]
    fn only_slower_makes_sense() {
        for slowdown in [0.5, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pace::new(slowdown).is_err());
        }
        assert!(!Pace::new(1.0).unwrap().is_emulated());
    }
}
