//! Which place of the input each tap of a window sees.

use coprof_core::model::Window;

/// Where a tap lies in the padding.
pub const OUTSIDE: u32 = u32::MAX;

/// Over so many, the table would no longer be small beside the tensors.
const MOST_TAPS: usize = 1 << 22;

/// For each output place, row by row, the input place under each tap.
pub struct Places {
    /// Height and width of the output.
    pub size: [usize; 2],
    /// How many places the input has.
    pub inputs: usize,
    /// How many taps the window has.
    pub taps: usize,
    table: Vec<u32>,
}

impl Places {
    /// A window over a plane of this height and width; `ceil` rounds the output's size up. `None` where it does
    /// not fit or where the table would be large.
    pub fn of(window: &Window, plane: [usize; 2], ceil: bool) -> Option<Self> {
        let size @ [height, width] = window.places(plane, ceil)?;
        let seen = |axis: usize, output: usize, tap: usize| {
            let place = output * window.stride[axis] + tap * window.dilation[axis];
            place.checked_sub(window.padding[axis]).filter(|&place| place < plane[axis])
        };
        let [kernel_height, kernel_width] = window.kernel;
        let taps = kernel_height * kernel_width;
        let length = height.checked_mul(width)?.checked_mul(taps).filter(|&length| length <= MOST_TAPS)?;
        let mut table = Vec::with_capacity(length);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for (dy, dx) in (0..kernel_height).flat_map(|dy| (0..kernel_width).map(move |dx| (dy, dx))) {
                let place = seen(0, y, dy).zip(seen(1, x, dx)).map(|(row, column)| row * plane[1] + column);
                table.push(place.map_or(OUTSIDE, |place| place as u32));
            }
        }
        Some(Self { size, inputs: plane[0] * plane[1], taps, table })
    }

    /// A window of one place.
    pub fn single(size: [usize; 2]) -> Self {
        let inputs = size[0] * size[1];
        Self { size, inputs, taps: 1, table: (0..inputs as u32).collect() }
    }

    /// A window that sees the whole plane, once.
    pub fn whole(plane: [usize; 2]) -> Self {
        let inputs = plane[0] * plane[1];
        Self { size: [1, 1], inputs, taps: inputs, table: (0..inputs as u32).collect() }
    }

    /// How many places the output has.
    pub fn count(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// What the taps see from an output place.
    #[inline(always)]
    pub fn seen_from(&self, place: usize) -> &[u32] {
        &self.table[place * self.taps..][..self.taps]
    }
}
