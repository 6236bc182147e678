//! The edge: what a server needs from the other rooms, and how commands reach one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::args::{self, PeerArgs, RuntimeArgs};
use super::device::Device;
use super::model::{self, Model};
use super::output::Output;
use super::profile::{ProfileRequest, profile_node};
use super::stop;
use crate::error::{Error, Result};
use crate::model::{Graph, ModelHash};
use crate::pipeline::{ConnectOptions, Deadlines, Peer, Relay, ServeOptions, Server, Services};
use crate::report::Emulation;
use crate::runtime::Backend;

/// What a server needs: loads and measures models on this machine.
pub struct EdgeServices {
    device: Device,
    /// Measuring is only right when nothing else is measured at the same time.
    measuring: Mutex<()>,
}

impl EdgeServices {
    /// Serves with this machine's cores as `device` says.
    pub fn new(device: Device) -> Self {
        Self { device, measuring: Mutex::new(()) }
    }
}

impl Services for EdgeServices {
    fn backend(&self, name: &str, file: &[u8]) -> Result<Box<dyn Backend>> {
        Ok(Box::new(self.device.load(&Arc::new(Graph::from_onnx(name, file)?))?))
    }

    fn bundled(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        model::bundled(hash)
    }

    fn profile(
        &self,
        backend: &mut dyn Backend,
        request: serde_json::Value,
        progress: &mut dyn FnMut(f64),
    ) -> Result<serde_json::Value> {
        let request: ProfileRequest = serde_json::from_value(request)
            .map_err(|error| Error::failed(format!("a profile request was expected ({error})")))?;
        let _alone = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = profile_node(backend, &request, progress, &stop::asked)?;
        serde_json::to_value(profile)
            .map_err(|error| Error::failed(format!("cannot send the profile: {error}")))
    }

    fn host(&self) -> serde_json::Value {
        serde_json::to_value(&self.device.facts).unwrap_or_default()
    }

    fn pin(&self) {
        self.device.prepare_thread();
    }
}

/// A server in this process, on loopback. It ends when dropped.
struct LocalEdge {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LocalEdge {
    fn start(runtime: &RuntimeArgs, output: Output) -> Result<Self> {
        let edge = RuntimeArgs { core: None, ..runtime.clone() };
        let options = ServeOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            insecure: false,
            deadlines: Deadlines::default(),
            on_event: Arc::new(move |event| output.detail(format!("edge: {event}"))),
        };
        let server = Server::bind(&options, Arc::new(EdgeServices::new(Device::as_edge(&edge)?)))?;
        let address = server.addr();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || server.run(&flag));
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

/// The way to an edge: the address to dial, and what stands behind it.
pub struct Route {
    // Kept for their threads, and dropped in this order: the link before the edge behind it.
    _relay: Option<Relay>,
    _local: Option<LocalEdge>,
    address: SocketAddr,
    peer_name: String,
}

impl Route {
    /// To the peer that was named, or to an edge that is started in this process; over an emulated link if one is asked
    /// for.
    pub fn open(
        peer: &PeerArgs,
        runtime: &RuntimeArgs,
        emulation: &Emulation,
        output: Output,
    ) -> Result<Self> {
        let named = peer.address()?;
        let local = if named.is_none() { Some(LocalEdge::start(runtime, output)?) } else { None };
        let Some(edge) = named.or(local.as_ref().map(|edge| edge.address)) else {
            return Err(Error::failed("neither a peer nor an edge in this process"));
        };
        if local.is_some() {
            output.say("no --peer: the edge runs in this process, on loopback");
        }
        let relay = args::link_shape(emulation).map(|shape| Relay::start(edge, shape)).transpose()?;
        let address = relay.as_ref().map_or(edge, Relay::addr);
        let peer_name = named.map_or_else(|| "loopback".into(), |address| address.to_string());
        Ok(Self { _relay: relay, _local: local, address, peer_name })
    }

    /// The peer as documents name it: its address, or `loopback` for an edge in this process.
    pub fn peer_name(&self) -> &str {
        &self.peer_name
    }

    /// Opens a connection.
    pub fn connect(&self) -> Result<Peer> {
        let options = ConnectOptions { stop: stop::flag(), ..ConnectOptions::default() };
        Peer::connect(self.address, &options)
    }

    /// Opens a connection over which the edge has the model.
    pub fn connect_with(&self, model: &Model) -> Result<Peer> {
        let mut peer = self.connect()?;
        peer.offer_model(&model.graph.name, &model.graph.hash, &model.file)?;
        Ok(peer)
    }
}
