//! Prints what a model answers to made-up pictures, as JSON: for comparing coprof's runtime with another one.
//!
//! `cargo run --release --example logits -- MODEL.onnx …` writes one line for each file: its exits or results by name, each with one
//! list of logits per picture, or the error. The pictures are those that `models/train/reference.py` describes.

use std::sync::Arc;

use coprof::study::{Model, ModelOptions};
use coprof_core::model::{Output, Source};
use coprof_run::backend::Backend;
use coprof_torch::{ComputeThread, TorchBackend, TorchDevice};
use serde_json::{Map, Value, json};

const SEED: u64 = 2021;
const PICTURES: usize = 2;

fn main() {
    for file in std::env::args().skip(1) {
        let answer = answers(&file).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        println!("{answer}");
    }
}

fn answers(file: &str) -> coprof_core::error::Result<Value> {
    let graph = Model::load(&ModelOptions::named(file))?.graph;
    let thread = ComputeThread::prepare(1, None);
    let mut backend = TorchBackend::load(Arc::clone(&graph), TorchDevice::CPU, &thread)?;
    let mut state = SEED;
    let mut pixel = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as f32
    };
    let mut exits: Map<String, Value> = Map::new();
    let mut add = |name: &str, numbers: &[f32]| {
        if let Value::Array(pictures) = exits.entry(name).or_insert_with(|| json!([])) {
            pictures.push(json!(numbers));
        }
    };
    for _ in 0..PICTURES {
        let pixels: Vec<f32> = (0..graph.input.elements()).map(|_| pixel()).collect();
        backend.clear();
        backend.put(Source::Input, &pixels)?;
        backend.run(&graph.layer_ids().collect::<Vec<_>>())?;
        for exit in &graph.exits {
            let mut logits = Vec::new();
            backend.get(Source::Layer(exit.logits), &mut logits)?;
            match graph.outputs.as_slice() {
                [_] => add(&exit.name, &logits),
                parts => Output::parts(parts, &logits).for_each(|(part, numbers)| add(&part.name, numbers)),
            }
        }
    }
    Ok(json!({ "layers": graph.layers.len(), "exits": exits }))
}
