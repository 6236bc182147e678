//! The edge: listens, admits connections, gives each a thread.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::connection::Deadlines;
use super::services::{Services, Shared};
use super::session::{self, Admission};
use coprof_core::error::{Error, Remedy, Result};

/// The most connections at a time.
pub const MAX_CONNECTIONS: usize = 8;

/// Further connections that are told that the server is busy; beyond these they are dropped.
const MAX_REFUSALS: usize = 8;

const POLL: Duration = Duration::from_millis(20);

/// Told what happens on the server, a line at a time.
pub type OnEvent = Arc<dyn Fn(&str) + Send + Sync>;

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

impl Server {
    /// Starts to listen. Addresses that other machines can reach need `insecure`.
    pub fn bind(options: &ServeOptions, services: Arc<dyn Services>) -> Result<Self> {
        let wanted = options.listen;
        if !wanted.ip().is_loopback() && !options.insecure {
            return Err(Error::usage(format!(
                "{wanted} can be reached from other machines, and coprof does not encrypt or ask for a key yet"
            ))
            .with(Remedy::AllowOthers { port: wanted.port() }));
        }
        let failed = |error| {
            Error::failed(format!("cannot listen on {wanted} ({error})")).with(Remedy::ListenElsewhere)
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Shared::new(services, options.deadlines);
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
