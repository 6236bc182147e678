//! libtorch answers as ONNX Runtime does, in every layout and by every algorithm.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kernel::Layout;
use super::{TorchBackend, TorchDevice};
use coprof_core::model::{Cut, Graph, Input, Output, Source};
use coprof_run::backend::Backend;

const MODEL: &[u8] = include_bytes!("../../../models/alexnet.onnx");

/// ONNX Runtime's logits on made-up pixels; `models/train/reference.py` describes them.
#[derive(serde::Deserialize)]
struct Reference {
    model_sha256: Option<String>,
    seed: u64,
    exits: Vec<ReferenceExit>,
}

#[derive(serde::Deserialize)]
struct ReferenceExit {
    name: String,
    logits: Vec<Vec<f32>>,
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn load(path: &Path) -> coprof_core::error::Result<Arc<Graph>> {
    Ok(Arc::new(Graph::from_onnx("model", &std::fs::read(path).unwrap())?))
}

fn graph() -> Arc<Graph> {
    Arc::new(Graph::from_onnx("alexnet", MODEL).unwrap())
}

/// The generator that `reference.py` documents.
fn pixels(state: &mut u64, count: usize) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// Errors unless no value is off by over a 10,000th of the largest one.
fn close(found: &[f32], expected: &[f32]) -> Result<(), String> {
    let scale = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if off <= 1e-4 * scale { Ok(()) } else { Err(format!("off by {off}: {found:?} for {expected:?}")) }
}

/// The layouts, and in each the algorithms of every layer; who has fewer runs in its last one.
const ALGORITHMS: [(Layout, usize); 4] =
    [(Layout::Plain, 0), (Layout::ChannelsLast, 0), (Layout::ChannelsLast, 1), (Layout::ChannelsLast, 2)];

fn backend(
    graph: &Arc<Graph>,
    (layout, algorithm): (Layout, usize),
) -> coprof_core::error::Result<TorchBackend> {
    let mut backend = TorchBackend::with_layout(graph.clone(), TorchDevice::CPU, layout)?;
    backend.choose(algorithm);
    Ok(backend)
}

/// Runs a model on the reference's pixels and compares all exits.
fn compare(graph: &Arc<Graph>, reference: &Reference, algorithm: (Layout, usize)) -> Result<(), String> {
    let text = |error: coprof_core::error::Error| error.to_string();
    let mut backend = backend(graph, algorithm).map_err(text)?;
    let mut state = reference.seed;
    for image in 0..reference.exits[0].logits.len() {
        backend.clear();
        let made_up = pixels(&mut state, graph.input.elements());
        let made_up = match (&*graph.inputs, graph.input.0.as_slice()) {
            ([Input { channels_last: true, .. }], &[channels, ..]) => {
                (0..channels).flat_map(|at| made_up.iter().copied().skip(at).step_by(channels)).collect()
            }
            _ => made_up,
        };
        backend.put(Source::Input, &made_up).map_err(text)?;
        backend.run(&graph.layer_ids().collect::<Vec<_>>()).map_err(text)?;
        let mut found = Vec::new();
        for exit in &graph.exits {
            let mut logits = Vec::new();
            backend.get(Source::Layer(exit.logits), &mut logits).map_err(text)?;
            match graph.outputs.as_slice() {
                [_] => found.push((exit.name.clone(), logits)),
                parts => found.extend(
                    Output::parts(parts, &logits)
                        .map(|(part, numbers)| (part.name.clone(), numbers.to_vec())),
                ),
            }
        }
        for ((name, numbers), expected) in found.iter().zip(&reference.exits) {
            assert_eq!(*name, expected.name);
            close(numbers, &expected.logits[image])?;
        }
        assert_eq!(found.len(), reference.exits.len());
    }
    Ok(())
}

#[test]
fn every_exit_answers_as_onnx_runtime_does_in_every_way() {
    let folder = repository("models");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let is_network = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "onnx") && !path.ends_with("null.onnx")
    };
    let networks: Vec<PathBuf> = files.filter(is_network).collect();
    assert!(!networks.is_empty(), "no networks in {}", folder.display());
    for name in networks {
        let reference = std::fs::read_to_string(name.with_extension("reference.json")).unwrap();
        let reference: Reference = serde_json::from_str(&reference).unwrap();
        let graph = load(&name).unwrap();
        let name = name.display();
        assert_eq!(reference.model_sha256.as_ref(), Some(&graph.hash.0), "{name}: of another model");
        for algorithm in ALGORITHMS {
            compare(&graph, &reference, algorithm)
                .unwrap_or_else(|error| panic!("{name} {algorithm:?}: {error}"));
        }
    }
}

