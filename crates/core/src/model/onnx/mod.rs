//! Reads ONNX files into a graph of layers, the way the runtime executes them.
//!
//! A file passes through these steps: `guard` and `proto` (bytes to nodes), `functions` (calls to what
//! they do), `order` (what the exits need, in an order that
//! can be read), `lower` (nodes to layers, one by one; `fold` computes what is constant), `outputs` (exits or results), `recognize` (functions that the
//! exporter wrote in many nodes), `fuse` (what belongs together becomes one layer) and `names`. Real exporters differ in how they write the same network; after `fuse` the difference
//! is gone.

mod channels_last;
mod constant;
mod depth;
mod external;
mod fold;
mod foreign;
mod functions;
mod fuse;
mod guard;
mod input;
mod lower;
mod names;
mod node;
mod order;
mod outputs;
mod proto;
mod recognize;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{HashMap, HashSet};

pub use external::{ExternalPart, self_contained};
pub use input::{InputShape, with_input_shape};
pub use outputs::{Agreements, OutputChoice, with_outputs};

use super::graph::{self, Exit, Graph, Layer, LayerId, ModelHash, Shape, Source};
use super::op::Op;
use crate::error::{Error, Result};
use constant::{Budget, Constant};
use foreign::foreign;
use guard::decoded;
use input::Input;
use lower::{Draft, Lowering};
use node::{Node, shown};
use outputs::Answers;
use proto::GraphProto;
use value::Value;

/// More nodes than any network for images has.
const MAX_NODES: usize = 1 << 14;
/// More exits than any network has.
const MAX_EXITS: usize = 64;

impl Graph {
    /// Reads an ONNX file that is called `name`. Its batch dimension is dropped, one that the file fixes included; its outputs, in
    /// order, are the exits, where each lies deeper than the one before and tells the same classes apart, and a Softmax in front of
    /// one is dropped as well; else all together are the answer of its only exit. All is computed in single precision.
    pub fn from_onnx(name: &str, file: &[u8]) -> Result<Self> {
        read(name, file).map_err(|error| error.within(format_args!("model {name}")))
    }
}

fn read(name: &str, file: &[u8]) -> Result<Graph> {
    let mut model = decoded(file)?;
    functions::inline(&mut model)?;
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
    let inputs = input::inputs(graph)?;
    let values = stored_values(graph, &nodes)?;
    let mut lowering = Lowering::new(&inputs, values, Budget::for_file(file.len()))?;
    let answers = lowering.run(&nodes).and_then(|()| outputs::answers(&model, &mut lowering));
    let fixed_batch = inputs[0].fixed_batch;
    let answers = answers.map_err(|error| match fixed_batch {
        Some(batch) => error.within(format_args!("run with a batch of 1 in place of its fixed {batch}")),
        None => error,
    })?;
    // Ends the sharing of weights with the table of names, so that fusing can change them in place.
    let mut drafts = lowering.into_drafts();
    let inputs = named_inputs(&inputs, &mut drafts, &answers.logits);
    let input = match inputs.as_slice() {
        [only] => only.shape.clone(),
        several => Shape(vec![several.iter().map(|input| input.shape.elements()).sum()]),
    };
    recognize::recognize(&mut drafts);
    let (drafts, logits) = fuse::fuse(drafts, answers.logits.clone());
    let layers = layers(&input, drafts);
    let mut graph = Graph::new(name, ModelHash::of(file), input, layers, exits(&answers, &logits));
    (graph.inputs, graph.fixed_batch) = (inputs, fixed_batch);
    graph.outputs = answers.outputs;
    Ok(graph)
}

/// The inputs as the network takes them: one that lies channels-last and is turned first is taken channels first.
fn named_inputs(inputs: &[Input<'_>], drafts: &mut [Draft<'_>], answers: &[Source]) -> Vec<graph::Input> {
    let turned = match inputs {
        [only] => channels_last::taken_channels_first(&only.shape, drafts, answers),
        _ => None,
    };
    let channels_last = turned.is_some();
    let input = |input: &Input<'_>| graph::Input {
        name: input.name.to_owned(),
        shape: turned.clone().unwrap_or_else(|| input.shape.clone()),
        channels_last,
    };
    inputs.iter().map(input).collect()
}

/// The stored constants that any node reads.
fn stored_values<'a>(graph: &'a GraphProto, nodes: &[Node<'a>]) -> Result<HashMap<&'a str, Value>> {
    let read: HashSet<&str> = nodes.iter().flat_map(Node::inputs).collect();
    let mut values: HashMap<&str, Value> = HashMap::new();
    for tensor in graph.initializer.iter().filter(|tensor| read.contains(tensor.name.as_str())) {
        let constant = Constant::decode(tensor)
            .map_err(|what| Error::failed(format!("constant '{}': {what}", shown(&tensor.name))))?;
        if values.insert(&tensor.name, Value::Constant(constant)).is_some() {
            return Err(Error::failed(format!("constant '{}' is there twice", shown(&tensor.name))));
        }
    }
    Ok(values)
}

fn exits(answers: &Answers<'_>, logits: &[Source]) -> Vec<Exit> {
    let mut names = names::Unique::default();
    let with_layer = |(name, source): (&&str, &Source)| match source {
        Source::Layer(logits) => Some(Exit { name: names.name(name), logits: *logits }),
        Source::Input => None,
    };
    std::iter::zip(&answers.names, logits).filter_map(with_layer).collect()
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
        Op::ConvTranspose { weight, .. } => {
            let per_input = weight.data.len() / weight.shape.first().copied().unwrap_or(1).max(1);
            (input.elements() as u64).saturating_mul(per_input as u64)
        }
        Op::MatMul => outputs.saturating_mul(input.0.last().copied().unwrap_or(1) as u64),
        Op::Affine { .. } => outputs,
        // Squares are added up, then all is scaled and shifted.
        Op::LayerNorm { .. } => outputs.saturating_mul(2),
        _ => 0,
    }
}
