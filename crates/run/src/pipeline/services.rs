//! What the edge needs from the rest of coprof, and what its connections share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::Deadlines;
use super::messages::{NodeProfile, ProfileRequest};
use super::turns::Turns;
use crate::backend::Backend;
use crate::measure::{HostFacts, Watch};
use coprof_core::clock::Clock;
use coprof_core::error::Result;
use coprof_core::model::ModelHash;

/// Models of earlier connections that are kept.
const MAX_MODELS: usize = 4;

/// The largest model file that is taken, here and on the command line: VGG-16 for 224×224 has 528 MiB.
pub const MAX_MODEL_BYTES: usize = 1 << 30;

/// The most memory for kept models.
const MAX_KEPT_BYTES: usize = 1 << 30;

/// What the edge needs from the rest of coprof.
pub trait Services: Send + Sync {
    /// A backend for the model `name` (for people only) read from the bytes of its file.
    fn backend(&self, name: &str, file: &[u8]) -> Result<Box<dyn Backend>>;
    /// A model that needs no sending: its name and file.
    fn bundled(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)>;
    /// Measures the backend as `request` asks. `watch` ends it once nobody waits for it.
    fn profile(
        &self,
        backend: &mut dyn Backend,
        request: &ProfileRequest,
        watch: &mut Watch<'_>,
    ) -> Result<NodeProfile>;
    /// What this host is.
    fn host(&self) -> HostFacts;
    /// Called on each thread that computes, before it does.
    fn pin(&self);
    /// Tells what such a thread did itself, where that says how busy it was.
    fn clock(&self) -> Box<dyn Clock>;
}

/// What all connections of a server share.
pub(super) struct Shared {
    pub services: Arc<dyn Services>,
    pub deadlines: Deadlines,
    pub turns: Turns,
    models: Mutex<VecDeque<KeptModel>>,
}

struct KeptModel {
    hash: ModelHash,
    name: String,
    file: Arc<[u8]>,
}

impl Shared {
    pub fn new(services: Arc<dyn Services>, deadlines: Deadlines) -> Self {
        Self { services, deadlines, turns: Turns::default(), models: Mutex::default() }
    }

    /// A model that is here: bundled, or sent earlier.
    pub fn find_model(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = models.iter().position(|model| model.hash == *hash) {
            // To the back, as the one used last.
            let model = models.remove(at)?;
            let found = (model.name.clone(), Arc::clone(&model.file));
            models.push_back(model);
            return Some(found);
        }
        drop(models);
        self.services.bundled(hash)
    }

    /// Keeps a model for later connections, at the cost of those that were not used for longest.
    pub fn keep_model(&self, hash: ModelHash, name: String, file: Arc<[u8]>) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.hash != hash);
        models.push_back(KeptModel { hash, name, file });
        while models.len() > MAX_MODELS
            || models.iter().map(|model| model.file.len()).sum::<usize>() > MAX_KEPT_BYTES
        {
            models.pop_front();
        }
    }
}
