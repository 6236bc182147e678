//! Which nodes the exits need, and in what order they can be read.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::node::{Node, shown};
use super::proto::GraphProto;
use crate::error::Result;

/// The nodes that the graph's outputs need, each behind those it reads, otherwise in the file's order.
pub fn needed_in_order(graph: &GraphProto, opset: i64) -> Result<Vec<Node<'_>>> {
    let nodes: Vec<Node<'_>> = graph.node.iter().map(|proto| Node { proto, opset }).collect();
    let writers = writers(&nodes)?;
    let needed = needed(graph, &nodes, &writers);
    let mut waiting_for = vec![0_usize; nodes.len()];
    let mut readers = vec![Vec::new(); nodes.len()];
    for (id, node) in nodes.iter().enumerate().filter(|&(id, _)| needed[id]) {
        for &writer in node.inputs().filter_map(|name| writers.get(name)) {
            waiting_for[id] += 1;
            readers[writer].push(id);
        }
    }
    let is_ready = |&id: &usize| needed[id] && waiting_for[id] == 0;
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(is_ready).map(Reverse).collect();
    let mut order = Vec::new();
    while let Some(Reverse(id)) = ready.pop() {
        order.push(nodes[id]);
        for &reader in &readers[id] {
            waiting_for[reader] -= 1;
            if waiting_for[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match (0..nodes.len()).find(|&id| needed[id] && waiting_for[id] > 0) {
        Some(id) => {
            Err(nodes[id].error("it lies on or behind a cycle: its input depends on an output of its own"))
        }
        None => Ok(order),
    }
}

/// Which node writes a tensor.
fn writers<'a>(nodes: &[Node<'a>]) -> Result<HashMap<&'a str, usize>> {
    let mut writers = HashMap::new();
    for (id, node) in nodes.iter().enumerate() {
        for output in node.proto.output.iter().filter(|name| !name.is_empty()) {
            if writers.insert(output.as_str(), id).is_some() {
                let what = format!("it writes '{}', which another node writes too", shown(output));
                return Err(node.error(what));
            }
        }
    }
    Ok(writers)
}

fn needed(graph: &GraphProto, nodes: &[Node<'_>], writers: &HashMap<&str, usize>) -> Vec<bool> {
    let mut needed = vec![false; nodes.len()];
    let mut open: Vec<usize> =
        graph.output.iter().filter_map(|output| writers.get(output.name.as_str()).copied()).collect();
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut needed[id], true) {
            open.extend(nodes[id].inputs().filter_map(|name| writers.get(name).copied()));
        }
    }
    needed
}
