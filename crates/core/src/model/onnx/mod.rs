//! Reads ONNX files into a graph of layers, the way the runtime executes them.
//!
//! A file passes through these steps: `guard` and `proto` (bytes to nodes), `order` (what the exits need, in an order that
//! can be read), `lower` (nodes to layers, one by one; `fold` computes what is constant), `recognize` (functions that the
//! exporter wrote in many nodes), `fuse` (what belongs together becomes one layer) and `names`. Real exporters differ in how they write the same network; after `fuse` the difference
//! is gone.

mod constant;
mod external;
mod fold;
mod foreign;
mod fuse;
mod guard;
mod input;
mod lower;
mod names;
mod node;
mod order;
mod proto;
mod recognize;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{HashMap, HashSet};

pub use external::{ExternalPart, self_contained};
pub use input::{InputShape, with_input_shape};

use super::graph::{Exit, Graph, Layer, LayerId, ModelHash, Shape, Source};
use super::op::Op;
use crate::error::{Error, Result};
use constant::{Budget, Constant, elements};
use foreign::foreign;
use guard::decoded;
use input::Input;
use lower::{Draft, Lowering};
use node::{Node, shown};
use proto::{GraphProto, ValueInfoProto};
use value::{Value, View};

/// More nodes than any network for images has.
const MAX_NODES: usize = 1 << 14;
/// More exits than any network has.
const MAX_EXITS: usize = 64;

impl Graph {
    /// Reads an ONNX file that is called `name`. Its batch dimension is dropped, one that the file fixes included; its outputs, in
    /// order, are the exits, and a Softmax in front of one is dropped as well. All is computed in single precision.
    pub fn from_onnx(name: &str, file: &[u8]) -> Result<Self> {
        read(name, file).map_err(|error| error.within(format_args!("model {name}")))
    }
}

fn read(name: &str, file: &[u8]) -> Result<Graph> {
    let model = decoded(file)?;
    let graph = model
        .graph
        .as_ref()
        .filter(|graph| !graph.node.is_empty())
        .ok_or_else(|| foreign(file, "not a single node"))?;
    if graph.node.len() > MAX_NODES || graph.output.len() > MAX_EXITS {
        return Err(Error::failed(format!(
            "expected up to {MAX_NODES} nodes and {MAX_EXITS} outputs, found {} and {}",
            graph.node.len(),
            graph.output.len()
        )));
    }
    let nodes = order::needed_in_order(graph, node::opset(&model)?)?;
    let input = input::input(graph)?;
    let values = starting_values(graph, &nodes, &input)?;
    let mut lowering = Lowering::new(&input, values, Budget::for_file(file.len()));
    let logits = lowering.run(&nodes).and_then(|()| logits(graph, &mut lowering));
    let logits = logits.map_err(|error| match input.fixed_batch {
        Some(batch) => error.within(format_args!("run with a batch of 1 in place of its fixed {batch}")),
        None => error,
    })?;
    // Ends the sharing of weights with the table of names, so that fusing can change them in place.
    let mut drafts = lowering.into_drafts();
    recognize::recognize(&mut drafts);
    let (drafts, logits) = fuse::fuse(drafts, logits);
    let layers = layers(&input.shape, drafts);
    let mut graph = Graph::new(name, ModelHash::of(file), input.shape, layers, exits(graph, &logits));
    graph.fixed_batch = input.fixed_batch;
    Ok(graph)
}

/// What is known before the first node: the input, and the stored constants that any node reads.
fn starting_values<'a>(
    graph: &'a GraphProto,
    nodes: &[Node<'a>],
    input: &Input<'a>,
) -> Result<HashMap<&'a str, Value>> {
    let read: HashSet<&str> = nodes.iter().flat_map(Node::inputs).collect();
    let view = View { source: Source::Input, shape: [&[1], input.shape.0.as_slice()].concat() };
    let mut values = HashMap::from([(input.name, Value::Tensor(view))]);
    for tensor in graph.initializer.iter().filter(|tensor| read.contains(tensor.name.as_str())) {
        let constant = Constant::decode(tensor)
            .map_err(|what| Error::failed(format!("constant '{}': {what}", shown(&tensor.name))))?;
        if values.insert(&tensor.name, Value::Constant(constant)).is_some() {
            return Err(Error::failed(format!("constant '{}' is there twice", shown(&tensor.name))));
        }
    }
    Ok(values)
}

