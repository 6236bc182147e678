//! Joins layers that the runtime executes as one: batch norm and other per-channel arithmetic goes into the weights before
//! it, a function of single values and a change of shape into the layer before them, a sum into the convolution before it.
//!
//! Arithmetic in front of a convolution stays a layer of its own: folded forward it would change what padding means.

use std::sync::Arc;

use super::lower::Draft;
use crate::model::{Activation, Arithmetic, LayerId, Op, Source, Weights};

/// The fused layers, in the same order, and where the exits' logits are now.
pub fn fuse<'a>(mut drafts: Vec<Draft<'a>>, exits: Vec<Source>) -> (Vec<Draft<'a>>, Vec<Source>) {
    take_in_padding(&mut drafts);
    let uses = uses(&drafts, &exits);
    let mut placed: Vec<Draft<'a>> = Vec::with_capacity(drafts.len());
    // What each draft's output is called among the placed ones. Unused drafts get no name, for nobody asks.
    let mut renamed: Vec<Source> = Vec::with_capacity(drafts.len());
    // Which placed ones write in another shape than their op computes.
    let mut reshaped: Vec<bool> = Vec::with_capacity(drafts.len());
    let rename = |renamed: &[Source], source: Source| match source {
        Source::Input => Source::Input,
        Source::Layer(LayerId(id)) => renamed[id],
    };
    for (id, mut draft) in drafts.into_iter().enumerate() {
        if uses[id] == 0 {
            renamed.push(Source::Input);
            continue;
        }
        let unshared = |&input: &Source| matches!(input, Source::Layer(LayerId(before)) if uses[before] == 1);
        let summands: Vec<bool> = draft.inputs.iter().map(unshared).collect();
        let alone = matches!(draft.inputs[..], [Source::Layer(LayerId(before))] if uses[before] == 1);
        draft.inputs.iter_mut().for_each(|input| *input = rename(&renamed, *input));
        if let (true, &[Source::Layer(before)]) = (alone, draft.inputs.as_slice())
            && !(reshaped[before.0] && lies_otherwise(&placed[before.0], &draft))
            && absorb(&mut placed[before.0], &draft)
        {
            reshaped[before.0] |= matches!(draft.op, Op::Reshape);
            placed[before.0].nodes.extend(draft.nodes);
            renamed.push(Source::Layer(before));
        } else if let Some(conv) = take_in_sum(&mut placed, &draft, &summands, &reshaped) {
            placed[conv].nodes.extend(draft.nodes);
            renamed.push(Source::Layer(LayerId(conv)));
        } else {
            renamed.push(Source::Layer(LayerId(placed.len())));
            placed.push(draft);
            reshaped.push(false);
        }
    }
    let exits = exits.into_iter().map(|exit| rename(&renamed, exit)).collect();
    (placed, exits)
}

