//! Whether an earlier measurement still holds: short probes of what it found.

use super::link::LinkProfile;
use super::probe::{LinkProbe, PING_BYTES};
use super::stats::Samples;
use super::watch::Watch;
use coprof_core::error::Result;
use coprof_core::units::Micros;

/// A measurement holds as long as what it found lies within this share of what is found now.
const HOLDS: f64 = 0.1;

/// Round trips move by as much from one second to the next on any host, however fast the link is.
const TRIP_NOISE: Micros = Micros(100.0);

const PINGS: usize = 20;
/// Streams of a probe take so long, if the link is as it was.
const STREAM: Micros = Micros(40e3);
const FRAME: usize = 16 << 10;
/// No stream has more frames: a damaged file may speak of any burst.
const MOST_FRAMES: usize = 10_000;
/// Streams grow by this factor, so that a link that has become slow is found before much is sent.
const GROWTH: usize = 4;
/// A stream that takes so many times as long as expected settles it.
const MUCH_SLOWER: f64 = 2.0;
/// A bucket that takes longer to drain is not probed: measuring anew takes hardly longer.
const LONGEST_DRAIN: Micros = Micros(500e3);

/// Whether a time is what it was.
pub fn holds(was: Micros, is: Micros) -> bool {
    ((is - was) / was).abs() <= HOLDS
}

/// Whether a link still is as in `profile`, as far as half a second tells: round trips, and the rate that lasts towards the
/// peer.
pub fn link_holds(probe: &mut dyn LinkProbe, profile: &LinkProfile, watch: &mut Watch<'_>) -> Result<bool> {
    let mut trips = Vec::with_capacity(PINGS);
    probe.ping(PING_BYTES, PING_BYTES)?;
    for _ in 0..PINGS {
        watch.pass()?;
        trips.push(probe.ping(PING_BYTES, PING_BYTES)?.into());
    }
    let (was, is) = (profile.rtt_us.median, Samples::new(trips).map_or(Micros::ZERO, |trips| trips.median()));
    // A slow link's bucket lets these few pass at once, but not the many that it was measured with.
    let tiny = PING_BYTES as f64;
    let noise = TRIP_NOISE + profile.transfer.time_for(tiny) + profile.downlink_transfer.time_for(tiny);
    if !holds(was, is) && (is - was).0.abs() > noise.0 {
        return Ok(false);
    }
    let frame = profile.transfer.time_for(FRAME as f64);
    let frames = ((STREAM / frame) as usize).clamp(2, MOST_FRAMES);
    let mut to_drain = frames;
    if let Some(burst) = profile.uplink.burst {
        if profile.transfer.bits_per_second.time_for(burst.bytes as f64) > LONGEST_DRAIN {
            return Ok(false);
        }
        to_drain = to_drain.max((burst.bytes as usize / FRAME).saturating_add(2));
    }
    let mut growing = 2;
    while to_drain > 0 {
        watch.pass()?;
        let seen = probe.stream_up(FRAME, growing)?;
        if Micros::from(seen.span) > frame * (seen.frames as f64 * MUCH_SLOWER) + was + noise {
            return Ok(false);
        }
        to_drain = to_drain.saturating_sub(growing);
        growing = (growing * GROWTH).min(to_drain.clamp(2, MOST_FRAMES));
    }
    watch.pass()?;
    let (short, long) = (probe.stream_up(FRAME, frames)?, probe.stream_up(FRAME, 3 * frames)?);
    let more = long.frames.saturating_sub(short.frames).max(1) as f64;
    let time = Micros::from(long.span) - Micros::from(short.span);
    Ok(holds(frame, time * (1.0 / more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_or_less_is_the_same() {
        assert!(holds(Micros(100.0), Micros(109.0)) && holds(Micros(100.0), Micros(91.0)));
        assert!(!holds(Micros(100.0), Micros(111.0)) && !holds(Micros(100.0), Micros(50.0)));
        assert!(!holds(Micros(0.0), Micros(0.0)));
    }
}
