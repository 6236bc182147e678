//! What the edge needs from the rest of coprof, and what its connections share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::Deadlines;
use super::key::{Grant, MAX_MODELS};
use super::messages::{NodeProfile, ProfileRequest};
use super::turns::Turns;
use crate::backend::Backend;
use crate::measure::{HostFacts, Watch};
use coprof_core::clock::Clock;
use coprof_core::error::Result;
use coprof_core::model::ModelHash;

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
    /// Whose key sent it; `None` where there are no keys.
    owner: Option<String>,
    hash: ModelHash,
    name: String,
    file: Arc<[u8]>,
}

impl Shared {
    pub fn new(services: Arc<dyn Services>, deadlines: Deadlines) -> Self {
        Self { services, deadlines, turns: Turns::default(), models: Mutex::default() }
    }

    /// A model that is here: bundled, or sent earlier with the same key. Others' models are theirs: whoever knows a hash need not
    /// have the file.
    pub fn find_model(&self, grant: Option<&Grant>, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        let owner = grant.map(|grant| &grant.name);
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |model: &KeptModel| model.hash == *hash && model.owner.as_ref() == owner;
        if let Some(at) = models.iter().position(is_it) {
            // To the back, as the one used last.
            let model = models.remove(at)?;
            let found = (model.name.clone(), Arc::clone(&model.file));
            models.push_back(model);
            return Some(found);
        }
        drop(models);
        self.services.bundled(hash)
    }

    /// Keeps a model for later connections with the same key, at the cost of those of this key that were not used for longest; where
    /// all together take too much memory, of whoever has most.
    pub fn keep_model(&self, grant: Option<&Grant>, hash: ModelHash, name: String, file: Arc<[u8]>) {
        let (owner, most) =
            grant.map_or((None, MAX_MODELS), |grant| (Some(grant.name.clone()), grant.models));
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.hash != hash || model.owner != owner);
        models.push_back(KeptModel { owner: owner.clone(), hash, name, file });
        while models.iter().filter(|model| model.owner == owner).count() > most {
            remove_oldest(&mut models, &owner);
        }
        let bytes = |models: &VecDeque<KeptModel>, owner: &Option<String>| -> usize {
            models.iter().filter(|model| model.owner == *owner).map(|model| model.file.len()).sum()
        };
        while models.iter().map(|model| model.file.len()).sum::<usize>() > MAX_KEPT_BYTES {
            let heaviest = models.iter().map(|model| &model.owner).max_by_key(|owner| bytes(&models, owner));
            let Some(heaviest) = heaviest.cloned() else { return };
            remove_oldest(&mut models, &heaviest);
        }
    }
}

fn remove_oldest(models: &mut VecDeque<KeptModel>, owner: &Option<String>) {
    let oldest = models.iter().position(|model| model.owner == *owner);
    oldest.and_then(|at| models.remove(at));
}
