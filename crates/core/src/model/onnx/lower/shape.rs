//! What moves values without changing them: shapes, orders of axes, joining, padding.

use std::sync::Arc;

use super::super::constant::{Constant, MAX_RANK, elements};
use super::super::fold::{axes, order, reshaped, squeezed};
use super::super::node::Node;
use super::super::value::{Value, View, broadcast, per_sample};
use super::Lowering;
use super::arithmetic::{affine, number};
use super::window::MAX_ELEMENTS;
use crate::error::Result;
use crate::model::{Op, Weights};

/// `Flatten`, `Reshape`, `Squeeze` and `Unsqueeze` of a tensor: another view of it.
pub fn reshape<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let from = view.shape.as_slice();
    let shape = match node.op() {
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = if axis == from.len() as i64 { from.len() } else { node.axis(axis, from.len())? };
            let (before, behind) = from.split_at(axis);
            // A tensor's shape is checked when its layer is made, so that its products exist.
            [before, behind].map(|sides| elements(sides).unwrap_or(0)).to_vec()
        }
        "Reshape" => match graph.list(node, "shape", 1)? {
            Some(target) => reshaped(node, from, &graph.of_one_sample(from, target))?,
            None => return Err(node.error("expected its target shape to be integers")),
        },
        _ => squeezed(node, from, axes(node, graph.constant(node, 1)?.as_ref())?.as_deref())?,
    };
    Ok(Value::Tensor(View { source: view.source, shape }))
}

/// `Transpose`.
pub fn transpose<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let order = order(node, view.shape.len())?;
    turned(graph, node, view, &order).map(Value::Tensor)
}

/// A tensor with its axes in another order. Moving axes of length 1 moves no values.
pub fn turned<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, view: View, order: &[usize]) -> Result<View> {
    let shape: Vec<usize> = order.iter().map(|&axis| view.shape[axis]).collect();
    if order.iter().filter(|&&axis| view.shape[axis] != 1).is_sorted() {
        return Ok(View { source: view.source, shape });
    }
    // The other axes as they follow each other without those.
    let sides: Vec<usize> = view.shape.iter().copied().filter(|&side| side != 1).collect();
    let place = |axis: usize| view.shape[..axis].iter().filter(|&&side| side != 1).count();
    let order = order.iter().filter(|&&axis| view.shape[axis] != 1).map(|&axis| place(axis)).collect();
    let source = graph.stored_as(&view, &sides).map_err(|what| node.error(what))?;
    graph.push(node, Op::Transpose { order }, vec![source], shape)
}

/// `Expand` of a tensor: another view if nothing is repeated, else the sum with zeros of the wanted shape.
pub fn expand<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let Some(Constant::Int(target)) = graph.constant(node, 1)? else {
        return Err(node.error("expected its target shape to be integers"));
    };
    let sides: Option<Vec<usize>> = target.data.iter().map(|&side| usize::try_from(side).ok()).collect();
    let shape = sides.and_then(|target| broadcast(&view.shape, &target)).ok_or_else(|| {
        let few = target.data.get(..MAX_RANK).unwrap_or(&target.data);
        node.error(format_args!("a tensor of {:?} cannot be expanded to {few:?}", view.shape))
    })?;
    if elements(&shape) == elements(&view.shape) {
        return Ok(Value::Tensor(View { source: view.source, shape }));
    }
    let count = graph.budget.take_shape(&shape).map_err(|error| node.error(error))?;
    let zeros = Arc::new(Weights { shape, data: vec![0.0; count] });
    affine(graph, node, view, number(1.0), zeros).map(Value::Tensor)
}

/// `Concat` of tensors, and of constants between them.
pub fn concat<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let parts =
        (0..node.proto.input.len()).map(|index| graph.operand(node, index)).collect::<Result<Vec<_>>>()?;
    concatenated(graph, node, parts)
}

