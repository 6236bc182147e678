//! Poolings, and axes made one value each.

use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use super::arithmetic::power;
use super::window::{check_padded, places, plane, pool_kernel, window};
use crate::error::Result;
use crate::model::{Op, Reduction};

/// `MaxPool` and `AveragePool`.
pub fn pool<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let input @ [channels, height, width] = plane(node, &view)?;
    let window = window(node, pool_kernel(node)?, [height, width])?;
    check_padded(node, &window, input)?;
    if (0..4).any(|side| window.padding[side] >= window.extent(side % 2)) {
        return Err(
            node.error(format_args!("its padding {:?} is not smaller than its window", window.padding))
        );
    }
    let floor = places(node, &window, [height, width], false)?;
    let [rows, columns] = places(node, &window, [height, width], node.int("ceil_mode", 0) != 0)?;
    let ceil = floor != [rows, columns];
    if window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0; 4] {
        return Ok(Value::Tensor(view));
    }
    let op = if node.op() == "MaxPool" {
        Op::MaxPool { window, ceil }
    } else if window.dilation == [1, 1] {
        Op::AveragePool { window, ceil, count_padding: node.int("count_include_pad", 0) != 0 }
    } else {
        return Err(node.error("dilations are not supported here"));
    };
    let source = graph.settled(node, &view)?;
    graph.push(node, op, vec![source], vec![1, channels, rows, columns]).map(Value::Tensor)
}

/// `GlobalAveragePool` and `GlobalMaxPool`.
pub fn global<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let [channels, ..] = plane(node, &view)?;
    let source = graph.settled(node, &view)?;
    let op = match node.op() {
        "GlobalMaxPool" => Op::Reduce { how: Reduction::Largest, axes: vec![1, 2] },
        _ => Op::GlobalAveragePool,
    };
    graph.push(node, op, vec![source], vec![1, channels, 1, 1]).map(Value::Tensor)
}

/// `ReduceMean`, `ReduceSum`, `ReduceMax` and `ReduceL2`. The mean over a plane is a global average pooling under another name.
pub fn reduce<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let how = match node.op() {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" | "ReduceL2" => Reduction::Sum,
        _ => Reduction::Largest,
    };
    let mut view = graph.tensor(node, 0)?;
    let length = node.op() == "ReduceL2";
    if length {
        view = graph.push_alike(node, power(2.0), view)?;
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
    if how == Reduction::Mean && plane(node, &view).is_ok() && axes == [2, 3] {
        return global(graph, node).map(|pooled| pooled.reshaped(shape));
    }
    let (source, skipped) = graph.along_axes(node, &view, false)?;
    let axes = axes.into_iter().map(|axis| axis - skipped).collect();
    let made = graph.push(node, Op::Reduce { how, axes }, vec![source], shape)?;
    if length { graph.push_alike(node, power(0.5), made).map(Value::Tensor) } else { Ok(Value::Tensor(made)) }
}
