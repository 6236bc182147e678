//! JALAD (H. Li, C. Hu, J. Jiang, Z. Wang, Y. Wen, W. Zhu: "JALAD: Joint Accuracy- and Latency-Aware Deep Structure
//! Decoupling for Edge-Cloud Execution", ICPADS 2018).
//!
//! The rule: over all pairs of a cut and a bit width, features being quantized uniformly and entropy-coded, the least
//! latency with an accuracy loss of at most Δ; no early exit. The paper solves an integer linear program, which has one
//! choice among these pairs and so is the same as looking at each.
//!
//! Interpreted: Δ is what lies between the uncut model's accuracy and the floor in force. The paper's Huffman codes are
//! `jalad4` and the like; any other lossless coder of the scenario stands for them too. The input crosses exactly, and the
//! device may keep all layers. Where nothing is as accurate as asked, the most accurate plan is taken, of these the quickest.

use super::super::outcomes::Outcomes;
use super::super::plan::Plan;
use super::super::scenario::EncodedFrontier;
use super::super::select::Criteria;
use super::super::space::Space;
use super::super::tally::Tally;
use super::one_way::{OneWay, crossing, is_exact_input, plans};
use crate::codec::{Coder, Element, Encoding, Quantization};

pub(super) fn choose(space: &Space<'_>) -> Option<Plan> {
    let wanted = Criteria::of(space.scenario).min_right;
    // What is right beyond the wanted number counts for nothing.
    let short = |plan: &OneWay| wanted.saturating_sub(right(space, &plan.plan));
    let all = plans(space, space.needs.len() - 1, knows);
    let allowed = all.into_iter().filter_map(|plan| OneWay::new(space, plan));
    let order =
        |a: &OneWay, b: &OneWay| short(a).cmp(&short(b)).then_with(|| a.latency().total_cmp(&b.latency()));
    allowed.min_by(order).map(|best| best.plan)
}

fn knows(row: &EncodedFrontier) -> bool {
    if row.cut.is_empty() {
        return is_exact_input(row.encoding);
    }
    is_quantized_and_coded(row.encoding)
}

/// `jalad4`, `q4+zstd` and the like: what the paper has of the quantizations is one grid from least to greatest value.
fn is_quantized_and_coded(encoding: Encoding) -> bool {
    let Element::Quantized(quantization) = encoding.element else { return false };
    quantization == Quantization::plain(quantization.bits)
        && encoding.kept_percent.is_none()
        && encoding.coder != Coder::Raw
}

/// What the final exit has right behind what crosses, in parts of the scenario's tally.
fn right(space: &Space<'_>, plan: &Plan) -> u32 {
    let last = space.needs.len() - 1;
    let lossy = crossing(plan).and_then(|link| {
        let (path, _) = space.find_row(&space.cut(&link.resume).ok()?, link.encoding).ok()?;
        path.outcomes(space.scenario, last)
    });
    let uncut = &space.scenario.outcomes[last];
    let more = space.scenario.uncut_outcomes.get(last).map_or(0, Outcomes::right_count);
    Tally::of(space.scenario).count(lossy.unwrap_or(uncut).right_count(), uncut.right_count(), more)
}
