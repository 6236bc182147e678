//! A scenario: all that the optimizer reads. One JSON document, so that a search can be repeated anywhere, short enough to
//! be written by hand: `complete.rs` fills in what it leaves out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layers::{Trunk, TrunkLayer};
use super::link::Link;
use super::outcomes::{MOST_PARTS, Outcomes, parts};
use super::plan::Plan;
use super::simulate::Arrival;
use crate::codec::{Calibration, Encoding};
use crate::error::{Error, Result};
use crate::model::ModelHash;
use crate::units::{Micros, Share};

/// The name and version of the scenario document.
pub const SCHEMA: &str = "coprof.scenario/2";

/// Nodes beyond this number would be a slip of the pen.
const MAX_NODES: usize = 16;

/// Which model a scenario is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelId {
    /// What people call it.
    pub name: String,
    /// The hash of its file.
    pub sha256: ModelHash,
}

impl Default for ModelId {
    /// For scenarios without a model file.
    fn default() -> Self {
        Self { name: "unnamed".into(), sha256: ModelHash("0".repeat(64)) }
    }
}

/// An exit; the last one in [`ScenarioFile::exits`] is the final one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitSite {
    /// Its name.
    pub name: String,
    /// The tips of what must have run before its head; empty: nothing, it reads the input. Left out: the whole trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// Its head's weights in memory. Left out: 0.
    #[serde(default)]
    pub weight_bytes: u64,
    /// What is known of its answers where there are no per-sample [`ScenarioFile::outcomes`] but those made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marginal: Option<Marginal>,
}

impl ExitSite {
    /// The tips of what must have run before its head, where they are filled in.
    pub(super) fn tips(&self) -> &[String] {
        self.after.as_deref().unwrap_or_default()
    }
}

/// What an exit answers, without the samples behind it. Weaker than per-sample outcomes: which samples leave at two exits
/// is then an assumption (`marginal.rs`), not a count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marginal {
    /// Share answered right when every sample is answered here.
    pub accuracy: Share,
    /// What leaves at each threshold, by rising threshold. Left out: only "never" and "always" can be chosen.
    #[serde(default)]
    pub steps: Vec<MarginalStep>,
}

/// One row of a marginal table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarginalStep {
    /// The threshold on normalised entropy.
    pub entropy: Share,
    /// Share of all samples that pass it.
    pub share: Share,
    /// Share of those that are answered right.
    pub accuracy: Share,
}

/// The measured time of a whole range of layers, for where a sum of layers misleads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The tips of the cut behind which it starts; empty: the input.
    pub from: Vec<String>,
    /// The tips of the cut with which it ends.
    pub to: Vec<String>,
    /// What it takes, without exit heads and codecs.
    pub time_us: Micros,
}

