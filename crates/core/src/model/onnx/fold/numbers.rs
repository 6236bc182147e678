//! Arithmetic and comparisons of constants.

use ndarray::{ArrayView2, ArrayViewD};

use super::super::constant::{Budget, Constant, Ints};
use super::super::node::Node;
use super::super::value::broadcast;
use super::arrays::array;
use crate::error::Result;

/// Whether an op combines two constants value by value.
pub fn is_binary(op: &str) -> bool {
    int(op, 1, 1).is_some() || float(op, 1.0, 1.0).is_some() || compare(op, &1, &1).is_some()
}

/// A node that combines two constants value by value, broadcast to one shape; `None` for another op, or where a value does
/// not exist (an integer divided by 0).
pub fn binary(
    node: &Node<'_>,
    left: &Constant,
    right: &Constant,
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    let op = node.op();
    let (left, right) = match (left, right) {
        (Constant::Float(_), Constant::Int(_)) => (left.clone(), right.as_float()),
        (Constant::Int(_), Constant::Float(_)) => (left.as_float(), right.clone()),
        _ => (left.clone(), right.clone()),
    };
    let shape = common_shape(node, &[&left, &right], budget)?;
    Ok(match (&left, &right) {
        (Constant::Float(a), Constant::Float(b)) => {
            let pair = (array(&a.shape, &a.data), array(&b.shape, &b.data));
            let (Some(a), Some(b)) = pair else { return Ok(None) };
            let numbers = zip(&a, &b, &shape, |a, b| float(op, a, b)).map(|data| (shape.clone(), data));
            match numbers {
                Some((shape, data)) => Some(Constant::float(shape, data)),
                None => {
                    zip(&a, &b, &shape, |a, b| compare(op, &a, &b)).map(|data| Constant::int(shape, data))
                }
            }
        }
        (Constant::Int(a), Constant::Int(b)) => {
            let pair = (array(&a.shape, &a.data), array(&b.shape, &b.data));
            let (Some(a), Some(b)) = pair else { return Ok(None) };
            let combine = |a, b| int(op, a, b).or_else(|| compare(op, &a, &b));
            zip(&a, &b, &shape, combine).map(|data| Constant::int(shape, data))
        }
        _ => None,
    })
}

/// A node that changes each value by itself; `None` for another op.
pub fn unary(node: &Node<'_>, value: &Constant) -> Option<Constant> {
    let op = node.op();
    match value {
        Constant::Float(held) => {
            let change: fn(f32) -> f32 = match op {
                "Neg" => |x| -x,
                "Abs" => f32::abs,
                "Sqrt" => f32::sqrt,
                "Exp" => f32::exp,
                "Log" => f32::ln,
                "Reciprocal" => f32::recip,
                "Floor" => f32::floor,
                "Ceil" => f32::ceil,
                "Round" => f32::round_ties_even,
                "Relu" => |x| x.max(0.0),
                "Sigmoid" => |x| (1.0 + (-x).exp()).recip(),
                "Tanh" => f32::tanh,
                _ => return None,
            };
            Some(Constant::float(held.shape.clone(), held.data.iter().map(|&x| change(x)).collect()))
        }
        Constant::Int(held) => {
            let change: fn(i64) -> Option<i64> = match op {
                "Neg" => i64::checked_neg,
                "Abs" => i64::checked_abs,
                "Not" => |x| Some(i64::from(x == 0)),
                _ => return None,
            };
            let data = held.data.iter().map(|&x| change(x)).collect::<Option<Vec<i64>>>()?;
            Some(Constant::int(held.shape.clone(), data))
        }
    }
}

/// `Clip`, with either bound left out or both given.
pub fn clipped(node: &Node<'_>, value: &Constant, bounds: &[Constant]) -> Option<Constant> {
    let Constant::Float(held) = value else { return None };
    let mut bounds = bounds.iter();
    let mut bound = |index: usize, name: &str, default: f32| match node.input(index) {
        Some(_) => bounds.next().and_then(Constant::single_float),
        None => Some(node.float(name, default)),
    };
    let (least, most) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    let data = held.data.iter().map(|value| value.max(least).min(most)).collect();
    Some(Constant::float(held.shape.clone(), data))
}

