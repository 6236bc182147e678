//! Functions of single values.

use super::super::constant::Constant;
use super::super::node::Node;
use super::super::value::Value;
use super::Lowering;
use crate::error::Result;
use crate::model::{Activation, Op};

/// The function that a node applies, if it is one that depends on attributes alone.
pub fn of_node(node: &Node<'_>) -> Option<Activation> {
    Some(match node.op() {
        "Relu" => Activation::Relu,
        "LeakyRelu" => Activation::LeakyRelu { slope: node.float("alpha", 0.01) },
        "Elu" => Activation::Elu { alpha: node.float("alpha", 1.0) },
        "Sigmoid" => Activation::Sigmoid,
        "HardSigmoid" => {
            Activation::HardSigmoid { slope: node.float("alpha", 0.2), offset: node.float("beta", 0.5) }
        }
        "HardSwish" => Activation::HardSwish,
        "Gelu" => Activation::Gelu { tanh: node.text("approximate", "none") == "tanh" },
        "Mish" => Activation::Mish,
        "Softplus" => Activation::Softplus,
        "Tanh" => Activation::Tanh,
        "Erf" => Activation::Erf,
        "Exp" => Activation::Exp,
        "Log" => Activation::Log,
        "Abs" => Activation::Abs,
        "Sign" => Activation::Sign,
        "Sqrt" => Activation::Power { exponent: 0.5 },
        "Reciprocal" => Activation::Power { exponent: -1.0 },
        _ => return None,
    })
}

/// A layer that applies a function to the node's first input.
pub fn apply<'a>(graph: &mut Lowering<'a>, node: &Node<'a>, function: Activation) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    graph.push_alike(node, Op::Activation(function), view).map(Value::Tensor)
}

/// `Clip`: its bounds are attributes up to opset 10, and inputs that may be left out from then on.
pub fn clip<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let bound = |name: &str, index: usize, default: f32| match graph.constant(node, index)? {
        None => Ok(node.float(name, default)),
        Some(Constant::Float(held)) if held.data.len() == 1 => Ok(held.data[0]),
        Some(_) => Err(node.error(format_args!("expected its input {index} to be a single number"))),
    };
    let (least, most) = (bound("min", 1, f32::NEG_INFINITY)?, bound("max", 2, f32::INFINITY)?);
    let function = clipped(least, most);
    apply(graph, node, function)
}

/// What keeps values between two bounds.
pub fn clipped(least: f32, most: f32) -> Activation {
    if least == 0.0 && most == f32::INFINITY { Activation::Relu } else { Activation::Clip { least, most } }
}
