//! `coprof exits`: early-exit thresholds against accuracy.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::RecordArgs;
use super::output::Output;
use crate::report::{exits_csv, exits_view};
use crate::study::{exits, provenance};
use coprof_core::error::Result;
use coprof_run::data::locate;

pub const EXAMPLE: &str = "Examples:
  coprof exits                            # sweep the model's committed record: no images, no network
  coprof exits --record --data datasets   # run the model over CIFAR-10 and write its record anew
  coprof exits --csv sweep.csv --json | jq .chosen.test.accuracy";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    of: RecordArgs,
    /// Run the model over CIFAR-10 first and write its record (models/NAME.exits.csv.gz)
    #[arg(long)]
    record: bool,
    /// Write the sweep as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let context = &output.context();
    let (model, device) = args.of.local.open(context)?;
    let data = args.of.data.as_deref();
    if data.is_some() {
        locate(data)?;
    }
    let record =
        if args.record { exits::record(&model, &device, data, context)? } else { model.exit_record()? };
    let mut document = exits::sweep_record(&model, &device, &record)?;
    document.records_of_other_images =
        if args.record { Some(false) } else { provenance::records_of_other_images(&model, data, context) };
    if let Some(csv) = &args.csv {
        output.csv(csv, &exits_csv(&document))?;
    }
    let path = context.save("exits", &document)?;
    output.result(&document, || exits_view(&document))?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}
