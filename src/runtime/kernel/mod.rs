//! One layer prepared for libtorch: weights on the device, in the layout that the backend runs in.

mod activation;
mod window;

use std::sync::Arc;

use tch::{Device, Kind, TchError, Tensor};

use crate::model::{Activation, Arithmetic, Layer, Op, Reduction, Shape, Weights};
use activation::{applied, applied_in_place};
use window::{AveragePool, Conv, MaxPool, Sides};

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
    activation: Option<Activation>,
    /// The output's shape with the batch dimension.
    output: Vec<i64>,
}

/// Axes count the batch, which is the first one.
enum Prepared {
    Conv(Conv),
    Linear { weight: Tensor, bias: Option<Tensor>, inputs: i64 },
    Affine { scale: Option<Tensor>, shift: Option<Tensor> },
    MaxPool(MaxPool),
    AveragePool(AveragePool),
    GlobalAveragePool,
    Activation(Activation),
    Combine(Arithmetic),
    MatMul,
    Softmax { axis: i64, log: bool },
    LayerNorm { shape: Vec<i64>, weight: Option<Tensor>, bias: Option<Tensor>, epsilon: f64 },
    Reduce { how: Reduction, axes: Vec<i64> },
    Concat { axis: i64, constants: Vec<(usize, Tensor)> },
    Slice { axis: i64, start: i64, end: i64, step: i64 },
    Transpose { order: Vec<i64> },
    Pad { sides: Vec<i64>, value: f64 },
    Reshape,
}

fn with_batch(shape: &Shape) -> Vec<i64> {
    std::iter::once(1).chain(shape.0.iter().map(|&side| side as i64)).collect()
}

fn constant(weights: &Weights, device: Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = weights.shape.iter().map(|&side| side as i64).collect();
    Tensor::f_from_slice(&weights.data)?.f_view(shape.as_slice())?.f_to(device)
}

fn optional(weights: &Option<Arc<Weights>>, device: Device) -> Result<Option<Tensor>, TchError> {
    weights.as_ref().map(|weights| constant(weights, device)).transpose()
}

/// The constant, unless it is a single value that changes nothing.
fn unless(neutral: f32, weights: &Weights, device: Device) -> Result<Option<Tensor>, TchError> {
    if weights.data == [neutral] { Ok(None) } else { constant(weights, device).map(Some) }
}

/// The place of an axis behind the batch.
fn axis(place: usize) -> i64 {
    place as i64 + 1
}

impl Kernel {
    /// `input` is the shape of the layer's first input.
    pub fn prepare(layer: &Layer, input: &Shape, device: Device, layout: Layout) -> Result<Self, TchError> {
        let op = prepared(&layer.op, input, device, layout)?;
        Ok(Self { op, activation: layer.op.activation(), output: with_batch(&layer.output) })
    }

    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let first = *inputs.first().ok_or_else(|| TchError::Shape("a layer without inputs".into()))?;
        let mut output = self.op.run(first, inputs)?;
        if let Some(function) = self.activation {
            output = applied_in_place(function, output)?;
        }
        if output.size() == self.output { Ok(output) } else { dense(&output)?.f_reshape(&self.output) }
    }
}

fn prepared(op: &Op, input: &Shape, device: Device, layout: Layout) -> Result<Prepared, TchError> {
    Ok(match op {
        Op::Conv { weight, bias, window, groups, .. } => {
            let (weight, bias) = (constant(weight, device)?, optional(bias, device)?);
            let window = Sides::of(window);
            let conv = Conv { weight, bias, window, groups: *groups as i64, layout };
            Prepared::Conv(conv.prepare(input)?)
        }
        Op::Linear { weight, bias, .. } => Prepared::Linear {
            inputs: weight.shape.last().copied().unwrap_or(1) as i64,
            weight: constant(weight, device)?,
            bias: optional(bias, device)?,
        },
        Op::Affine { scale, shift, .. } => {
            Prepared::Affine { scale: unless(1.0, scale, device)?, shift: unless(0.0, shift, device)? }
        }
        Op::MaxPool { window, ceil } => Prepared::MaxPool(MaxPool { window: Sides::of(window), ceil: *ceil }),
        Op::AveragePool { window, ceil, count_padding } => Prepared::AveragePool(AveragePool::prepare(
            Sides::of(window),
            *ceil,
            *count_padding,
            input,
            device,
        )?),
        Op::GlobalAveragePool => Prepared::GlobalAveragePool,
        Op::Activation(function) => Prepared::Activation(*function),
        Op::Combine { how, .. } => Prepared::Combine(*how),
        Op::MatMul => Prepared::MatMul,
        Op::Softmax { axis: place, log } => Prepared::Softmax { axis: axis(*place), log: *log },
        Op::LayerNorm { shape, weight, bias, epsilon } => {
            let shape: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
            let own = |weights: &Option<Arc<Weights>>| {
                optional(weights, device)?.map(|held| held.f_reshape(&shape)).transpose()
            };
            let (weight, bias) = (own(weight)?, own(bias)?);
            Prepared::LayerNorm { shape, weight, bias, epsilon: f64::from(*epsilon) }
        }
        Op::Reduce { how, axes } => {
            Prepared::Reduce { how: *how, axes: axes.iter().map(|&place| axis(place)).collect() }
        }
        Op::Concat { axis: place, constants } => {
            let constants =
                constants.iter().map(|(place, held)| Ok((*place, constant(held, device)?.f_unsqueeze(0)?)));
            Prepared::Concat { axis: axis(*place), constants: constants.collect::<Result<_, TchError>>()? }
        }
        &Op::Slice { axis: place, start, end, step } => {
            Prepared::Slice { axis: axis(place), start: start as i64, end: end as i64, step: step as i64 }
        }
        Op::Transpose { order } => Prepared::Transpose {
            order: std::iter::once(0).chain(order.iter().map(|&place| axis(place))).collect(),
        },
        Op::Pad { before, after, value } => {
            // libtorch counts from the last axis on.
            let sides = std::iter::zip(before, after).rev();
            let sides = sides.flat_map(|(&before, &after)| [before as i64, after as i64]).collect();
            Prepared::Pad { sides, value: f64::from(*value) }
        }
        Op::Reshape => Prepared::Reshape,
    })
}

