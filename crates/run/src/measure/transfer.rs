//! One direction of a link: how long a message of a given size occupies it.
//!
//! Streams come in pairs of `n` and `3n` frames of one size, and only their difference counts: `2n` frames took so much
//! longer. Whatever both streams share drops out: the moment at which the receiver starts its clock, the one-way delay,
//! buffers on the way, and what a token bucket has gathered in the gap before a stream and lets through at once. (A full
//! bucket after a long pause would not drop out; the streams that find the rate go on until it is empty.)

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fit::{Line, fit_line};
use super::probe::Stream;
use super::stats::Samples;
use super::watch::Watch;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Result};
use coprof_core::units::{BitRate, Micros};

const SMALLEST_FRAME: usize = 64;
const LARGEST_FRAME: usize = 64 << 10;
/// Sizes are this factor apart, and there are at most so many.
const SIZE_STEP: usize = 4;
const MAX_SIZES: usize = 5;
/// Times that every size is measured if time allows: three, so that the median passes over one disturbed.
const ROUNDS: usize = 3;
/// A first guess at the time that a frame takes beyond its bytes, in µs.
const OVERHEAD_GUESS: f64 = 5.0;
pub(super) const MAX_FRAMES: f64 = 1e6;
/// The rate has settled when so many streams of some length went on as fast …
const SETTLED: usize = 2;
/// … as this share of the one before, at least.
const STILL_FALLING: f64 = 0.8;
/// No stream is longer, however fast the link: peers refuse those of more than a GiB.
pub(super) const MAX_STREAM_BYTES: usize = 256 << 20;

/// `time = overhead + 8 * bytes / bits_per_second` for one message, framing included in `overhead`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Time that each message occupies the link beyond its payload.
    pub overhead_us: Micros,
    /// Payload rate.
    pub bits_per_second: BitRate,
}

impl Transfer {
    /// The time that a message of `bytes` payload bytes occupies the link.
    pub fn time_for(&self, bytes: f64) -> Micros {
        self.overhead_us + self.bits_per_second.time_for(bytes)
    }
}

/// A measured point of the time-against-size line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameTime {
    /// Payload of each frame.
    pub frame_bytes: usize,
    /// Time per frame in a back-to-back stream.
    pub time_us: Micros,
}

/// What a link lets through at a higher rate than lasts, after a pause: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// About so many bytes.
    pub bytes: u64,
    /// The rate at which they pass.
    pub bits_per_second: BitRate,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// Goodput with the largest frames that were measured.
    pub bits_per_second: BitRate,
    /// Every point that was measured.
    pub frame_times: Vec<FrameTime>,
    /// Present where the link bursts; the rate above is the one that lasts.
    #[serde(default)]
    pub burst: Option<Burst>,
}

impl Direction {
    fn new(frame_times: Vec<FrameTime>) -> Result<Self> {
        let mut direction = Self { bits_per_second: BitRate(0.0), frame_times, burst: None };
        let largest = direction.largest_frame();
        if largest.time_us <= Micros::ZERO {
            return Err(did_not_settle());
        }
        direction.bits_per_second = BitRate(8e6 * largest.frame_bytes as f64 / largest.time_us.0);
        Ok(direction)
    }

    /// The largest frames that were measured, with their median time; zero where nothing was.
    pub fn largest_frame(&self) -> FrameTime {
        let frame_bytes = self.frame_times.iter().map(|point| point.frame_bytes).max().unwrap_or(0);
        let of_size = self.frame_times.iter().filter(|point| point.frame_bytes == frame_bytes);
        let times = Samples::new(of_size.map(|point| point.time_us).collect());
        FrameTime { frame_bytes, time_us: times.map_or(Micros::ZERO, |times| times.median()) }
    }

