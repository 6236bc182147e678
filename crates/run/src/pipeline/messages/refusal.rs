//! Why something does not go on.

use serde::{Deserialize, Serialize};

use super::super::wire::FrameKind;
use super::Message;

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

impl Message for Refused {
    const KIND: FrameKind = FrameKind::Refused;
}

impl Message for Failed {
    const KIND: FrameKind = FrameKind::Failed;
}
