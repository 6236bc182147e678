//! Convolutions and poolings: windows that slide over a plane.

use tch::{Device, Kind, TchError, Tensor};

use super::{Layout, dense, with_batch};
use crate::model::{Shape, Window};

/// A window in libtorch's integers.
pub struct Sides {
    kernel: [i64; 2],
    stride: [i64; 2],
    /// `[vertical, horizontal]`, on both sides; 0 where `pad` is there.
    padding: [i64; 2],
    dilation: [i64; 2],
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

    fn padded(&self, input: &Tensor, value: f64) -> Result<Tensor, TchError> {
        match self.pad {
            Some(pad) => dense(input)?.f_pad(pad, "constant", value),
            None => Ok(input.shallow_clone()),
        }
    }
}

pub struct Conv {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub window: Sides,
    pub groups: i64,
    pub layout: Layout,
}

impl Conv {
    /// `weight` comes row-major, and is put into the layout of its convolution: oneDNN's blocked form is made once here, not
    /// at every call.
    pub fn prepare(self, input: &Shape) -> Result<Self, TchError> {
        if self.layout == Layout::Plain {
            return Ok(self);
        }
        let mut size = with_batch(input);
        let Sides { stride, padding, dilation, pad, .. } = &self.window;
        if let (Some([left, right, top, bottom]), [_, _, height, width]) = (pad, size.as_mut_slice()) {
            *height += top + bottom;
            *width += left + right;
        }
        let weight = self.weight.f_to_mkldnn(None)?.f_mkldnn_reorder_conv2d_weight(
            padding,
            stride,
            dilation,
            self.groups,
            size.as_slice(),
        )?;
        Ok(Self { weight, ..self })
    }

    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let mut input = self.window.padded(input, 0.0)?;
        if self.layout == Layout::Blocked && !input.is_mkldnn() {
            input = input.f_to_mkldnn(None)?;
        }
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
        // oneDNN's own layout has no poolings with gaps between the taps.
        let input = if *dilation == [1, 1] { input.shallow_clone() } else { dense(input)? };
        let padded = self.window.padded(&input, f64::NEG_INFINITY)?;
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
        let padded = self.window.padded(&dense(input)?, 0.0)?;
        let means = padded.f_avg_pool2d(kernel, stride, padding, self.ceil, self.count_padding, None)?;
        match &self.shares {
            Some(shares) => means.f_div(shares),
            None => Ok(means),
        }
    }
}
