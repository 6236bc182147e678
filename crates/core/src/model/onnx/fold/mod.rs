//! Computes what depends on constants alone: casts, reshaped weights, and the arithmetic on shapes that exporters write
//! in front of a Reshape. The batch counts as 1 throughout.

mod arrays;
mod numbers;
pub mod quantised;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrays::joined;
pub use arrays::picked;

use super::constant::{Budget, Constant, MAX_RANK, elements};
use super::node::Node;
use crate::error::Result;
use crate::model::Weights;

/// The value of a `Constant` node.
pub fn constant_node(node: &Node<'_>) -> Result<Constant> {
    let attribute = |name: &str| node.attribute(name);
    if let Some(tensor) = attribute("value").and_then(|attribute| attribute.t.as_ref()) {
        Constant::decode(tensor).map_err(|what| node.error(what))
    } else if let Some(value) = attribute("value_float") {
        Ok(Constant::float(vec![], vec![value.f]))
    } else if let Some(value) = attribute("value_floats") {
        Ok(Constant::float(vec![value.floats.len()], value.floats.clone()))
    } else if let Some(value) = attribute("value_int") {
        Ok(Constant::int(vec![], vec![value.i]))
    } else if let Some(value) = attribute("value_ints") {
        Ok(Constant::int(vec![value.ints.len()], value.ints.clone()))
    } else {
        Err(node.error("expected a tensor or number as its value, found none or one of another kind"))
    }
}

/// The value of a `Shape` node whose input has this shape, batch included.
pub fn shape_node(node: &Node<'_>, full_shape: &[usize]) -> Constant {
    let rank = full_shape.len() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
    let (start, end) = (place(node.int("start", 0)), place(node.int("end", rank)));
    let sides: Vec<i64> = full_shape.get(start..end).unwrap_or(&[]).iter().map(|&side| side as i64).collect();
    Constant::int(vec![sides.len()], sides)
}

/// The value of a node all of whose inputs are constants, or `None` where it cannot be computed here.
pub fn constants(node: &Node<'_>, inputs: &[Constant], budget: &mut Budget) -> Result<Option<Constant>> {
    Ok(match (node.op(), inputs) {
        ("Identity", [value]) => Some(value.clone()),
        ("Cast", [value]) => Some(cast(node, value)?),
        ("CastLike", [value, like]) => Some(like_type(value, like)),
        ("Reshape", [value, Constant::Int(target)]) => {
            let shape = reshaped(node, value.shape(), &target.data)?;
            Some(value.reshaped(shape))
        }
        // Before opset 5 the shape is an attribute.
        ("Reshape", [value]) => match node.ints("shape") {
            Some(target) => Some(value.reshaped(reshaped(node, value.shape(), target)?)),
            None => None,
        },
        ("Unsqueeze" | "Squeeze", [value, rest @ ..]) => {
            let shape = squeezed(node, value.shape(), axes(node, rest.first())?.as_deref())?;
            Some(value.reshaped(shape))
        }
        ("Concat", [first, ..]) => {
            let default = if node.opset < 4 { 1 } else { 0 };
            let axis = node.axis(node.int("axis", default), first.shape().len())?;
            joined(inputs, axis)
        }
        ("Gather", [value, places]) => arrays::gathered(node, value, places, budget)?,
        ("Expand", [value, Constant::Int(target)]) => arrays::expanded(node, value, &target.data, budget)?,
        ("GatherND", [value, places]) => arrays::gathered_by_index(node, value, places, budget)?,
        ("ScatterND", [value, places, new]) => arrays::scattered(node, [value, places, new])?,
        ("Transpose", [value]) => arrays::transposed(value, &order(node, value.shape().len())?),
        ("MatMul", [left, right]) => numbers::product(node, left, right, budget)?,
        ("Clip", [value, bounds @ ..]) => numbers::clipped(node, value, bounds),
        ("Where", [condition, yes, no]) => numbers::chosen(node, [condition, yes, no], budget)?,
        ("Range", [start, limit, step]) => numbers::range(node, [start, limit, step], budget)?,
        ("ConstantOfShape", [shape]) => Some(numbers::filled(node, shape, budget)?),
        ("Size", [value]) => Some(Constant::int(vec![], vec![value.len() as i64])),
        ("ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin", [value, ..]) => numbers::total(node, value),
        ("DequantizeLinear", [value, scale, zero @ ..]) => {
            let axis = node.int("axis", 1);
            Some(quantised::real(node, value, scale, zero.first(), axis)?)
        }
        ("QuantizeLinear", [value, scale, zero @ ..]) => {
            Some(quantised::whole(node, value, scale, zero.first())?)
        }
        (_, [value]) => numbers::unary(node, value),
        (op, [left, right]) if numbers::is_binary(op) => {
            let right = right.reshaped(aligned(node, left.shape().len(), right.shape())?);
            numbers::binary(node, left, &right, budget)?
        }
        _ => None,
    })
}

