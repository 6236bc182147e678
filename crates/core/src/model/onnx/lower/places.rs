//! Where the largest numbers stand: `ArgMax`, `ArgMin` and `TopK`. Places are written as numbers like all others.

use super::super::constant::Constant;
use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use crate::error::Result;
use crate::model::{LayerId, Op, Reduction, Source};

/// `ArgMax` and `ArgMin`.
pub fn extreme<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    if node.int("select_last_index", 0) != 0 {
        return Err(node.error("select_last_index is not supported"));
    }
    let axis = node.axis(node.int("axis", 0), view.shape.len())?;
    let how = if node.op() == "ArgMax" { Reduction::PlaceOfLargest } else { Reduction::PlaceOfSmallest };
    let mut shape = view.shape.clone();
    shape[axis] = 1;
    let (source, skipped) = graph.along_axes(node, &view, axis == 0)?;
    let made =
        graph.push(node, Op::Reduce { how, axes: vec![axis - skipped] }, vec![source], shape.clone())?;
    if node.int("keepdims", 1) == 0 {
        shape.remove(axis);
    }
    Ok(Value::Tensor(View { shape, ..made }))
}

/// `TopK`: the numbers, then their places. How many, is an attribute up to opset 9, and an input from then on.
pub fn top<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Vec<Value>> {
    let view = graph.tensor(node, 0)?;
    let axis = node.axis(node.int("axis", -1), view.shape.len())?;
    let count = match graph.constant(node, 1)? {
        Some(Constant::Int(count)) => count.data.first().copied(),
        Some(Constant::Float(_)) => None,
        None => Some(node.int("k", 0)),
    };
    let count = count
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| (1..=view.shape[axis]).contains(count));
    let count = count.ok_or_else(|| {
        node.error(format_args!("expected it to take 1 to {} numbers of axis {axis}", view.shape[axis]))
    })?;
    let largest = node.int("largest", 1) != 0;
    let mut shape = view.shape.clone();
    shape[axis] = count;
    let (source, skipped) = graph.along_axes(node, &view, axis == 0)?;
    let mut half = |places| {
        let op = Op::TopK { axis: axis - skipped, count, largest, places };
        graph.push(node, op, vec![source], shape.clone()).map(Value::Tensor)
    };
    Ok(vec![half(false)?, half(true)?])
}

/// Whether a tensor holds places, which are whole numbers.
pub fn are_places(graph: &Lowering<'_>, view: &View) -> bool {
    let Source::Layer(LayerId(id)) = view.source else { return false };
    matches!(
        graph.drafts[id].op,
        Op::TopK { places: true, .. }
            | Op::Reduce { how: Reduction::PlaceOfLargest | Reduction::PlaceOfSmallest, .. }
    )
}
