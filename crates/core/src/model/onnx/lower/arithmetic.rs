//! What works value by value: arithmetic of tensors with constants and with each other.

use std::sync::Arc;

use super::super::constant::Constant;
use super::super::fold::aligned;
use super::super::node::Node;
use super::super::value::{Value, View, broadcast};
use super::Lowering;
use super::activation::{apply, clipped};
use crate::error::Result;
use crate::model::{Activation, Arithmetic, Op, Weights};

/// `Add`, `Sub`, `Mul`, `Div` and `Pow`.
pub fn pair<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let (left, right) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
    let shape = aligned(node, left.shape().len(), right.shape())?;
    of_two(graph, node, node.op(), left, right.reshaped(shape))
}

/// Two values under the op of this name.
pub fn of_two<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    op: &str,
    left: Value,
    right: Value,
) -> Result<Value> {
    match (left, right) {
        (Value::Tensor(view), Value::Constant(constant)) => behind(graph, node, op, view, &constant),
        (Value::Constant(constant), Value::Tensor(view)) => in_front(graph, node, op, view, &constant),
        (Value::Tensor(left), Value::Tensor(right)) => {
            let how = match op {
                "Add" => Arithmetic::Sum,
                "Sub" => Arithmetic::Difference,
                "Mul" => Arithmetic::Product,
                "Div" => Arithmetic::Quotient,
                _ => return Err(node.error("only constant exponents are supported")),
            };
            combine(graph, node, how, &[left, right]).map(Value::Tensor)
        }
        _ => Err(node.error("its constants cannot be combined")),
    }
}

/// `Sum`, `Max` and `Min` of any number of inputs.
pub fn several<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let how = match node.op() {
        "Sum" => Arithmetic::Sum,
        "Max" => Arithmetic::Largest,
        _ => Arithmetic::Smallest,
    };
    if let (2, Ok(Some(bound))) = (node.proto.input.len(), graph.constant(node, 1)) {
        return match (how, bound.single_float()) {
            (Arithmetic::Sum, _) => {
                let view = graph.tensor(node, 0)?;
                behind(graph, node, "Add", view, &bound)
            }
            (Arithmetic::Largest, Some(least)) => apply(graph, node, clipped(least, f32::INFINITY)),
            (_, Some(most)) => apply(graph, node, clipped(f32::NEG_INFINITY, most)),
            _ => Err(node.error("expected its constant input to be a single number")),
        };
    }
    combined(graph, node, how)
}

/// `Neg`.
pub fn negative<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    scaled(graph, node, view, -1.0).map(Value::Tensor)
}

/// A tensor times a number.
pub fn scaled<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, view: View, factor: f32) -> Result<View> {
    affine(graph, node, view, number(factor), number(0.0))
}

/// `PRelu`, whose slope is a constant for each channel: `max(x, 0) - slope * max(-x, 0)`.
pub fn sloped<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let slope = match graph.constant(node, 1)? {
        Some(Constant::Float(slope)) => slope,
        _ => return Err(node.error("expected its slope to be constant numbers")),
    };
    if let &[slope] = slope.data.as_slice() {
        return apply(graph, node, Activation::LeakyRelu { slope });
    }
    let relu = || Op::Activation(Activation::Relu);
    let view = graph.tensor(node, 0)?;
    let slope = along_channels_before_7(node, &view, slope);
    let positive = graph.push_alike(node, relu(), view.clone())?;
    let turned = scaled(graph, node, view, -1.0)?;
    let negative = graph.push_alike(node, relu(), turned)?;
    let negative = affine(graph, node, negative, changed(&slope, |slope| -slope), number(0.0))?;
    combine(graph, node, Arithmetic::Sum, &[positive, negative]).map(Value::Tensor)
}

/// A slope's shape says which axis it lies along; before opset 7 that is always the channels'.
fn along_channels_before_7(node: &Node<'_>, view: &View, mut slope: Arc<Weights>) -> Arc<Weights> {
    if node.opset < 7 && slope.shape.len() == 1 && view.shape.len() > 2 {
        let ones = vec![1; view.shape.len() - 2];
        Arc::make_mut(&mut slope).shape.extend(ones);
    }
    slope
}

/// `scale * x + shift`, whose constants are broadcast to the tensor or the tensor to them.
pub fn affine<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: View,
    scale: Arc<Weights>,
    shift: Arc<Weights>,
) -> Result<View> {
    if scale.data.iter().chain(&shift.data).any(|value| !value.is_finite()) {
        return Err(
            node.error("its constants give no finite scale (division by zero, or a negative variance?)")
        );
    }
    let misfit = |found: &[usize]| {
        node.error(format_args!("its constant of shape {found:?} does not fit a tensor of {:?}", view.shape))
    };
    let shape = broadcast(&view.shape, &scale.shape).ok_or_else(|| misfit(&scale.shape))?;
    let shape = broadcast(&shape, &shift.shape).ok_or_else(|| misfit(&shift.shape))?;
    let single = scale.data.len() == 1 && shift.data.len() == 1 && shape == view.shape;
    let op = Op::Affine { scale: without_ones(scale), shift: without_ones(shift), activation: None };
    if single {
        return graph.push_alike(node, op, view);
    }
    let source = graph.settled(node, &view)?;
    graph.push(node, op, vec![source], shape)
}