/// The shape that the second operand of arithmetic has where its axes are aligned with those of the first, which has `rank`
/// of them. From opset 7 on they are by their ends; before, an attribute says where its first axis belongs.
pub fn aligned(node: &Node<'_>, rank: usize, shape: &[usize]) -> Result<Vec<usize>> {
    let named = node.attribute("axis").filter(|_| node.opset < 7 && node.int("broadcast", 0) != 0);
    let Some(named) = named else { return Ok(shape.to_vec()) };
    let axis = node.axis(named.i, rank)?;
    let behind = rank.checked_sub(axis + shape.len()).ok_or_else(|| {
        node.error(format_args!("its second input of {shape:?} does not fit in from axis {axis} on"))
    })?;
    Ok([shape, &vec![1; behind]].concat())
}

/// The order in which a Transpose puts the axes: reversed unless it says otherwise.
pub fn order(node: &Node<'_>, rank: usize) -> Result<Vec<usize>> {
    let Some(named) = node.ints("perm") else { return Ok((0..rank).rev().collect()) };
    let order = named.iter().map(|&axis| node.axis(axis, rank)).collect::<Result<Vec<usize>>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..rank) {
        Ok(order)
    } else {
        Err(node.error(format_args!("{named:?} is no order of {rank} axes")))
    }
}

/// The axes of a Squeeze, Unsqueeze or ReduceMean: an attribute in old opsets, an input in new ones.
pub fn axes(node: &Node<'_>, input: Option<&Constant>) -> Result<Option<Vec<i64>>> {
    match (node.ints("axes"), input) {
        (Some(axes), _) => Ok(Some(axes.to_vec())),
        (None, Some(Constant::Int(axes))) => Ok(Some(axes.data.clone())),
        (None, Some(Constant::Float(_))) => Err(node.error("its axes are not integers")),
        (None, None) => Ok(None),
    }
}

/// The shape that a Reshape of `from` to `target` gives, both with the batch.
pub fn reshaped(node: &Node<'_>, from: &[usize], target: &[i64]) -> Result<Vec<usize>> {
    let few = target.get(..MAX_RANK).unwrap_or(target);
    let misfit = || node.error(format_args!("{from:?} cannot be reshaped to {few:?}"));
    if target.len() > MAX_RANK {
        return Err(misfit());
    }
    let keep_zero = node.int("allowzero", 0) != 0;
    let mut shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (at, &side) in target.iter().enumerate() {
        shape.push(match side {
            0 if !keep_zero => *from.get(at).ok_or_else(misfit)?,
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            side => usize::try_from(side).map_err(|_| misfit())?,
        });
    }
    let total = elements(from).ok_or_else(misfit)?;
    let given = elements(&shape).ok_or_else(misfit)?;
    if let Some(at) = open {
        shape[at] = total.checked_div(given).ok_or_else(misfit)?;
    }
    if elements(&shape) == Some(total) { Ok(shape) } else { Err(misfit()) }
}

/// The shape that a Squeeze or Unsqueeze gives.
pub fn squeezed(node: &Node<'_>, from: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>> {
    let unsqueeze = node.op() == "Unsqueeze";
    let Some(axes) = axes else {
        // A Squeeze drops every axis of length 1 then.
        let kept = from.iter().copied().filter(|&side| side != 1).collect();
        return if unsqueeze { Err(node.error("it names no axes")) } else { Ok(kept) };
    };
    let rank = if unsqueeze { from.len() + axes.len() } else { from.len() };
    if rank > MAX_RANK {
        return Err(node.error(format_args!("it makes a tensor of {rank} axes, expected up to {MAX_RANK}")));
    }
    let mut marked = vec![false; rank];
    for &axis in axes {
        marked[node.axis(axis, rank)?] = true;
    }
    if unsqueeze {
        if marked.iter().filter(|&&new| new).count() != axes.len() {
            return Err(node.error("it names an axis twice"));
        }
        let mut sides = from.iter().copied();
        return Ok(marked.iter().map(|&new| if new { 1 } else { sides.next().unwrap_or(1) }).collect());
    }
    if (0..rank).any(|axis| marked[axis] && from[axis] != 1) {
        return Err(node.error(format_args!("only sides of length 1 can be squeezed, found {from:?}")));
    }
    Ok((0..rank).filter(|&axis| !marked[axis]).map(|axis| from[axis]).collect())
}

/// A matrix with rows and columns exchanged; any other rank is given back as it is.
pub fn transposed(weights: &Arc<Weights>) -> Arc<Weights> {
    let &[rows, columns] = weights.shape.as_slice() else { return weights.clone() };
    let data = (0..columns).flat_map(|column| (0..rows).map(move |row| weights.data[row * columns + column]));
    Arc::new(Weights { shape: vec![columns, rows], data: data.collect() })
}

fn cast(node: &Node<'_>, value: &Constant) -> Result<Constant> {
    use super::proto::data_type::{BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64};
    match node.cast_target() {
        FLOAT | FLOAT16 | BFLOAT16 | DOUBLE => Ok(value.as_float()),
        INT32 | INT64 => Ok(value.as_int()),
        BOOL => Ok(value.as_flags()),
        _ => Err(node.error("it casts to an element type that is not supported; use float or int64")),
    }
}

/// Integers made real numbers, or the other way round, if the other constant is of the other type.
fn like_type(value: &Constant, like: &Constant) -> Constant {
    match (value, like) {
        (Constant::Int(_), Constant::Float(_)) => value.as_float(),
        (Constant::Float(_), Constant::Int(_)) => value.as_int(),
        _ => value.clone(),
    }
}
