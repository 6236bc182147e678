//! What layers compute, in libtorch's words.

use std::sync::Arc;

use tch::{Device, Kind, TchError, Tensor};

use super::activation::applied;
use super::direct::Direct;
use super::linear::{Linear, PackedLinear};
use super::onednn::PackedConv;
use super::tensors::{constant, optional};
use super::window::{AveragePool, Conv, MaxPool, Sides};
use coprof_core::model::{Activation, Arithmetic, Op, Reduction, Shape, Tap, Weights};

/// Axes count the batch, which is the first one.
pub enum Prepared {
    Conv(Conv),
    /// Adds the second input if there is one.
    PackedConv(PackedConv),
    /// A convolution or a pool; adds the second input if there is one.
    Direct(Direct),
    /// A fully connected layer.
    DirectRows(Direct),
    Linear(Linear),
    PackedLinear(PackedLinear),
    Affine {
        scale: Option<Tensor>,
        shift: Option<Tensor>,
    },
    MaxPool(MaxPool),
    AveragePool(AveragePool),
    GlobalAveragePool,
    Activation(Activation),
    Combine(Arithmetic),
    MatMul,
    Softmax {
        axis: i64,
        log: bool,
    },
    LayerNorm {
        shape: Vec<i64>,
        weight: Option<Tensor>,
        bias: Option<Tensor>,
        epsilon: f64,
    },
    Reduce {
        how: Reduction,
        axes: Vec<i64>,
    },
    Concat {
        axis: i64,
        constants: Vec<(usize, Tensor)>,
    },
    Resample {
        axis: i64,
        /// Places, and weights in a shape that is broadcast.
        taps: Vec<(Tensor, Option<Tensor>)>,
    },
    TopK {
        axis: i64,
        count: i64,
        largest: bool,
        places: bool,
    },
    ConvTranspose {
        weight: Tensor,
        bias: Option<Tensor>,
        window: Sides,
        output_padding: [i64; 2],
        groups: i64,
    },
    Slice {
        axis: i64,
        start: i64,
        end: i64,
        step: i64,
    },
    Transpose {
        order: Vec<i64>,
    },
    Pad {
        sides: Vec<i64>,
        value: f64,
    },
    Reshape,
}

/// The constant, unless it is a single value that changes nothing.
fn unless(neutral: f32, weights: &Weights, device: Device) -> Result<Option<Tensor>, TchError> {
    if weights.data == [neutral] { Ok(None) } else { constant(weights, device).map(Some) }
}

/// The place of an axis behind the batch.
fn axis(place: usize) -> i64 {
    place as i64 + 1
}

fn shaped(held: &Option<Arc<Weights>>, shape: &[i64], device: Device) -> Result<Option<Tensor>, TchError> {
    optional(held, device)?.map(|held| held.f_reshape(shape)).transpose()
}

/// Both sides of each axis: libtorch counts from the last one on.
fn padded(before: &[usize], after: &[usize]) -> Vec<i64> {
    let sides = std::iter::zip(before, after).rev();
    sides.flat_map(|(&before, &after)| [before as i64, after as i64]).collect()
}

/// A tap's places, and its weights so that they spread over the `behind` axes behind its own.
fn prepared_tap(tap: &Tap, behind: usize, device: Device) -> Result<(Tensor, Option<Tensor>), TchError> {
    let places: Vec<i64> = tap.places.iter().map(|&place| place as i64).collect();
    let places = Tensor::f_from_slice(&places)?.f_to(device)?;
    let sides = [&[-1][..], &vec![1; behind]].concat();
    let weights = tap.weights.as_deref().map(Tensor::f_from_slice).transpose()?;
    let weights = weights.map(|held| held.f_to(device)?.f_reshape(&sides)).transpose()?;
    Ok((places, weights))
}

/// `input` is the shape of the first input.
pub fn prepared(op: &Op, input: &Shape, device: Device) -> Result<Prepared, TchError> {
    Ok(match op {
        Op::Conv { weight, bias, window, groups, .. } => Prepared::Conv(Conv {
            weight: constant(weight, device)?,
            bias: optional(bias, device)?,
            window: Sides::of(window),
            groups: *groups as i64,
        }),
        Op::Linear { weight, bias, .. } => Prepared::Linear(Linear {
            inputs: weight.shape.last().copied().unwrap_or(1) as i64,
            weight: constant(weight, device)?,
            bias: optional(bias, device)?,
        }),
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
            let [weight, bias] = [weight, bias].map(|held| shaped(held, &shape, device));
            Prepared::LayerNorm { shape, weight: weight?, bias: bias?, epsilon: f64::from(*epsilon) }
        }
        Op::Reduce { how, axes } => {
            Prepared::Reduce { how: *how, axes: axes.iter().map(|&place| axis(place)).collect() }
        }
        Op::Concat { axis: place, constants } => {
            let constants =
                constants.iter().map(|(place, held)| Ok((*place, constant(held, device)?.f_unsqueeze(0)?)));
            Prepared::Concat { axis: axis(*place), constants: constants.collect::<Result<_, TchError>>()? }
        }
        Op::Resample { axis: place, taps } => {
            let behind = input.0.len() - place - 1;
            let taps = taps.iter().map(|tap| prepared_tap(tap, behind, device));
            Prepared::Resample { axis: axis(*place), taps: taps.collect::<Result<_, TchError>>()? }
        }
        &Op::TopK { axis: place, count, largest, places } => {
            Prepared::TopK { axis: axis(place), count: count as i64, largest, places }
        }
        Op::ConvTranspose { weight, bias, window, output_padding, groups } => Prepared::ConvTranspose {
            weight: constant(weight, device)?,
            bias: optional(bias, device)?,
            window: Sides::of(window),
            output_padding: output_padding.map(|side| side as i64),
            groups: *groups as i64,
        },
        &Op::Slice { axis: place, start, end, step } => {
            Prepared::Slice { axis: axis(place), start: start as i64, end: end as i64, step: step as i64 }
        }
        Op::Transpose { order } => Prepared::Transpose {
            order: std::iter::once(0).chain(order.iter().map(|&place| axis(place))).collect(),
        },
        Op::Pad { before, after, value } => {
            Prepared::Pad { sides: padded(before, after), value: f64::from(*value) }
        }
        Op::Reshape => Prepared::Reshape,
    })
}

