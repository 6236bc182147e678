//! `coprof encodings`: what every encoding does to size, time and answers at every cut.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::{DataArgs, ModelArgs, RuntimeArgs};
use super::crossings::crossings;
use super::device::Device;
use super::encodings_record;
use super::model::Model;
use super::output::Output;
use super::profile::{CodecTimes, ProfileRequest, profile_node};
use super::{rows, save, stop};
use crate::codec::Encoding;
use crate::data::{EncodingRecord, EncodingRow, ExitEffect, cut_name};
use crate::error::{Error, Result};
use crate::model::Graph;
use crate::report::{Emulation, EncodingTableRow, EncodingsDocument, cut_view, encodings_view};
use crate::units::Share;

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
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    data: DataArgs,
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
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime)?;
    let record = if args.record {
        let samples = args.samples.map(|samples| samples as usize);
        encodings_record::make(&model, &device, &args.data, samples, output)?
    } else {
        model.encoding_record()?
    };
    check_cut(args.cut.as_deref(), &record)?;
    let document = measure(&model, &device, &record, output)?;
    if let Some(csv) = &args.csv {
        rows::write_csv(csv, &csv_rows(&document))?;
    }
    let path = save("encodings", &document)?;
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

/// Times every encoding at every cut on this host and puts sizes and answers of the record beside it.
fn measure(
    model: &Model,
    device: &Device,
    record: &EncodingRecord,
    output: Output,
) -> Result<EncodingsDocument> {
    let bar = output.progress("codecs on this host");
    let request = ProfileRequest { encodings: Encoding::ladder(), ..ProfileRequest::default() };
    let profile = device.run(&model.graph, |backend| {
        profile_node(backend, &request, &*device.clock(), &mut |share| bar.set(share), &stop::asked)
    })?;
    drop(bar);
    let times: HashMap<_, &CodecTimes> =
        profile.codecs.iter().map(|times| ((cut_name(&times.cut), times.encoding), times)).collect();
    let name = &model.graph.exits[model.graph.final_exit().0].name;
    let of_final = |accuracy: &BTreeMap<String, Share>| {
        accuracy.get(name).copied().ok_or_else(|| {
            Error::failed(format!(
                "the record of {} lacks exit '{name}'; make it anew with --record",
                model.graph.name
            ))
        })
    };
    let row = |row: &EncodingRow| {
        let times = times.get(&(row.cut.clone(), row.encoding)).ok_or_else(|| {
            Error::failed(format!(
                "the record of {} holds {} at cut {}, which is not measured any more; make it anew with --record",
                model.graph.name, row.encoding, row.cut
            ))
        })?;
        let accuracy = accuracy(&model.graph, record, row);
        let final_accuracy = of_final(&accuracy)?;
        Ok(EncodingTableRow {
            cut: row.cut.clone(),
            encoding: row.encoding,
            bytes_mean: row.bytes_mean,
            bytes_p99: row.bytes_p99,
            encode_us: times.encode_us,
            decode_us: times.decode_us,
            accuracy,
            final_accuracy,
        })
    };
    let uncut = record.uncut.iter().map(|effect| (effect.exit.clone(), share_right(effect)));
    let uncut_accuracy: BTreeMap<String, Share> = uncut.collect();
    Ok(EncodingsDocument {
        envelope: device.envelope("encodings", Some(&model.graph), &Emulation::NONE),
        data_sha256: record.data.clone(),
        samples: record.samples,
        calibrated_on: record.calibrated_on,
        uncut_final_accuracy: of_final(&uncut_accuracy)?,
        uncut_accuracy,
        encodings: record.rows.iter().map(row).collect::<Result<_>>()?,
    })
}

/// The codec times of a saved document as a profile has them; `None` unless it has all that are weighed.
pub fn times_of(
    graph: &Graph,
    weighed: &[Encoding],
    document: &EncodingsDocument,
) -> Option<Vec<CodecTimes>> {
    let rows: HashMap<(&str, Encoding), &EncodingTableRow> =
        document.encodings.iter().map(|row| ((row.cut.as_str(), row.encoding), row)).collect();
    let mut times = Vec::with_capacity(rows.len());
    for (cut, encodings) in crossings(graph, weighed).cuts {
        let tips = cut.tip_names(graph);
        let name = cut_name(&tips);
        for encoding in encodings {
            let row = rows.get(&(name.as_str(), encoding))?;
            let (encode_us, decode_us) = (row.encode_us, row.decode_us);
            times.push(CodecTimes { cut: tips.clone(), encoding, encode_us, decode_us });
        }
    }
    Some(times)
}

/// Lossless encodings answer as the uncut model, coded ones as their element type without a coder. An exit whose head hangs on
/// what crosses can be tried behind a lossless encoding, too, but only the recorded rows tell which these are.
fn accuracy(graph: &Graph, record: &EncodingRecord, row: &EncodingRow) -> BTreeMap<String, Share> {
    let lossy = record.rows.iter().find(|other| other.cut == row.cut && !other.exits.is_empty());
    let behind = |name: &str| lossy.is_none_or(|lossy| lossy.exits.iter().any(|effect| effect.exit == name));
    let names = graph.exits.iter().map(|exit| exit.name.as_str()).filter(|name| behind(name));
    let answers = record.answers(row).filter(|_| !row.encoding.is_lossless());
    let effect = |name: &str| match answers {
        Some(answers) => answers.exits.iter().find(|effect| effect.exit == name),
        None => record.uncut(name),
    };
    names.filter_map(|name| Some((name.to_owned(), share_right(effect(name)?)))).collect()
}

fn share_right(effect: &ExitEffect) -> Share {
    Share::of(effect.right.iter().filter(|&&right| right).count(), effect.right.len())
}

fn csv_rows(document: &EncodingsDocument) -> Vec<Vec<String>> {
    let exits: Vec<&String> = document.uncut_accuracy.keys().collect();
    let header = ["cut", "encoding", "bytes_mean", "bytes_p99", "encode_us", "decode_us"];
    let accuracies = exits.iter().map(|exit| format!("{exit}_accuracy"));
    let mut rows = vec![header.map(str::to_owned).into_iter().chain(accuracies).collect::<Vec<_>>()];
    rows.extend(document.encodings.iter().map(|row| {
        let of_exit = |exit: &&String| {
            row.accuracy.get(*exit).map_or_else(String::new, |share| format!("{:.4}", share.0))
        };
        let figures = [
            row.cut.clone(),
            row.encoding.to_string(),
            format!("{:.1}", row.bytes_mean),
            row.bytes_p99.to_string(),
            format!("{:.2}", row.encode_us.0),
            format!("{:.2}", row.decode_us.0),
        ];
        figures.into_iter().chain(exits.iter().map(of_exit)).collect()
    }));
    rows
}
