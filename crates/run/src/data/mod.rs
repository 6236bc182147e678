//! Pictures to run on, and the records made from them. Knows no runtime; only `fetch` talks to the network.

#[cfg(not(all(feature = "inputs", feature = "fetch")))]
mod absent;
mod checkpoints;
mod cifar10;
mod encodings_record;
#[cfg(feature = "fetch")]
mod fetch;
mod files;
mod fingerprint;
mod header;
mod images;
#[cfg(feature = "inputs")]
mod inputs;
mod made_up;
#[cfg(feature = "inputs")]
mod npz;
mod records;
mod unfinished;

#[cfg(not(feature = "inputs"))]
pub use absent::load_inputs;
#[cfg(not(feature = "fetch"))]
pub use absent::{Fetched, fetch_cifar10};
pub use checkpoints::Checkpoints;
pub use cifar10::{ARCHIVE, Cifar10, is_cifar10, locate};
pub use encodings_record::{EncodingRecord, EncodingRow, ExitEffect, cut_name};
#[cfg(feature = "fetch")]
pub use fetch::{Fetched, fetch_cifar10};
pub use files::{user_cache, write_whole};
pub use fingerprint::{Fingerprints, fingerprint};
pub use images::{Images, Split};
#[cfg(feature = "inputs")]
pub use inputs::load_inputs;
pub use made_up::{made_up_frames, mixed};
#[cfg(test)]
pub(crate) use records::tests::{Row as TestRow, record as test_record};
pub use records::{ExitAnswer, ExitRecord, ExitSample};
pub use unfinished::abandon_unfinished;
