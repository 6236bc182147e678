//! Whole numbers that stand for real ones. All is computed in real numbers: where the file has whole ones, the multiples of
//! their scale that they stand for, so that every rounding of the file is made.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::constant::Constant;
use super::super::fold::quantised::{element_range, real};
use super::super::node::Node;
use super::super::value::{Quantisation, Value, View};
use super::Lowering;
use super::arithmetic::{affine, number};
use super::linear::{convolution, multiplied, scaled, times_matrix};
use crate::error::Result;
use crate::model::{Activation, Op, Weights};

/// That whose scale and zero point two inputs of a node hold, for a whole tensor.
fn quantisation(graph: &Lowering<'_>, node: &Node<'_>, [scale, zero]: [usize; 2]) -> Result<Quantisation> {
    let stored = graph.constant(node, zero)?;
    let range = element_range(node, stored.as_ref())?;
    let zero = stored.map_or(Some(0), |zero| zero.single_int());
    let scale = graph.constant(node, scale)?.and_then(|scale| scale.single_float());
    match (scale.filter(|scale| scale.is_finite() && *scale > 0.0), zero) {
        (Some(scale), Some(zero)) => Ok(Quantisation { scale, zero, range }),
        _ => Err(node.error("expected one scale above 0 and one zero point for all values of a tensor")),
    }
}

/// What only moves values, or takes the larger ones, leaves the numbers what they stand for.
pub fn pass_on<'a>(quantised: &mut HashMap<&'a str, Quantisation>, node: &Node<'a>) {
    let moves = matches!(
        node.op(),
        "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "MaxPool"
            | "GlobalMaxPool"
            | "Slice"
            | "Split"
            | "Gather"
            | "Identity"
            | "Expand"
    );
    let Some(&found) = node.input(0).filter(|_| moves).and_then(|name| quantised.get(name)) else { return };
    quantised.extend(node.proto.output.iter().map(|name| (name.as_str(), found)));
}

/// `QuantizeLinear`.
pub fn quantize<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    rounded(graph, node, view, [1, 2])
}

/// A node's tensor as the multiples of a scale that whole numbers of its output stand for.
pub fn rounded<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: View,
    scale_and_zero: [usize; 2],
) -> Result<Value> {
    let to = quantisation(graph, node, scale_and_zero)?;
    let [least, most] = to.range.map(|end| (end - to.zero) as f32);
    graph.quantised.insert(node.output(), to);
    let op = Op::Activation(Activation::Quantize { scale: to.scale, least, most });
    graph.push_alike(node, op, view).map(Value::Tensor)
}

/// `DequantizeLinear`.
pub fn dequantize<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    tensor(graph, node, [0, 1, 2]).map(Value::Tensor)
}

/// The real numbers that a tensor of whole ones stands for, by a node's inputs: the tensor, its scale and its zero point.
pub fn tensor<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, inputs: [usize; 3]) -> Result<View> {
    let [at, scale_and_zero @ ..] = inputs;
    let view = graph.tensor(node, at)?;
    let by = quantisation(graph, node, scale_and_zero)?;
    let known = node.input(at).and_then(|name| graph.quantised.get(name)).copied();
    let known = known.ok_or_else(|| {
        node.error(format_args!(
            "expected its input {at} to be whole numbers that are written by a QuantizeLinear"
        ))
    })?;
    if by.stands_alike(&known) {
        return Ok(view);
    }
    let shift = (known.zero - by.zero) as f32 * by.scale;
    affine(graph, node, view, number(by.scale / known.scale), number(shift))
}

/// The first input as the numbers that the file has, whole or not.
pub fn as_numbers<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<View> {
    let view = graph.tensor(node, 0)?;
    match node.input(0).and_then(|name| graph.quantised.get(name)).copied() {
        Some(known) if !known.stands_alike(&Quantisation::BYTES) => {
            affine(graph, node, view, number(1.0 / known.scale), number(known.zero as f32))
        }
        _ => Ok(view),
    }
}

/// The real numbers that a constant stands for, by a node's inputs: the constant, its scales and its zero points, which lie
/// along `axis` if there are several.
pub fn weights(
    graph: &mut Lowering<'_>,
    node: &Node<'_>,
    [at, scale, zero]: [usize; 3],
    axis: i64,
) -> Result<Arc<Weights>> {
    let (stored, scale) = (graph.constant(node, at)?, graph.constant(node, scale)?);
    let zero = graph.constant(node, zero)?;
    let Some((stored, scale)) = stored.zip(scale) else {
        return Err(node.error(format_args!("its input {at} or its scale is missing")));
    };
    graph.budget.take(stored.len()).map_err(|error| node.error(error))?;
    match real(node, &stored, &scale, zero.as_ref(), axis)? {
        Constant::Float(weights) if !weights.data.is_empty() => Ok(weights),
        _ => Err(node.error(format_args!("its input {at} is empty"))),
    }
}

/// A bias of whole numbers, which stand for multiples of the input's scale times the weight's.
pub fn bias(
    graph: &mut Lowering<'_>,
    node: &Node<'_>,
    at: usize,
    [input_scale, weight_scale]: [usize; 2],
) -> Result<Option<Arc<Weights>>> {
    let Some(stored) = graph.constant(node, at)? else { return Ok(None) };
    let scales = (graph.constant(node, input_scale)?, graph.constant(node, weight_scale)?);
    let (Some(input), Some(Constant::Float(weight))) = scales else {
        return Err(node.error("expected its scales to be real numbers"));
    };
    let input = input.single_float().ok_or_else(|| node.error("expected one scale for its input"))?;
    let scale = Constant::Float(scaled(weight, input));
    match real(node, &stored, &scale, None, -1)? {
        Constant::Float(bias) => Ok(Some(bias)),
        Constant::Int(_) => Ok(None),
    }
}

/// `QLinearConv`.
pub fn conv<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = tensor(graph, node, [0, 1, 2])?;
    let weight = weights(graph, node, [3, 4, 5], 0)?;
    let bias = bias(graph, node, 8, [1, 4])?;
    let made = convolution(graph, node, &view, weight, bias)?;
    rounded(graph, node, made, [6, 7])
}

/// `QLinearMatMul`, of two tensors or with a constant matrix.
pub fn matmul<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = tensor(graph, node, [0, 1, 2])?;
    let made = match graph.operand(node, 3)? {
        Value::Tensor(_) => {
            let other = tensor(graph, node, [3, 4, 5])?;
            multiplied(graph, node, &[view, other])?
        }
        Value::Constant(_) => {
            let stored = weights(graph, node, [3, 4, 5], -1)?;
            times_matrix(graph, node, &view, stored)?
        }
    };
    rounded(graph, node, made, [6, 7])
}
