//! The same names as libtorch's crate has, in a program that was built without it.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use coprof_core::error::{Error, Result};
use coprof_core::model::{Graph, LayerId, Source};
use coprof_run::backend::Backend;

/// What to say to whoever wants layers run.
pub fn refusal() -> Error {
    Error::failed(
        "this coprof was built without libtorch and runs no layers; it plans from scenarios, sweeps exits, shows encodings and \
         measures links\nfor all else, build it with libtorch, as the README says: without `--no-default-features`",
    )
}

/// Where layers would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorchDevice;

impl TorchDevice {
    /// The processor.
    pub const CPU: Self = Self;
}

impl fmt::Display for TorchDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("cpu")
    }
}

impl FromStr for TorchDevice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        if name == "cpu" {
            return Ok(Self::CPU);
        }
        Err(Error::usage(format!("'{name}': this coprof was built without libtorch and knows only cpu")))
    }
}

/// A thread that computes nothing.
#[derive(Debug)]
pub struct ComputeThread(PhantomData<*const ()>);

impl ComputeThread {
    /// Nothing has to be readied.
    pub fn prepare(_threads: usize, _core: Option<usize>) -> Self {
        Self(PhantomData)
    }
}

/// There is none.
pub enum TorchBackend {}

impl TorchBackend {
    /// Refuses.
    pub fn load(_graph: Arc<Graph>, _device: TorchDevice, _thread: &ComputeThread) -> Result<Self> {
        Err(refusal())
    }
}

impl Backend for TorchBackend {
    fn graph(&self) -> &Arc<Graph> {
        match *self {}
    }
    fn clear(&mut self) {
        match *self {}
    }
    fn put(&mut self, _tensor: Source, _values: &[f32]) -> Result<()> {
        match *self {}
    }
    fn run(&mut self, _layers: &[LayerId]) -> Result<()> {
        match *self {}
    }
    fn get(&mut self, _tensor: Source, _into: &mut Vec<f32>) -> Result<()> {
        match *self {}
    }
}

/// Solves nothing.
#[derive(Default)]
pub struct DenseSolver(());

impl DenseSolver {
    /// Refuses.
    pub fn solve(&mut self, _n: usize) -> Result<()> {
        Err(refusal())
    }
}
