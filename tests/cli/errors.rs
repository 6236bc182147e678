//! Bad files: each ends with exit code 1 and a message that names the file and says what to do.

use std::fs;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::program::{Workplace, repository};

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

fn scenario() -> Value {
    serde_json::from_slice(&fs::read(repository("tests/data/scenario.json")).unwrap()).unwrap()
}

#[test]
fn models_that_are_none() {
    let workplace = Workplace::new();
    let onnx = fs::read(repository("models/alexnet.onnx")).unwrap();
    workplace.write("half.onnx", half(&onnx));
    workplace.write("empty.onnx", "");
    workplace.write("text.onnx", "This is a text and no model.\n");
    fs::create_dir(workplace.file("folder.onnx")).unwrap();
    workplace.fail(&["layers", "--model", "nothing.onnx"], 1, &["nothing.onnx", "ONNX file", "alexnet"]);
    for name in ["half.onnx", "empty.onnx", "text.onnx", "folder.onnx"] {
        workplace.fail(&["layers", "--model", name], 1, &[name]);
    }
    workplace.fail(&["optimize", "--model", "half.onnx", "--json"], 1, &["half.onnx"]);
}

#[test]
fn records_that_are_none_or_another_models() {
    let workplace = Workplace::new();
    fs::copy(repository("models/alexnet.onnx"), workplace.file("mine.onnx")).unwrap();
    for kind in ["exits", "encodings"] {
        let record = fs::read(repository(&format!("models/alexnet.{kind}.csv.gz"))).unwrap();
        let name = format!("mine.{kind}.csv.gz");
        let fails = |says: &str| {
            workplace.fail(
                &[kind, "--model", "mine.onnx"],
                1,
                &[&name, says, &format!("coprof {kind} --record")],
            );
        };
        fails("no such file");
        workplace.write(&name, half(&record));
        fails("cut short");
        workplace.write(&name, "prediction,label\n1,1\n");
        fails("not a gzip file");
        workplace.write(&name, of_another_model(&record));
        fails("made from model 000000000000");
    }
}

/// The record with another model's hash in its header.
fn of_another_model(record: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    GzDecoder::new(record).read_to_string(&mut text).unwrap();
    let (before, hash) = text.split_once("model_sha256=").unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    write!(packed, "{before}model_sha256={}{}", "0".repeat(64), &hash[64..]).unwrap();
    packed.finish().unwrap()
}

#[test]
fn scenarios_that_are_none() {
    let workplace = Workplace::new();
    let good = scenario();
    let text = good.to_string();
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    let mut uneven = good.clone();
    uneven["uncut_outcomes"] = json!([{"right": "110", "entropy": [0.1, 0.2, 0.3]}, {"right": "10"}]);
    workplace.fail(&["optimize", "--scenario", "nothing.json"], 1, &["nothing.json", "coprof optimize"]);
    for (name, contents, says) in [
        ("half.json", half(text.as_bytes()).to_vec(), "coprof.scenario/2"),
        ("foreign.json", b"{\"schema\": \"other/1\"}".to_vec(), "coprof.scenario/2"),
        ("binary.json", vec![0, 159, 146, 150], "UTF-8"),
        ("newer.json", with("/schema", json!("coprof.scenario/9")).into_bytes(), "'coprof.scenario/9'"),
        ("negative.json", with("/nodes/0/layers_us/1", json!(-1.0)).into_bytes(), "'device'"),
        ("short.json", with("/nodes/1/layers_us", json!([1.0])).into_bytes(), "'edge'"),
        ("torn.json", with("/lossy_outcomes/0/exits", json!([])).into_bytes(), "2 exits"),
        ("uneven.json", uneven.to_string().into_bytes(), "uncut_outcomes"),
        ("no-link.json", with("/links", json!([])).into_bytes(), "one link"),
    ] {
        workplace.write(name, contents);
        workplace.fail(&["optimize", "--scenario", name], 1, &[name, says, "coprof optimize"]);
    }
    assert!(workplace.reports("").is_empty());
}

#[test]
fn constraints_that_no_plan_meets() {
    let workplace = Workplace::new();
    let file = repository("tests/data/scenario.json");
    let base = ["optimize", "--scenario", file.to_str().unwrap()];
    for (wish, names) in [
        (&["--min-rate", "1e9"][..], "rate of at least 1000000000.0/s"),
        (&["--max-latency", "1us"], "latency of at most 1.00 µs"),
        (&["--min-accuracy", "100%"], "accuracy of at least 100.00 %"),
        (
            &["--objective", "latency", "--min-rate", "300", "--min-accuracy", "87%"],
            "accuracy of at least 87.00 %",
        ),
    ] {
        let says = [names, "the nearest plan:", "latency", "accuracy"];
        workplace.fail(&[&base, wish].concat(), 4, &says);
        workplace.fail(&[&base, wish, &["--json"]].concat(), 4, &says);
    }
    assert!(workplace.reports("").is_empty());
}

#[test]
fn plans_that_are_none_or_another_models() {
    let workplace = Workplace::new();
    let file = repository("tests/data/scenario.json");
    workplace.succeed(&["optimize", "--scenario", file.to_str().unwrap()]);
    let (plan, document) = workplace.report("plan");
    workplace.fail(&["replay", "--plan", &plan], 1, &["model 000000000000", "alexnet", "coprof optimize"]);
    workplace.fail(&["replay", "--plan", "nothing.json"], 1, &["nothing.json", "coprof optimize"]);
    let mut newer = document.clone();
    newer["schema"] = json!("coprof.plan/9");
    for (name, contents, says) in [
        ("half.json", half(document.to_string().as_bytes()).to_vec(), "coprof.plan/1"),
        ("newer.json", newer.to_string().into_bytes(), "'coprof.plan/9'"),
        ("foreign.json", scenario().to_string().into_bytes(), "coprof.plan/1"),
    ] {
        workplace.write(name, contents);
        workplace.fail(&["replay", "--plan", name], 1, &[name, says, "coprof optimize"]);
    }
    workplace.fail(&["replay"], 1, &["no saved plan for alexnet", "coprof optimize"]);
}

#[test]
fn data_that_is_none() {
    let workplace = Workplace::new();
    workplace.write("cifar-10-binary.tar.gz", "no archive");
    for command in ["exits", "encodings"] {
        workplace.fail(&[command, "--record"], 1, &["coprof fetch cifar10"]);
        workplace.fail(&[command, "--record", "--data", "nowhere"], 1, &["nowhere", "coprof fetch cifar10"]);
        workplace.fail(
            &[command, "--record", "--data", "cifar-10-binary.tar.gz"],
            1,
            &["cifar-10-binary.tar.gz"],
        );
    }
}
