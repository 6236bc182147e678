//! Windows that look at each channel alone: depthwise convolutions and pools.

use pulp::{Simd, WithSimd};

use super::places::OUTSIDE;
use super::plane::Constants;
use super::task::Task;
use super::vectors::load;
use coprof_core::model::Weights;

/// What becomes of the values that a window sees of a channel.
pub enum PerChannel {
    /// Their sum, weighted with `[tap][channel]`.
    Weighted(Constants),
    /// The largest one.
    Largest,
    /// Their mean, where nothing is seen of the padding.
    Mean,
}

impl PerChannel {
    /// A depthwise convolution with `weight` `[channels, 1, …taps]`.
    pub fn weighted(weight: &Weights) -> Option<Self> {
        let taps: usize = weight.shape.iter().skip(2).product();
        let by_tap = (0..taps).flat_map(|tap| weight.data.iter().skip(tap).step_by(taps));
        let mut weights = Constants::zeros(weight.data.len()).ok()?;
        weights.values_mut().iter_mut().zip(by_tap).for_each(|(to, &from)| *to = from);
        Some(Self::Weighted(weights))
    }
}

/// Runs a whole layer.
pub struct Run<'a> {
    pub how: &'a PerChannel,
    pub task: Task<'a>,
}

impl WithSimd for Run<'_> {
    type Output = ();

    /// Channels on the outside: what a few of them need of the input and the weights stays in the first cache.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let channels = self.task.finish.channels();
        let mut first = 0;
        while first < channels {
            let vectors = match (channels - first) / S::F32_LANES {
                4.. => self.vectors::<S, 4>(simd, first),
                2.. => self.vectors::<S, 2>(simd, first),
                _ => self.vectors::<S, 1>(simd, first),
            };
            first += vectors * S::F32_LANES;
        }
    }
}

impl Run<'_> {
    /// `N` vectors of channels side by side, as a sum waits for the last one before it goes on; a single one may end early.
    /// Returns how many they were.
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(&mut self, simd: S, first: usize) -> usize {
        let outputs = (self.task.finish.channels() - first).min(N * S::F32_LANES);
        let weights = match self.how {
            PerChannel::Weighted(weights) => weights.values(),
            PerChannel::Largest | PerChannel::Mean => &[],
        };
        for place in 0..self.task.places.count() {
            let results = match self.how {
                PerChannel::Weighted(_) => self.sum(simd, weights, place, first, outputs),
                PerChannel::Largest => self.largest(simd, place, first, outputs),
                PerChannel::Mean => self.mean(simd, place, first, outputs),
            };
            self.task.write::<S, N>(simd, place, first, outputs, results);
        }
        N
    }

    #[inline(always)]
    fn sum<S: Simd, const N: usize>(
        &self,
        simd: S,
        weights: &[f32],
        place: usize,
        first: usize,
        outputs: usize,
    ) -> [S::f32s; N] {
        let channels = self.task.finish.channels();
        let mut sums: [S::f32s; N] = self.task.finish.bias(simd, first);
        for (&under, weights) in self.task.places.seen_from(place).iter().zip(weights.chunks_exact(channels))
        {
            if under != OUTSIDE {
                let values: [_; N] = load(simd, self.task.input.row(under, first, outputs), 0);
                let weights: [_; N] = load(simd, weights, first);
                for part in 0..N {
                    sums[part] = simd.mul_add_f32s(values[part], weights[part], sums[part]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn largest<S: Simd, const N: usize>(
        &self,
        simd: S,
        place: usize,
        first: usize,
        outputs: usize,
    ) -> [S::f32s; N] {
        let mut largest = [simd.splat_f32s(f32::NEG_INFINITY); N];
        for &under in self.task.places.seen_from(place) {
            if under != OUTSIDE {
                let values: [_; N] = load(simd, self.task.input.row(under, first, outputs), 0);
                for part in 0..N {
                    largest[part] = simd.max_f32s(largest[part], values[part]);
                }
            }
        }
        largest
    }

    #[inline(always)]
    fn mean<S: Simd, const N: usize>(
        &self,
        simd: S,
        place: usize,
        first: usize,
        outputs: usize,
    ) -> [S::f32s; N] {
        let seen = self.task.places.seen_from(place);
        let mut sums = [simd.splat_f32s(0.0); N];
        for &under in seen {
            let values: [_; N] = load(simd, self.task.input.row(under, first, outputs), 0);
            for part in 0..N {
                sums[part] = simd.add_f32s(sums[part], values[part]);
            }
        }
        let share = simd.splat_f32s(1.0 / seen.len() as f32);
        for sum in &mut sums {
            *sum = simd.mul_f32s(*sum, share);
        }
        sums
    }
}
