//! Pictures to run on, and the records made from them. Knows no runtime; only `fetch` talks to the network.

mod checkpoints;
mod cifar10;
mod encodings_record;
mod fetch;
mod files;
mod fingerprint;
mod header;
mod images;
mod inputs;
mod made_up;
mod npz;
mod records;
mod unfinished;

pub use checkpoints::Checkpoints;
pub use cifar10::{ARCHIVE, Cifar10, is_cifar10, locate};
pub use encodings_record::{EncodingRecord, EncodingRow, ExitEffect, cut_name};
pub use fetch::{Fetched, fetch_cifar10};
pub use files::{user_cache, write_whole};
pub use fingerprint::{Fingerprints, fingerprint};
pub use images::{Images, Split};
pub use inputs::{MOST_INPUTS, load_inputs};
pub use made_up::{made_up_frames, mixed};
#[cfg(test)]
pub(crate) use records::tests::{Row as TestRow, record as test_record};
pub use records::{ExitAnswer, ExitRecord, ExitSample};
pub use unfinished::abandon_unfinished;
