//! Convolutions whose outputs see one input channel each.

use pulp::{Simd, WithSimd};

use super::Task;
use super::finish::load;
use super::places::OUTSIDE;
use super::plane::Constants;
use crate::model::Weights;

/// Vectors of channels that are summed side by side: a sum waits for the last one before it goes on.
const ABREAST: usize = 4;

/// Packed weights, `[tap][channel]`.
pub struct Depthwise {
    weights: Constants,
}

impl Depthwise {
    /// `weight` is `[channels, 1, …taps]`. `None` for fewer channels than a vector holds.
    pub fn pack(weight: &Weights, lanes: usize) -> Option<Self> {
        let &channels = weight.shape.first()?;
        let taps: usize = weight.shape.iter().skip(2).product();
        let by_tap = (0..taps).flat_map(|tap| weight.data.iter().skip(tap).step_by(taps));
        let weights = Constants::of(&by_tap.copied().collect::<Vec<_>>()).ok()?;
        (channels >= lanes).then_some(Self { weights })
    }
}

/// Multiplies a whole layer.
pub struct Run<'a> {
    pub depthwise: &'a Depthwise,
    pub task: Task<'a>,
}

/// What a tap adds at a place: inputs and weights of all channels.
type Seen<'a> = (&'a [f32], &'a [f32]);

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let input = self.task.input;
        let channels = self.task.finish.channels();
        let weights = self.depthwise.weights.values();
        let mut seen: Vec<Seen<'_>> = Vec::with_capacity(self.task.places.taps);
        for place in 0..self.task.places.count() {
            seen.clear();
            for (&tap, weights) in
                self.task.places.seen_from(place).iter().zip(weights.chunks_exact(channels))
            {
                if tap != OUTSIDE {
                    seen.push((input.row(tap, 0, channels), weights));
                }
            }
            let mut first = 0;
            while first < channels {
                if channels - first >= ABREAST * S::F32_LANES {
                    self.sum::<S, ABREAST>(simd, &seen, place, first);
                    first += ABREAST * S::F32_LANES;
                } else {
                    // The last vector overlaps the one before it.
                    first = first.min(channels - S::F32_LANES);
                    self.sum::<S, 1>(simd, &seen, place, first);
                    first += S::F32_LANES;
                }
            }
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn sum<S: Simd, const N: usize>(&mut self, simd: S, seen: &[Seen<'_>], place: usize, first: usize) {
        let width = N * S::F32_LANES;
        let mut sums = [simd.splat_f32s(0.0); N];
        for (part, sum) in sums.iter_mut().enumerate() {
            *sum = self.task.finish.bias(simd, first + part * S::F32_LANES);
        }
        for (values, weights) in seen {
            let (values, weights) = (&values[first..][..width], &weights[first..][..width]);
            for (part, sum) in sums.iter_mut().enumerate() {
                let start = part * S::F32_LANES;
                *sum = simd.mul_add_f32s(load(simd, values, start), load(simd, weights, start), *sum);
            }
        }
        self.task.write(simd, place, first, width, sums);
    }
}
