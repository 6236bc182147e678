//! What a lone message takes from end to end after a pause, by size: not what it occupies the link in a stream. A token bucket
//! fills up in the pause and lets the message through at once; a radio goes to sleep, and TCP forgets its window.

use std::time::Duration;

use super::probe::LinkProbe;
use super::stats::Samples;
use super::transfer::Transfer;
use super::watch::Watch;
use coprof_core::clock::Clock;
use coprof_core::error::Result;
use coprof_core::plan::LoneMessage;
use coprof_core::units::Micros;

/// Payloads, by rising size: as small as answers up to as large as frontiers of small networks.
const SIZES: [usize; 9] = [64, 512, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 24 << 10, 32 << 10, 64 << 10];
/// Round trips of each size at most.
const MOST_RUNS: usize = 15;
/// A pause is at least so long, so that threads on both sides go to sleep as they do between tasks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Measures lone messages towards the peer within about `time`. Before each comes a pause as long as the message occupies the
/// link in a stream: no plan that sends such messages has a shorter interval. A message takes so much longer than a tiny one as
/// its round trip does, answered alike; `tiny` is the payload and the time of such a tiny one's round trip on the idle link.
pub(super) fn lone_messages(
    probe: &mut dyn LinkProbe,
    transfer: &Transfer,
    (tiny, idle_trip): (usize, Micros),
    time: Duration,
    clock: &dyn Clock,
    watch: &mut Watch<'_>,
) -> Result<Vec<LoneMessage>> {
    let start = clock.now();
    let cost = |size: usize| 2 * pause_before(transfer, size) + idle_trip.to_duration();
    // Every size once fits well in.
    let sizes: Vec<usize> = SIZES.into_iter().filter(|&size| cost(size) <= time / 5).collect();
    let mut trips: Vec<Vec<Micros>> = vec![Vec::new(); sizes.len()];
    let mut before = sizes.last().copied().unwrap_or(tiny);
    for round in 0..MOST_RUNS {
        for (&size, trips) in sizes.iter().zip(&mut trips) {
            let spent = clock.now().saturating_sub(start);
            if round > 0 && spent + cost(size) > time {
                continue;
            }
            watch.pass()?;
            // What the message before took out of a bucket must have come in again, too.
            let pause = pause_before(transfer, size).max(pause_before(transfer, before));
            clock.sleep_until(clock.now() + pause);
            trips.push(probe.ping(size, tiny)?.into());
            before = size;
        }
    }
    let own = transfer.time_for(tiny as f64);
    let mut least = Micros::ZERO;
    let message = |(size, trips): (usize, Vec<Micros>)| {
        let trip = Samples::new(trips)?.median();
        // Where noise lets a larger message be faster than a smaller one, it is not.
        least = least.max(trip - idle_trip + own);
        Some(LoneMessage { bytes: size as f64, time_us: least })
    };
    Ok(sizes.into_iter().zip(trips).filter_map(message).collect())
}

fn pause_before(transfer: &Transfer, size: usize) -> Duration {
    transfer.time_for(size as f64).to_duration().max(SHORTEST_PAUSE)
}
