//! A whole session, command by command: documents, what each picks up from the one before, tables.

use std::fs;

use serde_json::{Value, json};

use crate::any_model::inputs;
use crate::images::copy_of_cifar10;
use crate::program::{Workplace, repository};
use crate::schemas::{check, faults, has_keys};

const EMULATED: [&str; 6] = ["--slowdown", "8", "--link-rate", "20mbit", "--link-delay", "1ms"];
const LABEL: &str = "emulated: device 8× slower than this host; link 20.0 Mbit/s, 1.00 ms one way";

/// The keys that others rely on.
const LAYERS: [&str; 23] = [
    "layers[].index",
    "layers[].name",
    "layers[].op",
    "layers[].inputs",
    "layers[].output_shape",
    "layers[].output_bytes",
    "layers[].params",
    "layers[].macs",
    "layers[].time_us.median",
    "layers[].time_us.p90",
    "layers[].time_us.mean",
    "layers[].time_us.stddev",
    "layers[].time_us.runs",
    "exits[].time_us",
    "whole_model_us.median",
    "layer_sum_us",
    "host.peak_gflops",
    "host.solve_gflops",
    "above_peak",
    "input_us.mean",
    "disturbance.set_aside",
    "attempts",
    "settled",
];
const LINK: [&str; 9] = [
    "uplink.bits_per_second",
    "downlink.bits_per_second",
    "rtt_us.min",
    "rtt_us.median",
    "rtt_us.p99",
    "transfer.overhead_us",
    "transfer.bits_per_second",
    "lone[].time_us",
    "uplink.burst",
];
const EXITS: [&str; 7] = [
    "exits[].name",
    "exits[].accuracy",
    "sweep[].thresholds",
    "sweep[].accuracy",
    "sweep[].accuracy_ci95",
    "sweep[].exit_fractions",
    "samples",
];
const OPTIMIZE: [&str; 18] = [
    "best.plan",
    "best.prediction.rate_per_s",
    "best.prediction.interval_us",
    "best.prediction.latency_us",
    "best.prediction.accuracy",
    "best.prediction.bottleneck",
    "best.prediction.stages[].time_us",
    "best.prediction.nodes[].whole_us",
    "best.prediction.one_core",
    "best.prediction.interval95.rate_per_s",
    "best.prediction.interval95.stages_us",
    "pareto[].plan",
    "policies[].name",
    "policies[].plan",
    "policies[].prediction.interval95",
    "unsettled",
    "search.configurations",
    "search.time_us",
];
const REPLAY: [&str; 20] = [
    "plan",
    "predicted.rate_per_s",
    "predicted.latency_us",
    "predicted.accuracy",
    "measured.rate_per_s",
    "measured.latency_us.median",
    "measured.latency_us.p90",
    "measured.latency_us.p99",
    "measured.accuracy",
    "measured.stages[].time_us",
    "error.rate",
    "error.latency",
    "drift.nodes[].slower",
    "drift.error.latency",
    "drift.interval95.rate_per_s",
    "inside95.rate",
    "measured.disturbed_tasks",
    "full.runs",
    "full.tasks[].disturbed",
    "efficiency",
];

/// Runs a command with `--json`, checks its document against the schema of its name, and that it was saved as printed.
fn checked(workplace: &Workplace, args: &[&str], keys: &[&str]) -> (Value, String) {
    let (document, messages) = workplace.document(args);
    check(args[0], &document);
    has_keys(&document, keys);
    let saved = workplace.reports(args[0]).pop().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(saved).unwrap()).unwrap(), document);
    (document, messages)
}

