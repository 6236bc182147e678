//! What lies behind a cut, and what crosses it for one picture.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::Backend;
use crate::data::Images;
use coprof_core::error::Result;
use coprof_core::model::{Cut, ExitId, Graph, LayerId, Source};

/// What lies behind a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The tensors that cross.
    pub frontier: Vec<Source>,
    /// The exits that can be tried on what crosses: those that need layers outside the cut, and those whose heads hang on
    /// the frontier itself.
    pub exits: Vec<ExitId>,
}

impl Behind {
    /// What lies behind `cut`. The frontier is empty behind the whole trunk.
    pub fn new(graph: &Graph, cut: &Cut) -> Self {
        let all = || (0..graph.exits.len()).map(ExitId);
        let outside: Vec<ExitId> = all().filter(|&exit| !cut.covers(&Cut::needed_by(graph, exit))).collect();
        let frontier = cut.frontier(graph, &outside);
        let exits = all().filter(|&exit| cut.can_try(graph, &frontier, exit)).collect();
        Self { frontier, exits }
    }

    /// The trunk outside `cut` and the heads of the exits, in topological order.
    pub(super) fn layers(&self, graph: &Graph, cut: &Cut) -> Vec<LayerId> {
        let mut layers: BTreeSet<LayerId> = cut.rest(graph).into_iter().collect();
        layers.extend(self.exits.iter().flat_map(|&exit| graph.head(exit)));
        layers.into_iter().collect()
    }
}

/// The exact tensors of one picture that any cut needs.
pub(super) struct Exact {
    pixels: Vec<f32>,
    tensors: BTreeMap<Source, Vec<f32>>,
}

impl Exact {
    /// Of what crosses at any of these cuts.
    pub(super) fn of<'b>(behind: impl Iterator<Item = &'b Behind>) -> Self {
        let wanted = behind.flat_map(|behind| behind.frontier.iter().copied());
        Self { pixels: Vec::new(), tensors: wanted.map(|source| (source, Vec::new())).collect() }
    }

    /// Runs `layers` on a picture and keeps what they write.
    pub(super) fn run(
        &mut self,
        backend: &mut dyn Backend,
        images: &Images,
        index: usize,
        layers: &[LayerId],
    ) -> Result<()> {
        images.read_into(index, &mut self.pixels);
        backend.clear();
        backend.put(Source::Input, &self.pixels)?;
        backend.run(layers)?;
        self.tensors.iter_mut().try_for_each(|(&source, values)| backend.get(source, values))
    }

    /// What crosses at a cut.
    pub(super) fn frontier(&self, behind: &Behind) -> Vec<&[f32]> {
        behind.frontier.iter().map(|source| self.tensors[source].as_slice()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::model::samples::chain;

    #[test]
    fn exits_behind_a_cut_are_those_that_can_be_tried_there() {
        let graph = chain();
        let exits: Vec<usize> =
            Cut::along_trunk(&graph).iter().map(|cut| Behind::new(&graph, cut).exits.len()).collect();
        // exit1 hangs on pool1, the tip of the third cut; behind the whole trunk nothing is left.
        assert_eq!(exits, [2, 2, 2, 1, 1, 0]);
        assert!(Behind::new(&graph, &Cut::along_trunk(&graph)[5]).frontier.is_empty());
    }
}
