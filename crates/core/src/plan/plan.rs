//! A plan: all that a run needs to know, in names, so that it can be saved, sent and read by people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Calibration, Encoding};
use crate::model::ModelHash;
use crate::units::Share;

/// When a sample leaves at an exit. Entropy is normalised by the logarithm of the class count, so it lies in 0 to 1
/// (BranchyNet, ICPR 2016, section III-C, uses the entropy itself).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// The exit is off: its head does not run.
    Never,
    /// Every sample that comes this far leaves: the network is truncated here (Edgent's right-sizing).
    Always,
    /// A sample leaves when its normalised entropy is at most this.
    Entropy(Share),
}

impl Threshold {
    /// Whether the exit's head runs at all.
    pub fn is_on(self) -> bool {
        self != Self::Never
    }

    /// Whether a sample with this normalised entropy leaves.
    pub fn passes(self, entropy: Share) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Entropy(limit) => entropy <= limit,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.pad("never"),
            Self::Always => f.pad("always"),
            Self::Entropy(limit) => f.pad(&format!("≤ {:.3}", limit.0)),
        }
    }
}

/// What one node runs: all of the trunk up to `cut` that the node before has not sent the result of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The tips of the cut after which this node stops; empty: it runs nothing of the trunk.
    pub cut: Vec<String>,
}

/// What crosses the link from node `k` to node `k + 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// The tips of the resume cut: the next node takes over after it. Empty: it starts from the input.
    pub resume: Vec<String>,
    /// How the frontier is written.
    pub encoding: Encoding,
    /// What the encoding needs to know of the frontier, where it needs anything; both ends of the link read it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// When a sample leaves at an exit, and which node tries it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitPlan {
    /// The exit's name.
    pub name: String,
    /// When a sample leaves there.
    pub threshold: Threshold,
    /// The node that tries it; without meaning where the threshold is "never".
    pub node: usize,
}

/// A plan for the nodes `0..nodes.len()`, node 0 being the device. There is one link fewer than nodes. `exits` holds
/// the model's exits in order; those that it leaves out are off. The final one is always there, and "always" unless an earlier
/// "always" makes it unreachable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The model that it is for.
    pub model: ModelHash,
    /// Per node what it runs.
    pub nodes: Vec<NodePlan>,
    /// Per link what crosses it; `null` where every sample has left before.
    pub links: Vec<Option<LinkPlan>>,
    /// Per exit when it is taken and where it is tried.
    pub exits: Vec<ExitPlan>,
}
