//! `coprof optimize`: the best plan.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::args::{self, ModelArgs, NodesArgs};
use super::output::Output;
use crate::report::{Emulation, optimize_csv, optimize_view};
use crate::study::Criteria;
use crate::study::optimize::{self, Basis, Effort, Options, Survey};
use coprof_core::error::{Error, Result};
use coprof_core::plan::{Arrival, Objective, Policy};
use coprof_core::units::{Micros, Share};

pub const EXAMPLE: &str = "Examples:
  coprof optimize --peer 192.168.1.20                         # a real device and edge
  coprof optimize --slowdown 8 --link-rate 2mbit --link-delay 5ms   # an emulated device and link
  coprof optimize --objective latency --min-rate 30 --min-accuracy 85%
  coprof optimize --scenario reports/scenario-….json --max-latency 20ms   # search again, measure nothing
  coprof optimize --peer 192.168.1.20 --refine 5      # measure the leading plans' stages whole
  coprof optimize --model mine.onnx --data inputs.npy   # a model of yours, held to agreement with itself uncut
  coprof optimize --scenario mine.json --search-time 5s --no-ranges   # the best plan alone, or a bound
  coprof optimize --scenario mine.json --confidence 95%   # the accuracy floor as a guarantee
  coprof optimize --scenario mine.json --arrival poisson:30 --p99-below 80ms   # with queues";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    nodes: NodesArgs,
    #[command(flatten)]
    criteria: CriteriaArgs,
    /// Inputs without labels: a folder of PNG or JPEG pictures, or an .npy array as the model takes it (.npz, by name, for several
    /// inputs). Plans are then held to agreement with the uncut model on them instead of the accuracy in its records
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "scenario")]
    data: Option<PathBuf>,
    /// Take everything from a saved scenario and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peer", "slowdown", "link_rate", "link_delay"])]
    scenario: Option<PathBuf>,
    /// Measure the stages of up to N leading plans whole on the real nodes, and rank all plans again
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "scenario", value_parser = clap::value_parser!(u8).range(0..=100))]
    refine: u8,
    /// Save a baseline's plan instead of ours
    #[arg(long, value_name = "NAME", value_parser = args::policy())]
    policy: Option<Policy>,
    /// End the search for the best plan after about so long, with a bound on what was left, and that for its ranges
    #[arg(long, value_name = "SPAN", value_parser = args::span, default_value = "1m")]
    search_time: Duration,
    /// Do not look for where the best plan stays the best
    #[arg(long)]
    no_ranges: bool,
    /// Write the Pareto front as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectiveName {
    /// Most tasks per second
    Rate,
    /// Least latency
    Latency,
    /// Highest accuracy
    Accuracy,
}

/// What is asked of the plan.
#[derive(ClapArgs, Clone, Debug, Default)]
struct CriteriaArgs {
    /// What to optimize [default: rate]
    #[arg(long, value_name = "WHAT")]
    objective: Option<ObjectiveName>,
    /// Accuracy floor, as 85% or 0.85 [default: one point under the uncut model's]
    #[arg(long, value_name = "SHARE", value_parser = args::share)]
    min_accuracy: Option<Share>,
    /// Make the floor a guarantee: with this probability the plan's true accuracy is not below it, as 95%. Half of the images then
    /// choose a plan, and the other half certify it
    #[arg(long, value_name = "SHARE", value_parser = args::confidence)]
    confidence: Option<Share>,
    /// Latency ceiling, as 30ms
    #[arg(long, value_name = "SPAN", value_parser = args::span)]
    max_latency: Option<Duration>,
    /// Rate floor, in tasks per second
    #[arg(long, value_name = "PER_S", value_parser = rate)]
    min_rate: Option<f64>,
    /// Take plans whose rate (or latency, if that is the objective) lies within this share of the best for ties, which the other of
    /// the two breaks [default: 1%]
    #[arg(long, value_name = "SHARE", value_parser = args::ties)]
    ties: Option<Share>,
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

impl CriteriaArgs {
    /// As studies take them.
    fn criteria(&self) -> Criteria {
        Criteria {
            objective: self.objective.map(|name| match name {
                ObjectiveName::Rate => Objective::Rate,
                ObjectiveName::Latency => Objective::Latency,
                ObjectiveName::Accuracy => Objective::Accuracy,
            }),
            min_accuracy: self.min_accuracy,
            confidence: self.confidence,
            max_latency: self.max_latency.map(Micros::from),
            min_rate_per_s: self.min_rate,
            ties: self.ties,
            arrival: self.arrival,
            p99_below: self.p99_below.map(Micros::from),
        }
    }
}

impl Args {
    /// As studies take them.
    fn options(&self) -> Options {
        let measured = || Survey {
            model: self.model.options(),
            edge: self.nodes.edge.options(),
            emulation: self.nodes.emulation.emulation(),
            data: self.data.clone(),
            refined_plans: self.refine.into(),
        };
        Options {
            basis: self.scenario.clone().map_or_else(|| Basis::Measured(Box::new(measured())), Basis::File),
            node: self.nodes.runtime.options(),
            criteria: self.criteria.criteria(),
            policy: self.policy,
            effort: Effort { time: self.search_time, ranges: !self.no_ranges },
        }
    }
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let document = optimize::run(&args.options(), &output.context())?;
    if let Some(csv) = &args.csv {
        output.csv(csv, &optimize_csv(&document))?;
    }
    output.result(&document, || {
        let emulation = document.envelope.emulated.unwrap_or(Emulation::NONE);
        emulation.noted_below(optimize_view(&document))
    })
}
