//! Operators of ONNX Runtime's own, which it writes into the files that it has optimised or quantised.

use super::super::constant::Constant;
use super::super::node::{Node, shown};
use super::super::value::{Value, View};
use super::activation::clipped;
use super::arithmetic::{combine, of_two, scaled};
use super::shape::{concatenated, turned};
use super::{Lowering, activation, linear, norm, pool, quantised};
use crate::error::Result;
use crate::model::{Activation, Arithmetic, Op};

/// The domain of these operators.
pub const DOMAIN: &str = "com.microsoft";

/// What of it is read, for messages.
pub const SUPPORTED: &str = "BiasGelu, DequantizeLinear, FastGelu, FusedConv, FusedGemm, FusedMatMul, Gelu, QGemm, QLinearAdd, \
    QLinearAveragePool, QLinearConcat, QLinearGlobalAveragePool, QLinearLeakyRelu, QLinearMul, QLinearSigmoid, QuantizeLinear, \
    QuickGelu, SkipLayerNormalization";

/// Turns a node of this domain into layers; `None` for an op that is not read.
pub fn lower<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Option<Value>> {
    Ok(Some(match node.op() {
        "FusedConv" => fused_conv(graph, node)?,
        "FusedGemm" => {
            let made = linear::gemm(graph, node)?;
            let named =
                ["activation_alpha", "activation_beta"].map(|name| node.attribute(name).map(|held| held.f));
            with_activation(graph, node, made, named)?
        }
        "FusedMatMul" | "TransposeMatMul" => fused_matmul(graph, node)?,
        "Gelu" => activation::apply(graph, node, Activation::Gelu { tanh: false })?,
        "BiasGelu" => gelu(graph, node, false)?,
        "FastGelu" => gelu(graph, node, true)?,
        "QuickGelu" => quick_gelu(graph, node)?,
        "SkipLayerNormalization" => skip_layer_norm(graph, node)?,
        "QuantizeLinear" => quantised::quantize(graph, node)?,
        "DequantizeLinear" => quantised::dequantize(graph, node)?,
        "QGemm" => qgemm(graph, node)?,
        "QLinearAdd" => qlinear_pair(graph, node, "Add")?,
        "QLinearMul" => qlinear_pair(graph, node, "Mul")?,
        "QLinearConcat" => qlinear_concat(graph, node)?,
        "QLinearGlobalAveragePool" | "QLinearAveragePool" | "QLinearSigmoid" | "QLinearLeakyRelu" => {
            qlinear_single(graph, node)?
        }
        _ => return Ok(None),
    }))
}

/// A convolution, a sum with another tensor, and a function.
fn fused_conv<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let mut made = linear::convolved(graph, node, view, [1, 2])?;
    if node.input(3).is_some() {
        let summand = graph.tensor(node, 3)?;
        made = combine(graph, node, Arithmetic::Sum, &[made, summand])?;
    }
    let params = node.attribute("activation_params").map_or(&[][..], |held| held.floats.as_slice());
    let named = [0, 1].map(|at| params.get(at).copied());
    with_activation(graph, node, Value::Tensor(made), named)
}

/// A tensor under the function that the node names, of up to two parameters.
fn with_activation<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    value: Value,
    [first, second]: [Option<f32>; 2],
) -> Result<Value> {
    let function = match node.text("activation", "") {
        "" => return Ok(value),
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "HardSwish" => Activation::HardSwish,
        "LeakyRelu" => Activation::LeakyRelu { slope: first.unwrap_or(0.01) },
        "HardSigmoid" => {
            Activation::HardSigmoid { slope: first.unwrap_or(0.2), offset: second.unwrap_or(0.5) }
        }
        "Clip" => clipped(first.unwrap_or(f32::NEG_INFINITY), second.unwrap_or(f32::INFINITY)),
        other => {
            return Err(node.error(format_args!("its activation '{}' is not supported", shown(other))));
        }
    };
    match value {
        Value::Tensor(view) => graph.push_alike(node, Op::Activation(function), view).map(Value::Tensor),
        Value::Constant(_) => Err(node.error("expected a computed tensor")),
    }
}

/// `alpha` times the product of two matrices, the last two axes of either exchanged where it says so.
fn fused_matmul<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if ["transBatchA", "transBatchB"].iter().any(|name| node.int(name, 0) != 0) {
        return Err(node.error("exchanging batches is not supported"));
    }
    let exchanged = |view: &View| {
        let mut order: Vec<usize> = (0..view.shape.len()).collect();
        if let [.., rows, columns] = order.as_mut_slice() {
            std::mem::swap(rows, columns);
        }
        order
    };
    let mut left = graph.tensor(node, 0)?;
    if node.int("transA", 0) != 0 {
        let order = exchanged(&left);
        left = turned(graph, node, left, &order)?;
    }
    let transposed = node.int("transB", 0) != 0;
    let product = match graph.operand(node, 1)? {
        Value::Tensor(right) if transposed => {
            let order = exchanged(&right);
            let right = turned(graph, node, right, &order)?;
            linear::multiplied(graph, node, &[left, right])?
        }
        Value::Tensor(right) => linear::multiplied(graph, node, &[left, right])?,
        Value::Constant(_) => {
            let stored = linear::weights(graph, node, 1)?;
            match (transposed, stored.shape.len()) {
                (true, 2) => linear::fully_connected(graph, node, &left, stored, None)?,
                (true, _) => return Err(node.error("expected a constant matrix")),
                (false, _) => linear::times_matrix(graph, node, &left, stored)?,
            }
        }
    };
    let alpha = node.float("alpha", 1.0);
    if alpha == 1.0 {
        return Ok(Value::Tensor(product));
    }
    scaled(graph, node, product, alpha).map(Value::Tensor)
}

