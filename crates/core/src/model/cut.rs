//! Cuts: downward-closed sets of the trunk's layers. What lies in the cut runs before the link.

use super::dag::{Dag, LayerSet, Tensor};
use super::graph::{ExitId, Graph, LayerId, Source};
use crate::error::{Error, Result};

/// A downward-closed set of trunk layers. Empty: the input itself crosses the link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cut(LayerSet);

impl Cut {
    /// The smallest cut that holds `tips` and all that they need.
    pub fn up_to(graph: &Graph, tips: impl IntoIterator<Item = LayerId>) -> Self {
        let needed = graph.dag.up_to(tips.into_iter().map(|tip| tip.0));
        Self(needed.intersection(graph.dag.trunk()))
    }

    /// The cut whose tips carry these names: what [`Cut::tip_names`] gives back.
    pub fn from_tip_names(graph: &Graph, names: &[String]) -> Result<Self> {
        let on_trunk = |id: &LayerId| graph.dag.trunk().contains(id.0);
        let tip = |name: &String| {
            graph.find_layer(name).filter(on_trunk).ok_or_else(|| {
                Error::failed(format!(
                    "no layer '{name}' on the way to the final exit of {}; `coprof layers` lists them",
                    graph.name
                ))
            })
        };
        Ok(Self::up_to(graph, names.iter().map(tip).collect::<Result<Vec<_>>>()?))
    }

    /// All cuts along the trunk's topological order, from the empty one to the whole trunk. In a chain: every cut.
    pub fn along_trunk(graph: &Graph) -> Vec<Self> {
        graph.dag.cuts_along().into_iter().map(Self).collect()
    }

    /// Every cut, from the empty one to the whole trunk, by size, and whether these are all: with more than `most`, only those
    /// along the trunk's topological order are given.
    pub fn all(graph: &Graph, most: usize) -> (Vec<Self>, bool) {
        match graph.dag.cuts(most) {
            Some(cuts) => (cuts.into_iter().map(Self).collect(), true),
            None => (Self::along_trunk(graph), false),
        }
    }

    /// The trunk layers that an exit's head hangs on: what must have run before it can be tried.
    pub fn needed_by(graph: &Graph, exit: ExitId) -> Self {
        Self::up_to(graph, [graph.exits[exit.0].logits])
    }

