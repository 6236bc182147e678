//! Broken and foreign files end in one clear error.

use super::*;
use crate::error::Kind;

/// The message that a chain with one fault gives.
fn fault(break_it: impl FnOnce(&mut File)) -> String {
    let mut file = chain();
    break_it(&mut file);
    let error = file.read().unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    let message = error.to_string();
    assert!(message.starts_with("model test: ") && message.len() < 1000, "{message}");
    message
}

fn find<'f>(file: &'f mut File, name: &str) -> &'f mut NodeProto {
    file.graph().node.iter_mut().find(|node| node.name == name).unwrap()
}

fn constant<'f>(file: &'f mut File, name: &str) -> &'f mut TensorProto {
    file.graph().initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn foreign_files() {
    for foreign in [&b""[..], b"not a model", b"\x89PNG\r\n\x1a\n", &[0xff; 64]] {
        let message = Graph::from_onnx("test", foreign).unwrap_err().to_string();
        assert!(message.contains("expected an ONNX file"), "{message}");
    }
}

#[test]
fn an_op_that_is_not_supported() {
    let message = fault(|file| find(file, "/Relu").op_type = "Loop".into());
    for part in ["node '/Relu' (Loop)", "opset 17", "MaxPool"] {
        assert!(message.contains(part), "{message}");
    }
    let message = fault(|file| find(file, "/conv2/Conv").domain = "com.microsoft".into());
    assert!(message.contains("'com.microsoft'"), "{message}");
}

#[test]
fn all_ops_that_are_not_supported_are_named_at_once() {
    let message = fault(|file| {
        find(file, "/conv1/relu/Relu").op_type = "Loop".into();
        find(file, "/Relu").op_type = "NonMaxSuppression".into();
        find(file, "/conv2/Conv").op_type = "Loop".into();
        find(file, "/Softmax").domain = "com.example".into();
    });
    let all = "4 nodes whose ops are not supported (opset 17): Loop ×2, NonMaxSuppression, Softmax of 'com.example'; ";
    assert!(message.contains("node '/conv1/relu/Relu' (Loop)") && message.contains(all), "{message}");
    // What depends on a shape alone is computed while reading.
    let mut file = chain();
    file.graph().node.push(node("/Shape", "pixels"));
    file.graph().node.push(node("/Range", "zero /Shape one"));
    assert!(file.read().is_ok());
}

#[test]
fn broken_graphs() {
    let cycle = fault(|file| find(file, "/conv1/conv/Conv").input[0] = "/Relu".into());
    assert!(cycle.contains("cycle"), "{cycle}");
    let dangling = fault(|file| find(file, "/conv2/Conv").input[0] = "nowhere".into());
    assert!(dangling.contains("'/conv2/Conv'") && dangling.contains("'nowhere'"), "{dangling}");
    let twice = fault(|file| find(file, "/conv2/Conv").output[0] = "/Relu".into());
    assert!(twice.contains("another node"), "{twice}");
    let no_inputs = fault(|file| find(file, "/conv2/Conv").input.clear());
    assert!(no_inputs.contains("input 0 is missing"), "{no_inputs}");
    let unheard_of = fault(|file| file.model.opset_import[0].version = 0);
    assert!(unheard_of.contains("opset 0 does not exist"), "{unheard_of}");
    let none = fault(|file| file.model.opset_import.clear());
    assert!(none.contains("which ONNX opset"), "{none}");
}

