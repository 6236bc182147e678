//! Why something does not go on.

use serde::{Deserialize, Serialize};

/// Why a peer was refused.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Refused {
    pub message: String,
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Failed {
    pub message: String,
}
