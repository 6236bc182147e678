//! A scenario: all that the optimizer reads. Saved as one JSON document, so that a search can be repeated anywhere.

use serde::{Deserialize, Serialize};

use super::outcomes::Outcomes;
use super::search::Objective;
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::model::ModelHash;
use crate::units::{BitRate, Micros, Share};

/// The name and version of the scenario document.
pub const SCHEMA: &str = "coprof.scenario/1";

/// Which model a scenario is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelId {
    /// What people call it.
    pub name: String,
    /// The hash of its file.
    pub sha256: ModelHash,
}

/// A layer of the trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrunkLayer {
    /// Unique in the scenario.
    pub name: String,
    /// The layers that it reads; `input` is the network's input.
    pub inputs: Vec<String>,
    /// Its output as 32-bit floats.
    pub output_bytes: u64,
}

/// An exit; the last one in [`Scenario::exits`] is the final one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitSite {
    /// Its name.
    pub name: String,
    /// The tips of what must have run before its head.
    pub after: Vec<String>,
}

/// What a node needs for each part of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `device`, `edge`, or another tier.
    pub name: String,
    /// The factor by which the measured times were stretched; absent for a real node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated_slowdown: Option<f64>,
    /// Time of each trunk layer, in the order of [`Scenario::layers`].
    pub layers_us: Vec<Micros>,
    /// Time of each exit's head with its confidence, in the order of [`Scenario::exits`].
    pub exits_us: Vec<Micros>,
}

/// A link between two neighbouring nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Whether the link's rate or delay is shaped in user space.
    pub emulated: bool,
    /// Time that each message occupies the link beyond its bytes.
    pub overhead_us: Micros,
    /// Goodput towards the later node.
    pub bits_per_second: BitRate,
    /// One-way propagation delay: adds to latency, not to the interval.
    pub delay_us: Micros,
    /// Time that an answer needs on its way back, its delay included.
    pub reply_us: Micros,
}

/// A frontier under an encoding: its size, and the time to write it on the node before and to read it on the node after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodedFrontier {
    /// The tips of the cut.
    pub cut: Vec<String>,
    /// How it is written.
    pub encoding: Encoding,
    /// Mean size of a message: payload and task header, without the frame header that every message has.
    pub bytes: f64,
    /// Time to write it, per node.
    pub encode_us: Vec<Micros>,
    /// Time to read it, per node.
    pub decode_us: Vec<Micros>,
}

/// What the exits behind a cut answer when its frontier crossed under a lossy element type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossyOutcomes {
    /// The tips of the cut.
    pub cut: Vec<String>,
    /// The encoding, without a lossless coder.
    pub element: Encoding,
    /// One per exit of the scenario; `None` where the exit lies before the cut.
    pub exits: Vec<Option<Outcomes>>,
}

/// What is asked of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Constraints {
    /// What to optimize.
    #[serde(default)]
    pub objective: Objective,
    /// Accuracy floor; absent: one point under the uncut model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<Share>,
    /// Latency ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_us: Option<Micros>,
    /// Rate floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rate_per_s: Option<f64>,
}

/// All that the optimizer reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// [`SCHEMA`].
    pub schema: String,
    /// The model.
    pub model: ModelId,
    /// The trunk in topological order.
    pub layers: Vec<TrunkLayer>,
    /// The exits in order, the last one final.
    pub exits: Vec<ExitSite>,
    /// Device and edge.
    pub nodes: Vec<Node>,
    /// The link between them.
    pub links: Vec<Link>,
    /// Every encoding of every cut that may be used.
    pub encodings: Vec<EncodedFrontier>,
    /// Per exit what it answers for each validation sample, uncut.
    pub outcomes: Vec<Outcomes>,
    /// The same behind lossy cuts.
    pub lossy_outcomes: Vec<LossyOutcomes>,
    /// What is asked of the plan.
    #[serde(default)]
    pub constraints: Constraints,
}

