//! Edgent in a static environment: right-sizing and partition (E. Li, Z. Zhou, X. Chen: "Edge Intelligence: On-Demand Deep
//! Learning Model Co-Inference with Device-Edge Synergy", MECOMM 2018; the same search in their journal version of 2019).
//!
//! The rule: from the last exit to the first, truncate the network there and find the partition with the least latency; the
//! first exit whose partition meets the deadline is taken, since later exits are the more accurate ones. Features cross as
//! they are.
//!
//! Interpreted: without a deadline every exit meets it, so the final exit is taken, and the plan is Neurosurgeon's. Where no
//! exit meets the deadline the paper's search returns nothing; here it is the quickest plan that it has seen, so that a
//! comparison shows by how much it misses.

use super::super::plan::Plan;
use super::super::space::Space;
use super::one_way::{OneWay, is_raw, plans};

pub(super) fn choose(space: &Space<'_>) -> Option<Plan> {
    let deadline = space.scenario.constraints.max_latency_us.map_or(f64::INFINITY, |most| most.0);
    let mut quickest: Option<OneWay> = None;
    for exit in (0..space.needs.len()).rev() {
        let Some(best) = OneWay::least(space, plans(space, exit, is_raw), OneWay::latency) else { continue };
        if best.latency() <= deadline {
            return Some(best.plan);
        }
        if quickest.as_ref().is_none_or(|kept| best.latency() < kept.latency()) {
            quickest = Some(best);
        }
    }
    quickest.map(|best| best.plan)
}
