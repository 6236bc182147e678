//! The libtorch backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, TchError, Tensor};

use super::Backend;
use super::kernel::{Kernel, Layout, dense};
use crate::error::{Error, Result};
use crate::model::{Graph, LayerId, Source};

/// Where layers run: `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorchDevice(Device);

impl TorchDevice {
    /// The processor.
    pub const CPU: Self = Self(Device::Cpu);
}

impl std::fmt::Display for TorchDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Device::Cuda(index) => f.pad(&format!("cuda:{index}")),
            _ => f.pad("cpu"),
        }
    }
}

impl std::str::FromStr for TorchDevice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let cuda = || name.strip_prefix("cuda:").or((name == "cuda").then_some("0"))?.parse::<usize>().ok();
        match name {
            "cpu" => Ok(Self::CPU),
            _ => match cuda() {
                Some(index) if (index as i64) < tch::Cuda::device_count() => Ok(Self(Device::Cuda(index))),
                Some(_) => Err(Error::usage(format!(
                    "{name}: this libtorch sees {} CUDA devices; use cpu",
                    tch::Cuda::device_count().max(0)
                ))),
                None => Err(Error::usage(format!("'{name}' is no device; use cpu or cuda:N"))),
            },
        }
    }
}

/// Runs layers through libtorch.
pub struct TorchBackend {
    graph: Arc<Graph>,
    device: Device,
    kernels: Vec<Kernel>,
    input: Option<Tensor>,
    outputs: Vec<Option<Tensor>>,
}

impl TorchBackend {
    /// Puts the model's weights on `device` and picks the faster of the layouts there by running both.
    pub fn load(graph: Arc<Graph>, device: TorchDevice) -> Result<Self> {
        let plain = Self::with_layout(graph.clone(), device, Layout::Plain)?;
        if device != TorchDevice::CPU {
            return Ok(plain);
        }
        // Not every processor's oneDNN has every layer in its own layout; what fails to run there is no candidate.
        let Ok(blocked) = Self::with_layout(graph, device, Layout::Blocked) else { return Ok(plain) };
        faster(plain, blocked)
    }

    fn with_layout(graph: Arc<Graph>, device: TorchDevice, layout: Layout) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let prepare = |layer: &crate::model::Layer| {
            let first = layer.inputs.first().copied().unwrap_or(Source::Input);
            Kernel::prepare(layer, graph.shape(first), device.0, layout)
                .map_err(|error| failed(&layer.name, &error))
        };
        let kernels = graph.layers.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let outputs = graph.layers.iter().map(|_| None).collect();
        Ok(Self { device: device.0, kernels, input: None, outputs, graph })
    }

    fn tensor(&self, source: Source) -> Result<&Tensor> {
        let held = match source {
            Source::Input => self.input.as_ref(),
            Source::Layer(id) => self.outputs[id.0].as_ref(),
        };
        held.ok_or_else(|| {
            Error::failed(format!("'{}' was read before it was there", self.graph.tensor_name(source)))
        })
    }

    fn run_layer(&mut self, id: LayerId) -> Result<()> {
        let layer = &self.graph.layers[id.0];
        let inputs = layer.inputs.iter().map(|&source| self.tensor(source)).collect::<Result<Vec<_>>>()?;
        let output = self.kernels[id.0].run(&inputs).map_err(|error| failed(&layer.name, &error))?;
        self.outputs[id.0] = Some(output);
        Ok(())
    }

    /// The time of one pass over the trunk on zeros.
    fn time_trunk(&mut self, trunk: &[LayerId]) -> Result<Duration> {
        self.clear();
        self.put(Source::Input, &vec![0.0; self.graph.input.elements()])?;
        let start = Instant::now();
        self.run(trunk)?;
        Ok(start.elapsed())
    }
}

/// Runs both in turn and keeps the one that is faster in most of the pairs: a host whose speed drifts is equally fast for
/// the two halves of a pair.
fn faster(mut plain: TorchBackend, mut blocked: TorchBackend) -> Result<TorchBackend> {
    const PAIRS: usize = 41;
    const BUDGET: Duration = Duration::from_secs(2);
    let trunk = plain.graph.trunk();
    let (mut pairs, mut blocked_wins) = (0, 0);
    let start = Instant::now();
    while pairs < PAIRS && (pairs < 3 || start.elapsed() < BUDGET) {
        let plain_time = plain.time_trunk(&trunk)?;
        let Ok(blocked_time) = blocked.time_trunk(&trunk) else { return Ok(plain) };
        pairs += 1;
        blocked_wins += usize::from(blocked_time < plain_time);
    }
    let mut chosen = if 2 * blocked_wins > pairs { blocked } else { plain };
    chosen.clear();
    Ok(chosen)
}

impl Backend for TorchBackend {
    fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    fn clear(&mut self) {
        self.input = None;
        self.outputs.fill_with(|| None);
    }

    fn put(&mut self, tensor: Source, values: &[f32]) -> Result<()> {
        let shape = self.graph.shape(tensor);
        if values.len() != shape.elements() {
            let name = self.graph.tensor_name(tensor);
            return Err(Error::failed(format!(
                "{name} has {} values, found {}",
                shape.elements(),
                values.len()
            )));
        }
        let sides: Vec<i64> = std::iter::once(1).chain(shape.0.iter().map(|&side| side as i64)).collect();
        let held = Tensor::f_from_slice(values)
            .and_then(|flat| flat.f_view(sides.as_slice()))
            .and_then(|shaped| shaped.f_to(self.device))
            .map_err(|error| failed(self.graph.tensor_name(tensor), &error))?;
        match tensor {
            Source::Input => self.input = Some(held),
            Source::Layer(id) => self.outputs[id.0] = Some(held),
        }
        Ok(())
    }

