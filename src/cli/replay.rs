//! `coprof replay`: the plan, end to end.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::{self, FrameArgs, ModelArgs, NodesArgs};
use super::output::Output;
use crate::report::{replay_csv, replay_view};
use crate::study::replay::{self, Options};
use coprof_core::error::Result;
use coprof_core::plan::Policy;

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
    nodes: NodesArgs,
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

impl Args {
    /// As studies take them.
    fn options(&self) -> Options {
        Options {
            model: self.model.options(),
            edge: self.nodes.edge.options(),
            emulation: self.nodes.emulation.emulation(),
            node: self.nodes.runtime.options(),
            data: self.data.data.clone(),
            plan: self.plan.clone(),
            policy: self.policy,
            tasks: self.tasks as usize,
        }
    }
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let options = args.options();
    let (document, path) = replay::run(&options, &output.context())?;
    if let Some(csv) = &args.csv {
        output.csv(csv, &replay_csv(&document.full))?;
    }
    output.result(&document, || options.emulation.noted_below(replay_view(&[&document])))?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}
