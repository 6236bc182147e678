//! What a node must hold: its weights, its largest live activation set, and the messages in flight on its links.

use std::collections::HashMap;

use super::space::{CutId, Space};
use crate::model::{LayerSet, Tensor};

/// Which stretches fit into the nodes' memory, worked out once each.
#[derive(Clone)]
pub(super) struct Memory<'s, 'a> {
    space: &'s Space<'a>,
    /// Bytes of weights and live activations, by the cuts between which a node runs and the one that it sends.
    known: HashMap<(CutId, CutId, Option<CutId>), f64>,
    /// Whether each layer reads just the one before: then what is alive at a layer is what it reads and writes.
    is_chain: bool,
    /// The same by first and last cut, for stretches that send nothing and those that send their end; NaN: not worked out.
    direct: Vec<f64>,
    cuts: usize,
}

/// With more cuts than this a table of all pairs would be too large.
const MOST_CUTS: usize = 1500;

impl<'s, 'a> Memory<'s, 'a> {
    pub fn new(space: &'s Space<'a>) -> Self {
        let reads_before = |layer: usize| space.trunk.dag.inputs(layer) == [layer.checked_sub(1)];
        Self {
            space,
            known: HashMap::new(),
            is_chain: (0..space.trunk.dag.len()).all(reads_before),
            direct: Vec::new(),
            cuts: space.cuts(),
        }
    }

    /// Whether a node may hold what it needs to run from one cut to another and to send a third, `heads` bytes of exit
    /// heads and messages of so many bytes.
    #[inline]
    pub fn fits(
        &mut self,
        node: usize,
        run: [CutId; 2],
        sends: Option<CutId>,
        heads: u64,
        messages: f64,
    ) -> bool {
        let room = self.room(node, run, sends);
        self.holds(room, heads, messages)
    }

    /// Bytes that a node has left for exit heads and messages beside weights and live activations.
    #[inline]
    pub fn room(&mut self, node: usize, run: [CutId; 2], sends: Option<CutId>) -> f64 {
        let limit = self.space.scenario.nodes[node].memory_bytes;
        limit.map_or(f64::INFINITY, |limit| limit as f64 - self.bytes(run, sends))
    }

    /// Whether so much room holds them.
    #[inline]
    pub fn holds(&self, room: f64, heads: u64, messages: f64) -> bool {
        heads as f64 + messages * self.space.scenario.in_flight as f64 <= room
    }

    /// Weights and live activations.
    fn bytes(&mut self, [from, to]: [CutId; 2], sends: Option<CutId>) -> f64 {
        // Nearly all stretches send their own end or nothing: these stand in a table.
        if sends.is_some_and(|sends| sends != to) || self.cuts > MOST_CUTS {
            let space = self.space;
            let work_out = || bytes(space, self.is_chain, from, to, sends);
            return *self.known.entry((from, to, sends)).or_insert_with(work_out);
        }
        if self.direct.is_empty() {
            self.direct = vec![f64::NAN; 2 * self.cuts * self.cuts];
        }
        let known = &mut self.direct[(from * self.cuts + to) * 2 + usize::from(sends.is_some())];
        if known.is_nan() {
            *known = bytes(self.space, self.is_chain, from, to, sends);
        }
        *known
    }
}

fn bytes(space: &Space<'_>, is_chain: bool, from: CutId, to: CutId, sends: Option<CutId>) -> f64 {
    if is_chain && sends.is_none_or(|sends| sends == to) {
        return in_chain(space, from, to);
    }
    let sends = sends.map(|cut| space.set(cut));
    Holds { from: space.set(from), to: space.set(to), sends, messages: 0.0 }.bytes(space)
}

/// [`Holds::bytes`] in a chain, where the cut that is sent is the last one reached.
fn in_chain(space: &Space<'_>, from: CutId, to: CutId) -> f64 {
    let (from, to) = (space.size(from), space.size(to));
    let layers = &space.scenario.layers;
    let read = |layer: usize| {
        layer
            .checked_sub(1)
            .map_or(space.scenario.input_bytes.unwrap_or(0), |before| layers[before].output_bytes)
    };
    let weights: u64 = layers[from..to].iter().map(|layer| layer.weight_bytes).sum();
    let live = (from..to).map(|layer| read(layer) + layers[layer].output_bytes).max();
    // A node that runs none holds what it was sent.
    let idle = if to < layers.len() { read(to) } else { 0 };
    (weights + live.unwrap_or(idle)) as f64
}

