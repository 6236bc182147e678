//! What works value by value or channel by channel: arithmetic with constants, batch norm, sums, rectifiers; and joining.

use std::sync::Arc;

use super::constant::Constant;
use super::lower::{Lowering, Value};
use super::node::Node;
use crate::error::Result;
use crate::model::{Op, Shape, Source, Weights};

/// `Add`, `Sub`, `Mul` and `Div`: of a tensor and a constant, or the sum of two tensors.
pub fn arithmetic<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    match (graph.operand(node, 0)?, graph.operand(node, 1)?) {
        (Value::Tensor(_), Value::Tensor(_)) if node.op() == "Add" => sum(graph, node),
        (Value::Tensor(source), Value::Constant(constant)) => {
            let values = per_channel(node, &constant, graph.shape(source))?;
            let (scale, shift): (Vec<f64>, Vec<f64>) = match node.op() {
                "Add" => values.map(|value| (1.0, value)).unzip(),
                "Sub" => values.map(|value| (1.0, -value)).unzip(),
                "Mul" => values.map(|value| (value, 0.0)).unzip(),
                _ => values.map(|value| (1.0 / value, 0.0)).unzip(),
            };
            affine(graph, node, source, &scale, &shift)
        }
        (Value::Constant(constant), Value::Tensor(source)) if node.op() != "Div" => {
            let values = per_channel(node, &constant, graph.shape(source))?;
            let (scale, shift): (Vec<f64>, Vec<f64>) = match node.op() {
                "Add" => values.map(|value| (1.0, value)).unzip(),
                "Sub" => values.map(|value| (-1.0, value)).unzip(),
                _ => values.map(|value| (value, 0.0)).unzip(),
            };
            affine(graph, node, source, &scale, &shift)
        }
        _ => Err(node.error("of two computed tensors only the sum is supported, and no division by one")),
    }
}

/// `BatchNormalization` as used for inference.
pub fn batch_norm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if node.int("training_mode", 0) != 0 {
        return Err(node.error("it was exported in training mode; call model.eval() before the export"));
    }
    let source = graph.tensor(node, 0)?;
    let channels = graph.shape(source).0.first().copied().unwrap_or(0);
    let parameter = |index: usize| match graph.constant(node, index)? {
        Some(Constant::Float(weights)) if weights.data.len() == channels => Ok(weights),
        _ => Err(node.error(format_args!("expected its input {index} to be {channels} constant numbers"))),
    };
    let [gamma, beta, mean, variance] = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let scale: Vec<f64> = std::iter::zip(&gamma.data, &variance.data)
        .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + epsilon).sqrt())
        .collect();
    let shift: Vec<f64> = std::iter::zip(std::iter::zip(&beta.data, &mean.data), &scale)
        .map(|((&beta, &mean), scale)| f64::from(beta) - f64::from(mean) * scale)
        .collect();
    affine(graph, node, source, &scale, &shift)
}

/// The sum of several tensors of one shape.
pub fn sum<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let inputs = tensors(graph, node)?;
    let shape = graph.shape(inputs[0]).clone();
    if let Some(&other) = inputs.iter().find(|&&input| *graph.shape(input) != shape) {
        let other = graph.shape(other);
        return Err(node.error(format_args!("it sums tensors of different shapes, {shape} and {other}")));
    }
    if let [single] = inputs[..] {
        return Ok(Value::Tensor(single));
    }
    graph.push(node, Op::Add { relu: false }, inputs, shape.0)
}

/// `Relu`.
pub fn relu<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let source = graph.tensor(node, 0)?;
    let shape = graph.shape(source).0.clone();
    graph.push(node, Op::Relu, vec![source], shape)
}

/// `Concat` along the channels.
pub fn concat<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let inputs = tensors(graph, node)?;
    let mut shape = graph.shape(inputs[0]).0.clone();
    if node.axis(node.int("axis", 1), shape.len() + 1)? != 1 {
        return Err(node.error("only channels can be joined (axis 1)"));
    }
    let mut channels = 0_usize;
    for &input in &inputs {
        match graph.shape(input).0.as_slice() {
            [own, rest @ ..] if *rest == shape[1..] => channels = channels.saturating_add(*own),
            other => {
                let what = format_args!("it joins tensors of different planes, {shape:?} and {other:?}");
                return Err(node.error(what));
            }
        }
    }
    if let [single] = inputs[..] {
        return Ok(Value::Tensor(single));
    }
    shape[0] = channels;
    graph.push(node, Op::Concat, inputs, shape)
}

/// All inputs, at least one, each with at least one side.
fn tensors(graph: &Lowering<'_>, node: &Node<'_>) -> Result<Vec<Source>> {
    let inputs: Vec<Source> =
        (0..node.proto.input.len()).map(|index| graph.tensor(node, index)).collect::<Result<_>>()?;
    if inputs.is_empty() { Err(node.error("it has no inputs")) } else { Ok(inputs) }
}

fn affine<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    source: Source,
    scale: &[f64],
    shift: &[f64],
) -> Result<Value> {
    if scale.iter().chain(shift).any(|value| !value.is_finite()) {
        return Err(
            node.error("its constants give no finite scale (division by zero, or a negative variance?)")
        );
    }
    let weights = |values: &[f64]| {
        let data = values.iter().map(|&value| value as f32).collect();
        Arc::new(Weights { shape: vec![values.len()], data })
    };
    let shape = graph.shape(source).0.clone();
    let op = Op::Affine { scale: weights(scale), shift: weights(shift), relu: false };
    graph.push(node, op, vec![source], shape)
}

/// A constant that is broadcast to `[batch, ..shape]`, as one value for each channel or one for all.
fn per_channel<'c>(
    node: &Node<'_>,
    constant: &'c Constant,
    shape: &Shape,
) -> Result<impl Iterator<Item = f64> + use<'c>> {
    let Constant::Float(weights) = constant else {
        return Err(node.error("expected a floating-point constant, found integers"));
    };
    let channels = shape.0.first().copied().unwrap_or(0);
    // Counted from the end, as broadcasting does, the channels are followed by the plane's sides.
    let behind_channels = shape.0.len().saturating_sub(1);
    let fits =
        |(from_end, &side): (usize, &usize)| side == 1 || (from_end == behind_channels && side == channels);
    let rank_fits = weights.shape.len() <= shape.0.len() + 1;
    if rank_fits && weights.shape.iter().rev().enumerate().all(fits) && !weights.data.is_empty() {
        return Ok(weights.data.iter().map(|&value| f64::from(value)));
    }
    let found = &weights.shape;
    Err(node.error(format_args!(
        "expected a constant of one value or one per channel of {shape}, found {found:?}"
    )))
}