/// `MatMul` with a matrix: what stands in front of the last axis counts as rows.
pub fn product(
    node: &Node<'_>,
    left: &Constant,
    right: &Constant,
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    let (Constant::Float(left), Constant::Float(right)) = (left, right) else { return Ok(None) };
    let (&[ref rows @ .., inner], &[same, columns]) = (left.shape.as_slice(), right.shape.as_slice()) else {
        return Ok(None);
    };
    let shape = [rows, &[columns]].concat();
    // Each sum is charged as a value, so that time stays within bounds as well.
    let count =
        budget.take_shape(&[shape.as_slice(), &[inner]].concat()).map_err(|error| node.error(error))?;
    if inner != same || count == 0 {
        return Err(node.error(format_args!("{:?} and {:?} cannot be multiplied", left.shape, right.shape)));
    }
    let matrix = |shape: [usize; 2], data| ArrayView2::from_shape(shape, data).ok();
    let product = matrix([left.data.len() / inner, inner], left.data.as_slice())
        .zip(matrix([inner, columns], &right.data))
        .map(|(left, right)| left.dot(&right).iter().copied().collect());
    Ok(product.map(|data| Constant::float(shape, data)))
}

/// `Where`: the second value where the first is not 0, else the third.
pub fn chosen(
    node: &Node<'_>,
    [condition, yes, no]: [&Constant; 3],
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    let Constant::Int(flags) = condition else { return Err(node.error("its condition is no truth value")) };
    let shape = common_shape(node, &[condition, yes, no], budget)?;
    Ok(match (yes, no) {
        (Constant::Float(a), Constant::Float(b)) => {
            choose(&shape, flags, (&a.shape, &a.data), (&b.shape, &b.data))
                .map(|data| Constant::float(shape, data))
        }
        (Constant::Int(a), Constant::Int(b)) => {
            choose(&shape, flags, (&a.shape, &a.data), (&b.shape, &b.data))
                .map(|data| Constant::int(shape, data))
        }
        _ => None,
    })
}

/// `Range`, of integers.
pub fn range(
    node: &Node<'_>,
    [start, limit, step]: [&Constant; 3],
    budget: &mut Budget,
) -> Result<Option<Constant>> {
    let (Some(start), Some(limit), Some(step)) = (start.single_int(), limit.single_int(), step.single_int())
    else {
        return Ok(None);
    };
    let distance = i128::from(limit) - i128::from(start);
    let step = i128::from(step);
    if step == 0 {
        return Err(node.error("its step is 0"));
    }
    let count = usize::try_from((distance + step - step.signum()) / step).unwrap_or(0);
    budget.take(count).map_err(|error| node.error(error))?;
    let value = |at: usize| i64::try_from(i128::from(start) + at as i128 * step).unwrap_or(limit);
    Ok(Some(Constant::int(vec![count], (0..count).map(value).collect())))
}

/// `ConstantOfShape`: a shape full of one value.
pub fn filled(node: &Node<'_>, shape: &Constant, budget: &mut Budget) -> Result<Constant> {
    let misfit = || node.error("its shape is no list of sides");
    let Constant::Int(sides) = shape else { return Err(misfit()) };
    let shape: Option<Vec<usize>> = sides.data.iter().map(|&side| usize::try_from(side).ok()).collect();
    let shape = shape.ok_or_else(misfit)?;
    let count = budget.fill(&shape).map_err(|error| node.error(error))?;
    let value = node.attribute("value").and_then(|attribute| attribute.t.as_ref());
    match value.map(Constant::decode).transpose().map_err(|what| node.error(what))? {
        None => Ok(Constant::float(shape, vec![0.0; count])),
        Some(Constant::Float(held)) if held.data.len() == 1 => {
            Ok(Constant::float(shape, vec![held.data[0]; count]))
        }
        Some(Constant::Int(held)) if held.data.len() == 1 => {
            Ok(Constant::int(shape, vec![held.data[0]; count]))
        }
        Some(_) => Err(node.error("its value is not a single one")),
    }
}

