//! One layer prepared for libtorch: weights on the device, in the layout that the backend runs in.

use tch::{Device, Kind, TchError, Tensor};

use crate::model::{Layer, Op, Shape, Weights, Window};

/// How activations lie in memory between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Row-major, as PyTorch's eager mode has it.
    Plain,
    /// oneDNN's own blocked layout, kept from convolution to convolution; CPU only.
    Blocked,
}

pub(super) struct Kernel {
    op: Prepared,
    relu: bool,
    /// The output's shape with the batch dimension.
    output: Vec<i64>,
}

enum Prepared {
    Conv {
        weight: Tensor,
        bias: Option<Tensor>,
        window: Sides,
        pad: Option<[i64; 4]>,
        groups: i64,
        layout: Layout,
    },
    Linear {
        weight: Tensor,
        bias: Option<Tensor>,
    },
    Affine {
        scale: Tensor,
        shift: Tensor,
    },
    MaxPool {
        window: Sides,
        pad: Option<[i64; 4]>,
        ceil: bool,
    },
    AveragePool {
        window: Sides,
        ceil: bool,
        count_padding: bool,
    },
    GlobalAveragePool,
    Relu,
    Add,
    Concat,
    Reshape,
}

/// A window in libtorch's integers. Its padding is symmetric; `pad` beside it holds what is not.
struct Sides {
    kernel: [i64; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
}

impl Sides {
    /// The window, and explicit padding `[left, right, top, bottom]` where the two sides differ.
    fn of(window: &Window) -> (Self, Option<[i64; 4]>) {
        let long = |pair: [usize; 2]| pair.map(|side| side as i64);
        let [top, left, bottom, right] = window.padding.map(|side| side as i64);
        let symmetric = top == bottom && left == right;
        let padding = if symmetric { [top, left] } else { [0, 0] };
        let pad = (!symmetric).then_some([left, right, top, bottom]);
        let sides = Self {
            kernel: long(window.kernel),
            stride: long(window.stride),
            padding,
            dilation: long(window.dilation),
        };
        (sides, pad)
    }
}

fn with_batch(shape: &Shape) -> Vec<i64> {
    std::iter::once(1).chain(shape.0.iter().map(|&side| side as i64)).collect()
}

fn constant(weights: &Weights, device: Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = weights.shape.iter().map(|&side| side as i64).collect();
    Tensor::f_from_slice(&weights.data)?.f_view(shape.as_slice())?.f_to(device)
}

/// One value per channel, shaped to spread over `[1, channels, …]`; a single value spreads over everything.
fn per_channel(weights: &Weights, rank: usize, device: Device) -> Result<Tensor, TchError> {
    let mut shape = vec![1i64; rank + 1];
    if weights.data.len() > 1 {
        shape[1] = weights.data.len() as i64;
    }
    Tensor::f_from_slice(&weights.data)?.f_view(shape.as_slice())?.f_to(device)
}

impl Kernel {
    /// `input` is the shape of the layer's first input.
    pub fn prepare(layer: &Layer, input: &Shape, device: Device, layout: Layout) -> Result<Self, TchError> {
        let optional =
            |bias: &Option<std::sync::Arc<Weights>>| bias.as_ref().map(|b| constant(b, device)).transpose();
        let mut fused = false;
        let op = match &layer.op {
            Op::Conv { weight, bias, window, groups, relu } => {
                fused = *relu;
                let (window, pad) = Sides::of(window);
                let weight =
                    conv_weight(constant(weight, device)?, input, &window, pad, *groups as i64, layout)?;
                Prepared::Conv { weight, bias: optional(bias)?, window, pad, groups: *groups as i64, layout }
            }
            Op::Linear { weight, bias, relu } => {
                fused = *relu;
                Prepared::Linear { weight: constant(weight, device)?, bias: optional(bias)? }
            }
            Op::Affine { scale, shift, relu } => {
                fused = *relu;
                let rank = input.0.len();
                Prepared::Affine {
                    scale: per_channel(scale, rank, device)?,
                    shift: per_channel(shift, rank, device)?,
                }
            }
            Op::MaxPool { window, ceil } => {
                let (window, pad) = Sides::of(window);
                Prepared::MaxPool { window, pad, ceil: *ceil }
            }
            Op::AveragePool { window, ceil, count_padding } => {
                let (window, pad) = Sides::of(window);
                if pad.is_some() {
                    return Err(TchError::Kind(
                        "average pooling with unequal padding is not supported".into(),
                    ));
                }
                Prepared::AveragePool { window, ceil: *ceil, count_padding: *count_padding }
            }
            Op::GlobalAveragePool => Prepared::GlobalAveragePool,
            Op::Relu => Prepared::Relu,
            Op::Add { relu } => {
                fused = *relu;
                Prepared::Add
            }
            Op::Concat => Prepared::Concat,
            Op::Reshape => Prepared::Reshape,
        };
        Ok(Self { op, relu: fused, output: with_batch(&layer.output) })
    }

    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let first = *inputs.first().ok_or_else(|| TchError::Shape("a layer without inputs".into()))?;
        let mut output = self.compute(first, inputs)?;
        if self.relu {
            // In place: the tensor was made just now and nobody else holds it.
            let _ = output.f_relu_()?;
        }
        Ok(output)
    }

