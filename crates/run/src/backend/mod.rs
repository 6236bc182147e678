//! What runs layers: the trait, and a stand-in with given times. The real ones live in other crates.

mod fake;

pub use fake::FakeBackend;

use std::sync::Arc;

use coprof_core::error::Result;
use coprof_core::model::{Graph, LayerId, Source};

/// Runs layers of one model, one task (one sample) at a time. Holds the task's tensors between calls.
///
/// Values cross as `f32`, row-major, without the batch dimension; shapes are the graph's.
pub trait Backend: Send {
    /// The model that it runs.
    fn graph(&self) -> &Arc<Graph>;
    /// Forgets the tensors of the last task.
    fn clear(&mut self);
    /// Gives a tensor of this task. Errors unless `values` has the tensor's number of elements.
    fn put(&mut self, tensor: Source, values: &[f32]) -> Result<()>;
    /// Runs `layers` in this order; each layer's inputs must be there. Finished (synchronised) on return.
    fn run(&mut self, layers: &[LayerId]) -> Result<()>;
    /// The same for layers whose inputs are of no use afterwards, save those in `kept`: the others may be forgotten as soon
    /// as the last of these layers has read them. Memory that is soon used again is still in the processor's caches.
    fn run_keeping(&mut self, layers: &[LayerId], kept: &[Source]) -> Result<()> {
        let _ = kept;
        self.run(layers)
    }
    /// Reads a tensor of this task into `into`, replacing what it held.
    fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()>;
}
