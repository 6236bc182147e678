//! Computes what depends on constants alone: casts, reshaped weights, and the arithmetic on shapes that exporters write
//! in front of a Reshape. The batch counts as 1 throughout.

use std::sync::Arc;

use super::constant::{Constant, elements};
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
pub fn constants(node: &Node<'_>, inputs: &[Constant]) -> Result<Option<Constant>> {
    let folded = match (node.op(), inputs) {
        ("Identity", [value]) => value.clone(),
        ("Cast", [value]) => cast(node, value)?,
        ("Add" | "Sub" | "Mul" | "Div", [left, right]) => return arithmetic(node, left, right),
        ("Reshape", [value, Constant::Int(target)]) => {
            let shape = reshaped(node, value.shape(), &target.data)?;
            with_shape(value, shape)
        }
        ("Unsqueeze" | "Squeeze", [value, rest @ ..]) => {
            let shape = squeezed(node, value.shape(), axes(node, rest.first())?.as_deref())?;
            with_shape(value, shape)
        }
        ("Concat", values) => return Ok(concat(values)),
        ("Gather", [Constant::Int(values), Constant::Int(places)]) if values.shape.len() == 1 => {
            let pick = |&place: &i64| node.axis(place, values.data.len()).map(|at| values.data[at]);
            let picked = places.data.iter().map(pick).collect::<Result<Vec<i64>>>()?;
            Constant::int(places.shape.clone(), picked)
        }
        ("Slice", [Constant::Int(values), Constant::Int(start), Constant::Int(end), ..])
            if values.shape.len() == 1 && inputs.len() < 5 =>
        {
            return Ok(slice(&values.data, &start.data, &end.data));
        }
        ("Transpose", [Constant::Float(weights)]) if weights.shape.len() == 2 => {
            Constant::Float(transposed(weights))
        }
        _ => return Ok(None),
    };
    Ok(Some(folded))
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
    let misfit = || node.error(format_args!("{from:?} cannot be reshaped to {target:?}"));
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
    let axes = axes.ok_or_else(|| node.error("it names no axes, so that it would drop the batch as well"))?;
    let unsqueeze = node.op() == "Unsqueeze";
    let rank = if unsqueeze { from.len() + axes.len() } else { from.len() };
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

fn with_shape(value: &Constant, shape: Vec<usize>) -> Constant {
    match value {
        Constant::Float(weights) => Constant::float(shape, weights.data.clone()),
        Constant::Int(ints) => Constant::int(shape, ints.data.clone()),
    }
}

fn cast(node: &Node<'_>, value: &Constant) -> Result<Constant> {
    use super::proto::data_type::{BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64};
    let to_float = match i32::try_from(node.int("to", 0)) {
        Ok(FLOAT | FLOAT16 | BFLOAT16 | DOUBLE) => true,
        Ok(INT32 | INT64 | BOOL) => false,
        _ => return Err(node.error("it casts to an element type that is not supported; use float or int64")),
    };
    Ok(match value {
        Constant::Int(ints) if to_float => {
            Constant::float(ints.shape.clone(), ints.data.iter().map(|&value| value as f32).collect())
        }
        Constant::Float(weights) if !to_float => {
            Constant::int(weights.shape.clone(), weights.data.iter().map(|&value| value as i64).collect())
        }
        same => same.clone(),
    })
}

fn arithmetic(node: &Node<'_>, left: &Constant, right: &Constant) -> Result<Option<Constant>> {
    let shape = match (left.len(), right.len()) {
        _ if left.shape() == right.shape() => left.shape(),
        (_, 1) => left.shape(),
        (1, _) => right.shape(),
        _ => return Ok(None),
    };
    let count = left.len().max(right.len());
    Ok(match (left, right) {
        (Constant::Float(a), Constant::Float(b)) => {
            let combine = |a: f32, b: f32| {
                Some(match node.op() {
                    "Add" => a + b,
                    "Sub" => a - b,
                    "Mul" => a * b,
                    _ => a / b,
                })
            };
            zip(&a.data, &b.data, count, combine).map(|data| Constant::float(shape.to_vec(), data))
        }
        (Constant::Int(a), Constant::Int(b)) => {
            let combine = |a: i64, b: i64| match node.op() {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                _ => a.checked_div(b),
            };
            zip(&a.data, &b.data, count, combine).map(|data| Constant::int(shape.to_vec(), data))
        }
        _ => None,
    })
}

/// Combines value by value, a single one with each of the others; `None` if any result does not exist.
fn zip<T: Copy>(a: &[T], b: &[T], count: usize, combine: impl Fn(T, T) -> Option<T>) -> Option<Vec<T>> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    (0..count).map(|at| combine(a[at % a.len()], b[at % b.len()])).collect()
}

