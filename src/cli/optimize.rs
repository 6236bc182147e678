//! `coprof optimize`: the best plan.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, ValueEnum};

use super::args::{self, EmulationArgs, ModelArgs, PeerArgs, RuntimeArgs};
use super::device::Device;
use super::edge::Route;
use super::evidence::Evidence;
use super::model::Model;
use super::output::Output;
use super::refine::Nodes;
use super::scenario::emulation_of;
use super::survey::measure_scenario;
use super::{provenance, rows, save};
use crate::error::{Error, Result};
use crate::plan::{
    Arrival, Constraints, ModelId, Objective, Policy, Predicted, Scenario, decide, search, stays_best,
    under_load, with_intervals,
};
use crate::report::{
    Arrivals, Envelope, LoadedPlan, ModelFacts, OptimizeDocument, PlanDocument, PolicyChoice, SearchFacts,
    crossing, optimize_view,
};
use crate::units::{Micros, Share};

pub const EXAMPLE: &str = "Examples:
  coprof optimize --peer 192.168.1.20                         # a real device and edge
  coprof optimize --slowdown 8 --link-rate 2mbit --link-delay 5ms   # an emulated device and link
  coprof optimize --objective latency --min-rate 30 --min-accuracy 85%
  coprof optimize --scenario reports/scenario-….json --max-latency 20ms   # search again, measure nothing
  coprof optimize --peer 192.168.1.20 --refine 5      # measure the leading plans' stages whole
  coprof optimize --model mine.onnx --data inputs.npy   # a model of yours, held to agreement with itself uncut
  coprof optimize --scenario mine.json --arrival poisson:30 --p99-below 80ms   # with queues";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub peer: PeerArgs,
    #[command(flatten)]
    pub emulation: EmulationArgs,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub wishes: Wishes,
    /// Inputs without labels: a folder of PNG or JPEG pictures, or an .npy array as the model takes it. Plans are then held to
    /// agreement with the uncut model on them instead of the accuracy in its records
    #[arg(long, value_name = "DIR|FILE.npy", conflicts_with = "scenario")]
    pub data: Option<PathBuf>,
    /// Take everything from a saved scenario and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peer", "slowdown", "link_rate", "link_delay"])]
    pub scenario: Option<PathBuf>,
    /// Measure the stages of up to N leading plans whole on the real nodes, and rank all plans again
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "scenario", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub refine: u8,
    /// Save a rival's plan instead of ours
    #[arg(long, value_name = "NAME", value_parser = args::policy())]
    pub policy: Option<Policy>,
    /// Write the Pareto front as CSV, too
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ObjectiveName {
    /// Most tasks per second
    Rate,
    /// Least latency
    Latency,
    /// Highest accuracy
    Accuracy,
}

/// What is asked of the plan.
#[derive(ClapArgs, Clone, Debug, Default)]
pub struct Wishes {
    /// What to optimize [default: rate]
    #[arg(long, value_name = "WHAT")]
    objective: Option<ObjectiveName>,
    /// Accuracy floor, as 85% or 0.85 [default: one point under the uncut model's]
    #[arg(long, value_name = "SHARE", value_parser = args::share)]
    min_accuracy: Option<Share>,
    /// Latency ceiling, as 30ms
    #[arg(long, value_name = "SPAN", value_parser = args::span)]
    max_latency: Option<Duration>,
    /// Rate floor, in tasks per second
    #[arg(long, value_name = "PER_S", value_parser = rate)]
    min_rate: Option<f64>,
    /// How tasks arrive, for a simulation of the queues: closed:4 (in flight), rate:30 or poisson:30 (per second)
    #[arg(long, value_name = "ARRIVAL", value_parser = arrival)]
    arrival: Option<Arrival>,
    /// Ceiling of the 99th percentile of latency under --arrival, as 50ms
    #[arg(long, value_name = "SPAN", value_parser = args::span)]
    p99_below: Option<Duration>,
}

