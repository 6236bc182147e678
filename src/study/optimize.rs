//! The best plan for a model on two nodes, or for a saved scenario, beside those of the baselines.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Context;
use super::case::{Case, Criteria, read_scenario};
use super::edge::{EdgeOptions, Endpoint};
use super::evidence::Evidence;
use super::local_node::{LocalNode, NodeOptions};
use super::model::{Model, ModelOptions};
use super::provenance;
use super::refine::Nodes;
use super::survey::measure_scenario;
use crate::report::{
    Arrivals, Emulation, LoadedPlan, OptimizeDocument, PlanDocument, PolicyChoice, SearchFacts,
};
use crate::runtime;
use coprof_core::error::{Error, Result};
use coprof_core::plan::{
    Certified, Constraints, Found, FrontPlan, Guarantee, Policy, Predicted, Problem, certify, decide,
    decide_among, pareto_front, search_until, stays_best, under_load, with_intervals,
};
use coprof_core::units::Micros;

/// What to plan, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the scenario comes from.
    pub basis: Basis,
    /// How layers run on this machine.
    pub node: NodeOptions,
    /// What is asked of the plan.
    pub criteria: Criteria,
    /// Save the plan of this baseline instead of ours.
    pub policy: Option<Policy>,
    /// How much is searched.
    pub effort: Effort,
}

/// How much is searched.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// After so long the search for the best plan ends with a bound, and that for its ranges without.
    pub time: Duration,
    /// Whether to find where the best plan stays the best.
    pub ranges: bool,
}

impl Default for Effort {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), ranges: true }
    }
}

/// Where a scenario comes from.
#[derive(Clone, Debug)]
pub enum Basis {
    /// A saved or hand-made file. Nothing is measured.
    File(PathBuf),
    /// Both nodes and the link.
    Measured(Box<Survey>),
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The model.
    pub model: ModelOptions,
    /// Which edge.
    pub edge: EdgeOptions,
    /// What is emulated.
    pub emulation: Emulation,
    /// Inputs without labels, on which agreement with the uncut model counts instead of the accuracy in its records.
    pub data: Option<PathBuf>,
    /// The stages of up to so many leading plans are measured whole.
    pub refined_plans: usize,
}

/// Measures or reads the scenario and plans.
pub fn run(options: &Options, context: &Context) -> Result<OptimizeDocument> {
    let device = LocalNode::as_device(&options.node)?;
    let case = match &options.basis {
        Basis::File(path) => read_scenario(path, &options.criteria, &device)?,
        Basis::Measured(survey) => measure(survey, options, &device, context)?,
    };
    optimize(&case, options.policy, options.effort, context)
}

fn measure(survey: &Survey, options: &Options, device: &LocalNode, context: &Context) -> Result<Case> {
    options.criteria.checked_over(Constraints::default())?;
    runtime::check()?;
    let model = &Model::open(&survey.model, context)?;
    let edge = &Endpoint::open(&survey.edge, &options.node, &survey.emulation, context)?;
    let evidence = Evidence::gather(model, device, survey.data.as_deref(), context)?;
    let records_of_other_images = match &evidence {
        Evidence::Records { .. } => provenance::records_of_other_images(model, None, context),
        _ => None,
    };
    let nodes = Nodes { model, device, edge, context };
    let case =
        measure_scenario(&nodes, &evidence, survey.emulation, &options.criteria, survey.refined_plans)?;
    Ok(Case { records_of_other_images, ..case })
}

/// Searches, asks the baselines, and saves the result and the plan, ours or that of `policy`.
pub fn optimize(
    case: &Case,
    policy: Option<Policy>,
    effort: Effort,
    context: &Context,
) -> Result<OptimizeDocument> {
    let scenario = &case.scenario;
    let (mut found, time_us) =
        timed(effort, "the best plan", context, |is_over| search_until(scenario, is_over))?;
    let (front, front_time_us) =
        timed(effort, "the Pareto front", context, |_| pareto_front(scenario, Some(&found.best)))?;
    let choice = choose(scenario, &mut found, &front.plans, context)?;
    let (stability, ranges_time_us) = if effort.ranges && !choice.overrules && found.gap.0 == 0.0 {
        let what = "where the best plan stays the best";
        timed(effort, what, context, |is_over| stays_best(scenario, &found, is_over))?
    } else {
        (None, Micros::ZERO)
    };
    let facts = SearchFacts {
        configurations: found.configurations,
        time_us,
        very_best_us: found.very_best,
        knows_runner_up: found.knows_runner_up,
        gap: found.gap,
        front_time_us,
        front_thresholds: front.thresholds,
        ranges_time_us,
        cuts: found.cuts,
        all_cuts: scenario.all_cuts,
    };
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
        pareto: front.plans,
        search: facts,
        accuracy_basis: scenario.accuracy_basis,
        records_of_other_images: case.records_of_other_images,
        stability,
        arrivals,
    };
    save_result(&document, policy, context)?;
    Ok(document)
}

/// What a search found, and how long it took; it is told when its time is over.
fn timed<T>(
    effort: Effort,
    what: &str,
    context: &Context,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T>,
) -> Result<(T, Micros)> {
    let _bar = context.progress(what);
    let start = Instant::now();
    let found = work(&|| start.elapsed() >= effort.time || context.is_stopped())?;
    context.check()?;
    Ok((found, start.elapsed().into()))
}

/// What was asked beyond what an exact search ranks plans by, and whether it led to another plan.
struct Choice {
    guarantee: Option<Guarantee>,
    /// How many plans were simulated for a ceiling on the 99th percentile.
    decided_among: Option<usize>,
    overrules: bool,
}

/// Puts the best plan in place that is certain enough, and that keeps the ceiling on the 99th percentile.
fn choose(scenario: &Problem, found: &mut Found, front: &[FrontPlan], context: &Context) -> Result<Choice> {
    let bar = scenario
        .constraints
        .confidence
        .map(|_| context.progress("choosing on one half, certifying on the other"));
    let certified = certify(scenario)?;
    drop(bar);
    let decided = match &certified {
        Some(certified) => decide_among(scenario, certified.iter().map(|each| &each.predicted.plan))?,
        None => decide(scenario, &found.best.plan, front)?,
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
