//! Link measurement: round trips idle and loaded, bandwidth both ways, and the time-against-size line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lone::lone_messages;
use super::probe::{LinkProbe, PING_BYTES, Stream};
use super::stats::{Samples, enough_samples};
use super::transfer::{Direction, DirectionProbe, MAX_FRAMES, MAX_STREAM_BYTES, Transfer};
use super::watch::Watch;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Result};
use coprof_core::plan::LoneMessage;
use coprof_core::units::Micros;

/// More pings tell nothing more; the 99th percentile needs 662.
const MAX_PINGS: usize = 1_000;
/// How the time is shared out: the rest, 0.08, is left for answers that are under way when a phase ends.
const IDLE_SHARE: f64 = 0.1;
const UP_SHARE: f64 = 0.3;
const LONE_SHARE: f64 = 0.22;
const DOWN_SHARE: f64 = 0.2;
const LOADED_SHARE: f64 = 0.05;

/// How to measure a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// The whole measurement ends within this time, on links from 0.05 Mbit/s to 10 Gbit/s.
    pub time: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { time: Duration::from_secs(5) }
    }
}

/// Round trips of tiny frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// The shortest.
    pub min: Micros,
    /// `sorted[floor(n * 0.5)]`.
    pub median: Micros,
    /// `sorted[floor(n * 0.99)]`.
    pub p99: Micros,
    /// Whether there were enough samples for `p99` to mean something.
    pub p99_settled: bool,
    /// Every round trip.
    pub samples: Samples,
}

impl RoundTrips {
    fn new(samples: Vec<Micros>) -> Result<Self> {
        let samples = Samples::new(samples).ok_or_else(|| Error::unmet("no round trip could be measured"))?;
        Ok(Self {
            min: samples.min(),
            median: samples.median(),
            p99: samples.percentile(0.99),
            p99_settled: enough_samples(0.99, samples.raw().len()),
            samples,
        })
    }
}

/// What a link is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkProfile {
    /// Towards the peer.
    pub uplink: Direction,
    /// From the peer.
    pub downlink: Direction,
    /// Round trips on the idle link.
    pub rtt_us: RoundTrips,
    /// Round trips while another connection streams, first up, then down; absent where there was no second connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_loaded_us: Option<RoundTrips>,
    /// Time against size towards the peer: what the planner uses.
    pub transfer: Transfer,
    /// Time against size from the peer.
    pub downlink_transfer: Transfer,
    /// Lone messages towards the peer, by rising size: from end to end after a pause, without the propagation delay.
    #[serde(default)]
    pub lone: Vec<LoneMessage>,
}

impl LinkProfile {
    /// The one-way delay: half of what a median idle round trip takes beyond its two messages' own time.
    pub fn one_way_delay(&self) -> Micros {
        let messages =
            self.transfer.time_for(PING_BYTES as f64) + self.downlink_transfer.time_for(PING_BYTES as f64);
        ((self.rtt_us.median - messages) * 0.5).max(Micros::ZERO)
    }
}

/// Measures a link: idle round trips, then each direction, then, with a second connection, round trips under load.
pub fn measure_link(
    probe: &mut dyn LinkProbe,
    loaded: Option<&mut (dyn LinkProbe + Send)>,
    options: &LinkOptions,
    clock: &dyn Clock,
    watch: &mut Watch<'_>,
) -> Result<LinkProfile> {
    let time = options.time;
    let idle = idle_round_trips(probe, time.mul_f64(IDLE_SHARE), clock, watch)?;
    let rtt = idle.median.to_duration();
    let direction =
        |stream: &mut dyn FnMut(usize, usize) -> Result<Stream>, watch: &mut Watch<'_>, done, share| {
            DirectionProbe { stream, rtt, clock, watch, progress: (done, done + share) }
                .measure(time.mul_f64(share))
        };
    let up = direction(&mut |bytes, frames| probe.stream_up(bytes, frames), watch, IDLE_SHARE, UP_SHARE)?;
    watch.step(IDLE_SHARE + UP_SHARE)?;
    let tiny = (PING_BYTES, idle.median);
    let lone = lone_messages(probe, &up.1, tiny, time.mul_f64(LONE_SHARE), clock, watch)?;
    let done = IDLE_SHARE + UP_SHARE + LONE_SHARE;
    let down = direction(&mut |bytes, frames| probe.stream_down(bytes, frames), watch, done, DOWN_SHARE)?;
    let rtt_loaded_us = match loaded {
        Some(second) => {
            watch.step(done + DOWN_SHARE)?;
            let each = time.mul_f64(LOADED_SHARE);
            // It may connect only now, which would take long under load.
            second.ping(PING_BYTES, PING_BYTES)?;
            let mut samples = under_load(second, &mut || fill(&up.0, each, |n, b| probe.stream_up(n, b)))?;
            samples.extend(under_load(second, &mut || fill(&down.0, each, |n, b| probe.stream_down(n, b)))?);
            Some(RoundTrips::new(samples)?)
        }
        None => None,
    };
    watch.step(1.0)?;
    Ok(LinkProfile {
        uplink: up.0,
        downlink: down.0,
        rtt_us: idle,
        rtt_loaded_us,
        transfer: up.1,
        downlink_transfer: down.1,
        lone,
    })
}

