//! What every exit answers for every picture of a split.

use super::watch::Watch;
use crate::backend::Backend;
use crate::data::{ExitSample, Images, Split};
use coprof_core::error::{Error, Result};
use coprof_core::model::{Source, confidence};

/// Runs the whole network, all exits on, over the pictures: one sample each, in order. The pictures need labels.
pub fn record_exits(
    backend: &mut dyn Backend,
    images: &Images,
    split: Split,
    watch: &mut Watch<'_>,
) -> Result<Vec<ExitSample>> {
    let graph = backend.graph().clone();
    let layers: Vec<_> = graph.layer_ids().collect();
    let (mut pixels, mut logits) = (Vec::new(), Vec::new());
    let mut samples = Vec::with_capacity(images.len());
    for index in 0..images.len() {
        watch.step(index as f64 / images.len() as f64)?;
        let label = images.label(index).ok_or_else(no_labels)?;
        images.read_into(index, &mut pixels);
        backend.clear();
        backend.put(Source::Input, &pixels)?;
        backend.run(&layers)?;
        let mut exits = Vec::with_capacity(graph.exits.len());
        for exit in &graph.exits {
            backend.get(Source::Layer(exit.logits), &mut logits)?;
            exits.push(confidence(&logits).into());
        }
        samples.push(ExitSample { split, index: index as u32, label, exits });
    }
    watch.step(1.0)?;
    Ok(samples)
}

/// What the final exit says of each of these inputs, as `take` keeps it of the logits.
pub fn final_answers<T>(
    backend: &mut dyn Backend,
    inputs: &Images,
    watch: &mut Watch<'_>,
    take: impl Fn(&[f32]) -> T,
) -> Result<Vec<T>> {
    let graph = backend.graph().clone();
    let (trunk, logits) = (graph.trunk(), Source::Layer(graph.exits[graph.final_exit().0].logits));
    let (mut values, mut answer) = (Vec::new(), Vec::new());
    let mut taken = Vec::with_capacity(inputs.len());
    for index in 0..inputs.len() {
        watch.step(index as f64 / inputs.len() as f64)?;
        inputs.read_into(index, &mut values);
        backend.clear();
        backend.put(Source::Input, &values)?;
        backend.run(&trunk)?;
        backend.get(logits, &mut answer)?;
        taken.push(take(&answer));
    }
    Ok(taken)
}

/// Whether an answer to a picture is right; of made-up pictures nobody knows, and they have no accuracy.
pub(super) fn is_right(images: &Images, index: usize, logits: &[f32]) -> Result<bool> {
    images.is_right(index, logits).ok_or_else(no_labels)
}

fn no_labels() -> Error {
    Error::failed("accuracy needs pictures with labels; get CIFAR-10 with `coprof fetch cifar10`")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::FakeBackend;
    use crate::data::made_up_frames;
    use coprof_core::clock::ManualClock;
    use coprof_core::model::samples::chain;

    #[test]
    fn answers_are_those_of_the_backend_in_order() {
        let mut backend = FakeBackend::new(chain(), vec![Duration::ZERO; 6], ManualClock::default());
        let pixels: Vec<u8> = (0..192 * 3).map(|i| (i * 7) as u8).collect();
        let images = Images::new(192, pixels, Some(vec![2, 0, 1])).unwrap();
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        let samples = record_exits(&mut backend, &images, Split::Test, &mut watch).unwrap();
        let labels: Vec<u32> = samples.iter().map(|sample| sample.label).collect();
        assert_eq!((labels, samples[1].index), (vec![2, 0, 1], 1));
        backend.clear();
        backend.put(Source::Input, &images.floats(1)).unwrap();
        let graph = chain();
        backend.run(&graph.trunk()).unwrap();
        let mut logits = Vec::new();
        backend.get(Source::Layer(graph.exits[1].logits), &mut logits).unwrap();
        assert_eq!(samples[1].exits[1], confidence(&logits).into());
        assert_ne!(samples[0].exits, samples[1].exits);
        let answers =
            final_answers(&mut backend, &images, &mut watch, |logits| confidence(logits).class).unwrap();
        assert!(answers.iter().eq(samples.iter().map(|sample| &sample.exits[1].prediction)));
        assert!(
            record_exits(&mut backend, &made_up_frames(&[3, 8, 8], 1, 0), Split::Test, &mut watch).is_err()
        );
    }
}
