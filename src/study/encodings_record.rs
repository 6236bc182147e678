//! Makes an encoding record: every encoding at every cut, on all cores, a part after the other, so that it goes on where it was
//! stopped.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::crossings::crossings;
use super::exits::no_data;
use super::local_node::LocalNode;
use super::model::Model;
use super::{Context, Progress};
use crate::runtime;
use coprof_core::codec::{Calibration, Encoding};
use coprof_core::error::{Error, Kind, Result};
use coprof_core::model::Cut;
use coprof_run::data::{
    Checkpoints, EncodingRecord, EncodingRow, ExitEffect, Images, Split, fingerprint, locate,
};
use coprof_run::measure::{Ladder, LadderPart, Watch, calibrate};

/// Training images that calibrations are learned from. The validation images, on which their effect is counted, take no part.
const CALIBRATION_IMAGES: usize = 1000;

/// Images of a part: what is lost when it is stopped.
const PART: usize = 50;

/// Measures the record on CIFAR-10, on all validation images or the first `samples`, and writes it.
pub fn make(
    model: &Model,
    device: &LocalNode,
    data: Option<&Path>,
    samples: Option<usize>,
    context: &Context,
) -> Result<EncodingRecord> {
    runtime::check()?;
    model.check_classes()?;
    let found = locate(data)?.ok_or_else(no_data)?;
    let mut splits = found.load_many(&[Split::Train, Split::Validation, Split::Test])?.into_iter();
    let (Some(mut train), Some(mut images), Some(test)) = (splits.next(), splits.next(), splits.next())
    else {
        return Err(no_data());
    };
    let data = fingerprint(&[&images, &test]);
    train.truncate(CALIBRATION_IMAGES);
    images.truncate(samples.unwrap_or(images.len()));
    let path = model.record_path("encodings");
    let ladder = Encoding::ladder();
    let measuring =
        Measuring { model, device, encodings: &ladder, calibration: &train, counted: &images, data, context };
    measuring.write(&path)
}

/// A record that is to be measured.
pub struct Measuring<'a> {
    /// Of which model.
    pub model: &'a Model,
    /// Where it runs.
    pub device: &'a LocalNode,
    /// Those that are weighed.
    pub encodings: &'a [Encoding],
    /// What calibrations are learned from.
    pub calibration: &'a Images,
    /// What sizes and answers are counted on; with labels.
    pub counted: &'a Images,
    /// The fingerprint of the data.
    pub data: String,
    /// Messages, the stop flag and the folder of results.
    pub context: &'a Context,
}

impl Measuring<'_> {
    /// Measures the record and writes it to `path`. Finished parts wait beside it.
    pub fn write(self, path: &Path) -> Result<EncodingRecord> {
        let Self { model, device, encodings, calibration, counted, data, context } = self;
        let crossings = crossings(&model.graph, encodings).cuts;
        let folder = folder_of(path);
        // Which algorithms a session's layers run by is found by timing them, and with others the last digits are others: the parts
        // go with the calibrations that they were begun with.
        let of_calibration = settings(model, &fingerprint(&[calibration]), &[], &crossings)?;
        let calibrations =
            Checkpoints::new(&folder.join("calibrations"), &of_calibration).get_or_make(0, || {
                let bar = context.progress("calibrating");
                device.run(&model.graph, |backend| {
                    let mut progress = |share: f64| bar.set(share);
                    calibrate(
                        backend,
                        calibration,
                        &crossings,
                        &mut Watch::new(&mut progress, context.stop()),
                    )
                })
            })?;
        let checkpoints = Checkpoints::new(&folder, &settings(model, &data, &calibrations, &crossings)?);
        let bar = context.progress("every encoding at every cut");
        let making = Making {
            model,
            crossings,
            calibrations,
            images: counted,
            checkpoints: &checkpoints,
            bar,
            context,
        };
        making.measure(device)?;
        let (uncut, rows) = making.collect()?;
        let record = EncodingRecord {
            model: model.graph.hash.clone(),
            data,
            samples: counted.len(),
            calibrated_on: calibration.len(),
            uncut,
            rows,
        };
        record.write(path)?;
        checkpoints.remove()?;
        context.say(format!("wrote {}", path.display()));
        Ok(record)
    }
}

/// Where finished parts wait: beside the record.
fn folder_of(record: &Path) -> PathBuf {
    let mut name = record.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    record.with_file_name(name)
}

