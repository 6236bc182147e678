//! `coprof replay`: the plan, end to end.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::{self, EmulationArgs, FrameArgs, ModelArgs, PeerArgs, RuntimeArgs};
use super::output::Output;
use crate::report::{replay_csv, replay_view};
use crate::runtime;
use crate::study::{Device, Model, Route, provenance, replay};
use coprof_core::error::Result;
use coprof_core::plan::{AccuracyBasis, Policy};

pub const EXAMPLE: &str = "Examples:
  coprof replay --peer 192.168.1.20                    # the plan of the last `coprof optimize`
  coprof replay --slowdown 8 --link-rate 2mbit --link-delay 5ms    # the flags that optimize had
  coprof replay --policy jalad                         # a baseline's plan of the same `coprof optimize`
  coprof replay --plan reports/plan-….json --tasks 2000
  coprof replay --model mine.onnx --data inputs.npy    # agreement with the uncut model on inputs of yours
  coprof replay --json | jq .error";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    peer: PeerArgs,
    #[command(flatten)]
    emulation: EmulationArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    data: FrameArgs,
    /// The plan to run [default: that of the newest `coprof optimize` for this model, host and emulation]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Run a baseline's plan from the newest `coprof optimize`
    #[arg(long, value_name = "NAME", conflicts_with = "plan", value_parser = args::policy())]
    policy: Option<Policy>,
    /// Tasks with the pipeline full; half as many run one at a time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    tasks: u32,
    /// Write every task of the full run as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let context = &output.context();
    runtime::check()?;
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime.options())?;
    let emulation = args.emulation.emulation();
    let plan = match &args.plan {
        Some(path) => replay::read_plan(path)?,
        None => replay::newest_plan(&model, &device, emulation, args.policy, context)?,
    };
    let crosses = plan.plan.links.iter().any(Option::is_some);
    let edge = if crosses {
        Some(Route::open(args.peer.address()?, &args.runtime.options(), &emulation, context)?)
    } else {
        None
    };
    let data = args.data.data.as_deref();
    // Predictions that come from elsewhere than from records are no matter of theirs.
    let from_records = plan.accuracy_basis == AccuracyBasis::Samples;
    let other = || provenance::of_frames(&model, data, context);
    let stage = replay::Stage {
        model: &model,
        device: &device,
        edge: edge.as_ref(),
        emulation,
        data,
        records_of_other_images: from_records.then(other).flatten(),
        tasks: args.tasks as usize,
        context,
    };
    let document = stage.replay(&replay::Job {
        name: args.policy.map_or("coprof", Policy::label),
        plan: &plan.plan,
        predicted: &plan.prediction,
        accuracy_basis: plan.accuracy_basis,
    })?;
    let path = context.save("replay", &document)?;
    if let Some(csv) = &args.csv {
        output.csv(csv, &replay_csv(&document.full))?;
    }
    output.result(&document, || {
        let view = replay_view(&[&document]);
        emulation.describe().map_or(view.clone(), |emulated| format!("{view}\n{emulated}"))
    })?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}
