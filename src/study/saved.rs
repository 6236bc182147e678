//! What is said of saved results: which are picked up and which are not, with their age.

use std::path::Path;

use super::Context;
use crate::report::Envelope;

/// Says that a saved result is used.
pub fn say_picked_up(context: &Context, what: &str, path: &Path, envelope: &Envelope) {
    context.say(format!("{what}: from {} ({}); a probe finds them unchanged", path.display(), age(envelope)));
}

/// Says that a saved result is measured anew.
pub fn say_outdated(context: &Context, what: &str, path: &Path, envelope: &Envelope) {
    context.say(format!(
        "{what}: measured anew, since a probe is more than 10 % off {} ({})",
        path.display(),
        age(envelope)
    ));
}

fn age(envelope: &Envelope) -> String {
    envelope
        .age()
        .map_or_else(|| envelope.created.clone(), |age| format!("{} old", humantime::format_duration(age)))
}