impl Prepared {
    pub fn run(&self, first: &Tensor, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        match self {
            Self::Conv(conv) => conv.run(first),
            Self::PackedConv(conv) => conv.run(first, inputs.get(1).copied()),
            Self::Direct(direct) => direct.run(first, inputs.get(1).copied()),
            Self::DirectRows(direct) => direct.run_rows(first),
            Self::Linear(linear) => linear.run(first),
            Self::PackedLinear(linear) => linear.run(first),
            Self::Affine { scale, shift } => match (scale, shift) {
                (Some(scale), Some(shift)) => shift.f_addcmul(first, scale),
                (Some(scale), None) => first.f_mul(scale),
                (None, Some(shift)) => first.f_add(shift),
                // Not the input itself: what is fused behind works in place.
                (None, None) => first.f_mul_scalar(1.0),
            },
            Self::MaxPool(pool) => pool.run(first),
            Self::AveragePool(pool) => pool.run(first),
            Self::GlobalAveragePool => first.f_mean_dim([2i64, 3].as_slice(), true, None),
            Self::Activation(function) => applied(*function, first),
            Self::Combine(how) => combined(*how, inputs),
            Self::MatMul => first.f_matmul(inputs.get(1).copied().unwrap_or(first)),
            Self::Softmax { axis, log: false } => first.f_softmax(*axis, None),
            Self::Softmax { axis, log: true } => first.f_log_softmax(*axis, None),
            Self::LayerNorm { shape, weight, bias, epsilon } => {
                first.f_layer_norm(shape, weight.as_ref(), bias.as_ref(), *epsilon, false)
            }
            Self::Reduce { how: Reduction::Mean, axes } => first.f_mean_dim(axes.as_slice(), true, None),
            Self::Reduce { how: Reduction::Sum, axes } => {
                first.f_sum_dim_intlist(axes.as_slice(), true, None)
            }
            Self::Reduce { how: Reduction::Largest, axes } => first.f_amax(axes, true),
            Self::Reduce { how: Reduction::Smallest, axes } => first.f_amin(axes, true),
            Self::Reduce { how: Reduction::PlaceOfLargest, axes } => {
                first.f_argmax(axes.first().copied(), true)?.f_to_kind(Kind::Float)
            }
            Self::Reduce { how: Reduction::PlaceOfSmallest, axes } => {
                first.f_argmin(axes.first().copied(), true)?.f_to_kind(Kind::Float)
            }
            Self::Resample { axis, taps } => resampled(first, *axis, taps),
            Self::TopK { axis, count, largest, places } => {
                let (numbers, found) = first.f_topk(*count, *axis, *largest, true)?;
                if *places { found.f_to_kind(Kind::Float) } else { Ok(numbers) }
            }
            Self::ConvTranspose { weight, bias, window, output_padding, groups } => first.f_conv_transpose2d(
                weight,
                bias.as_ref(),
                window.stride,
                window.padding,
                output_padding,
                *groups,
                window.dilation,
            ),
            Self::Concat { axis, constants } => {
                let mut parts: Vec<&Tensor> = inputs.to_vec();
                for (place, constant) in constants {
                    parts.insert((*place).min(parts.len()), constant);
                }
                Tensor::f_cat(&parts, *axis)
            }
            // Views: who reads them takes gaps between values, or closes them in the pass that it makes anyway.
            Self::Slice { axis, start, end, step } => first.f_slice(*axis, *start, *end, *step),
            Self::Transpose { order } => first.f_permute(order),
            Self::Pad { sides, value } => first.f_pad(sides, "constant", *value),
            Self::Reshape => Ok(first.shallow_clone()),
        }
    }
}

/// The sum of all taps of an axis.
fn resampled(input: &Tensor, axis: i64, taps: &[(Tensor, Option<Tensor>)]) -> Result<Tensor, TchError> {
    let mut sum: Option<Tensor> = None;
    for (places, weights) in taps {
        let picked = input.f_index_select(axis, places)?;
        let part = match weights {
            Some(weights) => picked.f_mul(weights)?,
            None => picked,
        };
        sum = Some(match sum {
            Some(so_far) => so_far.f_add(&part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| TchError::Shape("nothing to resample".into()))
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
    rest.iter().try_fold(first.shallow_clone(), |so_far, next| combine(&so_far, next))
}
