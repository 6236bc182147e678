//! The best plan of a scenario, beside those of the baselines.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Context;
use super::device::Device;
use super::scenario::emulation_of;
use crate::report::{
    Arrivals, Envelope, LoadedPlan, ModelFacts, OptimizeDocument, PlanDocument, PolicyChoice, SearchFacts,
};
use coprof_core::error::{Error, Result};
use coprof_core::plan::{
    Arrival, Certified, Constraints, Found, Guarantee, ModelId, Objective, Policy, Predicted, Problem,
    certify, decide, decide_among, search, stays_best, under_load, with_intervals,
};
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
            arrival: self.arrival.or(saved.arrival),
            p99_below_us: self.p99_below.or(saved.p99_below_us),
        }
    }

    /// The same, checked before anything is measured.
    pub fn checked_over(&self, saved: Constraints) -> Result<Constraints> {
        let constraints = self.over(saved);
        if constraints.p99_below_us.is_some() && constraints.arrival.is_none() {
            return Err(Error::usage("--p99-below needs --arrival: waiting depends on how tasks arrive"));
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
pub fn read_scenario(path: &Path, criteria: &Criteria, device: &Device) -> Result<Case> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::failed(format!(
            "--scenario {}: {error}\n`coprof optimize` writes such files under reports/",
            path.display()
        ))
    })?;
    let scenario = Problem::from_json(&text).map_err(|error| error.within(path.display()))?;
    let constraints = criteria.checked_over(scenario.constraints)?;
    let scenario = scenario.with(|file| file.constraints = constraints)?;
    let envelope = serde_json::from_str(&text).unwrap_or_else(|_| {
        let ModelId { name, sha256 } = scenario.model.clone();
        Envelope {
            model: Some(ModelFacts { name, sha256 }),
            ..device.envelope("scenario", None, &emulation_of(&scenario))
        }
    });
    let peer = "scenario".into();
    Ok(Case { scenario, path: path.into(), peer, envelope, records_of_other_images: None })
}

/// Searches, asks the baselines, and saves the result and the plan, ours or that of `policy`.
pub fn optimize(case: &Case, policy: Option<Policy>, context: &Context) -> Result<OptimizeDocument> {
    let scenario = &case.scenario;
    let start = Instant::now();
    let mut found = search(scenario)?;
    let facts = SearchFacts {
        configurations: found.configurations,
        time_us: start.elapsed().into(),
        cuts: found.cuts,
        all_cuts: scenario.all_cuts,
    };
    let choice = choose(scenario, &mut found, context)?;
    // Seconds, where millions of configurations stand against the plan.
    let bar = context.progress("where the best plan stays the best");
    let stability = if choice.overrules { None } else { Some(stays_best(scenario, &found)?) };
    drop(bar);
    found.best.prediction = with_intervals(scenario, &found.best.plan)?;
    found.best.plan = scenario.calibrated(found.best.plan);
    let policies = baselines(scenario, context);
    let envelope = case.envelope.renewed("optimize");
    let arrivals = arrivals(scenario, &found.best, &policies, choice.decided_among)?;
    let document = OptimizeDocument {
        envelope,
        peer: case.peer.clone(),
        scenario: case.path.display().to_string(),
        constraints: scenario.constraints,
        accuracy_floor: choice.guarantee.map_or_else(|| scenario.accuracy_floor(), |known| known.accuracy),
        guarantee: choice.guarantee,
        uncut_accuracy: scenario.uncut_accuracy(),
        unsettled: scenario.unsettled().map(str::to_owned).collect(),
        samples: scenario.samples(),
        uncut_samples: (!scenario.uncut_outcomes.is_empty()).then(|| scenario.uncut_samples()),
        best: found.best,
        runner_up: found.runner_up,
        policies,
        pareto: found.front,
        search: facts,
        accuracy_basis: scenario.accuracy_basis,
        records_of_other_images: case.records_of_other_images,
        stability,
        arrivals,
    };
    save_result(&document, policy, context)?;
    Ok(document)
}