fn concat(values: &[Constant]) -> Option<Constant> {
    let mut joined = Vec::new();
    for value in values {
        match value {
            Constant::Int(ints) if ints.shape.len() == 1 => joined.extend_from_slice(&ints.data),
            _ => return None,
        }
    }
    Some(Constant::int(vec![joined.len()], joined))
}

fn slice(values: &[i64], start: &[i64], end: &[i64]) -> Option<Constant> {
    let (&[start], &[end]) = (start, end) else { return None };
    let length = values.len() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(0, length) as usize;
    let picked = values.get(place(start)..place(end)).unwrap_or(&[]).to_vec();
    Some(Constant::int(vec![picked.len()], picked))
}

#[cfg(test)]
mod tests {
    use super::super::proto::NodeProto;
    use super::super::tests::node;
    use super::*;

    fn folded(proto: NodeProto, inputs: &[Constant]) -> Option<(Vec<usize>, Vec<f64>)> {
        let value = constants(&Node { proto: &proto, opset: 17 }, inputs).unwrap()?;
        Some(match value {
            Constant::Float(weights) => {
                (weights.shape.clone(), weights.data.iter().map(|&v| v.into()).collect())
            }
            Constant::Int(ints) => (ints.shape.clone(), ints.data.iter().map(|&v| v as f64).collect()),
        })
    }

    fn list(values: &[i64]) -> Constant {
        Constant::int(vec![values.len()], values.to_vec())
    }

    fn fails(op: &str, inputs: &[Constant]) -> bool {
        let proto = node(op, "");
        constants(&Node { proto: &proto, opset: 17 }, inputs).is_err()
    }

    #[test]
    fn arithmetic_broadcasts_single_values_only() {
        let single = Constant::int(vec![], vec![3]);
        assert_eq!(folded(node("Mul", ""), &[list(&[2, 5]), single.clone()]).unwrap().1, [6.0, 15.0]);
        assert_eq!(folded(node("Sub", ""), &[single, list(&[2, 5])]).unwrap().1, [1.0, -2.0]);
        assert_eq!(folded(node("Add", ""), &[list(&[1, 2]), list(&[1, 2, 3])]), None);
        assert_eq!(folded(node("Div", ""), &[list(&[1]), list(&[0])]), None);
        assert_eq!(folded(node("Mul", ""), &[list(&[i64::MAX]), list(&[2])]), None);
        assert_eq!(folded(node("Add", ""), &[list(&[]), list(&[1])]), None);
    }

    #[test]
    fn shapes_are_picked_apart_and_joined() {
        let shape = list(&[1, 8, 4, 4]);
        assert_eq!(folded(node("Gather", ""), &[shape.clone(), list(&[-1, 1])]).unwrap().1, [4.0, 8.0]);
        assert!(fails("Gather", &[shape.clone(), list(&[4])]));
        let start = list(&[-3]);
        assert_eq!(folded(node("Slice", ""), &[shape, start, list(&[i64::MAX])]).unwrap().1, [8.0, 4.0, 4.0]);
        assert_eq!(folded(node("Concat", ""), &[list(&[1]), list(&[-1])]).unwrap().1, [1.0, -1.0]);
    }

    #[test]
    fn reshapes_are_worked_out_or_refused() {
        let proto = node("Reshape", "");
        let reshape = |from: &[usize], target: &[i64]| {
            reshaped(&Node { proto: &proto, opset: 17 }, from, target).map_err(|error| error.to_string())
        };
        assert_eq!(reshape(&[1, 8, 4, 4], &[0, -1]).unwrap(), [1, 128]);
        assert_eq!(reshape(&[1, 8, 4, 4], &[-1, 128]).unwrap(), [1, 128]);
        let senseless: [&[i64]; 7] = [
            &[0, 0, 0, 0, 0],
            &[-1, -1],
            &[-2, 128],
            &[1, 127],
            &[-1, 100],
            &[i64::MAX; 4],
            &[-1, i64::MAX, 4],
        ];
        for target in senseless {
            assert!(reshape(&[1, 8, 4, 4], target).is_err(), "{target:?}");
        }
    }

    #[test]
    fn axes_come_and_go() {
        let scalar = Constant::int(vec![], vec![7]);
        assert_eq!(folded(node("Unsqueeze", ""), &[scalar.clone(), list(&[0])]).unwrap().0, [1]);
        assert_eq!(folded(node("Unsqueeze", "").with("axes", &[-1]), &[list(&[1, 2])]).unwrap().0, [2, 1]);
        assert_eq!(folded(node("Squeeze", ""), &[list(&[7]), list(&[0])]).unwrap().0, Vec::<usize>::new());
        assert!(fails("Squeeze", &[list(&[1, 2]), list(&[0])]));
        assert!(fails("Unsqueeze", &[scalar, list(&[0, 0])]));
    }
}
