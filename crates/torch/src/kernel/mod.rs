//! One layer prepared for libtorch: weights on the device, in the layout that the backend runs in.

mod activation;
mod algorithm;
mod direct;
mod linear;
mod onednn;
mod prepared;
mod tensors;
mod window;

use tch::{Device, TchError, Tensor};

use algorithm::{Algorithm, algorithms};
use coprof_core::model::{Layer, Shape};
pub(super) use tensors::Layout;
use tensors::{reshaped, with_batch};

/// A layer, and the algorithms that it can run by in a layout.
pub(super) struct Kernel {
    /// Never empty.
    algorithms: Vec<Algorithm>,
    chosen: usize,
    /// The output's shape with the batch dimension.
    output: Vec<i64>,
}

impl Kernel {
    /// `input` is the shape of the layer's first input.
    pub fn prepare(layer: &Layer, input: &Shape, device: Device, layout: Layout) -> Result<Self, TchError> {
        let algorithms = algorithms(layer, input, device, layout)?;
        Ok(Self { algorithms, chosen: 0, output: with_batch(&layer.output) })
    }

    /// How many algorithms it can run by.
    pub fn algorithms(&self) -> usize {
        self.algorithms.len()
    }

    /// Runs by this algorithm from now on.
    pub fn choose(&mut self, algorithm: usize) {
        self.chosen = algorithm.min(self.algorithms.len() - 1);
    }

    /// Forgets the algorithms that are not chosen.
    pub fn settle(&mut self) {
        self.algorithms.swap(0, self.chosen);
        self.algorithms.truncate(1);
        self.chosen = 0;
    }

    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let output = self.algorithms[self.chosen].run(inputs)?;
        if output.size() == self.output { Ok(output) } else { reshaped(&output, &self.output) }
    }
}
