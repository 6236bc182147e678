//! Constants between real and whole numbers, by `real = scale * (whole - zero)`.

use super::super::constant::{Constant, MAX_RANK, range};
use super::super::node::Node;
use super::super::proto::data_type::UINT8;
use crate::error::Result;

/// Scales and zero points, one for all values or one for each place of an axis.
struct Steps<'c> {
    scales: &'c [f32],
    zeros: &'c [i64],
    /// How many values lie side by side that have the same scale.
    run: usize,
}

impl<'c> Steps<'c> {
    fn of(
        node: &Node<'_>,
        shape: &[usize],
        scale: &'c Constant,
        zero: Option<&'c Constant>,
        axis: i64,
    ) -> Result<Self> {
        let misfit = || node.error("its scale or its zero point does not fit what it scales");
        let Constant::Float(scale) = scale else { return Err(misfit()) };
        let zeros = match zero {
            Some(Constant::Int(zeros)) => zeros.data.as_slice(),
            Some(Constant::Float(_)) => return Err(misfit()),
            None => &[0],
        };
        let scales = scale.data.as_slice();
        let run = if scales.len() == 1 {
            1
        } else {
            let axis = node.axis(axis, shape.len().min(MAX_RANK))?;
            if shape[axis] != scales.len() || scales.is_empty() {
                return Err(misfit());
            }
            shape[axis + 1..].iter().product::<usize>().max(1)
        };
        let is_known = |scale: &f32| scale.is_finite() && *scale > 0.0;
        if node.int("block_size", 0) != 0 || !scales.iter().all(is_known) {
            return Err(
                node.error("expected scales above 0, one for all values or one for each place of an axis")
            );
        }
        if zeros.len() == 1 || zeros.len() == scales.len() {
            Ok(Self { scales, zeros, run })
        } else {
            Err(misfit())
        }
    }

    fn at(&self, place: usize) -> (f32, i64) {
        let place = place / self.run;
        (self.scales[place % self.scales.len()], self.zeros[place % self.zeros.len()])
    }
}

/// The real numbers that whole ones stand for; scales for each place lie along `axis`.
pub fn real(
    node: &Node<'_>,
    value: &Constant,
    scale: &Constant,
    zero: Option<&Constant>,
    axis: i64,
) -> Result<Constant> {
    let Constant::Int(held) = value else {
        return Err(node.error("expected whole numbers, found real ones"));
    };
    let steps = Steps::of(node, &held.shape, scale, zero, axis)?;
    let real = |(place, &whole): (usize, &i64)| {
        let (scale, zero) = steps.at(place);
        whole.saturating_sub(zero) as f32 * scale
    };
    Ok(Constant::float(held.shape.clone(), held.data.iter().enumerate().map(real).collect()))
}

/// The whole numbers that stand for real ones, in the element type of the zero point.
pub fn whole(
    node: &Node<'_>,
    value: &Constant,
    scale: &Constant,
    zero: Option<&Constant>,
) -> Result<Constant> {
    let Constant::Float(held) = value else {
        return Err(node.error("expected real numbers, found whole ones"));
    };
    let steps = Steps::of(node, &held.shape, scale, zero, node.int("axis", 1))?;
    let range = element_range(node, zero)?;
    let whole = |(place, &real): (usize, &f32)| {
        let (scale, zero) = steps.at(place);
        ((real / scale).round_ties_even() as i64).saturating_add(zero).clamp(range[0], range[1])
    };
    let data = held.data.iter().enumerate().map(whole).collect();
    Ok(Constant::of_range(held.shape.clone(), data, range))
}

/// The least and the largest whole number that a node writes: as its zero point's element type says.
pub fn element_range(node: &Node<'_>, zero: Option<&Constant>) -> Result<[i64; 2]> {
    let found = match zero {
        Some(Constant::Int(zero)) => Some(zero.range),
        Some(Constant::Float(_)) => None,
        None => match i32::try_from(node.int("output_dtype", 0)) {
            Ok(0) => range(UINT8),
            Ok(named) => range(named),
            Err(_) => None,
        },
    };
    found
        .filter(|&[least, most]| (-(1 << 16)..1 << 16).contains(&least) && most < 1 << 16)
        .ok_or_else(|| node.error("expected a zero point of 8 or 16 bits"))
}