impl Scenario {
    /// Reads and checks a scenario document.
    pub fn from_json(text: &str) -> Result<Self> {
        let scenario: Self = serde_json::from_str(text).map_err(|error| {
            Error::failed(format!(
                "not a scenario of schema {SCHEMA}: {error}\n`coprof optimize` writes such a file under reports/"
            ))
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// How many validation samples its outcomes hold.
    pub fn samples(&self) -> usize {
        self.outcomes.first().map_or(0, Outcomes::len)
    }

    /// The accuracy of the uncut model on its samples.
    pub fn uncut_accuracy(&self) -> Share {
        self.outcomes.last().map_or(Share(0.0), |last| Share::of(last.right_count(), last.len()))
    }

    /// The accuracy floor in force.
    pub fn accuracy_floor(&self) -> Share {
        self.constraints.min_accuracy.unwrap_or(Share(self.uncut_accuracy().0 - 0.01))
    }

    /// Checks that all its tables fit together and every figure makes sense.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::failed(format!("scenario: {what}; `coprof optimize` writes a valid one")))
        };
        if self.schema != SCHEMA {
            return wrong(format!("schema {SCHEMA} was expected, found '{}'", self.schema));
        }
        if self.layers.is_empty() || self.exits.is_empty() || self.samples() == 0 {
            return wrong("layers, exits and outcomes must not be empty".into());
        }
        if self.nodes.len() != 2 || self.links.len() != 1 {
            return wrong(format!(
                "two nodes and one link were expected, found {} and {}",
                self.nodes.len(),
                self.links.len()
            ));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let known =
                |name: &String| name == "input" || self.layers[..index].iter().any(|l| l.name == *name);
            if let Some(name) = layer.inputs.iter().find(|name| !known(name)) {
                return wrong(format!(
                    "layer '{}' reads '{name}', which does not come before it",
                    layer.name
                ));
            }
            if layer.name == "input" || self.layers[..index].iter().any(|l| l.name == layer.name) {
                return wrong(format!("layer name '{}' is taken", layer.name));
            }
        }
        for node in &self.nodes {
            if node.layers_us.len() != self.layers.len() || node.exits_us.len() != self.exits.len() {
                return wrong(format!(
                    "node '{}' needs {} layer times and {} exit times, found {} and {}",
                    node.name,
                    self.layers.len(),
                    self.exits.len(),
                    node.layers_us.len(),
                    node.exits_us.len()
                ));
            }
            if !node.layers_us.iter().chain(&node.exits_us).all(|time| is_span(*time)) {
                return wrong(format!("every time of node '{}' must be zero or more", node.name));
            }
        }
        self.check_links_and_tables().or_else(wrong)
    }

    fn check_links_and_tables(&self) -> Result<(), String> {
        for link in &self.links {
            let rate = link.bits_per_second.0;
            if !(rate.is_finite()
                && rate > 0.0
                && [link.overhead_us, link.delay_us, link.reply_us].into_iter().all(is_span))
            {
                return Err("a link needs a positive bits_per_second and times of zero or more".into());
            }
        }
        for row in &self.encodings {
            let times = row.encode_us.iter().chain(&row.decode_us);
            let sizes = (row.encode_us.len(), row.decode_us.len());
            if sizes != (2, 2) || !times.copied().all(is_span) || !(row.bytes.is_finite() && row.bytes >= 0.0)
            {
                return Err(format!(
                    "encoding {} at cut {:?} needs bytes and two times each way",
                    row.encoding, row.cut
                ));
            }
        }
        let lossy = self.lossy_outcomes.iter().flat_map(|row| row.exits.iter().flatten());
        if self.outcomes.iter().chain(lossy).any(|outcomes| outcomes.len() != self.samples()) {
            return Err(format!("every outcome list must hold the same {} samples", self.samples()));
        }
        let exits = self.exits.len();
        if self.outcomes.len() != exits || self.lossy_outcomes.iter().any(|row| row.exits.len() != exits) {
            return Err(format!("every outcome table must have one entry for each of the {exits} exits"));
        }
        Ok(())
    }
}

fn is_span(time: Micros) -> bool {
    time.0.is_finite() && time.0 >= 0.0
}
