//! Measuring: layers, exit heads, codecs, links, hosts, and what exits answer. Knows no printing and no sockets; time comes
//! from a [`Clock`](crate::clock::Clock), layers run on a [`Backend`](crate::runtime::Backend).

mod budget;
mod codecs;
mod encodings;
mod exits;
mod fit;
mod host;
mod layers;
mod link;
mod peak;
mod ranges;
mod stats;
mod sweep;
mod transfer;
mod watch;

pub use budget::Budget;
pub use codecs::{CodecProfile, CodecRequest, profile_codecs};
pub use encodings::{Behind, record_encodings};
pub use exits::record_exits;
pub use fit::{Line, fit_line};
pub use host::HostFacts;
pub use layers::{LayerProfile, profile_layers};
pub use link::{LinkOptions, LinkProbe, LinkProfile, RoundTrips, Stream, measure_link};
pub use peak::{HostPeak, PeakCache, PeakOptions, measure_peak};
pub use ranges::profile_ranges;
pub use stats::{Samples, Summary, enough_samples, wilson95};
pub use sweep::{Choice, SweepPoint, SweepTable, choose, expected_macs, settings, sweep};
pub use transfer::{Direction, FrameTime, Transfer};
pub use watch::Watch;
