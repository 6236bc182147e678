//! A model that its user brings, with branches and without records: planned and replayed over all its cuts.

use serde_json::{Value, json};

use crate::program::{Workplace, repository};
use crate::schemas::check;

/// Convolutions side by side behind one layer: 577 cuts, up to five tensors in a frontier.
fn model() -> String {
    repository("tests/data/onnx/convolutions_17.onnx").to_str().unwrap().into()
}

/// An `.npy` file of `count` inputs of three square channels of numbers.
pub fn inputs(count: usize, side: usize) -> Vec<u8> {
    inputs_of(count, side, |i| ((i * i) % 1009) as f32 / 100.0 - 5.0)
}

/// The same of these numbers.
fn inputs_of(count: usize, side: usize, number: impl Fn(usize) -> f32) -> Vec<u8> {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 3, {side}, {side}), }}");
    let header = format!("{header:<117}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    let numbers = (0..count * 3 * side * side).map(number);
    file.extend(numbers.flat_map(f32::to_le_bytes));
    file
}

#[test]
fn without_records_or_inputs_what_changes_no_answer_is_planned_over_every_cut() {
    let (workplace, model) = (Workplace::new(), model());
    let flags = ["--model", &model, "--slowdown", "2", "--link-rate", "20mbit"];
    let (optimized, said) = workplace.document(&[&["optimize"], &flags[..]].concat());
    check("optimize", &optimized);
    assert!(said.contains("nothing is known of") && said.contains("--data"), "{said}");
    assert_eq!(optimized["accuracy_basis"], "relative");
    assert_eq!((&optimized["search"]["cuts"], &optimized["search"]["all_cuts"]), (&json!(577), &json!(true)));

    // Only frontiers of five tensors are left to cross, and the device may not run the last layers.
    let (_, mut scenario) = workplace.report("scenario");
    check("scenario", &scenario);
    let of_five = |row: &Value| row["cut"].as_array().unwrap().len() == 5;
    scenario["encodings"].as_array_mut().unwrap().retain(of_five);
    scenario["nodes"][0]["may_not_run"] = json!(["avgpool5", "concat1"]);
    let file = workplace.write("five.json", scenario.to_string());
    let (optimized, _) = workplace.document(&["optimize", "--scenario", &file]);
    assert_eq!(optimized["best"]["plan"]["links"][0]["resume"].as_array().unwrap().len(), 5);
    let (replayed, _) = workplace.document(&[&["replay", "--tasks", "20"], &flags[..]].concat());
    check("replay", &replayed);
    assert_eq!(replayed["plan"], optimized["best"]["plan"]);
    assert_eq!(replayed["agreement"], json!({ "same": 20, "tasks": 20 }));
    assert_eq!((&replayed["frames"], &replayed["measured"]["accuracy"]), (&json!("made-up"), &Value::Null));
}

#[test]
fn with_inputs_plans_are_held_to_agreement_with_the_uncut_model() {
    let (workplace, model) = (Workplace::new(), model());
    let data = workplace.write("inputs.npy", inputs(30, 8));
    let flags = ["--model", &model, "--slowdown", "50", "--link-rate", "20mbit", "--data", &data];
    let optimize = [&["optimize"], &flags[..]].concat();
    let (optimized, _) = workplace.document(&optimize);
    check("optimize", &optimized);
    assert_eq!((&optimized["accuracy_basis"], &optimized["samples"]), (&json!("agreement"), &json!(24)));
    assert_eq!(optimized["uncut_accuracy"], 1.0);
    // Numbers below zero are no pixels.
    let (_, scenario) = workplace.report("scenario");
    let rows = scenario["encodings"].as_array().unwrap();
    let has = |name: &str| rows.iter().any(|row| row["encoding"] == name);
    assert!(has("q2k+zstd") && has("f32") && !has("pixels"));

    let again = workplace.succeed(&optimize);
    assert!(again.stderr.contains("agreement: from reports/agreement-"), "{}", again.stderr);
    assert!(again.stdout.contains("agreement") && again.stdout.contains("on 24 inputs"), "{}", again.stdout);
    let (replayed, _) = workplace.document(&[&["replay", "--tasks", "30"], &flags[..]].concat());
    check("replay", &replayed);
    assert_eq!(replayed["frames"], "inputs");
    assert!(replayed["plan"]["links"][0].is_object(), "something crosses");
    assert!(replayed["measured"]["accuracy"].as_f64().is_some_and(|share| share > 0.5));
    assert_eq!(replayed["agreement"], json!({ "same": 30, "tasks": 30 }));
}

