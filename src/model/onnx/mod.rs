//! Reads ONNX files into a graph of layers, the way the runtime executes them.
//!
//! A file passes through these steps: `guard` and `proto` (bytes to nodes), `order` (what the exits need, in an order that
//! can be read), `lower` (nodes to layers, one by one; `fold` computes what is constant), `fuse` (what belongs together
//! becomes one layer) and `names`. Real exporters differ in how they write the same network; after `fuse` the difference
//! is gone.

mod constant;
mod elementwise;
mod fold;
mod fuse;
mod guard;
mod linear;
mod lower;
mod names;
mod node;
mod order;
mod pool;
mod proto;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{HashMap, HashSet};

use prost::Message;

use super::graph::{Exit, Graph, Layer, ModelHash, Op, Shape, Source};
use crate::error::{Error, Result};
use constant::{Budget, Constant, elements};
use lower::{Draft, Lowering, Value};
use node::{Node, shown};
use proto::{GraphProto, ModelProto, ValueInfoProto, data_type};

/// More nodes than any network for images has.
const MAX_NODES: usize = 1 << 14;
/// More exits than any network has.
const MAX_EXITS: usize = 64;

impl Graph {
    /// Reads an ONNX file that is called `name`. Its batch dimension is dropped; its outputs, in order, are the exits, and a
    /// Softmax in front of one is dropped as well. All is computed in single precision.
    pub fn from_onnx(name: &str, file: &[u8]) -> Result<Self> {
        read(name, file).map_err(|error| error.within(format_args!("model {name}")))
    }
}

fn read(name: &str, file: &[u8]) -> Result<Graph> {
    let foreign = |what: &dyn std::fmt::Display| {
        Error::failed(format!("expected an ONNX file, found {} bytes that are none ({what})", file.len()))
    };
    guard::check(file).map_err(|what| foreign(&what))?;
    let model = ModelProto::decode(file).map_err(|error| foreign(&error))?;
    let graph = model
        .graph
        .as_ref()
        .filter(|graph| !graph.node.is_empty())
        .ok_or_else(|| foreign(&"not a single node"))?;
    if graph.node.len() > MAX_NODES || graph.output.len() > MAX_EXITS {
        return Err(Error::failed(format!(
            "expected up to {MAX_NODES} nodes and {MAX_EXITS} outputs, found {} and {}",
            graph.node.len(),
            graph.output.len()
        )));
    }
    let nodes = order::needed_in_order(graph, node::opset(&model.opset_import)?)?;
    let (input_name, input) = input(graph)?;
    let values = starting_values(graph, &nodes, input_name)?;
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let mut lowering = Lowering::new(input.clone(), values, outputs, Budget::for_file(file.len()));
    lowering.run(&nodes)?;
    let logits = logits(graph, &lowering)?;
    // Ends the sharing of weights with the table of names, so that fusing can change them in place.
    let (drafts, logits) = fuse::fuse(lowering.into_drafts(), logits);
    Ok(Graph {
        name: name.to_owned(),
        hash: ModelHash::of(file),
        input,
        exits: exits(graph, &logits),
        layers: layers(drafts),
    })
}

