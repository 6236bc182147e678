//! Why something does not go on.

use serde::{Deserialize, Serialize};

use coprof_core::error::{Error, Remedy};

/// Why a peer was refused.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Refused {
    pub message: String,
}

/// All sessions are taken.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Busy {
    /// How many there are.
    pub sessions: usize,
    /// How many of them wait for others to have measured.
    pub waiting: usize,
}

impl Busy {
    /// What it means on either side.
    pub fn error(&self) -> Error {
        let Self { sessions, waiting } = self;
        Error::peer(format!(
            "the edge is busy: its {sessions} sessions are taken, {waiting} of them wait for their turn"
        ))
        .with(Remedy::WaitForSession)
    }
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Failed {
    pub message: String,
}
