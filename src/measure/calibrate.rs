//! What encodings need to know of the frontiers of a network, learned from pictures.

use super::behind::{Behind, Exact};
use super::watch::Watch;
use crate::codec::{Calibration, Calibrator, Encoding, TensorSpec};
use crate::data::Images;
use crate::error::Result;
use crate::model::Cut;
use crate::runtime::Backend;

/// What the encodings at each of these cuts need to know of its frontier, learned from all the pictures.
pub fn calibrate(
    backend: &mut dyn Backend,
    images: &Images,
    crossings: &[(Cut, Vec<Encoding>)],
    watch: &mut Watch<'_>,
) -> Result<Vec<Calibration>> {
    let graph = backend.graph().clone();
    let behind: Vec<Behind> = crossings.iter().map(|(cut, _)| Behind::new(&graph, cut)).collect();
    let calibrator =
        |behind: &Behind| Ok(Calibrator::new(&TensorSpec::of_frontier(&graph, &behind.frontier)?));
    let mut calibrators = behind.iter().map(calibrator).collect::<Result<Vec<_>>>()?;
    let (trunk, mut exact) = (graph.trunk(), Exact::of(behind.iter()));
    for index in 0..images.len() {
        watch.step(index as f64 / images.len() as f64)?;
        exact.run(backend, images, index, &trunk)?;
        for (calibrator, behind) in calibrators.iter_mut().zip(&behind) {
            calibrator.feed(&exact.frontier(behind));
        }
    }
    let finished = calibrators.iter().zip(crossings);
    Ok(finished.map(|(calibrator, (_, encodings))| calibrator.finish(encodings)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::model::Source;
    use crate::model::samples::chain;
    use crate::runtime::FakeBackend;

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
        Source::Layer(crate::model::LayerId(id))
    }
}
