//! Edges that ask for a key: who has one is served as ever, who has none learns nothing, and nobody between the two reads or changes
//! anything.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::pipeline::messages::Hello;
use crate::pipeline::noise::{HANDSHAKE_BYTES, Initiator};
use crate::pipeline::wire::{FrameKind, MAGIC, write_frame};

fn ring() -> KeyRing {
    let line = |name: &str| format!("{name} {}\n", Key::random().unwrap().secret_text());
    KeyRing::parse(&(line("board") + &line("laptop"))).unwrap()
}

/// An edge with two keys. What it has told is given to `test` as it comes.
fn with_keys(deadlines: Deadlines, test: impl FnOnce(&Edge, &KeyRing, &Receiver<String>)) {
    let (log, logged) = channel::<String>();
    let log = Mutex::new(log);
    let ring = ring();
    let options = ServeOptions {
        keys: Some(ring.clone()),
        deadlines,
        // Nobody listens any more when the test is over.
        on_event: Arc::new(move |event: &str| drop(log.lock().unwrap().send(event.into()))),
        ..on_loopback()
    };
    with_server(&options, FakeServices::default(), |edge, _| test(edge, &ring, &logged));
}

/// Waits until the edge has told something that ends so, and returns it.
fn told(logged: &Receiver<String>, end: &str) -> String {
    loop {
        let event = logged.recv_timeout(LONG).unwrap_or_else(|_| panic!("nobody told '{end}'"));
        if event.ends_with(end) {
            return event;
        }
    }
}

/// Longer than a hang-up at which a client comes again.
fn soon() -> Deadlines {
    Deadlines { greeting: Duration::from_millis(600), ..Deadlines::default() }
}

#[test]
fn who_has_a_key_is_served_as_ever_and_called_by_its_name() {
    with_keys(Deadlines::default(), |edge, ring, logged| {
        let graph = samples::chain();
        for grant in ring.grants() {
            let mut peer = edge.try_connect(Some(grant.key.clone())).unwrap();
            assert_eq!(peer.host().cpu.as_deref(), Some("fake"));
            peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
            // Frames of no, one and many records.
            for bytes in [8, 16 << 10, 1 << 20] {
                peer.ping(bytes, bytes).unwrap();
            }
            assert_eq!(peer.stream_up(100_000, 20).unwrap().bytes, 19 * 100_005);
            assert_eq!(peer.stream_down(100_000, 20).unwrap().bytes, 19 * 100_005);
            let (plan, frames) = (resuming_plan(&graph), frames_for(&graph));
            let trace = run_over(Some(&mut peer), &graph, &plan, &frames).unwrap();
            let answers: Vec<Answer> = trace.tasks.iter().map(|task| task.answer).collect();
            assert_eq!(answers, in_process(&graph, &plan, &frames));
            drop(peer);
            told(logged, &format!("({}): connected", grant.name));
        }
    });
}

#[test]
fn an_emulated_link_carries_what_it_cannot_read() {
    with_keys(Deadlines::default(), |edge, _, _| {
        let shape = LinkShape { rate: Some(BitRate(1e9)), delay: Duration::from_micros(100) };
        let relay = Relay::start(edge.address, shape).unwrap();
        let through = Edge { address: relay.addr(), key: edge.key.clone() };
        through.check_serving();
    });
}

#[test]
fn without_the_right_key_nobody_gets_in_and_both_sides_say_what_to_do() {
    with_keys(soon(), |edge, _, logged| {
        let foreign = Some(Key::random().unwrap());
        for (key, remedy, says) in [
            (None, Remedy::GiveKey, "greets without a key"),
            (foreign, Remedy::CheckKey, "has none of our keys"),
        ] {
            let error = edge.try_connect(key).err().unwrap();
            assert_eq!((error.exit_code(), error.remedy()), (3, Some(remedy)), "{error}");
            told(logged, says);
        }
        edge.check_serving();
    });
    // Nor does who has a key talk to an edge without.
    with_edge(FakeServices::default(), |edge| {
        let error = edge.try_connect(Some(Key::random().unwrap())).err().unwrap();
        assert_eq!((error.exit_code(), error.remedy()), (3, Some(Remedy::CheckKey)), "{error}");
        edge.check_serving();
    });
}

