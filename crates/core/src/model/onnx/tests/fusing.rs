//! What the runtime executes as one becomes one layer, and only that.

use super::*;
use crate::model::{Op, Weights};

fn close(found: &Weights, expected: &[f32]) {
    assert_eq!(found.data.len(), expected.len());
    for (found, expected) in std::iter::zip(&found.data, expected) {
        assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{found} is not {expected}");
    }
}

#[test]
fn normalisation_becomes_one_scale_and_shift() {
    let graph = chain().read().unwrap();
    let Op::Affine { scale, shift, activation: None } = &graph.layers[0].op else {
        panic!("expected an affine layer")
    };
    close(scale, &[0.5, 0.25, 0.2]);
    close(shift, &[-5.0, -5.0, -6.0]);
}

#[test]
fn batch_norm_is_folded_into_the_weights_before_it() {
    let graph = chain().read().unwrap();
    let Op::Conv { weight, bias: Some(bias), .. } = &graph.layers[1].op else { panic!("expected a bias") };
    let expected: Vec<f32> = (0..54).map(|value| value as f32 * if value < 27 { 2.0 } else { 1.5 }).collect();
    close(weight, &expected);
    close(bias, &[0.5 - 2.0, 0.25 - 3.0]);
}

#[test]
fn a_bias_added_behind_a_product_is_the_layers_own() {
    let graph = chain().read().unwrap();
    let Op::Linear { weight, bias: Some(bias), .. } = &graph.layers[6].op else { panic!("expected a bias") };
    assert_eq!(weight.shape, [4, 5]);
    assert_eq!(weight.data[..5], [0.0, 4.0, 8.0, 12.0, 16.0]);
    assert_eq!(bias.data, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn weights_that_two_layers_share_stay_apart() {
    let nodes = vec![
        node("/a/Conv", "pixels w"),
        node("/a/Mul", "/a/Conv two"),
        node("/b/Conv", "pixels w"),
        node("/Add", "/a/Mul /b/Conv"),
        node("/Flatten", "/Add").writes("answer"),
    ];
    let constants = vec![floats("w", &[1, 3, 8, 8], &[1.0; 192]), floats("two", &[], &[2.0])];
    let graph = File::new(nodes, constants, &["answer"]).read().unwrap();
    let first = |layer: usize| match &graph.layers[layer].op {
        Op::Conv { weight, .. } => weight.data[0],
        other => panic!("expected a conv, found {}", other.label()),
    };
    assert_eq!([first(0), first(1)], [2.0, 1.0]);
}

#[test]
fn arithmetic_along_axes_is_not_fused_across_a_change_of_shape() {
    let nodes = vec![
        node("/Flatten", "pixels"),
        node("/fc/Gemm", "/Flatten w"),
        node("/fc/Relu", "/fc/Gemm"),
        node("/twice/Mul", "/fc/Relu two"),
        node("/Reshape", "/twice/Mul sides"),
        node("/shift/Sub", "/Reshape means"),
        node("/Flatten_1", "/shift/Sub").writes("final"),
    ];
    let constants = vec![
        halves("w", &[192, 12]),
        floats("two", &[], &[2.0]),
        ints("sides", &[-1, 3, 2, 2]),
        floats("means", &[3, 1, 1], &[1.0, 2.0, 3.0]),
    ];
    let graph = File::new(nodes, constants, &["final"]).read().unwrap();
    // One along the rows of the fully connected layer, one along the channels of planes.
    let lines: Vec<String> = outline(&graph);
    assert_eq!(lines[1..], ["twice: affine(fc) -> 3×2×2", "shift: affine(twice) -> 12"]);
}

#[test]
fn nothing_is_fused_into_a_tensor_that_others_read() {
    let nodes = vec![
        node("/conv/Conv", "pixels w"),
        node("/bn/Mul", "/conv/Conv two"),
        node("/relu/Relu", "/bn/Mul"),
        node("/Add", "/conv/Conv /relu/Relu"),
        node("/Flatten", "/Add"),
        node("/fc/Gemm", "/Flatten fc").writes("first"),
        node("/last/Relu", "first"),
        node("/last/Gemm", "/last/Relu square").writes("second"),
    ];
    let constants = vec![
        halves("w", &[2, 3, 8, 8]),
        floats("two", &[1, 2, 1, 1], &[2.0, 3.0]),
        halves("fc", &[2, 4]),
        halves("square", &[4, 4]),
    ];
    let graph = File::new(nodes, constants, &["first", "second"]).read().unwrap();
    assert_eq!(
        outline(&graph),
        [
            "conv: conv(input) -> 2×1×1",
            "bn: affine+relu(conv) -> 2×1×1",
            "add1: add(conv, bn) -> 2×1×1",
            "fc: linear(add1) -> 4",
            "last.relu: relu(fc) -> 4",
            "last.fc: linear(last.relu) -> 4",
            "concat1: concat(fc, last.fc) -> 8",
        ]
    );
}

#[test]
fn arithmetic_in_front_of_a_padded_convolution_stays() {
    let graph = chain().read().unwrap();
    let Op::Conv { window, .. } = &graph.layers[1].op else { panic!("expected a conv") };
    assert_eq!(window.padding, [1; 4]);
    assert_eq!(graph.layers[0].op.label(), "affine");
}

#[test]
fn a_constant_minus_a_tensor_turns_its_sign() {
    let nodes =
        vec![node("/conv/Conv", "pixels w"), node("/Sub", "one /conv/Conv"), node("/Flatten", "/Sub")];
    let constants = vec![floats("w", &[1, 3, 8, 8], &[1.0; 192]), floats("one", &[1], &[1.0])];
    let graph = File::new(nodes, constants, &["/Flatten"]).read().unwrap();
    let Op::Conv { weight, bias: Some(bias), .. } = &graph.layers[0].op else { panic!("expected a bias") };
    assert_eq!((weight.data[7], bias.data[0]), (-1.0, 1.0));
}

#[test]
fn a_sum_goes_into_the_later_convolution_that_only_it_reads() {
    let nodes = vec![
        node("/first/Conv", "pixels w"),
        node("/second/Conv", "/first/Conv square"),
        node("/a/Add", "/second/Conv /first/Conv"),
        node("/relu/Relu", "/a/Add"),
        node("/third/Conv", "/relu/Relu square"),
        node("/fourth/Conv", "/relu/Relu square"),
        node("/b/Add", "/fourth/Conv /third/Conv"),
        node("/c/Add", "/b/Add /relu/Relu"),
        node("/Flatten", "/c/Add"),
    ];
    let constants = vec![halves("w", &[2, 3, 8, 8]), halves("square", &[2, 2, 1, 1])];
    let graph = File::new(nodes, constants, &["/Flatten"]).read().unwrap();
    assert_eq!(
        outline(&graph),
        [
            "first: conv(input) -> 2×1×1",
            "second: conv+add+relu(first, first) -> 2×1×1",
            "third: conv(second) -> 2×1×1",
            "fourth: conv+add(second, third) -> 2×1×1",
            "c: add(fourth, second) -> 2",
        ]
    );
}
