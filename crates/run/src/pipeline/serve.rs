//! The edge: listens, lets strangers in who prove themselves, gives each a session on a thread of its own.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::connection::{Connection, Deadlines};
use super::door::{Door, Guest, Outcome};
use super::key::KeyRing;
use super::messages::{Busy, Hello, Refused};
use super::services::{Services, Shared};
use super::session;
use coprof_core::error::{Error, Remedy, Result};

/// The most sessions at a time.
pub const MAX_SESSIONS: usize = 8;

/// Connections that the system keeps for us until we take them: a crowd that comes at once must not make it drop anyone, since
/// who is dropped there tries again only a second later.
const BACKLOG: i32 = 4096;

/// The most connections that are taken between two looks at those who are at the door, of which they push out some.
const TAKEN_AT_ONCE: usize = 16;

/// A pause with nobody at the door.
const POLL: Duration = Duration::from_millis(20);

/// A pause with somebody there.
const SHORT_POLL: Duration = Duration::from_millis(1);

/// Strangers' ends that are told of in a second; beyond these they are counted.
const TOLD_PER_SECOND: usize = 10;

/// Told what happens on the server, a line at a time.
pub type OnEvent = Arc<dyn Fn(&str) + Send + Sync>;

/// How to serve.
pub struct ServeOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whom to take connections from, which are then encrypted; `None`: from everyone.
    pub keys: Option<KeyRing>,
    /// Without keys, take connections from other machines all the same.
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
    keys: Option<KeyRing>,
    shared: Shared,
    on_event: OnEvent,
}

impl Server {
    /// Starts to listen. Addresses that other machines can reach need keys, or `insecure`.
    pub fn bind(options: &ServeOptions, services: Arc<dyn Services>) -> Result<Self> {
        let wanted = options.listen;
        if !wanted.ip().is_loopback() && options.keys.is_none() && !options.insecure {
            return Err(Error::usage(format!(
                "{wanted} can be reached from other machines, and without a key nothing is encrypted"
            ))
            .with(Remedy::AllowOthers { port: wanted.port() }));
        }
        let failed = |error| {
            Error::failed(format!("cannot listen on {wanted} ({error})")).with(Remedy::ListenElsewhere)
        };
        let listener = listen(wanted).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Shared::new(services, options.deadlines);
        let (keys, on_event) = (options.keys.clone(), Arc::clone(&options.on_event));
        Ok(Self { listener, address, keys, shared, on_event })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then answers the tasks in hand and leaves.
    pub fn run(&self, stop: &AtomicBool) {
        let mut door = Door::new(self.shared.deadlines.greeting, self.keys.clone());
        let mut gone = GoneStrangers::new(&*self.on_event);
        std::thread::scope(|scope| {
            let mut sessions = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let came = self.take_in(&mut door, &mut gone);
                for outcome in door.hear(Instant::now()) {
                    match outcome {
                        Outcome::Proved(guest) => self.admit(*guest, scope, &mut sessions, stop),
                        Outcome::Gone(address, reason) => gone.tell(address, &reason),
                    }
                }
                gone.tell_counted();
                if !came {
                    std::thread::sleep(if door.is_empty() { POLL } else { SHORT_POLL });
                }
            }
        });
    }

    /// Takes connections that have come, though not all of a crowd; whether there were any.
    fn take_in(&self, door: &mut Door, gone: &mut GoneStrangers<'_>) -> bool {
        for taken in 0..TAKEN_AT_ONCE {
            let came = self.listener.accept().and_then(|(stream, address)| {
                stream.set_nonblocking(true)?;
                Ok((stream, address, getrandom::u32()?))
            });
            match came {
                Ok((stream, address, random)) => {
                    if let Some(Outcome::Gone(unlucky, reason)) =
                        door.take_in(stream, address, Instant::now(), random)
                    {
                        gone.tell(unlucky, &reason);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return taken > 0,
                Err(error) => {
                    (self.on_event)(&format!("a connection was lost before it began: {error}"));
                    return false;
                }
            }
        }
        true
    }

    /// Gives a guest a session, or tells it why not.
    fn admit<'scope>(
        &'scope self,
        guest: Guest,
        scope: &'scope Scope<'scope, '_>,
        sessions: &mut Vec<ScopedJoinHandle<'scope, ()>>,
        stop: &'scope AtomicBool,
    ) {
        let address = guest.address;
        let who = guest
            .grant
            .as_ref()
            .map_or_else(|| address.to_string(), |grant| format!("{address} ({})", grant.name));
        sessions.retain(|session| !session.is_finished());
        match self.welcome(guest, sessions.len()) {
            Ok(connection) => {
                (self.on_event)(&format!("{who}: connected"));
                sessions.push(scope.spawn(move || self.serve(connection, &who, stop)));
            }
            Err(error) => (self.on_event)(&format!("{who}: refused: {error}")),
        }
    }

    /// The guest's connection, if there is room for another session and its coprof is like ours. Nothing here blocks: the little
    /// that it is told fits what the system keeps for it.
    fn welcome(&self, guest: Guest, sessions: usize) -> Result<Connection> {
        let connection = Connection::new(guest.transport, self.shared.deadlines)?;
        if let Err(error) = Hello::check(guest.hello.protocol, &guest.hello.coprof) {
            connection.send_message(&Refused { message: error.to_string() })?;
            return Err(error);
        }
        if sessions >= MAX_SESSIONS {
            let busy = Busy { sessions, waiting: self.shared.turns.waiting() };
            connection.send_message(&busy)?;
            return Err(busy.error());
        }
        Ok(connection)
    }

    /// One session, on its own thread. Whatever happens to it, the server goes on.
    fn serve(&self, connection: Connection, who: &str, stop: &AtomicBool) {
        // What a panic leaves half done belongs to this connection alone.
        let served = catch_unwind(AssertUnwindSafe(|| session::serve(connection, &self.shared, stop)));
        (self.on_event)(&match served {
            Ok(Ok(())) => format!("{who}: closed"),
            Ok(Err(error)) => format!("{who}: {error}"),
            Err(_) => format!("{who}: the connection's thread panicked"),
        });
    }
}

fn listen(wanted: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
    // Else the port of a server that has just ended stays taken for a minute.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&wanted.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Tells of strangers that are gone: a crowd's by their number, so that no log fills a disk.
struct GoneStrangers<'a> {
    on_event: &'a (dyn Fn(&str) + Send + Sync),
    second: Instant,
    told: usize,
    counted: usize,
}

impl<'a> GoneStrangers<'a> {
    fn new(on_event: &'a (dyn Fn(&str) + Send + Sync)) -> Self {
        Self { on_event, second: Instant::now(), told: 0, counted: 0 }
    }

    fn tell(&mut self, address: SocketAddr, reason: &Error) {
        if self.told < TOLD_PER_SECOND {
            self.told += 1;
            (self.on_event)(&format!("{address}: {reason}"));
        } else {
            self.counted += 1;
        }
    }

    fn tell_counted(&mut self) {
        if self.second.elapsed() < Duration::from_secs(1) {
            return;
        }
        if self.counted > 0 {
            (self.on_event)(&format!("{} more strangers are gone", self.counted));
        }
        *self = Self::new(self.on_event);
    }
}