fn arrival(text: &str) -> Result<Arrival, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "a positive number of tasks per second was expected".into())
}

impl Wishes {
    /// These wishes where they are given, else those of `saved`.
    pub fn over(&self, saved: Constraints) -> Constraints {
        let objective = self.objective.map(|name| match name {
            ObjectiveName::Rate => Objective::Rate,
            ObjectiveName::Latency => Objective::Latency,
            ObjectiveName::Accuracy => Objective::Accuracy,
        });
        Constraints {
            objective: objective.unwrap_or(saved.objective),
            min_accuracy: self.min_accuracy.or(saved.min_accuracy),
            max_latency_us: self.max_latency.map(Micros::from).or(saved.max_latency_us),
            min_rate_per_s: self.min_rate.or(saved.min_rate_per_s),
            arrival: self.arrival.or(saved.arrival),
            p99_below_us: self.p99_below.map(Micros::from).or(saved.p99_below_us),
        }
    }

    /// These wishes over those of `saved`, checked before anything is measured.
    fn checked_over(&self, saved: Constraints) -> Result<Constraints> {
        let constraints = self.over(saved);
        if constraints.p99_below_us.is_some() && constraints.arrival.is_none() {
            return Err(Error::usage("--p99-below needs --arrival: waiting depends on how tasks arrive"));
        }
        Ok(constraints)
    }
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let device = Device::new(&args.runtime)?;
    let emulation = args.emulation.emulation();
    let problem = match &args.scenario {
        Some(path) => read_scenario(path, &args.wishes, &device)?,
        None => {
            args.wishes.checked_over(Constraints::default())?;
            let model = Model::load(&args.model.model)?;
            let route = Route::open(&args.peer, &args.runtime, &emulation, output)?;
            let evidence = Evidence::gather(&model, &device, args.data.as_deref(), output)?;
            let other = match &evidence {
                Evidence::Records { .. } => provenance::records_of_other_images(&model, None, output),
                _ => None,
            };
            let nodes = Nodes { model: &model, device: &device, route: &route, output };
            let problem =
                measure_scenario(&nodes, &evidence, emulation, &args.wishes, usize::from(args.refine))?;
            Problem { records_of_other_images: other, ..problem }
        }
    };
    let document = optimize(&problem, args.policy, output)?;
    if let Some(csv) = &args.csv {
        rows::write_csv(csv, &csv_rows(&document))?;
    }
    output.result(&document, || {
        let view = optimize_view(&document);
        let emulated = document.envelope.emulated.and_then(|emulation| emulation.describe());
        emulated.map_or(view.clone(), |emulated| format!("{view}\n{emulated}"))
    })
}

/// A scenario, the file that holds it, the peer that it was measured with, and the circumstances.
pub struct Problem {
    pub scenario: Scenario,
    pub path: PathBuf,
    pub peer: String,
    pub envelope: Envelope,
    /// Whether its accuracies come from records of other images than those at hand.
    pub records_of_other_images: Option<bool>,
}

fn read_scenario(path: &Path, wishes: &Wishes, device: &Device) -> Result<Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::failed(format!(
            "--scenario {}: {error}\n`coprof optimize` writes such files under reports/",
            path.display()
        ))
    })?;
    let mut scenario = Scenario::from_json(&text).map_err(|error| error.within(path.display()))?;
    scenario.constraints = wishes.checked_over(scenario.constraints)?;
    let envelope = serde_json::from_str(&text).unwrap_or_else(|_| {
        let ModelId { name, sha256 } = scenario.model.clone();
        Envelope {
            model: Some(ModelFacts { name, sha256 }),
            ..device.envelope("scenario", None, &emulation_of(&scenario))
        }
    });
    let peer = "scenario".into();
    Ok(Problem { scenario, path: path.into(), peer, envelope, records_of_other_images: None })
}