/// A bias, if there is one, and then GELU, by the error function or its approximation.
fn gelu<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, tanh: bool) -> Result<Value> {
    let mut view = graph.tensor(node, 0)?;
    if node.input(1).is_some() {
        let bias = graph.operand(node, 1)?;
        view = match of_two(graph, node, "Add", Value::Tensor(view), bias)? {
            Value::Tensor(view) => view,
            Value::Constant(_) => return Err(node.error("expected a computed tensor")),
        };
    }
    graph.push_alike(node, Op::Activation(Activation::Gelu { tanh }), view).map(Value::Tensor)
}

/// `x * sigmoid(alpha * x)`.
fn quick_gelu<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let steep = scaled(graph, node, view.clone(), node.float("alpha", 1.702))?;
    let gate = graph.push_alike(node, Op::Activation(Activation::Sigmoid), steep)?;
    combine(graph, node, Arithmetic::Product, &[view, gate]).map(Value::Tensor)
}

/// The sum of two tensors, and of a bias, normalised over its last axis.
fn skip_layer_norm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let mut sum = graph.operand(node, 0)?;
    for index in [1, 4] {
        if node.input(index).is_some() {
            let summand = graph.operand(node, index)?;
            sum = of_two(graph, node, "Add", sum, summand)?;
        }
    }
    match sum {
        Value::Tensor(view) => norm::normalised(graph, node, view, [2, 3]).map(Value::Tensor),
        Value::Constant(_) => Err(node.error("expected a computed tensor")),
    }
}

/// `Gemm` of whole numbers; without an output scale it writes real ones.
fn qgemm<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if node.int("transA", 0) != 0 {
        return Err(node.error("transA is not supported: its first input must be [batch, features]"));
    }
    let view = quantised::tensor(graph, node, [0, 1, 2])?;
    let transposed = node.int("transB", 0) != 0;
    let stored = quantised::weights(graph, node, [3, 4, 5], if transposed { 0 } else { 1 })?;
    let weight = if transposed { stored } else { linear::matrix(graph, node, &stored)? };
    let alpha = node.float("alpha", 1.0);
    let bias = quantised::bias(graph, node, 6, [1, 4])?.map(|bias| linear::scaled(bias, alpha));
    let made = linear::fully_connected(graph, node, &view, linear::scaled(weight, alpha), bias)?;
    if node.input(7).is_none() {
        return Ok(Value::Tensor(made));
    }
    quantised::rounded(graph, node, made, [7, 8])
}

/// Arithmetic of two values of whole numbers, each with its scale and zero point behind it.
fn qlinear_pair<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, op: &str) -> Result<Value> {
    let operand = |graph: &mut Lowering<'a>, inputs: [usize; 3]| match graph.operand(node, inputs[0])? {
        Value::Tensor(_) => quantised::tensor(graph, node, inputs).map(Value::Tensor),
        Value::Constant(_) => {
            let held = quantised::weights(graph, node, inputs, -1)?;
            Ok(Value::Constant(Constant::Float(held)))
        }
    };
    let (left, right) = (operand(graph, [0, 1, 2])?, operand(graph, [3, 4, 5])?);
    match of_two(graph, node, op, left, right)? {
        Value::Tensor(view) => quantised::rounded(graph, node, view, [6, 7]),
        Value::Constant(_) => Err(node.error("expected a computed tensor")),
    }
}

/// Tensors of whole numbers joined; the output's scale and zero point come first.
fn qlinear_concat<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let parts = (2..node.proto.input.len()).step_by(3);
    let parts = parts.map(|at| quantised::tensor(graph, node, [at, at + 1, at + 2]).map(Value::Tensor));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    match concatenated(graph, node, parts)? {
        Value::Tensor(view) => quantised::rounded(graph, node, view, [0, 1]),
        Value::Constant(_) => Err(node.error("expected computed tensors")),
    }
}

/// Functions and poolings of a tensor of whole numbers.
fn qlinear_single<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    if node.int("channels_last", 0) != 0 {
        return Err(node.error("channels in the last axis are not supported"));
    }
    let view = quantised::tensor(graph, node, [0, 1, 2])?;
    let apply =
        |graph: &mut Lowering<'a>, function, view| graph.push_alike(node, Op::Activation(function), view);
    let made = match node.op() {
        "QLinearGlobalAveragePool" => pool::globally(graph, node, view, Op::GlobalAveragePool)?,
        "QLinearAveragePool" => pool::pooled(graph, node, view)?,
        "QLinearSigmoid" => apply(graph, Activation::Sigmoid, view)?,
        _ => apply(graph, Activation::LeakyRelu { slope: node.float("alpha", 0.01) }, view)?,
    };
    quantised::rounded(graph, node, made, [3, 4])
}
