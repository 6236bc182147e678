//! Random graphs with exits, for the tests of the search and of the baselines.

use rand::RngExt;
use rand::rngs::StdRng;

use super::layers::Trunk;
use super::{ExitSite, TrunkLayer};
use crate::model::LayerSet;

/// Layers l0, l1, … that read one or two before them, mostly all on the way to the last.
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
    let one_output = rng.random_bool(0.8);
    for tensor in 1..count {
        if one_output && !reads.iter().any(|inputs| inputs.contains(&tensor)) {
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
    let mut sites = vec![LayerSet::default()];
    for _ in 0..rng.random_range(0..=most) {
        // Without tips a head reads the input, with two of them both.
        let tips: Vec<usize> =
            (0..rng.random_range(0..=2)).map(|_| rng.random_range(0..trunk.dag.len())).collect();
        let site = trunk.dag.up_to(tips);
        if sites.iter().all(|other| site.covers(other)) {
            sites.push(site);
        }
    }
    sites.push(trunk.dag.trunk().clone());
    let exit = |(index, site): (usize, LayerSet)| ExitSite {
        name: format!("e{index}"),
        after: Some(names(trunk, &site)),
        weight_bytes: rng.random_range(0..20),
        marginal: None,
    };
    sites.into_iter().skip(1).enumerate().map(exit).collect()
}

/// The names of a cut's tips.
pub(super) fn names(trunk: &Trunk, cut: &LayerSet) -> Vec<String> {
    trunk.dag.tips(cut).into_iter().map(|tip| format!("l{tip}")).collect()
}
