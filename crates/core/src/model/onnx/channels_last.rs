//! Inputs that lie channels-last, as TensorFlow's do: its exporters turn them in front of the first convolution. Taken channels
//! first, nothing is turned, and whoever looks for channels finds them where all others have them.

use std::sync::Arc;

use super::lower::Draft;
use crate::model::{LayerId, Op, Shape, Source, Weights};

/// An input `[height, width, channels]` as `[channels, height, width]`, if all that reads it turns it so, functions of single
/// values aside. What turned it is then read by nobody.
pub fn taken_channels_first(input: &Shape, drafts: &mut [Draft<'_>], answers: &[Source]) -> Option<Shape> {
    let &[height, width, channels] = input.0.as_slice() else { return None };
    let turned = Shape(vec![channels, height, width]);
    // Which drafts write channels-last what they read so.
    let mut lies_so = vec![false; drafts.len()];
    let mut is_turned = false;
    for id in 0..drafts.len() {
        let last = |source: &Source| match source {
            Source::Input => true,
            Source::Layer(LayerId(before)) => lies_so[*before],
        };
        let draft = &drafts[id];
        if !draft.inputs.iter().any(last) {
            continue;
        }
        if answers.contains(&Source::Layer(LayerId(id))) {
            return None;
        }
        match &draft.op {
            Op::Transpose { order } if *order == [2, 0, 1] => is_turned = true,
            Op::Activation(_) if draft.output == *input => lies_so[id] = true,
            Op::Affine { scale, shift, .. } if draft.output == *input => {
                [scale, shift].into_iter().all(|held| per_channel(held, channels).is_some()).then_some(())?;
                lies_so[id] = true;
            }
            _ => return None,
        }
    }
    is_turned.then_some(())?;
    for id in 0..drafts.len() {
        let (before, from_here) = drafts.split_at_mut(id);
        let draft = &mut from_here[0];
        if lies_so[id] {
            draft.output = turned.clone();
            if let Op::Affine { scale, shift, .. } = &mut draft.op {
                for held in [scale, shift] {
                    *held = per_channel(held, channels)?;
                }
            }
        }
        // Who read what was turned reads what lies so already.
        for source in &mut draft.inputs {
            if let Source::Layer(LayerId(from)) = *source
                && let (Op::Transpose { .. }, &[origin]) = (&before[from].op, before[from].inputs.as_slice())
                && (origin == Source::Input || matches!(origin, Source::Layer(LayerId(at)) if lies_so[at]))
            {
                *source = origin;
            }
        }
    }
    Some(turned)
}

/// A constant of the last axis as one of the first of three; a single value stays what it is.
fn per_channel(held: &Arc<Weights>, channels: usize) -> Option<Arc<Weights>> {
    match held.data.len() {
        1 => Some(held.clone()),
        count if count == channels && held.shape.last() == Some(&channels) => {
            Some(Arc::new(Weights { shape: vec![channels, 1, 1], data: held.data.clone() }))
        }
        _ => None,
    }
}
