//! The arithmetic of an emulated link: when bytes given to it arrive.

use std::time::Duration;

use coprof_core::units::BitRate;

/// How much a link may hold that it has not begun to send, in time at its rate: a router's queue.
const BACKLOG: Duration = Duration::from_millis(50);

/// An emulated link, the same in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkShape {
    /// Its rate; `None`: as fast as the machine.
    pub rate: Option<BitRate>,
    /// Propagation delay, one way.
    pub delay: Duration,
}

impl LinkShape {
    /// The bytes that the rate carries in `span`, between `least` and `most`; `most` without a rate.
    pub(super) fn bytes_in(&self, span: Duration, least: usize, most: usize) -> usize {
        self.rate.map_or(most, |rate| ((rate.0 / 8.0 * span.as_secs_f64()) as usize).clamp(least, most))
    }
}

/// One direction of an emulated link: bytes leave one after another at its rate, then travel for its delay.
#[derive(Clone, Debug)]
pub struct Shaper {
    shape: LinkShape,
    /// When the last bit given so far has left.
    free_at: Duration,
}

impl Shaper {
    /// An idle link.
    pub fn new(shape: LinkShape) -> Self {
        Self { shape, free_at: Duration::ZERO }
    }

    /// Gives `bytes` to the link at the time `now`: when they arrive at the far end.
    pub fn admit(&mut self, now: Duration, bytes: usize) -> Duration {
        let sending =
            self.shape.rate.map_or(Duration::ZERO, |rate| rate.time_for(bytes as f64).to_duration());
        self.free_at = self.free_at.max(now) + sending;
        self.free_at + self.shape.delay
    }

    /// The earliest time at which its queue has room for more.
    pub fn ready_at(&self) -> Duration {
        self.free_at.saturating_sub(BACKLOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// 1000 bytes per millisecond.
    fn shaper(delay: Duration) -> Shaper {
        Shaper::new(LinkShape { rate: Some(BitRate(8e6)), delay })
    }

    #[test]
    fn bytes_take_their_time_and_then_the_delay() {
        let mut link = shaper(5 * MS);
        assert_eq!(link.admit(10 * MS, 3000), 18 * MS);
    }

    #[test]
    fn bytes_wait_for_those_before_them_but_not_for_their_delay() {
        let mut link = shaper(5 * MS);
        assert_eq!(link.admit(MS, 2000), 8 * MS);
        assert_eq!(link.admit(2 * MS, 1000), 9 * MS);
        assert_eq!(link.admit(20 * MS, 1000), 26 * MS);
    }

    #[test]
    fn the_queue_is_full_at_fifty_milliseconds() {
        let mut link = shaper(5 * MS);
        link.admit(10 * MS, 50_000);
        assert_eq!(link.ready_at(), 10 * MS);
        link.admit(10 * MS, 7000);
        assert_eq!(link.ready_at(), 17 * MS);
    }

    #[test]
    fn splitting_a_message_changes_nothing() {
        let (mut whole, mut parts) = (shaper(MS), shaper(MS));
        let at_once = whole.admit(MS, 6000);
        assert_eq!((0..6).map(|_| parts.admit(MS, 1000)).last(), Some(at_once));
    }

    #[test]
    fn without_a_rate_only_the_delay_is_left() {
        let mut link = Shaper::new(LinkShape { rate: None, delay: 5 * MS });
        assert_eq!(link.admit(MS, 1 << 30), 6 * MS);
    }
}