/// The files that `models/check/small_models.py` writes, one for each family of ops.
#[test]
fn every_op_answers_as_onnx_runtime_does() {
    let folder = repository("tests/data/onnx");
    let references = std::fs::read_to_string(folder.join("references.json")).unwrap();
    let references: BTreeMap<String, Reference> = serde_json::from_str(&references).unwrap();
    let mut failures = Vec::new();
    for (name, reference) in &references {
        let graph = match load(&folder.join(format!("{name}.onnx"))) {
            Ok(graph) => graph,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        for algorithm in ALGORITHMS {
            failures.extend(
                compare(&graph, reference, algorithm).err().map(|e| format!("{name} {algorithm:?}: {e}")),
            );
        }
        // What exporters write in many nodes is recognized.
        let relics = ["erf", "sqrt"].map(|op| graph.layers.iter().any(|layer| layer.op.kind() == op));
        let written_out = ["written_out", "norms", "transformer", "convnext"];
        if written_out.iter().any(|family| name.starts_with(family)) && relics != [false; 2] {
            failures.push(format!("{name}: not recognized"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_rest_behind_any_cut_answers_as_the_whole() {
    let graph = graph();
    let logits = Source::Layer(graph.exits[graph.final_exit().0].logits);
    for algorithm in ALGORITHMS {
        let mut backend = backend(&graph, algorithm).unwrap();
        backend.learn_layouts().unwrap();
        let (mut whole, mut found) = (Vec::new(), Vec::new());
        backend.put(Source::Input, &pixels(&mut 1, graph.input.elements())).unwrap();
        backend.run(&graph.trunk()).unwrap();
        backend.get(logits, &mut whole).unwrap();
        for cut in Cut::along_trunk(&graph) {
            let frontier = cut.frontier(&graph, &[]);
            backend.clear();
            backend.put(Source::Input, &pixels(&mut 1, graph.input.elements())).unwrap();
            backend.run(&cut.layers().collect::<Vec<_>>()).unwrap();
            let mut tensors = vec![Vec::new(); frontier.len()];
            for (&source, values) in frontier.iter().zip(&mut tensors) {
                backend.get(source, values).unwrap();
            }
            if frontier.is_empty() {
                continue;
            }
            backend.clear();
            for (&source, values) in frontier.iter().zip(&tensors) {
                backend.put(source, values).unwrap();
            }
            backend.run(&cut.rest(&graph)).unwrap();
            backend.get(logits, &mut found).unwrap();
            let fit = close(&found, &whole);
            assert!(fit.is_ok(), "{:?} {algorithm:?}: {fit:?}", cut.tip_names(&graph));
        }
    }
}

#[test]
fn what_is_put_in_place_of_an_output_comes_back_and_lies_as_that_did() {
    let graph = graph();
    let mut backend = backend(&graph, (Layout::ChannelsLast, 0)).unwrap();
    backend.learn_layouts().unwrap();
    let mut turned = 0;
    for id in graph.trunk() {
        let values = pixels(&mut 3, graph.shape(Source::Layer(id)).elements());
        let mut found = Vec::new();
        backend.put(Source::Layer(id), &values).unwrap();
        backend.get(Source::Layer(id), &mut found).unwrap();
        assert_eq!(found, values);
        turned += usize::from(backend.lies_channels_last(id));
    }
    assert!(turned > 3, "{turned}");
}

#[test]
fn only_what_is_kept_is_there_behind_a_run_that_forgets() {
    let graph = graph();
    let mut backend = backend(&graph, ALGORITHMS[1]).unwrap();
    let (trunk, mut values) = (graph.trunk(), Vec::new());
    let (kept, logits) = (Source::Layer(trunk[1]), Source::Layer(trunk[trunk.len() - 1]));
    for _ in 0..2 {
        backend.clear();
        backend.put(Source::Input, &pixels(&mut 1, graph.input.elements())).unwrap();
        backend.run_keeping(&trunk, &[kept]).unwrap();
        for there in [kept, logits] {
            backend.get(there, &mut values).unwrap();
        }
        for gone in [Source::Input, Source::Layer(trunk[0]), Source::Layer(trunk[2])] {
            assert!(backend.get(gone, &mut values).is_err(), "{gone:?} is still there");
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let graph = graph();
    let mut backend = TorchBackend::with_layout(graph.clone(), TorchDevice::CPU, Layout::Plain).unwrap();
    let missing = backend.run(&[graph.trunk()[1]]).unwrap_err();
    assert!(missing.to_string().contains("before it was there"), "{missing}");
    let short = backend.put(Source::Input, &[0.0; 7]).unwrap_err();
    assert!(short.to_string().contains("3072 values, found 7"), "{short}");
    assert_eq!("tpu".parse::<TorchDevice>().unwrap_err().exit_code(), 2);
    assert_eq!("cuda:99".parse::<TorchDevice>().unwrap_err().exit_code(), 2);
}