/// What a node does, as far as its memory goes.
#[derive(Clone, Copy)]
pub(super) struct Holds<'s> {
    /// The cut behind which it takes over.
    pub from: &'s LayerSet,
    /// The cut with which it stops.
    pub to: &'s LayerSet,
    /// The cut whose frontier it sends, where it sends one.
    pub sends: Option<&'s LayerSet>,
    /// Bytes of the messages that it receives and sends.
    pub messages: f64,
}

impl Holds<'_> {
    /// Bytes held at once, without the weights of exit heads: each tensor is let go after its last reader, layers running
    /// in the scenario's order.
    pub fn bytes(&self, space: &Space<'_>) -> f64 {
        let layers = &space.scenario.layers;
        let own = |layer: &usize| self.to.contains(*layer) && !self.from.contains(*layer);
        let weights: u64 = self.to.iter().filter(own).map(|layer| layers[layer].weight_bytes).sum();
        let in_flight = self.messages * space.scenario.in_flight as f64;
        weights as f64 + self.live(space) as f64 + in_flight
    }

    fn live(&self, space: &Space<'_>) -> u64 {
        let trunk = &space.trunk;
        let size = |tensor: Tensor| {
            tensor.map_or(space.scenario.input_bytes.unwrap_or(0), |l| space.scenario.layers[l].output_bytes)
        };
        let own = |layer: &usize| self.to.contains(*layer) && !self.from.contains(*layer);
        let last_reader = |tensor: Tensor| trunk.dag.readers(tensor).iter().copied().rfind(own);
        let sent = |tensor: Tensor| {
            self.sends.is_some_and(|cut| {
                tensor.is_none_or(|layer| cut.contains(layer))
                    && trunk.dag.readers(tensor).iter().any(|&reader| !cut.contains(reader))
            })
        };
        let needed = |tensor: &Tensor| last_reader(*tensor).is_some() || sent(*tensor);
        let taken = trunk.dag.frontier(self.from);
        let mut most: u64 = taken.iter().copied().map(size).sum();
        let mut held: u64 = taken.into_iter().filter(needed).map(size).sum();
        for layer in self.to.iter().filter(own) {
            held += size(Some(layer));
            most = most.max(held);
            let mut done: Vec<Tensor> = trunk.dag.inputs(layer).to_vec();
            done.push(Some(layer));
            done.sort_unstable();
            done.dedup();
            let gone =
                |tensor: &&Tensor| last_reader(**tensor).is_none_or(|last| last <= layer) && !sent(**tensor);
            held -= done.iter().filter(gone).map(|&tensor| size(tensor)).sum::<u64>();
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Problem;
    use super::*;

    proptest! {
        #[test]
        fn the_short_way_for_chains_is_right(
            sizes in proptest::collection::vec((0u64..50, 0u64..50), 1..7), input in 0u64..50,
        ) {
            let layers: Vec<_> = sizes.iter().enumerate().map(|(index, (output, weights))| serde_json::json!({
                "name": format!("l{index}"), "output_bytes": output, "weight_bytes": weights,
            })).collect();
            let node = |name: &str| serde_json::json!({"name": name, "layers_us": vec![1; sizes.len()]});
            let scenario = Problem::from_json(&serde_json::json!({
                "schema": super::super::SCHEMA, "layers": layers, "nodes": [node("a"), node("b")],
                "links": [{"bits_per_second": 1e6}], "input_bytes": input,
            }).to_string()).unwrap();
            let space = Space::new(&scenario).unwrap();
            let cuts: Vec<CutId> = space.resumes.iter().map(super::super::space::Resume::cut).chain(space.needs.iter().copied()).collect();
            for &from in &cuts {
                for &to in cuts.iter().filter(|&&to| space.size(to) >= space.size(from)) {
                    let whole = space.size(to) == sizes.len();
                    let sends = (!whole).then(|| space.set(to));
                    let holds = Holds { from: space.set(from), to: space.set(to), sends, messages: 0.0 };
                    prop_assert_eq!(in_chain(&space, from, to), holds.bytes(&space), "{} {}", from, to);
                }
            }
        }
    }
}