/// Pings until `time` is over; on slow links somewhat longer, for ten pings or at least three.
fn idle_round_trips(
    probe: &mut dyn LinkProbe,
    time: Duration,
    clock: &dyn Clock,
    watch: &mut Watch<'_>,
) -> Result<RoundTrips> {
    probe.ping(PING_BYTES, PING_BYTES)?;
    let start = clock.now();
    let mut samples = Vec::new();
    while samples.len() < MAX_PINGS {
        let spent = clock.now().saturating_sub(start);
        let wanted = if spent < time {
            MAX_PINGS
        } else if spent < time.mul_f64(1.5) {
            10
        } else {
            3
        };
        if samples.len() >= wanted {
            break;
        }
        watch.step(IDLE_SHARE * spent.div_duration_f64(time).min(samples.len() as f64 / MAX_PINGS as f64))?;
        samples.push(probe.ping(PING_BYTES, PING_BYTES)?.into());
    }
    RoundTrips::new(samples)
}

/// Streams the direction's largest frames for about `time`.
fn fill(
    direction: &Direction,
    time: Duration,
    mut stream: impl FnMut(usize, usize) -> Result<Stream>,
) -> Result<()> {
    let frame = direction.largest_frame();
    let most = MAX_FRAMES.min((MAX_STREAM_BYTES / frame.frame_bytes) as f64);
    let frames = (Micros::from(time) / frame.time_us).ceil().clamp(2.0, most);
    stream(frame.frame_bytes, frames as usize).map(drop)
}