/// All that a part depends on. Calibrations depend on the same, but for themselves.
fn settings(
    model: &Model,
    data: &str,
    calibrations: &[Calibration],
    crossings: &[(Cut, Vec<Encoding>)],
) -> Result<[String; 4]> {
    let known = serde_json::to_string(calibrations);
    let known = known.map_err(|error| Error::failed(format!("cannot keep the calibrations ({error})")))?;
    let encodings: Vec<String> =
        crossings.iter().flat_map(|(_, encodings)| encodings).map(Encoding::to_string).collect();
    Ok([model.graph.hash.0.clone(), data.to_owned(), known, encodings.join(" ")])
}

/// A record in the making.
struct Making<'a> {
    model: &'a Model,
    crossings: Vec<(Cut, Vec<Encoding>)>,
    calibrations: Vec<Calibration>,
    images: &'a Images,
    checkpoints: &'a Checkpoints,
    bar: Box<dyn Progress>,
    context: &'a Context,
}

impl Making<'_> {
    fn part_count(&self) -> usize {
        self.images.len().div_ceil(PART)
    }

    fn samples(&self, part: usize) -> Range<usize> {
        part * PART..((part + 1) * PART).min(self.images.len())
    }

    fn ladder(&self) -> Result<Ladder> {
        Ladder::new(&self.model.graph, &self.crossings, &self.calibrations)
    }

    fn kept(&self, ladder: &Ladder, part: usize) -> Option<LadderPart> {
        self.checkpoints.get(part).filter(|kept| ladder.fits(kept, self.samples(part).len()))
    }

    /// Measures the parts that are not there yet, each core the next one.
    fn measure(&self, device: &LocalNode) -> Result<()> {
        let ladder = self.ladder()?;
        let missing: Vec<usize> =
            (0..self.part_count()).filter(|&part| self.kept(&ladder, part).is_none()).collect();
        let todo = missing.iter().map(|&part| self.samples(part).len()).sum();
        self.bar.start_at(1.0 - todo as f64 / self.images.len().max(1) as f64);
        let queue = Queue { missing, todo, next: 0.into(), finished: 0.into(), failed: false.into() };
        let cores = device.each_core();
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let work = |core| {
                let done = self.work(core, &queue);
                done.inspect_err(|_| queue.failed.store(true, Ordering::Relaxed))
            };
            let workers: Vec<_> = cores.iter().map(|core| scope.spawn(move || work(core))).collect();
            let broken = || Err(Error::failed("a measuring thread broke down; please report this"));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| broken())).collect()
        });
        // One that was interrupted by the failure of another says less than that one.
        let (interrupted, others): (Vec<Error>, Vec<Error>) =
            results.into_iter().filter_map(Result::err).partition(|error| error.kind() == Kind::Interrupted);
        others.into_iter().chain(interrupted).next().map_or(Ok(()), Err)
    }

    /// Takes parts from the queue until it is empty.
    fn work(&self, core: &LocalNode, queue: &Queue) -> Result<()> {
        core.on_thread(|thread| {
            let (mut backend, mut ladder) = (core.load(&self.model.graph, thread)?, self.ladder()?);
            let stop = || self.context.is_stopped() || queue.failed.load(Ordering::Relaxed);
            while let Some(part) = queue.take() {
                let (samples, mut told) = (self.samples(part), 0);
                let mut progress = |share: f64| {
                    let done = (share * samples.len() as f64) as usize;
                    let left = queue.finish(done - told);
                    self.bar.set(1.0 - left as f64 / self.images.len() as f64);
                    told = done;
                };
                let mut watch = Watch::new(&mut progress, &stop);
                let measured = ladder.measure(&mut backend, self.images, samples.clone(), &mut watch)?;
                self.checkpoints.put(part, &measured)?;
            }
            Ok(())
        })
    }

    /// Puts the parts together.
    fn collect(&self) -> Result<(Vec<ExitEffect>, Vec<EncodingRow>)> {
        let ladder = self.ladder()?;
        let part = |part| {
            self.kept(&ladder, part).ok_or_else(|| {
                Error::failed("a finished part of the record has vanished; run the same command again")
            })
        };
        ladder.rows((0..self.part_count()).map(part).collect::<Result<_>>()?)
    }
}

/// The parts that are left to measure, for all cores.
struct Queue {
    missing: Vec<usize>,
    /// Images of all of them.
    todo: usize,
    next: AtomicUsize,
    finished: AtomicUsize,
    failed: AtomicBool,
}

impl Queue {
    fn take(&self) -> Option<usize> {
        self.missing.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// So many more images are done; how many are left.
    fn finish(&self, images: usize) -> usize {
        self.todo.saturating_sub(self.finished.fetch_add(images, Ordering::Relaxed) + images)
    }
}
