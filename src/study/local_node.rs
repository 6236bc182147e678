//! This machine as a node: its facts, its threads, and the envelope of what it measures.

use std::num::NonZero;
use std::sync::Arc;
use std::time::SystemTime;

use crate::report::{Emulation, Envelope, timestamp};
use crate::runtime::{ComputeThread, TorchBackend, TorchDevice};
use coprof_core::clock::{Clock, SystemClock, WallClock};
use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_core::model::Graph;
use coprof_run::backend::Backend;
use coprof_run::measure::{HostFacts, cores};

/// How layers are to run on this machine.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Threads per layer.
    pub threads: u16,
    /// The core to pin to. `None`: one is chosen.
    pub core: Option<usize>,
    /// The processor or a GPU.
    pub device: TorchDevice,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self { threads: 1, core: None, device: TorchDevice::CPU }
    }
}

/// This machine as a node.
#[derive(Clone, Debug)]
pub struct LocalNode {
    /// Facts about it.
    pub facts: HostFacts,
    /// Threads per layer.
    pub threads: usize,
    /// The core that its computing thread is pinned to.
    pub core: Option<usize>,
    torch: TorchDevice,
}

impl LocalNode {
    /// The machine as a device: pinned to the first core when it runs on one thread.
    pub fn as_device(options: &NodeOptions) -> Result<Self> {
        Self::pinned(options, cores().first())
    }

    /// The machine as an edge: pinned to the last core, so that a device on the same machine keeps its own.
    pub fn as_edge(options: &NodeOptions) -> Result<Self> {
        Self::pinned(options, cores().last())
    }

    fn pinned(options: &NodeOptions, core: Option<&usize>) -> Result<Self> {
        let threads = usize::from(options.threads);
        let allowed = cores();
        if let Some(asked) = options.core.filter(|asked| !allowed.contains(asked)) {
            let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
            let allowed = allowed.join(", ");
            return Err(Error::usage(format!("{asked}: coprof may run on these cores: {allowed}"))
                .with(Remedy::GiveAnother(Given::Core)));
        }
        if let Some(most) = most_threads().filter(|&most| threads > most) {
            return Err(Error::usage(format!(
                "{threads}: coprof may use {most} core(s) here, and more threads than that only wait for each other; at most {most} \
                 were expected"
            ))
            .with(Remedy::GiveAnother(Given::Threads)));
        }
        let core = options.core.or(core.copied().filter(|_| threads == 1));
        Ok(Self {
            facts: HostFacts::gather(threads, &core.into_iter().collect::<Vec<_>>()),
            threads,
            core,
            torch: options.device,
        })
    }

    /// This machine as one device for each core, each with a thread of its own there; itself alone where it runs on several
    /// threads. For work that is measured in answers, not in time.
    pub fn each_core(&self) -> Vec<Self> {
        // Fewer than the cores where a quota, as of a container, grants less of their time.
        let at_once = std::thread::available_parallelism().map_or(1, NonZero::get);
        match (self.threads, &*cores()) {
            (1, cores @ [_, ..]) => {
                let on = |&core| Self { core: Some(core), ..self.clone() };
                cores.iter().take(at_once).map(on).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// Readies the calling thread for running layers.
    pub fn prepare_thread(&self) -> ComputeThread {
        ComputeThread::prepare(self.threads, self.core)
    }

    /// The clock of this device's computing thread. Where it hands its work to other threads or a GPU, the time that it computes
    /// itself says nothing.
    pub fn clock(&self) -> Box<dyn Clock> {
        if self.threads == 1 && self.torch == TorchDevice::CPU {
            Box::new(SystemClock::default())
        } else {
            Box::new(WallClock::default())
        }
    }

    /// Loads a model on a thread that is readied as this device's.
    pub fn load(&self, graph: &Arc<Graph>, thread: &ComputeThread) -> Result<TorchBackend> {
        TorchBackend::load(Arc::clone(graph), self.torch, thread)
    }

    /// Runs `work` on a thread of its own that is readied for layers, with the model loaded: pinning the calling thread
    /// would pin every thread that it starts later.
    pub fn run<T: Send>(
        &self,
        graph: &Arc<Graph>,
        work: impl FnOnce(&mut dyn Backend) -> Result<T> + Send,
    ) -> Result<T> {
        self.on_thread(|thread| work(&mut self.load(graph, thread)?))
    }

    /// Runs `work` on a thread of its own that is readied for layers.
    pub fn on_thread<T: Send>(&self, work: impl FnOnce(&ComputeThread) -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| work(&self.prepare_thread()));
            thread
                .join()
                .unwrap_or_else(|_| Err(Error::failed("the measuring thread broke down; please report this")))
        })
    }

