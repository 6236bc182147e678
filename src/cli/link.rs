//! `coprof link`: what the link is like.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{self, NodesArgs};
use super::output::Output;
use crate::report::{Emulation, link_csv, link_view};
use crate::study::{Endpoint, LocalNode, link};
use coprof_core::error::{Error, Result};

pub const EXAMPLE: &str = "Examples:
  coprof link --peer 192.168.1.20 --key coprof.key   # `coprof serve` runs there with the same key
  coprof link --link-rate 20mbit --link-delay 5ms    # an emulated link on this machine
  coprof link --json | jq .uplink.bits_per_second";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    nodes: NodesArgs,
    /// How long to measure
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = args::span)]
    time: Duration,
    /// Write the time-against-size points as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&args.time) {
        return Err(Error::usage("--time: 1s to 10m were expected"));
    }
    let context = &output.context();
    let device = LocalNode::as_device(&args.nodes.runtime.options())?;
    let emulation = Emulation { slowdown: 1.0, ..args.nodes.emulation.emulation() };
    if args.nodes.emulation.slowdown.is_some() {
        output.say("--slowdown does not touch the link; its figures are the same without");
    }
    let edge =
        Endpoint::open(&args.nodes.edge.options(), &args.nodes.runtime.options(), &emulation, context)?;
    let (document, path) = link::measure(&edge, &device, emulation, args.time, context)?;
    if let Some(csv) = &args.csv {
        output.csv(csv, &link_csv(&document.profile))?;
    }
    output.result(&document, || emulation.noted_below(link_view(&document)))?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}