#[test]
fn no_agreement_is_promised_where_none_could_fail() {
    let workplace = Workplace::new();
    let model = repository("tests/data/onnx/measure_17.onnx").to_str().unwrap().to_owned();
    let data = workplace.write("inputs.npy", inputs(30, 8));
    let optimize = ["optimize", "--model", &model, "--data", &data];
    workplace.fail(
        &[&optimize[..], &["--agree", "class"]].concat(),
        2,
        &["--agree", "one number", "rel:0.05"],
    );
    let (optimized, _) = workplace.document(&optimize);
    check("optimize", &optimized);
    assert_eq!(optimized["accuracy_basis"], "agreement");
    assert_eq!(optimized["model"]["agreement"], "relative error of at most 0.05");
    // The same pictures over and over: whatever is done to them, their answers stay alike.
    let same = workplace.write("same.npy", inputs_of(30, 8, |_| 1.0));
    let (_, said) = workplace.document(&["optimize", "--model", &model, "--data", &same]);
    assert!(said.contains("all 30 inputs are the same one") && said.contains("--agree"), "{said}");
}

#[test]
fn results_are_planned_and_replayed_as_one_answer() {
    let workplace = Workplace::new();
    let model = repository("tests/data/onnx/results_17.onnx").to_str().unwrap().to_owned();
    let data = workplace.write("inputs.npy", inputs(30, 8));
    let flags = ["--model", &model, "--slowdown", "50", "--link-rate", "20mbit", "--data", &data];
    let (optimized, said) = workplace.document(&[&["optimize"], &flags[..]].concat());
    check("optimize", &optimized);
    assert!(
        said.contains("plane, kind, colour, vector, years are results") && said.contains("--exits"),
        "{said}"
    );
    let means = "plane: relative error of at most 0.05, kind: same class, colour: same class, vector: cosine of at \
                 least 0.99, years: relative error of at most 0.05";
    assert_eq!(optimized["model"]["agreement"], means);
    assert_eq!(optimized["uncut_accuracy"], 1.0);
    let (_, scenario) = workplace.report("scenario");
    assert_eq!(scenario["exits"].as_array().unwrap().len(), 1);
    // Some encodings change what the answer is, and some do not.
    let rows = scenario["lossy_outcomes"].as_array().unwrap();
    let right = |row: &Value| row["exits"][0]["right"].as_str().unwrap().to_owned();
    let [spoilt, kept] =
        ['0', '1'].map(|digit| rows.iter().any(|row| right(row).chars().all(|c| c == digit)));
    assert!(spoilt && kept, "{rows:?}");
    let replay = [&["replay", "--tasks", "30"], &flags[..]].concat();
    let (replayed, _) = workplace.document(&replay);
    check("replay", &replayed);
    assert!(replayed["plan"]["links"][0].is_object(), "something crosses");
    assert!(replayed["full"]["tasks"][0]["answer"]["right"].is_boolean());
    assert!(replayed["measured"]["accuracy"].as_f64().is_some_and(|share| share > 0.5));
    assert_eq!(replayed["agreement"], json!({ "same": 30, "tasks": 30 }));
    assert!(
        workplace.succeed(&replay).stdout.contains("agreement with the uncut model (plane: relative error")
    );
}

#[test]
fn several_inputs_cross_or_stay_as_the_cut_says() {
    let workplace = Workplace::new();
    let model = repository("tests/data/onnx/inputs_17.onnx").to_str().unwrap().to_owned();
    let data = workplace.write("inputs.npy", inputs(30, 8));
    let flags = ["--model", &model, "--slowdown", "50", "--link-rate", "20mbit"];
    let optimize = [&["optimize"], &flags[..]].concat();
    let asked = ["an .npz file", "pixels 3×8×8, facts 5"];
    workplace.fail(&[&optimize[..], &["--data", &data]].concat(), 1, &asked);
    let (optimized, _) = workplace.document(&optimize);
    check("optimize", &optimized);
    // One input alone: cut behind it, it crosses apart from the other.
    let (_, scenario) = workplace.report("scenario");
    let rows = scenario["encodings"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["cut"] == json!(["slice1", "slice2"])), "{rows:?}");
    let (replayed, _) = workplace.document(&[&["replay", "--tasks", "20"], &flags[..]].concat());
    check("replay", &replayed);
    assert_eq!(replayed["agreement"], json!({ "same": 20, "tasks": 20 }));
}

#[test]
fn inputs_that_are_none_are_named() {
    let (workplace, model) = (Workplace::new(), model());
    workplace.write("test_batch.bin", "");
    workplace.fail(&["optimize", "--model", &model, "--data", "."], 2, &["labels", "coprof exits --record"]);
    std::fs::remove_file(workplace.file("test_batch.bin")).unwrap();
    let short = workplace.write("short.npy", &inputs(30, 8)[..999]);
    workplace.write("empty.txt", "");
    for (data, says) in [("nowhere", "No such file"), (&*short, "short.npy"), (".", "at least two inputs")] {
        for command in ["optimize", "replay"] {
            let args = [command, "--model", &model, "--data", data];
            if command == "optimize" {
                workplace.fail(&args, 1, &[says, ".npy array", "3×8×8"]);
            } else {
                // There is no plan yet, which is told first.
                workplace.fail(&args, 1, &["coprof optimize"]);
            }
        }
    }
}
