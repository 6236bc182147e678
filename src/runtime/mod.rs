//! What runs layers: libtorch, or in a program without it stand-ins that refuse, so that nothing else knows the difference.

#[cfg(feature = "torch")]
pub use coprof_torch::{ComputeThread, DenseSolver, TorchBackend, TorchDevice};

#[cfg(not(feature = "torch"))]
mod absent;
#[cfg(not(feature = "torch"))]
pub use absent::{ComputeThread, DenseSolver, TorchBackend, TorchDevice};

use coprof_core::error::Result;

/// Errors where layers cannot be run at all: asked before anything is measured.
pub fn check() -> Result<()> {
    #[cfg(not(feature = "torch"))]
    return Err(absent::refusal());
    #[cfg(feature = "torch")]
    Ok(())
}