#[test]
fn a_session_from_layers_to_replay() {
    let workplace = Workplace::new();
    let (layers, _) = checked(&workplace, &["layers"], &LAYERS);
    let link_flags = ["link", "--time", "1s", "--link-rate", "20mbit", "--link-delay", "1ms"];
    let (link, _) = checked(&workplace, &link_flags, &LINK);
    let (exits, _) = checked(&workplace, &["exits"], &EXITS);
    let (optimized, messages) = checked(&workplace, &[&["optimize"], &EMULATED[..]].concat(), &OPTIMIZE);
    for kind in ["layers", "link"] {
        workplace.assert_picked_up(kind, &messages);
    }
    let (_, scenario) = workplace.report("scenario");
    check("scenario", &scenario);
    let (_, plan) = workplace.report("plan");
    check("plan", &plan);
    assert_eq!(plan["plan"], optimized["best"]["plan"]);

    let (replay, messages) =
        checked(&workplace, &[&["replay", "--tasks", "40"], &EMULATED[..]].concat(), &REPLAY);
    assert!(messages.contains("plan: from reports/optimize-"), "{messages}");
    assert_eq!(replay["agreement"], json!({ "same": 40, "tasks": 40 }));
    assert_eq!((&replay["plan"], &replay["predicted"]), (&plan["plan"], &plan["prediction"]));
    // There is no CIFAR-10 here.
    assert_eq!((&replay["frames"], &replay["measured"]["accuracy"]), (&json!("made-up"), &Value::Null));
    for document in [&exits, &optimized, &replay] {
        assert_eq!(document["records_of_other_images"], Value::Null);
    }

    check_emulation([&layers, &link, &optimized, &scenario, &plan, &replay]);
    check_tables(&workplace);
    check_calibrated_plan(&workplace);
    let replays = [&replay];
    check_demo_schema(&json!({
        "layers": layers, "link": link, "exits": exits, "optimize": optimized, "replays": replays,
    }));
    workplace.assert_nothing_half_written();
}

/// What was emulated is labelled wherever it had a part, and nowhere else.
fn check_emulation([layers, link, optimized, scenario, plan, replay]: [&Value; 6]) {
    let on_link =
        |slowdown: f64| json!({ "slowdown": slowdown, "link_bits_per_second": 2e7, "link_delay_us": 1e3 });
    assert_eq!((&layers["emulated"], &link["emulated"]), (&Value::Null, &on_link(1.0)));
    for document in [optimized, scenario, plan, replay] {
        assert_eq!(document["emulated"], on_link(8.0));
    }
    assert_eq!(
        (&scenario["nodes"][0]["emulated_slowdown"], &scenario["links"][0]["emulated"]),
        (&json!(8.0), &json!(true))
    );
}

/// A demo takes minutes, but its document is made of those of its steps.
fn check_demo_schema(steps: &Value) {
    let mut demo = steps["optimize"].clone();
    let demo = demo.as_object_mut().unwrap();
    demo["schema"] = json!("coprof.demo/1");
    let envelope = [
        "schema",
        "coprof_version",
        "created",
        "host",
        "host_id",
        "model",
        "threads",
        "pinned_core",
        "emulated",
    ];
    demo.retain(|key, _| envelope.contains(&key.as_str()));
    demo.extend(steps.as_object().unwrap().clone());
    check("demo", &Value::Object(demo.clone()));
}

/// A saved scenario gives the same plan without measuring, and tables name what was emulated.
fn check_tables(workplace: &Workplace) {
    let (scenario, _) = workplace.report("scenario");
    let (_, optimized) = workplace.report("optimize");
    let measured = |kind: &str| workplace.reports(kind).len();
    let before = (measured("layers"), measured("link"), measured("scenario"));
    let (again, messages) = workplace.document(&["optimize", "--scenario", &scenario]);
    check("optimize", &again);
    assert_eq!(again["best"], optimized["best"]);
    assert_eq!(again["emulated"], optimized["emulated"]);
    assert_eq!((measured("layers"), measured("link"), measured("scenario")), before, "{messages}");

    let table = workplace.succeed(&["optimize", "--scenario", &scenario, "--csv", "front.csv", "--quiet"]);
    for word in ["coprof", "device only", "edge only", "Neurosurgeon", "◀", LABEL] {
        assert!(table.stdout.contains(word), "no '{word}' in {}", table.stdout);
    }
    assert_eq!(table.stderr, "");
    let rows = fs::read_to_string(workplace.file("front.csv")).unwrap();
    let front = again["pareto"].as_array().unwrap().len();
    assert!(rows.starts_with("rate_per_s,latency_us,accuracy,cut,exits\n"), "{rows}");
    assert_eq!(rows.lines().count(), 1 + front);

    let tasks = ["replay", "--tasks", "20", "--csv", "tasks.csv"];
    let table = workplace.succeed(&[&tasks, &EMULATED[..]].concat());
    for word in ["→", "20 of 20 answers as in one process", LABEL] {
        assert!(table.stdout.contains(word), "no '{word}' in {}", table.stdout);
    }
    assert_eq!(fs::read_to_string(workplace.file("tasks.csv")).unwrap().lines().count(), 1 + 20);
    // The plan was held to accuracy, and nobody tells what is right of these inputs.
    let data = workplace.write("inputs.npy", inputs(5, 32));
    let with_inputs = ["replay", "--tasks", "20", "--data", &data];
    let (replayed, _) = workplace.document(&[&with_inputs, &EMULATED[..]].concat());
    check("replay", &replayed);
    assert_eq!((&replayed["frames"], &replayed["accuracy_basis"]), (&json!("inputs"), &json!("samples")));
    assert_eq!(
        (&replayed["measured"]["accuracy"], &replayed["error"]["accuracy_points"]),
        (&Value::Null, &Value::Null)
    );
    // The records of the bundled models are of no made-up pictures.
    let data = copy_of_cifar10(workplace, "made-up", 7);
    let with_images = ["replay", "--tasks", "20", "--data", &data];
    let (replayed, messages) = workplace.document(&[&with_images, &EMULATED[..]].concat());
    check("replay", &replayed);
    assert_eq!(
        (&replayed["frames"], &replayed["records_of_other_images"]),
        (&json!("cifar10-test"), &json!(true))
    );
    assert!(messages.contains("alexnet's records were made on other images"), "{messages}");
    // Real circumstances are not those of the saved plan.
    workplace.fail(&["replay", "--tasks", "20"], 1, &["coprof optimize", "emulated"]);
}