/// A convolution pads its input itself, if with zeros. Who else reads the padded tensor still finds it.
fn take_in_padding(drafts: &mut [Draft<'_>]) {
    for id in 0..drafts.len() {
        let (Op::Conv { .. }, &[Source::Layer(LayerId(pad))]) = (&drafts[id].op, &*drafts[id].inputs) else {
            continue;
        };
        let Op::Pad { before, after, value: 0.0 } = &drafts[pad].op else { continue };
        let (&[0, top, left], &[0, bottom, right]) = (before.as_slice(), after.as_slice()) else { continue };
        let inputs = drafts[pad].inputs.clone();
        if let Op::Conv { window, .. } = &mut drafts[id].op {
            for (own, more) in std::iter::zip(&mut window.padding, [top, left, bottom, right]) {
                *own += more;
            }
        }
        drafts[id].inputs = inputs;
    }
}

/// Makes the later one of two summands add the other one, if it is a convolution that only the sum reads: `unshared` says
/// for which of the sum's inputs that is so. The other one is there by then.
fn take_in_sum(
    placed: &mut [Draft<'_>],
    sum: &Draft<'_>,
    unshared: &[bool],
    reshaped: &[bool],
) -> Option<usize> {
    let (Op::Combine { how: Arithmetic::Sum, activation: None }, &[a, b]) = (&sum.op, sum.inputs.as_slice())
    else {
        return None;
    };
    let rank = |source| match source {
        Source::Input => 0,
        Source::Layer(LayerId(id)) => id + 1,
    };
    let (later, other) = if rank(a) > rank(b) { (0, b) } else { (1, a) };
    let (true, Source::Layer(LayerId(conv))) = (unshared[later] && a != b, sum.inputs[later]) else {
        return None;
    };
    let other_shape = match other {
        Source::Input => return None,
        Source::Layer(LayerId(id)) => &placed[id].output,
    };
    if *other_shape != sum.output || placed[conv].output != sum.output || reshaped[conv] {
        return None;
    }
    let draft = &mut placed[conv];
    let Op::Conv { adds: adds @ false, activation: None, .. } = &mut draft.op else { return None };
    *adds = true;
    draft.inputs.push(other);
    Some(conv)
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

/// Whether constants of `next` lie along axes that `draft`, which writes in another shape than it computes, does not have.
fn lies_otherwise(draft: &Draft<'_>, next: &Draft<'_>) -> bool {
    let spread = |op: &Op| matches!(op, Op::Affine { scale, shift, .. } if scale.data.len() > 1 || shift.data.len() > 1);
    matches!(draft.op, Op::Affine { .. }) && spread(&next.op)
}

/// Makes `draft` do what `next`, its only reader, does. `false` if it cannot.
fn absorb(draft: &mut Draft<'_>, next: &Draft<'_>) -> bool {
    match &next.op {
        // Whatever it computes, it can write in another shape.
        Op::Reshape => {
            draft.output = next.output.clone();
            true
        }
        Op::Activation(function) => match (draft.op.activation_mut(), *function) {
            (Some(free @ None), function) => {
                *free = Some(function);
                true
            }
            // Steps on both sides of 0, those below it left out.
            (Some(own @ Some(Activation::Relu)), Activation::Quantize { scale, least, most })
                if most >= 0.0 =>
            {
                *own = Some(Activation::Quantize { scale, least: least.max(0.0), most });
                true
            }
            _ => false,
        },
        Op::Affine { scale, shift, .. }
            if draft.op.activation().is_none() && !draft.op.adds() && draft.output == next.output =>
        {
            absorb_affine(draft, scale, shift)
        }
        _ => false,
    }
}

fn absorb_affine(draft: &mut Draft<'_>, scale: &Arc<Weights>, shift: &Arc<Weights>) -> bool {
    let output = draft.output.0.as_slice();
    match &mut draft.op {
        Op::Conv { weight, bias, .. } => {
            let channels = weight.shape.first();
            let is_own = |shape: &[usize]| {
                shape.len() == output.len()
                    && shape.first() == channels
                    && shape[1..].iter().all(|&side| side == 1)
            };
            // Also where it writes lines: the first axis is the channels' as long as it is as long.
            let fits = output.len() > 1 && output.first() == channels && fit(scale, shift, is_own);
            if fits {
                fold_into_weights(weight, bias, scale, shift);
            }
            fits
        }
        Op::Linear { weight, bias, .. } => {
            let features = weight.shape.first();
            let fits = output.last() == features
                && fit(scale, shift, |shape| matches!(shape, [f] if Some(f) == features));
            if fits {
                fold_into_weights(weight, bias, scale, shift);
            }
            fits
        }
        Op::Affine { scale: first, shift: offset, .. } => {
            let both = composed([first, offset], [scale, shift]);
            if let Some(both) = &both {
                [*first, *offset] = both.clone();
            }
            both.is_some()
        }
        Op::LayerNorm { shape, weight, bias, .. } => {
            let own = |weights: &Option<Arc<Weights>>, otherwise| {
                weights.clone().unwrap_or_else(|| filled(shape, otherwise))
            };
            // Single values would have to be spread over all places: no saving.
            let spread = scale.data.len() > 1 || shift.data.len() > 1;
            let fits = spread && fit(scale, shift, |own| own == shape.as_slice());
            if !fits {
                return false;
            }
            let both = composed([&own(weight, 1.0), &own(bias, 0.0)], [scale, shift]);
            if let Some([scale, shift]) = &both {
                (*weight, *bias) = (Some(scale.clone()), Some(shift.clone()));
            }
            both.is_some()
        }
        _ => false,
    }
}

/// Whether both constants are single values or of a fitting shape.
fn fit(scale: &Weights, shift: &Weights, fitting: impl Fn(&[usize]) -> bool) -> bool {
    [scale, shift].iter().all(|weights| weights.data.len() == 1 || fitting(&weights.shape))
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

/// `scale * (first * x + offset) + shift`, written as one scale and one shift; `None` unless all constants that are not
/// single values have one shape.
fn composed([first, offset]: [&Weights; 2], [scale, shift]: [&Weights; 2]) -> Option<[Arc<Weights>; 2]> {
    let all = [first, offset, scale, shift];
    let largest = all.into_iter().max_by_key(|weights| weights.data.len())?;
    if !all.iter().all(|weights| weights.data.len() == 1 || weights.shape == largest.shape) {
        return None;
    }
    let weights = |value: &dyn Fn(usize) -> f64| {
        let data = (0..largest.data.len()).map(|place| value(place) as f32).collect();
        Arc::new(Weights { shape: largest.shape.clone(), data })
    };
    Some([
        weights(&|place| at(first, place) * at(scale, place)),
        weights(&|place| at(offset, place) * at(scale, place) + at(shift, place)),
    ])
}

fn filled(shape: &[usize], value: f32) -> Arc<Weights> {
    let data = vec![value; shape.iter().product()];
    Arc::new(Weights { shape: shape.to_vec(), data })
}

/// The value for a channel; a single value counts for all.
fn at(weights: &Weights, channel: usize) -> f64 {
    f64::from(if weights.data.len() == 1 { weights.data[0] } else { weights.data[channel] })
}