/// A constant of one value.
pub fn number(value: f32) -> Arc<Weights> {
    Arc::new(Weights { shape: vec![], data: vec![value] })
}

/// Broadcasting counts axes from the end, so that leading ones say nothing.
fn without_ones(mut weights: Arc<Weights>) -> Arc<Weights> {
    let ones = weights.shape.iter().take_while(|&&side| side == 1).count();
    if ones > 0 {
        Arc::make_mut(&mut weights).shape.drain(..ones);
    }
    weights
}

/// A tensor, the op, a constant.
fn behind<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    op: &str,
    view: View,
    constant: &Constant,
) -> Result<Value> {
    let values = floats(node, constant)?;
    let (scale, shift) = match (op, values.data.as_slice()) {
        ("Mul", _) => (values, number(0.0)),
        ("Div", _) => (changed(&values, |value| 1.0 / value), number(0.0)),
        ("Sub", _) => (number(1.0), changed(&values, |value| -value)),
        ("Pow", &[1.0]) => return Ok(Value::Tensor(view)),
        ("Pow", &[exponent]) => {
            return graph.push_alike(node, power(exponent), view).map(Value::Tensor);
        }
        ("Pow", _) => return Err(node.error("expected one exponent for all values")),
        _ => (number(1.0), values),
    };
    affine(graph, node, view, scale, shift).map(Value::Tensor)
}

/// A constant, the op, a tensor.
fn in_front<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    op: &str,
    view: View,
    constant: &Constant,
) -> Result<Value> {
    let values = floats(node, constant)?;
    match op {
        "Sub" => affine(graph, node, view, number(-1.0), values).map(Value::Tensor),
        "Div" => {
            let inverse = graph.push_alike(node, power(-1.0), view)?;
            affine(graph, node, inverse, values, number(0.0)).map(Value::Tensor)
        }
        "Pow" => Err(node.error("only constant exponents are supported")),
        _ => behind(graph, node, op, view, constant),
    }
}

/// `x` to the power of a number.
pub fn power(exponent: f32) -> Op {
    Op::Activation(Activation::Power { exponent })
}

fn floats(node: &Node<'_>, constant: &Constant) -> Result<Arc<Weights>> {
    match constant {
        Constant::Float(weights) => Ok(weights.clone()),
        Constant::Int(_) => Err(node.error("expected a floating-point constant, found integers")),
    }
}

/// Computed in double precision, so that dividing by a constant loses nothing.
fn changed(weights: &Weights, change: impl Fn(f64) -> f64) -> Arc<Weights> {
    let data = weights.data.iter().map(|&value| change(value.into()) as f32).collect();
    Arc::new(Weights { shape: weights.shape.clone(), data })
}

fn combined<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, how: Arithmetic) -> Result<Value> {
    let views =
        (0..node.proto.input.len()).map(|index| graph.tensor(node, index)).collect::<Result<Vec<_>>>()?;
    combine(graph, node, how, &views).map(Value::Tensor)
}

/// Tensors, broadcast to each other's shape, combined.
pub fn combine<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    how: Arithmetic,
    views: &[View],
) -> Result<View> {
    let [first, rest @ ..] = views else { return Err(node.error("it has no inputs")) };
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let mut shape = first.shape.clone();
    for view in rest {
        shape = broadcast(&shape, &view.shape).ok_or_else(|| {
            let (one, other) = (&shape, &view.shape);
            node.error(format_args!("it combines tensors of different shapes, {one:?} and {other:?}"))
        })?;
    }
    let sources = views.iter().map(|view| graph.settled(node, view)).collect::<Result<Vec<_>>>()?;
    graph.push(node, Op::Combine { how, activation: None }, sources, shape)
}

/// `Selu`, a scaled `Elu`.
pub fn selu<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let [alpha, gamma] = if node.opset < 6 { [1.6732, 1.0507] } else { [1.673_263_2, 1.050_701] };
    let alpha = node.float("alpha", alpha);
    let view = graph.tensor(node, 0)?;
    let curved = graph.push_alike(node, Op::Activation(Activation::Elu { alpha }), view)?;
    scaled(graph, node, curved, node.float("gamma", gamma)).map(Value::Tensor)
}
