//! Device and edge over loopback, with fake backends: nothing waits for a layer, nothing looks at the time.

mod agreement;
mod encrypted;
mod faults;
mod requests;
mod turns;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use super::door::MAX_STRANGERS;
use super::*;
use crate::backend::{Backend, FakeBackend};
use crate::measure::{HostFacts, Watch};
use coprof_core::clock::{Clock, ManualClock, WallClock};
use coprof_core::error::{Error, Kind, Remedy, Result};
use coprof_core::model::{ExitId, Graph, Layer, ModelHash, samples};
use coprof_core::plan::{ExitPlan, LinkPlan, NodePlan, Plan, Route, Threshold};
use coprof_core::units::{BitRate, Micros, Share};

/// A deadline that no test reaches.
const LONG: Duration = Duration::from_secs(60);

fn fake(graph: Arc<Graph>) -> Box<dyn Backend> {
    let times = vec![Duration::ZERO; graph.layers.len()];
    Box::new(FakeBackend::new(graph, times, ManualClock::default()))
}

/// The samples' "file" is their name: that is what their hash is made of.
fn graph_of(file: &[u8]) -> Result<Arc<Graph>> {
    let known = [samples::chain(), samples::residual(), samples::results()];
    known
        .into_iter()
        .find(|graph| graph.name.as_bytes() == file)
        .ok_or_else(|| Error::failed("not a model file"))
}

#[derive(Default)]
struct FakeServices {
    bundled: bool,
    /// Its backends fail at the first layer.
    broken: bool,
    measuring: Measuring,
}

/// How a measurement goes.
#[derive(Default)]
enum Measuring {
    #[default]
    Done,
    Endless,
    Panics,
}

/// Fails as soon as a layer runs.
struct Broken(Box<dyn Backend>);

impl Backend for Broken {
    fn graph(&self) -> &Arc<Graph> {
        self.0.graph()
    }
    fn clear(&mut self) {}
    fn put(&mut self, _: coprof_core::model::Source, _: &[f32]) -> Result<()> {
        Ok(())
    }
    fn run(&mut self, _: &[coprof_core::model::LayerId]) -> Result<()> {
        Err(Error::failed("out of memory"))
    }
    fn get(&mut self, _: coprof_core::model::Source, _: &mut Vec<f32>) -> Result<()> {
        Ok(())
    }
}

impl Services for FakeServices {
    fn backend(&self, _: &str, file: &[u8]) -> Result<Box<dyn Backend>> {
        let backend = fake(graph_of(file)?);
        Ok(if self.broken { Box::new(Broken(backend)) } else { backend })
    }
    fn bundled(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        let graph = samples::chain();
        (self.bundled && graph.hash == *hash).then(|| (graph.name.clone(), graph.name.as_bytes().into()))
    }
    /// As many codec times as layers, each with what was asked for.
    fn profile(
        &self,
        backend: &mut dyn Backend,
        request: &ProfileRequest,
        watch: &mut Watch<'_>,
    ) -> Result<NodeProfile> {
        watch.step(0.5)?;
        match self.measuring {
            Measuring::Done => {}
            Measuring::Endless => loop {
                watch.step(0.5)?;
                std::thread::sleep(Duration::from_millis(1));
            },
            Measuring::Panics => panic!("as asked"),
        }
        let layers = &backend.graph().layers;
        let times = |layer: &Layer| CodecTimes {
            cut: vec![layer.name.clone()],
            encoding: request.encodings[0],
            encode_us: Micros(2.0),
            decode_us: Micros(3.0),
        };
        Ok(NodeProfile { codecs: layers.iter().map(times).collect(), ..NodeProfile::default() })
    }
    fn host(&self) -> HostFacts {
        HostFacts { cpu: Some("fake".into()), ..HostFacts::default() }
    }
    fn pin(&self) {}
    fn clock(&self) -> Box<dyn Clock> {
        Box::new(WallClock::default())
    }
}

struct Edge {
    address: SocketAddr,
    /// The first of its keys.
    key: Option<Key>,
}

impl Edge {
    fn connect(&self) -> Peer {
        self.try_connect(self.key.clone()).unwrap()
    }

    fn try_connect(&self, key: Option<Key>) -> Result<Peer> {
        Peer::connect(self.address, &ConnectOptions { key, ..ConnectOptions::default() })
    }

    /// That it still greets, takes models and answers.
    fn check_serving(&self) {
        let mut peer = self.connect();
        let graph = samples::chain();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        assert!(peer.ping(100, 100).unwrap() > Duration::ZERO);
    }
}

/// An edge on a free port for as long as `test` takes.
fn with_edge(services: FakeServices, test: impl FnOnce(&Edge)) {
    with_edge_within(Deadlines::default(), services, test);
}