    fn compute(&self, first: &Tensor, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        match &self.op {
            Prepared::Conv { weight, bias, window, pad, groups, layout } => {
                let padded = padded(first, *pad, 0.0)?;
                let mut input = padded.as_ref().unwrap_or(first).shallow_clone();
                if *layout == Layout::Blocked && !input.is_mkldnn() {
                    input = input.f_to_mkldnn(None)?;
                }
                let Sides { stride, padding, dilation, .. } = window;
                input.f_conv2d(weight, bias.as_ref(), stride, padding, dilation, *groups)
            }
            Prepared::Linear { weight, bias } => {
                dense(first)?.f_reshape([1, -1])?.f_linear(weight, bias.as_ref())
            }
            Prepared::Affine { scale, shift } => shift.f_addcmul(&dense(first)?, scale),
            Prepared::MaxPool { window, pad, ceil } => {
                let padded = padded(first, *pad, f64::NEG_INFINITY)?;
                let Sides { kernel, stride, padding, dilation } = window;
                padded.as_ref().unwrap_or(first).f_max_pool2d(kernel, stride, padding, dilation, *ceil)
            }
            Prepared::AveragePool { window, ceil, count_padding } => {
                let Sides { kernel, stride, padding, .. } = window;
                dense(first)?.f_avg_pool2d(kernel, stride, padding, *ceil, *count_padding, None)
            }
            Prepared::GlobalAveragePool => {
                dense(first)?.f_mean_dim([2i64, 3].as_slice(), true, None)?.f_reshape(self.output.as_slice())
            }
            Prepared::Relu => first.f_relu(),
            Prepared::Add => {
                let mut sum = dense(first)?.f_add(&dense(inputs.get(1).copied().unwrap_or(first))?)?;
                for more in &inputs[2.min(inputs.len())..] {
                    let _ = sum.f_add_(&dense(more)?)?;
                }
                Ok(sum)
            }
            Prepared::Concat => {
                let parts = inputs.iter().map(|input| dense(input)).collect::<Result<Vec<_>, _>>()?;
                Tensor::f_cat(&parts, 1)
            }
            Prepared::Reshape => dense(first)?.f_reshape(self.output.as_slice()),
        }
    }
}

/// The weight in the layout of its convolution: oneDNN's blocked form is made once here, not at every call.
fn conv_weight(
    weight: Tensor,
    input: &Shape,
    window: &Sides,
    pad: Option<[i64; 4]>,
    groups: i64,
    layout: Layout,
) -> Result<Tensor, TchError> {
    if layout == Layout::Plain {
        return Ok(weight);
    }
    let mut size = with_batch(input);
    if let (Some([left, right, top, bottom]), [_, _, height, width]) = (pad, size.as_mut_slice()) {
        *height += top + bottom;
        *width += left + right;
    }
    let Sides { stride, padding, dilation, .. } = window;
    weight.f_to_mkldnn(None)?.f_mkldnn_reorder_conv2d_weight(
        padding,
        stride,
        dilation,
        groups,
        size.as_slice(),
    )
}

fn padded(input: &Tensor, pad: Option<[i64; 4]>, value: f64) -> Result<Option<Tensor>, TchError> {
    pad.map(|pad| dense(input)?.f_pad(pad, "constant", value)).transpose()
}

/// The tensor in row-major layout.
pub(super) fn dense(tensor: &Tensor) -> Result<Tensor, TchError> {
    if tensor.is_mkldnn() { tensor.f_to_dense(Kind::Float, false) } else { Ok(tensor.shallow_clone()) }
}
