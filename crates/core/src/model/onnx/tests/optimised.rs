//! What ONNX Runtime writes into the files that it has optimised.

use super::*;
use crate::model::{Activation, Op};

fn microsoft(mut node: NodeProto) -> NodeProto {
    node.domain = "com.microsoft".into();
    node
}

#[test]
fn fused_convolutions_are_what_they_were_made_of() {
    let nodes = vec![
        node("/first/Conv", "pixels w"),
        microsoft(
            node("/second/FusedConv", "/first/Conv square")
                .saying("activation", "LeakyRelu")
                .with_float("activation_params", 0.25),
        ),
        microsoft(
            node("/third/FusedConv", "/second/FusedConv square b /first/Conv").saying("activation", "Relu"),
        ),
        node("/Flatten", "/third/FusedConv"),
        microsoft(
            node("/fc/FusedGemm", "/Flatten square2 b")
                .saying("activation", "HardSigmoid")
                .with_float("activation_alpha", 0.5),
        ),
    ];
    let constants = vec![
        halves("w", &[2, 3, 8, 8]),
        halves("square", &[2, 2, 1, 1]),
        halves("square2", &[2, 2]),
        floats("b", &[2], &[1.0, 2.0]),
    ];
    let graph = File::new(nodes, constants, &["/fc/FusedGemm"]).read().unwrap();
    assert_eq!(
        outline(&graph),
        [
            "first: conv(input) -> 2×1×1",
            "second: conv+leaky relu(first) -> 2×1×1",
            "third: conv+add+relu(second, first) -> 2×1×1",
            "fc: linear+hard sigmoid(third) -> 2",
        ]
    );
    assert_eq!(graph.layers[1].op.activation(), Some(Activation::LeakyRelu { slope: 0.25 }));
    let Op::Linear { activation, .. } = graph.layers[3].op else { panic!("expected a linear layer") };
    assert_eq!(activation, Some(Activation::HardSigmoid { slope: 0.5, offset: 0.5 }));
}

#[test]
fn what_transformers_are_fused_into() {
    let nodes = vec![
        node("/Reshape", "pixels rows"),
        microsoft(node("/a/FusedMatMul", "/Reshape wide").with("transB", &[1]).with_float("alpha", 0.5)),
        microsoft(node("/b/BiasGelu", "/a/FusedMatMul b")),
        microsoft(node("/c/FastGelu", "/b/BiasGelu")),
        microsoft(node("/d/QuickGelu", "/c/FastGelu")),
        microsoft(node("/e/SkipLayerNormalization", "/d/QuickGelu /a/FusedMatMul b b")),
        microsoft(node("/f/FusedMatMul", "/e/SkipLayerNormalization /c/FastGelu").with("transA", &[1])),
        node("/Reshape_2", "/f/FusedMatMul flat"),
    ];
    let constants = vec![
        ints("rows", &[1, 24, 8]),
        halves("wide", &[2, 8]),
        floats("b", &[2], &[1.0, 2.0]),
        ints("flat", &[1, 4]),
    ];
    let graph = File::new(nodes, constants, &["/Reshape_2"]).read().unwrap();
    let kinds: Vec<String> = graph.layers.iter().map(|layer| layer.op.label().into_owned()).collect();
    // x · sigmoid(1.702 x) is three layers; the turned operand one.
    let expected =
        ["linear", "affine+gelu", "gelu", "affine+sigmoid", "mul", "add", "layernorm", "transpose", "matmul"];
    assert_eq!(kinds, expected);
}

#[test]
fn whole_operators_of_its_own() {
    let scale = "s z";
    let nodes = vec![
        node("/QuantizeLinear", &format!("pixels {scale}")),
        microsoft(node("/QLinearLeakyRelu", &format!("/QuantizeLinear {scale} {scale}"))),
        microsoft(node("/QLinearAdd", &format!("/QLinearLeakyRelu {scale} /QuantizeLinear {scale} {scale}"))),
        microsoft(
            node("/QLinearConcat", &format!("{scale} /QLinearAdd {scale} /QuantizeLinear {scale}"))
                .with("axis", &[1]),
        ),
        microsoft(node("/QLinearGlobalAveragePool", &format!("/QLinearConcat {scale} {scale}"))),
        node("/Flatten", "/QLinearGlobalAveragePool"),
        microsoft(node("/QGemm", &format!("/Flatten {scale} w {scale} c")).with("transB", &[1])),
    ];
    let constants = vec![
        floats("s", &[], &[0.5]),
        bytes("z", &[], &[0], true),
        bytes("w", &[2, 6], &[4; 12], true),
        TensorProto {
            dims: vec![2],
            data_type: data_type::INT32,
            int32_data: vec![8, -4],
            ..floats("c", &[2], &[])
        },
    ];
    let graph = File::new(nodes, constants, &["/QGemm"]).read().unwrap();
    let kinds: Vec<String> = graph.layers.iter().map(|layer| layer.op.label().into_owned()).collect();
    let expected = [
        "quantize",
        "leaky relu",
        "quantize",
        "add+quantize",
        "concat",
        "quantize",
        "global avgpool",
        "quantize",
        "linear",
    ];
    assert_eq!(kinds, expected);
    let Op::Linear { weight, bias: Some(bias), .. } = &graph.layers[8].op else { panic!("expected a bias") };
    assert_eq!((weight.data[0], bias.data.as_slice()), (2.0, &[2.0, -1.0][..]));
}