    /// Whether layers run on the processor, whose peak is known.
    pub fn is_processor(&self) -> bool {
        self.torch == TorchDevice::CPU
    }

    /// What tells results of this machine from those of another.
    pub fn id(&self) -> String {
        format!("{}, {}", self.facts.peak_key(), self.torch)
    }

    /// The envelope of a result measured here.
    pub fn envelope(&self, kind: &str, graph: Option<&Graph>, emulation: &Emulation) -> Envelope {
        Envelope {
            schema: format!("coprof.{kind}/1"),
            coprof_version: env!("CARGO_PKG_VERSION").into(),
            created: timestamp(SystemTime::now()),
            host: self.facts.clone().into(),
            host_id: self.id(),
            model: graph.map(Into::into),
            threads: self.threads,
            pinned_core: self.core,
            emulated: (*emulation != Emulation::NONE).then_some(*emulation),
        }
    }

    /// Whether a saved result is about this machine and this model.
    pub fn fits(&self, envelope: &Envelope, graph: &Graph) -> bool {
        envelope.host_id == self.id()
            && envelope.model.as_ref().is_some_and(|model| model.sha256 == graph.hash)
    }
}

/// How many threads can run at once: as many as there are cores that the process may use, and fewer where a quota, as of a
/// container, grants less of their time. `None` where the system tells neither.
fn most_threads() -> Option<usize> {
    let granted = std::thread::available_parallelism().ok().map(NonZero::get);
    let allowed = Some(cores().len()).filter(|&allowed| allowed > 0);
    granted.into_iter().chain(allowed).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_are_refused() {
        let args = |threads| NodeOptions { threads, core: None, device: TorchDevice::CPU };
        let most = u16::try_from(most_threads().unwrap()).unwrap();
        assert_eq!(LocalNode::as_device(&args(most)).unwrap().threads, usize::from(most));
        for refused in [LocalNode::as_device(&args(most + 1)), LocalNode::as_edge(&args(most + 1))] {
            let error = refused.unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&format!("may use {most} core(s)")), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "torch")]
    fn only_cores_that_the_process_may_use_are_pinned_to() {
        let args = |core| NodeOptions { threads: 1, core, device: TorchDevice::CPU };
        let all = cores();
        let (first, last) = (all[0], all[all.len() - 1]);
        assert_eq!(LocalNode::as_device(&args(None)).unwrap().core, Some(first));
        let confined = std::thread::spawn(move || {
            assert!(ComputeThread::prepare(1, Some(last)).is_pinned());
            let device = LocalNode::as_device(&args(None)).unwrap();
            let each: Vec<_> = device.each_core().iter().map(|device| device.core).collect();
            let elsewhere = LocalNode::as_device(&args(Some(last + 1))).map(|device| device.core);
            (device.core, each, elsewhere.unwrap_err().to_string())
        });
        let (core, each, refusal) = confined.join().unwrap();
        assert_eq!((core, each), (Some(last), vec![Some(last)]));
        assert!(refusal.ends_with(&format!("may run on these cores: {last}")), "{refusal}");
    }
}