/// The name and shape of the one input that is no constant.
fn input(graph: &GraphProto) -> Result<(&str, Shape)> {
    let stored: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !stored.contains(input.name.as_str())).collect();
    let [input] = inputs[..] else {
        return Err(Error::failed(format!("expected a model with one input, found {}", inputs.len())));
    };
    let name = shown(&input.name);
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let Some((tensor, shape)) = tensor.and_then(|tensor| Some((tensor, tensor.shape.as_ref()?))) else {
        return Err(Error::failed(format!(
            "its input '{name}' says no shape; export with a fixed image size"
        )));
    };
    use data_type::{BFLOAT16, DOUBLE, FLOAT, FLOAT16, UINT8};
    if !matches!(tensor.elem_type, FLOAT | FLOAT16 | BFLOAT16 | DOUBLE | UINT8) {
        let what =
            format!("expected its input '{name}' to be pixels, found element type {}", tensor.elem_type);
        return Err(Error::failed(what));
    }
    let dims: Vec<i64> = shape.dim.iter().take(8).map(|dim| dim.dim_value).collect();
    let fault = || {
        Error::failed(format!(
            "expected its input '{name}' to be [batch, channels, height, width] or [batch, features] with a dynamic batch \
             or 1, and the rest fixed, found {dims:?} (0 is dynamic)"
        ))
    };
    let &[-1..=1, ref rest @ ..] = dims.as_slice() else { return Err(fault()) };
    let sides: Option<Vec<usize>> = rest.iter().map(|&side| usize::try_from(side).ok()).collect();
    let fits = |sides: &Vec<usize>| {
        matches!(sides.len(), 1 | 3)
            && elements(sides).is_some_and(|n| (1..=window::MAX_ELEMENTS).contains(&n))
    };
    let sides = sides.filter(fits).ok_or_else(fault)?;
    Ok((&input.name, Shape(sides)))
}

/// What is known before the first node: the input, and the stored constants that any node reads.
fn starting_values<'a>(
    graph: &'a GraphProto,
    nodes: &[Node<'a>],
    input: &'a str,
) -> Result<HashMap<&'a str, Value>> {
    let read: HashSet<&str> = nodes.iter().flat_map(Node::inputs).collect();
    let mut values = HashMap::from([(input, Value::Tensor(Source::Input))]);
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
fn logits(graph: &GraphProto, lowering: &Lowering<'_>) -> Result<Vec<Source>> {
    let mut logits = Vec::with_capacity(graph.output.len());
    for output in &graph.output {
        let name = shown(&output.name);
        let source = match lowering.value(&output.name) {
            Some(&Value::Tensor(source @ Source::Layer(_))) => source,
            _ => return Err(Error::failed(format!("expected its output '{name}' to be computed by a node"))),
        };
        let shape = lowering.shape(source);
        let first = logits.first().map_or(shape, |&first| lowering.shape(first));
        if shape.0.len() != 1 {
            let what =
                format!("expected its output '{name}' to be [batch, classes], found {shape} per sample");
            return Err(Error::failed(what));
        }
        if shape != first {
            let what =
                format!("expected all outputs to tell {first} classes apart, found {shape} at '{name}'");
            return Err(Error::failed(what));
        }
        logits.push(source);
    }
    if logits.is_empty() {
        Err(Error::failed("expected at least one output, found none"))
    } else {
        Ok(logits)
    }
}

fn exits(graph: &GraphProto, logits: &[Source]) -> Vec<Exit> {
    let mut names = names::Unique::default();
    let with_layer = |(output, source): (&ValueInfoProto, &Source)| match source {
        Source::Layer(logits) => Some(Exit { name: names.name(&output.name), logits: *logits }),
        Source::Input => None,
    };
    std::iter::zip(&graph.output, logits).filter_map(with_layer).collect()
}

fn layers(drafts: Vec<Draft<'_>>) -> Vec<Layer> {
    let names = names::layer_names(&drafts);
    std::iter::zip(names, drafts)
        .map(|(name, Draft { op, inputs, output, .. })| {
            let params = op.learned_values() as u64;
            let macs = macs(&op, &output);
            Layer { name, op, inputs, output, params, macs }
        })
        .collect()
}

/// Multiply-accumulate operations for one sample; sums and comparisons alone are none.
fn macs(op: &Op, output: &Shape) -> u64 {
    let outputs = output.elements() as u64;
    match op {
        Op::Conv { weight, .. } | Op::Linear { weight, .. } => {
            let per_output = weight.data.len() / weight.shape.first().copied().unwrap_or(1).max(1);
            outputs.saturating_mul(per_output as u64)
        }
        Op::Affine { .. } => outputs,
        _ => 0,
    }
}
