//! `coprof exits`: early-exit thresholds against accuracy.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args as ClapArgs;

use super::args::{DataArgs, ModelArgs, RuntimeArgs};
use super::device::Device;
use super::model::Model;
use super::output::Output;
use super::{provenance, rows, save, stop};
use crate::data::{ExitRecord, Split, fingerprint, locate};
use crate::error::{Error, Result};
use crate::measure::{SweepTable, Watch, choose, expected_macs, record_exits, settings, sweep};
use crate::model::ExitId;
use crate::report::{Emulation, ExitAccuracy, ExitsDocument, SweepRow, exits_view};
use crate::units::Share;

pub const EXAMPLE: &str = "Examples:
  coprof exits                            # sweep the model's committed record: no images, no network
  coprof exits --record --data datasets   # run the model over CIFAR-10 and write its record anew
  coprof exits --csv sweep.csv --json | jq .chosen.test.accuracy";

/// How many threshold settings a sweep tries at most.
const SETTINGS: usize = 1000;

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Run the model over CIFAR-10 first and write its record (models/NAME.exits.csv.gz)
    #[arg(long)]
    record: bool,
    /// Write the sweep as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime)?;
    if let Some(place) = &args.data.data {
        locate(Some(place))?;
    }
    let record =
        if args.record { make_record(&model, &device, &args.data, output)? } else { model.exit_record()? };
    let mut document = document(&model, &device, &record)?;
    document.records_of_other_images = if args.record {
        Some(false)
    } else {
        provenance::records_of_other_images(&model, args.data.data.as_deref(), output)
    };
    if let Some(csv) = &args.csv {
        rows::write_csv(csv, &csv_rows(&document))?;
    }
    let path = save("exits", &document)?;
    output.result(&document, || exits_view(&document))?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}

fn make_record(model: &Model, device: &Device, data: &DataArgs, output: Output) -> Result<ExitRecord> {
    let found = locate(data.data.as_deref())?.ok_or_else(no_data)?;
    let splits = [Split::Validation, Split::Test];
    let images = found.load_many(&splits)?;
    let bar = output.progress("exits on CIFAR-10");
    let total: usize = images.iter().map(crate::data::Images::len).sum();
    let samples = device.run(&model.graph, |backend| {
        let mut samples = Vec::with_capacity(total);
        for (split, images) in splits.into_iter().zip(&images) {
            let before = samples.len() as f64;
            let mut progress = |share: f64| bar.set((before + share * images.len() as f64) / total as f64);
            samples.extend(record_exits(
                backend,
                images,
                split,
                &mut Watch::new(&mut progress, &stop::asked),
            )?);
        }
        Ok(samples)
    })?;
    drop(bar);
    let record = ExitRecord {
        model: model.graph.hash.clone(),
        data: fingerprint(&images.iter().collect::<Vec<_>>()),
        exits: model.graph.exits.iter().map(|exit| exit.name.clone()).collect(),
        samples,
    };
    let path = model.record_path("exits");
    record.write(&path)?;
    output.say(format!("wrote {}", path.display()));
    Ok(record)
}

/// What to say where a command needs CIFAR-10 and there is none.
pub fn no_data() -> Error {
    Error::failed(
        "CIFAR-10 was expected in datasets/; `coprof fetch cifar10` downloads it, --data names another place",
    )
}

/// Sweeps a record.
pub fn document(model: &Model, device: &Device, record: &ExitRecord) -> Result<ExitsDocument> {
    let graph = &*model.graph;
    if !record.exits.iter().eq(graph.exits.iter().map(|exit| &exit.name)) {
        return Err(Error::failed(format!(
            "the exit record of {} lists other exits; make it anew with --record",
            graph.name
        )));
    }
    let validation = SweepTable::new(record, Split::Validation);
    let test = SweepTable::new(record, Split::Test);
    if validation.samples() == 0 || test.samples() == 0 {
        return Err(Error::failed(
            "an exit record with samples of both splits was expected; make it anew with --record",
        ));
    }
    let settings = settings(&validation, SETTINGS);
    let start = Instant::now();
    let on_test = sweep(&test, &settings);
    let sweep_time_us = start.elapsed().into();
    let floor = Share(validation.accuracy_of(graph.final_exit()).0.0 - 0.01);
    let cost = |point: &crate::measure::SweepPoint| expected_macs(graph, point);
    let chosen = choose(&sweep(&validation, &settings), &test, floor, &cost);
    let alone = |index: usize| {
        let id = ExitId(index);
        let (accuracy, accuracy_ci95) = test.accuracy_of(id);
        let validation_accuracy = validation.accuracy_of(id).0;
        ExitAccuracy {
            name: graph.exits[index].name.clone(),
            accuracy,
            accuracy_ci95,
            validation_accuracy,
            macs: graph.macs_to(id),
        }
    };
    let row = |point: crate::measure::SweepPoint| SweepRow { macs: expected_macs(graph, &point), point };
    Ok(ExitsDocument {
        envelope: device.envelope("exits", Some(graph), &Emulation::NONE),
        data_sha256: record.data.clone(),
        records_of_other_images: None,
        samples: test.samples(),
        validation_samples: validation.samples(),
        exits: (0..graph.exits.len()).map(alone).collect(),
        sweep: on_test.into_iter().map(row).collect(),
        chosen,
        sweep_time_us,
    })
}

fn csv_rows(document: &ExitsDocument) -> Vec<Vec<String>> {
    let names = || document.exits.iter().map(|exit| exit.name.clone());
    let mut header: Vec<String> = names().map(|name| format!("{name}_threshold")).collect();
    header.extend(["accuracy", "accuracy_ci95_low", "accuracy_ci95_high"].map(str::to_owned));
    header.extend(names().map(|name| format!("{name}_share")));
    header.push("macs".into());
    let mut rows = vec![header];
    rows.extend(document.sweep.iter().map(|SweepRow { point, macs }| {
        let mut cells: Vec<String> = point.thresholds.iter().map(ToString::to_string).collect();
        let figures = [point.accuracy, point.accuracy_ci95[0], point.accuracy_ci95[1]];
        cells.extend(figures.iter().chain(&point.exit_fractions).map(|share| format!("{:.4}", share.0)));
        cells.push(format!("{macs:.0}"));
        cells
    }));
    rows
}
