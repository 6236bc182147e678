//! Measurements on the edge; what is asked and answered is known to its services alone.

use serde::{Deserialize, Serialize};

use super::super::wire::FrameKind;
use super::Message;

/// Asks for measurements.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Profile(pub serde_json::Value);

/// The measurements.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Profiled(pub serde_json::Value);

/// How far a measurement is.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Progress {
    pub share: f64,
}

impl Message for Profile {
    const KIND: FrameKind = FrameKind::Profile;
}

impl Message for Profiled {
    const KIND: FrameKind = FrameKind::Profiled;
}

impl Message for Progress {
    const KIND: FrameKind = FrameKind::Progress;
}