/// The tensor behind every output; all are vectors of as many classes.
fn logits(graph: &GraphProto, lowering: &mut Lowering<'_>) -> Result<Vec<Source>> {
    let mut classes = None;
    let mut logits = Vec::with_capacity(graph.output.len());
    for output in &graph.output {
        let name = shown(&output.name);
        let mut view = match lowering.value(&output.name) {
            Some(Value::Tensor(view @ View { source: Source::Layer(_), .. })) => view.clone(),
            _ => return Err(Error::failed(format!("expected its output '{name}' to be computed by a node"))),
        };
        let (Some(own), 1) =
            (elements(&view.shape), view.shape.iter().filter(|&&side| side != 1).count().max(1))
        else {
            let found = &view.shape;
            return Err(Error::failed(format!(
                "expected its output '{name}' to be [batch, classes], found {found:?} for a batch of 1"
            )));
        };
        let first = *classes.get_or_insert(own);
        if own != first {
            let what = format!("expected all outputs to tell {first} classes apart, found {own} at '{name}'");
            return Err(Error::failed(what));
        }
        view.source = before_softmax(lowering, view.source);
        let source = lowering.stored_as(&view, &[own]).map_err(Error::failed)?;
        if source == Source::Input {
            return Err(Error::failed(format!("expected its output '{name}' to be computed by a node")));
        }
        logits.push(source);
    }
    if logits.is_empty() {
        Err(Error::failed("expected at least one output, found none"))
    } else {
        Ok(logits)
    }
}

/// A Softmax over the classes changes no answer, and the exits' confidences are computed from the logits.
fn before_softmax(lowering: &Lowering<'_>, mut source: Source) -> Source {
    while let Source::Layer(LayerId(id)) = source
        && let draft = &lowering.drafts[id]
        && let (Op::Softmax { axis, .. }, &[input]) = (&draft.op, draft.inputs.as_slice())
        && draft.output.0.get(*axis) == Some(&draft.output.elements())
    {
        source = input;
    }
    source
}

fn exits(graph: &GraphProto, logits: &[Source]) -> Vec<Exit> {
    let mut names = names::Unique::default();
    let with_layer = |(output, source): (&ValueInfoProto, &Source)| match source {
        Source::Layer(logits) => Some(Exit { name: names.name(&output.name), logits: *logits }),
        Source::Input => None,
    };
    std::iter::zip(&graph.output, logits).filter_map(with_layer).collect()
}

fn layers(input: &Shape, drafts: Vec<Draft<'_>>) -> Vec<Layer> {
    let names = names::layer_names(&drafts);
    let mut layers: Vec<Layer> = Vec::with_capacity(drafts.len());
    for (name, Draft { op, inputs, output, .. }) in std::iter::zip(names, drafts) {
        let first = match inputs.first() {
            Some(&Source::Layer(LayerId(id))) => &layers[id].output,
            _ => input,
        };
        let params = op.learned_values() as u64;
        let macs = macs(&op, first, &output);
        layers.push(Layer { name, op, inputs, output, params, macs });
    }
    layers
}

/// Multiply-accumulate operations for one sample; sums and comparisons alone are none.
fn macs(op: &Op, input: &Shape, output: &Shape) -> u64 {
    let outputs = output.elements() as u64;
    match op {
        Op::Conv { weight, .. } | Op::Linear { weight, .. } => {
            let per_output = weight.data.len() / weight.shape.first().copied().unwrap_or(1).max(1);
            outputs.saturating_mul(per_output as u64)
        }
        Op::MatMul => outputs.saturating_mul(input.0.last().copied().unwrap_or(1) as u64),
        Op::Affine { .. } => outputs,
        // Squares are added up, then all is scaled and shifted.
        Op::LayerNorm { .. } => outputs.saturating_mul(2),
        _ => 0,
    }
}
