//! Convolutions and fully connected layers.

use std::sync::Arc;

use super::super::constant::Constant;
use super::super::fold::transposed;
use super::super::node::Node;
use super::super::value::{Value, View, broadcast};
use super::Lowering;
use super::window::Field;
use crate::error::Result;
use crate::model::{Op, Weights};

/// `Conv`.
pub fn conv<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    convolved(graph, node, view, [1, 2]).map(Value::Tensor)
}

/// A tensor convolved with the weight and the bias that these inputs of the node hold.
pub fn convolved<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: View,
    [weight, bias]: [usize; 2],
) -> Result<View> {
    let weight = weights(graph, node, weight)?;
    let bias = stored_bias(graph, node, bias)?;
    convolution(graph, node, &view, weight, bias)
}

/// A tensor convolved with a weight, which has the rank that the tensor has in the file.
pub fn convolution<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: &View,
    mut weight: Arc<Weights>,
    bias: Option<Arc<Weights>>,
) -> Result<View> {
    let field = Field::of(node, view)?;
    let Some(shape @ [outputs, depth, height, width]) = field.kernel_shape(&weight.shape) else {
        let (rank, found) = (view.shape.len(), &weight.shape);
        return Err(node.error(format_args!("expected a weight of rank {rank}, found {found:?}")));
    };
    if field.pair(node, "kernel_shape")?.is_some_and(|named| named != [height, width]) {
        return Err(node.error(format_args!("its kernel does not fit its weight {:?}", weight.shape)));
    }
    let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
    let divides = |count: usize| count.checked_rem(groups) == Some(0);
    let channels = field.channels;
    if !divides(channels) || !divides(outputs) || depth != channels / groups {
        return Err(node.error(format_args!(
            "its weight {:?} in {} groups does not fit an input of {channels} channels",
            weight.shape,
            node.int("group", 1)
        )));
    }
    let window = field.window(node, [height, width])?;
    let [rows, columns] = field.places(node, &window, false)?;
    let bias = bias.map(|bias| spread(node, &bias, outputs)).transpose()?;
    if weight.shape != shape {
        Arc::make_mut(&mut weight).shape = shape.to_vec();
    }
    let op = Op::Conv { weight, bias, window, groups, adds: false, activation: None };
    let source = graph.stored_as(view, &field.stored()).map_err(|what| node.error(what))?;
    let made = graph.push(node, op, vec![source], vec![1, outputs, rows, columns])?;
    Ok(field.written(made))
}

/// `Gemm`: `alpha * x * weight + beta * bias`.
pub fn gemm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if node.int("transA", 0) != 0 {
        return Err(node.error("transA is not supported: its first input must be [batch, features]"));
    }
    let stored = weights(graph, node, 1)?;
    let weight = if node.int("transB", 0) == 0 { matrix(graph, node, &stored)? } else { stored };
    let weight = scaled(weight, node.float("alpha", 1.0));
    let bias = stored_bias(graph, node, 2)?.map(|bias| scaled(bias, node.float("beta", 1.0)));
    let view = graph.tensor(node, 0)?;
    fully_connected(graph, node, &view, weight, bias).map(Value::Tensor)
}

/// `MatMul` of a tensor with a constant or another tensor.
pub fn matmul<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if let (Value::Tensor(_), Value::Tensor(_)) = (graph.operand(node, 0)?, graph.operand(node, 1)?) {
        return product(graph, node);
    }
    let (view, stored) = (graph.tensor(node, 0)?, weights(graph, node, 1)?);
    times_matrix(graph, node, &view, stored).map(Value::Tensor)
}

/// The last axis of a tensor multiplied with a matrix `[in, out]`.
pub fn times_matrix<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: &View,
    mut stored: Arc<Weights>,
) -> Result<View> {
    if let [ones @ .., _, _] = stored.shape.as_slice()
        && !ones.is_empty()
        && ones.iter().all(|&side| side == 1)
    {
        let shape = stored.shape[ones.len()..].to_vec();
        Arc::make_mut(&mut stored).shape = shape;
    }
    if stored.shape.len() != 2 {
        return Err(node.error(format_args!("expected a constant matrix, found {:?}", stored.shape)));
    }
    let weight = matrix(graph, node, &stored)?;
    fully_connected(graph, node, view, weight, None)
}

