//! A backend with given layer times and made-up arithmetic: tests the other rooms without libtorch and without waiting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Backend;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Result};
use coprof_core::model::{Graph, LayerId, Source};

/// Takes `times[layer]` of its clock for each layer. Each output value depends on every input value, so that a lost,
/// swapped or altered tensor shows in the answers.
pub struct FakeBackend<C> {
    graph: Arc<Graph>,
    times: Vec<Duration>,
    clock: C,
    tensors: BTreeMap<Source, Vec<f32>>,
}

impl<C: Clock> FakeBackend<C> {
    /// `times` holds one span per layer of `graph`.
    pub fn new(graph: Arc<Graph>, times: Vec<Duration>, clock: C) -> Self {
        assert_eq!(times.len(), graph.layers.len(), "one time per layer");
        Self { graph, times, clock, tensors: BTreeMap::new() }
    }
}

impl<C: Clock> Backend for FakeBackend<C> {
    fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    fn clear(&mut self) {
        self.tensors.clear();
    }

    fn put(&mut self, tensor: Source, values: &[f32]) -> Result<()> {
        let expected = self.graph.shape(tensor).elements();
        if values.len() != expected {
            return Err(Error::failed(format!(
                "a tensor of {expected} values was expected, found {}",
                values.len()
            )));
        }
        self.tensors.insert(tensor, values.to_vec());
        Ok(())
    }

    fn run(&mut self, layers: &[LayerId]) -> Result<()> {
        for &id in layers {
            let layer = self.graph.layer(id);
            let mut state = id.0 as u32;
            for source in &layer.inputs {
                let values = self.tensors.get(source).ok_or_else(|| {
                    Error::failed(format!(
                        "{} ran before its input {}",
                        layer.name,
                        self.graph.tensor_name(*source)
                    ))
                })?;
                for value in values {
                    state = (state.rotate_left(5) ^ value.to_bits()).wrapping_mul(0x9E37_79B9);
                }
            }
            // Small non-negative numbers: they survive as pixels and as half-precision floats.
            let output = (0..layer.output.elements() as u32).map(|i| {
                ((state ^ i.wrapping_mul(0x85EB_CA6B)).wrapping_mul(0xC2B2_AE35) >> 24) as f32 / 16.0
            });
            self.tensors.insert(Source::Layer(id), output.collect());
            self.clock.sleep_until(self.clock.now() + self.times[id.0]);
        }
        Ok(())
    }

    fn run_keeping(&mut self, layers: &[LayerId], kept: &[Source]) -> Result<()> {
        self.run(layers)?;
        let read = layers.iter().flat_map(|&id| &self.graph.layer(id).inputs);
        read.filter(|source| !kept.contains(source)).for_each(|source| drop(self.tensors.remove(source)));
        Ok(())
    }

    fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()> {
        let values = self
            .tensors
            .get(&tensor)
            .ok_or_else(|| Error::failed(format!("no {} in this task", self.graph.tensor_name(tensor))))?;
        into.clear();
        into.extend_from_slice(values);
        Ok(())
    }
}