/// What a node needs for each part of the network, and what it can hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `device`, `edge`, or another tier.
    pub name: String,
    /// The factor by which the measured times were stretched; absent for a real node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated_slowdown: Option<f64>,
    /// Time of each trunk layer, in the order of [`ScenarioFile::layers`].
    pub layers_us: Vec<Micros>,
    /// Time of each exit's head with its confidence, in the order of [`ScenarioFile::exits`]. Left out: zeros.
    #[serde(default)]
    pub exits_us: Vec<Micros>,
    /// Measured times of whole ranges; they come before the sum of their layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// What it may hold at once: weights, live activations and messages in flight. Left out: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Layers that it may not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_not_run: Vec<String>,
    /// What a task costs it beside layers, exits and codecs: taking it on and handing it over. Left out: 0.
    #[serde(default)]
    pub task_us: Micros,
    /// How many times as long its work takes in a full pipeline as its parts do by themselves, wherever tasks cross a link at all
    /// and however little the others have to do.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub busy_factor: f64,
    /// By how much a task takes longer on it after a pause, as one that is alone in the pipeline, whatever its work is: a thread
    /// is woken. Left out: 0.
    #[serde(default)]
    pub pause_us: Micros,
    /// How many times as long its work takes after a pause: caches have gone cold, and a core has slowed down.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub pause_factor: f64,
    /// The core that it computes on, under any name. Nodes of one name take turns instead of working at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<String>,
    /// What its whole trunk took in one call when it was measured: tells later how far its speed has moved since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_us: Option<Micros>,
    /// The same while the other node ran its own, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_busy_us: Option<Micros>,
    /// Whether its times did not settle when they were measured: others had its core, or its layers and its whole trunk did not fit
    /// together.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unsettled: bool,
    /// Whole trunks one after another while it was measured, each over their mean: how its speed moved meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speeds: Vec<f64>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            emulated_slowdown: None,
            layers_us: Vec::new(),
            exits_us: Vec::new(),
            ranges: Vec::new(),
            memory_bytes: None,
            may_not_run: Vec::new(),
            task_us: Micros::ZERO,
            busy_factor: 1.0,
            pause_us: Micros::ZERO,
            pause_factor: 1.0,
            core: None,
            whole_us: None,
            whole_busy_us: None,
            unsettled: false,
            speeds: Vec::new(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(factor: &f64) -> bool {
    *factor == 1.0
}

/// A frontier under an encoding: its size, and the time to write it on the node before and to read it on the node after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodedFrontier {
    /// The tips of the cut; empty: the input itself crosses.
    pub cut: Vec<String>,
    /// How it is written.
    pub encoding: Encoding,
    /// Mean size of a message: payload and task header, without the frame header that every message has.
    pub bytes: f64,
    /// Time to write it, per node. Left out: zeros.
    #[serde(default)]
    pub encode_us: Vec<Micros>,
    /// Time to read it, per node. Left out: zeros.
    #[serde(default)]
    pub decode_us: Vec<Micros>,
    /// Accuracy of exits behind it when every sample goes there, by name, for lossy encodings without per-sample
    /// [`ScenarioFile::lossy_outcomes`]. Weaker than these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<BTreeMap<String, Share>>,
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
    /// What the element type needs to know of the frontier, where it needs anything: for the plan that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// Where a scenario's accuracies come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccuracyBasis {
    /// Counts of per-sample outcomes.
    #[default]
    Samples,
    /// Counts of per-sample agreement with the uncut model, on samples whose right class nobody told.
    Agreement,
    /// Tables without samples: weaker, since they do not tell which samples leave where.
    Marginals,
    /// Nothing was given: the uncut model counts as always right.
    Relative,
}

impl AccuracyBasis {
    /// Whether accuracies are shares of the uncut model's own answers, whatever is right.
    pub fn is_agreement(self) -> bool {
        matches!(self, Self::Agreement | Self::Relative)
    }
}

/// What to optimize; the others may be constrained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Lowest interval; within 1 % of it, lowest latency.
    #[default]
    Rate,
    /// Lowest latency; within 1 % of it, lowest interval.
    Latency,
    /// Highest accuracy; then lowest interval.
    Accuracy,
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
    /// The probability with which the true accuracy is to keep the floor, however many plans there are to choose from; absent: the
    /// floor is for the accuracy on the scenario's samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Share>,
    /// Latency ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_us: Option<Micros>,
    /// Rate floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rate_per_s: Option<f64>,
    /// Plans whose rate or latency, whichever is the objective, lies within this share of the best count as ties, which the other of
    /// the two breaks; absent: 1 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ties: Option<Share>,
    /// How tasks arrive; absent: as fast as the pipeline takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Arrival>,
    /// Ceiling of the 99th percentile of latency under `arrival`, found by simulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_below_us: Option<Micros>,
}

