//! Normalisations: of batches, instances and layers, and shares that add up to one.

use std::sync::Arc;

use super::super::constant::{Constant, elements};
use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use super::arithmetic::{affine, combine, number, power};
use super::window::Field;
use crate::error::Result;
use crate::model::{Arithmetic, Op, Weights, Window};

/// `BatchNormalization` as used for inference.
pub fn batch_norm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if node.int("training_mode", 0) != 0 {
        return Err(node.error("it was exported in training mode; call model.eval() before the export"));
    }
    // Before opset 7 the mode is told by an attribute or, without it, by what is written besides.
    if node.opset < 7 && node.int("is_test", 0) == 0 && node.proto.output.len() > 1 {
        return Err(node.error("it was exported in training mode; export the network for inference"));
    }
    let view = graph.tensor(node, 0)?;
    let channels = view.shape.get(1).copied().unwrap_or(0);
    let [gamma, beta] = [1, 2].map(|index| per_channel(graph, node, index, channels));
    let [mean, variance] = [3, 4].map(|index| per_channel(graph, node, index, channels));
    let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let scale: Vec<f64> = std::iter::zip(&gamma.data, &variance.data)
        .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + epsilon).sqrt())
        .collect();
    let shift: Vec<f64> = std::iter::zip(std::iter::zip(&beta.data, &mean.data), &scale)
        .map(|((&beta, &mean), scale)| f64::from(beta) - f64::from(mean) * scale)
        .collect();
    let [scale, shift] = [scale, shift].map(|values| along_channels(&view, values));
    affine(graph, node, view, scale, shift).map(Value::Tensor)
}

/// `InstanceNormalization`: each channel's plane by itself.
pub fn instance_norm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let &[1, channels, ref plane @ ..] = view.shape.as_slice() else {
        return Err(node.error(format_args!("expected [batch, channels, …], found {:?}", view.shape)));
    };
    let scale = per_channel(graph, node, 1, channels)?;
    let shift = per_channel(graph, node, 2, channels)?;
    let [scale, shift] = [scale, shift]
        .map(|weights| along_channels(&view, weights.data.iter().map(|&value| value.into()).collect()));
    let op = Op::LayerNorm {
        shape: plane.to_vec(),
        weight: None,
        bias: None,
        epsilon: node.float("epsilon", 1e-5),
    };
    let source = graph.settled(node, &view)?;
    let normal = graph.push(node, op, vec![source], view.shape)?;
    affine(graph, node, normal, scale, shift).map(Value::Tensor)
}

/// `LRN`: `x / (bias + alpha * mean of the squares of its neighbours' channels) ^ beta`. The mean is an average pooling over
/// a plane of channels and places.
pub fn local_response_norm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let [channels, height, width] = Field::of(node, &view)?.stored();
    let size = usize::try_from(node.int("size", 0)).ok().filter(|size| (1..=channels).contains(size));
    let size = size.ok_or_else(|| node.error("its size is not between 1 and the number of channels"))?;
    let flat = View { source: view.source, shape: vec![1, 1, channels, height * width] };
    let squares = graph.push_alike(node, power(2.0), flat.clone())?;
    let padding = [(size - 1) / 2, 0, size / 2, 0];
    let window = Window { kernel: [size, 1], stride: [1, 1], padding, dilation: [1, 1] };
    let pool = Op::AveragePool { window, ceil: false, count_padding: true };
    let source = graph.settled(node, &squares)?;
    let means = graph.push(node, pool, vec![source], flat.shape.clone())?;
    let (alpha, bias) = (node.float("alpha", 1e-4), node.float("bias", 1.0));
    let sums = affine(graph, node, means, number(alpha), number(bias))?;
    let divisors = graph.push_alike(node, power(-node.float("beta", 0.75)), sums)?;
    let View { source, .. } = combine(graph, node, Arithmetic::Product, &[flat, divisors])?;
    Ok(Value::Tensor(View { source, shape: view.shape }))
}

/// `LayerNormalization` over the last axes.
pub fn layer_norm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    normalised(graph, node, view, [1, 2]).map(Value::Tensor)
}

/// A tensor normalised over its last axes, with the weight and the bias that these inputs of the node hold.
pub fn normalised<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: View,
    [weight, bias]: [usize; 2],
) -> Result<View> {
    let axis = node.axis(node.int("axis", -1), view.shape.len())?;
    let shape = view.shape[axis..].to_vec();
    let weights = |index: usize| match graph.constant(node, index)? {
        None => Ok(None),
        Some(Constant::Float(held)) if Some(held.data.len()) == elements(&shape) => Ok(Some(held)),
        Some(other) => Err(node.error(format_args!(
            "expected its input {index} to be {shape:?} constant numbers, found {:?}",
            other.shape()
        ))),
    };
    let (weight, bias) = (weights(weight)?, weights(bias)?);
    let epsilon = node.float("epsilon", if node.op() == "SkipLayerNormalization" { 1e-12 } else { 1e-5 });
    let source = graph.settled(node, &view)?;
    // The batch is no axis to normalise over: of a first axis of length 1 nothing is left here.
    let shape = if axis == 0 { super::per_sample(&shape).to_vec() } else { shape };
    let op = Op::LayerNorm { shape, weight, bias, epsilon };
    graph.push(node, op, vec![source], view.shape)
}

/// `Softmax` and `LogSoftmax`. Before opset 13 they work over all axes from one on.
pub fn softmax<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let old = node.opset < 13;
    let axis = node.axis(node.int("axis", if old { 1 } else { -1 }), view.shape.len())?;
    let log = node.op() == "LogSoftmax";
    if old && axis + 1 < view.shape.len() {
        let (rows, row) = view.shape.split_at(axis);
        // A tensor's shape is checked when its layer is made, so that its products exist.
        let flat = [rows, row].map(|sides| elements(sides).unwrap_or(0));
        let flat = View { source: view.source, shape: flat.to_vec() };
        let (source, skipped) = graph.along_axes(node, &flat, false)?;
        let op = Op::Softmax { axis: 1 - skipped, log };
        let View { source, .. } = graph.push(node, op, vec![source], flat.shape)?;
        return Ok(Value::Tensor(View { source, shape: view.shape }));
    }
    let (source, skipped) = graph.along_axes(node, &view, axis == 0)?;
    let op = Op::Softmax { axis: axis - skipped, log };
    graph.push(node, op, vec![source], view.shape).map(Value::Tensor)
}

fn per_channel(graph: &Lowering<'_>, node: &Node<'_>, index: usize, channels: usize) -> Result<Arc<Weights>> {
    match graph.constant(node, index)? {
        Some(Constant::Float(weights)) if weights.data.len() == channels => Ok(weights),
        _ => Err(node.error(format_args!("expected its input {index} to be {channels} constant numbers"))),
    }
}

/// One value for each channel, the second axis in the file.
fn along_channels(view: &View, values: Vec<f64>) -> Arc<Weights> {
    if let &[value] = values.as_slice() {
        return number(value as f32);
    }
    let mut shape = vec![1; view.shape.len().saturating_sub(1)];
    if let Some(channels) = shape.first_mut() {
        *channels = values.len();
    }
    Arc::new(Weights { shape, data: values.into_iter().map(|value| value as f32).collect() })
}
