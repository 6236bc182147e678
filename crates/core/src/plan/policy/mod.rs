//! Baselines: other ways of choosing a plan for the same scenario, each by its own paper's rule.
//!
//! None of them may choose what cannot run: plans that a node may not or cannot hold are no candidates. Each knows the
//! encodings of its own paper, and the input in its exact 8-bit form. Times are the scenario's, message overheads, codecs and
//! exit heads included, also where a paper's own model leaves them out: a baseline that is blind to them would lose to itself.

mod dads;
mod edgent;
mod jalad;
mod min_cut;
mod one_way;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
mod thresholds;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::one_way::{OneWay, device_only, edge_only, is_raw};
use super::plan::Plan;
use super::predict::predict_in;
use super::problem::Problem;
use super::search::Predicted;
use super::space::Space;
use crate::error::{Error, Result};

/// A named way of choosing a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The whole network on node 0, no early exit.
    DeviceOnly,
    /// The whole network on the last node; the input crosses every link as the 8-bit pixels that it came as.
    EdgeOnly,
    /// Neurosurgeon (Kang et al., ASPLOS 2017, section 4.2): the cut with the least end-to-end latency, no early exit,
    /// features sent as they are. The paper's networks are chains; here its rule goes over every cut of the scenario.
    Neurosurgeon,
    /// Edgent in a static environment (Li, Zhou, Chen, MECOMM 2018, the joint search for exit and partition point): see
    /// `edgent.rs`.
    Edgent,
    /// JALAD (Li et al., ICPADS 2018, the decoupling problem): see `jalad.rs`.
    Jalad,
    /// BranchyNet (Teerapittayanon et al., ICPR 2016, section III) on the device: see `thresholds.rs`.
    Branchynet,
    /// DADS under light load, DSL (Hu et al., INFOCOM 2019): see `dads.rs`.
    DadsLight,
    /// DADS under heavy load, DSH (Hu et al., INFOCOM 2019): see `dads.rs`.
    DadsHeavy,
    /// The optimizer of the pipeline paper (Hu, Dong, Wen, ICCCS 2021) without what coprof adds: see `thresholds.rs`.
    Pipeline,
}

impl Policy {
    /// All of them, simplest first.
    pub const ALL: [Self; 9] = [
        Self::DeviceOnly,
        Self::EdgeOnly,
        Self::Neurosurgeon,
        Self::Edgent,
        Self::Jalad,
        Self::Branchynet,
        Self::DadsLight,
        Self::DadsHeavy,
        Self::Pipeline,
    ];

    /// The name for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::DeviceOnly => "device only",
            Self::EdgeOnly => "edge only",
            Self::Neurosurgeon => "Neurosurgeon",
            Self::Edgent => "Edgent",
            Self::Jalad => "JALAD",
            Self::Branchynet => "BranchyNet",
            Self::DadsLight => "DADS light",
            Self::DadsHeavy => "DADS heavy",
            Self::Pipeline => "pipeline",
        }
    }

    /// The name for flags and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceOnly => "device-only",
            Self::EdgeOnly => "edge-only",
            Self::Neurosurgeon => "neurosurgeon",
            Self::Edgent => "edgent",
            Self::Jalad => "jalad",
            Self::Branchynet => "branchynet",
            Self::DadsLight => "dads-light",
            Self::DadsHeavy => "dads-heavy",
            Self::Pipeline => "pipeline",
        }
    }

    /// Whether it is for so many nodes.
    pub fn takes(self, nodes: usize) -> bool {
        nodes == 2 || matches!(self, Self::DeviceOnly | Self::EdgeOnly)
    }

    /// Its plan for a scenario, with what it would do. Device only and edge only take any number of nodes; the papers
    /// behind the others know two.
    pub fn choose(self, scenario: &Problem) -> Result<Predicted> {
        scenario.check()?;
        let nodes = scenario.nodes.len();
        if !self.takes(nodes) {
            return Err(Error::failed(format!(
                "policy '{self}' is for two nodes, the scenario has {nodes}; '{}' and '{}' take any number",
                Self::DeviceOnly,
                Self::EdgeOnly
            )));
        }
        let space = Space::new(scenario)?;
        let plan = self.plan(&space)?.ok_or_else(|| {
            Error::failed(format!(
                "policy '{self}' finds no plan: the scenario lacks the encodings that it needs, or its nodes may not run or \
                 cannot hold what it would give them"
            ))
        })?;
        let prediction = predict_in(&space, &plan)?;
        Ok(Predicted { plan, prediction })
    }

    fn plan(self, space: &Space<'_>) -> Result<Option<Plan>> {
        let quickest = |plans: Vec<Plan>| OneWay::least(space, plans, OneWay::latency).map(|best| best.plan);
        Ok(match self {
            Self::DeviceOnly => quickest(vec![device_only(space)]),
            Self::EdgeOnly => quickest(edge_only(space).into_iter().collect()),
            Self::Neurosurgeon => quickest(one_way::plans(space, space.needs.len() - 1, is_raw)),
            Self::Edgent => edgent::choose(space),
            Self::Jalad => jalad::choose(space),
            Self::Branchynet => thresholds::branchynet(space)?,
            Self::DadsLight => dads::light(space),
            Self::DadsHeavy => dads::heavy(space),
            Self::Pipeline => thresholds::pipeline(space)?,
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::usage(format!("a policy was expected, found '{text}'; there are: {names}"))
        })
    }
}
