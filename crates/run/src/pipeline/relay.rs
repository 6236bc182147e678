//! The emulated link: a TCP relay in user space that shapes both directions.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::connection::dial;
use super::shape::{LinkShape, Shaper};
use coprof_core::clock::{Clock, SystemClock};
use coprof_core::error::{Error, Result};

const DIAL_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// The longest a thread sleeps without looking whether the relay is over.
const NAP: Duration = Duration::from_millis(20);

/// Chunks under way in one direction; the shaper's queue bounds them first unless the delay is very long.
const CHUNKS_UNDER_WAY: usize = 1024;

/// The segment size on the relay's sockets: an Ethernet's. Loopback's 64 KiB segments would not fit the small buffers.
const SEGMENT_BYTES: u32 = 1460;

/// A running relay. All connections through it share one link. Dropping it ends them and its threads.
pub struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay to `peer`, which must be there.
    pub fn start(peer: SocketAddr, shape: LinkShape) -> Result<Self> {
        drop(dial(peer, DIAL_LIMIT)?);
        let link = Arc::new(Link {
            shape,
            clock: SystemClock::default(),
            up: Mutex::new(Shaper::new(shape)),
            down: Mutex::new(Shaper::new(shape)),
            stop: Arc::default(),
        });
        let failed = |error| Error::failed(format!("the emulated link cannot listen on loopback: {error}"));
        let (listener, address) = listen(&link).map_err(failed)?;
        let stop = Arc::clone(&link.stop);
        let acceptor = std::thread::spawn(move || accept(&listener, peer, &link));
        Ok(Self { address, stop, acceptor: Some(acceptor) })
    }

    /// Where to connect instead of to the peer.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            // A panicked thread has reported itself and holds nothing any more.
            let _ = acceptor.join();
        }
    }
}

/// What all threads of a relay share.
struct Link {
    shape: LinkShape,
    clock: SystemClock,
    up: Mutex<Shaper>,
    down: Mutex<Shaper>,
    stop: Arc<AtomicBool>,
}

impl Link {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Small receive buffers, so that a sender feels the link's rate and not the kernel's buffers.
    fn tune(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.shape.rate.is_some() {
            socket.set_recv_buffer_size(self.shape.bytes_in(NAP, 4 << 10, 1 << 20))?;
            #[cfg(unix)]
            socket.set_tcp_mss(SEGMENT_BYTES)?;
        }
        Ok(())
    }

    /// Returns at `moment`, precisely; false when the relay ended before it.
    fn wait_until(&self, moment: Duration) -> bool {
        while !self.stopped() {
            let now = self.clock.now();
            if now + NAP >= moment {
                self.clock.sleep_until(moment);
                return true;
            }
            std::thread::sleep(NAP / 2);
        }
        false
    }
}

fn listen(link: &Link) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Accepted sockets inherit these.
    link.tune(&SockRef::from(&listener))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn accept(listener: &TcpListener, peer: SocketAddr, link: &Arc<Link>) {
    let mut pairs: Vec<Pair> = Vec::new();
    while !link.stopped() {
        pairs.retain(|pair| !pair.is_over());
        match listener.accept() {
            // A peer that has gone shows as a closed connection.
            Ok((near, _)) => pairs.extend(Pair::start(near, peer, link)),
            Err(_) => std::thread::sleep(POLL),
        }
    }
    pairs.into_iter().for_each(Pair::end);
}

