//! What the link to an edge is like.

use std::path::PathBuf;
use std::time::Duration;

use super::Context;
use super::edge::Endpoint;
use super::local_node::LocalNode;
use super::saved::{say_outdated, say_picked_up};
use crate::report::{Emulation, LinkDocument};
use coprof_core::clock::SystemClock;
use coprof_core::error::Result;
use coprof_run::measure::{LinkOptions, LinkProbe, Stream, Watch, link_holds, measure_link};
use coprof_run::pipeline::{Peer, StreamReport};

/// Measures and saves. `emulation` must not slow the device: the link does not know of it.
pub fn measure(
    edge: &Endpoint,
    device: &LocalNode,
    emulation: Emulation,
    time: Duration,
    context: &Context,
) -> Result<(LinkDocument, PathBuf)> {
    let mut first = Probe(edge.connect_alone()?);
    let mut second = Second { edge, opened: None };
    let bar = context.progress("link");
    let mut progress = |share: f64| bar.set(share);
    let mut watch = Watch::new(&mut progress, context.stop());
    let clock = SystemClock::default();
    let profile = measure_link(&mut first, Some(&mut second), &LinkOptions { time }, &clock, &mut watch)?;
    drop(bar);
    let document = LinkDocument {
        envelope: device.envelope("link", None, &emulation),
        peer: edge.peer_name().into(),
        peer_host: first.0.host().clone(),
        profile,
    };
    let path = context.save("link", &document)?;
    Ok((document, path))
}

/// The newest saved measurement of this very link, else a fresh one.
pub fn saved_or_measured(
    edge: &Endpoint,
    device: &LocalNode,
    emulation: Emulation,
    context: &Context,
) -> Result<LinkDocument> {
    let emulation = Emulation { slowdown: 1.0, ..emulation };
    let emulated = (emulation != Emulation::NONE).then_some(emulation);
    let fits = |document: &LinkDocument| {
        let envelope = &document.envelope;
        document.peer == edge.peer_name() && envelope.host_id == device.id() && envelope.emulated == emulated
    };
    if let Some((path, document)) = context.store().newest("link", fits) {
        let mut probe = Probe(edge.connect_alone()?);
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, context.stop());
        if link_holds(&mut probe, &document.profile, &mut watch)? {
            say_picked_up(context, "link", &path, &document.envelope);
            return Ok(document);
        }
        say_outdated(context, "link", &path, &document.envelope);
    }
    Ok(measure(edge, device, emulation, LinkOptions::default().time, context)?.0)
}

/// A connection as the measuring room wants it.
struct Probe(Peer);

fn stream(report: StreamReport) -> Stream {
    Stream { bytes: report.bytes, frames: report.frames, span: report.span_us.to_duration() }
}

impl LinkProbe for Probe {
    fn ping(&mut self, send: usize, reply: usize) -> Result<Duration> {
        self.0.ping(send, reply)
    }

    fn stream_up(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
        self.0.stream_up(frame_bytes, frames).map(stream)
    }

    fn stream_down(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
        self.0.stream_down(frame_bytes, frames).map(stream)
    }
}

/// The connection for round trips under load, opened when it is first asked: the edge cuts off one that idles.
struct Second<'a> {
    edge: &'a Endpoint,
    opened: Option<Probe>,
}

impl Second<'_> {
    fn probe(&mut self) -> Result<&mut Probe> {
        let probe = match self.opened.take() {
            Some(probe) => probe,
            None => Probe(self.edge.connect()?),
        };
        Ok(self.opened.insert(probe))
    }
}

impl LinkProbe for Second<'_> {
    fn ping(&mut self, send: usize, reply: usize) -> Result<Duration> {
        self.probe()?.ping(send, reply)
    }

    fn stream_up(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
        self.probe()?.stream_up(frame_bytes, frames)
    }

    fn stream_down(&mut self, frame_bytes: usize, frames: usize) -> Result<Stream> {
        self.probe()?.stream_down(frame_bytes, frames)
    }
}
