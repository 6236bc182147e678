//! Signals: whatever a command is doing, it ends with exit code 130 and leaves nothing half written.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Running, Workplace, signal};

/// Four exits, a hundred layers and four nodes: nobody waits for the end of this search.
fn endless() -> Value {
    let (layers, exits, samples) = (100, 4, 1000);
    let spread = |i: usize, most: usize| (i * 7919 + 13) % most;
    let name = |i: usize| format!("layer{i}");
    let layer = |i| json!({ "name": name(i), "output_bytes": 1000 + spread(i, 100_000) });
    let mut sites: Vec<Value> = (1..=exits)
        .map(|exit| json!({ "name": format!("exit{exit}"), "after": [name(exit * layers / (exits + 1))] }))
        .collect();
    sites.push(json!({ "name": "final" }));
    let node = |k: usize| {
        let us: Vec<usize> = (0..layers).map(|i| (100 + spread(i + k, 3000)) / (k + 1)).collect();
        json!({ "name": format!("node{k}"), "layers_us": us })
    };
    let outcome = |exit: usize| {
        let right = (0..samples).map(|i| if spread(i + exit, 100) < 60 + 8 * exit { '1' } else { '0' });
        let entropy: Vec<f64> = (0..samples).map(|i| spread(i * 31 + exit, samples) as f64 / 1e3).collect();
        json!({ "right": right.collect::<String>(), "entropy": if exit < exits { entropy } else { Vec::new() } })
    };
    let mut outcomes: Vec<Value> = (0..=exits).map(outcome).collect();
    outcomes[exits].as_object_mut().unwrap().remove("entropy");
    json!({
        "schema": "coprof.scenario/2",
        "layers": (0..layers).map(layer).collect::<Vec<_>>(),
        "exits": sites,
        "nodes": (0..4).map(node).collect::<Vec<_>>(),
        "links": vec![json!({ "bits_per_second": 2e7 }); 3],
        "outcomes": outcomes,
    })
}

/// Starts a command, and returns when a signal finds it at work: before it listens, the system would end it otherwise.
fn at_work(workplace: &Workplace, args: &[&str]) -> Running {
    let running = workplace.start(args);
    let status = format!("/proc/{}/status", running.id());
    let listens = || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 2 != 0)
    };
    while !listens() {
        sleep(Duration::from_millis(10));
    }
    // Into the search.
    sleep(Duration::from_millis(700));
    running
}

fn assert_interrupted(workplace: &Workplace, running: Running) {
    let ran = running.end();
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(130), "", "error: interrupted\n"));
    workplace.assert_nothing_half_written();
    assert!(workplace.reports("").is_empty());
}

#[test]
fn a_signal_ends_a_search_that_does_not_look_up() {
    let workplace = Workplace::new();
    let file = workplace.write("endless.json", endless().to_string());
    for name in ["INT", "TERM"] {
        let running = at_work(&workplace, &["optimize", "--scenario", &file]);
        signal(name, running.id());
        assert_interrupted(&workplace, running);
    }
}

#[test]
fn a_second_signal_ends_it_too() {
    let workplace = Workplace::new();
    let file = workplace.write("endless.json", endless().to_string());
    let running = at_work(&workplace, &["optimize", "--scenario", &file]);
    signal("INT", running.id());
    signal("TERM", running.id());
    assert_interrupted(&workplace, running);
}
