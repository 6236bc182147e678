//! Convolutions whose outputs see several input channels: a product of matrices, block by block.
//!
//! As in oneDNN's and XNNPACK's kernels, a tile of the output stays in registers while one input value at a time is
//! multiplied with a vector of output channels; which input rows a tile reads is looked up (Dukhan, "The Indirect Convolution
//! Algorithm", 2019).

use pulp::{Simd, WithSimd};

use super::places::OUTSIDE;
use super::plane::Constants;
use super::task::Task;
use coprof_core::model::Weights;

/// Places of a tile: with two vectors each, all but three of 16 vector registers hold outputs.
const TILE: usize = 6;
/// Weights of up to so many bytes stay in the second cache while a few places after another go through all of them.
const NEAR_BYTES: usize = 1 << 18;
/// So many places, then.
const FEW_PLACES: usize = 8 * TILE;

/// Packed weights.
pub struct Dense {
    /// Input channels of all groups.
    pub inputs: usize,
    /// Input channels that an output sees.
    depth: usize,
    blocks: Vec<Block>,
    /// Block after block `[tap][input channel][output channel]`.
    weights: Constants,
    /// What is read in the padding.
    zeros: Vec<f32>,
}

/// Up to two vectors of output channels.
struct Block {
    first_output: usize,
    outputs: usize,
    vectors: usize,
    first_input: usize,
    /// Where its weights start, in values.
    start: usize,
}

impl Dense {
    /// `weight` is `[out, in / groups, …taps]`.
    pub fn pack(weight: &Weights, groups: usize, lanes: usize) -> Option<Self> {
        let (&outputs, &depth) = (weight.shape.first()?, weight.shape.get(1)?);
        let taps: usize = weight.shape.iter().skip(2).product();
        let per_group = outputs.checked_div(groups)?;
        let rows = taps * depth;
        let mut blocks = Vec::new();
        let mut length = 0;
        for group in 0..groups {
            let mut done = 0;
            while done < per_group {
                let vectors = (per_group - done).div_ceil(lanes).min(2);
                let outputs = (per_group - done).min(vectors * lanes);
                let first_output = group * per_group + done;
                blocks.push(Block {
                    first_output,
                    outputs,
                    vectors,
                    first_input: group * depth,
                    start: length,
                });
                length += rows * vectors * lanes;
                done += outputs;
            }
        }
        let mut weights = Constants::zeros(length).ok()?;
        let packed = weights.values_mut();
        for block in &blocks {
            let width = block.vectors * lanes;
            let filters = weight.data.get(block.first_output * rows..)?.chunks_exact(rows.max(1));
            // In the order of the larger side, which is read but once.
            for (output, filter) in filters.take(block.outputs).enumerate() {
                for (at, &value) in filter.iter().enumerate() {
                    let (input, tap) = (at / taps, at % taps);
                    packed[block.start + (tap * depth + input) * width + output] = value;
                }
            }
        }
        Some(Self { inputs: groups * depth, depth, blocks, weights, zeros: vec![0.0; depth] })
    }
}

/// Multiplies a whole layer.
pub struct Run<'a> {
    pub dense: &'a Dense,
    pub task: Task<'a>,
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (dense, places) = (self.dense, self.task.places.count());
        let weights = dense.weights.values();
        let together = if size_of_val(weights) <= NEAR_BYTES { FEW_PLACES } else { places.max(1) };
        for from in (0..places).step_by(together) {
            let to = places.min(from + together);
            for block in &dense.blocks {
                let length = self.task.places.taps * dense.depth * block.vectors * S::F32_LANES;
                let weights = S::as_simd_f32s(&weights[block.start..][..length]).0;
                match block.vectors {
                    1 => self.block::<S, 1>(simd, block, weights.as_chunks().0, from, to),
                    _ => self.block::<S, 2>(simd, block, weights.as_chunks().0, from, to),
                }
            }
        }
    }
}

impl Run<'_> {
    /// A block of output channels at the places `from..to`, in tiles of about one size.
    #[inline(always)]
    fn block<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        block: &Block,
        weights: &[[S::f32s; N]],
        from: usize,
        to: usize,
    ) {
        let tiles = (to - from).div_ceil(TILE);
        let edge = |tile: usize| from + tile * (to - from) / tiles;
        for tile in 0..tiles {
            let (first, next) = (edge(tile), edge(tile + 1));
            match next - first {
                1 => self.tile::<S, 1, N>(simd, block, weights, first),
                2 => self.tile::<S, 2, N>(simd, block, weights, first),
                3 => self.tile::<S, 3, N>(simd, block, weights, first),
                4 => self.tile::<S, 4, N>(simd, block, weights, first),
                5 => self.tile::<S, 5, N>(simd, block, weights, first),
                _ => self.tile::<S, TILE, N>(simd, block, weights, first),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        block: &Block,
        weights: &[[S::f32s; N]],
        first: usize,
    ) {
        let Self { dense, task } = self;
        let depth = dense.depth;
        let mut seen = [&[][..]; M];
        for (place, seen) in seen.iter_mut().enumerate() {
            *seen = task.places.seen_from(first + place);
        }
        let bias: [S::f32s; N] = task.finish.bias(simd, block.first_output);
        let mut sums = [bias; M];
        for (tap, weights) in weights.chunks_exact(depth).enumerate() {
            let mut rows = [&dense.zeros[..depth]; M];
            for place in 0..M {
                if seen[place][tap] != OUTSIDE {
                    rows[place] = task.input.row(seen[place][tap], block.first_input, depth);
                }
            }
            for (channel, weights) in weights.iter().enumerate() {
                for place in 0..M {
                    let value = simd.splat_f32s(rows[place][channel]);
                    for part in 0..N {
                        sums[place][part] = simd.mul_add_f32s(value, weights[part], sums[place][part]);
                    }
                }
            }
        }
        for (place, sums) in sums.into_iter().enumerate() {
            task.write(simd, first + place, block.first_output, block.outputs, sums);
        }
    }
}
