//! `coprof encodings`: what every encoding does to size and answers at every cut.

use clap::Args as ClapArgs;
use comfy_table::{Cell, CellAlignment};
use serde::Serialize;

use super::args::{DataArgs, ModelArgs, RuntimeArgs};
use super::device::Device;
use super::model::Model;
use super::output::Output;
use super::profile::crossings;
use super::{exits, stop, store};
use crate::codec::Encoding;
use crate::data::{EncodingRecord, EncodingRow, Split, fingerprint, locate};
use crate::error::Result;
use crate::measure::{Watch, record_encodings};
use crate::model::Graph;
use crate::report::{Emulation, Envelope, new_table};
use crate::units::Share;

pub const EXAMPLE: &str = "Examples:
  coprof encodings                             # the model's committed record
  coprof encodings --record --data datasets    # measure it anew on the 5,000 validation images (minutes)";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Measure on CIFAR-10's validation split and write the record (models/NAME.encodings.csv.gz)
    #[arg(long)]
    record: bool,
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    envelope: Envelope,
    data_sha256: String,
    samples: usize,
    encodings: Vec<Row>,
}

/// One encoding at one cut.
#[derive(Serialize)]
struct Row {
    cut: String,
    encoding: Encoding,
    bytes_mean: f64,
    bytes_p99: u64,
    /// How often the final exit is right behind it, all samples going that far.
    final_accuracy: Share,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime)?;
    let record =
        if args.record { make(&model, &device, &args.data, output)? } else { model.encoding_record()? };
    let uncut = uncut_accuracy(&model, record.samples)?;
    let document = Document {
        envelope: device.envelope("encodings", Some(&model.graph), &Emulation::NONE),
        data_sha256: record.data.clone(),
        samples: record.samples,
        encodings: record.rows.iter().map(|row| table_row(&model.graph, &record, row, uncut)).collect(),
    };
    let path = store().save("encodings", &document)?;
    output.result(&document, || view(&document))?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}

fn make(model: &Model, device: &Device, data: &DataArgs, output: Output) -> Result<EncodingRecord> {
    let found = locate(data.data.as_deref())?.ok_or_else(exits::no_data)?;
    let images = found.load_many(&[Split::Validation, Split::Test])?;
    let bar = output.progress("encodings on CIFAR-10");
    let mut rows = Vec::new();
    let crossings = crossings(&model.graph);
    // The input has encodings of its own; all other cuts share theirs.
    let groups: Vec<(Vec<_>, Vec<Encoding>)> = {
        let (input, features): (Vec<_>, Vec<_>) =
            crossings.into_iter().partition(|(cut, _)| cut.layers().is_empty());
        let group = |group: Vec<(crate::model::Cut, Vec<Encoding>)>| {
            let encodings = group.first().map(|(_, encodings)| encodings.clone()).unwrap_or_default();
            (group.into_iter().map(|(cut, _)| cut).collect(), encodings)
        };
        vec![group(input), group(features)]
    };
    let total: usize = groups.iter().map(|(cuts, _)| cuts.len()).sum();
    let mut done = 0;
    for (cuts, encodings) in &groups {
        rows.extend(device.run(&model.graph, |backend| {
            let mut progress = |share: f64| bar.set((done as f64 + share * cuts.len() as f64) / total as f64);
            record_encodings(
                backend,
                &images[0],
                cuts,
                encodings,
                &mut Watch::new(&mut progress, &stop::asked),
            )
        })?);
        done += cuts.len();
    }
    drop(bar);
    let record = EncodingRecord {
        model: model.graph.hash.clone(),
        data: fingerprint(&images.iter().collect::<Vec<_>>()),
        samples: images[0].len(),
        rows,
    };
    let path = model.record_path("encodings");
    record.write(&path)?;
    output.say(format!("wrote {}", path.display()));
    Ok(record)
}

fn uncut_accuracy(model: &Model, samples: usize) -> Result<Share> {
    let (right, _) = model.exit_record()?.outcomes(Split::Validation, model.graph.final_exit().0);
    let counted = &right[..samples.min(right.len())];
    Ok(Share::of(counted.iter().filter(|&&right| right).count(), counted.len()))
}

/// Lossless encodings answer as the uncut model, coded ones as their element type without a coder.
fn table_row(graph: &Graph, record: &EncodingRecord, row: &EncodingRow, uncut: Share) -> Row {
    let element = row.encoding.without_coder();
    let plain =
        record.rows.iter().find(|other| other.cut == row.cut && other.encoding == element).unwrap_or(row);
    let name = &graph.exits[graph.final_exit().0].name;
    let effect = plain.exits.iter().find(|effect| effect.exit == *name);
    let accuracy = effect.map_or(uncut, |effect| {
        Share::of(effect.right.iter().filter(|&&right| right).count(), effect.right.len())
    });
    Row {
        cut: row.cut.clone(),
        encoding: row.encoding,
        bytes_mean: row.bytes_mean,
        bytes_p99: row.bytes_p99,
        final_accuracy: accuracy,
    }
}

fn view(document: &Document) -> String {
    let mut table =
        new_table(["cut after", "encoding", "bytes, mean", "bytes, p99", "final exit's accuracy"]);
    for row in &document.encodings {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&row.cut),
            Cell::new(row.encoding.to_string()),
            right(format!("{:.0}", row.bytes_mean)),
            right(row.bytes_p99.to_string()),
            right(row.final_accuracy.to_string()),
        ]);
    }
    format!("{table}\n{} validation images", document.samples)
}
