//! The edge: what a server needs from the other rooms, and how commands reach one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Context;
use super::emulation::link_shape;
use super::keys::read_key;
use super::local_node::{LocalNode, NodeOptions};
use super::model::{self, Model};
use super::profile::profile_node;
use crate::report::Emulation;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_core::model::{Graph, ModelHash};
use coprof_run::backend::Backend;
use coprof_run::measure::{HostFacts, Watch};
use coprof_run::pipeline::{
    ConnectOptions, Deadlines, Key, NodeProfile, Peer, ProfileRequest, Relay, ServeOptions, Server, Services,
};

/// Where an edge listens unless told otherwise.
pub const PORT: u16 = 7411;

/// What a server needs: loads and measures models on this machine.
pub struct EdgeServices {
    node: LocalNode,
}

impl EdgeServices {
    /// Serves with this machine's cores as `node` says.
    pub fn new(node: LocalNode) -> Self {
        Self { node }
    }
}

impl Services for EdgeServices {
    fn backend(&self, name: &str, file: &[u8]) -> Result<Box<dyn Backend>> {
        let graph = Arc::new(Graph::from_onnx(name, file)?);
        Ok(Box::new(self.node.on_thread(|thread| self.node.load(&graph, thread))?))
    }

    fn bundled(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        model::bundled(hash)
    }

    fn profile(
        &self,
        backend: &mut dyn Backend,
        request: &ProfileRequest,
        watch: &mut Watch<'_>,
    ) -> Result<NodeProfile> {
        profile_node(backend, request, &*self.node.clock(), watch)
    }

    fn host(&self) -> HostFacts {
        self.node.facts.clone()
    }

    fn pin(&self) {
        _ = self.node.prepare_thread();
    }

    fn clock(&self) -> Box<dyn Clock> {
        self.node.clock()
    }
}

/// A server in this process, on loopback. It ends when dropped.
struct LocalEdge {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LocalEdge {
    fn start(runtime: &NodeOptions, context: &Context) -> Result<Self> {
        let context = context.clone();
        let edge = NodeOptions { core: None, ..runtime.clone() };
        let options = ServeOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            keys: None,
            insecure: false,
            deadlines: Deadlines::default(),
            drain: Duration::ZERO,
            on_event: Arc::new(move |event| context.detail(format!("edge: {event}"))),
        };
        let server = Server::bind(&options, Arc::new(EdgeServices::new(LocalNode::as_edge(&edge)?)))?;
        let address = server.addr();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || server.run(&flag, &mut |_| ()));
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for LocalEdge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic over there was reported over there.
            let _ = thread.join();
        }
    }
}

/// How often one asks whether a session has become free.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// For so long an edge may have no session left only because our own last connection is about to end there.
const OWN_END: Duration = Duration::from_secs(1);

/// Which edge, and how it is reached.
#[derive(Clone, Debug, Default)]
pub struct EdgeOptions {
    /// The edge, as `HOST[:PORT]`; `None` for one in this process.
    pub peer: Option<String>,
    /// The file of the key that it asks for. One in this process asks for none.
    pub key: Option<PathBuf>,
    /// How long to wait for a session where others have all that there are.
    pub wait: Duration,
}

/// Where an edge is reached: the address to dial, and what stands behind it.
pub struct Endpoint {
    // Kept for their threads, and dropped in this order: the link before the edge behind it.
    _relay: Option<Relay>,
    _local: Option<LocalEdge>,
    address: SocketAddr,
    peer_name: String,
    key: Option<Key>,
    wait: Duration,
    context: Context,
}

impl Endpoint {
    /// That of the peer that is named, or of an edge that is started in this process; over an emulated link if one is asked for.
    pub fn open(
        options: &EdgeOptions,
        runtime: &NodeOptions,
        emulation: &Emulation,
        context: &Context,
    ) -> Result<Self> {
        let key = options.key.as_deref().filter(|_| options.peer.is_some()).map(read_key).transpose()?;
        let named = options.peer.as_deref().map(resolve).transpose()?;
        let local = if named.is_none() { Some(LocalEdge::start(runtime, context)?) } else { None };
        let Some(edge) = named.or(local.as_ref().map(|edge| edge.address)) else {
            return Err(Error::failed("neither a peer nor an edge in this process"));
        };
        if local.is_some() {
            context.advise("the edge runs in this process, on loopback", Remedy::NameRealEdge);
        }
        let relay = link_shape(emulation).map(|shape| Relay::start(edge, shape)).transpose()?;
        let address = relay.as_ref().map_or(edge, Relay::addr);
        let peer_name = named.map_or_else(|| "loopback".into(), |address| address.to_string());
        Ok(Self {
            _relay: relay,
            _local: local,
            address,
            peer_name,
            key,
            wait: options.wait,
            context: context.clone(),
        })
    }

