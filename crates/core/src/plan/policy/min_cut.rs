//! The partition of a graph of layers onto device and edge as a minimum cut (DADS, INFOCOM 2019, the light workload's
//! algorithm).
//!
//! Source side: the device; sink side: the edge. A layer on the edge cuts the link from the source, which costs its time
//! there; one on the device cuts the link to the sink. A tensor that crosses cuts the link from its layer to its reader,
//! which costs its time on the link; where several layers read it, one more vertex stands between it and all of them, so that
//! it is paid for once. What may not be cut costs more than everything else together.

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::super::problem::Problem;
use super::super::space::Space;
use super::one_way::is_raw;
use crate::model::{LayerSet, Tensor};

/// Flows are integers, for which the algorithm is exact: all costs together make so many units.
const UNITS: f64 = (1u64 << 40) as f64;

/// What may not be cut. Sums of it over a million edges fit into 64 bits.
const NEVER: u64 = 1 << 43;

/// How much a microsecond of device, link and edge counts.
pub(super) type Weights = [f64; 3];

/// The cut with the least weighted sum of the times of device, link and edge, by layer times and tensor sizes alone: no
/// ranges, codecs or overheads. `None` where the nodes may not run all layers between them.
pub(super) fn min_cut(space: &Space<'_>, weights: Weights) -> Option<LayerSet> {
    let costs = Costs::new(space, weights);
    let (graph, device, edge) = network(space, &costs);
    let (value, flows) = dinics(&graph, device, edge);
    if value >= NEVER {
        return None;
    }
    let on_device = reachable(&graph, &flows, device);
    let layers = 0..space.trunk.dag.len();
    Some(space.trunk.dag.up_to(layers.filter(|&layer| on_device[layer])))
}

/// Costs in microseconds, weighted; infinite where it may not be.
struct Costs {
    /// Per layer and then the final exit's head: its time on the device and on the edge.
    device: Vec<f64>,
    edge: Vec<f64>,
    /// Per layer the time of its output on the link.
    output: Vec<f64>,
    input: f64,
    /// Units of flow for a microsecond.
    scale: f64,
}

impl Costs {
    fn new(space: &Space<'_>, [device, link, edge]: Weights) -> Self {
        let scenario = space.scenario;
        let send = |bytes: f64| scenario.links[0].bits_per_second.time_for(bytes).0 * link;
        let on = |node: usize, weight: f64| -> Vec<f64> {
            let spec = &scenario.nodes[node];
            let may = |layer: usize| !spec.may_not_run.contains(&scenario.layers[layer].name);
            let time =
                |layer: usize| if may(layer) { spec.layers_us[layer].0 * weight } else { f64::INFINITY };
            let head = spec.exits_us.last().map_or(0.0, |time| time.0 * weight);
            (0..scenario.layers.len()).map(time).chain([head]).collect()
        };
        let input = input_bytes(scenario).map_or(f64::INFINITY, send);
        let output = scenario.layers.iter().map(|layer| send(layer.output_bytes as f64)).collect();
        let mut costs = Self { device: on(0, device), edge: on(1, edge), output, input, scale: 1.0 };
        let all = costs.device.iter().chain(&costs.edge).chain(&costs.output).chain([&costs.input]);
        let total: f64 = all.filter(|cost| cost.is_finite()).sum();
        costs.scale = if total > 0.0 { UNITS / total } else { 0.0 };
        costs
    }

    fn units(&self, cost: f64) -> u64 {
        if cost.is_finite() { (cost * self.scale).round() as u64 } else { NEVER }
    }

    fn tensor(&self, tensor: Tensor) -> u64 {
        self.units(tensor.map_or(self.input, |layer| self.output[layer]))
    }
}

/// The input's size as one tensor of a frontier among others. Where it crosses alone it may be smaller, as pixels: that is
/// "edge only", which needs no minimum cut to be found.
fn input_bytes(scenario: &Problem) -> Option<f64> {
    let alone = scenario.encodings.iter().filter(|row| row.cut.is_empty() && is_raw(row));
    let alone = alone.map(|row| row.bytes).max_by(f64::total_cmp);
    scenario.input_bytes.map(|bytes| bytes as f64).or(alone)
}

type Network = DiGraph<(), u64>;

/// Vertices `0..layers` are the layers, the next one the final exit's head; then device, edge, and the shared tensors.
fn network(space: &Space<'_>, costs: &Costs) -> (Network, NodeIndex, NodeIndex) {
    let layers = space.trunk.dag.len();
    let mut graph = Network::new();
    let vertices: Vec<NodeIndex> = (0..=layers).map(|_| graph.add_node(())).collect();
    let (device, edge) = (graph.add_node(()), graph.add_node(()));
    let tips = space.trunk.dag.tips(space.trunk.dag.trunk());
    // Of several results each stays where it was made, and a head's place says nothing of the cut: it is left out.
    let has_head = tips.len() == 1;
    for (vertex, &at) in vertices.iter().enumerate().take(layers + usize::from(has_head)) {
        graph.add_edge(device, at, costs.units(costs.edge[vertex]));
        graph.add_edge(at, edge, costs.units(costs.device[vertex]));
    }
    for tensor in std::iter::once(None).chain((0..layers).map(Some)) {
        let mut readers: Vec<usize> = space.trunk.dag.readers(tensor).to_vec();
        if has_head && tensor == Some(tips[0]) {
            readers.push(layers);
        }
        readers.sort_unstable();
        readers.dedup();
        let from = tensor.map_or(device, |layer| vertices[layer]);
        let crosses = if readers.len() > 1 {
            let shared = graph.add_node(());
            graph.add_edge(from, shared, costs.tensor(tensor));
            Some(shared)
        } else {
            None
        };
        for &reader in &readers {
            let to = vertices[reader];
            match crosses {
                Some(shared) => graph.add_edge(shared, to, NEVER),
                None => graph.add_edge(from, to, costs.tensor(tensor)),
            };
            // Nothing comes back: what reads an output of the edge is on the edge too.
            if tensor.is_some() {
                graph.add_edge(to, from, NEVER);
            }
        }
    }
    if let [tip] = tips[..] {
        // The whole trunk on the device and only the head on the edge is no cut of a scenario.
        graph.add_edge(vertices[tip], vertices[layers], NEVER);
    }
    (graph, device, edge)
}

/// The vertices that the source still reaches when the flow is at its most: its side of a minimum cut.
fn reachable(graph: &Network, flows: &[u64], source: NodeIndex) -> Vec<bool> {
    let mut found = vec![false; graph.node_count()];
    let mut open = vec![source];
    found[source.index()] = true;
    while let Some(at) = open.pop() {
        let onward = graph.edges(at).filter(|edge| flows[edge.id().index()] < *edge.weight());
        let back = graph.edges_directed(at, petgraph::Direction::Incoming);
        let back = back.filter(|edge| flows[edge.id().index()] > 0);
        for next in onward.map(|edge| edge.target()).chain(back.map(|edge| edge.source())) {
            if !std::mem::replace(&mut found[next.index()], true) {
                open.push(next);
            }
        }
    }
    found
}
