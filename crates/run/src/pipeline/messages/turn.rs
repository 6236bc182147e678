//! Who measures when.

use serde::{Deserialize, Serialize};

use super::super::wire::FrameKind;
use super::Message;

/// What stands between a client and its turn.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Waiting {
    /// How many come before it, the one that measures included.
    pub before: usize,
}

impl Message for Waiting {
    const KIND: FrameKind = FrameKind::Waiting;
}