#[test]
fn who_has_no_key_is_told_nothing() {
    let mut hello = Vec::new();
    write_frame(&mut hello, FrameKind::Hello, &MAGIC, &serde_json::to_vec(&Hello::ours()).unwrap()).unwrap();
    let (_, foreign) = Initiator::begin(&Key::random().unwrap()).unwrap();
    with_keys(soon(), |edge, _, _| {
        for said in [&b""[..], &b"GET / HTTP/1.1\r\n\r\n"[..], &hello, &foreign, &foreign[..7], &[0xff; 4096]]
        {
            let mut stream = TcpStream::connect(edge.address).unwrap();
            stream.write_all(said).unwrap();
            let mut heard = Vec::new();
            // A reset is as good as an end.
            let _ = stream.read_to_end(&mut heard);
            assert!(heard.is_empty(), "{} bytes", heard.len());
        }
        edge.check_serving();
    });
}

/// Between a client and an edge: passes bytes on, those of the client changed by `change`, which is told how many went before.
/// Returns what both said.
fn tapped(
    edge: &Edge,
    change: impl Fn(usize, &mut [u8]) + Sync,
    test: impl FnOnce(&Edge),
) -> (Vec<u8>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tap = Edge { address: listener.local_addr().unwrap(), key: edge.key.clone() };
    let pass = |mut from: &TcpStream, mut to: &TcpStream, change: &dyn Fn(usize, &mut [u8])| {
        let (mut passed, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            change(passed.len(), &mut buffer[..n]);
            passed.extend_from_slice(&buffer[..n]);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        // One is gone already.
        let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
        passed
    };
    std::thread::scope(|scope| {
        let both = scope.spawn(|| {
            let (near, _) = listener.accept().unwrap();
            let far = TcpStream::connect(edge.address).unwrap();
            std::thread::scope(|scope| {
                let up = scope.spawn(|| pass(&near, &far, &change));
                let down = pass(&far, &near, &|_, _| ());
                (up.join().unwrap(), down)
            })
        });
        test(&tap);
        both.join().unwrap()
    })
}

fn contains(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

#[test]
fn who_listens_reads_nothing() {
    let graph = samples::chain();
    let talk = |edge: &Edge| {
        let mut peer = edge.connect();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
    };
    let secrets = ["coprof", "protocol", &graph.name];
    with_keys(Deadlines::default(), |edge, _, _| {
        let (up, down) = tapped(edge, |_, _| (), talk);
        for words in secrets {
            assert!(!contains(&up, words) && !contains(&down, words), "{words}");
        }
    });
    // The same without a key, else the test could not fail.
    with_edge(FakeServices::default(), |edge| {
        let (up, _) = tapped(edge, |_, _| (), talk);
        assert!(secrets.iter().all(|words| contains(&up, words)));
    });
}

#[test]
fn a_recorded_connection_gets_nobody_in() {
    with_keys(soon(), |edge, _, logged| {
        let (recorded, _) = tapped(edge, |_, _| (), Edge::check_serving);
        told(logged, ": closed");
        let mut replay = TcpStream::connect(edge.address).unwrap();
        // The edge may have enough of it before its end.
        let _ = replay.write_all(&recorded);
        let mut heard = Vec::new();
        let _ = replay.read_to_end(&mut heard);
        assert!(heard.is_empty(), "{} bytes", heard.len());
        told(logged, "repeats the handshake of another connection");
    });
}

#[test]
fn an_edge_that_has_forgotten_a_recorded_connection_takes_nothing_of_it_either() {
    let ring = ring();
    let options = || ServeOptions { keys: Some(ring.clone()), deadlines: soon(), ..on_loopback() };
    let mut recorded = Vec::new();
    with_server(&options(), FakeServices::default(), |edge, _| {
        recorded = tapped(edge, |_, _| (), Edge::check_serving).0;
    });
    let (tell, logged) = channel::<String>();
    let tell = Mutex::new(tell);
    let on_event = Arc::new(move |event: &str| drop(tell.lock().unwrap().send(event.into())));
    with_server(&ServeOptions { on_event, ..options() }, FakeServices::default(), |edge, _| {
        let mut replay = TcpStream::connect(edge.address).unwrap();
        // The edge may have enough of it before its end.
        let _ = replay.write_all(&recorded);
        let mut heard = Vec::new();
        let _ = replay.read_to_end(&mut heard);
        // Its part of a handshake, which differs each time and tells nothing: no greeting.
        assert!(heard.len() <= HANDSHAKE_BYTES, "{} bytes", heard.len());
        told(&logged, "what arrived is not what was sent");
    });
}

#[test]
fn a_changed_byte_ends_the_connection_wherever_it_is() {
    with_keys(soon(), |edge, _, _| {
        // In the key, in its tag, in the greeting's length, in it, and in a frame behind.
        for at in [3, HANDSHAKE_BYTES - 1, HANDSHAKE_BYTES + 1, HANDSHAKE_BYTES + 20, 5000] {
            let change = |before: usize, bytes: &mut [u8]| {
                if let Some(byte) = at.checked_sub(before).and_then(|at| bytes.get_mut(at)) {
                    *byte ^= 1;
                }
            };
            tapped(edge, change, |tap| {
                let asked = tap.try_connect(tap.key.clone()).and_then(|mut peer| peer.ping(20_000, 8));
                assert_eq!(asked.unwrap_err().kind(), Kind::Peer, "byte {at}");
            });
        }
        edge.check_serving();
    });
}

fn connect_with(edge: &Edge, grant: &Grant) -> Peer {
    edge.try_connect(Some(grant.key.clone())).unwrap()
}

#[test]
fn a_key_has_as_many_sessions_as_it_may_and_others_theirs() {
    let key = |name: &str| format!("{name} {}", Key::random().unwrap().secret_text());
    let ring = KeyRing::parse(&format!("{} sessions=2\n{}", key("board"), key("laptop"))).unwrap();
    let options = ServeOptions { keys: Some(ring.clone()), ..on_loopback() };
    with_server(&options, FakeServices::default(), |edge, _| {
        let [board, laptop] = ring.grants() else { panic!("two keys") };
        let _taken = [connect_with(edge, board), connect_with(edge, board)];
        let error = edge.try_connect(Some(board.key.clone())).err().unwrap();
        assert_eq!(error.remedy(), Some(Remedy::WaitForSession));
        assert!(error.to_string().contains("our key's 2 sessions are taken"), "{error}");
        connect_with(edge, laptop);
    });
}

#[test]
fn a_keys_models_are_its_own_and_as_many_as_it_may_keep() {
    let key = |name: &str| format!("{name} {}", Key::random().unwrap().secret_text());
    let ring = KeyRing::parse(&format!("{} models=1\n{}", key("board"), key("laptop"))).unwrap();
    let options = ServeOptions { keys: Some(ring.clone()), ..on_loopback() };
    with_server(&options, FakeServices::default(), |edge, _| {
        let [board, laptop] = ring.grants() else { panic!("two keys") };
        let (chain, residual) = (samples::chain(), samples::residual());
        let send = |grant: &Grant, graph: &Graph| {
            connect_with(edge, grant).offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        };
        // An empty file does not have the hash: it is accepted only where it is not asked for.
        let is_kept = |grant: &Grant, graph: &Graph| {
            connect_with(edge, grant).offer_model(&graph.name, &graph.hash, b"").is_ok()
        };
        send(laptop, &chain);
        assert!(is_kept(laptop, &chain) && !is_kept(board, &chain));
        send(board, &chain);
        assert!(is_kept(board, &chain));
        send(board, &residual);
        assert!(is_kept(board, &residual) && !is_kept(board, &chain));
        assert!(is_kept(laptop, &chain), "what others send costs it nothing");
    });
}

#[test]
fn a_turn_ends_when_it_is_to_whatever_its_holder_does() {
    let key = |name: &str| format!("{name} {}", Key::random().unwrap().secret_text());
    let ring = KeyRing::parse(&format!("{} turn=1s\n{}", key("board"), key("laptop"))).unwrap();
    let services = FakeServices { bundled: true, measuring: Measuring::Endless, ..FakeServices::default() };
    let options = ServeOptions { keys: Some(ring.clone()), ..on_loopback() };
    with_server(&options, services, |edge, _| {
        let [board, laptop] = ring.grants() else { panic!("two keys") };
        let graph = samples::chain();
        let (mut holder, mut next) = (connect_with(edge, board), connect_with(edge, laptop));
        holder.offer_model(&graph.name, &graph.hash, b"").unwrap();
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| holder.profile(&ProfileRequest::default(), &mut |_| ()).unwrap_err());
            next.take_turn(&mut |_| ()).unwrap();
            let error = ended.join().unwrap();
            assert!(error.to_string().contains("the turn of this key is over"), "{error}");
        });
        // One that talks all the time ends as well; its turn begins with its first request.
        drop(next);
        let mut holder = connect_with(edge, board);
        let error = loop {
            if let Err(error) = holder.stream_up(1000, 20) {
                break error;
            }
        };
        assert!(error.to_string().contains("the turn of this key is over"), "{error}");
    });
}

#[test]
fn other_machines_are_let_in_with_a_key() {
    let options = ServeOptions { listen: ([0, 0, 0, 0], 0).into(), keys: Some(ring()), ..on_loopback() };
    with_server(&options, FakeServices::default(), |edge, _| {
        let address = ([127, 0, 0, 1], edge.address.port()).into();
        Edge { address, key: edge.key.clone() }.check_serving();
    });
}
