//! `coprof layers`: latency, size and speed of every layer.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::LocalArgs;
use super::output::Output;
use crate::report::{LayersDocument, layers_csv, layers_view};
use crate::runtime;
use crate::study::layers;
use coprof_core::error::{Error, Result};
use coprof_run::measure::Disturbance;

pub const EXAMPLE: &str = "Examples:
  coprof layers                          # the bundled AlexNet, one thread, first core
  coprof layers --model mine.onnx        # your own model
  coprof layers --csv layers.csv --json | jq .whole_model_us.median";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    local: LocalArgs,
    /// Write the layers as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let context = &output.context();
    runtime::check()?;
    let (model, device) = args.local.open(context)?;
    let (document, path) = layers::measure(&model, &device, context)?;
    if let Some(csv) = &args.csv {
        output.csv(csv, &layers_csv(&document))?;
    }
    output.result(&document, || layers_view(&document))?;
    output.say(format!("saved {}", path.display()));
    if document.settled { Ok(()) } else { Err(unsettled(&document)) }
}

fn unsettled(document: &LayersDocument) -> Error {
    let Disturbance { samples, set_aside } = document.disturbance;
    Error::unmet(format!(
        "the layers did not settle in {} attempts: their sum is {:.2} of the whole model (0.9 to 1.1 was expected), and others had \
         the core during {set_aside} of {samples} timings\nthe result is marked and no other command picks it up; measure again \
         when nothing else runs on this core",
        document.attempts, document.layer_sum_over_whole
    ))
}