/// Pings on `second` while `stream` runs on this thread.
fn under_load(
    second: &mut (dyn LinkProbe + Send),
    stream: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Micros>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut samples = vec![second.ping(PING_BYTES, PING_BYTES)?.into()];
            while !done.load(Ordering::Relaxed) && samples.len() < MAX_PINGS {
                samples.push(second.ping(PING_BYTES, PING_BYTES)?.into());
            }
            Ok(samples)
        });
        let streamed = stream();
        done.store(true, Ordering::Relaxed);
        let samples =
            pings.join().unwrap_or_else(|_| Err(Error::failed("the thread that measures round trips died")));
        streamed.and(samples)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::super::check::link_holds;
    use super::*;
    use coprof_core::clock::ManualClock;

    /// A link of known figures on a clock that moves by what each call takes. A token bucket of `burst` bytes, filled at
    /// the link's rate, lets its contents pass at once.
    #[derive(Clone)]
    struct FakeLink {
        clock: ManualClock,
        overhead: f64,
        bits_per_second: f64,
        delay: f64,
        burst: f64,
        tokens: f64,
        seen: Duration,
    }

    impl FakeLink {
        fn new(overhead: f64, bits_per_second: f64, delay: f64, burst: f64) -> Self {
            let clock = ManualClock::default();
            Self { clock, overhead, bits_per_second, delay, burst, tokens: burst, seen: Duration::ZERO }
        }

        fn rate(&self) -> f64 {
            self.bits_per_second / 8e6
        }

        /// The time that `frames` frames occupy the link.
        fn occupy(&mut self, frame_bytes: usize, frames: usize) -> f64 {
            let idle = Micros::from(self.clock.now() - self.seen).0;
            self.tokens = (self.tokens + idle * self.rate()).min(self.burst);
            let bytes = (frame_bytes * frames) as f64;
            let free = self.tokens.min(bytes);
            self.tokens -= free;
            frames as f64 * self.overhead + (bytes - free) / self.rate()
        }

        fn pass(&mut self, occupied: f64, delays: f64) {
            self.clock.advance(Micros(occupied + delays * self.delay).to_duration());
            self.seen = self.clock.now();
        }

        fn stream(&mut self, frame_bytes: usize, frames: usize) -> Stream {
            let span = self.occupy(frame_bytes, frames);
            self.pass(span, 2.0);
            Stream {
                bytes: (frame_bytes * frames) as u64,
                frames: frames as u64,
                span: Micros(span).to_duration(),
            }
        }
    }

    impl LinkProbe for FakeLink {
        fn ping(&mut self, send: usize, reply: usize) -> Result<Duration> {
            let occupied = self.occupy(send, 1) + self.occupy(reply, 1);
            self.pass(occupied, 2.0);
            Ok(Micros(occupied + 2.0 * self.delay).to_duration())
        }
        fn stream_up(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
            Ok(self.stream(frame_bytes, frames))
        }
        fn stream_down(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
            Ok(self.stream(frame_bytes, frames))
        }
    }

    fn measure(link: &mut FakeLink) -> (LinkProfile, Duration) {
        let clock = link.clock.clone();
        let profile = measure_link(
            link,
            None,
            &LinkOptions::default(),
            &clock,
            &mut Watch::new(&mut |_| (), &|| false),
        )
        .unwrap();
        (profile, clock.now())
    }

    proptest! {
        #[test]
        fn known_links_are_recovered_in_time(
            log_rate in 4.7..10.0f64, overhead in 0.5..500.0f64, delay in 0.0..40_000.0f64,
        ) {
            let bits_per_second = 10f64.powf(log_rate);
            let (profile, spent) = measure(&mut FakeLink::new(overhead, bits_per_second, delay, 0.0));
            for (direction, transfer) in [(&profile.uplink, profile.transfer), (&profile.downlink, profile.downlink_transfer)] {
                prop_assert!((transfer.bits_per_second.0 / bits_per_second - 1.0).abs() < 0.01, "{transfer:?}");
                prop_assert!((transfer.overhead_us.0 - overhead).abs() < 0.01 * overhead + 0.05, "{transfer:?}");
                let frame = direction.largest_frame().frame_bytes as f64;
                let goodput = 8e6 * frame / (overhead + 8e6 * frame / bits_per_second);
                prop_assert!((direction.bits_per_second.0 / goodput - 1.0).abs() < 0.01, "{}", direction.bits_per_second);
            }
            prop_assert!((profile.one_way_delay().0 - delay).abs() < 0.01 * delay + 1.0, "{:?}", profile.one_way_delay());
            prop_assert!(spent <= Duration::from_secs(5), "{spent:?}");
        }
    }

    #[test]
    fn the_burst_of_a_token_bucket_does_not_spoil_the_rate() {
        for (rate, burst) in [(2e6, 4e3), (50e6, 32e3), (50e6, 256e3), (1e9, 1e6)] {
            let (profile, spent) = measure(&mut FakeLink::new(20.0, rate, 2_000.0, burst));
            let error = profile.transfer.bits_per_second.0 / rate - 1.0;
            assert!(error.abs() < 0.02, "{rate} with {burst}: {error}");
            let frame = profile.uplink.largest_frame();
            let expected = 20.0 + 8e6 * frame.frame_bytes as f64 / rate;
            assert!((frame.time_us.0 / expected - 1.0).abs() < 0.02, "{rate} with {burst}: {frame:?}");
            assert!(spent <= Duration::from_secs(5), "{spent:?}");
        }
    }

    #[test]
    fn a_lone_message_finds_the_bucket_filled_up() {
        for (rate, burst) in [(20e6, 0.0), (50e6, 32e3), (50e6, 256e3)] {
            let (profile, _) = measure(&mut FakeLink::new(20.0, rate, 2_000.0, burst));
            assert_eq!(profile.lone.len(), 9, "{rate} with {burst}");
            for message in profile.lone {
                let expected = 20.0 + 8e6 * (message.bytes - burst).max(0.0) / rate;
                let error = message.time_us.0 - expected;
                assert!(error.abs() < 0.01 * expected + 5.0, "{rate} with {burst}: {message:?}");
            }
            let found = profile.uplink.burst.map(|found| found.bytes as f64 / burst);
            assert_eq!(found.is_some(), burst > 0.0, "{rate} with {burst}");
            assert!(found.is_none_or(|share| (0.5..2.0).contains(&share)), "{rate} with {burst}: {found:?}");
        }
    }

    #[test]
    fn a_probe_tells_whether_a_link_is_as_it_was() {
        for burst in [0.0, 32e3] {
            let (profile, _) = measure(&mut FakeLink::new(20.0, 20e6, 2_000.0, burst));
            let holds = |rate, delay| {
                let mut ignore = |_| ();
                let mut watch = Watch::new(&mut ignore, &|| false);
                link_holds(&mut FakeLink::new(20.0, rate, delay, burst), &profile, &mut watch).unwrap()
            };
            assert!(holds(20e6, 2_000.0) && holds(21e6, 2_040.0), "{burst}");
            assert!(!holds(16e6, 2_000.0) && !holds(25e6, 2_000.0), "{burst}: another rate");
            assert!(!holds(20e6, 3_000.0) && !holds(20e6, 1_000.0), "{burst}: another delay");
        }
    }

    #[test]
    fn a_probe_of_a_link_that_has_become_slow_is_short() {
        for burst in [0.0, 16e3] {
            let (profile, _) = measure(&mut FakeLink::new(5.0, 10e9, 50.0, 0.0));
            let mut slow = FakeLink::new(5.0, 2e6, 50.0, burst);
            let clock = slow.clock.clone();
            let mut ignore = |_| ();
            let mut watch = Watch::new(&mut ignore, &|| false);
            assert!(!link_holds(&mut slow, &profile, &mut watch).unwrap(), "{burst}");
            assert!(clock.now() < Duration::from_secs(1), "{burst}: {:?}", clock.now());
        }
    }

    #[test]
    fn a_link_that_is_as_it_was_holds_behind_a_bucket() {
        for bits_per_second in [1e6, 2e6, 10e6, 50e6, 200e6] {
            for burst in [0.0, 16e3, 64e3] {
                let mut link = FakeLink::new(20.0, bits_per_second, 50.0, burst);
                let (profile, start) = measure(&mut link);
                link.clock.advance(Duration::from_secs(1));
                let mut ignore = |_| ();
                let mut watch = Watch::new(&mut ignore, &|| false);
                assert!(link_holds(&mut link, &profile, &mut watch).unwrap(), "{bits_per_second}, {burst}");
                let took = link.clock.now() - start - Duration::from_secs(1);
                assert!(took < Duration::from_millis(1500), "{bits_per_second}, {burst}: {took:?}");
                link.bits_per_second *= 1.2;
                assert!(!link_holds(&mut link, &profile, &mut watch).unwrap(), "{bits_per_second}, {burst}");
            }
        }
    }

    #[test]
    fn round_trips_under_load_come_from_the_second_connection() {
        let mut first = FakeLink::new(10.0, 1e8, 100.0, 0.0);
        let mut second = FakeLink::new(10.0, 1e8, 700.0, 0.0);
        let clock = first.clock.clone();
        let options = LinkOptions::default();
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        let profile = measure_link(&mut first, Some(&mut second), &options, &clock, &mut watch).unwrap();
        let loaded = profile.rtt_loaded_us.unwrap();
        assert!(loaded.median.0 > 1400.0 && profile.rtt_us.median.0 < 300.0, "{loaded:?}");
    }

    /// Notes what it is asked for: its own letter for a round trip, `s` for a stream.
    struct Noted<'a>(FakeLink, char, &'a Mutex<String>);

    impl LinkProbe for Noted<'_> {
        fn ping(&mut self, send: usize, reply: usize) -> Result<Duration> {
            self.2.lock().unwrap().push(self.1);
            self.0.ping(send, reply)
        }
        fn stream_up(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
            self.2.lock().unwrap().push('s');
            self.0.stream_up(frame_bytes, frames)
        }
        fn stream_down(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
            self.2.lock().unwrap().push('s');
            self.0.stream_down(frame_bytes, frames)
        }
    }

    #[test]
    fn the_second_connection_answers_first_right_before_the_load() {
        let (link, asked) = (FakeLink::new(10.0, 1e8, 100.0, 0.0), Mutex::default());
        let (mut first, mut second) = (Noted(link.clone(), '1', &asked), Noted(link.clone(), '2', &asked));
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        let options = LinkOptions::default();
        measure_link(&mut first, Some(&mut second), &options, &link.clock, &mut watch).unwrap();
        let asked = asked.into_inner().unwrap();
        let (_, then) = asked.split_once('2').unwrap();
        assert_eq!(then.replace('2', ""), "ss", "one stream each way");
    }

    /// Takes what an edge takes.
    struct Strict(FakeLink);

    fn check(frame_bytes: usize, frames: usize) {
        assert!(frames >= 2 && frames * (frame_bytes + 5) <= 1 << 30, "{frames} of {frame_bytes}");
    }

    impl LinkProbe for Strict {
        fn ping(&mut self, send: usize, reply: usize) -> Result<Duration> {
            self.0.ping(send, reply)
        }
        fn stream_up(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
            check(frame_bytes, frames);
            self.0.stream_up(frame_bytes, frames)
        }
        fn stream_down(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
            check(frame_bytes, frames);
            self.0.stream_down(frame_bytes, frames)
        }
    }

    #[test]
    fn no_stream_is_longer_or_shorter_than_an_edge_takes() {
        for rate in [5e4, 1e8, 4e10, 1e12] {
            let (mut first, second) =
                (Strict(FakeLink::new(0.1, rate, 10.0, 0.0)), FakeLink::new(0.1, rate, 10.0, 0.0));
            let clock = first.0.clock.clone();
            let mut ignore = |_| ();
            let mut watch = Watch::new(&mut ignore, &|| false);
            for time in [5, 600] {
                let options = LinkOptions { time: Duration::from_secs(time) };
                measure_link(&mut first, Some(&mut second.clone()), &options, &clock, &mut watch).unwrap();
            }
        }
    }

    #[test]
    fn the_profile_has_the_documented_keys_and_reads_back() {
        let (profile, _) = measure(&mut FakeLink::new(20.0, 1e7, 2_000.0, 0.0));
        let json = serde_json::to_value(&profile).unwrap();
        for key in [
            "/uplink/bits_per_second",
            "/downlink/bits_per_second",
            "/rtt_us/min",
            "/rtt_us/median",
            "/rtt_us/p99",
        ] {
            assert!(json.pointer(key).is_some_and(serde_json::Value::is_number), "{key}");
        }
        assert!(
            json.pointer("/transfer/overhead_us").is_some()
                && json.pointer("/transfer/bits_per_second").is_some()
        );
        assert_eq!(serde_json::from_value::<LinkProfile>(json).unwrap().transfer, profile.transfer);
    }

    #[test]
    fn a_dying_peer_ends_the_measurement() {
        struct Dead;
        impl LinkProbe for Dead {
            fn ping(&mut self, _: usize, _: usize) -> Result<Duration> {
                Err(Error::peer("gone"))
            }
            fn stream_up(&mut self, _: usize, _: usize) -> Result<Stream> {
                Err(Error::peer("gone"))
            }
            fn stream_down(&mut self, _: usize, _: usize) -> Result<Stream> {
                Err(Error::peer("gone"))
            }
        }
        let mut first = FakeLink::new(10.0, 1e8, 100.0, 0.0);
        let clock = first.clock.clone();
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        let error = measure_link(&mut first, Some(&mut Dead), &LinkOptions::default(), &clock, &mut watch)
            .unwrap_err();
        assert_eq!(error, Error::peer("gone"));
    }
}
