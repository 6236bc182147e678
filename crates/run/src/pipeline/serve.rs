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
use super::key::{Grant, KeyRing};
use super::messages::{Busy, Hello, Refused};
use super::services::{Services, Shared};
use super::session;
use super::transport::Transport;
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
    /// How long sessions under way may go on once the server is to stop.
    pub drain: Duration,
    /// Told what happens.
    pub on_event: OnEvent,
}

/// A listening edge.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    door: Door,
    drain: Duration,
    host: Host,
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
        let door = Door::new(options.deadlines.greeting, options.keys.clone());
        let shared = Shared::new(services, options.deadlines);
        let host = Host { shared, on_event: Arc::clone(&options.on_event) };
        Ok(Self { listener, address, door, drain: options.drain, host })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`. Then it listens no more, and sessions under way, whose number `draining` is told, may go on for as long
    /// as the options say; after that they answer the tasks in hand and end.
    pub fn run(self, stop: &AtomicBool, draining: &mut dyn FnMut(usize)) {
        let Self { listener, mut door, drain, host, .. } = self;
        let over = AtomicBool::new(false);
        let mut gone = GoneStrangers::new(&*host.on_event);
        std::thread::scope(|scope| {
            let mut sessions = Sessions { scope, host: &host, over: &over, taken: Vec::new() };
            while !stop.load(Ordering::Relaxed) {
                let came = take_in(&listener, &mut door, &mut gone);
                for outcome in door.hear(Instant::now()) {
                    match outcome {
                        Outcome::Proved(guest) => sessions.admit(*guest),
                        Outcome::Gone(address, reason) => gone.tell(address, &reason),
                    }
                }
                gone.tell_counted();
                if !came {
                    std::thread::sleep(if door.is_empty() { POLL } else { SHORT_POLL });
                }
            }
            drop((listener, door));
            if !drain.is_zero() && sessions.count() > 0 {
                draining(sessions.count());
                sessions.wait(drain);
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

/// Takes connections that have come, though not all of a crowd; whether there were any.
fn take_in(listener: &TcpListener, door: &mut Door, gone: &mut GoneStrangers<'_>) -> bool {
    for taken in 0..TAKEN_AT_ONCE {
        let came = listener.accept().and_then(|(stream, address)| {
            stream.set_nonblocking(true)?;
            Ok((stream, address, getrandom::u32()?))
        });
        match came {
            Ok((stream, address, random)) => {
                if let Some((unlucky, reason)) = door.take_in(stream, address, Instant::now(), random) {
                    gone.tell(unlucky, &reason);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return taken > 0,
            Err(error) => {
                (gone.on_event)(&format!("a connection was lost before it began: {error}"));
                return false;
            }
        }
    }
    true
}

/// The sessions that there are, each on a thread of its own.
struct Sessions<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    host: &'scope Host,
    over: &'scope AtomicBool,
    /// With the name of the key that each has.
    taken: Vec<(Option<String>, ScopedJoinHandle<'scope, ()>)>,
}

impl Sessions<'_, '_> {
    fn count(&mut self) -> usize {
        self.taken.retain(|(_, session)| !session.is_finished());
        self.taken.len()
    }

    /// Until all have ended, but no longer than that.
    fn wait(&mut self, longest: Duration) {
        let start = Instant::now();
        while self.count() > 0 && start.elapsed() < longest {
            std::thread::sleep(POLL);
        }
    }

    /// Gives a guest a session, or tells it why not.
    fn admit(&mut self, guest: Guest) {
        let Guest { transport, address, hello, grant } = guest;
        let name = grant.as_ref().map(|grant| grant.name.clone());
        let who = name.as_ref().map_or_else(|| address.to_string(), |name| format!("{address} ({name})"));
        let busy = self.busy(grant.as_ref());
        match self.host.welcome(transport, &hello, busy) {
            Ok(connection) => {
                (self.host.on_event)(&format!("{who}: connected"));
                let (host, over) = (self.host, self.over);
                let session = self.scope.spawn(move || host.serve(connection, grant, &who, over));
                self.taken.push((name, session));
            }
            Err(error) => (self.host.on_event)(&format!("{who}: refused: {error}")),
        }
    }

    /// Why there is no session left for who has this key, if there is none.
    fn busy(&mut self, grant: Option<&Grant>) -> Option<Busy> {
        let sessions = self.count();
        let waiting = self.host.shared.turns.waiting();
        if sessions >= MAX_SESSIONS {
            return Some(Busy { sessions, of_key: false, waiting });
        }
        let (grant, most) = grant.and_then(|grant| Some((grant, grant.sessions?)))?;
        let sessions = self.taken.iter().filter(|(name, _)| name.as_ref() == Some(&grant.name)).count();
        (sessions >= most).then_some(Busy { sessions, of_key: true, waiting })
    }
}

/// What sessions need.
struct Host {
    shared: Shared,
    on_event: OnEvent,
}

impl Host {
    /// A guest's connection, if there is room for another session and its coprof is like ours. Nothing here blocks: the little that
    /// it is told fits what the system keeps for it.
    fn welcome(&self, transport: Transport, hello: &Hello, busy: Option<Busy>) -> Result<Connection> {
        let connection = Connection::new(transport, self.shared.deadlines)?;
        if let Err(error) = Hello::check(hello.protocol, &hello.coprof) {
            connection.send_message(&Refused { message: error.to_string() })?;
            return Err(error);
        }
        if let Some(busy) = busy {
            connection.send_message(&busy)?;
            return Err(busy.error());
        }
        Ok(connection)
    }

    /// One session. Whatever happens to it, the server goes on.
    fn serve(&self, connection: Connection, grant: Option<Grant>, who: &str, over: &AtomicBool) {
        // What a panic leaves half done belongs to this connection alone.
        let served = catch_unwind(AssertUnwindSafe(|| session::serve(connection, grant, &self.shared, over)));
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