impl Prepared {
    fn run(&self, first: &Tensor, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        match self {
            Self::Conv(conv) => conv.run(first),
            Self::Linear { weight, bias, inputs } => {
                dense(first)?.f_reshape([-1, *inputs])?.f_linear(weight, bias.as_ref())
            }
            Self::Affine { scale, shift } => {
                let input = dense(first)?;
                match (scale, shift) {
                    (Some(scale), Some(shift)) => shift.f_addcmul(&input, scale),
                    (Some(scale), None) => input.f_mul(scale),
                    (None, Some(shift)) => input.f_add(shift),
                    // Not the input itself: what is fused behind works in place.
                    (None, None) => input.f_mul_scalar(1.0),
                }
            }
            Self::MaxPool(pool) => pool.run(first),
            Self::AveragePool(pool) => pool.run(first),
            Self::GlobalAveragePool => dense(first)?.f_mean_dim([2i64, 3].as_slice(), true, None),
            Self::Activation(function) => applied(*function, first),
            Self::Combine(how) => combined(*how, inputs),
            Self::MatMul => dense(first)?.f_matmul(&dense(inputs.get(1).copied().unwrap_or(first))?),
            Self::Softmax { axis, log: false } => dense(first)?.f_softmax(*axis, None),
            Self::Softmax { axis, log: true } => dense(first)?.f_log_softmax(*axis, None),
            Self::LayerNorm { shape, weight, bias, epsilon } => {
                dense(first)?.f_layer_norm(shape, weight.as_ref(), bias.as_ref(), *epsilon, false)
            }
            Self::Reduce { how: Reduction::Mean, axes } => {
                dense(first)?.f_mean_dim(axes.as_slice(), true, None)
            }
            Self::Reduce { how: Reduction::Sum, axes } => {
                dense(first)?.f_sum_dim_intlist(axes.as_slice(), true, None)
            }
            Self::Reduce { how: Reduction::Largest, axes } => dense(first)?.f_amax(axes, true),
            Self::Concat { axis, constants } => {
                let mut parts = inputs.iter().map(|input| dense(input)).collect::<Result<Vec<_>, _>>()?;
                for (place, constant) in constants {
                    parts.insert((*place).min(parts.len()), constant.shallow_clone());
                }
                Tensor::f_cat(&parts, *axis)
            }
            Self::Slice { axis, start, end, step } => {
                dense(first)?.f_slice(*axis, *start, *end, *step)?.f_contiguous()
            }
            Self::Transpose { order } => dense(first)?.f_permute(order)?.f_contiguous(),
            Self::Pad { sides, value } => dense(first)?.f_pad(sides, "constant", *value),
            Self::Reshape => dense(first),
        }
    }
}

fn combined(how: Arithmetic, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
    let combine = |left: &Tensor, right: &Tensor| match how {
        Arithmetic::Sum => left.f_add(right),
        Arithmetic::Difference => left.f_sub(right),
        Arithmetic::Product => left.f_mul(right),
        Arithmetic::Quotient => left.f_div(right),
        Arithmetic::Largest => left.f_maximum(right),
        Arithmetic::Smallest => left.f_minimum(right),
    };
    let [first, rest @ ..] = inputs else { return Err(TchError::Shape("nothing to combine".into())) };
    // oneDNN's own layout has sums of tensors of one shape, as networks with shortcuts need.
    let size = first.size();
    if how == Arithmetic::Sum && inputs.iter().all(|input| input.is_mkldnn() && input.size() == size) {
        return rest.iter().try_fold(first.shallow_clone(), |so_far, next| combine(&so_far, next));
    }
    rest.iter().try_fold(dense(first)?, |so_far, next| combine(&so_far, &dense(next)?))
}

/// The tensor in row-major layout.
pub(super) fn dense(tensor: &Tensor) -> Result<Tensor, TchError> {
    if tensor.is_mkldnn() { tensor.f_to_dense(Kind::Float, false) } else { Ok(tensor.shallow_clone()) }
}