    fn transfer(&self) -> Result<Transfer> {
        let line = fit(&self.frame_times).filter(|line| line.slope > 0.0).ok_or_else(did_not_settle)?;
        // A line that starts below zero, or that misses what large frames took, says that the overhead is lost in the
        // noise: then the bytes explain all.
        let largest = self.largest_frame();
        let off = line.intercept + line.slope * largest.frame_bytes as f64 - largest.time_us.0;
        let Line { intercept, slope } = if line.intercept >= 0.0 && off.abs() <= 0.1 * largest.time_us.0 {
            line
        } else {
            Line { intercept: 0.0, slope: 8e6 / self.bits_per_second.0 }
        };
        Ok(Transfer { overhead_us: Micros(intercept), bits_per_second: BitRate(8e6 / slope) })
    }
}

fn fit(points: &[FrameTime]) -> Option<Line> {
    let points: Vec<(f64, f64)> =
        points.iter().map(|point| (point.frame_bytes as f64, point.time_us.0)).collect();
    fit_line(&points)
}

/// How long, in µs, a frame of this size should take, going by what was measured so far. With only the largest size
/// measured, its time stands for all: too high, so that a stream of small frames is rather short than endless.
fn expected_us(points: &[FrameTime], size: usize, bytes_per_us: f64) -> f64 {
    match (fit(points), points.first()) {
        (Some(line), _) => (line.intercept.max(0.0) + line.slope.max(0.0) * size as f64).max(0.1),
        (None, Some(largest)) => largest.time_us.0,
        (None, None) => OVERHEAD_GUESS + size as f64 / bytes_per_us,
    }
}

fn did_not_settle() -> Error {
    Error::unmet(
        "the link's speed did not settle: larger frames took no longer than small ones; measure again, or longer",
    )
}

/// In bytes per µs.
fn rate_of(stream: &Stream) -> f64 {
    stream.bytes.max(1) as f64 / Micros::from(stream.span).0.max(1.0)
}

/// What passed beyond the rate that lasts; `None` where that is no more than noise makes of it.
fn burst(streams: &[Stream], lasting: BitRate) -> Option<Burst> {
    /// Less is what sockets and schedulers gather.
    const LEAST_BYTES: f64 = 4096.0;
    let lasting = lasting.0 / 8e6;
    let beyond = streams.iter().map(|seen| seen.bytes as f64 - lasting * Micros::from(seen.span).0);
    let bytes: f64 = beyond.filter(|bytes| *bytes > 0.0).sum();
    let most =
        streams.iter().filter(|seen| seen.bytes as f64 >= LEAST_BYTES).map(rate_of).fold(0.0, f64::max);
    (bytes >= LEAST_BYTES && most > 2.0 * lasting)
        .then_some(Burst { bytes: bytes as u64, bits_per_second: BitRate(8e6 * most) })
}

/// Measures one direction through `stream` (payload bytes per frame, number of frames).
pub(super) struct DirectionProbe<'a, 'w> {
    pub stream: &'a mut dyn FnMut(usize, usize) -> Result<Stream>,
    pub rtt: Duration,
    pub clock: &'a dyn Clock,
    pub watch: &'a mut Watch<'w>,
    /// Where the progress starts and ends.
    pub progress: (f64, f64),
}

