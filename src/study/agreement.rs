//! How often a network that was cut, encoded or left early agrees with itself uncut, on inputs without labels.

use std::path::Path;

use super::Context;
use super::encodings_record::Measuring;
use super::local_node::LocalNode;
use super::model::Model;
use coprof_core::codec::{Element, Encoding};
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::{Output, confidence};
use coprof_run::data::{EncodingRecord, Images, fingerprint, is_cifar10, load_inputs};
use coprof_run::measure::{Watch, final_answers};

/// The share of the inputs that calibrations are learned from; agreement is counted on the others.
const CALIBRATION_SHARE: f64 = 0.2;

/// Answers that are more than classes are kept in so much memory; of inputs that would need more, the first ones count.
const ANSWER_BYTES: usize = 256 << 20;

/// These inputs, each labelled with what the uncut model answers; or the first ones, where answers are large.
pub fn labelled(mut inputs: Images, model: &Model, device: &LocalNode, context: &Context) -> Result<Images> {
    let graph = &model.graph;
    let most = ANSWER_BYTES / (4 * graph.answer_numbers()).max(1);
    if inputs.len() > most.max(2) {
        inputs.truncate(most.max(2));
        context.say(format!(
            "{}: its answers are large; the first {} inputs count",
            graph.name,
            inputs.len()
        ));
    }
    let none_lost = || Error::failed("an answer for each input was expected");
    let (labelled, alike) = if graph.tells_classes() {
        let classes = answers(&inputs, model, device, context, |logits| confidence(logits).class)?;
        let alike = classes.windows(2).all(|pair| pair[0] == pair[1]);
        (inputs.labelled(classes).ok_or_else(none_lost)?, alike)
    } else {
        let numbers = answers(&inputs, model, device, context, <[f32]>::to_vec)?;
        let alike = numbers.windows(2).all(|pair| Output::agree(&graph.outputs, &pair[0], &pair[1]));
        (inputs.answered(graph.outputs.clone(), numbers).ok_or_else(none_lost)?, alike)
    };
    if alike {
        let told = format!(
            "{}: by {}, its answers to all {} inputs are the same one, so that agreement says little",
            graph.name,
            graph.agreement(),
            labelled.len()
        );
        context.advise(told, Remedy::NameAgreement);
    }
    Ok(labelled)
}

fn answers<T: Send>(
    inputs: &Images,
    model: &Model,
    device: &LocalNode,
    context: &Context,
    take: impl Fn(&[f32]) -> T + Send,
) -> Result<Vec<T>> {
    let bar = context.progress("answers of the uncut model");
    device.run(&model.graph, |backend| {
        let mut progress = |share: f64| bar.set(share);
        final_answers(backend, inputs, &mut Watch::new(&mut progress, context.stop()), take)
    })
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
    let inputs = load_inputs(place, &model.graph.inputs)?;
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
