//! Two processes, and what can go wrong between them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use coprof_run::pipeline::{ConnectOptions, MAX_SESSIONS, Peer};
use serde_json::{Value, json};

use crate::program::{Serving, Workplace, signal};
use crate::schemas::check;

#[test]
fn two_processes_measure_plan_and_replay() {
    let workplace = Workplace::new();
    let edge = Serving::start(&workplace);
    let at = ["--peer", &edge.address];
    let (link, _) = workplace.document(&[&["link", "--time", "1s"], &at[..]].concat());
    check("link", &link);
    assert_eq!((&link["peer"], &link["emulated"]), (&json!(edge.address), &Value::Null));
    let (optimized, messages) = workplace.document(&[&["optimize"], &at[..]].concat());
    check("optimize", &optimized);
    workplace.assert_picked_up("link", &messages);
    assert_eq!((&optimized["peer"], &optimized["emulated"]), (&json!(edge.address), &Value::Null));

    // The edge-only plan crosses the link whatever this host is like.
    let plan = edge_only(&workplace, &optimized);
    let (replay, _) = workplace.document(&[&["replay", "--tasks", "40", "--plan", &plan], &at[..]].concat());
    check("replay", &replay);
    assert_eq!((&replay["peer"], &replay["emulated"]), (&json!(edge.address), &Value::Null));
    assert_eq!(replay["agreement"], json!({ "same": 40, "tasks": 40 }));
    assert!(replay["full"]["tasks"].as_array().unwrap().iter().all(|task| task["crossed"].is_object()));

    an_interrupted_replay_leaves_the_edge_serving(&workplace, &edge, &plan);
    a_peer_killed_in_the_middle_of_a_run(&workplace, &edge, &plan);
}

/// Writes the plan that runs everything on the edge.
fn edge_only(workplace: &Workplace, optimized: &Value) -> String {
    let policies = optimized["policies"].as_array().unwrap();
    let choice = policies.iter().find(|choice| choice["name"] == "edge-only").unwrap();
    let mut document = optimized.clone();
    document["schema"] = json!("coprof.plan/1");
    document["plan"] = choice["plan"].clone();
    document["prediction"] = choice["prediction"].clone();
    workplace.write("edge-only.json", document.to_string())
}

/// A replay of more tasks than anyone waits for, through a relay that calls `at_work` once tasks are on their way.
fn replay_until(
    workplace: &Workplace,
    edge: &Serving,
    plan: &str,
    (code, says): (i32, &[&str]),
    at_work: impl FnOnce(u32) + Send + 'static,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let running = workplace.start(&["replay", "--tasks", "1000000", "--plan", plan, "--peer", &address]);
    let (replaying, edge) = (running.id(), edge.address.clone());
    // Not waited for: it has nothing to end it when the replay never connects.
    thread::spawn(move || {
        let (device, _) = listener.accept().unwrap();
        relay(&device, &TcpStream::connect(edge).unwrap(), || at_work(replaying));
    });
    running.fail(code, says);
    assert_eq!(workplace.reports("replay").len(), 1, "only that of the run that ended well");
    workplace.assert_nothing_half_written();
}

/// Passes bytes on both ways until one side ends. A task is 3 KiB; the greetings before the first are shorter.
fn relay(device: &TcpStream, edge: &TcpStream, at_work: impl FnOnce() + Send) {
    const AT_WORK_BYTES: usize = 200_000;
    let end = || [device, edge].map(|stream| stream.shutdown(Shutdown::Both));
    let pass = |mut from: &TcpStream, mut to: &TcpStream, seen: &mut dyn FnMut(usize)| {
        let mut buffer = [0; 1 << 16];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
            seen(n);
        }
        let _ = end();
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(edge, device, &mut |_| ()));
        let (mut passed, mut at_work) = (0, Some(at_work));
        pass(device, edge, &mut |n| {
            passed += n;
            if let Some(at_work) = at_work.take_if(|_| passed > AT_WORK_BYTES) {
                at_work();
            }
        });
    });
}

fn an_interrupted_replay_leaves_the_edge_serving(workplace: &Workplace, edge: &Serving, plan: &str) {
    replay_until(workplace, edge, plan, (130, &["interrupted"]), |replaying| signal("INT", replaying));
    assert_serves(workplace, edge);
}

