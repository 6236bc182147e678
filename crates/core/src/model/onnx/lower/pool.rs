//! Poolings, and axes made one value each.

use std::sync::Arc;

use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use super::arithmetic::power;
use super::window::Field;
use crate::error::Result;
use crate::model::{Activation, Op, Reduction, Weights, Window};

/// `MaxPool` and `AveragePool`.
pub fn pool<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    pooled(graph, node, view).map(Value::Tensor)
}

/// The same of a tensor.
pub fn pooled<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, view: View) -> Result<View> {
    let field = Field::of(node, &view)?;
    let window = field.window(node, field.pool_kernel(node)?)?;
    if (0..4).any(|side| window.padding[side] >= window.extent(side % 2)) {
        return Err(
            node.error(format_args!("its padding {:?} is not smaller than its window", window.padding))
        );
    }
    let floor = field.places(node, &window, false)?;
    let [rows, columns] = field.places(node, &window, node.int("ceil_mode", 0) != 0)?;
    let ceil = floor != [rows, columns];
    if window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0; 4] {
        return Ok(view);
    }
    let op = if node.op() == "MaxPool" {
        Op::MaxPool { window, ceil }
    } else if window.dilation == [1, 1] {
        Op::AveragePool { window, ceil, count_padding: node.int("count_include_pad", 0) != 0 }
    } else {
        gapped_mean(graph, node, field.channels, window, ceil)?
    };
    let source = graph.stored_as(&view, &field.stored()).map_err(|what| node.error(what))?;
    let made = graph.push(node, op, vec![source], vec![1, field.channels, rows, columns])?;
    Ok(field.written(made))
}

/// The mean under a window with gaps between its taps, as a convolution of each channel by itself: equal shares of what it sees,
/// so that padding must count.
fn gapped_mean(
    graph: &mut Lowering<'_>,
    node: &Node<'_>,
    channels: usize,
    window: Window,
    ceil: bool,
) -> Result<Op> {
    let padded = window.padding != [0; 4] && node.int("count_include_pad", 0) == 0;
    if padded || ceil {
        return Err(node.error("dilations are supported without padding and ceil_mode only"));
    }
    let [height, width] = window.kernel;
    let shape = vec![channels, 1, height, width];
    let count = graph.budget.take_shape(&shape).map_err(|error| node.error(error))?;
    let data = vec![1.0 / (height * width) as f32; count];
    let weight = Arc::new(Weights { shape, data });
    Ok(Op::Conv { weight, bias: None, window, groups: channels, adds: false, activation: None })
}

/// `GlobalAveragePool` and `GlobalMaxPool`.
pub fn global<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let op = match node.op() {
        "GlobalMaxPool" => Op::Reduce { how: Reduction::Largest, axes: vec![1, 2] },
        _ => Op::GlobalAveragePool,
    };
    globally(graph, node, view, op).map(Value::Tensor)
}

/// Each channel made one value by an op.
pub fn globally<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, view: View, op: Op) -> Result<View> {
    let field = Field::of(node, &view)?;
    let source = graph.stored_as(&view, &field.stored()).map_err(|what| node.error(what))?;
    let made = graph.push(node, op, vec![source], vec![1, field.channels, 1, 1])?;
    Ok(field.written(made))
}

/// `ReduceMean`, `ReduceSum`, `ReduceMax`, `ReduceMin`, `ReduceL1`, `ReduceL2` and `ReduceSumSquare`. The mean over a plane is a global average pooling under another name.
pub fn reduce<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let how = match node.op() {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare" => Reduction::Sum,
        "ReduceMin" => Reduction::Smallest,
        _ => Reduction::Largest,
    };
    let mut view = graph.tensor(node, 0)?;
    let length = node.op() == "ReduceL2";
    match node.op() {
        "ReduceL2" | "ReduceSumSquare" => view = graph.push_alike(node, power(2.0), view)?,
        "ReduceL1" => view = graph.push_alike(node, Op::Activation(Activation::Abs), view)?,
        _ => {}
    }
    let rank = view.shape.len();
    let mut reduced = vec![false; rank];
    match graph.list(node, "axes", 1)? {
        Some(named) if !named.is_empty() => {
            for axis in named {
                reduced[node.axis(axis, rank)?] = true;
            }
        }
        _ if node.int("noop_with_empty_axes", 0) != 0 => {}
        _ => reduced.fill(true),
    }
    let kept = node.int("keepdims", 1) != 0;
    let shape: Vec<usize> = std::iter::zip(&view.shape, &reduced)
        .filter_map(|(&side, &reduced)| if reduced { kept.then_some(1) } else { Some(side) })
        .collect();
    let axes: Vec<usize> = (0..rank).filter(|&axis| reduced[axis] && view.shape[axis] != 1).collect();
    if axes.is_empty() {
        let view = View { source: view.source, shape };
        let view = if length { graph.push_alike(node, power(0.5), view)? } else { view };
        return Ok(Value::Tensor(view));
    }
    if how == Reduction::Mean && matches!(view.shape.as_slice(), [1, _, _, _]) && axes == [2, 3] {
        let View { source, .. } = globally(graph, node, view, Op::GlobalAveragePool)?;
        return Ok(Value::Tensor(View { source, shape }));
    }
    let (source, skipped) = graph.along_axes(node, &view, false)?;
    let axes = axes.into_iter().map(|axis| axis - skipped).collect();
    let made = graph.push(node, Op::Reduce { how, axes }, vec![source], shape)?;
    if length { graph.push_alike(node, power(0.5), made).map(Value::Tensor) } else { Ok(Value::Tensor(made)) }
}