/// All that the optimizer reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioFile {
    /// [`SCHEMA`].
    pub schema: String,
    /// The model. Left out: an unnamed one.
    #[serde(default)]
    pub model: ModelId,
    /// Size of the network's input where it crosses a link as it is. Left out: only its [`ScenarioFile::encodings`] cross.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bytes: Option<u64>,
    /// The trunk in topological order.
    pub layers: Vec<TrunkLayer>,
    /// The exits in order, the last one final. Left out: the final one alone.
    #[serde(default)]
    pub exits: Vec<ExitSite>,
    /// The nodes in order; node 0 holds the input.
    pub nodes: Vec<Node>,
    /// The links between them, one fewer.
    pub links: Vec<Link>,
    /// By what share of the work of the one that has less to do two nodes on one host take longer, each, while both work. Left
    /// out: 0.
    #[serde(default)]
    pub contention: f64,
    /// Every encoding of every cut that may be used. Left out: every frontier as 32-bit floats, written and read in no time.
    #[serde(default)]
    pub encodings: Vec<EncodedFrontier>,
    /// Per exit what it answers for each validation sample, uncut.
    #[serde(default)]
    pub outcomes: Vec<Outcomes>,
    /// The same as `outcomes` on more samples, where more are known uncut than behind encodings: accuracies are then those on
    /// these, plus what an encoding changes on the fewer. Left out: there are no more.
    #[serde(default)]
    pub uncut_outcomes: Vec<Outcomes>,
    /// What the exits answer behind lossy cuts, for the samples of `outcomes`.
    #[serde(default)]
    pub lossy_outcomes: Vec<LossyOutcomes>,
    /// What accuracies are.
    #[serde(default)]
    pub accuracy_basis: AccuracyBasis,
    /// Whether the cuts of `encodings` are all that the graph has and whose frontiers have a known size.
    #[serde(default = "all")]
    pub all_cuts: bool,
    /// Steps of the threshold grid of each exit, in even shares of the samples.
    #[serde(default = "threshold_steps")]
    pub threshold_steps: usize,
    /// Messages that a node may have to hold on each of its links.
    #[serde(default = "in_flight")]
    pub in_flight: usize,
    /// What is asked of the plan.
    #[serde(default)]
    pub constraints: Constraints,
}

fn all() -> bool {
    true
}

/// The default of [`ScenarioFile::threshold_steps`].
pub fn threshold_steps() -> usize {
    50
}

/// The default of [`ScenarioFile::in_flight`].
pub fn in_flight() -> usize {
    4
}

impl ScenarioFile {
    /// How many validation samples its outcomes hold.
    pub fn samples(&self) -> usize {
        self.outcomes.first().map_or(0, Outcomes::len)
    }

    /// How many samples its `uncut_outcomes` hold.
    pub fn uncut_samples(&self) -> usize {
        self.uncut_outcomes.first().map_or(0, Outcomes::len)
    }

    /// Keeps these of the samples of `outcomes` alone, in all that is known behind encodings, too.
    pub(super) fn only(&mut self, samples: &[usize]) {
        let lossy = self.lossy_outcomes.iter_mut().flat_map(|row| row.exits.iter_mut().flatten());
        self.outcomes.iter_mut().chain(lossy).for_each(|known| *known = known.only(samples));
    }

    /// The accuracy of the uncut model on all samples.
    pub fn uncut_accuracy(&self) -> Share {
        let all = self.uncut_outcomes.last().or(self.outcomes.last());
        all.map_or(Share(0.0), |last| Share::of(last.right_count(), last.len()))
    }

    /// The accuracy floor in force.
    pub fn accuracy_floor(&self) -> Share {
        self.constraints.min_accuracy.unwrap_or(Share(self.uncut_accuracy().0 - 0.01))
    }

    /// A plan of this scenario with the calibrations that its encodings need, as far as the scenario has them: what a run
    /// reads. The search leaves them out of the thousands of plans that it lists.
    #[must_use]
    pub fn calibrated(&self, mut plan: Plan) -> Plan {
        for link in plan.links.iter_mut().flatten().filter(|link| link.encoding.needs_calibration()) {
            let element = link.encoding.without_coder();
            let known = |row: &&LossyOutcomes| row.element == element && row.cut == link.resume;
            link.calibration = self.lossy_outcomes.iter().find(known).and_then(|row| row.calibration.clone());
        }
        plan
    }

