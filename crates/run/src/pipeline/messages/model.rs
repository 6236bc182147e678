//! The model that a session is about.

use serde::{Deserialize, Serialize};

use coprof_core::model::ModelHash;

/// The model that the next requests are about.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct ModelOffer {
    pub name: String,
    pub hash: ModelHash,
    /// The file's size.
    pub bytes: usize,
}