/// These values joined along the axis that a node names.
pub fn concatenated<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, parts: Vec<Value>) -> Result<Value> {
    let Some(first) = parts.first() else { return Err(node.error("it has no inputs")) };
    let mut shape = first.shape().to_vec();
    let axis = node.axis(node.int("axis", 1), shape.len())?;
    let mut side = 0_usize;
    for part in &parts {
        let own = part.shape();
        let fits = own.len() == shape.len() && (0..own.len()).all(|at| at == axis || own[at] == shape[at]);
        if !fits {
            let what =
                format_args!("it joins tensors that do not fit along axis {axis}, {shape:?} and {own:?}");
            return Err(node.error(what));
        }
        side = side.saturating_add(own[axis]);
    }
    if let [single] = parts.as_slice() {
        return Ok(single.clone());
    }
    shape[axis] = side;
    let whole = axis == 0;
    let (mut inputs, mut constants, mut skipped) = (Vec::new(), Vec::new(), 0);
    for (place, part) in parts.into_iter().enumerate() {
        match part {
            Value::Tensor(view) => {
                let (source, fewer) = graph.along_axes(node, &view, whole)?;
                inputs.push(source);
                skipped = fewer;
            }
            Value::Constant(Constant::Float(held)) => {
                let shape = if whole { held.shape.clone() } else { per_sample(&held.shape).to_vec() };
                constants.push((place, Arc::new(Weights { shape, data: held.data.clone() })));
            }
            Value::Constant(Constant::Int(_)) => {
                return Err(node.error("it joins tensors with integers"));
            }
        }
    }
    if inputs.is_empty() {
        return Err(node.error("it joins constants that do not fit each other"));
    }
    graph.push(node, Op::Concat { axis: axis - skipped, constants }, inputs, shape).map(Value::Tensor)
}

/// `Pad` with one value.
pub fn pad<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let mode = node.text("mode", "constant");
    if mode != "constant" {
        return Err(node.error("only padding with a constant is supported"));
    }
    let view = graph.tensor(node, 0)?;
    let value = match graph.constant(node, 2)? {
        Some(value) => value.as_float().single_float(),
        None => Some(node.float("value", 0.0)),
    };
    let value = value.ok_or_else(|| node.error("expected a single number to pad with"))?;
    let rank = view.shape.len();
    let places = match graph.constant(node, 3)? {
        Some(Constant::Int(named)) => {
            named.data.iter().map(|&axis| node.axis(axis, rank)).collect::<Result<Vec<usize>>>()?
        }
        Some(_) => return Err(node.error("its axes are not integers")),
        None => (0..rank).collect(),
    };
    let old = node.ints("paddings").filter(|_| node.opset < 2);
    let pads = match old {
        Some(pads) => pads.to_vec(),
        None => graph.list(node, "pads", 1)?.unwrap_or_default(),
    };
    let misfit =
        || node.error(format_args!("expected two numbers from 0 on for each of its axes, found {pads:?}"));
    if pads.len() != 2 * places.len() {
        return Err(misfit());
    }
    let (mut before, mut after, mut shape) = (vec![0; rank], vec![0; rank], view.shape.clone());
    for (at, &axis) in places.iter().enumerate() {
        for (side, &pad) in [(&mut before, &pads[at]), (&mut after, &pads[at + places.len()])] {
            side[axis] = usize::try_from(pad).ok().filter(|&pad| pad <= MAX_ELEMENTS).ok_or_else(misfit)?;
            shape[axis] = shape[axis].saturating_add(side[axis]);
        }
    }
    if shape == view.shape {
        return Ok(Value::Tensor(view));
    }
    let whole = shape.first() != view.shape.first();
    let (source, skipped) = graph.along_axes(node, &view, whole)?;
    let (before, after) = (before.split_off(skipped), after.split_off(skipped));
    graph.push(node, Op::Pad { before, after, value }, vec![source], shape).map(Value::Tensor)
}
