//! What a node must hold: its weights, its largest live activation set, and the messages in flight on its links.

use std::collections::HashMap;

use super::space::{CutId, Space};
use crate::model::{Dag, LayerSet, Tensor};

/// The exits whose heads a node runs, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Heads(u16);

impl Heads {
    /// These and one more, of the first [`MAX_EXITS`](super::tally::MAX_EXITS).
    #[must_use]
    pub fn with(self, exit: usize) -> Self {
        Self(self.0 | 1 << exit)
    }

    /// In the order of the exits.
    fn iter(self) -> impl Iterator<Item = usize> {
        (0..u16::BITS as usize).filter(move |&exit| self.0 >> exit & 1 == 1)
    }
}

/// What a node does, in indices: the cuts between which it runs, the one whose frontier it sends, and the heads that it runs.
type Part = (CutId, CutId, Option<CutId>, Heads);

/// Which stretches fit into the nodes' memory, worked out once each.
#[derive(Clone)]
pub(super) struct Memory<'s, 'a> {
    space: &'s Space<'a>,
    /// Bytes of weights and live activations.
    known: HashMap<Part, f64>,
    /// Whether each layer reads just the one before: then what is alive at a layer is what it reads and writes, and a head
    /// reads what has just been written.
    is_chain: bool,
    /// In a chain, without heads, by first and last cut, for stretches that send nothing and those that send their end; NaN:
    /// not worked out.
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

    /// Bytes that a node has left for messages beside weights and live activations, when it runs from one cut to another with
    /// these heads and sends a third.
    #[inline]
    pub fn room(&mut self, node: usize, run: [CutId; 2], sends: Option<CutId>, heads: Heads) -> f64 {
        let limit = self.space.scenario.nodes[node].memory_bytes;
        limit.map_or(f64::INFINITY, |limit| limit as f64 - self.bytes(run, sends, heads))
    }

    /// Whether so much room holds messages of so many bytes.
    #[inline]
    pub fn holds(&self, room: f64, messages: f64) -> bool {
        messages * self.space.scenario.in_flight as f64 <= room
    }

    /// Weights and live activations.
    fn bytes(&mut self, [from, to]: [CutId; 2], sends: Option<CutId>, heads: Heads) -> f64 {
        let direct = self.is_chain && self.cuts <= MOST_CUTS && sends.is_none_or(|sends| sends == to);
        if !direct {
            let space = self.space;
            return *(self.known.entry((from, to, sends, heads)))
                .or_insert_with(|| bytes(space, from, to, sends, heads));
        }
        if self.direct.is_empty() {
            self.direct = vec![f64::NAN; 2 * self.cuts * self.cuts];
        }
        let known = &mut self.direct[(from * self.cuts + to) * 2 + usize::from(sends.is_some())];
        if known.is_nan() {
            *known = in_chain(self.space, from, to);
        }
        let weights = heads.iter().map(|exit| self.space.scenario.exits[exit].weight_bytes).sum::<u64>();
        *known + weights as f64
    }
}

fn bytes(space: &Space<'_>, from: CutId, to: CutId, sends: Option<CutId>, heads: Heads) -> f64 {
    let exits: Vec<usize> = heads.iter().collect();
    let sends = sends.map(|cut| space.set(cut));
    Holds { from: space.set(from), to: space.set(to), sends, exits: &exits, messages: 0.0 }.bytes(space)
}

/// [`Holds::bytes`] in a chain, where the cut that is sent is the last one reached, without the weights of heads.
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
    /// The exits that it tries, in order.
    pub exits: &'s [usize],
    /// Bytes of the messages that it receives and sends.
    pub messages: f64,
}

/// A layer or a head at work.
struct Work {
    reads: Vec<Tensor>,
    /// The layer; a head's answer counts for nothing.
    writes: Option<usize>,
}

