//! Whether the pictures at hand are those that a model's records were made on. Figures of the one say little of the other, and
//! are never compared without a word.

use std::path::Path;

use super::Context;
use super::frames;
use super::model::Model;
use coprof_core::error::Remedy;
use coprof_run::data::{Cifar10, Fingerprints, is_cifar10, locate};

/// Whether the model's records were made on other pictures than `place` or else `COPROF_DATA` or `datasets/` holds,
/// which is then told. `None` where there are no records or no CIFAR-10, or where it cannot be known, which is told, too.
pub fn records_of_other_images(model: &Model, place: Option<&Path>, context: &Context) -> Option<bool> {
    if !model.has_record("exits") || !frames::takes_cifar10(&model.graph) {
        return None;
    }
    // Who needs the pictures says what is wrong with the place.
    let found = locate(place).ok().flatten()?;
    let recorded = model.exit_record().ok()?.data;
    compare(&model.graph.name, &recorded, &found, &Fingerprints::of_user(), context)
}

/// The same of the frames that a replay sends; `None` where these are not CIFAR-10's.
pub fn of_frames(model: &Model, place: Option<&Path>, context: &Context) -> Option<bool> {
    if place.is_none_or(is_cifar10) { records_of_other_images(model, place, context) } else { None }
}

fn compare(
    name: &str,
    recorded: &str,
    found: &Cifar10,
    fingerprints: &Fingerprints,
    context: &Context,
) -> Option<bool> {
    let place = found.path().display();
    match fingerprints.of_records(found) {
        Ok(data) if data == recorded => Some(false),
        Ok(_) => {
            context.advise(
                format!(
                    "{name}'s records were made on other images than those in {place}: accuracy from the records and accuracy on \
                     these\nare not of the same pictures"
                ),
                Remedy::MakeBothRecordsHere,
            );
            Some(true)
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().next().unwrap_or_default();
            context.say(format!(
                "nobody knows whether {name}'s records were made on the images in {place}, since not all of them can be read:\n\
                 {reason}"
            ));
            None
        }
    }
}