/// What an encoding has to know of its cut goes from the record through scenario and plan to the edge.
fn check_calibrated_plan(workplace: &Workplace) {
    let (_, mut scenario) = workplace.report("scenario");
    let calibrated = |row: &Value| ["q4k+zstd", "prune50-q8"].iter().any(|name| row["encoding"] == *name);
    scenario["encodings"].as_array_mut().unwrap().retain(calibrated);
    scenario["nodes"][0]["may_not_run"] = json!(["conv3"]);
    let file = workplace.write("calibrated.json", scenario.to_string());
    let (optimized, _) = workplace.document(&["optimize", "--scenario", &file, "--min-accuracy", "50%"]);
    check("optimize", &optimized);
    let link = &optimized["best"]["plan"]["links"][0];
    assert!(link["calibration"]["tensors"].as_array().is_some_and(|tensors| !tensors.is_empty()), "{link}");
    let plan = workplace.reports("plan").pop().unwrap();
    check("plan", &serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap());
    let from_plan = ["replay", "--tasks", "20", "--plan", plan.to_str().unwrap()];
    // Picked up from the document of `optimize`, too, whose plan it is now.
    for run in [&from_plan[..], &["replay", "--tasks", "20"]] {
        let (replayed, _) = workplace.document(&[run, &EMULATED[..]].concat());
        check("replay", &replayed);
        assert_eq!(replayed["plan"], optimized["best"]["plan"]);
        assert_eq!(replayed["agreement"], json!({ "same": 20, "tasks": 20 }));
    }
}

#[test]
fn models_are_listed_and_drawn() {
    let workplace = Workplace::new();
    let (models, _) = workplace.document(&["models"]);
    check("models", &models);
    let models = models["models"].as_array().unwrap();
    for model in models {
        let exits = model["exits"].as_array().unwrap();
        assert!(exits.len() >= 3 && exits.iter().all(|exit| exit["test_accuracy"].is_f64()), "{model}");
    }
    let named = |name: &str| models.iter().find(|model| model["name"] == name).unwrap();
    // Four branches side by side, in seven modules: far more cuts than layers.
    let googlenet = named("googlenet");
    assert!(
        googlenet["cut_count"].as_u64() > googlenet["layer_count"].as_u64().map(|layers| 3 * layers),
        "{googlenet}"
    );
    let alexnet = named("alexnet");
    has_keys(alexnet, &["exits[].test_accuracy", "file_bytes", "cut_count"]);
    let (shown, _) = workplace.document(&["models", "show", "alexnet"]);
    check("model", &shown);
    assert_eq!(shown["facts"], *alexnet);
    let cuts = shown["cuts"].as_array().unwrap();
    assert_eq!(cuts[0], json!({ "after": [], "frontier": ["input"], "bytes": 12288 }));
    assert_eq!(Value::from(cuts.len()), alexnet["cut_count"]);
    let table = workplace.succeed(&["models"]).stdout;
    assert!(table.contains("alexnet") && table.contains("exit1") && table.contains(" %"), "{table}");
    let drawing = workplace.succeed(&["models", "show", "alexnet"]).stdout;
    assert!(
        ["○", "├─●", "conv1", "→ exit1", "32.0 KiB"].iter().all(|part| drawing.contains(part)),
        "{drawing}"
    );
    workplace.fail(&["models", "show", "alexnot"], 1, &["alexnot", "bundled model (alexnet"]);
}

