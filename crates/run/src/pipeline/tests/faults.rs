//! What goes wrong on a connection ends it with a reason, in time, and hurts nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde::Serialize;

use super::*;
use crate::pipeline::messages::{Hello, Message, Refused, RunRequest, Welcome};
use crate::pipeline::wire::{FrameKind, MAGIC, Wait, read_frame, write_frame};

#[test]
fn an_edge_that_fails_at_a_task_says_why() {
    with_edge(FakeServices { broken: true, ..FakeServices::default() }, |edge| {
        let graph = samples::chain();
        let mut peer = edge.connect();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        let error =
            run_over(Some(&mut peer), &graph, &resuming_plan(&graph), &frames_for(&graph)).unwrap_err();
        assert_eq!(error.kind(), Kind::Peer);
        assert!(error.to_string().contains("out of memory"), "{error}");
        edge.check_serving();
    });
}

#[test]
fn garbage_and_sudden_ends_do_not_hurt_the_edge() {
    with_edge(FakeServices::default(), |edge| {
        let hello = [&MAGIC[..], &serde_json::to_vec(&Hello::ours()).unwrap()].concat();
        let mut request = Vec::new();
        write_frame(&mut request, FrameKind::Hello, &[], &hello).unwrap();
        let mut bad_run = request.clone();
        write_frame(&mut bad_run, FrameKind::Run, &[], b"{\"plan\": 7}").unwrap();
        let mut bad_kind = request.clone();
        write_frame(&mut bad_kind, FrameKind::Answer, &[], &[0; 8]).unwrap();
        let mut no_magic = Vec::new();
        write_frame(&mut no_magic, FrameKind::Hello, &[], b"{}").unwrap();
        let half = &request[..request.len() / 2];
        for bytes in [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64][..], b"", &no_magic, half, &bad_run, &bad_kind] {
            let mut stream = TcpStream::connect(edge.address).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // It ends the connection. A reset is as good as an end.
            let _ = stream.read_to_end(&mut Vec::new());
            edge.check_serving();
        }
    });
}

#[test]
fn another_protocol_version_is_refused_with_advice() {
    with_edge(FakeServices::default(), |edge| {
        let mut stream = TcpStream::connect(edge.address).unwrap();
        let hello = serde_json::to_vec(&Hello { protocol: PROTOCOL + 1, coprof: "9.9.9".into() }).unwrap();
        write_frame(&mut stream, FrameKind::Hello, &MAGIC, &hello).unwrap();
        let mut payload = Vec::new();
        let wait = Wait { idle: Duration::from_secs(60), until: None, stop: &|| false };
        assert_eq!(read_frame(&mut stream, &wait, 0, &mut payload).unwrap(), Some(FrameKind::Refused));
        let message = Refused::parse(&payload).unwrap().message;
        assert!(message.contains("install the same coprof on both"), "{message}");
        edge.check_serving();
    });
}

#[test]
fn one_session_too_many_is_told_that_the_edge_is_busy() {
    with_edge(FakeServices::default(), |edge| {
        let mut peers: Vec<Peer> = (0..MAX_SESSIONS).map(|_| edge.connect()).collect();
        peers[0].take_turn(&mut |_| ()).unwrap();
        peers[1].connection.send(FrameKind::TakeTurn, &[], &[]).unwrap();
        // A word of its wait: it is in the queue.
        let waiting = peers[1].connection.receive(0, &|| false, &mut Vec::new()).unwrap();
        assert_eq!(waiting, Some(FrameKind::Waiting));
        let error = Peer::connect(edge.address, &ConnectOptions::default()).err().unwrap();
        assert_eq!((error.kind(), error.remedy()), (Kind::Peer, Some(Remedy::WaitForSession)));
        let message = error.to_string();
        assert!(message.contains("its 8 sessions are taken; waiting for their turn: 1"), "{message}");
    });
}

/// Deadlines of strangers that no test reaches: whoever gets in does so past them.
fn patient() -> Deadlines {
    Deadlines { handshake: LONG, greeting: LONG, ..Deadlines::default() }
}

