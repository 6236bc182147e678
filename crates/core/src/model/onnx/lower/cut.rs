//! What takes parts of a tensor or a constant: slices, splits, and single places of an axis.

use super::super::constant::Constant;
use super::super::fold::picked;
use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use crate::error::Result;
use crate::model::Op;

/// More parts than any network splits a tensor into.
const MAX_PARTS: usize = 1024;

/// Some places of an axis: every `step`-th from `start` on, before `end`.
struct Range {
    axis: usize,
    start: usize,
    end: usize,
    step: usize,
}

/// `Slice`: its bounds are attributes up to opset 9, and inputs from then on.
pub fn slice<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let mut value = graph.operand(node, 0)?;
    let rank = value.shape().len();
    let starts = graph.list(node, "starts", 1)?.unwrap_or_default();
    let ends = graph.list(node, "ends", 2)?.unwrap_or_default();
    let axes = graph.list(node, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = graph.list(node, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || starts.len() > rank {
        return Err(node.error("its starts, ends, axes and steps do not fit each other or its tensor"));
    }
    for at in 0..starts.len() {
        let axis = node.axis(axes[at], rank)?;
        value = match usize::try_from(steps[at]) {
            Ok(0) => return Err(node.error("its step is 0")),
            Ok(step) => {
                let side = value.shape()[axis];
                let (start, end) = (place(starts[at], side), place(ends[at], side));
                taken(graph, node, value, &Range { axis, start, end: end.max(start), step })?
            }
            Err(_) => backwards(graph, node, value, axis, [starts[at], ends[at], steps[at]])?,
        };
    }
    Ok(value)
}

/// A bound that may count from the end, kept within an axis.
fn place(bound: i64, side: usize) -> usize {
    let from_start = if bound < 0 { bound.saturating_add(side as i64) } else { bound };
    from_start.clamp(0, side as i64) as usize
}

/// Places of an axis from its end on, of constants only.
fn backwards(
    graph: &mut Lowering<'_>,
    node: &Node<'_>,
    value: Value,
    axis: usize,
    [start, end, step]: [i64; 3],
) -> Result<Value> {
    let Value::Constant(constant) = value else {
        return Err(node.error("a computed tensor can be cut by steps forward only"));
    };
    graph.budget.take(constant.len()).map_err(|error| node.error(error))?;
    let side = constant.shape()[axis];
    let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    // The end itself is left out, unless it lies in front of the axis.
    let behind_end = if end < -(side as i64) { 0 } else { (place(end, side) + 1).min(side) };
    let behind_start = (place(start, side) + 1).min(side);
    let places: Vec<usize> = (behind_end..behind_start).rev().step_by(step).collect();
    let part = picked(&constant, axis, &places);
    part.map(Value::Constant).ok_or_else(|| node.error("its constant cannot be cut"))
}

/// `Split`: the parts in order.
pub fn split<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Vec<Value>> {
    let value = graph.operand(node, 0)?;
    let axis = node.axis(node.int("axis", 0), value.shape().len())?;
    let side = value.shape()[axis];
    let parts = node.proto.output.len().max(1);
    let sizes = match graph.list(node, "split", 1)? {
        Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect(),
        None => {
            let size = side.div_ceil(parts);
            (0..parts).map(|part| size.min(side.saturating_sub(part * size))).collect::<Vec<_>>()
        }
    };
    let total = sizes.iter().try_fold(0_usize, |total, &size| total.checked_add(size));
    if total != Some(side) || sizes.len() < parts || sizes.len() > MAX_PARTS {
        return Err(node.error(format_args!("its parts do not add up to the {side} places of axis {axis}")));
    }
    let mut start = 0;
    let mut taken_parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        let range = Range { axis, start, end: start + size, step: 1 };
        taken_parts.push(taken(graph, node, value.clone(), &range)?);
        start += size;
    }
    Ok(taken_parts)
}

/// `Gather` of a tensor at constant places that are evenly spaced: one place, or a slice.
pub fn gather<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let axis = node.axis(node.int("axis", 0), view.shape.len())?;
    let Some(Constant::Int(places)) = graph.constant(node, 1)? else {
        return Err(node.error("expected its places to be integers"));
    };
    let side = view.shape[axis];
    let named = places.data.iter().map(|&place| node.axis(place, side)).collect::<Result<Vec<usize>>>()?;
    let uneven = || node.error("only places that are evenly spaced and rise are supported");
    let (&start, &last) = named.first().zip(named.last()).ok_or_else(uneven)?;
    let step = named.get(1).map_or(Some(1), |second| second.checked_sub(start)).unwrap_or(0);
    if step == 0 || !(start..=last).step_by(step).eq(named.iter().copied()) {
        return Err(uneven());
    }
    let shape = [&view.shape[..axis], &places.shape, &view.shape[axis + 1..]].concat();
    let range = Range { axis, start, end: last + 1, step };
    taken(graph, node, Value::Tensor(view), &range).map(|value| value.reshaped(shape))
}

/// A tensor with only these places of an axis.
pub fn cut_out<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: View,
    axis: usize,
    places: std::ops::Range<usize>,
) -> Result<View> {
    let mut shape = view.shape.clone();
    shape[axis] = places.len();
    if shape == view.shape {
        return Ok(view);
    }
    let (source, skipped) = graph.along_axes(node, &view, axis == 0)?;
    let op = Op::Slice { axis: axis - skipped, start: places.start, end: places.end, step: 1 };
    graph.push(node, op, vec![source], shape)
}

fn taken<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, value: Value, range: &Range) -> Result<Value> {
    let &Range { axis, start, end, step } = range;
    let view = match value {
        Value::Constant(constant) => {
            graph.budget.take(constant.len()).map_err(|error| node.error(error))?;
            let places: Vec<usize> = (start..end).step_by(step).collect();
            let part = picked(&constant, axis, &places);
            return part.map(Value::Constant).ok_or_else(|| node.error("its constant cannot be cut"));
        }
        Value::Tensor(view) => view,
    };
    let mut shape = view.shape.clone();
    shape[axis] = (end - start).div_ceil(step);
    if shape == view.shape {
        return Ok(Value::Tensor(view));
    }
    let (source, skipped) = graph.along_axes(node, &view, axis == 0)?;
    let op = Op::Slice { axis: axis - skipped, start, end, step };
    let View { source, shape } = graph.push(node, op, vec![source], shape)?;
    Ok(Value::Tensor(View { source, shape }))
}
