//! The edge: listens, admits connections, gives each a thread.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::Deadlines;
use super::session::{self, Admission};
use super::turns::Turns;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::ModelHash;
use crate::runtime::Backend;

/// The most connections at a time.
pub const MAX_CONNECTIONS: usize = 8;

/// Further connections that are told that the server is busy; beyond these they are dropped.
const MAX_REFUSALS: usize = 8;

/// Models of earlier connections that are kept.
const MAX_MODELS: usize = 4;

/// The largest model file that is taken, here and on the command line: VGG-16 for 224×224 has 528 MiB.
pub const MAX_MODEL_BYTES: usize = 1 << 30;

/// The most memory for kept models.
const MAX_KEPT_BYTES: usize = 1 << 30;

const POLL: Duration = Duration::from_millis(20);

/// Told what happens on the server, a line at a time.
pub type OnEvent = Arc<dyn Fn(&str) + Send + Sync>;

/// What the edge needs from the rest of coprof.
pub trait Services: Send + Sync {
    /// A backend for the model `name` (for people only) read from the bytes of its file.
    fn backend(&self, name: &str, file: &[u8]) -> Result<Box<dyn Backend>>;
    /// A model that needs no sending: its name and file.
    fn bundled(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)>;
    /// Measures the backend as `request` asks, telling `progress` the share that is done, until `over` says that nobody waits
    /// for it any more.
    fn profile(
        &self,
        backend: &mut dyn Backend,
        request: serde_json::Value,
        progress: &mut dyn FnMut(f64),
        over: &dyn Fn() -> bool,
    ) -> Result<serde_json::Value>;
    /// Facts about this host.
    fn host(&self) -> serde_json::Value;
    /// Called on each thread that computes, before it does.
    fn pin(&self);
    /// Tells what such a thread did itself, where that says how busy it was.
    fn clock(&self) -> Box<dyn Clock>;
}

/// How to serve.
pub struct ServeOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Take connections from other machines although nothing is encrypted and nobody is asked for a key.
    pub insecure: bool,
    /// How long peers may take.
    pub deadlines: Deadlines,
    /// Told what happens.
    pub on_event: OnEvent,
}

/// A listening edge.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
    on_event: OnEvent,
}

/// What all connections of a server share.
pub(super) struct Shared {
    pub services: Arc<dyn Services>,
    pub deadlines: Deadlines,
    pub turns: Turns,
    models: Mutex<VecDeque<KeptModel>>,
}

struct KeptModel {
    hash: ModelHash,
    name: String,
    file: Arc<[u8]>,
}

impl Shared {
    /// A model that is here: bundled, or sent earlier.
    pub fn find_model(&self, hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = models.iter().position(|model| model.hash == *hash) {
            // To the back, as the one used last.
            let model = models.remove(at)?;
            let found = (model.name.clone(), Arc::clone(&model.file));
            models.push_back(model);
            return Some(found);
        }
        drop(models);
        self.services.bundled(hash)
    }

    /// Keeps a model for later connections, at the cost of those that were not used for longest.
    pub fn keep_model(&self, hash: ModelHash, name: String, file: Arc<[u8]>) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.hash != hash);
        models.push_back(KeptModel { hash, name, file });
        while models.len() > MAX_MODELS
            || models.iter().map(|model| model.file.len()).sum::<usize>() > MAX_KEPT_BYTES
        {
            models.pop_front();
        }
    }
}

impl Server {
    /// Starts to listen. Addresses that other machines can reach need `insecure`.
    pub fn bind(options: &ServeOptions, services: Arc<dyn Services>) -> Result<Self> {
        let wanted = options.listen;
        if !wanted.ip().is_loopback() && !options.insecure {
            return Err(Error::usage(format!(
                "{wanted} can be reached from other machines, and coprof does not encrypt or ask for a key yet; on a \
                 network that you trust add --insecure, else listen on 127.0.0.1:{}",
                wanted.port()
            )));
        }
        let failed = |error| {
            Error::failed(format!(
                "cannot listen on {wanted} ({error}); choose another address with --listen"
            ))
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (deadlines, turns) = (options.deadlines, Turns::default());
        let shared = Shared { services, deadlines, turns, models: Mutex::default() };
        Ok(Self { listener, address, shared, on_event: Arc::clone(&options.on_event) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then answers the tasks in hand and leaves.
    pub fn run(&self, stop: &AtomicBool) {
        std::thread::scope(|scope| {
            let mut sessions = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                sessions.retain(|session: &std::thread::ScopedJoinHandle<'_, ()>| !session.is_finished());
                match self.listener.accept() {
                    Ok((_, peer)) if sessions.len() >= MAX_CONNECTIONS + MAX_REFUSALS => {
                        (self.on_event)(&format!("{peer}: dropped, too many connections"));
                    }
                    Ok((stream, peer)) => {
                        let admission =
                            if sessions.len() < MAX_CONNECTIONS { Admission::Open } else { Admission::Busy };
                        sessions.push(scope.spawn(move || self.serve(stream, peer, admission, stop)));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(POLL),
                    Err(error) => {
                        (self.on_event)(&format!("a connection was lost before it began: {error}"));
                        std::thread::sleep(POLL);
                    }
                }
            }
        });
    }

    /// One connection, on its own thread. Whatever happens to it, the server goes on.
    fn serve(&self, stream: TcpStream, peer: SocketAddr, admission: Admission, stop: &AtomicBool) {
        (self.on_event)(&format!("{peer}: connected"));
        // What a panic leaves half done belongs to this connection alone.
        let served = catch_unwind(AssertUnwindSafe(|| session::serve(stream, admission, &self.shared, stop)));
        (self.on_event)(&match served {
            Ok(Ok(())) => format!("{peer}: closed"),
            Ok(Err(error)) => format!("{peer}: {error}"),
            Err(_) => format!("{peer}: the connection's thread panicked"),
        });
    }
}
