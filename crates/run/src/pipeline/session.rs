//! The edge's side of one connection: one request after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::edge;
use super::key::Grant;
use super::messages::{
    Failed, Fields, Message, ModelOffer, ProfileRequest, Progress, RunRequest, StreamDown, StreamReport,
    StreamRequest, StreamUp, Waiting, Welcome, printable,
};
use super::services::{MAX_MODEL_BYTES, Shared};
use super::turns::{Limit, Place};
use super::wire::{FrameKind, MAX_FILLER_BYTES, PROTOCOL, frame_bytes, set_filler};
use crate::backend::Backend;
use crate::measure::Watch;
use coprof_core::clock::{Clock, SystemClock};
use coprof_core::error::{Error, Kind, Result};
use coprof_core::model::ModelHash;

/// The most bytes in one measuring stream.
const MAX_STREAM_BYTES: usize = 1 << 30;

/// A measurement that has nothing new to say says at least this often that it goes on.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Who waits for its turn hears so often that it does. Not at once: the client's own last connection may be about to end.
const WAITING_EVERY: Duration = Duration::from_millis(500);

/// Progress is not told more often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Serves a connection that was greeted to its end.
pub(super) fn serve(
    connection: Connection,
    grant: Option<Grant>,
    shared: &Shared,
    stop: &AtomicBool,
) -> Result<()> {
    let (clock, limit) = (SystemClock::default(), Limit { stop, turn_ends: None });
    let mut session =
        Session { connection, grant, clock, shared, limit, model: None, turn: None, payload: Vec::new() };
    let served = session.welcome().and_then(|()| session.serve_requests());
    // In this order: others may measure only when nothing is left to tear down. They need not wait while this peer is told why it
    // ends, though, which takes long if it does not listen.
    session.model = None;
    session.turn = None;
    let served = served.map_err(|error| session.report(error));
    if served.is_err() {
        session.connection.linger();
    }
    served
}

struct Session<'a> {
    connection: Connection,
    /// Whose key the client has.
    grant: Option<Grant>,
    /// Counts from the start of the connection.
    clock: SystemClock,
    shared: &'a Shared,
    limit: Limit<'a>,
    model: Option<(ModelHash, Box<dyn Backend>)>,
    /// Present once it is this connection's turn.
    turn: Option<Place<'a>>,
    /// The last frame's.
    payload: Vec<u8>,
}

