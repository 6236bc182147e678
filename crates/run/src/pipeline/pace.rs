//! The slow node: emulated by doing its work over and over.

use std::time::Duration;

use coprof_core::clock::{Clock, Lap, LapTime};
use coprof_core::error::{Error, Result};

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
    ///
    /// What is returned beside the result says how much of the time others had the core; the rest of it is work, whatever the
    /// thread waited at its end.
    pub fn stretch<T>(self, clock: &dyn Clock, mut work: impl FnMut() -> Result<T>) -> Result<(T, LapTime)> {
        if !self.is_emulated() {
            let lap = Lap::start(clock);
            let result = work()?;
            return Ok((result, lap.end(clock)));
        }
        let start = clock.now();
        let mut away = Duration::ZERO;
        // The first time warms the caches up, so it counts only where there is no other.
        let (mut is_cold, mut warm, mut repeated) = (true, Duration::ZERO, 0);
        loop {
            let lap = Lap::start(clock);
            let result = work()?;
            let time = lap.end(clock);
            let own = time.span - time.away;
            away += time.away;
            if !std::mem::take(&mut is_cold) {
                (warm, repeated) = (warm + own, repeated + 1);
            }
            let one = if repeated == 0 { own } else { warm / repeated };
            let end = start + one.mul_f64(self.slowdown);
            if clock.now() + one > end {
                clock.sleep_until(end);
                return Ok((result, LapTime { span: clock.now().saturating_sub(start), away }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::clock::ManualClock;

    #[test]
    fn work_takes_as_many_times_longer() {
        let clock = ManualClock::default();
        let work = || {
            clock.advance(Duration::from_millis(10));
            Ok(())
        };
        Pace::new(8.0).unwrap().stretch(&clock, work).unwrap();
        assert_eq!(clock.now(), Duration::from_millis(80));
    }

    #[test]
    fn time_that_other_threads_took_is_not_multiplied() {
        let clock = ManualClock::default();
        let work = || {
            clock.advance(Duration::from_millis(10));
            clock.advance_away(Duration::from_millis(5));
            Ok(())
        };
        Pace::new(3.5).unwrap().stretch(&clock, work).unwrap();
        assert_eq!(clock.now(), Duration::from_millis(35));
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
        Pace::new(8.0).unwrap().stretch(&clock, work).unwrap();
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
        assert!(Pace::new(8.0).unwrap().stretch(&clock, work).is_err());
        assert_eq!(times, 1);
    }

    #[test]
    fn only_slower_makes_sense() {
        for slowdown in [0.5, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pace::new(slowdown).is_err());
        }
        assert!(!Pace::new(1.0).unwrap().is_emulated());
    }
}
