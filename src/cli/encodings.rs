//! `coprof encodings`: what every encoding does to size, time and answers at every cut.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::RecordArgs;
use super::output::Output;
use crate::report::{cut_view, encodings_csv, encodings_view};
use crate::study::{encodings, encodings_record};
use coprof_core::error::{Error, Result};
use coprof_run::data::EncodingRecord;

pub const EXAMPLE: &str = "Examples:
  coprof encodings                             # the smallest encoding of each cut at a few losses
  coprof encodings --cut pool1                 # every encoding of one cut
  coprof encodings --record --data datasets    # measure sizes and answers anew on 5,000 images (minutes)
  coprof encodings --record --samples 2000     # on fewer, for large models
  coprof encodings --csv encodings.csv";

/// Cuts that an error names.
const MOST_NAMED: usize = 20;

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    of: RecordArgs,
    /// Measure on CIFAR-10's validation split, on all cores, and write the record (models/NAME.encodings.csv.gz); goes on
    /// where it was stopped
    #[arg(long)]
    record: bool,
    /// With --record: measure on the first N of the 5,000 images
    #[arg(long, value_name = "N", requires = "record", value_parser = clap::value_parser!(u32).range(100..=5000))]
    samples: Option<u32>,
    /// Show every encoding of this cut: a layer, several joined by +, or input
    #[arg(long, value_name = "NAME")]
    cut: Option<String>,
    /// Write every row as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let context = &output.context();
    let (model, device) = args.of.local.open(context)?;
    let record = if args.record {
        let samples = args.samples.map(|samples| samples as usize);
        encodings_record::make(&model, &device, args.of.data.as_deref(), samples, context)?
    } else {
        model.encoding_record()?
    };
    check_cut(args.cut.as_deref(), &record)?;
    let document = encodings::measure(&model, &device, &record, context)?;
    if let Some(csv) = &args.csv {
        output.csv(csv, &encodings_csv(&document))?;
    }
    let path = context.save("encodings", &document)?;
    output.result(&document, || match &args.cut {
        Some(cut) => cut_view(&document, cut),
        None => encodings_view(&document),
    })?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}

fn check_cut(asked: Option<&str>, record: &EncodingRecord) -> Result<()> {
    let Some(asked) = asked.filter(|asked| !record.rows.iter().any(|row| row.cut == *asked)) else {
        return Ok(());
    };
    let mut cuts: Vec<&str> = record.rows.iter().map(|row| row.cut.as_str()).collect();
    cuts.dedup();
    let more = cuts.len().saturating_sub(MOST_NAMED);
    cuts.truncate(MOST_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more, which --csv FILE lists") };
    Err(Error::usage(format!("--cut {asked}: no such cut; there are {}{more}", cuts.join(", "))))
}
