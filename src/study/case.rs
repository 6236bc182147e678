//! What is planned, and what is asked of the plan.

use std::path::{Path, PathBuf};

use super::local_node::LocalNode;
use super::scenario::emulation_of;
use crate::report::{Envelope, ModelFacts};
use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_core::plan::{Arrival, Constraints, ModelId, Objective, Problem};
use coprof_core::units::{Micros, Share};

/// What is asked of the plan. What is left open is taken from the scenario, or else by default.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// What to optimize.
    pub objective: Option<Objective>,
    /// Accuracy floor.
    pub min_accuracy: Option<Share>,
    /// The probability with which the true accuracy is to keep the floor.
    pub confidence: Option<Share>,
    /// Latency ceiling.
    pub max_latency: Option<Micros>,
    /// Rate floor, in tasks per second.
    pub min_rate_per_s: Option<f64>,
    /// Plans within this share of the best count as ties.
    pub ties: Option<Share>,
    /// How tasks arrive, for a simulation of the queues.
    pub arrival: Option<Arrival>,
    /// Ceiling of the 99th percentile of latency under `arrival`.
    pub p99_below: Option<Micros>,
}

impl Criteria {
    /// These where they are given, else those of `saved`.
    pub fn over(&self, saved: Constraints) -> Constraints {
        Constraints {
            objective: self.objective.unwrap_or(saved.objective),
            min_accuracy: self.min_accuracy.or(saved.min_accuracy),
            confidence: self.confidence.or(saved.confidence),
            max_latency_us: self.max_latency.or(saved.max_latency_us),
            min_rate_per_s: self.min_rate_per_s.or(saved.min_rate_per_s),
            ties: self.ties.or(saved.ties),
            arrival: self.arrival.or(saved.arrival),
            p99_below_us: self.p99_below.or(saved.p99_below_us),
        }
    }

    /// The same, checked before anything is measured.
    pub fn checked_over(&self, saved: Constraints) -> Result<Constraints> {
        let constraints = self.over(saved);
        if constraints.p99_below_us.is_some() && constraints.arrival.is_none() {
            return Err(Error::usage("waiting depends on how tasks arrive").with(Remedy::SayArrival));
        }
        Ok(constraints)
    }
}

/// A scenario, and where it comes from.
pub struct Case {
    /// What is planned.
    pub scenario: Problem,
    /// The file that holds it.
    pub path: PathBuf,
    /// The peer that it was measured with.
    pub peer: String,
    /// The circumstances.
    pub envelope: Envelope,
    /// Whether its accuracies come from records of other images than those at hand.
    pub records_of_other_images: Option<bool>,
}

/// A saved or hand-made scenario, under these criteria where they are given.
pub fn read_scenario(path: &Path, criteria: &Criteria, device: &LocalNode) -> Result<Case> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::failed(format!(
            "{}: {error}\n`coprof optimize` writes such files under reports/",
            path.display()
        ))
        .with(Remedy::GiveAnother(Given::Scenario))
    })?;
    let scenario = Problem::from_json(&text).map_err(|error| error.within(path.display()))?;
    let constraints = criteria.checked_over(scenario.constraints)?;
    let scenario = scenario.with(|file| file.constraints = constraints)?;
    let envelope = serde_json::from_str(&text).unwrap_or_else(|_| {
        let ModelId { name, sha256 } = scenario.model.clone();
        Envelope {
            model: Some(ModelFacts { name, sha256, agreement: None }),
            ..device.envelope("scenario", None, &emulation_of(&scenario))
        }
    });
    let peer = "scenario".into();
    Ok(Case { scenario, path: path.into(), peer, envelope, records_of_other_images: None })
}
