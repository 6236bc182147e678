//! How often a network that was cut, encoded or left early agrees with itself uncut, on inputs without labels.

use std::path::Path;

use super::Context;
use super::encodings_record::Measuring;
use super::local_node::LocalNode;
use super::model::Model;
use coprof_core::codec::{Element, Encoding};
use coprof_core::error::{Error, Remedy, Result};
use coprof_run::data::{EncodingRecord, Images, fingerprint, is_cifar10, load_inputs};
use coprof_run::measure::{Watch, final_answers};

/// The share of the inputs that calibrations are learned from; agreement is counted on the others.
const CALIBRATION_SHARE: f64 = 0.2;

/// These inputs, each labelled with what the uncut model answers.
pub fn labelled(inputs: Images, model: &Model, device: &LocalNode, context: &Context) -> Result<Images> {
    model.check_decides()?;
    let bar = context.progress("answers of the uncut model");
    let answers = device.run(&model.graph, |backend| {
        let mut progress = |share: f64| bar.set(share);
        final_answers(backend, &inputs, &mut Watch::new(&mut progress, context.stop()))
    })?;
    inputs.labelled(answers).ok_or_else(|| Error::failed("an answer for each input was expected"))
}

/// The encoding record on the inputs in `place`, from `reports/` or measured now.
pub fn record(place: &Path, model: &Model, device: &LocalNode, context: &Context) -> Result<EncodingRecord> {
    if is_cifar10(place) {
        return Err(Error::usage(format!(
            "{}: CIFAR-10 has labels, and `coprof optimize` takes accuracy on it from the model's records",
            place.display()
        ))
        .with(Remedy::RecordLabelled));
    }
    let inputs = load_inputs(place, &model.graph.input.0)?;
    let data = fingerprint(&[&inputs]);
    let name = format!("agreement-{}-{}", model.graph.hash.short(), &data[..12]);
    let path = context.store().path(&format!("{name}.encodings.csv.gz"));
    let saved = EncodingRecord::read(&path, Some(&model.graph.hash)).ok();
    if let Some(record) = saved.filter(|record| record.data == data) {
        context.say(format!("agreement: from {}", path.display()));
        return Ok(record);
    }
    let mut calibration = labelled(inputs, model, device, context)?;
    let learned_from = (calibration.len() as f64 * CALIBRATION_SHARE).ceil() as usize;
    let counted = calibration.split_off(learned_from);
    let mut encodings = Encoding::short_ladder();
    encodings.retain(|encoding| counted.are_pixels() || encoding.element != Element::Pixels);
    let (calibration, counted, encodings) = (&calibration, &counted, &encodings[..]);
    Measuring { model, device, encodings, calibration, counted, data, context }.write(&path)
}
