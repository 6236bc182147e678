//! Timings that know whether they were disturbed: those in which the thread was switched out are set aside.

use serde::{Deserialize, Serialize};

use super::stats::Samples;
use coprof_core::clock::{Clock, Lap};
use coprof_core::units::Micros;

/// How many timings were taken, and how many of them were set aside since another had the thread's core meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disturbance {
    /// All timings.
    pub samples: usize,
    /// Those that were set aside.
    pub set_aside: usize,
}

impl Disturbance {
    /// Of two groups of timings together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { samples: self.samples + other.samples, set_aside: self.set_aside + other.set_aside }
    }

    /// Whether most of the timings were set aside.
    pub fn is_heavy(self) -> bool {
        2 * self.set_aside > self.samples
    }
}

/// Collects the timings of one piece of work.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    kept: Vec<Micros>,
    set_aside: Vec<Micros>,
}

impl Sampler {
    /// Times `work` on the calling thread.
    pub fn time<T>(&mut self, clock: &dyn Clock, work: impl FnOnce() -> T) -> T {
        let lap = Lap::start(clock);
        let result = work();
        let time = lap.end(clock);
        let list = if time.is_disturbed() { &mut self.set_aside } else { &mut self.kept };
        list.push(time.span.into());
        result
    }

    /// How many timings count.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Starts anew.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// How many were taken and set aside.
    pub fn disturbance(&self) -> Disturbance {
        let set_aside = self.set_aside.len();
        Disturbance { samples: self.kept.len() + set_aside, set_aside }
    }

    /// The timings that count; where hardly any does, all, since a disturbed figure is better than none. `None` without any.
    pub fn finish(self) -> Option<Samples> {
        const TOO_FEW: usize = 3;
        let disturbed = self.kept.len() < TOO_FEW && !self.set_aside.is_empty();
        let raw = if disturbed { [self.kept, self.set_aside].concat() } else { self.kept };
        Samples::new(raw)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use coprof_core::clock::ManualClock;

    fn sampled(away_us: &[u64]) -> Sampler {
        let clock = ManualClock::default();
        let mut sampler = Sampler::default();
        for &away in away_us {
            sampler.time(&clock, || {
                clock.advance(Duration::from_micros(100));
                clock.advance_away(Duration::from_micros(away));
            });
        }
        sampler
    }

    #[test]
    fn what_was_disturbed_is_set_aside_and_counted() {
        let sampler = sampled(&[0, 3000, 0, 4, 50, 0]);
        assert_eq!(sampler.disturbance(), Disturbance { samples: 6, set_aside: 2 });
        let raw: Vec<f64> = sampler.finish().unwrap().raw().iter().map(|time| time.0).collect();
        assert_eq!(raw, [100.0, 100.0, 104.0, 100.0]);
    }

    #[test]
    fn where_hardly_anything_was_undisturbed_all_counts() {
        let sampler = sampled(&[3000, 0, 2000]);
        assert!(sampler.disturbance().is_heavy());
        assert_eq!(sampler.finish().unwrap().raw().len(), 3);
        assert!(Sampler::default().finish().is_none());
    }

    #[test]
    fn a_clock_that_says_nothing_of_threads_disturbs_nothing() {
        struct Wall(ManualClock);
        impl Clock for Wall {
            fn now(&self) -> Duration {
                self.0.now()
            }
            fn sleep_until(&self, moment: Duration) {
                self.0.sleep_until(moment);
            }
        }
        let clock = Wall(ManualClock::default());
        let mut sampler = Sampler::default();
        sampler.time(&clock, || clock.0.advance_away(Duration::from_micros(9)));
        assert_eq!(sampler.disturbance(), Disturbance { samples: 1, set_aside: 0 });
    }
}
