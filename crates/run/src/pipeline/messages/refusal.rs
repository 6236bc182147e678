//! Why something does not go on.

use serde::{Deserialize, Serialize};

use coprof_core::error::{Error, Remedy};

/// Why a peer was refused.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Refused {
    pub message: String,
}

/// All sessions are taken that there are, or that a key may have.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Busy {
    /// How many these are.
    pub sessions: usize,
    /// Whether there are more, for other keys.
    pub of_key: bool,
    /// How many sessions wait for others to have measured.
    pub waiting: usize,
}

impl Busy {
    /// What it means on either side.
    pub fn error(&self) -> Error {
        let Self { sessions, of_key, waiting } = self;
        let whose = if *of_key { "our key's" } else { "its" };
        Error::peer(format!(
            "the edge is busy: {whose} {sessions} sessions are taken; waiting for their turn: {waiting}"
        ))
        .with(Remedy::WaitForSession)
    }
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Failed {
    pub message: String,
}
