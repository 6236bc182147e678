//! Constants cut up, joined and turned; their values stay what they are.

use ndarray::{ArrayBase, ArrayViewD, Axis, Data, IxDyn, Slice};

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

/// Places `start..end` of an axis, every `step`-th; they must lie within it.
pub fn sliced(value: &Constant, axis: usize, [start, end, step]: [usize; 3]) -> Option<Constant> {
    let slice = Slice::new(start as isize, Some(end as isize), step as isize);
    rearranged!(value, |array| array.slice_axis(Axis(axis), slice))
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
    Ok(rearranged!(value, |array| array.select(Axis(axis), &picked)).map(|value| value.reshaped(shape)))
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
