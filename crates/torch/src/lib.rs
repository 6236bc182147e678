//! Runs layers on libtorch, oneDNN and kernels of coprof's own. The only crate that names tch; the others see
//! [`Backend`](coprof_run::backend::Backend).

mod autotuning;
mod host;
mod kernel;
mod torch;
#[cfg(test)]
mod torch_tests;

pub use host::{ComputeThread, DenseSolver, thread_state};
pub use torch::{TorchBackend, TorchDevice};