/// Searches, asks the rivals, and saves the result and the plan, ours or that of `policy`.
pub fn optimize(problem: &Problem, policy: Option<Policy>, output: Output) -> Result<OptimizeDocument> {
    let scenario = &problem.scenario;
    let start = Instant::now();
    let mut found = search(scenario)?;
    let facts = SearchFacts {
        configurations: found.configurations,
        time_us: start.elapsed().into(),
        cuts: found.cuts,
        all_cuts: scenario.all_cuts,
    };
    let decided = decide(scenario, &found)?;
    let decided_among = decided.as_ref().map(|decided| decided.simulated);
    let overruled = decided.as_ref().is_some_and(|decided| decided.best.plan != found.best.plan);
    // Seconds, where millions of configurations stand against the plan.
    let bar = output.progress("where the best plan stays the best");
    let stability = if overruled { None } else { Some(stays_best(scenario, &found)?) };
    drop(bar);
    if let Some(decided) = decided {
        found.best = decided.best;
    }
    found.best.prediction = with_intervals(scenario, &found.best.plan)?;
    found.best.plan = scenario.calibrated(found.best.plan);
    let policies = rivals(scenario, output);
    let envelope = problem.envelope.renewed("optimize");
    let arrivals = arrivals(scenario, &found.best, &policies, decided_among)?;
    let document = OptimizeDocument {
        envelope,
        peer: problem.peer.clone(),
        scenario: problem.path.display().to_string(),
        constraints: scenario.constraints,
        accuracy_floor: scenario.accuracy_floor(),
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
        records_of_other_images: problem.records_of_other_images,
        stability,
        arrivals,
    };
    save_result(&document, policy, output)?;
    Ok(document)
}

/// Saves the result, and the plan of ours or of `policy`.
fn save_result(document: &OptimizeDocument, policy: Option<Policy>, output: Output) -> Result<()> {
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
    output.say(format!("saved {}", save("plan", &plan)?.display()));
    output.say(format!("saved {}", save("optimize", document)?.display()));
    Ok(())
}

/// Every rival's choice; a rival without one is named with the reason.
fn rivals(scenario: &Scenario, output: Output) -> Vec<PolicyChoice> {
    let (able, unable): (Vec<Policy>, Vec<Policy>) =
        Policy::ALL.into_iter().partition(|policy| policy.takes(scenario.nodes.len()));
    if !unable.is_empty() {
        let names: Vec<&str> = unable.into_iter().map(Policy::label).collect();
        output.say(format!("left out, since they are for two nodes: {}", names.join(", ")));
    }
    let mut choices = Vec::new();
    for name in able {
        match name.choose(scenario) {
            Ok(Predicted { plan, prediction }) => {
                let prediction = with_intervals(scenario, &plan).unwrap_or(prediction);
                let predicted = Predicted { plan: scenario.calibrated(plan), prediction };
                choices.push(PolicyChoice { name, predicted });
            }
            Err(error) => output.say(error.to_string()),
        }
    }
    choices
}

/// Ours and every rival's plan under the scenario's arrivals.
fn arrivals(
    scenario: &Scenario,
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

fn csv_rows(document: &OptimizeDocument) -> Vec<Vec<String>> {
    let mut rows = vec![["rate_per_s", "latency_us", "accuracy", "cut", "exits"].map(str::to_owned).to_vec()];
    rows.extend(document.pareto.iter().map(|point| {
        let on = point.plan.exits.iter().filter(|exit| exit.threshold.is_on());
        let exits: Vec<String> =
            on.map(|exit| format!("{} {} node {}", exit.name, exit.threshold, exit.node)).collect();
        vec![
            format!("{:.3}", point.rate_per_s),
            format!("{:.1}", point.latency_us.0),
            format!("{:.4}", point.accuracy.0),
            crossing(&point.plan).replace('\n', " "),
            exits.join("; "),
        ]
    }));
    rows
}
