//! Convolutions and poolings: windows that slide over a plane.

use tch::{Device, Kind, TchError, Tensor};

use crate::model::{Shape, Window};

/// A window in libtorch's integers.
pub struct Sides {
    kernel: [i64; 2],
    pub stride: [i64; 2],
    /// `[vertical, horizontal]`, on both sides; 0 where `pad` is there.
    pub padding: [i64; 2],
    pub dilation: [i64; 2],
    /// Padding whose two sides differ, put on beforehand: `[left, right, top, bottom]`.
    pad: Option<[i64; 4]>,
}

impl Sides {
    pub fn of(window: &Window) -> Self {
        let long = |pair: [usize; 2]| pair.map(|side| side as i64);
        let [top, left, bottom, right] = window.padding.map(|side| side as i64);
        let symmetric = top == bottom && left == right;
        Self {
            kernel: long(window.kernel),
            stride: long(window.stride),
            padding: if symmetric { [top, left] } else { [0, 0] },
            dilation: long(window.dilation),
            pad: (!symmetric).then_some([left, right, top, bottom]),
        }
    }

    /// A window of one place.
    pub fn single() -> Self {
        Self { kernel: [1, 1], stride: [1, 1], padding: [0, 0], dilation: [1, 1], pad: None }
    }

    /// Whether each output value sees the one input value at its own place.
    pub fn is_single(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0] && self.pad.is_none()
    }

    /// The size of an input, batch included, with the padding that is put on beforehand.
    pub fn padded_size(&self, input: &[i64]) -> Vec<i64> {
        let mut size = input.to_vec();
        if let (Some([left, right, top, bottom]), [_, _, height, width]) = (self.pad, size.as_mut_slice()) {
            *height += top + bottom;
            *width += left + right;
        }
        size
    }

    /// The input with the padding that is put on beforehand.
    pub fn padded(&self, input: &Tensor, value: f64) -> Result<Tensor, TchError> {
        match self.pad {
            Some(pad) => input.f_pad(pad, "constant", value),
            None => Ok(input.shallow_clone()),
        }
    }
}

/// A convolution as libtorch runs it on its own.
pub struct Conv {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub window: Sides,
    pub groups: i64,
}

impl Conv {
    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let input = self.window.padded(input, 0.0)?;
        let Sides { stride, padding, dilation, .. } = &self.window;
        input.f_conv2d(&self.weight, self.bias.as_ref(), stride, padding, dilation, self.groups)
    }
}

pub struct MaxPool {
    pub window: Sides,
    pub ceil: bool,
}

impl MaxPool {
    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let Sides { kernel, stride, padding, dilation, .. } = &self.window;
        let padded = self.window.padded(input, f64::NEG_INFINITY)?;
        padded.f_max_pool2d(kernel, stride, padding, dilation, self.ceil)
    }
}

/// The largest value under a window that moves place by place and leaves the plane its size: along one side of the plane and
/// then along the other, each time whole rows of values at once.
pub struct SeparateMaxPool {
    /// How far the window reaches to both sides, `[vertical, horizontal]`.
    reach: [i64; 2],
}

impl SeparateMaxPool {
    pub fn of(window: &Window) -> Option<Self> {
        let Sides { kernel, stride, padding, dilation, pad } = Sides::of(window);
        let keeps_size = pad.is_none() && kernel == padding.map(|side| 2 * side + 1);
        (keeps_size && stride == [1, 1] && dilation == [1, 1]).then_some(Self { reach: padding })
    }

    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        largest_near(&largest_near(input, 2, self.reach[0])?, 3, self.reach[1])
    }
}

/// The largest of the values up to `reach` places away along an axis.
fn largest_near(input: &Tensor, axis: i64, reach: i64) -> Result<Tensor, TchError> {
    let side = input.size().get(axis as usize).copied().unwrap_or(0);
    let mut output = input.f_empty_like()?;
    output.f_copy_(input)?;
    for step in 1..=reach.min(side - 1) {
        let part = |tensor: &Tensor, start| tensor.f_narrow(axis, start, side - step);
        let (before, behind) = (part(&output, 0)?, part(&output, step)?);
        let _ = before.f_maximum_out(&before, &part(input, step)?)?;
        let _ = behind.f_maximum_out(&behind, &part(input, 0)?)?;
    }
    Ok(output)
}

pub struct AveragePool {
    window: Sides,
    ceil: bool,
    count_padding: bool,
    /// With unequal padding that does not count: which share of each window lies on the plane.
    shares: Option<Tensor>,
}

impl AveragePool {
    pub fn prepare(
        window: Sides,
        ceil: bool,
        count_padding: bool,
        input: &Shape,
        device: Device,
    ) -> Result<Self, TchError> {
        let mut pool = Self { window, ceil, count_padding, shares: None };
        if let (Some(_), false, &[_, height, width]) = (pool.window.pad, count_padding, input.0.as_slice()) {
            let plane = Tensor::f_ones([1, 1, height as i64, width as i64], (Kind::Float, device))?;
            pool.shares = Some(pool.run(&plane)?);
        }
        Ok(pool)
    }

    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let Sides { kernel, stride, padding, .. } = &self.window;
        let padded = self.window.padded(input, 0.0)?;
        let means = padded.f_avg_pool2d(kernel, stride, padding, self.ceil, self.count_padding, None)?;
        match &self.shares {
            Some(shares) => means.f_div(shares),
            None => Ok(means),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_pools_answer_as_libtorchs_own() {
        let window = |kernel, padding| Window { kernel, stride: [1, 1], padding, dilation: [1, 1] };
        let windows = [window([3, 3], [1; 4]), window([5, 3], [2, 1, 2, 1]), window([1, 7], [0, 3, 0, 3])];
        for window in windows {
            let pool = MaxPool { window: Sides::of(&window), ceil: false };
            let separate = SeparateMaxPool::of(&window).unwrap();
            for size in [[1, 5, 6, 4], [1, 3, 1, 2]] {
                let input = Tensor::randn(size, (Kind::Float, Device::Cpu));
                let before = input.copy();
                assert_eq!(separate.run(&input).unwrap(), pool.run(&input).unwrap(), "{window:?}");
                assert_eq!(input, before, "the input is left as it was");
            }
        }
        assert!(SeparateMaxPool::of(&window([3, 3], [0; 4])).is_none());
        assert!(SeparateMaxPool::of(&window([2, 2], [0, 0, 1, 1])).is_none());
        assert!(SeparateMaxPool::of(&Window { stride: [2, 2], ..window([3, 3], [1; 4]) }).is_none());
    }
}
