//! Convolutions and poolings: windows that slide over a plane.

use tch::{Device, Kind, TchError, Tensor};

use coprof_core::model::{Shape, Window};

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
