//! `coprof link`: what the link is like.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{self, EmulationArgs, PeerArgs, RuntimeArgs};
use super::device::Device;
use super::edge::Route;
use super::output::Output;
use super::saved::{say_outdated, say_picked_up};
use super::{rows, save, stop, store};
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::measure::{LinkOptions, LinkProbe, LinkProfile, Stream, Watch, link_holds, measure_link};
use crate::pipeline::{Peer, StreamReport};
use crate::report::{Emulation, LinkDocument, link_view};

pub const EXAMPLE: &str = "Examples:
  coprof link --peer 192.168.1.20            # `coprof serve --listen 0.0.0.0 --insecure` runs there
  coprof link --link-rate 20mbit --link-delay 5ms    # an emulated link on this machine
  coprof link --json | jq .uplink.bits_per_second";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    peer: PeerArgs,
    #[command(flatten)]
    emulation: EmulationArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// How long to measure
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = args::span)]
    time: Duration,
    /// Write the time-against-size points as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&args.time) {
        return Err(Error::usage("--time: 1s to 10m were expected"));
    }
    let device = Device::new(&args.runtime)?;
    let emulation = Emulation { slowdown: 1.0, ..args.emulation.emulation() };
    if args.emulation.slowdown.is_some() {
        output.say("--slowdown does not touch the link; its figures are the same without");
    }
    let route = Route::open(&args.peer, &args.runtime, &emulation, output)?;
    let (document, path) = measure(&route, &device, emulation, args.time, output)?;
    if let Some(csv) = &args.csv {
        rows::write_csv(csv, &csv_rows(&document.profile))?;
    }
    output.result(&document, || {
        let view = link_view(&document);
        emulation.describe().map_or(view.clone(), |emulated| format!("{view}\n{emulated}"))
    })?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}

/// Measures and saves. `emulation` must not slow the device: the link does not know of it.
pub fn measure(
    route: &Route,
    device: &Device,
    emulation: Emulation,
    time: Duration,
    output: Output,
) -> Result<(LinkDocument, PathBuf)> {
    let mut first = Probe(route.connect_alone()?);
    let mut second = Second { route, opened: None };
    let bar = output.progress("link");
    let mut progress = |share: f64| bar.set(share);
    let mut watch = Watch::new(&mut progress, &stop::asked);
    let clock = SystemClock::default();
    let profile = measure_link(&mut first, Some(&mut second), &LinkOptions { time }, &clock, &mut watch)?;
    drop(bar);
    let document = LinkDocument {
        envelope: device.envelope("link", None, &emulation),
        peer: route.peer_name().into(),
        peer_host: first.0.host().clone(),
        profile,
    };
    let path = save("link", &document)?;
    Ok((document, path))
}

/// The newest saved measurement of this very link, else a fresh one.
pub fn saved_or_measured(
    route: &Route,
    device: &Device,
    emulation: Emulation,
    output: Output,
) -> Result<LinkDocument> {
    let emulation = Emulation { slowdown: 1.0, ..emulation };
    let emulated = (emulation != Emulation::NONE).then_some(emulation);
    let fits = |document: &LinkDocument| {
        let envelope = &document.envelope;
        document.peer == route.peer_name() && envelope.host_id == device.id() && envelope.emulated == emulated
    };
    if let Some((path, document)) = store().newest("link", fits) {
        let mut probe = Probe(route.connect_alone()?);
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &stop::asked);
        if link_holds(&mut probe, &document.profile, &mut watch)? {
            say_picked_up(output, "link", &path, &document.envelope);
            return Ok(document);
        }
        say_outdated(output, "link", &path, &document.envelope);
    }
    Ok(measure(route, device, emulation, LinkOptions::default().time, output)?.0)
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
    route: &'a Route,
    opened: Option<Probe>,
}

impl Second<'_> {
    fn probe(&mut self) -> Result<&mut Probe> {
        let probe = match self.opened.take() {
            Some(probe) => probe,
            None => Probe(self.route.connect()?),
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

fn csv_rows(profile: &LinkProfile) -> Vec<Vec<String>> {
    let mut rows = vec![["direction", "frame_bytes", "time_us"].map(str::to_owned).to_vec()];
    for (name, direction) in [("uplink", &profile.uplink), ("downlink", &profile.downlink)] {
        rows.extend(direction.frame_times.iter().map(|point| {
            vec![name.into(), point.frame_bytes.to_string(), format!("{:.3}", point.time_us.0)]
        }));
    }
    rows
}
