//! What names in the file stand for: constants, and tensors that are computed for every sample.

use super::constant::Constant;
use crate::model::Source;

/// What a name in the file stands for.
#[derive(Clone, Debug)]
pub enum Value {
    /// Known while reading.
    Constant(Constant),
    /// Computed for every sample.
    Tensor(View),
}

impl Value {
    /// Its shape in the file, the batch of one included.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Constant(constant) => constant.shape(),
            Self::Tensor(view) => &view.shape,
        }
    }

    /// The same values, as many, under another shape.
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        match self {
            Self::Constant(constant) => Self::Constant(constant.reshaped(shape)),
            Self::Tensor(view) => Self::Tensor(View { shape, ..view }),
        }
    }
}

/// A computed tensor under the shape that the file gives it. Values lie row-major, so that one tensor can be seen under many
/// shapes at no cost: a Reshape makes a new view, not a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where the values come from.
    pub source: Source,
    /// Their shape in the file, the batch of one included.
    pub shape: Vec<usize>,
}

/// Which whole numbers of the file stand for which real ones: `real = scale * (whole - zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantisation {
    /// Finite and above 0.
    pub scale: f32,
    /// The number that stands for 0.
    pub zero: i64,
    /// The least and the largest whole number.
    pub range: [i64; 2],
}

impl Quantisation {
    /// Bytes that stand for themselves.
    pub const BYTES: Self = Self { scale: 1.0, zero: 0, range: [0, 255] };

    /// Whether every whole number stands for the same real one.
    pub fn stands_alike(&self, other: &Self) -> bool {
        (self.scale, self.zero) == (other.scale, other.zero)
    }
}

/// A file's shape as the graph has it: a first axis of length 1 counts as the batch and is left out. Transformers move the
/// batch elsewhere for a while; then the first axis is another one and stays.
pub fn per_sample(shape: &[usize]) -> &[usize] {
    match shape {
        [1, rest @ ..] => rest,
        whole => whole,
    }
}

/// The shape that two shapes are broadcast to, if they fit.
pub fn broadcast(one: &[usize], other: &[usize]) -> Option<Vec<usize>> {
    let rank = one.len().max(other.len());
    let side = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape.get(axis).copied().unwrap_or(1))
    };
    (0..rank)
        .map(|axis| match (side(one, axis), side(other, axis)) {
            (a, b) if a == b => Some(a),
            (1, side) | (side, 1) => Some(side),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_broadcast_from_their_ends() {
        assert_eq!(broadcast(&[1, 3, 8, 8], &[3, 1, 1]), Some(vec![1, 3, 8, 8]));
        assert_eq!(broadcast(&[], &[2, 2]), Some(vec![2, 2]));
        assert_eq!(broadcast(&[4, 1], &[5]), Some(vec![4, 5]));
        assert_eq!(broadcast(&[4, 2], &[4]), None);
    }

    #[test]
    fn the_batch_is_a_first_axis_of_length_one() {
        assert_eq!(per_sample(&[1, 3, 8, 8]), [3, 8, 8]);
        assert_eq!(per_sample(&[197, 1, 768]), [197, 1, 768]);
        assert!(per_sample(&[]).is_empty());
    }
}
