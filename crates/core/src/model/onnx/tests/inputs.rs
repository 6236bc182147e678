//! Several inputs come one behind the other; one that lies channels-last is taken channels first.

use super::*;
use crate::model::{Cut, Op, Shape};

#[test]
fn several_inputs_are_parts_of_all_values() {
    let nodes = vec![
        node("/a/Conv", "pixels w"),
        node("/a/GlobalAveragePool", "/a/Conv"),
        node("/a/Flatten", "/a/GlobalAveragePool"),
        node("/b/Gemm", "facts v"),
        node("/Concat", "/a/Flatten /b/Gemm").with("axis", &[1]),
        node("/c/Gemm", "/Concat u").writes("final"),
    ];
    let constants = vec![halves("w", &[2, 3, 3, 3]), halves("v", &[5, 3]), halves("u", &[5, 4])];
    let mut file = File::new(nodes, constants, &["final"]);
    file.graph().input.push(tensor_info("facts", &[0, 5]));
    let graph = file.read().unwrap();
    assert_eq!(graph.input, Shape(vec![3 * 8 * 8 + 5]));
    let inputs: Vec<(&str, String)> =
        graph.inputs.iter().map(|input| (input.name.as_str(), input.shape.to_string())).collect();
    assert_eq!(inputs, [("pixels", "3×8×8".into()), ("facts", "5".into())]);
    let first: Vec<String> = outline(&graph).into_iter().take(3).collect();
    assert_eq!(
        first,
        ["slice1: slice(input) -> 3×8×8", "slice2: slice(input) -> 5", "a.conv: conv(slice1) -> 2×6×6"]
    );
    // What the device has taken of one input, and all of the other, cross apart.
    let facts_stay = Cut::from_tip_names(&graph, &["slice1".into(), "b".into()]).unwrap();
    let crossing: Vec<&str> =
        facts_stay.frontier(&graph, &[]).into_iter().map(|tensor| graph.tensor_name(tensor)).collect();
    assert_eq!(crossing, ["slice1", "b"]);
    file.graph().input.push(tensor_info("facts", &[0, 5]));
    assert!(file.read().unwrap_err().to_string().contains("there twice"));
}

/// A picture that lies channels-last, scaled and turned as TensorFlow's exporter writes it.
fn channels_last(order: &[i64]) -> File {
    let nodes = vec![
        node("/scale/Mul", "pixels factor"),
        node("/shift/Sub", "/scale/Mul means"),
        node("/clip/Relu", "/shift/Sub"),
        node("/Transpose", "/clip/Relu").with("perm", order),
        node("/conv/Conv", "/Transpose w"),
        node("/pool/GlobalAveragePool", "/conv/Conv"),
        node("/Flatten", "/pool/GlobalAveragePool").writes("final"),
    ];
    let constants = vec![
        floats("factor", &[], &[0.5]),
        floats("means", &[3], &[1.0, 2.0, 3.0]),
        halves("w", &[4, 3, 3, 3]),
    ];
    let mut file = File::new(nodes, constants, &["final"]);
    file.graph().input[0] = tensor_info("pixels", &[0, 6, 8, 3]);
    file
}

#[test]
fn an_input_that_is_turned_first_is_taken_channels_first() {
    let graph = channels_last(&[0, 3, 1, 2]).read().unwrap();
    assert_eq!((&graph.input, graph.inputs[0].channels_last), (&Shape(vec![3, 6, 8]), true));
    assert_eq!(graph.inputs[0].sides_in_file(), [6, 8, 3]);
    let lines = outline(&graph);
    assert_eq!(lines[..2], ["scale: affine+relu(input) -> 3×6×8", "conv: conv(scale) -> 4×4×6"]);
    let Op::Affine { scale, shift, .. } = &graph.layers[0].op else { panic!("expected an affine") };
    assert_eq!((scale.data[0], shift.shape.as_slice(), shift.data[2]), (0.5, &[3, 1, 1][..], -3.0));
}

#[test]
fn an_input_that_others_read_as_it_lies_stays_so() {
    let mut read_twice = channels_last(&[0, 3, 1, 2]);
    read_twice.graph().node.push(node("/again/Flatten", "/clip/Relu").writes("lines"));
    read_twice.graph().output.push(tensor_info("lines", &[]));
    for file in [channels_last(&[0, 3, 2, 1]), read_twice] {
        let graph = file.read().unwrap();
        assert_eq!((&graph.input, graph.inputs[0].channels_last), (&Shape(vec![6, 8, 3]), false));
        assert!(graph.layers.iter().any(|layer| layer.op.kind() == "transpose"));
    }
}