fn a_peer_killed_in_the_middle_of_a_run(workplace: &Workplace, edge: &Serving, plan: &str) {
    let id = edge.id();
    replay_until(workplace, edge, plan, (3, &["127.0.0.1"]), move |_| signal("KILL", id));
    workplace.fail(&["link", "--peer", &edge.address], 3, &[&edge.address, "coprof serve"]);
}

fn assert_serves(workplace: &Workplace, edge: &Serving) {
    workplace.succeed(&["link", "--time", "1s", "--peer", &edge.address]);
}

#[test]
fn whoever_measures_does_so_alone() {
    let workplace = Workplace::new();
    let edge = Serving::start(&workplace);
    let link = ["link", "--time", "1s", "--peer", &edge.address];
    let mut other = Peer::connect(edge.address.parse().unwrap(), &ConnectOptions::default()).unwrap();
    other.take_turn(&mut |_| panic!("nobody measures")).unwrap();
    let (mut first, mut second) = (workplace.start(&link), workplace.start(&link));
    for running in [&mut first, &mut second] {
        running.says("the edge is busy with another measurement: waiting for our turn");
    }
    // Whoever gives up is out of the way.
    signal("INT", first.id());
    first.fail(130, &["interrupted"]);
    drop(other);
    let ran = second.end();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.matches("waiting").count(), 1, "{ran:?}");
    edge.interrupt();
}

#[test]
fn an_edge_without_a_free_session_says_so_or_is_waited_for() {
    let workplace = Workplace::new();
    let edge = Serving::start(&workplace);
    let address = edge.address.parse().unwrap();
    let taken: Vec<Peer> =
        (0..MAX_SESSIONS).map(|_| Peer::connect(address, &ConnectOptions::default()).unwrap()).collect();
    let link = ["link", "--time", "1s", "--link-rate", "50mbit", "--peer", &edge.address];
    workplace.fail(&link, 3, &["its 8 sessions are taken", "--wait"]);
    workplace.fail(&[&link[..], &["--wait", "2s"]].concat(), 3, &["waiting until one ends", "--wait"]);
    let mut waits = workplace.start(&[&link[..], &["--wait", "10m"]].concat());
    waits.says("waiting until one ends");
    drop(taken);
    assert_eq!(waits.end().code, Some(0));
    edge.interrupt();
}

#[test]
fn garbage_on_the_port_harms_nobody() {
    let workplace = Workplace::new();
    let edge = Serving::start(&workplace);
    let noise: Vec<u8> = (0..1u32 << 16).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n", &[0xff; 4096], &[0; 4096], &noise] {
        let mut stream = TcpStream::connect(&edge.address).unwrap();
        // The edge may hang up before it has read it all.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_serves(&workplace, &edge);
    workplace.fail(&["serve", "--listen", &edge.address], 1, &[&edge.address, "--listen"]);
    edge.interrupt();
}

#[test]
fn peers_that_are_not_there_or_not_coprof() {
    let workplace = Workplace::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let talks = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        // Silent from here on: the other side must not wait for ever.
        let silent = listener.accept();
        (listener, stream, silent)
    });
    workplace.fail(&["link", "--peer", &address], 3, &[&address]);
    workplace.fail(&["link", "--peer", &address, "--json"], 3, &[&address, "in time"]);
    drop(talks.join().unwrap());
    workplace.fail(&["link", "--peer", &address], 3, &[&address, "coprof serve"]);
    workplace.fail(&["optimize", "--peer", &address, "--link-rate", "20mbit"], 3, &[&address]);
    assert!(workplace.reports("").is_empty());
}

#[test]
fn serve_with_json_says_where_in_one_document() {
    let workplace = Workplace::new();
    let mut command = workplace.command(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut documents =
        serde_json::Deserializer::from_reader(child.stdout.take().unwrap()).into_iter::<Value>();
    let document = documents.next().unwrap().unwrap();
    assert_eq!(document["schema"], "coprof.serve/1");
    TcpStream::connect(document["listening"].as_str().unwrap()).unwrap();
    signal("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(documents.next().is_none());
}
