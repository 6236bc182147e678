//! Which operators are turned into layers, and a refusal that names all others of a file at once.

use std::collections::{BTreeMap, HashSet};

use super::super::node::{Node, is_standard, shown};
use super::microsoft;
use crate::error::{Error, Result};

/// Standard operators that are computed for every sample. Of constants more are.
const OPS: &str = "Abs Add ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Clip Concat Conv ConvTranspose \
    DequantizeLinear Div Dropout Einsum Elu Erf Exp Expand Flatten Gather Gelu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid \
    HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax MatMul Max MaxPool Min Mish Mul Neg \
    PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum \
    ReduceSumSquare Relu Reshape Resize Selu Sigmoid Sign Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh TopK Transpose \
    Unsqueeze Upsample";

/// What depends on a tensor's shape alone.
const OF_SHAPES: [&str; 2] = ["Shape", "Size"];

/// Errors where nodes compute of the inputs what is not read, with all such operators.
pub fn check<'a>(nodes: &[Node<'a>], inputs: &[&'a str]) -> Result<()> {
    let mut computed: HashSet<&str> = inputs.iter().copied().collect();
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let mut first = None;
    for node in nodes {
        let of_shapes = is_standard(&node.proto.domain) && OF_SHAPES.contains(&node.op());
        if of_shapes || !node.inputs().any(|name| computed.contains(name)) {
            continue;
        }
        computed.extend(node.proto.output.iter().map(String::as_str));
        if !is_read(node) {
            first.get_or_insert(*node);
            *missing.entry(full_name(node)).or_default() += 1;
        }
    }
    let Some(first) = first else { return Ok(()) };
    if missing.values().sum::<usize>() == 1 {
        return Err(refusal(&first));
    }
    let times = |(name, count): (&String, &usize)| {
        if *count > 1 { format!("{name} ×{count}") } else { name.clone() }
    };
    let all: Vec<String> = missing.iter().take(20).map(times).collect();
    Err(first.error(format_args!(
        "the first of {} nodes whose ops are not supported (opset {}): {}{}; supported: {}",
        missing.values().sum::<usize>(),
        first.opset,
        all.join(", "),
        if missing.len() > 20 { ", …" } else { "" },
        supported(&first)
    )))
}

fn is_read(node: &Node<'_>) -> bool {
    let is_in = |ops: &str| ops.split([' ', ',']).any(|op| op == node.op());
    match node.proto.domain.as_str() {
        domain if is_standard(domain) => is_in(OPS),
        microsoft::DOMAIN => is_in(microsoft::SUPPORTED),
        _ => false,
    }
}

fn full_name(node: &Node<'_>) -> String {
    let (domain, op) = (&node.proto.domain, shown(node.op()));
    if is_standard(domain) { op } else { format!("{op} of '{}'", shown(domain)) }
}

/// A failure about a node whose operator is not read.
pub fn refusal(node: &Node<'_>) -> Error {
    let domain = shown(&node.proto.domain);
    let domain = if domain.is_empty() { domain } else { format!(" of '{domain}'") };
    node.error(format_args!(
        "this op{domain} is not supported (opset {}); supported: {}",
        node.opset,
        supported(node)
    ))
}

fn supported(node: &Node<'_>) -> String {
    if node.proto.domain == microsoft::DOMAIN { microsoft::SUPPORTED.into() } else { OPS.replace(' ', ", ") }
}