    /// The peer as documents name it: its address, or `loopback` for an edge in this process.
    pub fn peer_name(&self) -> &str {
        &self.peer_name
    }

    /// Opens a connection: waits, and says so, for as long as one may while the edge has no session left.
    pub fn connect(&self) -> Result<Peer> {
        let (stop, key) = (self.context.flag(), self.key.clone());
        let options = ConnectOptions { stop, key, ..ConnectOptions::default() };
        let (start, mut said) = (Instant::now(), false);
        loop {
            match Peer::connect(self.address, &options) {
                Err(busy)
                    if busy.remedy() == Some(Remedy::WaitForSession)
                        && start.elapsed() < self.wait.max(OWN_END) =>
                {
                    if start.elapsed() >= OWN_END && !std::mem::replace(&mut said, true) {
                        self.context.say(format!("{busy}: waiting until one ends"));
                    }
                    std::thread::sleep(ASK_EVERY);
                    self.context.check()?;
                }
                done => return done,
            }
        }
    }

    /// Opens a connection for measuring: waits, and says so, while another measures on the edge.
    pub fn connect_alone(&self) -> Result<Peer> {
        let mut peer = self.connect()?;
        let mut said = false;
        peer.take_turn(&mut |before| {
            if !std::mem::replace(&mut said, true) {
                let others = if before > 1 { format!(", {before} come before") } else { String::new() };
                let busy = "the edge is busy with another measurement: waiting for our turn";
                self.context.say(format!("{busy}{others}"));
            }
        })?;
        Ok(peer)
    }

    /// Opens a connection for measuring over which the edge has the model.
    pub fn connect_with(&self, model: &Model) -> Result<Peer> {
        let mut peer = self.connect_alone()?;
        peer.offer_model(&model.graph.name, &model.graph.hash, &model.file)?;
        Ok(peer)
    }
}

