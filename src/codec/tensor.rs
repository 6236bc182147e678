//! The shape of a tensor as an encoding sees it.

use crate::error::{Error, Result};
use crate::model::{Graph, Shape, Source};

/// The most values that a tensor may have: as many as a `u32` counts.
const MAX_VALUES: usize = u32::MAX as usize;

/// A tensor as channels of `height` by `width` values, row-major.
///
/// The first side of a shape are its channels, the last one is the width, and those between make up the height: a
/// matrix is channels of one row, and a flat vector is channels of one value each. Such a vector is pruned value by
/// value, and as a picture it has a pixel for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    channels: usize,
    height: usize,
    width: usize,
}

impl TensorSpec {
    /// For tensors of this shape. A shape without sides is one value. Fails for more than 2^32 - 1 values.
    pub fn of(shape: &Shape) -> Result<Self> {
        let (channels, height, width) = match shape.0[..] {
            [] => (1, 1, 1),
            [channels] => (channels, 1, 1),
            [channels, ref middle @ .., width] => {
                let height = middle.iter().try_fold(1_usize, |height, &side| height.checked_mul(side));
                (channels, height.unwrap_or(usize::MAX), width)
            }
        };
        let values = channels.checked_mul(height).and_then(|values| values.checked_mul(width));
        if values.is_none_or(|values| values > MAX_VALUES) || height > MAX_VALUES {
            return Err(Error::failed(format!(
                "expected a tensor of at most {MAX_VALUES} values, found {shape}; use a smaller model"
            )));
        }
        Ok(Self { channels, height, width })
    }

    /// Those of a frontier.
    pub fn of_frontier(graph: &Graph, frontier: &[Source]) -> Result<Vec<Self>> {
        frontier.iter().map(|&tensor| Self::of(graph.shape(tensor))).collect()
    }

    /// A flat vector.
    pub fn flat(values: u32) -> Self {
        Self { channels: values as usize, height: 1, width: 1 }
    }

    /// How many channels it has.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How many values each channel has.
    pub fn channel_values(&self) -> usize {
        self.height * self.width
    }

    /// How many values it has.
    pub fn values(&self) -> usize {
        self.channels * self.channel_values()
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The same with another number of channels.
    pub(super) fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_has_channels() {
        let of = |sides: &[usize]| {
            let spec = TensorSpec::of(&Shape(sides.to_vec())).unwrap();
            assert_eq!(spec.values(), sides.iter().product::<usize>());
            (spec.channels, spec.height, spec.width)
        };
        assert_eq!(of(&[]), (1, 1, 1));
        assert_eq!(of(&[10]), (10, 1, 1));
        assert_eq!(of(&[4, 7]), (4, 1, 7));
        assert_eq!(of(&[64, 8, 9]), (64, 8, 9));
        assert_eq!(of(&[2, 3, 4, 5]), (2, 12, 5));
        assert_eq!(of(&[0, 3, 4]), (0, 3, 4));
        assert_eq!(TensorSpec::flat(10), TensorSpec::of(&Shape(vec![10])).unwrap());
    }

    #[test]
    fn huge_shapes_are_refused() {
        for sides in
            [vec![usize::MAX, 2], vec![1 << 32], vec![0, usize::MAX, 2, 1], vec![0, 1 << 40, 1 << 40, 1]]
        {
            assert!(TensorSpec::of(&Shape(sides.clone())).is_err(), "{sides:?}");
        }
    }
}
