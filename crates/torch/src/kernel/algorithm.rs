//! The algorithms that a layer can run by: libtorch's own, and oneDNN's with packed weights.

use tch::{Device, TchError, Tensor};

use super::activation::applied_in_place;
use super::direct::Direct;
use super::linear::PackedLinear;
use super::onednn::PackedConv;
use super::prepared::{Prepared, prepared};
use super::tensors::{Layout, constant, optional, with_batch};
use super::window::Sides;
use coprof_core::model::{Activation, Layer, Op, Shape};

/// An op and what is left to be done behind it.
pub struct Algorithm {
    op: Prepared,
    rest: Rest,
}

/// What an op has not taken in of a layer.
#[derive(Clone, Copy)]
struct Rest {
    /// Whether the second input is to be added.
    adds: bool,
    /// What is to be done then.
    activation: Option<Activation>,
}

impl Rest {
    fn all(op: &Op) -> Self {
        Self { adds: op.adds(), activation: op.activation() }
    }
}

impl Algorithm {
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let first = *inputs.first().ok_or_else(|| TchError::Shape("a layer without inputs".into()))?;
        let mut output = self.op.run(first, inputs)?;
        if let (true, Some(summand)) = (self.rest.adds, inputs.get(1)) {
            output = output.f_add_(summand)?;
        }
        match self.rest.activation {
            Some(function) => applied_in_place(function, output),
            None => Ok(output),
        }
    }
}

/// Never none. `input` is the shape of the layer's first input.
pub fn algorithms(
    layer: &Layer,
    input: &Shape,
    device: Device,
    layout: Layout,
) -> Result<Vec<Algorithm>, TchError> {
    let op = &layer.op;
    match (layout, op) {
        (Layout::ChannelsLast, Op::Conv { .. }) => convolutions(op, input, device),
        (Layout::ChannelsLast, Op::Linear { .. }) => products(op, input, device),
        (Layout::ChannelsLast, Op::MaxPool { window, ceil }) => {
            pools(op, Direct::max_pool(window, *ceil, input), input, device)
        }
        (Layout::ChannelsLast, Op::GlobalAveragePool) => pools(op, Direct::global_mean(input), input, device),
        _ => Ok(vec![Algorithm { op: prepared(op, input, device)?, rest: Rest::all(op) }]),
    }
}

fn convolutions(op: &Op, input: &Shape, device: Device) -> Result<Vec<Algorithm>, TchError> {
    let Op::Conv { weight, bias, window, groups, activation, adds } = op else { return Ok(Vec::new()) };
    let mut algorithms = Vec::new();
    if let Some(mut direct) = Direct::conv(weight, bias, window, *groups, input) {
        let rest = Rest { adds: false, activation: direct.take_in(*activation) };
        algorithms.push(Algorithm { op: Prepared::Direct(direct), rest });
    }
    let (weight, bias) = (constant(weight, device)?, optional(bias, device)?);
    let (window, groups) = (Sides::of(window), *groups as i64);
    // Not every libtorch and not every processor's oneDNN has all that it takes.
    if let Ok(mut conv) = PackedConv::prepare(&weight, bias, window, groups, &with_batch(input)) {
        let rest = Rest { adds: false, activation: conv.take_in(*activation, *adds) };
        algorithms.push(Algorithm { op: Prepared::PackedConv(conv), rest });
    }
    if algorithms.is_empty() {
        algorithms.push(Algorithm { op: prepared(op, input, device)?, rest: Rest::all(op) });
    }
    Ok(algorithms)
}

fn pools(op: &Op, direct: Option<Direct>, input: &Shape, device: Device) -> Result<Vec<Algorithm>, TchError> {
    let all = [direct.map(Prepared::Direct), Some(prepared(op, input, device)?)];
    Ok(all.into_iter().flatten().map(|prepared| Algorithm { op: prepared, rest: Rest::all(op) }).collect())
}

fn products(op: &Op, input: &Shape, device: Device) -> Result<Vec<Algorithm>, TchError> {
    let own = prepared(op, input, device)?;
    let mut algorithms = Vec::new();
    if let (Prepared::Linear(linear), Op::Linear { weight, bias, activation }) = (&own, op) {
        let rows = input.elements() as i64 / linear.inputs;
        if let Some(mut direct) = Direct::linear(weight, bias, rows as usize) {
            let rest = Rest { adds: false, activation: direct.take_in(*activation) };
            algorithms.push(Algorithm { op: Prepared::DirectRows(direct), rest });
        }
        // One row alone is multiplied while the weight is read once: oneDNN's packing wins nothing.
        if rows > 1
            && let Ok((packed, activation)) = PackedLinear::prepare(linear, rows, *activation)
        {
            algorithms.push(Algorithm {
                op: Prepared::PackedLinear(packed),
                rest: Rest { adds: false, activation },
            });
        }
    }
    algorithms.push(Algorithm { op: own, rest: Rest::all(op) });
    Ok(algorithms)
}
