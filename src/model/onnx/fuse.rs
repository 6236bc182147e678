//! Joins layers that the runtime executes as one: batch norm and other per-channel arithmetic goes into the weights before
//! it, a rectifier into the layer before it, and a flattening in front of a fully connected layer disappears.
//!
//! Arithmetic in front of a convolution stays a layer of its own: folded forward it would change what padding means.

use std::sync::Arc;

use super::lower::Draft;
use crate::model::{LayerId, Op, Source, Weights};

/// The fused layers, in the same order, and where the exits' logits are now.
pub fn fuse<'a>(mut drafts: Vec<Draft<'a>>, exits: Vec<Source>) -> (Vec<Draft<'a>>, Vec<Source>) {
    skip_flattening(&mut drafts);
    let uses = uses(&drafts, &exits);
    let mut placed: Vec<Draft<'a>> = Vec::with_capacity(drafts.len());
    // What each draft's output is called among the placed ones. Unused drafts get no name, for nobody asks.
    let mut renamed: Vec<Source> = Vec::with_capacity(drafts.len());
    let rename = |renamed: &[Source], source: Source| match source {
        Source::Input => Source::Input,
        Source::Layer(LayerId(id)) => renamed[id],
    };
    for (id, mut draft) in drafts.into_iter().enumerate() {
        if uses[id] == 0 {
            renamed.push(Source::Input);
            continue;
        }
        let alone = matches!(draft.inputs[..], [Source::Layer(LayerId(before))] if uses[before] == 1);
        draft.inputs.iter_mut().for_each(|input| *input = rename(&renamed, *input));
        if let (true, &[Source::Layer(before)]) = (alone, draft.inputs.as_slice())
            && absorb(&mut placed[before.0].op, &draft.op)
        {
            placed[before.0].nodes.extend(draft.nodes);
            renamed.push(Source::Layer(before));
        } else {
            renamed.push(Source::Layer(LayerId(placed.len())));
            placed.push(draft);
        }
    }
    let exits = exits.into_iter().map(|exit| rename(&renamed, exit)).collect();
    (placed, exits)
}

/// A fully connected layer flattens its input itself.
fn skip_flattening(drafts: &mut [Draft<'_>]) {
    for id in 0..drafts.len() {
        while let (Op::Linear { .. }, &[Source::Layer(LayerId(before))]) =
            (&drafts[id].op, &*drafts[id].inputs)
        {
            if !matches!(drafts[before].op, Op::Reshape) {
                break;
            }
            drafts[id].inputs = drafts[before].inputs.clone();
        }
    }
}

/// How often each draft is read by those that the exits need, and by the exits.
fn uses(drafts: &[Draft<'_>], exits: &[Source]) -> Vec<usize> {
    let mut uses = vec![0; drafts.len()];
    let count = |source: &Source, uses: &mut Vec<usize>| {
        if let Source::Layer(LayerId(id)) = source {
            uses[*id] += 1;
        }
    };
    exits.iter().for_each(|exit| count(exit, &mut uses));
    for id in (0..drafts.len()).rev() {
        if uses[id] > 0 {
            drafts[id].inputs.iter().for_each(|input| count(input, &mut uses));
        }
    }
    uses
}

/// Makes `op` do what `next`, its only reader, does. `false` if it cannot.
fn absorb(op: &mut Op, next: &Op) -> bool {
    match (op, next) {
        (
            Op::Conv { weight, bias, relu: false, .. } | Op::Linear { weight, bias, relu: false },
            Op::Affine { scale, shift, .. },
        ) => {
            fold_into_weights(weight, bias, scale, shift);
            true
        }
        (Op::Affine { scale: first, shift: offset, relu: false }, Op::Affine { scale, shift, .. }) => {
            (*first, *offset) = composed(first, offset, scale, shift);
            true
        }
        (
            Op::Conv { relu, .. } | Op::Linear { relu, .. } | Op::Affine { relu, .. } | Op::Add { relu },
            Op::Relu,
        ) => {
            *relu = true;
            true
        }
        _ => false,
    }
}

/// `scale * (weight * x + bias) + shift`, written as one weight and one bias. Output channels are the first axis.
fn fold_into_weights(
    weight: &mut Arc<Weights>,
    bias: &mut Option<Arc<Weights>>,
    scale: &Weights,
    shift: &Weights,
) {
    let outputs = weight.shape.first().copied().unwrap_or(0).max(1);
    let folded = Arc::make_mut(weight);
    let per_output = (folded.data.len() / outputs).max(1);
    for (row, values) in folded.data.chunks_mut(per_output).enumerate() {
        let factor = at(scale, row);
        values.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
    let data = (0..outputs)
        .map(|row| bias.as_ref().map_or(0.0, |bias| at(bias, row)) * at(scale, row) + at(shift, row))
        .map(|value| value as f32)
        .collect();
    *bias = Some(Arc::new(Weights { shape: vec![outputs], data }));
}

/// `scale * (first * x + offset) + shift`, written as one scale and one shift.
fn composed(
    first: &Weights,
    offset: &Weights,
    scale: &Weights,
    shift: &Weights,
) -> (Arc<Weights>, Arc<Weights>) {
    let channels =
        [first, offset, scale, shift].map(|weights| weights.data.len()).into_iter().max().unwrap_or(1);
    let weights = |value: &dyn Fn(usize) -> f64| {
        let data = (0..channels).map(|channel| value(channel) as f32).collect();
        Arc::new(Weights { shape: vec![channels], data })
    };
    (
        weights(&|channel| at(first, channel) * at(scale, channel)),
        weights(&|channel| at(offset, channel) * at(scale, channel) + at(shift, channel)),
    )
}

/// The value for a channel; a single value counts for all.
fn at(weights: &Weights, channel: usize) -> f64 {
    f64::from(if weights.data.len() == 1 { weights.data[0] } else { weights.data[channel] })
}
