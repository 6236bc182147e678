//! Constants cut up, joined and turned; their values stay what they are.

use ndarray::{ArrayBase, ArrayViewD, Axis, Data, IxDyn};

use super::super::constant::{Budget, Constant, elements};
use super::super::node::Node;
use super::super::value::broadcast;
use crate::error::Result;

/// Makes a constant of what an expression makes of another one's values, whichever their type.
macro_rules! rearranged {
    ($constant:expr, |$array:ident| $change:expr) => {
        match $constant {
            Constant::Float(held) => array(&held.shape, &held.data).map(|$array| {
                let (shape, data) = parts(&$change);
                Constant::float(shape, data)
            }),
            Constant::Int(held) => array(&held.shape, &held.data).map(|$array| {
                let (shape, data) = parts(&$change);
                Constant::int(shape, data)
            }),
        }
    };
}

/// The values as an array; `None` for a shape so long that ndarray does not take it.
pub fn array<'a, T>(shape: &[usize], data: &'a [T]) -> Option<ArrayViewD<'a, T>> {
    ArrayViewD::from_shape(IxDyn(shape), data).ok()
}

fn parts<T: Clone, S: Data<Elem = T>>(array: &ArrayBase<S, IxDyn>) -> (Vec<usize>, Vec<T>) {
    (array.shape().to_vec(), array.iter().cloned().collect())
}

/// Some places of an axis, which must lie within it, in the order given.
pub fn picked(value: &Constant, axis: usize, places: &[usize]) -> Option<Constant> {
    rearranged!(value, |array| array.select(Axis(axis), places))
}

/// Axes in another order, which must be a permutation.
pub fn transposed(value: &Constant, order: &[usize]) -> Option<Constant> {
    rearranged!(value, |array| array.permuted_axes(IxDyn(order)))
}

/// `Gather`: the places of an axis that `places` names, under its shape.
pub fn gathered(
    node: &Node<'_>,
    value: &Constant,
    places: &Constant,
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    let axis = node.axis(node.int("axis", 0), value.shape().len())?;
    let Constant::Int(places) = places else { return Err(node.error("its indices are not integers")) };
    let side = value.shape()[axis];
    let picked = places.data.iter().map(|&place| node.axis(place, side)).collect::<Result<Vec<usize>>>()?;
    let shape = [&value.shape()[..axis], &places.shape, &value.shape()[axis + 1..]].concat();
    budget.take_shape(&shape).map_err(|error| node.error(error))?;
    Ok(self::picked(value, axis, &picked).map(|value| value.reshaped(shape)))
}

/// `Expand` to a shape, which is itself broadcast.
pub fn expanded(
    node: &Node<'_>,
    value: &Constant,
    target: &[i64],
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    let misfit = || node.error(format_args!("{:?} cannot be expanded to {target:?}", value.shape()));
    let target: Option<Vec<usize>> = target.iter().map(|&side| usize::try_from(side).ok()).collect();
    let shape = target.and_then(|target| broadcast(value.shape(), &target)).ok_or_else(misfit)?;
    budget.take_shape(&shape).map_err(|error| node.error(error))?;
    match rearranged!(value, |array| array.broadcast(IxDyn(&shape)).unwrap_or(array.view())) {
        Some(expanded) if expanded.shape() == shape => Ok(Some(expanded)),
        _ => Err(misfit()),
    }
}

/// Constants joined along an axis; `None` unless all are of one type and fit.
pub fn joined(values: &[Constant], axis: usize) -> Option<Constant> {
    let first = values.first()?.shape();
    let mut shape = first.to_vec();
    shape[axis] = 0;
    for value in values {
        let own = value.shape();
        let fits = own.len() == first.len() && (0..own.len()).all(|at| at == axis || own[at] == first[at]);
        shape[axis] = shape[axis].checked_add(*own.get(axis).filter(|_| fits)?)?;
    }
    let rows = elements(&shape[..axis])?;
    let mut all = (Vec::new(), Vec::new());
    for row in 0..rows {
        for value in values {
            let length = value.len() / rows;
            match value {
                Constant::Float(held) => all.0.extend_from_slice(&held.data[row * length..][..length]),
                Constant::Int(held) => all.1.extend_from_slice(&held.data[row * length..][..length]),
            }
        }
    }
    match all {
        (floats, ints) if ints.is_empty() && matches!(values.first(), Some(Constant::Float(_))) => {
            (Some(floats.len()) == elements(&shape)).then(|| Constant::float(shape, floats))
        }
        (_, ints) => (Some(ints.len()) == elements(&shape)).then(|| Constant::int(shape, ints)),
    }
}

/// `ScatterND`: some values replaced by others, at the places that a list of indices names.
pub fn scattered(node: &Node<'_>, [value, places, new]: [&Constant; 3]) -> Result<Option<Constant>> {
    if !matches!(node.text("reduction", "none"), "none" | "") {
        return Ok(None);
    }
    let (starts, rest) = starts(node, value, places)?;
    let length: usize = rest.iter().product();
    if starts.len().checked_mul(length) != Some(new.len()) {
        return Err(node.error("its updates do not fit its data"));
    }
    Ok(match (value, new) {
        (Constant::Float(held), Constant::Float(new)) => {
            Some(Constant::float(held.shape.clone(), replaced(&held.data, &new.data, &starts, length)))
        }
        (Constant::Int(held), Constant::Int(new)) => {
            Some(Constant::int(held.shape.clone(), replaced(&held.data, &new.data, &starts, length)))
        }
        _ => None,
    })
}

/// `GatherND`: the values at the places that a list of indices names.
pub fn gathered_by_index(
    node: &Node<'_>,
    value: &Constant,
    places: &Constant,
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    if node.int("batch_dims", 0) != 0 {
        return Ok(None);
    }
    let (starts, rest) = starts(node, value, places)?;
    let rows = places.shape().split_last().map_or(&[][..], |(_, rows)| rows);
    let shape = [rows, rest].concat();
    budget.take_shape(&shape).map_err(|error| node.error(error))?;
    let length: usize = rest.iter().product();
    Ok(Some(match value {
        Constant::Float(held) => Constant::float(
            shape,
            starts.iter().flat_map(|&start| held.data[start..][..length].to_vec()).collect(),
        ),
        Constant::Int(held) => Constant::int(
            shape,
            starts.iter().flat_map(|&start| held.data[start..][..length].to_vec()).collect(),
        ),
    }))
}

/// Where in a constant's values the parts begin that a list of indices names, and the shape of each part.
fn starts<'v>(node: &Node<'_>, value: &'v Constant, places: &Constant) -> Result<(Vec<usize>, &'v [usize])> {
    let misfit = || node.error("its indices do not fit its data");
    let Constant::Int(places) = places else { return Err(misfit()) };
    let fits = |depth: &usize| (1..=value.shape().len()).contains(depth);
    let depth = places.shape.last().copied().filter(fits).ok_or_else(misfit)?;
    let (named, rest) = value.shape().split_at(depth);
    let length = elements(rest).ok_or_else(misfit)?;
    let mut starts = Vec::with_capacity(places.data.len() / depth);
    for index in places.data.chunks(depth) {
        let mut start = 0;
        for (&place, &side) in std::iter::zip(index, named) {
            start = start * side + node.axis(place, side)?;
        }
        starts.push(start * length);
    }
    Ok((starts, rest))
}

fn replaced<T: Copy>(data: &[T], new: &[T], starts: &[usize], length: usize) -> Vec<T> {
    let mut data = data.to_vec();
    for (at, &start) in starts.iter().enumerate() {
        data[start..][..length].copy_from_slice(&new[at * length..][..length]);
    }
    data
}
