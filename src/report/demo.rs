//! The result of `coprof demo`.

use serde::Serialize;

use super::document::Envelope;
use super::exits::ExitsDocument;
use super::layers::LayersDocument;
use super::link::LinkDocument;
use super::optimize::OptimizeDocument;
use super::replay::ReplayDocument;

/// The document of `coprof demo`: what every step found.
#[derive(Clone, Debug, Serialize)]
pub struct DemoDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The layers on this host.
    pub layers: LayersDocument,
    /// The emulated link.
    pub link: LinkDocument,
    /// The sweep of the model's record.
    pub exits: ExitsDocument,
    /// The plans.
    pub optimize: OptimizeDocument,
    /// Our plan and some baselines', run.
    pub replays: Vec<ReplayDocument>,
}
