//! Whether the pictures at hand are those that a model's records were made on. Figures of the one say little of the other, and
//! are never compared without a word.

use std::path::Path;

use super::args::FrameArgs;
use super::frames;
use super::model::Model;
use super::output::Output;
use crate::data::{Cifar10, Fingerprints, is_cifar10, locate};

/// Whether the model's records were made on other pictures than `place` (`--data`) or else `COPROF_DATA` or `datasets/` holds,
/// which is then told. `None` where there are no records or no CIFAR-10, or where it cannot be known, which is told, too.
pub fn records_of_other_images(model: &Model, place: Option<&Path>, output: Output) -> Option<bool> {
    if !model.has_record("exits") || !frames::takes_cifar10(&model.graph) {
        return None;
    }
    // Who needs the pictures says what is wrong with the place.
    let found = locate(place).ok().flatten()?;
    let recorded = model.exit_record().ok()?.data;
    compare(&model.graph.name, &recorded, &found, &Fingerprints::of_user(), output)
}

/// The same of the frames that a replay sends; `None` where these are not CIFAR-10's.
pub fn of_frames(model: &Model, data: &FrameArgs, output: Output) -> Option<bool> {
    let place = data.data.as_deref();
    if place.is_none_or(is_cifar10) { records_of_other_images(model, place, output) } else { None }
}

fn compare(
    name: &str,
    recorded: &str,
    found: &Cifar10,
    fingerprints: &Fingerprints,
    output: Output,
) -> Option<bool> {
    let place = found.path().display();
    match fingerprints.of_records(found) {
        Ok(data) if data == recorded => Some(false),
        Ok(_) => {
            output.say(format!(
                "{name}'s records were made on other images than those in {place}: accuracy from the records and accuracy on \
                 these\nare not of the same pictures; `coprof exits --record` and `coprof encodings --record` make records on them"
            ));
            Some(true)
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().next().unwrap_or_default();
            output.say(format!(
                "nobody knows whether {name}'s records were made on the images in {place}, since not all of them can be read:\n\
                 {reason}"
            ));
            None
        }
    }
}