#[test]
fn strangers_of_whatever_kind_keep_nobody_out() {
    let hello = [&MAGIC[..], &serde_json::to_vec(&Hello::ours()).unwrap()].concat();
    let mut greeting = Vec::new();
    write_frame(&mut greeting, FrameKind::Hello, &[], &hello).unwrap();
    let key = format!("board {}", Key::random().unwrap().secret_text());
    for keys in [None, Some(KeyRing::parse(&key).unwrap())] {
        let options = ServeOptions { deadlines: patient(), keys, ..on_loopback() };
        with_server(&options, FakeServices::default(), |edge, _| crowded(edge, &greeting));
    }
}

/// Serves in the middle of a crowd that says `greeting` in part, nothing or noise.
fn crowded(edge: &Edge, greeting: &[u8]) {
    // More than there is room for: some silent, some with half a greeting.
    let crowd: Vec<TcpStream> = (0..MAX_STRANGERS + 50)
        .map(|index| {
            let mut stream = TcpStream::connect(edge.address).unwrap();
            // It may have been dropped meanwhile.
            let _ = stream.write_all(&greeting[..index % 2 * 20]);
            stream
        })
        .collect();
    edge.check_serving();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // And some that come again and again, and talk.
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // What becomes of them is no matter.
                    let _ = TcpStream::connect(edge.address)
                        .and_then(|mut stream| stream.write_all(&[0xff; 4096]));
                }
            });
        }
        let _over = StopOnDrop(&over);
        for _ in 0..5 {
            edge.check_serving();
        }
    });
    drop(crowd);
}

/// Answers one connection's greeting, then does as told.
fn false_edge(
    welcome: &(impl Serialize + Sync),
    idle: Duration,
    then: impl FnOnce(TcpStream) + Send,
    test: impl FnOnce(Result<Peer>),
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            expect(&mut stream, FrameKind::Hello);
            write_frame(&mut stream, FrameKind::Welcome, &MAGIC, &serde_json::to_vec(welcome).unwrap())
                .unwrap();
            then(stream);
        });
        let deadlines = Deadlines { idle, ..Deadlines::default() };
        test(Peer::connect(address, &ConnectOptions { deadlines, ..ConnectOptions::default() }));
    });
}

fn expect(stream: &mut TcpStream, wanted: FrameKind) {
    let wait = Wait { idle: Duration::from_secs(60), until: None, stop: &|| false };
    assert_eq!(read_frame(stream, &wait, 1 << 20, &mut Vec::new()).unwrap(), Some(wanted));
}

/// Goes along up to the first task.
fn go_along(stream: &mut TcpStream) {
    expect(stream, FrameKind::TakeTurn);
    write_frame(stream, FrameKind::Turn, &[], &[]).unwrap();
    for _ in 0..10 {
        expect(stream, FrameKind::Ping);
        write_frame(stream, FrameKind::Pong, &[], &[0; 8]).unwrap();
    }
    expect(stream, FrameKind::Run);
    write_frame(stream, FrameKind::RunReady, &[], &[]).unwrap();
    expect(stream, FrameKind::Task);
}

fn ours() -> Welcome {
    Welcome { protocol: PROTOCOL, coprof: "1".into(), host: HostFacts::default() }
}

fn edge_only(graph: &Graph) -> Plan {
    plan(graph, &[], &[], "pixels", &[(NEVER, 1), (ALWAYS, 1)])
}

#[test]
fn an_edge_killed_in_the_middle_of_a_run_ends_it() {
    let graph = samples::chain();
    false_edge(
        &ours(),
        LONG,
        |mut stream| {
            go_along(&mut stream);
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        },
        |peer| {
            let error =
                run_over(peer.ok().as_mut(), &graph, &edge_only(&graph), &frames_for(&graph)).unwrap_err();
            assert_eq!(error.kind(), Kind::Peer);
        },
    );
}

#[test]
fn a_silent_edge_ends_the_run_after_the_deadline() {
    let graph = samples::chain();
    false_edge(
        &ours(),
        Duration::from_millis(300),
        |mut stream| {
            go_along(&mut stream);
            // Takes everything, says nothing, until the device gives up.
            let _ = stream.read_to_end(&mut Vec::new());
        },
        |peer| {
            let error =
                run_over(peer.ok().as_mut(), &graph, &edge_only(&graph), &frames_for(&graph)).unwrap_err();
            assert_eq!(error.kind(), Kind::Peer);
            assert!(error.to_string().contains("silent"), "{error}");
        },
    );
}

