//! What a link is probed through.

use std::time::Duration;

use coprof_core::error::Result;

/// Payload of a ping and of its answer: as small as an exit's answer.
pub(super) const PING_BYTES: usize = 16;

/// What the receiver saw of a back-to-back stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Payload bytes that arrived within `span`.
    pub bytes: u64,
    /// Frames that arrived within `span`.
    pub frames: u64,
    /// The receiver's time from when it starts to count to the arrival of the last frame. The count may start at the
    /// request or at the first frame, as long as it always starts at the same one: only differences are used.
    pub span: Duration,
}

/// A connection to measure: what the pipeline's client offers, over the framing that tasks use.
pub trait LinkProbe {
    /// The time from sending a frame of `send` payload bytes to the arrival of an answer of `reply` payload bytes.
    fn ping(&mut self, send: usize, reply: usize) -> Result<Duration>;
    /// Sends `frames` frames of `frame_bytes` payload bytes each without waiting; what the peer saw. Returns when the
    /// last frame has arrived.
    fn stream_up(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream>;
    /// Has the peer send them; what this side saw.
    fn stream_down(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream>;
}
