//! Runs of a plan.

use serde::{Deserialize, Serialize};

use coprof_core::plan::Plan;

/// Asks node `node` of `plan` to take tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct RunRequest {
    pub plan: Plan,
    pub node: usize,
    /// The most tasks that the client will have under way.
    pub in_flight: usize,
}