    /// The name of a stage of the pipeline: node, link, node, and so on. A link is called `link`, with its number where
    /// there are several.
    pub fn stage_name(&self, stage: usize) -> String {
        match (stage % 2, self.links.len()) {
            (0, _) => self.nodes[stage / 2].name.clone(),
            (_, 1) => "link".into(),
            _ => format!("link {}", stage / 2 + 1),
        }
    }

    /// Checks that all its tables are there, fit together, and that every figure makes sense.
    pub fn check(&self) -> Result<()> {
        self.check_shape()
            .and_then(|()| self.check_nodes())
            .and_then(|()| self.check_links())
            .and_then(|()| self.check_tables())
            .map_err(|what| {
                Error::failed(format!(
                    "scenario: {what}; docs/formats.md shows a valid one, `coprof optimize` writes such"
                ))
            })
    }

    pub(super) fn check_shape(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {SCHEMA} was expected, found '{}'", self.schema));
        }
        if self.layers.is_empty() {
            return Err("at least one layer was expected, found none".into());
        }
        let nodes = self.nodes.len();
        if !(2..=MAX_NODES).contains(&nodes) || self.links.len() + 1 != nodes {
            return Err(format!(
                "2 to {MAX_NODES} nodes and one link fewer were expected, found {nodes} and {}",
                self.links.len()
            ));
        }
        if !(1..=1000).contains(&self.threshold_steps) {
            return Err(format!("1 to 1000 threshold_steps were expected, found {}", self.threshold_steps));
        }
        let mut names = std::collections::HashSet::new();
        let all = self.nodes.iter().map(|node| ("node", &node.name));
        for (kind, name) in all.chain(self.exits.iter().map(|exit| ("exit", &exit.name))) {
            if !names.insert((kind, name)) {
                return Err(format!("{kind} name '{name}' is taken"));
            }
        }
        Trunk::new(&self.layers).map(|_| ())
    }

    /// Names of the nodes whose times did not settle when they were measured.
    pub fn unsettled(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|node| node.unsettled).map(|node| node.name.as_str())
    }

    /// Whether its two nodes have one core between them.
    pub fn shares_a_core(&self) -> bool {
        let cores: Vec<&String> = self.nodes.iter().filter_map(|node| node.core.as_ref()).collect();
        (1..cores.len()).any(|later| cores[..later].contains(&cores[later]))
    }

    fn check_nodes(&self) -> Result<(), String> {
        if self.nodes.len() > 2 && self.shares_a_core() {
            return Err("nodes that share a core can be planned where there are two, not more".into());
        }
        if !(0.0..=1.0).contains(&self.contention) {
            return Err(format!("contention is a share from 0 to 1, found {}", self.contention));
        }
        if self.nodes.len() > 2 && self.contention > 0.0 {
            return Err("contention can be planned between two nodes, not more".into());
        }
        for node in &self.nodes {
            if node.layers_us.len() != self.layers.len() || node.exits_us.len() != self.exits.len() {
                return Err(format!(
                    "node '{}' needs {} layer times and {} exit times, found {} and {}",
                    node.name,
                    self.layers.len(),
                    self.exits.len(),
                    node.layers_us.len(),
                    node.exits_us.len()
                ));
            }
            for (key, factor) in [("busy_factor", node.busy_factor), ("pause_factor", node.pause_factor)] {
                if !(factor.is_finite() && factor >= 1.0) {
                    return Err(format!("the {key} of node '{}' must be at least 1", node.name));
                }
            }
            if !node.speeds.iter().copied().all(is_factor) {
                return Err(format!("the speeds of node '{}' must be positive numbers", node.name));
            }
            let ranges =
                node.ranges.iter().map(|range| &range.time_us).chain([&node.task_us, &node.pause_us]);
            if !node.layers_us.iter().chain(&node.exits_us).chain(ranges).all(|time| is_span(*time)) {
                return Err(format!("every time of node '{}' must be zero or more", node.name));
            }
            let unknown =
                node.may_not_run.iter().find(|name| !self.layers.iter().any(|layer| layer.name == **name));
            if let Some(name) = unknown {
                return Err(format!("node '{}' may not run '{name}', which is no layer", node.name));
            }
        }
        Ok(())
    }

    fn check_links(&self) -> Result<(), String> {
        for link in &self.links {
            let rate = link.bits_per_second.0;
            if !(rate.is_finite()
                && rate > 0.0
                && [link.overhead_us, link.delay_us, link.reply(), link.handover_us].into_iter().all(is_span))
            {
                return Err("a link needs a positive bits_per_second and times of zero or more".into());
            }
            let rises = link.lone.is_sorted_by(|a, b| a.bytes < b.bytes && a.time_us <= b.time_us);
            let sane = link.lone.iter().all(|point| is_span(point.time_us) && is_span(Micros(point.bytes)));
            if !rises || !sane || !link.spread.iter().copied().all(is_factor) {
                return Err(
                    "a link's `lone` messages need rising sizes and times, its `spread` positive numbers"
                        .into(),
                );
            }
        }
        let nodes = self.nodes.len();
        for row in &self.encodings {
            let times = row.encode_us.iter().chain(&row.decode_us);
            let sizes = (row.encode_us.len(), row.decode_us.len());
            let bytes_make_sense = row.bytes.is_finite() && row.bytes >= 0.0;
            if sizes != (nodes, nodes) || !times.copied().all(is_span) || !bytes_make_sense {
                return Err(format!(
                    "encoding {} at cut {:?} needs bytes and {nodes} times each way, a node's each, none below zero",
                    row.encoding, row.cut
                ));
            }
        }
        Ok(())
    }

    fn check_tables(&self) -> Result<(), String> {
        if self.exits.is_empty() || self.samples() == 0 {
            return Err("exits and outcomes must not be empty".into());
        }
        let lossy = self.lossy_outcomes.iter().flat_map(|row| row.exits.iter().flatten());
        if self.outcomes.iter().chain(lossy).any(|outcomes| outcomes.len() != self.samples()) {
            return Err(format!("every outcome list must hold the same {} samples", self.samples()));
        }
        let exits = self.exits.len();
        if self.outcomes.len() != exits || self.lossy_outcomes.iter().any(|row| row.exits.len() != exits) {
            return Err(format!("every outcome table must have one entry for each of the {exits} exits"));
        }
        if let Some(ties) = self.constraints.ties.filter(|ties| !(0.0..=1.0).contains(&ties.0)) {
            return Err(format!("ties within a share of 0 to 1 were expected, found {}", ties.0));
        }
        if let Some(confidence) = self.constraints.confidence
            && !(confidence.0 > 0.0 && confidence.0 < 1.0)
        {
            return Err(format!("a confidence lies between 0 and 1, found {}", confidence.0));
        }
        self.check_uncut()
    }

    fn check_uncut(&self) -> Result<(), String> {
        let (few, more) = (self.samples(), self.uncut_samples());
        if self.uncut_outcomes.is_empty() {
            return Ok(());
        }
        if self.uncut_outcomes.len() != self.exits.len()
            || more == 0
            || self.uncut_outcomes.iter().any(|outcomes| outcomes.len() != more)
        {
            return Err(format!(
                "uncut_outcomes must hold the same samples, at least one, for each of the {} exits",
                self.exits.len()
            ));
        }
        if parts(few, more) > MOST_PARTS {
            return Err(format!(
                "{few} samples beside {more} uncut ones have no common multiple up to {MOST_PARTS}; leave some out"
            ));
        }
        Ok(())
    }
}

fn is_span(time: Micros) -> bool {
    time.0.is_finite() && time.0 >= 0.0
}

fn is_factor(factor: f64) -> bool {
    factor.is_finite() && factor > 0.0
}