/// The whole ladder, each encoding with its size, times and accuracy; a cut by itself; rows for other programs.
fn check_encodings(workplace: &Workplace) {
    let (encodings, _) = checked(workplace, &["encodings"], &["encodings[].final_accuracy"]);
    let rows = encodings["encodings"].as_array().unwrap();
    let find = |cut: &str, name: &str| rows.iter().find(|row| row["cut"] == cut && row["encoding"] == name);
    let ladder =
        ["f32", "bf16+zero", "q8", "q4+deflate", "q3k+zstd", "q2ck+lz4", "jalad4", "prune50-q8", "jpeg75"];
    for name in ladder {
        assert!(find("pool1", name).is_some(), "{name}");
    }
    for name in ["pixels+png", "pixels+zstd", "jpeg95", "q6c"] {
        assert!(find("input", name).is_some(), "{name}");
    }
    assert_eq!(find("input", "pixels").unwrap()["bytes_mean"], 3072.0);
    assert_eq!(find("input", "pixels").unwrap()["final_accuracy"], encodings["uncut_final_accuracy"]);
    // The exits behind a cut: on pool1 hangs the first one, behind conv3 is the final one alone.
    let names =
        |cut| find(cut, "q2").unwrap()["accuracy"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        (names("pool1"), names("conv3")),
        (vec!["exit1".into(), "exit2".into(), "final".into()], vec!["final".into()])
    );

    let overview = workplace.succeed(&["encodings", "--csv", "ladder.csv"]);
    assert!(overview.stdout.contains("≤ 0.5") && overview.stdout.contains("pool5"), "{}", overview.stdout);
    let csv = fs::read_to_string(workplace.file("ladder.csv")).unwrap();
    let header = "cut,encoding,bytes_mean,bytes_p99,encode_us,decode_us,exit1_accuracy,exit2_accuracy,final_accuracy\n";
    assert!(csv.starts_with(header), "{csv}");
    assert_eq!(csv.lines().count(), 1 + rows.len());
    let cut = workplace.succeed(&["encodings", "--cut", "pool1"]);
    assert!(cut.stdout.contains("q3ck+zero") && !cut.stdout.contains("pool5"), "{}", cut.stdout);
    workplace.fail(&["encodings", "--cut", "pool9"], 2, &["pool9", "pool1"]);
}

#[test]
fn records_are_shown_without_data_or_network() {
    let workplace = Workplace::new();
    check_encodings(&workplace);
    let table = workplace.succeed(&["exits", "--csv", "sweep.csv"]);
    assert!(table.stdout.contains("95 % interval"), "{}", table.stdout);
    let rows = fs::read_to_string(workplace.file("sweep.csv")).unwrap();
    assert!(rows.lines().next().unwrap().contains("accuracy,accuracy_ci95_low,accuracy_ci95_high"), "{rows}");
}

