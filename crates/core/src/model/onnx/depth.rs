//! Tells exits from other outputs by where they hang on the network.

use super::lower::Draft;
use crate::model::{LayerId, Op, Source};

/// Whether outputs of as many classes are exits: each has a head of its own and needs all that the one before it shares with
/// later ones, and more; and the last one lies deepest. Two heads at the same depth answer two questions, and a deeper one in
/// front is no side exit.
pub fn are_exits(drafts: &[Draft<'_>], outputs: &[Source]) -> bool {
    let [side @ .., last] = outputs else { return false };
    let (needs, depths) =
        (outputs.iter().map(|&output| needed(drafts, output)).collect::<Vec<_>>(), depths(drafts));
    let depth = |output: Source| place(output).map_or(0, |id| depths[id]);
    let mut shared_before = 0;
    side.iter().enumerate().all(|(at, &output)| {
        let later = &needs[at + 1..];
        let shared: Vec<usize> =
            (0..drafts.len()).filter(|&id| needs[at][id] && later.iter().any(|later| later[id])).collect();
        let has_head = place(output).is_some_and(|id| !shared.contains(&id));
        let goes_on = shared.len() > std::mem::replace(&mut shared_before, shared.len());
        let all_need_it = later.iter().all(|later| shared.iter().all(|&id| later[id]));
        has_head && goes_on && all_need_it && depth(output) < depth(*last)
    })
}

fn place(source: Source) -> Option<usize> {
    match source {
        Source::Input => None,
        Source::Layer(LayerId(id)) => Some(id),
    }
}

/// Which drafts an output needs.
fn needed(drafts: &[Draft<'_>], output: Source) -> Vec<bool> {
    let mut needed = vec![false; drafts.len()];
    if let Some(id) = place(output) {
        needed[id] = true;
    }
    for id in (0..drafts.len()).rev().filter(|&id| place(output).is_some_and(|last| id <= last)) {
        if needed[id] {
            drafts[id].inputs.iter().filter_map(|&input| place(input)).for_each(|input| needed[input] = true);
        }
    }
    needed
}

/// The most layers that multiply on any way to each draft, itself included.
fn depths(drafts: &[Draft<'_>]) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let before = draft.inputs.iter().filter_map(|&input| place(input)).map(|input| depths[input]).max();
        let own = usize::from(matches!(draft.op, Op::Conv { .. } | Op::Linear { .. } | Op::MatMul));
        depths.push(before.unwrap_or(0) + own);
    }
    depths
}