impl Holds<'_> {
    /// Bytes held at once: each tensor is let go after its last reader, a layer or a head.
    pub fn bytes(&self, space: &Space<'_>) -> f64 {
        let scenario = space.scenario;
        let layers = self.to.without(self.from);
        let weights: u64 = layers.iter().map(|layer| scenario.layers[layer].weight_bytes).sum();
        let heads: u64 = self.exits.iter().map(|&exit| scenario.exits[exit].weight_bytes).sum();
        let in_flight = self.messages * scenario.in_flight as f64;
        (weights + heads) as f64 + self.live(space) as f64 + in_flight
    }

    /// What runs, in order: the layers that an exit needs and its head, exit by exit, then the layers that are left.
    fn work(&self, space: &Space<'_>) -> Vec<Work> {
        let layer = |layer| Work { reads: space.trunk.dag.inputs(layer).to_vec(), writes: Some(layer) };
        let mut done = self.from.clone();
        let mut work = Vec::new();
        for &exit in self.exits {
            let needs = space.set(space.needs[exit]);
            work.extend(needs.without(&done).iter().map(layer));
            work.push(Work { reads: space.head_reads(exit), writes: None });
            done = done.union(needs);
        }
        work.extend(self.to.without(&done).iter().map(layer));
        work
    }

    fn live(&self, space: &Space<'_>) -> u64 {
        let dag = &space.trunk.dag;
        let size = |tensor: &Tensor| {
            tensor.map_or(space.scenario.input_bytes.unwrap_or(0), |l| space.scenario.layers[l].output_bytes)
        };
        let place = |tensor: Tensor| tensor.map_or(0, |layer| layer + 1);
        let work = self.work(space);
        // Per tensor how much work is done once nothing reads it any more.
        let mut read_until = vec![0; dag.len() + 1];
        for (at, work) in work.iter().enumerate() {
            work.reads.iter().for_each(|&tensor| read_until[place(tensor)] = at + 1);
        }
        let sent = |tensor: Tensor| {
            let crosses = |cut: &LayerSet| dag.readers(tensor).iter().any(|&reader| !cut.contains(reader));
            self.sends.is_some_and(|cut| Dag::is_inside(cut, tensor) && crosses(cut))
        };
        let is_kept = |tensor: Tensor, done: usize| {
            read_until[place(tensor)] > done || dag.is_result(tensor) || sent(tensor)
        };
        let mut held = dag.frontier(self.from);
        let mut most: u64 = held.iter().map(size).sum();
        held.retain(|&tensor| is_kept(tensor, 0));
        for (at, work) in work.iter().enumerate() {
            held.extend(work.writes.map(Some));
            most = most.max(held.iter().map(size).sum());
            held.retain(|&tensor| is_kept(tensor, at + 1));
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Problem, search};
    use super::*;

    /// Two branches; the exit's head reads both, and only node n1 may run the second one. `a` was sent to it.
    fn head_on_both(memory_bytes: u64, c: &[&str]) -> Problem {
        let layer = |name: &str, bytes: u64, inputs: &[&str]| serde_json::json!({"name": name, "output_bytes": bytes, "inputs": inputs});
        let exit = |name: &str, after: &[&str]| serde_json::json!({"name": name, "after": after, "marginal": {"accuracy": 0.9}});
        let document = serde_json::json!({
            "schema": super::super::SCHEMA, "input_bytes": 100, "in_flight": 0,
            "layers": [layer("a", 1000, &["input"]), layer("b", 1000, &["input"]), layer("c", 10, c)],
            "exits": [exit("e", &["a", "b"]), exit("final", &["c"])],
            "nodes": [
                {"name": "n0", "layers_us": [10, 10, 10], "may_not_run": ["b"]},
                {"name": "n1", "layers_us": [10, 10, 10], "may_not_run": ["a", "c"], "memory_bytes": memory_bytes}
            ],
            "links": [{"bits_per_second": 1e9}], "constraints": {"min_accuracy": 0}
        });
        Problem::from_json(&document.to_string()).unwrap()
    }

    #[test]
    fn what_only_a_head_reads_is_held_until_it_has_run() {
        // The input and `a`, both received, and `b`.
        let error = search(&head_on_both(2099, &["a", "b"])).unwrap_err().to_string();
        assert!(error.contains("node 'n1' needs 2100 bytes"), "{error}");
        let best = search(&head_on_both(2100, &["a", "b"])).unwrap().best;
        assert_eq!(best.prediction.memory_bytes[1], 2100.0);
    }

    proptest! {
        #[test]
        fn the_short_way_for_chains_is_right(
            sizes in proptest::collection::vec((0u64..50, 0u64..50), 1..7), input in 0u64..50, site in 0usize..7,
        ) {
            let layers: Vec<_> = sizes.iter().enumerate().map(|(index, (output, weights))| serde_json::json!({
                "name": format!("l{index}"), "output_bytes": output, "weight_bytes": weights,
            })).collect();
            let node = |name: &str| serde_json::json!({"name": name, "layers_us": vec![1; sizes.len()]});
            let site: Vec<String> = site.min(sizes.len()).checked_sub(1).iter().map(|at| format!("l{at}")).collect();
            let scenario = Problem::from_json(&serde_json::json!({
                "schema": super::super::SCHEMA, "layers": layers, "nodes": [node("a"), node("b")],
                "links": [{"bits_per_second": 1e6}], "input_bytes": input,
                "exits": [{"name": "early", "after": site, "weight_bytes": 3}, {"name": "final"}],
                "outcomes": [{"right": "1"}, {"right": "1"}],
            }).to_string()).unwrap();
            let space = Space::new(&scenario).unwrap();
            let cuts: Vec<CutId> = space.resumes.iter().map(super::super::space::Resume::cut).chain(space.needs.iter().copied()).collect();
            for &from in &cuts {
                for &to in cuts.iter().filter(|&&to| space.size(to) >= space.size(from)) {
                    let whole = space.size(to) == sizes.len();
                    let sends = (!whole).then(|| space.set(to));
                    let tried = space.set(to).covers(space.set(space.needs[0])) && space.can_try(space.set(from), 0);
                    let exits = if tried { &[0][..] } else { &[] };
                    let holds = Holds { from: space.set(from), to: space.set(to), sends, exits, messages: 0.0 };
                    let heads = if tried { 3.0 } else { 0.0 };
                    prop_assert_eq!(in_chain(&space, from, to) + heads, holds.bytes(&space), "{} {}", from, to);
                }
            }
        }
    }
}
