//! Poolings, and changes of shape.

use super::constant::{Constant, elements};
use super::fold::{axes, reshaped, squeezed};
use super::lower::{Lowering, Value};
use super::node::Node;
use super::window::{check_padded, extent, places, plane, pool_kernel, window};
use crate::error::Result;
use crate::model::Op;

/// `MaxPool` and `AveragePool`.
pub fn pool<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let source = graph.tensor(node, 0)?;
    let input @ [channels, height, width] = plane(node, graph.shape(source))?;
    let window = window(node, pool_kernel(node)?, [height, width])?;
    check_padded(node, &window, input)?;
    if (0..4).any(|side| window.padding[side] >= extent(&window, side % 2)) {
        return Err(
            node.error(format_args!("its padding {:?} is not smaller than its window", window.padding))
        );
    }
    let floor = places(node, &window, [height, width], false)?;
    let [rows, columns] = places(node, &window, [height, width], node.int("ceil_mode", 0) != 0)?;
    let ceil = floor != [rows, columns];
    if window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0; 4] {
        return Ok(Value::Tensor(source));
    }
    let op = if node.op() == "MaxPool" {
        Op::MaxPool { window, ceil }
    } else if window.dilation == [1, 1] {
        Op::AveragePool { window, ceil, count_padding: node.int("count_include_pad", 0) != 0 }
    } else {
        return Err(node.error("dilations are not supported here"));
    };
    graph.push(node, op, vec![source], vec![channels, rows, columns])
}

/// `GlobalAveragePool`.
pub fn global_average<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let source = graph.tensor(node, 0)?;
    let [channels, ..] = plane(node, graph.shape(source))?;
    graph.push(node, Op::GlobalAveragePool, vec![source], vec![channels, 1, 1])
}

/// `ReduceMean` over the plane: a global average pooling under another name.
pub fn reduce_mean<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let source = graph.tensor(node, 0)?;
    plane(node, graph.shape(source))?;
    let named = axes(node, graph.constant(node, 1)?.as_ref())?.unwrap_or_default();
    let mut places = named.iter().map(|&axis| node.axis(axis, 4)).collect::<Result<Vec<usize>>>()?;
    places.sort_unstable();
    if places != [2, 3] {
        return Err(node
            .error(format_args!("only the mean over height and width is supported, found axes {named:?}")));
    }
    let pooled = global_average(graph, node)?;
    match pooled {
        Value::Tensor(source) if node.int("keepdims", 1) == 0 => {
            let channels = graph.shape(source).0[0];
            graph.push(node, Op::Reshape, vec![source], vec![channels])
        }
        kept => Ok(kept),
    }
}

/// `Flatten`, `Reshape`, `Squeeze` and `Unsqueeze` of a tensor.
pub fn reshape<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let source = graph.tensor(node, 0)?;
    let from = graph.full_shape(source);
    let to = target(graph, node, &from)?;
    match to.as_slice() {
        [1, rest @ ..] if *rest == from[1..] => Ok(Value::Tensor(source)),
        [1, rest @ ..] if matches!(rest.len(), 1 | 3) => graph.push(node, Op::Reshape, vec![source], rest.to_vec()),
        _ => Err(node.error(format_args!(
            "expected [batch, features] or [batch, channels, height, width] behind it, found {to:?} for a batch of 1"
        ))),
    }
}

fn target(graph: &Lowering<'_>, node: &Node<'_>, from: &[usize]) -> Result<Vec<usize>> {
    match node.op() {
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = if axis == from.len() as i64 { from.len() } else { node.axis(axis, from.len())? };
            let (before, behind) = from.split_at(axis);
            // A tensor's shape is checked when its layer is made, so that its products exist.
            Ok([before, behind].map(|sides| elements(sides).unwrap_or(0)).to_vec())
        }
        "Reshape" => match graph.constant(node, 1)? {
            Some(Constant::Int(target)) => reshaped(node, from, &target.data),
            _ => Err(node.error("expected its target shape to be integers")),
        },
        _ => squeezed(node, from, axes(node, graph.constant(node, 1)?.as_ref())?.as_deref()),
    }
}
