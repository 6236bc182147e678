//! Measurements on the edge: what the planner wants to know of a node, and what was found there.

use serde::{Deserialize, Serialize};

use crate::measure::{Disturbance, LayerProfile, Samples};
use coprof_core::codec::Encoding;
use coprof_core::plan::Range;
use coprof_core::units::Micros;

/// What to measure on a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProfileRequest {
    /// Layers and exits.
    pub layers: bool,
    /// These encodings at every cut at which they are weighed.
    pub encodings: Vec<Encoding>,
    /// Whole ranges of layers; their times are not looked at.
    #[serde(default)]
    pub ranges: Vec<Range>,
    /// The whole trunk, over and over for so long.
    #[serde(default)]
    pub whole_for_us: Option<Micros>,
}

/// The mean times of one encoding at one cut on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecTimes {
    /// The tips of the cut.
    pub cut: Vec<String>,
    /// The encoding.
    pub encoding: Encoding,
    /// To read the frontier from the runtime and write it.
    pub encode_us: Micros,
    /// To read it and hand it to the runtime.
    pub decode_us: Micros,
}

/// What was measured. Times are means over undisturbed timings: the time of a stage is the sum of its parts' means, where medians
/// do not add up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeProfile {
    /// Present where asked for.
    pub layers: Option<LayerProfile>,
    /// Empty where not asked for.
    pub codecs: Vec<CodecTimes>,
    /// The ranges that were asked for, with their mean times.
    #[serde(default)]
    pub ranges: Vec<Range>,
    /// The whole trunk in one call, again and again: as it was asked for, or beside the codecs.
    #[serde(default)]
    pub whole: Option<Samples>,
    /// How many timings of codecs were taken, and set aside.
    #[serde(default)]
    pub codec_disturbance: Disturbance,
}

/// How far a measurement is.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Progress {
    pub share: f64,
}