    fn run(&mut self, layers: &[LayerId]) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for &id in layers {
            self.run_layer(id)?;
        }
        if let Device::Cuda(index) = self.device {
            // Kernels are queued; the clock must not be read before they are done.
            tch::Cuda::synchronize(index as i64);
        }
        Ok(())
    }

    fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()> {
        let elements = self.graph.shape(tensor).elements();
        into.resize(elements, 0.0);
        let held = self.tensor(tensor)?;
        dense(held)
            .and_then(|held| held.f_to(Device::Cpu))
            .and_then(|held| held.f_contiguous())
            .and_then(|held| held.f_copy_data(into, elements))
            .map_err(|error| failed(self.graph.tensor_name(tensor), &error))
    }
}

/// libtorch's messages carry a C++ backtrace; only their first line says something to a user.
fn failed(what: &str, error: &TchError) -> Error {
    let text = error.to_string();
    Error::failed(format!("libtorch could not run '{what}': {}", text.lines().next().unwrap_or("no message")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cut;

    const MODEL: &[u8] = include_bytes!("../../models/alexnet.onnx");
    const REFERENCE: &str = include_str!("../../models/alexnet.reference.json");

    /// ONNX Runtime's logits on made-up pixels; `models/train/reference.py` writes the file.
    #[derive(serde::Deserialize)]
    struct Reference {
        model_sha256: String,
        seed: u64,
        exits: Vec<ReferenceExit>,
    }

    #[derive(serde::Deserialize)]
    struct ReferenceExit {
        name: String,
        logits: Vec<Vec<f32>>,
    }

    fn graph() -> Arc<Graph> {
        Arc::new(Graph::from_onnx("alexnet", MODEL).unwrap())
    }

    /// The generator that `reference.py` documents.
    fn pixels(state: &mut u64, count: usize) -> Vec<f32> {
        let mut next = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 56) as f32
        };
        (0..count).map(|_| next()).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32], what: &str) {
        let scale = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= 1e-4 * scale, "{what}: {found:?} for {expected:?}");
    }

    #[test]
    fn every_exit_answers_as_onnx_runtime_does_in_every_layout() {
        let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
        let graph = graph();
        assert_eq!(reference.model_sha256, graph.hash.0, "the reference is of another model");
        for layout in [Layout::Plain, Layout::Blocked] {
            let mut backend = TorchBackend::with_layout(graph.clone(), TorchDevice::CPU, layout).unwrap();
            let mut state = reference.seed;
            for image in 0..reference.exits[0].logits.len() {
                backend.clear();
                backend.put(Source::Input, &pixels(&mut state, graph.input.elements())).unwrap();
                backend.run(&graph.layer_ids().collect::<Vec<_>>()).unwrap();
                for (exit, expected) in graph.exits.iter().zip(&reference.exits) {
                    assert_eq!(exit.name, expected.name);
                    let mut logits = Vec::new();
                    backend.get(Source::Layer(exit.logits), &mut logits).unwrap();
                    assert_close(&logits, &expected.logits[image], &format!("{} {layout:?}", exit.name));
                }
            }
        }
    }

    #[test]
    fn the_rest_behind_any_cut_answers_as_the_whole() {
        let graph = graph();
        let logits = Source::Layer(graph.exits[graph.final_exit().0].logits);
        for layout in [Layout::Plain, Layout::Blocked] {
            let mut backend = TorchBackend::with_layout(graph.clone(), TorchDevice::CPU, layout).unwrap();
            let (mut whole, mut found) = (Vec::new(), Vec::new());
            backend.put(Source::Input, &pixels(&mut 1, graph.input.elements())).unwrap();
            backend.run(&graph.trunk()).unwrap();
            backend.get(logits, &mut whole).unwrap();
            for cut in Cut::along_trunk(&graph) {
                let frontier = cut.frontier(&graph, &[]);
                backend.clear();
                backend.put(Source::Input, &pixels(&mut 1, graph.input.elements())).unwrap();
                backend.run(cut.layers()).unwrap();
                let mut tensors = vec![Vec::new(); frontier.len()];
                for (&source, values) in frontier.iter().zip(&mut tensors) {
                    backend.get(source, values).unwrap();
                }
                if frontier.is_empty() {
                    continue;
                }
                backend.clear();
                for (&source, values) in frontier.iter().zip(&tensors) {
                    backend.put(source, values).unwrap();
                }
                backend.run(&cut.rest(&graph)).unwrap();
                backend.get(logits, &mut found).unwrap();
                assert_close(&found, &whole, &format!("{:?} {layout:?}", cut.tip_names(&graph)));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let graph = graph();
        let mut backend = TorchBackend::with_layout(graph.clone(), TorchDevice::CPU, Layout::Plain).unwrap();
        let missing = backend.run(&[graph.trunk()[1]]).unwrap_err();
        assert!(missing.to_string().contains("before it was there"), "{missing}");
        let short = backend.put(Source::Input, &[0.0; 7]).unwrap_err();
        assert!(short.to_string().contains("3072 values, found 7"), "{short}");
        assert_eq!("tpu".parse::<TorchDevice>().unwrap_err().exit_code(), 2);
        assert_eq!("cuda:99".parse::<TorchDevice>().unwrap_err().exit_code(), 2);
    }
}
