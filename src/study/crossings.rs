//! Where a network can be cut, and what the search weighs to cross there. Both ends of a link work it out for themselves.

use std::collections::HashMap;

use coprof_core::codec::{Codec, Coder, Element, Encoding, TensorSpec};
use coprof_core::model::{Cut, Graph};

/// With more cuts than this, only those along the topological order are crossed: every one costs time to measure.
const MOST_CUTS: usize = 4000;

/// The cuts of a graph that can be crossed.
pub struct Crossings {
    /// By size, with the encodings that may carry each one's frontier.
    pub cuts: Vec<(Cut, Vec<Encoding>)>,
    /// Whether these are all cuts of the graph.
    pub all_cuts: bool,
}

/// Every cut of `graph` that can be crossed, with those of the `offered` encodings that are weighed there.
///
/// The whole ladder is weighed where a single tensor crosses, and where several do that are together smaller than what
/// crosses at every other cut of features before; elsewhere [`Encoding::for_wide_frontiers`]. The answers behind each lossy
/// encoding have to be measured at each cut, which is out of reach for the hundreds of cuts through parallel branches; and
/// where such a cut carries no less than a cut before it, a lossy encoding helps that one at least as much.
pub fn crossings(graph: &Graph, offered: &[Encoding]) -> Crossings {
    let whole = graph.trunk().len();
    let (mut cuts, all_cuts) = Cut::all(graph, MOST_CUTS);
    cuts.retain(|cut| cut.len() < whole);
    let mut narrowest = Narrowest::default();
    let with_encodings = |cut: Cut| {
        let frontier = cut.frontier(graph, &[]);
        let is_narrow = narrowest.add(graph, &cut) || frontier.len() == 1;
        let mut encodings = match (cut.is_empty(), is_narrow) {
            (true, _) => Encoding::for_input(),
            (_, true) => Encoding::for_features(),
            (_, false) => Encoding::for_wide_frontiers(),
        };
        let tensors = TensorSpec::of_frontier(graph, &frontier);
        encodings.retain(|encoding| {
            offered.contains(encoding) && tensors.as_ref().is_ok_and(|tensors| carries(*encoding, tensors))
        });
        (cut, encodings)
    };
    Crossings { cuts: cuts.into_iter().map(with_encodings).collect(), all_cuts }
}

/// How few bytes cross at any cut of features inside each cut, itself included. Cuts come by size.
#[derive(Default)]
struct Narrowest(HashMap<Cut, u64>);

impl Narrowest {
    /// Takes the next cut; whether fewer bytes cross there than at any cut of features inside it.
    fn add(&mut self, graph: &Graph, cut: &Cut) -> bool {
        let bytes = cut.frontier_bytes(graph);
        let inside = cut.tips(graph).into_iter().filter_map(|tip| self.0.get(&cut.without(tip)));
        let before = inside.copied().min().unwrap_or(u64::MAX);
        // The input is no feature: it crosses in forms of its own.
        if !cut.is_empty() {
            self.0.insert(cut.clone(), bytes.min(before));
        }
        bytes < before
    }
}

/// Whether an encoding has room for these tensors: pictures have a longest side.
fn carries(encoding: Encoding, tensors: &[TensorSpec]) -> bool {
    let is_picture = matches!(encoding.element, Element::Jpeg(_)) || encoding.coder == Coder::Png;
    !is_picture || Codec::new(encoding, tensors, None).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::model::{Shape, samples};

    fn counts(graph: &Graph, wanted: impl Fn(&Encoding) -> bool) -> Vec<usize> {
        let all = crossings(graph, &Encoding::ladder());
        all.cuts
            .iter()
            .map(|(_, encodings)| encodings.iter().filter(|&encoding| wanted(encoding)).count())
            .collect()
    }

    #[test]
    fn what_is_too_wide_for_a_picture_is_encoded_otherwise() {
        let mut graph = Graph::clone(&samples::chain());
        let is_jpeg = |encoding: &Encoding| matches!(encoding.element, Element::Jpeg(_));
        assert_eq!(counts(&graph, is_jpeg), [5; 5]);
        graph.input = Shape(vec![1, 1, 70_000]);
        assert_eq!(counts(&graph, is_jpeg), [0, 5, 5, 5, 5]);
        let input = &crossings(&graph, &Encoding::ladder()).cuts[0].1;
        assert!(input.iter().any(|encoding| encoding.to_string() == "pixels+png"));
    }

    #[test]
    fn every_cut_through_branches_is_crossed_but_lossily_only_where_it_is_narrow() {
        let mut graph = Graph::clone(&samples::forked());
        let lossy = |graph: &Graph| -> Vec<bool> {
            counts(graph, |encoding| !encoding.is_lossless()).into_iter().map(|count| count > 0).collect()
        };
        // input, stem, {left}, {right1}, {left, right1}, {right1, right2}, {left, right2}, join: two tensors cross at
        // each of those inside the fork, as large as the one behind the stem or larger.
        assert_eq!(lossy(&graph), [true, true, false, false, false, false, false, true]);
        assert!(counts(&graph, Encoding::is_lossless).iter().all(|&count| count >= 2));
        // With a quarter of the values behind each branch, less crosses once the stem's output is not needed any more, and
        // less again where right2 has run.
        for (layer, channels) in [(1, 1), (2, 2), (3, 1)] {
            graph.layers[layer].output = Shape(vec![channels, 8, 8]);
        }
        assert_eq!(lossy(&graph), [true, true, false, false, true, false, true, true]);
    }

    #[test]
    fn only_what_is_offered_crosses() {
        let graph = samples::forked();
        let offered: Vec<Encoding> = ["f32", "q8"].map(|name| name.parse().unwrap()).to_vec();
        let all = crossings(&graph, &offered);
        assert!(all.all_cuts && all.cuts.len() == 8);
        assert_eq!(all.cuts[1].1, offered);
        assert_eq!(all.cuts[2].1, offered[..1]);
        assert!(crossings(&graph, &[]).cuts.iter().all(|(_, encodings)| encodings.is_empty()));
    }
}
