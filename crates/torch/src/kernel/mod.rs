//! One layer prepared for libtorch: weights on the device, in the layout that the backend runs in.

mod activation;
mod direct;
mod linear;
mod onednn;
mod prepared;
mod tensors;
mod way;
mod window;

use tch::{Device, TchError, Tensor};

use coprof_core::model::{Layer, Shape};
pub(super) use tensors::Layout;
use tensors::{reshaped, with_batch};
use way::{Way, ways};

/// A layer, and the ways there are to run it in a layout.
pub(super) struct Kernel {
    /// Never empty.
    ways: Vec<Way>,
    chosen: usize,
    /// The output's shape with the batch dimension.
    output: Vec<i64>,
}

impl Kernel {
    /// `input` is the shape of the layer's first input.
    pub fn prepare(layer: &Layer, input: &Shape, device: Device, layout: Layout) -> Result<Self, TchError> {
        let ways = ways(layer, input, device, layout)?;
        Ok(Self { ways, chosen: 0, output: with_batch(&layer.output) })
    }

    /// How many ways there are to run it.
    pub fn ways(&self) -> usize {
        self.ways.len()
    }

    /// Runs it in this way from now on.
    pub fn choose(&mut self, way: usize) {
        self.chosen = way.min(self.ways.len() - 1);
    }

    /// Forgets the ways that are not chosen.
    pub fn settle(&mut self) {
        self.ways.swap(0, self.chosen);
        self.ways.truncate(1);
        self.chosen = 0;
    }

    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let output = self.ways[self.chosen].run(inputs)?;
        if output.size() == self.output { Ok(output) } else { reshaped(&output, &self.output) }
    }
}
