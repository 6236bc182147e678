//! The libtorch backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, TchError, Tensor};

use super::ComputeThread;
use super::autotuning::{Autotuning, fastest};
use super::kernel::{Kernel, Layout};
use coprof_core::error::{Error, Result};
use coprof_core::model::{Graph, LayerId, Source};
use coprof_run::backend::Backend;

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
    /// How often each tensor is still to be read in the run that is on: the input, then the layers' outputs.
    reads: Vec<u32>,
    /// Whether each layer leaves its output channels-last: what is put in its place lies so, too, as the next layer likes it.
    channels_last: Vec<bool>,
    /// A tensor channels-last on its way in or out.
    turned: Vec<f32>,
}

impl TorchBackend {
    /// Puts the model's weights on `device` and picks the faster of the layouts there by running both on the calling thread,
    /// which must be the one that `_thread` stands for.
    pub fn load(graph: Arc<Graph>, device: TorchDevice, _thread: &ComputeThread) -> Result<Self> {
        const BUDGET: Duration = Duration::from_secs(2);
        let plain = Self::with_layout(graph.clone(), device, Layout::Plain)?;
        if device != TorchDevice::CPU {
            return Ok(plain);
        }
        // Not every libtorch and not every processor's oneDNN has all that it takes.
        let channels_last = Self::with_layout(graph.clone(), device, Layout::ChannelsLast);
        let Ok(channels_last) = channels_last.and_then(|mut own| own.settle().map(|()| own)) else {
            return Ok(plain);
        };
        let trunk = graph.trunk();
        let mut algorithms = vec![channels_last, plain];
        let chosen = fastest(&mut algorithms, BUDGET, |algorithm| algorithm.run_on_zeros(&trunk));
        let mut chosen = algorithms.swap_remove(chosen);
        chosen.learn_layouts()?;
        Ok(chosen)
    }

