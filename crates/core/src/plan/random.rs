//! Random graphs with exits, for the tests of the search and of the baselines.

use rand::RngExt;
use rand::rngs::StdRng;

use super::layers::Trunk;
use super::{ExitSite, TrunkLayer};
use crate::model::LayerSet;

/// Layers l0, l1, … that read one or two before them, all on the way to the last.
pub(super) fn random_layers(rng: &mut StdRng, count: usize) -> Vec<TrunkLayer> {
    let name = |tensor: usize| tensor.checked_sub(1).map_or("input".into(), |layer| format!("l{layer}"));
    let chain = rng.random_bool(0.4);
    let mut reads: Vec<Vec<usize>> = Vec::new();
    for index in 0..count {
        let mut inputs = vec![if chain { index } else { rng.random_range(0..=index) }];
        let other = rng.random_range(0..=index);
        if !chain && rng.random_bool(0.3) && other != inputs[0] {
            inputs.push(other);
        }
        reads.push(inputs);
    }
    for tensor in 1..count {
        if !reads.iter().any(|inputs| inputs.contains(&tensor)) {
            reads[count - 1].push(tensor);
        }
    }
    let layer = |(index, inputs): (usize, Vec<usize>)| TrunkLayer {
        name: format!("l{index}"),
        inputs: inputs.into_iter().map(name).collect(),
        output_bytes: rng.random_range(0..50),
        weight_bytes: rng.random_range(0..100),
    };
    reads.into_iter().enumerate().map(layer).collect()
}

/// Side exits after some of the layers, each needing what the one before needs, and the final one.
pub(super) fn random_exits(rng: &mut StdRng, trunk: &Trunk, most: usize) -> Vec<ExitSite> {
    let mut sites: Vec<usize> = Vec::new();
    for _ in 0..rng.random_range(0..=most) {
        let site = rng.random_range(0..trunk.dag.len());
        let covers = |a: usize, b: usize| trunk.dag.up_to([a]).covers(&trunk.dag.up_to([b]));
        if sites.iter().all(|&other| covers(site, other)) {
            sites.push(site);
        }
    }
    sites.push(trunk.dag.len() - 1);
    let exit = |(index, site): (usize, usize)| ExitSite {
        name: format!("e{index}"),
        after: vec![format!("l{site}")],
        weight_bytes: rng.random_range(0..20),
        marginal: None,
    };
    sites.into_iter().enumerate().map(exit).collect()
}

/// The names of a cut's tips.
pub(super) fn names(trunk: &Trunk, cut: &LayerSet) -> Vec<String> {
    trunk.dag.tips(cut).into_iter().map(|tip| format!("l{tip}")).collect()
}
