//! Who measures does so alone: one connection at a time, in the order in which they asked.

use std::sync::mpsc::{Receiver, channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::*;
use crate::pipeline::client::unexpected;
use crate::pipeline::messages::{StreamRequest, StreamUp};
use crate::pipeline::wire::FrameKind;

/// A connection whose turn it is.
fn holder(edge: &Edge) -> Peer {
    let mut peer = edge.connect();
    peer.take_turn(&mut |before| panic!("{before} before the first")).unwrap();
    peer
}

/// A connection that waits on a thread of its own; gives up its turn as soon as it has had it and `then` was called.
struct Waiter<'scope> {
    stop: Arc<AtomicBool>,
    told: Receiver<usize>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

impl<'scope> Waiter<'scope> {
    fn start(
        scope: &'scope Scope<'scope, '_>,
        address: SocketAddr,
        then: impl FnOnce() + Send + 'scope,
    ) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let options = ConnectOptions { stop: Arc::clone(&stop), ..ConnectOptions::default() };
        let (tell, told) = channel();
        let thread = scope.spawn(move || {
            let mut peer = Peer::connect(address, &options)?;
            // Nobody listens any more to one who has waited long enough.
            peer.take_turn(&mut |before| _ = tell.send(before))?;
            then();
            Ok(())
        });
        Self { stop, told, thread }
    }

    /// Returns once it hears that so many come before it.
    fn hears(&self, before: usize) {
        while self.told.recv().unwrap() != before {}
    }

    fn ended(self) -> Result<()> {
        self.thread.join().unwrap()
    }
}

#[test]
fn the_second_waits_and_then_has_its_turn() {
    with_edge(FakeServices::default(), |edge| {
        let mut first = holder(edge);
        // Asking again changes nothing.
        first.take_turn(&mut |_| panic!("it has its turn")).unwrap();
        std::thread::scope(|scope| {
            let second = Waiter::start(scope, edge.address, || ());
            second.hears(1);
            assert_eq!(first.stream_up(1000, 20).unwrap().bytes, 19 * 1005);
            // Round trips under load come over another connection.
            edge.connect().ping(8, 8).unwrap();
            second.hears(1);
            drop(first);
            second.ended().unwrap();
        });
    });
}

#[test]
fn nothing_is_measured_out_of_turn() {
    with_edge(FakeServices { bundled: true, ..FakeServices::default() }, |edge| {
        let kinds = [
            FrameKind::StreamUp,
            FrameKind::StreamDown,
            FrameKind::OfferModel,
            FrameKind::Profile,
            FrameKind::Run,
        ];
        for kind in kinds {
            let peer = edge.connect();
            peer.connection.send(kind, &[], b"{}").unwrap();
            let mut payload = Vec::new();
            let found = peer.connection.receive(0, &|| false, &mut payload).unwrap();
            let error = unexpected(found, &payload);
            assert!(error.to_string().contains("without its turn; update both sides"), "{kind:?}: {error}");
        }
        // The client asks for its turn by itself.
        let graph = samples::chain();
        edge.connect().offer_model(&graph.name, &graph.hash, b"").unwrap();
        edge.connect().stream_up(1000, 20).unwrap();
        edge.connect().stream_down(1000, 20).unwrap();
    });
}

#[test]
fn turns_keep_the_order() {
    with_edge(FakeServices::default(), |edge| {
        let first = holder(edge);
        let order = Mutex::new(Vec::new());
        let arrive = |number| order.lock().unwrap().push(number);
        std::thread::scope(|scope| {
            let waiters: Vec<Waiter<'_>> = (1..=3)
                .map(|number| {
                    let waiter = Waiter::start(scope, edge.address, move || arrive(number));
                    waiter.hears(number);
                    waiter
                })
                .collect();
            drop(first);
            waiters.into_iter().for_each(|waiter| waiter.ended().unwrap());
        });
        assert_eq!(order.into_inner().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn a_waiter_that_is_stopped_leaves_the_queue() {
    with_edge(FakeServices::default(), |edge| {
        let first = holder(edge);
        std::thread::scope(|scope| {
            let second = Waiter::start(scope, edge.address, || ());
            second.hears(1);
            let third = Waiter::start(scope, edge.address, || ());
            third.hears(2);
            second.stop.store(true, Ordering::Relaxed);
            assert_eq!(second.ended().unwrap_err(), Error::interrupted());
            third.hears(1);
            drop(first);
            third.ended().unwrap();
        });
    });
}

#[test]
fn a_holder_that_dies_in_the_middle_of_a_stream_ends_its_turn() {
    with_edge(FakeServices::default(), |edge| {
        let first = holder(edge);
        std::thread::scope(|scope| {
            let second = Waiter::start(scope, edge.address, || ());
            second.hears(1);
            let request = StreamRequest { frames: 10, payload_bytes: 1000 };
            first.connection.send_message(&StreamUp(request)).unwrap();
            first.connection.send(FrameKind::Filler, &[], &[0; 1000]).unwrap();
            drop(first);
            second.ended().unwrap();
        });
    });
}

#[test]
fn a_holder_that_dies_while_it_is_measured_ends_its_turn() {
    let services = FakeServices { bundled: true, measuring: Measuring::Endless, ..FakeServices::default() };
    with_edge(services, |edge| {
        let mut first = holder(edge);
        std::thread::scope(|scope| {
            let second = Waiter::start(scope, edge.address, || ());
            second.hears(1);
            let graph = samples::chain();
            first.offer_model(&graph.name, &graph.hash, b"").unwrap();
            first.connection.send_message(&ProfileRequest::default()).unwrap();
            drop(first);
            second.ended().unwrap();
        });
    });
}

#[test]
fn a_silent_holder_is_cut_off_and_the_next_has_its_turn() {
    let deadlines = Deadlines { idle: Duration::from_millis(1100), ..Deadlines::default() };
    with_edge_within(deadlines, FakeServices::default(), |edge| {
        let mut silent = holder(edge);
        std::thread::scope(|scope| {
            let second = Waiter::start(scope, edge.address, || ());
            second.hears(1);
            second.ended().unwrap();
        });
        assert_eq!(silent.ping(8, 8).unwrap_err().kind(), Kind::Peer);
    });
}

#[test]
fn one_that_talks_instead_of_waiting_is_cut_off() {
    with_edge(FakeServices::default(), |edge| {
        let _first = holder(edge);
        let mut second = edge.connect();
        second.connection.send(FrameKind::TakeTurn, &[], &[]).unwrap();
        let error = second.take_turn(&mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("wait for its turn"), "{error}");
    });
}

#[test]
fn a_stopping_edge_ends_the_wait() {
    with_server(&on_loopback(), FakeServices::default(), |edge, end| {
        let _first = holder(edge);
        std::thread::scope(|scope| {
            let second = Waiter::start(scope, edge.address, || ());
            second.hears(1);
            end();
            let error = second.ended().unwrap_err();
            assert_eq!(error.kind(), Kind::Peer);
            assert!(error.to_string().contains("stopping"), "{error}");
        });
    });
}