/// What was asked beyond what an exact search ranks plans by, and whether it led to another plan.
struct Choice {
    guarantee: Option<Guarantee>,
    /// How many plans were simulated for a ceiling on the 99th percentile.
    decided_among: Option<usize>,
    overrules: bool,
}

/// Puts the best plan in place that is certain enough, and that keeps the ceiling on the 99th percentile.
fn choose(scenario: &Problem, found: &mut Found, context: &Context) -> Result<Choice> {
    let bar = scenario
        .constraints
        .confidence
        .map(|_| context.progress("choosing on one half, certifying on the other"));
    let certified = certify(scenario)?;
    drop(bar);
    let decided = match &certified {
        Some(certified) => decide_among(scenario, certified.iter().map(|each| &each.predicted.plan))?,
        None => decide(scenario, found)?,
    };
    let decided_among = decided.as_ref().map(|decided| decided.simulated);
    let most_certain = || certified.iter().flatten().next().map(|each| each.predicted.clone());
    let best = decided.map(|decided| decided.best).or_else(most_certain);
    let overrules = certified.is_some() || best.as_ref().is_some_and(|best| best.plan != found.best.plan);
    found.best = best.unwrap_or_else(|| found.best.clone());
    let is_best = |each: &&Certified| each.predicted.plan == found.best.plan;
    let guarantee = certified.iter().flatten().find(is_best).map(|each| each.guarantee);
    if let Some(certified) = &certified {
        let crosses_otherwise = |each: &&Certified| each.predicted.plan.links != found.best.plan.links;
        found.runner_up = certified.iter().find(crosses_otherwise).map(|each| each.predicted.clone());
    }
    Ok(Choice { guarantee, decided_among, overrules })
}

/// Saves the result, and the plan of ours or of `policy`.
fn save_result(document: &OptimizeDocument, policy: Option<Policy>, context: &Context) -> Result<()> {
    let chosen = match policy {
        None => &document.best,
        Some(name) => document.choice(name).ok_or_else(|| {
            Error::unmet(format!("policy '{name}' finds no plan for this scenario, so none is saved"))
        })?,
    };
    let plan = PlanDocument {
        envelope: document.envelope.renewed("plan"),
        peer: document.peer.clone(),
        plan: chosen.plan.clone(),
        prediction: chosen.prediction.clone(),
        accuracy_basis: document.accuracy_basis,
    };
    context.say(format!("saved {}", context.save("plan", &plan)?.display()));
    context.say(format!("saved {}", context.save("optimize", document)?.display()));
    Ok(())
}

/// Every baseline's choice; a baseline without one is named with the reason.
fn baselines(scenario: &Problem, context: &Context) -> Vec<PolicyChoice> {
    let (able, unable): (Vec<Policy>, Vec<Policy>) =
        Policy::ALL.into_iter().partition(|policy| policy.takes(scenario.nodes.len()));
    if !unable.is_empty() {
        let names: Vec<&str> = unable.into_iter().map(Policy::label).collect();
        context.say(format!("left out, since they are for two nodes: {}", names.join(", ")));
    }
    let mut choices = Vec::new();
    for name in able {
        match name.choose(scenario) {
            Ok(Predicted { plan, prediction }) => {
                let prediction = with_intervals(scenario, &plan).unwrap_or(prediction);
                let predicted = Predicted { plan: scenario.calibrated(plan), prediction };
                choices.push(PolicyChoice { name, predicted });
            }
            Err(error) => context.say(error.to_string()),
        }
    }
    choices
}

/// Ours and every baseline's plan under the scenario's arrivals.
fn arrivals(
    scenario: &Problem,
    best: &Predicted,
    policies: &[PolicyChoice],
    decided_among: Option<usize>,
) -> Result<Option<Arrivals>> {
    let Some(arrival) = scenario.constraints.arrival else { return Ok(None) };
    let named = std::iter::once(("coprof", best))
        .chain(policies.iter().map(|choice| (choice.name.label(), &choice.predicted)));
    let plans = named.map(|(name, predicted)| {
        Ok(LoadedPlan { name: name.into(), load: under_load(scenario, predicted, arrival)? })
    });
    Ok(Some(Arrivals { decided_among, plans: plans.collect::<Result<_>>()? }))
}