fn product<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let views = [graph.tensor(node, 0)?, graph.tensor(node, 1)?];
    multiplied(graph, node, &views).map(Value::Tensor)
}

/// The products of the matrices in the last two axes.
pub fn multiplied<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, views: &[View; 2]) -> Result<View> {
    let misfit = || {
        let [left, right] = views;
        node.error(format_args!("matrices of {:?} and {:?} cannot be multiplied", left.shape, right.shape))
    };
    let ([left @ .., rows, inner], [right @ .., same, columns]) =
        (views[0].shape.as_slice(), views[1].shape.as_slice())
    else {
        return Err(misfit());
    };
    let mut shape = broadcast(left, right).filter(|_| inner == same).ok_or_else(misfit)?;
    shape.extend([*rows, *columns]);
    let sources = views.iter().map(|view| graph.settled(node, view)).collect::<Result<Vec<_>>>()?;
    graph.push(node, Op::MatMul, sources, shape)
}

/// The last axis of a tensor multiplied with `weight`, `[out, in]`.
pub fn fully_connected<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: &View,
    weight: Arc<Weights>,
    bias: Option<Arc<Weights>>,
) -> Result<View> {
    let outputs = weight.shape.first().copied().unwrap_or(0);
    let bias = bias.map(|bias| spread(node, &bias, outputs)).transpose()?;
    match (weight.shape.as_slice(), view.shape.as_slice()) {
        (&[outputs, inputs], [rows @ .., features]) if inputs == *features => {
            let shape = [rows, &[outputs]].concat();
            let op = Op::Linear { weight, bias, activation: None };
            graph.push(node, op, vec![view.source], shape)
        }
        (shape, input) => Err(node
            .error(format_args!("its weight {shape:?} (outputs first) does not fit an input of {input:?}"))),
    }
}

/// A stored `[in, out]` matrix as `[out, in]`.
pub fn matrix(graph: &mut Lowering<'_>, node: &Node<'_>, stored: &Arc<Weights>) -> Result<Arc<Weights>> {
    graph.budget.take(stored.data.len()).map_err(|error| node.error(error))?;
    Ok(transposed(stored))
}

pub fn weights(graph: &Lowering<'_>, node: &Node<'_>, index: usize) -> Result<Arc<Weights>> {
    match graph.constant(node, index)? {
        Some(Constant::Float(weights)) if !weights.data.is_empty() => Ok(weights),
        Some(Constant::Float(_)) => Err(node.error(format_args!("its input {index} is empty"))),
        Some(Constant::Int(_)) => Err(node.error("expected floating-point weights, found integers")),
        None => Err(node.error(format_args!("its input {index} (the weights) is missing"))),
    }
}

/// The bias that an input holds, if it is there.
pub fn stored_bias(graph: &Lowering<'_>, node: &Node<'_>, index: usize) -> Result<Option<Arc<Weights>>> {
    node.input(index).map(|_| weights(graph, node, index)).transpose()
}

/// A bias as one value for each of `outputs`.
pub fn spread(node: &Node<'_>, stored: &Weights, outputs: usize) -> Result<Arc<Weights>> {
    let data = match stored.data.as_slice() {
        &[single] => vec![single; outputs],
        data if data.len() == outputs && stored.shape.last() == Some(&outputs) => data.to_vec(),
        _ => {
            return Err(
                node.error(format_args!("expected a bias of {outputs} values, found {:?}", stored.shape))
            );
        }
    };
    Ok(Arc::new(Weights { shape: vec![outputs], data }))
}

/// Weights times a number.
pub fn scaled(mut weights: Arc<Weights>, factor: f32) -> Arc<Weights> {
    if factor != 1.0 {
        Arc::make_mut(&mut weights).data.iter_mut().for_each(|value| *value *= factor);
    }
    weights
}