    pub(super) fn with_layout(graph: Arc<Graph>, device: TorchDevice, layout: Layout) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let prepare = |layer: &coprof_core::model::Layer| {
            let first = layer.inputs.first().copied().unwrap_or(Source::Input);
            Kernel::prepare(layer, graph.shape(first), device.0, layout)
                .map_err(|error| failed(&layer.name, &error))
        };
        let kernels = graph.layers.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let outputs = graph.layers.iter().map(|_| None).collect();
        let reads = vec![0; graph.layers.len() + 1];
        let channels_last = vec![false; graph.layers.len()];
        Ok(Self {
            device: device.0,
            kernels,
            input: None,
            outputs,
            reads,
            channels_last,
            turned: Vec::new(),
            graph,
        })
    }

    /// Looks how each layer leaves its output.
    pub(super) fn learn_layouts(&mut self) -> Result<()> {
        self.clear();
        self.put(Source::Input, &vec![0.0; self.graph.input.elements()])?;
        let all: Vec<LayerId> = self.graph.layers_and_kept().into_iter().map(|(id, _)| id).collect();
        self.run(&all)?;
        self.channels_last =
            self.outputs.iter().map(|held| held.as_ref().and_then(places_and_channels).is_some()).collect();
        self.clear();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn lies_channels_last(&self, id: LayerId) -> bool {
        self.outputs[id.0].as_ref().and_then(places_and_channels).is_some()
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

    fn forget(&mut self, tensor: Source) {
        match tensor {
            Source::Input => self.input = None,
            Source::Layer(id) => self.outputs[id.0] = None,
        }
    }

    fn count_reads(&mut self, layers: &[LayerId], kept: &[Source]) {
        self.reads.fill(0);
        let read = layers.iter().flat_map(|id| &self.graph.layers[id.0].inputs);
        read.chain(kept).for_each(|&tensor| self.reads[slot(tensor)] += 1);
    }

    /// Forgets what this layer was the last one to read.
    fn forget_inputs(&mut self, id: LayerId) {
        let graph = Arc::clone(&self.graph);
        for &tensor in &graph.layers[id.0].inputs {
            let left = &mut self.reads[slot(tensor)];
            *left -= 1;
            if *left == 0 {
                self.forget(tensor);
            }
        }
    }

    /// Kernels on a GPU are queued; the clock must not be read before they are done.
    fn finish(&self) {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
    }

    /// Chooses an algorithm for each layer. They are timed where they stand, one layer after another: alone, a layer would find its
    /// input and its output's memory warm.
    fn settle(&mut self) -> Result<()> {
        const BUDGET: Duration = Duration::from_secs(1);
        let algorithms = self.kernels.iter().map(Kernel::algorithms).max().unwrap_or(1);
        let mut tunings: Vec<Autotuning> =
            self.kernels.iter().map(|kernel| Autotuning::of(kernel.algorithms())).collect();
        self.time_layers(algorithms, |_, _, _| ())?;
        let start = Instant::now();
        for round in 0.. {
            if algorithms < 2 || Autotuning::is_over(round, start.elapsed(), BUDGET) {
                break;
            }
            self.time_layers(algorithms, |id, algorithm, time| tunings[id].lap(algorithm, time))?;
            tunings.iter_mut().for_each(Autotuning::end_round);
        }
        for (kernel, autotuning) in self.kernels.iter_mut().zip(&tunings) {
            kernel.choose(autotuning.winner());
            kernel.settle();
        }
        Ok(())
    }

    /// Runs every layer by its algorithm of this number from now on, in its last one where it has fewer.
    pub(super) fn choose(&mut self, algorithm: usize) {
        self.kernels.iter_mut().for_each(|kernel| kernel.choose(algorithm));
    }

    /// Runs all layers on zeros, once by every algorithm.
    fn time_layers(&mut self, algorithms: usize, mut seen: impl FnMut(usize, usize, Duration)) -> Result<()> {
        let layers = self.graph.layers_and_kept();
        for algorithm in 0..algorithms {
            self.choose(algorithm);
            self.clear();
            self.put(Source::Input, &vec![0.0; self.graph.input.elements()])?;
            for (id, kept) in &layers {
                let start = Instant::now();
                self.run_keeping(&[*id], kept)?;
                seen(id.0, algorithm, start.elapsed());
            }
        }
        Ok(())
    }

    fn run_on_zeros(&mut self, layers: &[LayerId]) -> Result<()> {
        self.clear();
        self.put(Source::Input, &vec![0.0; self.graph.input.elements()])?;
        self.run_keeping(layers, &[])
    }
}

/// How many places and channels a tensor has that lies channels-last, and in no other layout at the same time.
fn places_and_channels(tensor: &Tensor) -> Option<(usize, usize)> {
    let &[1, channels, height, width] = tensor.size().as_slice() else { return None };
    let (_, channel, ..) = tensor.stride4().ok()?;
    (channel == 1 && channels > 1 && height * width > 1)
        .then_some(((height * width) as usize, channels as usize))
}

/// A tensor's place among all of a task.
fn slot(tensor: Source) -> usize {
    match tensor {
        Source::Input => 0,
        Source::Layer(id) => id.0 + 1,
    }
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
        let is_turned = matches!(tensor, Source::Layer(id) if self.channels_last[id.0]);
        let shaped = match (is_turned, shape.0.as_slice()) {
            (true, &[channels, height, width]) => {
                self.turned.resize(values.len(), 0.0);
                transpose::transpose(values, &mut self.turned, height * width, channels);
                Tensor::f_from_slice(&self.turned)
                    .and_then(|flat| flat.f_view([1, height as i64, width as i64, channels as i64]))
                    .and_then(|turned| turned.f_permute([0, 3, 1, 2]))
            }
            _ => {
                let sides: Vec<i64> =
                    std::iter::once(1).chain(shape.0.iter().map(|&side| side as i64)).collect();
                Tensor::f_from_slice(values).and_then(|flat| flat.f_view(sides.as_slice()))
            }
        };
        let held = shaped
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
        self.finish();
        Ok(())
    }

    fn run_keeping(&mut self, layers: &[LayerId], kept: &[Source]) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.count_reads(layers, kept);
        for &id in layers {
            self.run_layer(id)?;
            self.forget_inputs(id);
        }
        self.finish();
        Ok(())
    }

    fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()> {
        let elements = self.graph.shape(tensor).elements();
        into.resize(elements, 0.0);
        let mut turned = std::mem::take(&mut self.turned);
        let held = self.tensor(tensor)?;
        let copied = match places_and_channels(held) {
            Some((places, channels)) => {
                turned.resize(elements, 0.0);
                held.f_to(Device::Cpu)
                    .and_then(|held| held.f_permute([0, 2, 3, 1]))
                    .and_then(|held| held.f_contiguous())
                    .and_then(|held| held.f_copy_data(&mut turned, elements))
                    .map(|()| transpose::transpose(&turned, into, channels, places))
            }
            None => held
                .f_to(Device::Cpu)
                .and_then(|held| held.f_contiguous())
                .and_then(|held| held.f_copy_data(into, elements)),
        };
        self.turned = turned;
        copied.map_err(|error| failed(self.graph.tensor_name(tensor), &error))
    }
}

/// libtorch's messages carry a C++ backtrace; only their first line says something to a user.
fn failed(what: &str, error: &TchError) -> Error {
    let text = error.to_string();
    Error::failed(format!("libtorch could not run '{what}': {}", text.lines().next().unwrap_or("no message")))
}
