//! Which place of the input each tap of a window sees.

use crate::model::Window;

/// Where a tap lies in the padding.
pub const OUTSIDE: u32 = u32::MAX;

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
    /// A window over a plane of this height and width.
    pub fn of(window: &Window, input: [usize; 2]) -> Self {
        let [top, left, bottom, right] = window.padding;
        let along = |axis: usize, before: usize, behind: usize| {
            let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
            let outputs = (input[axis] + before + behind).saturating_sub(reach) / window.stride[axis] + 1;
            let seen = move |output: usize, tap: usize| {
                let place = (output * window.stride[axis] + tap * window.dilation[axis]).checked_sub(before);
                place.filter(|&place| place < input[axis])
            };
            (outputs, seen)
        };
        let (height, row) = along(0, top, bottom);
        let (width, column) = along(1, left, right);
        let [kernel_height, kernel_width] = window.kernel;
        let mut table = Vec::with_capacity(height * width * kernel_height * kernel_width);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for (dy, dx) in (0..kernel_height).flat_map(|dy| (0..kernel_width).map(move |dx| (dy, dx))) {
                let place = row(y, dy).zip(column(x, dx)).map(|(row, column)| row * input[1] + column);
                table.push(place.map_or(OUTSIDE, |place| place as u32));
            }
        }
        Self { size: [height, width], inputs: input[0] * input[1], taps: kernel_height * kernel_width, table }
    }

    /// A window of one place.
    pub fn single(size: [usize; 2]) -> Self {
        let inputs = size[0] * size[1];
        Self { size, inputs, taps: 1, table: (0..inputs as u32).collect() }
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
