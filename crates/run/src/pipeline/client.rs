//! The device's side of a connection to an edge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::connection::{Connection, Deadlines, dial};
use super::key::Key;
use super::messages::{
    Busy, Failed, Fields, Hello, Message, ModelOffer, NodeProfile, ProfileRequest, Progress, Refused,
    RunRequest, StreamDown, StreamRequest, StreamUp, Waiting, Welcome, printable,
};
use super::transport::Transport;
use super::wire::{FrameKind, MAX_FILLER_BYTES, MODEL_CHUNK_BYTES, frame_bytes, set_filler};
use crate::measure::HostFacts;
use coprof_core::clock::Clock;
use coprof_core::error::{Error, Kind, Remedy, Result};
use coprof_core::model::ModelHash;
use coprof_core::units::Micros;

pub use super::messages::StreamReport;

/// At the door of an edge there may be a crowd, of which it drops one at random for each newcomer: so often we come again …
const ATTEMPTS: u32 = 12;

/// … after a pause that doubles each time …
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// … up to this …
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// … unless it has let us wait for so long before: then it has nothing to say to us.
const EARLY: Duration = Duration::from_millis(500);

/// How to connect.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// How long the edge may take.
    pub deadlines: Deadlines,
    /// The key that the edge asks for; `None`: it asks for none.
    pub key: Option<Key>,
    /// Set by SIGINT: whatever waits for the edge ends.
    pub stop: Arc<AtomicBool>,
}

/// How an edge's clock maps to ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockMap {
    /// Our reading minus the edge's.
    pub offset: Micros,
    /// The shortest round trip found.
    pub round_trip: Micros,
}

/// A connection to an edge. It ends when nothing is asked for longer than the edge's idle deadline: connect when there is
/// something to ask. After an error it is of no use any more.
pub struct Peer {
    pub(super) connection: Connection,
    address: SocketAddr,
    host: HostFacts,
    payload: Vec<u8>,
    filler: Vec<u8>,
    has_turn: bool,
    stop: Arc<AtomicBool>,
}

impl Peer {
    /// Connects and greets. Everything that stands in the way is a peer error that says what to do.
    pub fn connect(address: SocketAddr, options: &ConnectOptions) -> Result<Self> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let start = Instant::now();
            if let Some(peer) = Self::try_connect(address, options)? {
                return Ok(peer);
            }
            if start.elapsed() > EARLY {
                return Err(hung_up(options).within(address));
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        Self::try_connect(address, options)?.ok_or_else(|| hung_up(options).within(address))
    }

    /// `None` where the edge hangs up without a word.
    fn try_connect(address: SocketAddr, options: &ConnectOptions) -> Result<Option<Self>> {
        let stream = dial(address, options.deadlines.handshake)?;
        let mut connection = Connection::new(Transport::new(stream), options.deadlines)?;
        let stop = Arc::clone(&options.stop);
        if let Some(key) = &options.key {
            let secured = connection.secure(key, &|| stop.load(Ordering::Relaxed));
            if !secured.map_err(|error| advised(error, options).within(address))? {
                return Ok(None);
            }
        }
        // If it has hung up already, that shows when we listen.
        let _ = connection.send_message(&Hello::ours());
        let mut payload = Vec::new();
        let host = welcome(&connection, &stop, &mut payload).map_err(|error| error.within(address))?;
        let (filler, has_turn) = (Vec::new(), false);
        Ok(host.map(|host| Self { connection, address, host, payload, filler, has_turn, stop }))
    }

