//! What a model's exits answer: the record, and the sweep of their thresholds over it.

use std::path::Path;
use std::time::Instant;

use super::Context;
use super::local_node::LocalNode;
use super::model::Model;
use crate::report::{Emulation, ExitAccuracy, ExitsDocument, SweepRow};
use crate::runtime;
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::ExitId;
use coprof_core::units::Share;
use coprof_run::data::{ExitRecord, Split, fingerprint, locate};
use coprof_run::measure::{SweepTable, Watch, choose, expected_macs, record_exits, settings, sweep};

/// How many threshold settings a sweep tries at most.
const SETTINGS: usize = 1000;

/// Runs the model over the validation and test images and writes what its exits answer.
pub fn record(
    model: &Model,
    device: &LocalNode,
    data: Option<&Path>,
    context: &Context,
) -> Result<ExitRecord> {
    runtime::check()?;
    model.check_classes()?;
    let found = locate(data)?.ok_or_else(no_data)?;
    let splits = [Split::Validation, Split::Test];
    let images = found.load_many(&splits)?;
    let bar = context.progress("exits on CIFAR-10");
    let total: usize = images.iter().map(coprof_run::data::Images::len).sum();
    let samples = device.run(&model.graph, |backend| {
        let mut samples = Vec::with_capacity(total);
        for (split, images) in splits.into_iter().zip(&images) {
            let before = samples.len() as f64;
            let mut progress = |share: f64| bar.set((before + share * images.len() as f64) / total as f64);
            samples.extend(record_exits(
                backend,
                images,
                split,
                &mut Watch::new(&mut progress, context.stop()),
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
    context.say(format!("wrote {}", path.display()));
    Ok(record)
}

/// What to say where a command needs CIFAR-10 and there is none.
pub fn no_data() -> Error {
    Error::failed("CIFAR-10 was expected in datasets/; `coprof fetch cifar10` downloads it")
        .with(Remedy::NameCifar10)
}

/// Sweeps a record.
pub fn sweep_record(model: &Model, device: &LocalNode, record: &ExitRecord) -> Result<ExitsDocument> {
    let graph = &*model.graph;
    if !record.exits.iter().eq(graph.exits.iter().map(|exit| &exit.name)) {
        return Err(Error::failed(format!("the exit record of {} lists other exits", graph.name))
            .with(Remedy::RemakeRecord));
    }
    let validation = SweepTable::new(record, Split::Validation);
    let test = SweepTable::new(record, Split::Test);
    if validation.samples() == 0 || test.samples() == 0 {
        return Err(Error::failed("an exit record with samples of both splits was expected")
            .with(Remedy::RemakeRecord));
    }
    let settings = settings(&validation, SETTINGS);
    let start = Instant::now();
    let on_test = sweep(&test, &settings);
    let sweep_time_us = start.elapsed().into();
    let floor = Share(validation.accuracy_of(graph.final_exit()).0.0 - 0.01);
    let cost = |point: &coprof_run::measure::SweepPoint| expected_macs(graph, point);
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
    let row = |point: coprof_run::measure::SweepPoint| SweepRow { macs: expected_macs(graph, &point), point };
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
