//! One run of a kernel: what it reads, and how its sums become outputs.

use pulp::Simd;

use super::finish::Finish;
use super::places::Places;
use super::plane::Rows;
use super::vectors::{load, store};

/// What one run reads and writes.
pub(super) struct Task<'a> {
    pub input: Rows<'a>,
    pub summand: Option<Rows<'a>>,
    pub places: &'a Places,
    pub finish: &'a Finish,
    /// Place by place, without gaps.
    pub output: &'a mut [f32],
}

impl Task<'_> {
    /// Finishes and writes vectors of output channels of a place; `outputs` of their values are there.
    #[inline(always)]
    pub fn write<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        place: usize,
        first: usize,
        outputs: usize,
        mut sums: [S::f32s; N],
    ) {
        let channels = self.finish.channels();
        if let Some(summand) = self.summand {
            let summands: [_; N] = load(simd, summand.row(place as u32, first, outputs), 0);
            for (sum, summand) in std::iter::zip(&mut sums, summands) {
                *sum = simd.add_f32s(*sum, summand);
            }
        }
        for sum in &mut sums {
            *sum = self.finish.apply(simd, *sum);
        }
        store(simd, &mut self.output[place * channels + first..][..outputs], 0, sums);
    }
}