    /// Its layers in topological order.
    pub fn layers(&self) -> impl Iterator<Item = LayerId> + '_ {
        self.0.iter().map(LayerId)
    }

    /// Its layers that are not in `other`, in topological order.
    pub fn layers_beyond(&self, other: &Self) -> Vec<LayerId> {
        self.0.without(&other.0).iter().map(LayerId).collect()
    }

    /// How many layers it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the input itself crosses.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a layer lies in it.
    pub fn contains(&self, id: LayerId) -> bool {
        self.0.contains(id.0)
    }

    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.covers(&other.0)
    }

    /// The layers of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0))
    }

    /// The trunk layers outside it, in topological order: what the next node runs.
    pub fn rest(&self, graph: &Graph) -> Vec<LayerId> {
        graph.dag.trunk().without(&self.0).iter().map(LayerId).collect()
    }

    /// The tensors that cross it, each once, in the layers' order: those from inside (or the input) that the trunk outside
    /// reads, and those that side exits outside read (`exits`: the ones that are tried after the link).
    pub fn frontier(&self, graph: &Graph, exits: &[ExitId]) -> Vec<Source> {
        let read = exits.iter().flat_map(|&exit| graph.read_by_head(exit)).map(Source::tensor);
        let mut crossing = graph.dag.frontier(&self.0);
        crossing.extend(read.filter(|&tensor| Dag::is_inside(&self.0, tensor)));
        crossing.sort_unstable();
        crossing.dedup();
        crossing.into_iter().map(Source::of).collect()
    }

    /// Whether an exit's head can be run behind this cut, at which the `frontier` crosses: what it reads crosses, too, or is
    /// computed behind.
    pub fn can_try(&self, graph: &Graph, frontier: &[Source], exit: ExitId) -> bool {
        let frontier: Vec<Tensor> = frontier.iter().map(|source| source.tensor()).collect();
        Dag::can_run(&self.0, &frontier, graph.read_by_head(exit).into_iter().map(Source::tensor))
    }

    /// What crosses it on the trunk, as 32-bit floats.
    pub fn frontier_bytes(&self, graph: &Graph) -> u64 {
        self.frontier(graph, &[]).into_iter().map(|source| graph.shape(source).bytes()).sum()
    }

    /// The layers in it that no other layer in it reads: they name the cut.
    pub fn tips(&self, graph: &Graph) -> Vec<LayerId> {
        graph.dag.tips(&self.0).into_iter().map(LayerId).collect()
    }

    /// The cut without one of its tips.
    #[must_use]
    pub fn without(&self, tip: LayerId) -> Self {
        Self(self.0.without(&[tip.0].into_iter().collect()))
    }

    /// The names of its tips; empty for the empty cut.
    pub fn tip_names(&self, graph: &Graph) -> Vec<String> {
        self.tips(graph).into_iter().map(|id| graph.layer(id).name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples;
    use super::*;

    const NO_EXITS: &[ExitId] = &[];

    fn of(id: usize) -> Source {
        Source::Layer(LayerId(id))
    }

    #[test]
    fn the_empty_cut_sends_the_input() {
        for graph in [samples::chain(), samples::residual()] {
            let empty = Cut::default();
            assert_eq!(empty.frontier(&graph, NO_EXITS), [Source::Input]);
            assert_eq!(empty.rest(&graph), graph.trunk());
            assert!(empty.tip_names(&graph).is_empty());
        }
    }

    #[test]
    fn a_chain_has_no_cuts_but_those_along_it_and_branches_have_more() {
        let chain = samples::chain();
        assert_eq!(Cut::all(&chain, 100), (Cut::along_trunk(&chain), true));
        // The skip is a tensor, not a layer: its cuts lie along the order too.
        let residual = samples::residual();
        assert_eq!(Cut::all(&residual, 100), (Cut::along_trunk(&residual), true));
        assert_eq!(Cut::all(&residual, 3), (Cut::along_trunk(&residual), false));
        let forked = samples::forked();
        let (cuts, complete) = Cut::all(&forked, 100);
        // Before the stem, (left or not) × (0 to 2 on the right), the join and the head.
        assert_eq!((cuts.len(), complete), (1 + 2 * 3 + 2, true));
        for cut in &cuts {
            assert_eq!(Cut::from_tip_names(&forked, &cut.tip_names(&forked)).unwrap(), *cut);
        }
    }

    #[test]
    fn the_whole_trunk_sends_nothing() {
        let graph = samples::residual();
        let whole = Cut::along_trunk(&graph).pop().unwrap();
        assert_eq!(whole.frontier(&graph, NO_EXITS), []);
        assert_eq!(whole.rest(&graph), []);
        assert_eq!(whole.tip_names(&graph), ["fc"]);
    }

    #[test]
    fn a_cut_through_a_residual_block_sends_two_tensors() {
        let graph = samples::residual();
        let cut = Cut::up_to(&graph, [LayerId(1)]);
        assert_eq!(cut.layers().collect::<Vec<_>>(), [LayerId(0), LayerId(1)]);
        assert_eq!(cut.frontier(&graph, NO_EXITS), [of(0), of(1)]);
        assert_eq!(cut.tip_names(&graph), ["conv2a"]);
    }

    #[test]
    fn a_side_exit_behind_the_link_needs_its_own_tensor() {
        let graph = samples::chain();
        let behind_conv2 = Cut::up_to(&graph, [LayerId(3)]);
        assert_eq!(behind_conv2.frontier(&graph, NO_EXITS), [of(3)]);
        assert_eq!(behind_conv2.frontier(&graph, &[ExitId(0)]), [of(1), of(3)]);
        let behind_pool1 = Cut::needed_by(&graph, ExitId(0));
        assert_eq!(behind_pool1.tip_names(&graph), ["pool1"]);
        assert_eq!(behind_pool1.frontier(&graph, &[ExitId(0)]), [of(1)]);
    }

    #[test]
    fn what_a_side_exit_reads_crosses_and_can_be_read_behind() {
        let chain = samples::chain();
        let rebuilt =
            |layers, exits| Graph::new("rebuilt", chain.hash.clone(), chain.input.clone(), layers, exits);
        // Its answer is the trunk's own tensor: it has no head.
        let mut exits = chain.exits.clone();
        exits[0].logits = LayerId(1);
        let headless = rebuilt(chain.layers.clone(), exits);
        // Its head reads the input, too.
        let mut layers = chain.layers.clone();
        layers[2].inputs.push(Source::Input);
        let with_input = rebuilt(layers, chain.exits.clone());
        for (graph, read) in [(headless, vec![of(1)]), (with_input, vec![Source::Input, of(1)])] {
            let cut = Cut::up_to(&graph, [LayerId(3)]);
            let frontier = cut.frontier(&graph, &[ExitId(0)]);
            assert_eq!(frontier, [read, vec![of(3)]].concat());
            assert!(cut.can_try(&graph, &frontier, ExitId(0)));
            assert!(!cut.can_try(&graph, &cut.frontier(&graph, NO_EXITS), ExitId(0)));
        }
    }

    #[test]
    fn heads_never_lie_in_a_cut() {
        let graph = samples::chain();
        let cut = Cut::up_to(&graph, [LayerId(2)]);
        assert_eq!(cut.layers().collect::<Vec<_>>(), [LayerId(0), LayerId(1)]);
        assert!(cut.contains(LayerId(1)) && !cut.contains(LayerId(2)));
    }

    #[test]
    fn cuts_along_the_trunk_grow_one_by_one() {
        let graph = samples::chain();
        let cuts = Cut::along_trunk(&graph);
        assert_eq!(cuts.len(), graph.trunk().len() + 1);
        for pair in cuts.windows(2) {
            assert!(pair[1].covers(&pair[0]) && !pair[0].covers(&pair[1]));
        }
    }

    #[test]
    fn names_of_no_trunk_layer_are_refused() {
        let graph = samples::chain();
        for name in ["nowhere", "exit1.fc", "input"] {
            let error = Cut::from_tip_names(&graph, &[name.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    proptest! {
        #[test]
        fn cuts_are_closed_and_known_by_their_tips(tips in proptest::collection::vec(0..5_usize, 0..4)) {
            let graph = samples::residual();
            let tips: Vec<LayerId> = tips.into_iter().map(LayerId).collect();
            let cut = Cut::up_to(&graph, tips);
            for id in cut.layers() {
                for input in &graph.layer(id).inputs {
                    prop_assert!(*input == Source::Input || graph.layer_ids().any(|id| of(id.0) == *input && cut.contains(id)));
                }
            }
            prop_assert_eq!(&Cut::from_tip_names(&graph, &cut.tip_names(&graph)).unwrap(), &cut);
            let mut all = [cut.layers().collect(), cut.rest(&graph)].concat();
            all.sort();
            prop_assert_eq!(all, graph.trunk());
        }
    }
}
