//! Measuring: layers, exit heads, codecs, links, hosts, and what exits answer. Knows no printing and no sockets; time comes
//! from a [`Clock`](coprof_core::clock::Clock), layers run on a [`Backend`](crate::backend::Backend).

mod behind;
mod budget;
mod calibrate;
mod check;
mod codecs;
mod exits;
mod fit;
mod fma;
mod host;
mod ladder;
mod layers;
mod link;
mod lone;
mod peak;
mod probe;
mod ranges;
mod sampler;
mod stats;
mod sweep;
mod transfer;
mod watch;

pub use behind::Behind;
pub use budget::Budget;
pub use calibrate::calibrate;
pub use check::{holds, link_holds};
pub use codecs::{CodecProfile, CodecProfiles, CodecRequest, profile_codecs};
pub use exits::{final_answers, record_exits};
pub use fit::{Line, fit_line};
pub use fma::{Operations, multiply_add};
pub use host::{HostFacts, cores};
pub use ladder::{Ladder, LadderPart};
pub use layers::{LayerProfile, profile_layers};
pub use link::{LinkOptions, LinkProfile, RoundTrips, measure_link};
pub use peak::{Exercises, HostPeak, PeakCache, PeakOptions, measure_peak};
pub use probe::{LinkProbe, Stream};
pub use ranges::{profile_ranges, profile_whole};
pub use sampler::{Disturbance, Sampler};
pub use stats::{Samples, Summary, enough_samples, wilson95};
pub use sweep::{Choice, SweepPoint, SweepTable, choose, expected_macs, settings, sweep};
pub use transfer::{Burst, Direction, FrameTime, Transfer};
pub use watch::Watch;