/// The same with deadlines of its own.
fn with_edge_within(deadlines: Deadlines, services: FakeServices, test: impl FnOnce(&Edge)) {
    let (log, logged) = std::sync::mpsc::channel::<String>();
    let log = Mutex::new(log);
    let on_event = Arc::new(move |event: &str| drop(log.lock().unwrap().send(event.into())));
    let options = ServeOptions { deadlines, on_event, ..on_loopback() };
    with_server(&options, services, |edge, _| test(edge));
    assert!(logged.try_iter().all(|event| !event.contains("thread panicked")));
}

/// An edge for this machine alone, on a free port, of which nobody is told anything.
fn on_loopback() -> ServeOptions {
    ServeOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        keys: None,
        insecure: false,
        deadlines: Deadlines::default(),
        drain: Duration::ZERO,
        on_event: Arc::new(|_| {}),
    }
}

/// An edge for as long as `test` takes, or until it calls what ends it.
fn with_server(options: &ServeOptions, services: FakeServices, test: impl FnOnce(&Edge, &mut dyn FnMut())) {
    let server = Server::bind(options, Arc::new(services)).unwrap();
    let key = options.keys.as_ref().map(|ring| ring.grants()[0].key.clone());
    let edge = Edge { address: server.addr(), key };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut serving = Some(scope.spawn(|| server.run(&stop, &mut |_| ())));
        // Stops the server also when an assertion fails, else the scope would wait for it for ever.
        let _stop = StopOnDrop(&stop);
        test(&edge, &mut || {
            stop.store(true, Ordering::Relaxed);
            serving.take().unwrap().join().unwrap();
        });
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Frames {
    elements: usize,
    count: usize,
    forced: fn(usize) -> Option<ExitId>,
}

impl FrameSource for Frames {
    fn len(&self) -> usize {
        self.count
    }
    fn pixels(&self, index: usize, into: &mut Vec<f32>) {
        into.clear();
        into.extend((0..self.elements).map(|i| ((index * 31 + i * 7) % 256) as f32));
    }
    fn forced_exit(&self, index: usize) -> Option<ExitId> {
        (self.forced)(index)
    }
}

fn frames_for(graph: &Graph) -> Frames {
    Frames { elements: graph.input.elements(), count: 60, forced: |_| None }
}

/// A plan for two nodes; `exits` gives threshold and node of each exit.
fn plan(graph: &Graph, cut: &[&str], resume: &[&str], encoding: &str, exits: &[(Threshold, usize)]) -> Plan {
    let names = |tips: &[&str]| tips.iter().map(ToString::to_string).collect();
    let last = &graph.layer(graph.exits[graph.final_exit().0].logits).name;
    let exits = graph.exits.iter().zip(exits);
    Plan {
        model: graph.hash.clone(),
        nodes: vec![NodePlan { cut: names(cut) }, NodePlan { cut: names(&[last]) }],
        links: vec![Some(LinkPlan {
            resume: names(resume),
            encoding: encoding.parse().unwrap(),
            calibration: None,
        })],
        exits: exits
            .map(|(exit, &(threshold, node))| ExitPlan { name: exit.name.clone(), threshold, node })
            .collect(),
    }
}

const ALWAYS: Threshold = Threshold::Always;
const NEVER: Threshold = Threshold::Never;
/// About half of the made-up samples pass it.
const HALF: Threshold = Threshold::Entropy(Share(0.25));

/// The chain cut behind its first exit, which the device tries; the picture crosses.
fn resuming_plan(graph: &Graph) -> Plan {
    plan(graph, &["pool1"], &[], "pixels+deflate", &[(HALF, 0), (ALWAYS, 1)])
}

/// Sixty tasks, on a clock that says nothing of threads.
fn options(in_flight: usize, stop: &AtomicBool) -> ReplayOptions<'_> {
    static CLOCK: LazyLock<WallClock> = LazyLock::new(WallClock::default);
    let (pause, pace) = (Duration::ZERO, Pace::default());
    ReplayOptions { tasks: 60, first_frame: 0, in_flight, pause, pace, clock: &*CLOCK, pin: None, stop }
}

fn run_over(
    peer: Option<&mut Peer>,
    graph: &Arc<Graph>,
    plan: &Plan,
    frames: &dyn FrameSource,
) -> Result<Trace> {
    static NEVER_STOPPED: AtomicBool = AtomicBool::new(false);
    let options = options(4, &NEVER_STOPPED);
    let route = Route::new(graph, plan).unwrap();
    replay(peer, &mut *fake(Arc::clone(graph)), &route, plan, frames, &options, &mut |_| {})
}

fn in_process(graph: &Arc<Graph>, plan: &Plan, frames: &dyn FrameSource) -> Vec<Answer> {
    let route = Route::new(graph, plan).unwrap();
    let mut backends = [fake(Arc::clone(graph)), fake(Arc::clone(graph))];
    run_in_process(&route, &mut backends, frames, &mut |_| Ok(())).unwrap()
}