/// The product, sum, largest or smallest of a list of integers; `None` for anything else.
pub fn total(node: &Node<'_>, value: &Constant) -> Option<Constant> {
    let Constant::Int(held) = value else { return None };
    if held.shape.len() > 1 {
        return None;
    }
    let mut numbers = held.data.iter().copied();
    let total = match node.op() {
        "ReduceProd" => numbers.try_fold(1_i64, i64::checked_mul)?,
        "ReduceSum" => numbers.try_fold(0_i64, i64::checked_add)?,
        "ReduceMax" => numbers.max()?,
        "ReduceMin" => numbers.min()?,
        _ => return None,
    };
    let kept = node.int("keepdims", 1) != 0 && held.shape.len() == 1;
    Some(Constant::int(if kept { vec![1] } else { vec![] }, vec![total]))
}

fn common_shape(node: &Node<'_>, values: &[&Constant], budget: &mut Budget) -> Result<Vec<usize>> {
    let shape = values.iter().try_fold(Vec::new(), |shape, value| broadcast(&shape, value.shape()));
    let shape = shape.ok_or_else(|| {
        let shapes: Vec<&[usize]> = values.iter().map(|value| value.shape()).collect();
        node.error(format_args!("its constants of the shapes {shapes:?} do not fit each other"))
    })?;
    budget.take_shape(&shape).map_err(|error| node.error(error))?;
    Ok(shape)
}

fn zip<T: Copy, R>(
    a: &ArrayViewD<'_, T>,
    b: &ArrayViewD<'_, T>,
    shape: &[usize],
    combine: impl Fn(T, T) -> Option<R>,
) -> Option<Vec<R>> {
    let (a, b) = (a.broadcast(shape)?, b.broadcast(shape)?);
    std::iter::zip(&a, &b).map(|(&a, &b)| combine(a, b)).collect()
}

fn choose<T: Copy>(
    shape: &[usize],
    flags: &Ints,
    (a_shape, a): (&[usize], &[T]),
    (b_shape, b): (&[usize], &[T]),
) -> Option<Vec<T>> {
    let (flags, a, b) = (array(&flags.shape, &flags.data)?, array(a_shape, a)?, array(b_shape, b)?);
    let (flags, a, b) = (flags.broadcast(shape)?, a.broadcast(shape)?, b.broadcast(shape)?);
    let pick = |((&a, &b), &flag): ((&T, &T), &i64)| if flag != 0 { a } else { b };
    Some(std::iter::zip(std::iter::zip(&a, &b), &flags).map(pick).collect())
}

fn float(op: &str, a: f32, b: f32) -> Option<f32> {
    Some(match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Pow" => a.powf(b),
        "Min" => a.min(b),
        "Max" => a.max(b),
        _ => return None,
    })
}

fn int(op: &str, a: i64, b: i64) -> Option<i64> {
    match op {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        "Mod" => a.checked_rem_euclid(b),
        "Min" => Some(a.min(b)),
        "Max" => Some(a.max(b)),
        "And" => Some(i64::from(a != 0 && b != 0)),
        "Or" => Some(i64::from(a != 0 || b != 0)),
        _ => None,
    }
}

fn compare<T: PartialOrd>(op: &str, a: &T, b: &T) -> Option<i64> {
    Some(i64::from(match op {
        "Equal" => a == b,
        "Less" => a < b,
        "LessOrEqual" => a <= b,
        "Greater" => a > b,
        "GreaterOrEqual" => a >= b,
        _ => return None,
    }))
}