impl DirectionProbe<'_, '_> {
    /// Takes about `time`.
    pub fn measure(mut self, time: Duration) -> Result<(Direction, Transfer)> {
        let start = self.clock.now();
        let deadline = start + time;
        let streams = self.find_rate(time / 40, start + time / 5)?;
        let bytes_per_us = streams.last().map_or(1.0, rate_of);
        let sizes = self.sizes(bytes_per_us, deadline);
        let unit = self.unit(sizes.len(), deadline);
        let mut points = Vec::new();
        'rounds: for round in 0..ROUNDS {
            for (at, &size) in sizes.iter().enumerate() {
                let expected = expected_us(&points, size, bytes_per_us);
                // The longer stream of the pair has three times as many frames.
                let most = MAX_FRAMES.min((MAX_STREAM_BYTES / (3 * size)) as f64);
                let frames = (unit / expected).round().clamp(2.0, most);
                let cost = Micros(4.0 * frames * expected).to_duration() + 2 * self.rtt;
                let now = self.clock.now();
                // A line needs two sizes, whatever they cost.
                if now + cost > deadline && (round > 0 || at >= 2) {
                    break 'rounds;
                }
                self.report(now.saturating_sub(start).div_duration_f64(time))?;
                if let Some(time_us) = self.pair(size, frames as usize)? {
                    points.push(FrameTime { frame_bytes: size, time_us });
                }
            }
        }
        let mut direction = Direction::new(points)?;
        direction.burst = burst(&streams, direction.bits_per_second);
        let transfer = direction.transfer()?;
        Ok((direction, transfer))
    }

    fn report(&mut self, share: f64) -> Result<()> {
        let (from, to) = self.progress;
        self.watch.step(from + (to - from) * share.min(1.0))
    }

    /// Ever larger streams until one takes `long_enough`, then more as long until the rate has stopped falling, as it does when a
    /// token bucket runs out. The last one's rate is the one that lasts.
    fn find_rate(&mut self, long_enough: Duration, hurry_from: Duration) -> Result<Vec<Stream>> {
        let mut bytes = 2 * SMALLEST_FRAME * SIZE_STEP;
        let mut streams = Vec::new();
        let mut settled = 0;
        while settled < SETTLED && bytes <= MAX_STREAM_BYTES {
            self.report(0.0)?;
            let frame = (bytes / 8).clamp(SMALLEST_FRAME * SIZE_STEP, LARGEST_FRAME);
            let seen = (self.stream)(frame, bytes / frame)?;
            let falls = streams.last().is_some_and(|before| rate_of(&seen) < STILL_FALLING * rate_of(before));
            settled = if seen.span < long_enough {
                0
            } else if falls {
                1
            } else {
                settled + 1
            };
            if seen.span < long_enough {
                // Small steps, since a bucket that runs out in the middle of a stream makes it many times longer; but on a long way
                // round trips cost more than that.
                bytes *= if self.clock.now() < hurry_from { 2 } else { 8 };
            } else if falls {
                let fits = rate_of(&seen) * 2.0 * Micros::from(long_enough).0;
                bytes = (fits as usize).clamp(2 * SMALLEST_FRAME * SIZE_STEP, bytes);
            }
            streams.push(seen);
        }
        Ok(streams)
    }

    /// The frame sizes: the largest, the smallest, then what lies between, so that a line is there as soon as may be.
    fn sizes(&self, bytes_per_us: f64, deadline: Duration) -> Vec<usize> {
        let in_two_frames = self.unit(MAX_SIZES, deadline) * bytes_per_us / 2.0;
        let mut largest = SMALLEST_FRAME * SIZE_STEP;
        while largest * SIZE_STEP <= LARGEST_FRAME && (largest * SIZE_STEP) as f64 <= in_two_frames {
            largest *= SIZE_STEP;
        }
        let mut sizes: Vec<usize> = std::iter::successors(Some(largest), |size| Some(size / SIZE_STEP))
            .take_while(|&size| size >= SMALLEST_FRAME)
            .take(MAX_SIZES)
            .collect();
        if let Some(smallest) = sizes.pop() {
            sizes.insert(1, smallest);
        }
        sizes
    }

    /// How long, in µs, the shorter stream of a pair may take if all pairs of all rounds are to fit in: the longer one
    /// takes three times as long, and each waits for a round trip.
    fn unit(&self, sizes: usize, deadline: Duration) -> f64 {
        let left = Micros::from(deadline.saturating_sub(self.clock.now())).0;
        let pair = left / (ROUNDS * sizes) as f64;
        ((pair - 2.0 * Micros::from(self.rtt).0) / 4.0).max(pair / 16.0)
    }

    /// Time per frame from a pair of streams; `None` where noise hides it.
    fn pair(&mut self, size: usize, frames: usize) -> Result<Option<Micros>> {
        let short = (self.stream)(size, frames)?;
        let long = (self.stream)(size, 3 * frames)?;
        let (more_frames, more_time) =
            (long.frames.checked_sub(short.frames), long.span.checked_sub(short.span));
        Ok(match (more_frames, more_time) {
            (Some(frames @ 1..), Some(time)) if !time.is_zero() => {
                Some(Micros::from(time) * (1.0 / frames as f64))
            }
            _ => None,
        })
    }
}