    /// What the edge's host is, as it reports it.
    pub fn host(&self) -> &HostFacts {
        &self.host
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    fn receive(&mut self) -> Result<Option<FrameKind>> {
        let stop = || self.stop.load(Ordering::Relaxed);
        self.connection.receive(0, &stop, &mut self.payload).map_err(|error| self.named(error))
    }

    fn expect(&mut self, wanted: FrameKind) -> Result<()> {
        let kind = self.receive()?;
        self.check(kind, wanted)
    }

    fn expect_message<M: Message>(&mut self) -> Result<M> {
        self.expect(M::KIND)?;
        M::parse(&self.payload)
    }

    fn check(&self, found: Option<FrameKind>, wanted: FrameKind) -> Result<()> {
        match found {
            Some(kind) if kind == wanted => Ok(()),
            other => Err(unexpected(other, &self.payload).within(self.address)),
        }
    }

    fn named(&self, error: Error) -> Error {
        match error.kind() {
            Kind::Interrupted => error,
            _ => error.within(self.address),
        }
    }

    fn send(&self, kind: FrameKind, head: &[u8], body: &[u8]) -> Result<()> {
        self.connection.send(kind, head, body).map_err(|error| self.named(error))
    }

    /// Waits until nobody else measures on the edge; from then on nobody does until this connection ends. `waiting` is told
    /// about twice a second how many come before. All that disturbs others or is disturbed by them begins with it: whoever
    /// wants to hear of the wait calls it before. On a connection that has its turn it does nothing.
    pub fn take_turn(&mut self, waiting: &mut dyn FnMut(usize)) -> Result<()> {
        if self.has_turn {
            return Ok(());
        }
        self.send(FrameKind::TakeTurn, &[], &[])?;
        loop {
            match self.receive()? {
                Some(Waiting::KIND) => waiting(Waiting::parse(&self.payload)?.before),
                other => {
                    self.check(other, FrameKind::Turn)?;
                    self.has_turn = true;
                    return Ok(());
                }
            }
        }
    }

    /// Makes the model the one that the next requests are about; sends `file` if the edge lacks it.
    pub fn offer_model(&mut self, name: &str, hash: &ModelHash, file: &[u8]) -> Result<()> {
        self.take_turn(&mut |_| ())?;
        let offer = ModelOffer { name: printable(name), hash: hash.clone(), bytes: file.len() };
        self.connection.send_message(&offer)?;
        match self.receive()? {
            Some(FrameKind::ModelReady) => Ok(()),
            Some(FrameKind::ModelWanted) => {
                for chunk in file.chunks(MODEL_CHUNK_BYTES) {
                    self.send(FrameKind::ModelChunk, &[], chunk)?;
                }
                self.expect(FrameKind::ModelReady)
            }
            other => self.check(other, FrameKind::ModelReady),
        }
    }

    /// Has the edge measure the offered model; `progress` is told the share that is done.
    pub fn profile(
        &mut self,
        request: &ProfileRequest,
        progress: &mut dyn FnMut(f64),
    ) -> Result<NodeProfile> {
        self.take_turn(&mut |_| ())?;
        self.connection.send_message(request)?;
        loop {
            match self.receive()? {
                Some(Progress::KIND) => progress(Progress::parse(&self.payload)?.share),
                other => {
                    self.check(other, NodeProfile::KIND)?;
                    return NodeProfile::parse(&self.payload);
                }
            }
        }
    }

    /// The round trip of a frame with `send_bytes` of payload (at least 4) and a reply with `reply_bytes` (at least 8).
    pub fn ping(&mut self, send_bytes: usize, reply_bytes: usize) -> Result<Duration> {
        self.check_filler(send_bytes.max(reply_bytes))?;
        set_filler(&mut self.filler, send_bytes.saturating_sub(4));
        let wanted = (reply_bytes as u32).to_le_bytes();
        let asked = Instant::now();
        self.send(FrameKind::Ping, &wanted, &self.filler)?;
        self.expect(FrameKind::Pong)?;
        Ok(asked.elapsed())
    }

    /// Maps the edge's clock to `clock` by the fastest of a few round trips, taking the way there to be as long as the way
    /// back. Clocks drift apart by some microseconds per second.
    pub fn map_clock(&mut self, clock: &dyn Clock) -> Result<ClockMap> {
        const ROUNDS: usize = 10;
        let mut best: Option<ClockMap> = None;
        for _ in 0..ROUNDS {
            let asked = Micros::from(clock.now());
            self.ping(4, 8)?;
            let answered = Micros::from(clock.now());
            let there = Fields(&self.payload).take().map_or(0, u64::from_le_bytes);
            let round_trip = answered - asked;
            if best.is_none_or(|best| round_trip < best.round_trip) {
                let offset = asked + round_trip * 0.5 - Duration::from_nanos(there).into();
                best = Some(ClockMap { offset, round_trip });
            }
        }
        best.ok_or_else(|| Error::peer("the edge answered no ping"))
    }

    /// Sends `frames` frames of `payload_bytes`; what the edge saw.
    pub fn stream_up(&mut self, payload_bytes: usize, frames: usize) -> Result<StreamReport> {
        self.check_filler(payload_bytes)?;
        self.take_turn(&mut |_| ())?;
        self.connection.send_message(&StreamUp(StreamRequest { frames, payload_bytes }))?;
        set_filler(&mut self.filler, payload_bytes);
        for _ in 0..frames {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            self.send(FrameKind::Filler, &[], &self.filler)?;
        }
        self.expect_message()
    }

    /// Has the edge send `frames` frames of `payload_bytes`; what we saw.
    pub fn stream_down(&mut self, payload_bytes: usize, frames: usize) -> Result<StreamReport> {
        self.take_turn(&mut |_| ())?;
        self.connection.send_message(&StreamDown(StreamRequest { frames, payload_bytes }))?;
        let (mut bytes, mut first) = (0, Instant::now());
        for index in 0..frames {
            self.expect(FrameKind::Filler)?;
            match index {
                0 => first = Instant::now(),
                _ => bytes += frame_bytes(self.payload.len()) as u64,
            }
        }
        Ok(StreamReport { bytes, frames: frames.saturating_sub(1) as u64, span_us: first.elapsed().into() })
    }

    /// Has the edge take part in a run.
    pub(super) fn start_run(&mut self, request: &RunRequest) -> Result<()> {
        self.take_turn(&mut |_| ())?;
        self.connection.send_message(request)?;
        self.expect(FrameKind::RunReady)
    }

    fn check_filler(&self, bytes: usize) -> Result<()> {
        if bytes <= MAX_FILLER_BYTES {
            return Ok(());
        }
        Err(Error::usage(format!("a measuring frame has at most {MAX_FILLER_BYTES} bytes, found {bytes}")))
    }
}

/// Takes the edge's greeting: what its host is. `None`: it has hung up.
fn welcome(connection: &Connection, stop: &AtomicBool, payload: &mut Vec<u8>) -> Result<Option<HostFacts>> {
    match connection.receive_greeting(&|| stop.load(Ordering::Relaxed), payload)? {
        Some(Welcome::KIND) => {}
        None => return Ok(None),
        other => return Err(unexpected(other, payload)),
    }
    // What another version says of its host may be anything, so this comes first.
    let version = Hello::parse(payload)?;
    Hello::check(version.protocol, &version.coprof)?;
    Ok(Some(Welcome::parse(payload)?.host))
}

fn hung_up(options: &ConnectOptions) -> Error {
    let error = Error::peer("the edge closed the connection without a word, as it does where keys differ");
    advised(error, options)
}

/// What to do where an edge does not understand us.
fn advised(error: Error, options: &ConnectOptions) -> Error {
    match error.kind() {
        Kind::Peer => error.with(if options.key.is_some() { Remedy::CheckKey } else { Remedy::GiveKey }),
        _ => error,
    }
}

fn edge_says(message: Result<String>) -> Error {
    message
        .map_or_else(|error| error, |message| Error::peer(format!("the edge says: {}", printable(&message))))
}

/// What an unexpected frame means.
pub(super) fn unexpected(found: Option<FrameKind>, payload: &[u8]) -> Error {
    match found {
        Some(Refused::KIND) => edge_says(Refused::parse(payload).map(|refused| refused.message)),
        Some(Busy::KIND) => Busy::parse(payload).map_or_else(|error| error, |busy| busy.error()),
        Some(Failed::KIND) => edge_says(Failed::parse(payload).map(|failed| failed.message)),
        Some(kind) => Error::peer(format!("the edge sent an unexpected {kind:?} frame; update both sides")),
        None => Error::peer("the edge closed the connection; look at what `coprof serve -v` says there"),
    }
}