/// The address of a peer, named as `HOST[:PORT]`.
fn resolve(name: &str) -> Result<SocketAddr> {
    // A bare IPv6 address has colons of its own, but no port.
    let bare: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    let resolved = match bare {
        Some(address) => Ok(Some(SocketAddr::new(address, PORT))),
        None if name.contains(':') => name.to_socket_addrs().map(|mut found| found.next()),
        None => (name, PORT).to_socket_addrs().map(|mut found| found.next()),
    };
    let unknown = || {
        Error::peer(format!("{name}: no such host; a name or an address with an optional :PORT was expected"))
            .with(Remedy::GiveAnother(Given::Peer))
    };
    resolved.ok().flatten().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_may_leave_the_port_out() {
        for (name, address) in [
            ("127.0.0.1", "127.0.0.1:7411"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:9", "[::1]:9"),
            ("::1", "[::1]:7411"),
        ] {
            assert_eq!(resolve(name).unwrap().to_string(), address);
        }
        assert_eq!(resolve("no.such.host.invalid").unwrap_err().exit_code(), 3);
    }
}

#[cfg(test)]
#[cfg(feature = "torch")]
mod thread_tests {
    use std::sync::Mutex;

    use super::super::ModelOptions;
    use super::*;
    use coprof_core::codec::{Element, Encoding};
    use coprof_core::model::{Cut, ExitId, LayerId, Source};
    use coprof_core::plan::{ExitPlan, LinkPlan, NodePlan, Plan, Threshold};
    use coprof_run::measure::cores;
    use coprof_run::pipeline::{FrameSource, Pace, ReplayOptions, replay};
    use coprof_torch::thread_state;

    /// What libtorch and the system say of the threads that load and run layers.
    type Seen = Arc<Mutex<Vec<(usize, Vec<usize>)>>>;

    /// An edge's services that note the state of the thread at each call that computes.
    struct Observed {
        inner: EdgeServices,
        seen: Seen,
    }

    struct ObservedBackend(Box<dyn Backend>, Seen);

    fn note(seen: &Seen) {
        seen.lock().unwrap().push(thread_state());
    }

    impl Services for Observed {
        fn backend(&self, name: &str, file: &[u8]) -> Result<Box<dyn Backend>> {
            Ok(Box::new(ObservedBackend(self.inner.backend(name, file)?, Arc::clone(&self.seen))))
        }
        fn bundled(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
            self.inner.bundled(hash)
        }
        fn profile(
            &self,
            backend: &mut dyn Backend,
            request: &ProfileRequest,
            watch: &mut Watch<'_>,
        ) -> Result<NodeProfile> {
            self.inner.profile(backend, request, watch)
        }
        fn host(&self) -> HostFacts {
            self.inner.host()
        }
        fn pin(&self) {
            self.inner.pin();
        }
        fn clock(&self) -> Box<dyn Clock> {
            self.inner.clock()
        }
    }

    impl Backend for ObservedBackend {
        fn graph(&self) -> &Arc<Graph> {
            self.0.graph()
        }
        fn clear(&mut self) {
            self.0.clear();
        }
        fn put(&mut self, tensor: Source, values: &[f32]) -> Result<()> {
            self.0.put(tensor, values)
        }
        fn run(&mut self, layers: &[LayerId]) -> Result<()> {
            note(&self.1);
            self.0.run(layers)
        }
        fn run_keeping(&mut self, layers: &[LayerId], kept: &[Source]) -> Result<()> {
            note(&self.1);
            self.0.run_keeping(layers, kept)
        }
        fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()> {
            self.0.get(tensor, into)
        }
    }

    struct Black;

    impl FrameSource for Black {
        fn len(&self) -> usize {
            2
        }
        fn pixels(&self, _: usize, into: &mut Vec<f32>) {
            into.clear();
            into.resize(3 * 32 * 32, 0.0);
        }
        fn forced_exit(&self, _: usize) -> Option<ExitId> {
            None
        }
    }

    /// All on the edge.
    fn plan(graph: &Graph) -> Plan {
        let last = graph.exits.len() - 1;
        let exit = |(index, exit): (usize, &coprof_core::model::Exit)| ExitPlan {
            name: exit.name.clone(),
            threshold: if index == last { Threshold::Always } else { Threshold::Never },
            node: 1,
        };
        let whole = Cut::needed_by(graph, graph.final_exit()).tip_names(graph);
        Plan {
            model: graph.hash.clone(),
            nodes: vec![NodePlan { cut: Vec::new() }, NodePlan { cut: whole }],
            links: vec![Some(LinkPlan {
                resume: Vec::new(),
                encoding: Encoding::plain(Element::F32),
                calibration: None,
            })],
            exits: graph.exits.iter().enumerate().map(exit).collect(),
        }
    }

    #[test]
    fn a_session_profiles_and_runs_on_the_threads_and_the_core_that_were_asked_for() {
        let model = Model::load(&ModelOptions::named("alexnet")).unwrap();
        let device = LocalNode::as_edge(&NodeOptions::default()).unwrap();
        let expected = (1, device.core.map_or_else(cores, |core| vec![core]));
        let seen = Seen::default();
        let services = Observed { inner: EdgeServices::new(device.clone()), seen: Arc::clone(&seen) };
        let options = ServeOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            keys: None,
            insecure: false,
            deadlines: Deadlines::default(),
            drain: Duration::ZERO,
            on_event: Arc::new(|_| ()),
        };
        let server = Server::bind(&options, Arc::new(services)).unwrap();
        let (address, stop) = (server.addr(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| server.run(&stop, &mut |_| ()));
            let _stop = StopOnDrop(&stop);
            let mut peer = Peer::connect(address, &ConnectOptions::default()).unwrap();
            peer.take_turn(&mut |_| ()).unwrap();
            peer.offer_model(&model.graph.name, &model.graph.hash, &model.file).unwrap();
            let request = ProfileRequest { layers: true, ..ProfileRequest::default() };
            peer.profile(&request, &mut |_| ()).unwrap();
            let profiled = std::mem::take(&mut *seen.lock().unwrap());
            assert!(!profiled.is_empty() && profiled.iter().all(|state| *state == expected), "{profiled:?}");

            let plan = plan(&model.graph);
            let route = coprof_core::plan::Route::new(&model.graph, &plan).unwrap();
            let mut local = device.on_thread(|thread| device.load(&model.graph, thread)).unwrap();
            let run = AtomicBool::new(false);
            let options = ReplayOptions {
                tasks: 3,
                first_frame: 0,
                in_flight: 1,
                pause: Duration::ZERO,
                pace: Pace::default(),
                clock: &*device.clock(),
                pin: None,
                stop: &run,
            };
            replay(Some(&mut peer), &mut local, &route, &plan, &Black, &options, &mut |_| ()).unwrap();
            let ran = std::mem::take(&mut *seen.lock().unwrap());
            assert!(!ran.is_empty() && ran.iter().all(|state| *state == expected), "{ran:?}");
        });
    }

    struct StopOnDrop<'a>(&'a AtomicBool);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