/// Half of the samples are sure enough of themselves to leave on the device; the rest cross as 1,038 bytes at 1 Mbit/s.
#[test]
fn a_scenario_made_by_hand_gives_the_plan_found_by_hand() {
    let workplace = Workplace::new();
    let file = repository("tests/data/scenario.json");
    let mut scenario: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    check("scenario", &scenario);
    let (optimized, _) = workplace.document(&["optimize", "--scenario", file.to_str().unwrap()]);
    check("optimize", &optimized);
    let best = &optimized["best"];
    assert_eq!(best["plan"]["nodes"], json!([{ "cut": ["pool"] }, { "cut": ["fc"] }]));
    assert_eq!(best["plan"]["links"], json!([{ "resume": ["pool"], "encoding": "q8" }]));
    let prediction = &best["prediction"];
    let close = |found: &Value, expected: f64| {
        assert!((found.as_f64().unwrap() / expected - 1.0).abs() < 1e-9, "{found}")
    };
    let link = (50.0 + 8.0 * 1038.0) / 2.0;
    for (stage, time) in
        [2400.0 + 400.0 + 160.0 + 16.0 / 2.0, link, (2.0 + 1000.0 + 2.0) / 2.0].into_iter().enumerate()
    {
        close(&prediction["stages"][stage]["time_us"], time);
    }
    close(&prediction["rate_per_s"], 1e6 / link);
    close(&prediction["accuracy"], 7.0 / 8.0);
    assert_eq!(prediction["bottleneck"], "link");
    let emulated = json!({ "slowdown": 8.0, "link_bits_per_second": 1e6, "link_delay_us": 5000.0 });
    assert_eq!(optimized["emulated"], emulated);

    // Of twelve samples known uncut, four more easy ones: they raise the accuracy and change nothing else.
    let easy = [("1111", json!([0.05, 0.1, 0.05, 0.1])), ("1111", json!([0.01, 0.01, 0.01, 0.01]))];
    let mut more = scenario["outcomes"].clone();
    for (exit, (right, entropy)) in more.as_array_mut().unwrap().iter_mut().zip(easy) {
        exit["right"] = json!(format!("{}{right}", exit["right"].as_str().unwrap()));
        exit["entropy"].as_array_mut().unwrap().extend(entropy.as_array().unwrap().iter().cloned());
    }
    let mut known = scenario.clone();
    known["uncut_outcomes"] = more;
    known["threshold_steps"] = json!(12);
    check("scenario", &known);
    let known = workplace.write("known.json", known.to_string());
    let (optimized, _) = workplace.document(&["optimize", "--scenario", &known]);
    check("optimize", &optimized);
    assert_eq!((&optimized["samples"], &optimized["uncut_samples"]), (&json!(8), &json!(12)));
    close(&optimized["uncut_accuracy"], 11.0 / 12.0);
    close(&optimized["best"]["prediction"]["accuracy"], 11.0 / 12.0);

    // Without what tells where it was measured, its device and link still say that they are emulated.
    for key in ["coprof_version", "created", "host", "host_id", "threads", "pinned_core", "emulated"] {
        scenario.as_object_mut().unwrap().remove(key);
    }
    let bare = workplace.write("bare.json", scenario.to_string());
    let (optimized, _) = workplace.document(&["optimize", "--scenario", &bare]);
    check("optimize", &optimized);
    assert_eq!(optimized["emulated"], emulated);
    assert_eq!((&optimized["samples"], &optimized["uncut_samples"]), (&json!(8), &Value::Null));
}

/// What a person would write: layers, times and links.
fn three_nodes() -> Value {
    let layer = |name: &str, output_bytes: u64| json!({ "name": name, "output_bytes": output_bytes, "weight_bytes": 1000 });
    let node = |name: &str, times: [f64; 3]| json!({ "name": name, "layers_us": times });
    json!({
        "schema": "coprof.scenario/2",
        "layers": [layer("conv1", 1250), layer("conv2", 125), layer("fc", 40)],
        "nodes": [
            node("camera", [1000.0, 9000.0, 9000.0]),
            node("gateway", [300.0, 800.0, 3000.0]),
            node("cloud", [10.0, 20.0, 100.0])
        ],
        // Bytes take a microsecond each on the first link, eight on the second.
        "links": [{ "bits_per_second": 8e6 }, { "bits_per_second": 1e6, "delay_us": 2000 }]
    })
}

