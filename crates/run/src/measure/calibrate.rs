//! What encodings need to know of the frontiers of a network, learned from pictures.

use super::behind::{Behind, Exact};
use super::watch::Watch;
use crate::backend::Backend;
use crate::data::Images;
use coprof_core::codec::{Calibration, Calibrator, Encoding, TensorSpec};
use coprof_core::error::Result;
use coprof_core::model::Cut;

/// What the encodings at each of these cuts need to know of its frontier, learned from all the pictures. Cuts at which none
/// needs anything are passed over.
pub fn calibrate(
    backend: &mut dyn Backend,
    images: &Images,
    crossings: &[(Cut, Vec<Encoding>)],
    watch: &mut Watch<'_>,
) -> Result<Vec<Calibration>> {
    let graph = backend.graph().clone();
    let learner = |(cut, encodings): &(Cut, Vec<Encoding>)| {
        if !encodings.iter().any(Encoding::needs_calibration) {
            return Ok(None);
        }
        let behind = Behind::new(&graph, cut);
        let calibrator = Calibrator::new(&TensorSpec::of_frontier(&graph, &behind.frontier)?);
        Ok(Some((behind, calibrator)))
    };
    let mut learners = crossings.iter().map(learner).collect::<Result<Vec<_>>>()?;
    let (trunk, mut exact) = (graph.trunk(), Exact::of(learners.iter().flatten().map(|(behind, _)| behind)));
    for index in 0..images.len() {
        watch.step(index as f64 / images.len() as f64)?;
        exact.run(backend, images, index, &trunk)?;
        for (behind, calibrator) in learners.iter_mut().flatten() {
            calibrator.feed(&exact.frontier(behind));
        }
    }
    let learned = learners.into_iter().zip(crossings).map(|(learner, (_, encodings))| {
        learner.map_or_else(Calibration::default, |(_, calibrator)| calibrator.finish(encodings))
    });
    Ok(learned.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::FakeBackend;
    use coprof_core::clock::ManualClock;
    use coprof_core::model::Source;
    use coprof_core::model::samples::chain;

    #[test]
    fn every_cut_learns_from_its_own_frontier() {
        let graph = chain();
        let mut backend =
            FakeBackend::new(graph.clone(), vec![Duration::ZERO; graph.layers.len()], ManualClock::default());
        let pixels: Vec<u8> = (0..3 * 192).map(|i| (i % 251) as u8).collect();
        let images = Images::new(192, pixels, None).unwrap();
        let encodings: Vec<Encoding> = vec!["q4k".parse().unwrap(), "prune50-q8".parse().unwrap()];
        let cuts = Cut::along_trunk(&graph);
        let crossings: Vec<_> = cuts[..3].iter().map(|cut| (cut.clone(), encodings.clone())).collect();
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        let found = calibrate(&mut backend, &images, &crossings, &mut watch).unwrap();
        for (calibration, frontier) in found.iter().zip([Source::Input, layer(0), layer(1)]) {
            let spec = TensorSpec::of(graph.shape(frontier)).unwrap();
            let known = &calibration.tensors[..];
            assert_eq!(known.len(), 1);
            assert_eq!(known[0].channel_means.len(), spec.channels());
            let mut calibrator = Calibrator::new(&[spec]);
            let mut values = Vec::new();
            for image in 0..images.len() {
                backend.clear();
                backend.put(Source::Input, &images.floats(image)).unwrap();
                backend.run(&graph.trunk()).unwrap();
                backend.get(frontier, &mut values).unwrap();
                calibrator.feed(&[&values]);
            }
            assert_eq!(*calibration, calibrator.finish(&encodings));
        }
    }

    fn layer(id: usize) -> Source {
        Source::Layer(coprof_core::model::LayerId(id))
    }
}
