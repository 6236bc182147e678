//! What a key costs an edge's users, and what strangers cost them.
//!
//! Streams of frames over loopback with and without a key, in turn, so that both meet the same machine: each frame is sealed and opened
//! here, while on two machines each has half of that. Then how long it takes to get in, alone and in a crowd.

use std::error::Error;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use coprof_core::clock::{Clock, WallClock};
use coprof_core::error::{Error as Failure, Result};
use coprof_core::model::ModelHash;
use coprof_run::backend::Backend;
use coprof_run::measure::{HostFacts, Watch};
use coprof_run::pipeline::{
    ConnectOptions, Deadlines, Key, KeyRing, NodeProfile, Peer, ProfileRequest, ServeOptions, Server,
    Services,
};

/// Payloads of frames: an answer, CIFAR pictures, frontiers, and what shows the rate alone.
const SIZES: [usize; 5] = [32, 3 << 10, 32 << 10, 256 << 10, 4 << 20];

const ROUNDS: usize = 25;

/// In one stream.
const STREAM_BYTES: usize = 32 << 20;

/// Small frames are too many else.
const MAX_FRAMES: usize = 20_000;

/// Strangers who come again as soon as they are hung up on: with the edge's places for them, as many sockets as a process may have.
const STRANGERS: usize = 700;

/// How often somebody with a key, or a greeting, gets in among them.
const ENTRIES: usize = 100;

/// An edge that only talks.
struct Talk;

impl Services for Talk {
    fn backend(&self, _: &str, _: &[u8]) -> Result<Box<dyn Backend>> {
        Err(Failure::failed("runs no models"))
    }
    fn bundled(&self, _: &ModelHash) -> Option<(String, Arc<[u8]>)> {
        None
    }
    fn profile(&self, _: &mut dyn Backend, _: &ProfileRequest, _: &mut Watch<'_>) -> Result<NodeProfile> {
        Err(Failure::failed("runs no models"))
    }
    fn host(&self) -> HostFacts {
        HostFacts::default()
    }
    fn pin(&self) {}
    fn clock(&self) -> Box<dyn Clock> {
        Box::new(WallClock::default())
    }
}

fn server(keys: Option<KeyRing>) -> Result<Server> {
    let options = ServeOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        keys,
        insecure: false,
        deadlines: Deadlines::default(),
        drain: Duration::ZERO,
        on_event: Arc::new(|_| ()),
    };
    Server::bind(&options, Arc::new(Talk))
}

/// Time per frame, in microseconds, of a stream towards the edge.
fn frame_us(peer: &mut Peer, payload: usize) -> Result<f64> {
    let frames = (STREAM_BYTES / payload).clamp(2, MAX_FRAMES);
    let report = peer.stream_up(payload, frames)?;
    Ok(report.span_us.0 / report.frames as f64)
}

fn compare(addresses: [SocketAddr; 2], key: &Key) -> Result<()> {
    let mut peers = Vec::new();
    for (address, key) in addresses.into_iter().zip([None, Some(key.clone())]) {
        peers.push(Peer::connect(address, &ConnectOptions { key, ..ConnectOptions::default() })?);
    }
    println!("{:>9}  {:>12} {:>12}  {:>12}", "payload", "plain", "encrypted", "difference");
    for payload in SIZES {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (peer, times) in peers.iter_mut().zip(&mut times) {
                times.push(frame_us(peer, payload)?);
            }
        }
        let [plain, encrypted] = times.map(|mut times| {
            times.sort_unstable_by(f64::total_cmp);
            times[times.len() / 2]
        });
        println!(
            "{payload:>7} B  {plain:>9.2} µs {encrypted:>9.2} µs  {:>9.2} µs  ratio of rates {:.2}, {:.0} MB/s encrypted",
            encrypted - plain,
            plain / encrypted,
            payload as f64 / encrypted,
        );
    }
    Ok(())
}

fn entry_times(address: SocketAddr, key: Option<&Key>) -> Result<String> {
    let options = ConnectOptions { key: key.cloned(), ..ConnectOptions::default() };
    let mut times = Vec::with_capacity(ENTRIES);
    for _ in 0..ENTRIES {
        let start = Instant::now();
        Peer::connect(address, &options)?;
        times.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    times.sort_unstable();
    let most = times[ENTRIES - 1];
    Ok(format!("median {:.1?}, p90 {:.1?}, at most {most:.1?}", times[ENTRIES / 2], times[ENTRIES * 9 / 10]))
}

/// Comes, says nothing, and comes again when hung up on.
fn be_a_stranger(address: SocketAddr, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        // However it ends, it comes again.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        let _ = stream.read(&mut [0]);
    }
}

fn crowd(address: SocketAddr, key: Option<&Key>) -> std::result::Result<(), Box<dyn Error>> {
    let what = if key.is_some() { "with a key" } else { "without" };
    println!("getting in {what}, alone: {}", entry_times(address, key)?);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        for _ in 0..STRANGERS {
            let stranger = move || be_a_stranger(address, over);
            if let Err(error) = Builder::new().stack_size(64 << 10).spawn_scoped(scope, stranger) {
                over.store(true, Ordering::Relaxed);
                return Err(error.into());
            }
        }
        let times = entry_times(address, key);
        over.store(true, Ordering::Relaxed);
        println!("getting in {what}, among {STRANGERS} strangers: {}", times?);
        Ok(())
    })
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let key = Key::random()?;
    let (plain, encrypted) = (server(None)?, server(Some(KeyRing::parse(&key.secret_text())?))?);
    let addresses = [plain.addr(), encrypted.addr()];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for server in [plain, encrypted] {
            let stop = &stop;
            scope.spawn(move || server.run(stop, &mut |_| ()));
        }
        let done = compare(addresses, &key)
            .map_err(Into::into)
            .and_then(|()| crowd(addresses[0], None))
            .and_then(|()| crowd(addresses[1], Some(&key)));
        stop.store(true, Ordering::Relaxed);
        done
    })
}
