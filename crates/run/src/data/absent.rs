//! The same names as `inputs` and `fetch` have, in a build without these features.
#![cfg_attr(
    any(feature = "inputs", feature = "fetch"),
    expect(dead_code, reason = "the one may be there without the other")
)]

use std::path::{Path, PathBuf};

use super::images::Images;
use coprof_core::error::{Error, Result};
use coprof_core::model::Input;

fn lacks(what: &str) -> Error {
    Error::failed(format!(
        "this coprof was built without what {what}\nbuild it as the README says, without `--no-default-features`"
    ))
}

/// Says that nothing is read.
pub fn load_inputs(_place: &Path, _inputs: &[Input]) -> Result<Images> {
    Err(lacks("reads pictures and arrays"))
}

/// A file that nothing fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it would lie.
    pub path: PathBuf,
    /// Whether it was there before.
    pub already_there: bool,
}

/// Says that nothing is fetched.
pub fn fetch_cifar10(
    _dest: &Path,
    _progress: &mut dyn FnMut(u64, u64),
    _stop: &dyn Fn() -> bool,
) -> Result<Fetched> {
    Err(lacks("downloads"))
}
