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
    /// Whether it is the network's input and a picture in three colours, values 0 to 255.
    in_colour: bool,
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
        Ok(Self { channels, height, width, in_colour: false })
    }

    /// Those of a frontier.
    pub fn of_frontier(graph: &Graph, frontier: &[Source]) -> Result<Vec<Self>> {
        let of = |&tensor: &Source| match tensor {
            Source::Input => Self::of_input(graph.shape(tensor)),
            Source::Layer(_) => Self::of(graph.shape(tensor)),
        };
        frontier.iter().map(of).collect()
    }

    /// For a network's input of this shape, whose values are 0 to 255: of three planes, a picture in colour.
    pub fn of_input(shape: &Shape) -> Result<Self> {
        let spec = Self::of(shape)?;
        Ok(Self { in_colour: shape.0.len() == 3 && spec.channels == 3, ..spec })
    }

    /// A flat vector.
    pub fn flat(values: u32) -> Self {
        Self { channels: values as usize, height: 1, width: 1, in_colour: false }
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

    /// Whether its three channels are the colours of a picture.
    pub(super) fn in_colour(&self) -> bool {
        self.in_colour
    }

    /// The same with so many of its channels.
    pub(super) fn with_channels(self, channels: usize) -> Self {
        Self { channels, in_colour: self.in_colour && channels == self.channels, ..self }
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
    fn only_an_input_of_three_planes_is_in_colour() {
        let of = |sides: &[usize]| TensorSpec::of_input(&Shape(sides.to_vec())).unwrap();
        assert!(of(&[3, 8, 9]).in_colour() && of(&[3, 8, 9]).with_channels(3).in_colour());
        assert!(!of(&[3, 8, 9]).with_channels(2).in_colour());
        assert!(!of(&[1, 8, 9]).in_colour() && !of(&[3]).in_colour() && !of(&[3, 8]).in_colour());
        let graph = crate::model::samples::chain();
        let layer = Source::Layer(crate::model::LayerId(0));
        let specs = TensorSpec::of_frontier(&graph, &[Source::Input, layer]).unwrap();
        assert_eq!([specs[0].in_colour(), specs[1].in_colour()], [true, false]);
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
