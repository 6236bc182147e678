//! Small graphs for the tests of every room.

use std::sync::Arc;

use super::activation::Activation;
use super::agreement::Agreement;
use super::graph::{Exit, Graph, Layer, LayerId, ModelHash, Output, Shape, Source};
use super::op::{Arithmetic, Op, Weights, Window};

fn zeros(shape: &[usize]) -> Arc<Weights> {
    Arc::new(Weights { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] })
}

fn layer(name: &str, op: Op, inputs: &[Source], output: &[usize]) -> Layer {
    let params = match &op {
        Op::Conv { weight, .. } | Op::Linear { weight, .. } => weight.data.len() as u64,
        _ => 0,
    };
    let output = Shape(output.to_vec());
    let macs = match &op {
        Op::Conv { weight, .. } => params * output.elements() as u64 / weight.shape[0] as u64,
        _ => params,
    };
    Layer { name: name.into(), op, inputs: inputs.to_vec(), output, params, macs }
}

fn conv(inputs: usize, outputs: usize) -> Op {
    let window = Window { kernel: [3, 3], stride: [1, 1], padding: [1; 4], dilation: [1, 1] };
    Op::Conv {
        weight: zeros(&[outputs, inputs, 3, 3]),
        bias: None,
        window,
        groups: 1,
        adds: false,
        activation: Some(Activation::Relu),
    }
}

fn pool() -> Op {
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0; 4], dilation: [1, 1] };
    Op::MaxPool { window, ceil: false }
}

fn linear(inputs: usize, outputs: usize) -> Op {
    Op::Linear { weight: zeros(&[outputs, inputs]), bias: None, activation: None }
}

fn of(id: usize) -> Source {
    Source::Layer(LayerId(id))
}

fn graph(name: &str, layers: Vec<Layer>, exits: &[(&str, usize)]) -> Arc<Graph> {
    let exits = exits.iter().map(|&(name, id)| Exit { name: name.into(), logits: LayerId(id) }).collect();
    Arc::new(Graph::new(name, ModelHash::of(name.as_bytes()), Shape(vec![3, 8, 8]), layers, exits))
}

/// input 3×8×8 → conv1 → pool1 (→ exit1.fc: `exit1`) → conv2 → pool2 → fc: `final`. Four classes.
pub fn chain() -> Arc<Graph> {
    let layers = vec![
        layer("conv1", conv(3, 4), &[Source::Input], &[4, 8, 8]),
        layer("pool1", pool(), &[of(0)], &[4, 4, 4]),
        layer("exit1.fc", linear(64, 4), &[of(1)], &[4]),
        layer("conv2", conv(4, 8), &[of(1)], &[8, 4, 4]),
        layer("pool2", pool(), &[of(3)], &[8, 2, 2]),
        layer("fc", linear(32, 4), &[of(4)], &[4]),
    ];
    graph("sample-chain", layers, &[("exit1", 2), ("final", 5)])
}

/// input → conv1 → {conv2a → conv2b, skip} → add → fc: `final`. Some of its cuts have two frontier tensors.
pub fn residual() -> Arc<Graph> {
    let layers = vec![
        layer("conv1", conv(3, 4), &[Source::Input], &[4, 8, 8]),
        layer("conv2a", conv(4, 4), &[of(0)], &[4, 8, 8]),
        layer("conv2b", conv(4, 4), &[of(1)], &[4, 8, 8]),
        layer(
            "add",
            Op::Combine { how: Arithmetic::Sum, activation: Some(Activation::Relu) },
            &[of(0), of(2)],
            &[4, 8, 8],
        ),
        layer("fc", linear(256, 4), &[of(3)], &[4]),
    ];
    graph("sample-residual", layers, &[("final", 4)])
}

/// The residual one with an answer of two parts: two numbers, and two classes.
pub fn results() -> Arc<Graph> {
    let mut graph = Graph::clone(&residual());
    let part = |name: &str, agreement| Output { name: name.into(), shape: Shape(vec![2]), agreement };
    graph.outputs = vec![part("place", Agreement::NUMBERS), part("kind", Agreement::Class)];
    graph.name = "sample-results".into();
    graph.hash = ModelHash::of(graph.name.as_bytes());
    Arc::new(graph)
}

/// input → stem → {left, right1 → right2} → join (concat) → fc: `final`.
pub fn forked() -> Arc<Graph> {
    let layers = vec![
        layer("stem", conv(3, 4), &[Source::Input], &[4, 8, 8]),
        layer("left", conv(4, 4), &[of(0)], &[4, 8, 8]),
        layer("right1", conv(4, 4), &[of(0)], &[4, 8, 8]),
        layer("right2", conv(4, 4), &[of(2)], &[4, 8, 8]),
        layer("join", Op::Concat { axis: 0, constants: Vec::new() }, &[of(1), of(3)], &[8, 8, 8]),
        layer("fc", linear(512, 4), &[of(4)], &[4]),
    ];
    graph("sample-forked", layers, &[("final", 5)])
}