/// The camera runs conv1 and sends 1,250 bytes, the gateway conv2 and sends 125, the cloud the rest.
#[test]
fn three_nodes_by_hand_give_the_plan_found_by_hand() {
    let workplace = Workplace::new();
    let file = workplace.write("three.json", three_nodes().to_string());
    let arrivals = ["--arrival", "rate:500", "--p99-below", "10ms"];
    let (optimized, _) = workplace.document(&[&["optimize", "--scenario", &file][..], &arrivals].concat());
    check("optimize", &optimized);
    let best = &optimized["best"];
    let cuts = json!([{ "cut": ["conv1"] }, { "cut": ["conv2"] }, { "cut": ["fc"] }]);
    assert_eq!(best["plan"]["nodes"], cuts);
    let stages = best["prediction"]["stages"].as_array().unwrap();
    let found: Vec<(&str, f64)> =
        stages.iter().map(|s| (s["name"].as_str().unwrap(), s["time_us"].as_f64().unwrap())).collect();
    let expected =
        [("camera", 1000.0), ("link 1", 1250.0), ("gateway", 800.0), ("link 2", 1000.0), ("cloud", 100.0)];
    assert_eq!(found, expected);
    assert_eq!(best["prediction"]["latency_us"], 1000.0 + 1250.0 + 800.0 + 1000.0 + 100.0 + 2.0 * 2000.0);
    assert_eq!(optimized["accuracy_basis"], "relative");
    let load = &optimized["arrivals"]["plans"][0];
    assert_eq!((&load["name"], &load["simulated"]["latency_us"]["p99"]), (&json!("coprof"), &json!(8150.0)));
    assert_eq!(load["sustained_rate_per_s"], 800.0);
    assert_eq!(optimized["stability"]["links_bits_per_second"].as_array().unwrap().len(), 2);
    let baselines: Vec<&Value> =
        optimized["policies"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    // The input's size is unknown, so it cannot cross to the cloud.
    assert_eq!(baselines, ["device-only"]);
    workplace.succeed(&["optimize", "--scenario", &file]);
}

#[test]
fn a_confidence_makes_the_floor_a_guarantee() {
    let workplace = Workplace::new();
    let mut scenario: Value =
        serde_json::from_str(&fs::read_to_string(repository("tests/data/scenario.json")).unwrap()).unwrap();
    for exit in scenario["outcomes"].as_array_mut().unwrap() {
        let Value::Array(entropy) = exit["entropy"].clone() else { panic!() };
        exit["right"] = exit["right"].as_str().unwrap().repeat(100).into();
        exit["entropy"] = vec![entropy; 100].concat().into();
    }
    scenario["lossy_outcomes"][0]["exits"] = scenario["outcomes"].clone();
    let file = workplace.write("many.json", scenario.to_string());
    let asked = ["optimize", "--scenario", &file, "--min-accuracy", "0.8", "--confidence", "95%"];
    let (optimized, _) = workplace.document(&asked);
    check("optimize", &optimized);
    let known = &optimized["guarantee"];
    assert_eq!(
        (&known["confidence"], &known["accuracy"], &known["certified_on"]),
        (&json!(0.95), &json!(0.8), &json!(400))
    );
    assert!(known["right"].as_f64().unwrap() > 0.8);
    assert!(optimized["stability"].is_null());
    let shown = workplace.succeed(&asked).stdout;
    assert!(shown.contains("Guaranteed with 95.00 % confidence: an accuracy of at least 80.00 %"), "{shown}");
    let strict = ["optimize", "--scenario", &file, "--min-accuracy", "0.875", "--confidence", "99.9%"];
    workplace.fail(&strict, 4, &["no plan is certain to keep", "of the 400 samples"]);
    workplace.fail(&[&strict[..6], &["100%"]].concat(), 2, &["a confidence below 100 %"]);
    let tables = workplace.write("tables.json", three_nodes().to_string());
    workplace.fail(
        &["optimize", "--scenario", &tables, "--confidence", "0.9"],
        1,
        &["not to be had from tables"],
    );
}

#[test]
fn what_no_node_can_hold_is_told() {
    let workplace = Workplace::new();
    let mut scenario = three_nodes();
    for node in scenario["nodes"].as_array_mut().unwrap() {
        node["memory_bytes"] = json!(1500);
    }
    let file = workplace.write("small.json", scenario.to_string());
    workplace.fail(&["optimize", "--scenario", &file], 4, &["memory", "needs", "memory_bytes are 1500"]);
    let ceiling = ["optimize", "--scenario", &file, "--p99-below", "1ms"];
    workplace.fail(&ceiling, 2, &["--p99-below needs --arrival"]);
}

/// Two nodes as fast as each other, each layer 1,000 µs on either. What crosses takes 100 µs to write and 100 µs to read.
fn two_nodes_on(cores: [&str; 2]) -> Value {
    let layer = |name: &str| json!({ "name": name, "output_bytes": 1000 });
    let node = |name: &str, core: &str| json!({ "name": name, "layers_us": [1000, 1000], "core": core });
    json!({
        "schema": "coprof.scenario/2",
        "layers": [layer("a"), layer("b")],
        "nodes": [node("device", cores[0]), node("edge", cores[1])],
        "links": [{ "bits_per_second": 8e8 }],
        "encodings": [
            { "cut": ["a"], "encoding": "f32", "bytes": 1000, "encode_us": [100, 0], "decode_us": [0, 100] }
        ]
    })
}

#[test]
fn nodes_on_one_core_are_planned_to_take_turns() {
    let workplace = Workplace::new();
    let best = |name: &str, scenario: &Value| {
        assert_eq!(faults("scenario", scenario), Vec::<String>::new());
        let file = workplace.write(name, scenario.to_string());
        let (optimized, _) = workplace.document(&["optimize", "--scenario", &file]);
        check("optimize", &optimized);
        let said = workplace.succeed(&["optimize", "--scenario", &file]).stdout;
        let best = optimized["best"].clone();
        let one_core = &best["prediction"]["one_core"];
        assert_eq!(one_core, said.contains("The nodes have one core between them"), "{said}");
        best
    };
    let rate = |best: &Value| best["prediction"]["rate_per_s"].as_f64().unwrap();
    // With a core each, they share the work; with one, the way over the link only adds to it.
    let apart = best("apart.json", &two_nodes_on(["core 0", "core 1"]));
    assert_eq!((apart["plan"]["links"][0].is_null(), rate(&apart)), (false, 1e6 / 1100.0));
    let alone = best("one.json", &two_nodes_on(["core 0", "core 0"]));
    assert_eq!((alone["plan"]["links"][0].is_null(), rate(&alone)), (true, 1e6 / 2000.0));

    // Where they must share the work, the rate is that of both together, and the stages keep their own times.
    let mut scenario = two_nodes_on(["core 0", "core 0"]);
    scenario["nodes"][0]["may_not_run"] = json!(["b"]);
    let shared = best("shared.json", &scenario);
    assert_eq!(rate(&shared), 1e6 / 2200.0);
    let prediction = &shared["prediction"];
    assert_eq!((&prediction["one_core"], &prediction["interval_us"]), (&json!(true), &json!(2200.0)));
    for (stage, time) in [1100.0, 10.0, 1100.0].into_iter().enumerate() {
        assert_eq!(prediction["stages"][stage]["time_us"], time);
    }
    // The simulation knows nodes that work at the same time only.
    let queues = ["optimize", "--scenario", "shared.json", "--arrival", "rate:100"];
    workplace.fail(&queues, 1, &["a core each", "--arrival"]);
    let mut three = three_nodes();
    for node in [0, 2] {
        three["nodes"][node]["core"] = json!("core 0");
    }
    workplace.write("three.json", three.to_string());
    workplace.fail(&["optimize", "--scenario", "three.json"], 1, &["three.json", "share a core"]);
}

#[test]
fn a_plan_that_takes_no_time_follows_its_schema() {
    let workplace = Workplace::new();
    let document = json!({
        "schema": "coprof.scenario/2",
        "layers": [{"name": "a", "output_bytes": 100}, {"name": "b", "output_bytes": 4}],
        "nodes": [{"name": "n0", "layers_us": [0, 0]}, {"name": "n1", "layers_us": [1, 1]}],
        "links": [{"bits_per_second": 1e9}]
    });
    let scenario = workplace.write("scenario.json", document.to_string());
    let (optimized, _) = workplace.document(&["optimize", "--scenario", &scenario]);
    check("optimize", &optimized);
    assert!(optimized["pareto"][0]["rate_per_s"].is_null());
}

/// The file that the documentation gives to start from.
#[test]
fn the_scenario_of_the_documentation_can_be_planned() {
    let page = fs::read_to_string(repository("docs/formats.md")).unwrap();
    let blocks = page.split("```json").skip(1).map(|rest| rest.split("```").next().unwrap());
    let examples: Vec<&str> = blocks.filter(|block| block.contains("\"coprof.scenario/2\"")).collect();
    assert_eq!(examples.len(), 1);
    check("scenario", &serde_json::from_str(examples[0]).unwrap());
    let workplace = Workplace::new();
    let file = workplace.write("example.json", examples[0]);
    let (optimized, _) = workplace.document(&["optimize", "--scenario", &file]);
    check("optimize", &optimized);
}
