//! Rivals: other ways of choosing a plan for the same scenario, each by its own rule.

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Threshold};
use super::predict::{Prediction, predict_in};
use super::scenario::Scenario;
use super::search::Predicted;
use super::space::Space;
use crate::codec::{Coder, Element};
use crate::error::Result;

/// A named way of choosing a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The whole network on the device, no early exit.
    DeviceOnly,
    /// The whole network on the edge; the input crosses as the 8-bit pixels that it came as.
    EdgeOnly,
    /// Neurosurgeon (ASPLOS 2017, section 4.2): the cut with the least end-to-end latency, no early exit, features sent
    /// as they are.
    Neurosurgeon,
}

impl Policy {
    /// All of them, simplest first.
    pub const ALL: [Self; 3] = [Self::DeviceOnly, Self::EdgeOnly, Self::Neurosurgeon];

    /// The name for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::DeviceOnly => "device only",
            Self::EdgeOnly => "edge only",
            Self::Neurosurgeon => "Neurosurgeon",
        }
    }

    /// Its plan for a scenario, with what it would do.
    pub fn choose(self, scenario: &Scenario) -> Result<Predicted> {
        scenario.check()?;
        let space = Space::new(scenario)?;
        let plans = match self {
            Self::DeviceOnly => vec![device_only(&space)],
            Self::EdgeOnly => crossing_plans(&space, |resume, _| resume == 0),
            Self::Neurosurgeon => {
                let mut plans = crossing_plans(&space, |resume, coder| resume == 0 || coder == Coder::Raw);
                plans.push(device_only(&space));
                plans
            }
        };
        let mut best: Option<(Plan, Prediction)> = None;
        for plan in plans {
            let prediction = predict_in(&space, &plan)?;
            if best.as_ref().is_none_or(|(_, kept)| prediction.latency_us < kept.latency_us) {
                best = Some((plan, prediction));
            }
        }
        let (plan, prediction) = best.ok_or_else(|| {
            crate::error::Error::failed(format!(
                "the scenario lacks the encodings that '{}' needs",
                self.label()
            ))
        })?;
        Ok(Predicted { plan, prediction })
    }
}

/// No side exit; the final one on `node`.
fn final_only(space: &Space<'_>, node: usize) -> Vec<(Threshold, usize)> {
    let mut exits = vec![(Threshold::Never, node); space.scenario.exits.len()];
    if let Some(last) = exits.last_mut() {
        last.0 = Threshold::Always;
    }
    exits
}

fn device_only(space: &Space<'_>) -> Plan {
    space.plan(space.scenario.layers.len(), None, &final_only(space, 0))
}

/// A plan without early exits for every cut before the end, the input as pixels and features as 32-bit floats, where
/// `allowed` likes the cut and the coder.
fn crossing_plans(space: &Space<'_>, allowed: impl Fn(usize, Coder) -> bool) -> Vec<Plan> {
    let mut plans = Vec::new();
    for path in space.paths.iter().filter(|path| path.resume < space.scenario.layers.len()) {
        let element = if path.resume == 0 { Element::Pixels } else { Element::F32 };
        for row in path.rows.iter().map(|&row| &space.scenario.encodings[row]) {
            if row.encoding.element == element && allowed(path.resume, row.encoding.coder) {
                plans.push(space.plan(path.resume, Some((path.resume, row.encoding)), &final_only(space, 1)));
            }
        }
    }
    plans
}