#[test]
fn inputs_that_are_no_images() {
    let none = fault(|file| file.graph().input.clear());
    assert!(none.contains("1 to 64 inputs, found 0"), "{none}");
    let batches = fault(|file| file.graph().input.push(tensor_info("more", &[4, 3])));
    assert!(batches.contains("1 at 'pixels' and 4 at 'more'"), "{batches}");
    for dims in
        [&[0, 3, 0, 0][..], &[0, 3, -1, 8], &[], &[0], &[0, -3, 8, 8], &[0, 1 << 40, 1 << 40, 8], &[1; 9]]
    {
        let message = fault(|file| file.graph().input[0] = tensor_info("pixels", dims));
        assert!(message.contains("[batch, channels, height, width]"), "{message}");
    }
    let untyped = fault(|file| file.graph().input[0].r#type = None);
    assert!(untyped.contains("no shape"), "{untyped}");
}

#[test]
fn outputs_that_no_node_computes() {
    for name in ["pixels", "mean", "nowhere"] {
        let message = fault(|file| file.graph().output[1].name = name.into());
        assert!(message.contains("computed by a node"), "{message}");
    }
    let none = fault(|file| file.graph().output.clear());
    assert!(none.contains("at least one output"), "{none}");
}

#[test]
fn weights_that_do_not_fit() {
    let short = fault(|file| constant(file, "conv2.weight").raw_data.truncate(10));
    assert!(short.contains("'conv2.weight'") && short.contains("holds 10 bytes"), "{short}");
    let huge = fault(|file| constant(file, "conv2.weight").dims = vec![i64::MAX, 2, 2, 2]);
    assert!(huge.contains("overflow"), "{huge}");
    let outside = fault(|file| constant(file, "conv2.weight").data_location = 1);
    assert!(outside.contains("separate file"), "{outside}");
    let flat = fault(|file| constant(file, "conv2.weight").dims = vec![5, 8]);
    assert!(flat.contains("rank 4"), "{flat}");
    for group in [0, -1, 3, i64::MAX] {
        let message = fault(|file| {
            *find(file, "/conv2/Conv") = find(file, "/conv2/Conv").clone().with("group", &[group])
        });
        assert!(message.contains("groups does not fit an input of 2 channels"), "{message}");
    }
    let bias = fault(|file| constant(file, "fc1.bias").dims = vec![4, 1]);
    assert!(bias.contains("bias of 4 values"), "{bias}");
    let negative = fault(|file| constant(file, "running.var").float_data[1] = -1.0);
    assert!(negative.contains("no finite scale"), "{negative}");
    let broadcast = fault(|file| constant(file, "std").dims = vec![1, 3]);
    assert!(broadcast.contains("[1, 3] does not fit"), "{broadcast}");
}

#[test]
fn windows_that_ask_for_too_much() {
    let pads = fault(|file| find(file, "/conv1/conv/Conv").attribute[0].ints = vec![1 << 20; 4]);
    assert!(pads.contains("padded input"), "{pads}");
    let pool = fault(|file| {
        *find(file, "/pool1/MaxPool") = find(file, "/pool1/MaxPool").clone().with("pads", &[2; 4])
    });
    assert!(pool.contains("not smaller than its window"), "{pool}");
    let stride = fault(|file| find(file, "/conv2/Conv").attribute[0].ints = vec![0, 1]);
    assert!(stride.contains("strides"), "{stride}");
}

#[test]
fn networks_in_training_mode() {
    let bn = "/conv1/bn/BatchNormalization";
    let message = fault(|file| *find(file, bn) = find(file, bn).clone().with("training_mode", &[1]));
    assert!(message.contains("model.eval()"), "{message}");
    let message = fault(|file| {
        let flag = TensorProto { data_type: data_type::BOOL, raw_data: vec![1], ..floats("flag", &[], &[]) };
        file.graph().initializer.push(flag);
        find(file, "/classifier/drop/Dropout").input.extend([String::new(), "flag".into()]);
    });
    assert!(message.contains("model.eval()"), "{message}");
}

#[test]
fn constants_that_multiply_their_own_size() {
    let message = fault(|file| {
        let graph = file.graph();
        graph.initializer.push(ints("grow_0", &[1; 64]));
        graph.node.extend((0..30).map(|step| {
            let input = format!("grow_{step} grow_{step}");
            node(&format!("/Concat_{step}"), &input).with("axis", &[0]).writes(&format!("grow_{}", step + 1))
        }));
        find(file, "/Reshape").input[1] = "grow_30".into();
    });
    assert!(message.contains("far beyond the file's own size"), "{message}");
}

#[test]
fn hostile_names_are_made_plain() {
    let mut file = chain();
    find(&mut file, "/conv2/Conv").name = "\u{1b}[31m\n<b>é\u{202e}".repeat(100);
    file.graph().output[1].name = "final\n\u{1b}[0m".into();
    find(&mut file, "/Softmax").output[0] = "final\n\u{1b}[0m".into();
    let graph = file.read().unwrap();
    let names = graph.layers.iter().map(|layer| &layer.name).chain(graph.exits.iter().map(|exit| &exit.name));
    for name in names {
        assert!(name.len() <= 60 && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
}