impl Session<'_> {
    fn receive(&mut self) -> Result<Option<FrameKind>> {
        self.connection.receive(0, &|| self.limit.is_reached(), &mut self.payload)
    }

    /// The next frame of a request under way.
    fn expect(&mut self, wanted: FrameKind) -> Result<()> {
        match self.receive()? {
            Some(kind) if kind == wanted => Ok(()),
            Some(kind) => Err(Error::peer(format!("expected a {wanted:?} frame, found {kind:?}"))),
            None => {
                Err(Error::peer(format!("the peer closed the connection, a {wanted:?} frame was expected")))
            }
        }
    }

    fn welcome(&self) -> Result<()> {
        let coprof = env!("CARGO_PKG_VERSION").into();
        let welcome = Welcome { protocol: PROTOCOL, coprof, host: self.shared.services.host() };
        self.connection.send_message(&welcome)
    }

    /// Tells the peer, which may be gone, why its connection ends.
    fn report(&self, error: Error) -> Error {
        let error = match error.kind() {
            Kind::Interrupted if self.limit.is_stopped() => Error::peer("the edge is stopping"),
            Kind::Interrupted => Error::peer("the turn of this key is over; connect again for another"),
            _ => error,
        };
        // If it is gone, nobody is left to tell.
        let _ = self.connection.send_message(&Failed { message: error.to_string() });
        error
    }

    fn serve_requests(&mut self) -> Result<()> {
        while let Some(kind) = self.receive()? {
            if kind.needs_turn() && self.turn.is_none() {
                return Err(Error::peer(format!(
                    "a {kind:?} frame came without its turn; update both sides"
                )));
            }
            match kind {
                FrameKind::Ping => self.pong()?,
                FrameKind::TakeTurn => self.take_turn()?,
                StreamUp::KIND => self.take_stream(StreamUp::parse(&self.payload)?.0)?,
                StreamDown::KIND => self.give_stream(StreamDown::parse(&self.payload)?.0)?,
                ModelOffer::KIND => self.take_model(ModelOffer::parse(&self.payload)?)?,
                ProfileRequest::KIND => self.profile(&ProfileRequest::parse(&self.payload)?)?,
                RunRequest::KIND => self.run(&RunRequest::parse(&self.payload)?)?,
                other => return Err(Error::peer(format!("expected a request, found a {other:?} frame"))),
            }
        }
        Ok(())
    }

    /// Waits until nobody else measures here.
    fn take_turn(&mut self) -> Result<()> {
        let shared = self.shared;
        let place = self.turn.take().unwrap_or_else(|| shared.turns.queue());
        let mut told = Instant::now();
        loop {
            let before = place.before();
            // In this order: a stop ends the turns of others, too.
            if self.limit.is_reached() {
                return Err(Error::interrupted());
            }
            if before == 0 {
                break;
            }
            if told.elapsed() >= WAITING_EVERY {
                told = Instant::now();
                self.connection.send_message(&Waiting { before })?;
            }
            self.connection.pause()?;
        }
        self.turn = Some(place);
        let longest = self.grant.as_ref().and_then(|grant| grant.turn);
        self.limit.turn_ends = self.limit.turn_ends.or(longest.map(|longest| Instant::now() + longest));
        self.connection.send(FrameKind::Turn, &[], &[])
    }

    fn pong(&mut self) -> Result<()> {
        let wanted = Fields(&self.payload).take().map_or(0, u32::from_le_bytes) as usize;
        if wanted > MAX_FILLER_BYTES {
            return Err(Error::peer(format!(
                "a reply has at most {MAX_FILLER_BYTES} bytes, {wanted} were asked for"
            )));
        }
        let now = self.clock.now().as_nanos() as u64;
        // The question's own bytes serve as filler.
        self.payload.resize(wanted.saturating_sub(8), 0);
        self.connection.send(FrameKind::Pong, &now.to_le_bytes(), &self.payload)
    }

    fn check_stream(request: StreamRequest) -> Result<()> {
        let total = request.frames.checked_mul(frame_bytes(request.payload_bytes.min(MAX_STREAM_BYTES)));
        let fits = total.is_some_and(|total| total <= MAX_STREAM_BYTES);
        if request.frames < 2 || request.payload_bytes > MAX_FILLER_BYTES || !fits {
            return Err(Error::peer(format!(
                "a stream has at least 2 frames of at most {MAX_FILLER_BYTES} bytes and {MAX_STREAM_BYTES} in all, \
                 found {} of {}",
                request.frames, request.payload_bytes
            )));
        }
        Ok(())
    }

    fn take_stream(&mut self, request: StreamRequest) -> Result<()> {
        Self::check_stream(request)?;
        let (mut bytes, mut first) = (0, Duration::ZERO);
        for index in 0..request.frames {
            self.expect(FrameKind::Filler)?;
            match index {
                0 => first = self.clock.now(),
                _ => bytes += frame_bytes(self.payload.len()) as u64,
            }
        }
        let span_us = (self.clock.now() - first).into();
        let report = StreamReport { bytes, frames: request.frames as u64 - 1, span_us };
        self.connection.send_message(&report)
    }

    fn give_stream(&mut self, request: StreamRequest) -> Result<()> {
        Self::check_stream(request)?;
        set_filler(&mut self.payload, request.payload_bytes);
        (0..request.frames).try_for_each(|_| {
            if self.limit.is_reached() {
                return Err(Error::interrupted());
            }
            self.connection.send(FrameKind::Filler, &[], &self.payload)
        })
    }

    fn take_model(&mut self, offer: ModelOffer) -> Result<()> {
        if self.model.as_ref().is_some_and(|(hash, _)| *hash == offer.hash) {
            return self.connection.send(FrameKind::ModelReady, &[], &[]);
        }
        let (name, file, is_new) = match self.shared.find_model(self.grant.as_ref(), &offer.hash) {
            Some((name, file)) => (name, file, false),
            None => (printable(&offer.name), self.take_model_file(&offer)?, true),
        };
        let backend = self.shared.services.backend(&name, &file)?;
        if is_new {
            self.shared.keep_model(self.grant.as_ref(), offer.hash.clone(), name, file);
        }
        self.model = Some((offer.hash, backend));
        self.connection.send(FrameKind::ModelReady, &[], &[])
    }

    fn take_model_file(&mut self, offer: &ModelOffer) -> Result<Arc<[u8]>> {
        if offer.bytes > MAX_MODEL_BYTES {
            return Err(Error::peer(format!(
                "a model file of {} bytes was offered, {MAX_MODEL_BYTES} are taken at most",
                offer.bytes
            )));
        }
        self.connection.send(FrameKind::ModelWanted, &[], &[])?;
        let mut file = Vec::new();
        while file.len() < offer.bytes {
            self.expect(FrameKind::ModelChunk)?;
            if self.payload.is_empty() || self.payload.len() > offer.bytes - file.len() {
                return Err(Error::peer(format!(
                    "a model file of {} bytes was announced, found another size",
                    offer.bytes
                )));
            }
            file.extend_from_slice(&self.payload);
        }
        let found = ModelHash::of(&file);
        if found != offer.hash {
            return Err(Error::peer(format!(
                "model {} was announced, {} arrived; has the file changed meanwhile?",
                printable(offer.hash.short()),
                found.short()
            )));
        }
        Ok(file.into())
    }

    fn profile(&mut self, request: &ProfileRequest) -> Result<()> {
        let (_, backend) = self.model.as_mut().ok_or_else(no_model)?;
        let services = &self.shared.services;
        let (tell, told) = mpsc::channel();
        let gone = AtomicBool::new(false);
        let over = || gone.load(Ordering::Relaxed) || self.limit.is_reached();
        let result = std::thread::scope(|scope| {
            let over = &over;
            let worker = scope.spawn(move || {
                services.pin();
                // The listener outlives this thread.
                let mut progress = |share| _ = tell.send(share);
                services.profile(&mut **backend, request, &mut Watch::new(&mut progress, over))
            });
            tell_progress(&self.connection, &told, &gone);
            worker.join().unwrap_or_else(|_| Err(Error::failed("the measurement panicked on the edge")))
        });
        if gone.load(Ordering::Relaxed) {
            return Err(Error::peer("the peer closed the connection in the middle of a measurement"));
        }
        self.connection.send_message(&result?)
    }

    fn run(&mut self, request: &RunRequest) -> Result<()> {
        let (_, backend) = self.model.as_mut().ok_or_else(no_model)?;
        let services = &*self.shared.services;
        let part = edge::Part::new(&self.connection, &self.clock, services, self.limit);
        part.run(&mut **backend, request)
    }
}

fn no_model() -> Error {
    Error::peer("no model was offered on this connection; update both sides")
}

/// Passes progress on until the measurement is over, and finds out when the peer is `gone`. The measuring thread never waits
/// for the network.
fn tell_progress(connection: &Connection, told: &mpsc::Receiver<f64>, gone: &AtomicBool) {
    let mut share = 0.0;
    let mut last = Instant::now();
    loop {
        match told.recv_timeout(KEEP_ALIVE) {
            Ok(next) => {
                share = next;
                if last.elapsed() < PROGRESS_EVERY {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        last = Instant::now();
        if connection.send_message(&Progress { share }).is_err() {
            gone.store(true, Ordering::Relaxed);
            return;
        }
    }
}
