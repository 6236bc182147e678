//! Who measures when.

use serde::{Deserialize, Serialize};

/// What stands between a client and its turn.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Waiting {
    /// How many come before it, the one that measures included.
    pub before: usize,
}