#[test]
fn a_stop_ends_a_run_that_waits() {
    let graph = samples::chain();
    let stop = AtomicBool::new(false);
    false_edge(
        &ours(),
        LONG,
        |mut stream| {
            go_along(&mut stream);
            stop.store(true, Ordering::Relaxed);
            let _ = stream.read_to_end(&mut Vec::new());
        },
        |peer| {
            let plan = edge_only(&graph);
            let route = Route::new(&graph, &plan).unwrap();
            let options = options(2, &stop);
            let (mut backend, frames) = (fake(Arc::clone(&graph)), frames_for(&graph));
            let run =
                replay(peer.ok().as_mut(), &mut *backend, &route, &plan, &frames, &options, &mut |_| {});
            assert_eq!(run.unwrap_err(), Error::interrupted());
        },
    );
}

#[test]
fn a_client_refuses_another_protocol_version_too() {
    // Nor need its greeting be like ours behind the version.
    let welcome = serde_json::json!({ "protocol": PROTOCOL + 1, "coprof": "9.9.9", "host": null });
    false_edge(&welcome, LONG, drop, |peer| {
        assert!(peer.err().unwrap().to_string().contains("install the same coprof"))
    });
}

#[test]
fn a_device_killed_in_the_middle_of_a_run_leaves_the_edge_serving() {
    with_edge(FakeServices::default(), |edge| {
        let graph = samples::chain();
        let mut peer = edge.connect();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        peer.start_run(&RunRequest { plan: edge_only(&graph), node: 1, in_flight: 4 }).unwrap();
        drop(peer);
        edge.check_serving();
    });
}

#[test]
fn a_stopping_edge_tells_its_peers() {
    with_server(&on_loopback(), FakeServices::default(), |edge, end| {
        let mut peer = edge.connect();
        end();
        assert_eq!(peer.ping(8, 8).unwrap_err().kind(), Kind::Peer);
    });
}

#[test]
fn a_draining_edge_lets_sessions_finish_and_takes_no_others() {
    let options = ServeOptions { drain: LONG, ..on_loopback() };
    let server = Server::bind(&options, Arc::new(FakeServices::default())).unwrap();
    let edge = Edge { address: server.addr(), key: None };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let stop = &stop;
        let serving = scope.spawn(move || server.run(stop, &mut |sessions| tell.send(sessions).unwrap()));
        let mut peer = edge.connect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(told.recv_timeout(LONG), Ok(1));
        let error = edge.try_connect(None).err().unwrap();
        assert!(error.to_string().contains("cannot reach"), "{error}");
        let graph = samples::chain();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        run_over(Some(&mut peer), &graph, &resuming_plan(&graph), &frames_for(&graph)).unwrap();
        assert!(!serving.is_finished());
        drop(peer);
        serving.join().unwrap();
    });
}

#[test]
fn an_edge_drains_no_longer_than_it_may() {
    let options = ServeOptions { drain: Duration::from_millis(1), ..on_loopback() };
    with_server(&options, FakeServices::default(), |edge, end| {
        let mut peer = edge.connect();
        end();
        let error = peer.ping(8, 8).unwrap_err();
        assert!(error.to_string().contains("stopping"), "{error}");
    });
}

#[test]
fn other_machines_are_let_in_only_on_request() {
    let mut options = ServeOptions { listen: ([0, 0, 0, 0], 0).into(), ..on_loopback() };
    let error = Server::bind(&options, Arc::new(FakeServices::default())).err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.remedy(), Some(Remedy::AllowOthers { port: 0 }));
    options.insecure = true;
    Server::bind(&options, Arc::new(FakeServices::default())).unwrap();
}

#[test]
fn nobody_there_is_a_peer_error_that_says_what_to_do() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Peer::connect(address, &ConnectOptions::default()).err().unwrap();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("coprof serve"), "{error}");
}
