//! Streams of filler frames, which measure a link.

use serde::{Deserialize, Serialize};

use coprof_core::units::Micros;

/// A stream of filler frames.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct StreamRequest {
    pub frames: usize,
    /// Payload of each.
    pub payload_bytes: usize,
}

/// Announces a stream from the client.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct StreamUp(pub StreamRequest);

/// Asks for a stream from the server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct StreamDown(pub StreamRequest);

/// What the receiver of a stream saw between the end of its first frame and the end of its last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Bytes of the frames after the first, headers included.
    pub bytes: u64,
    /// How many frames after the first.
    pub frames: u64,
    /// The time that they took.
    pub span_us: Micros,
}