/// One connection through the relay: both sockets, and a reading and a writing thread for each direction.
struct Pair {
    near: Arc<TcpStream>,
    far: Arc<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Pair {
    fn start(near: TcpStream, peer: SocketAddr, link: &Arc<Link>) -> io::Result<Self> {
        near.set_nonblocking(false)?;
        near.set_nodelay(true)?;
        let far = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
        link.tune(&SockRef::from(&far))?;
        far.connect_timeout(&peer.into(), DIAL_LIMIT)?;
        let far = TcpStream::from(far);
        far.set_nodelay(true)?;
        let (near, far) = (Arc::new(near), Arc::new(far));
        let mut threads = Vec::with_capacity(4);
        for (from, to, upward) in [(&near, &far, true), (&far, &near, false)] {
            let (give, take) = sync_channel(CHUNKS_UNDER_WAY);
            let (reader, writer) = (Arc::clone(link), Arc::clone(link));
            let (source, from, to) = (Arc::clone(from), Arc::clone(from), Arc::clone(to));
            threads.push(std::thread::spawn(move || take_in(&source, &give, &reader, upward)));
            threads.push(std::thread::spawn(move || {
                deliver(&to, &take, &writer);
                // The end of one direction, or a dead far side, reaches the other side.
                let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
            }));
        }
        Ok(Self { near, far, threads })
    }

    fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    fn end(self) {
        // Wakes the threads; an error means that the socket is closed already.
        let _ = (self.near.shutdown(Shutdown::Both), self.far.shutdown(Shutdown::Both));
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Bytes and when they arrive.
type Chunk = (Duration, Vec<u8>);

/// Reads from one side as fast as the link's queue allows.
fn take_in(mut from: &TcpStream, queue: &SyncSender<Chunk>, link: &Link, upward: bool) {
    let mut buffer = vec![0; link.shape.bytes_in(Duration::from_millis(1), 1500, 64 << 10)];
    let shaper = if upward { &link.up } else { &link.down };
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let (arrives, ready) = {
            let mut shaper = shaper.lock().unwrap_or_else(PoisonError::into_inner);
            (shaper.admit(link.clock.now(), n), shaper.ready_at())
        };
        if queue.send((arrives, buffer[..n].to_vec())).is_err() || !link.wait_until(ready) {
            return;
        }
    }
}

/// Writes each chunk to the other side when it arrives there.
fn deliver(mut to: &TcpStream, queue: &Receiver<Chunk>, link: &Link) {
    for (arrives, bytes) in queue {
        if !link.wait_until(arrives) || to.write_all(&bytes).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::units::BitRate;

    const FAST: LinkShape = LinkShape { rate: Some(BitRate(1e9)), delay: Duration::from_micros(100) };

    fn pair() -> (TcpListener, Relay) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(peer.local_addr().unwrap(), FAST).unwrap();
        peer.accept().unwrap(); // the relay's question whether we are there
        (peer, relay)
    }

    #[test]
    fn bytes_cross_both_ways_unchanged() {
        let (peer, relay) = pair();
        let mut near = TcpStream::connect(relay.addr()).unwrap();
        let (mut far, _) = peer.accept().unwrap();
        let sent: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let (mut there, mut back) = (vec![0; sent.len()], vec![0; sent.len()]);
        std::thread::scope(|scope| {
            scope.spawn(|| (&near).write_all(&sent).unwrap());
            far.read_exact(&mut there).unwrap();
            scope.spawn(|| (&far).write_all(&there).unwrap());
            (&near).read_exact(&mut back).unwrap();
        });
        assert_eq!(back, sent);
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn closing_one_side_closes_the_other() {
        let (peer, relay) = pair();
        let near = TcpStream::connect(relay.addr()).unwrap();
        let (mut far, _) = peer.accept().unwrap();
        (&near).write_all(b"last words").unwrap();
        drop(near);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"last words");
    }

    #[test]
    fn dropping_the_relay_ends_its_connections_at_once_whatever_they_hold() {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let shape = LinkShape { rate: Some(BitRate(100.0)), delay: Duration::from_secs(3600) };
        let relay = Relay::start(peer.local_addr().unwrap(), shape).unwrap();
        peer.accept().unwrap();
        let mut near = TcpStream::connect(relay.addr()).unwrap();
        let _far = peer.accept().unwrap();
        near.write_all(&[0; 3000]).unwrap();
        drop(relay);
        assert!(!matches!(near.read(&mut [0; 8]), Ok(n) if n > 0));
    }

    #[test]
    fn a_relay_to_nobody_is_an_unreachable_peer() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Relay::start(address, FAST).err().unwrap();
        assert_eq!(error.exit_code(), 3);
    }
}
