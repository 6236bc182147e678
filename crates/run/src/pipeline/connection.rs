//! One TCP connection with its deadlines: frames in, frames out.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::key::Key;
use super::messages::Message;
use super::noise::{HANDSHAKE_BYTES, Initiator};
use super::transport::Transport;
use super::wire::{FrameKind, Wait, broken, fill, is_pause, read_frame, write_frame};
use coprof_core::error::{Error, Result};

/// How often a blocked read looks up, to see whether it should go on.
const POLL: Duration = Duration::from_millis(100);

/// How long each part of a conversation may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Connecting, and the greetings, in all.
    pub handshake: Duration,
    /// On an edge, until a stranger has said its greeting. Shorter, so that it hears the end from us.
    pub greeting: Duration,
    /// Without a byte from the peer while one is expected.
    pub idle: Duration,
    /// Without the peer taking a byte.
    pub write: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let half_a_minute = Duration::from_secs(30);
        Self {
            handshake: Duration::from_secs(5),
            greeting: Duration::from_secs(2),
            idle: half_a_minute,
            write: half_a_minute,
        }
    }
}

/// Usable from one reading and one writing thread at once.
pub(super) struct Connection {
    transport: Transport,
    deadlines: Deadlines,
}

impl Connection {
    pub fn new(transport: Transport, deadlines: Deadlines) -> Result<Self> {
        let stream = transport.stream();
        let set_up = || {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(POLL))?;
            stream.set_write_timeout(Some(deadlines.write.max(POLL)))
        };
        set_up().map_err(|error: std::io::Error| broken(error))?;
        Ok(Self { transport, deadlines })
    }

    /// Encrypts all that follows, if the edge at the other end has the key. False: it has hung up instead of answering.
    pub fn secure(&mut self, key: &Key, stop: &dyn Fn() -> bool) -> Result<bool> {
        let (handshake, first) = Initiator::begin(key)?;
        // If it has hung up already, that shows when we listen.
        let _ = (&self.transport).write_all(&first);
        let limit = self.deadlines.handshake;
        let wait = Wait { idle: limit, until: Some(Instant::now() + limit), stop };
        let mut second = [0; HANDSHAKE_BYTES];
        if fill(&mut &self.transport, &wait, &mut second)? < HANDSHAKE_BYTES {
            return Ok(false);
        }
        self.transport.seal(handshake.end(&second)?);
        Ok(true)
    }

    pub fn send(&self, kind: FrameKind, head: &[u8], body: &[u8]) -> Result<()> {
        write_frame(&mut &self.transport, kind, head, body)
    }

    pub fn send_message<M: Message>(&self, message: &M) -> Result<()> {
        let body = serde_json::to_vec(message)
            .map_err(|error| Error::failed(format!("a {:?} message cannot be written: {error}", M::KIND)))?;
        self.send(M::KIND, M::PREFIX, &body)
    }

    /// The next frame; `None` when the peer closed the connection. `stop` ends the wait with `Interrupted`.
    pub fn receive(
        &self,
        run_cap: usize,
        stop: &dyn Fn() -> bool,
        payload: &mut Vec<u8>,
    ) -> Result<Option<FrameKind>> {
        let wait = Wait { idle: self.deadlines.idle, until: None, stop };
        read_frame(&mut &self.transport, &wait, run_cap, payload)
    }

    /// The peer's first frame, within the handshake's deadline.
    pub fn receive_greeting(
        &self,
        stop: &dyn Fn() -> bool,
        payload: &mut Vec<u8>,
    ) -> Result<Option<FrameKind>> {
        let limit = self.deadlines.handshake;
        let wait = Wait { idle: limit, until: Some(Instant::now() + limit), stop };
        read_frame(&mut &self.transport, &wait, 0, payload)
    }

    /// Lets a moment pass in which the peer has nothing to say, and finds out when it has gone.
    pub fn pause(&self) -> Result<()> {
        let spoke =
            || Error::peer("the peer was to wait for its turn, but sent something; update both sides");
        if self.transport.is_ahead() {
            return Err(spoke());
        }
        match self.transport.stream().peek(&mut [0]) {
            Ok(0) => Err(Error::peer("the peer closed the connection while it waited for its turn")),
            Ok(_) => Err(spoke()),
            Err(error) if is_pause(error.kind()) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }

    /// Ends both directions; whoever reads or writes returns.
    pub fn close(&self) {
        // An error means that it is closed already.
        let _ = self.transport.stream().shutdown(Shutdown::Both);
    }

    /// Ends our direction and lets the peer read what we sent last: closing with unread bytes in the buffer would make
    /// the kernel throw our last words away.
    pub fn linger(&self) {
        let until = Instant::now() + Duration::from_secs(1);
        let mut waste = [0; 4096];
        let mut stream = self.transport.stream();
        if stream.shutdown(Shutdown::Write).is_ok() {
            while Instant::now() < until && !matches!(stream.read(&mut waste), Ok(0)) {}
        }
    }
}

/// Opens a connection to `address`.
pub(super) fn dial(address: SocketAddr, limit: Duration) -> Result<TcpStream> {
    TcpStream::connect_timeout(&address, limit).map_err(|error| {
        Error::peer(format!(
            "cannot reach {address} ({error}); start `coprof serve` there and check the address"
        ))
    })
}
