//! Whole numbers that stand for real ones.

use super::*;
use crate::model::{Activation, Op, Weights};

fn scales() -> Vec<TensorProto> {
    vec![
        floats("fine", &[], &[0.5]),
        floats("coarse", &[], &[2.0]),
        bytes("zero", &[], &[-128], true),
        bytes("middle", &[], &[10], true),
    ]
}

fn floats_of(weights: &Weights) -> &[f32] {
    &weights.data
}

/// Weights stored as bytes, and a pair of nodes in front of what is computed in real numbers.
fn paired() -> File {
    let nodes = vec![
        node("/w/DequantizeLinear", "w ws wz").with("axis", &[0]),
        node("/b/DequantizeLinear", "b bs").with("axis", &[0]),
        node("/i/QuantizeLinear", "pixels fine middle"),
        node("/i/DequantizeLinear", "/i/QuantizeLinear fine middle"),
        node("/Conv", "/i/DequantizeLinear /w/DequantizeLinear /b/DequantizeLinear"),
        node("/Relu", "/Conv"),
        node("/o/QuantizeLinear", "/Relu coarse zero"),
        node("/MaxPool", "/o/QuantizeLinear").with("kernel_shape", &[1, 1]),
        node("/o/DequantizeLinear", "/MaxPool coarse zero"),
        node("/Flatten", "/o/DequantizeLinear"),
    ];
    let mut constants = scales();
    let weights: Vec<i32> = (0..384).map(|at| if at < 192 { -3 } else { 100 }).collect();
    let bias = TensorProto { data_type: data_type::INT32, int32_data: vec![6, -8], ..ints("b", &[0, 0]) };
    constants.extend([
        bytes("w", &[2, 3, 8, 8], &weights, true),
        floats("ws", &[2], &[0.5, 0.25]),
        bytes("wz", &[2], &[1, 0], true),
        TensorProto { int64_data: vec![], ..bias },
        floats("bs", &[2], &[0.5, 0.25]),
    ]);
    File::new(nodes, constants, &["/Flatten"])
}

#[test]
fn pairs_round_to_the_steps_of_the_file() {
    let graph = paired().read().unwrap();
    let expected = ["i: quantize(input) -> 3×8×8", "conv1: conv+quantize(i) -> 2"];
    assert_eq!(outline(&graph), expected);
    let Op::Activation(own) = graph.layers[0].op else { panic!("expected rounding") };
    assert_eq!(own, Activation::Quantize { scale: 0.5, least: -138.0, most: 117.0 });
    let Op::Conv { weight, bias: Some(bias), activation, .. } = &graph.layers[1].op else {
        panic!("expected a conv with a bias")
    };
    assert_eq!([floats_of(weight)[0], floats_of(weight)[383]], [(-3.0 - 1.0) * 0.5, 100.0 * 0.25]);
    assert_eq!(floats_of(bias), [3.0, -2.0]);
    assert_eq!(*activation, Some(Activation::Quantize { scale: 2.0, least: 0.0, most: 255.0 }));
}

#[test]
fn numbers_that_are_read_with_other_scales_are_scaled() {
    let mut file = paired();
    file.graph().node[3].input = vec!["/i/QuantizeLinear".into(), "coarse".into(), "zero".into()];
    let graph = file.read().unwrap();
    let Op::Affine { scale, shift, .. } = &graph.layers[1].op else { panic!("expected another scale") };
    assert_eq!((floats_of(scale), floats_of(shift)), (&[4.0][..], &[(10.0 + 128.0) * 2.0][..]));
}

#[test]
fn whole_operators_are_their_real_ones_rounded() {
    let nodes = vec![
        node("/QuantizeLinear", "pixels fine middle"),
        node("/QLinearConv", "/QuantizeLinear fine middle w ws wz coarse zero b"),
        node("/DequantizeLinear", "/QLinearConv coarse zero"),
        node("/Flatten", "/DequantizeLinear"),
    ];
    let mut file = paired();
    file.graph().node = nodes;
    let graph = file.read().unwrap();
    let expected = ["quantize1: quantize(input) -> 3×8×8", "conv1: conv+quantize(quantize1) -> 2"];
    assert_eq!(outline(&graph), expected);
    let Op::Conv { bias: Some(bias), .. } = &graph.layers[1].op else { panic!("expected a bias") };
    assert_eq!(floats_of(bias), [6.0 * 0.5 * 0.5, -8.0 * 0.5 * 0.25]);
}

#[test]
fn real_weights_that_the_file_rounds_are_rounded() {
    let nodes = vec![
        node("/w/QuantizeLinear", "real fine middle"),
        node("/w/DequantizeLinear", "/w/QuantizeLinear fine middle"),
        node("/Conv", "pixels /w/DequantizeLinear"),
        node("/Flatten", "/Conv"),
    ];
    let mut constants = scales();
    let real: Vec<f32> = (0..192).map(|at| at as f32 - 96.25).collect();
    constants.push(floats("real", &[1, 3, 8, 8], &real));
    let graph = File::new(nodes, constants, &["/Flatten"]).read().unwrap();
    let Op::Conv { weight, .. } = &graph.layers[0].op else { panic!("expected a conv") };
    // -96.25 / 0.5 lies below the least step, -128 - 10; -0.25 / 0.5 lies between two, and the even one is taken.
    assert_eq!([0, 96, 100, 191].map(|at| floats_of(weight)[at]), [-69.0, 0.0, 4.0, 58.5]);
}

#[test]
fn what_stands_for_nothing_known_is_refused() {
    let refused = |change: fn(&mut File)| {
        let mut file = paired();
        change(&mut file);
        file.read().unwrap_err().to_string()
    };
    let real = refused(|file| file.graph().node[3].input[0] = "pixels".into());
    assert!(real.contains("'/i/DequantizeLinear'") && real.contains("whole numbers"), "{real}");
    let constant = |file: &mut File, name: &str| {
        let graph = file.graph();
        graph.initializer.iter().position(|tensor| tensor.name == name).unwrap()
    };
    for scale in [0.0, -1.0, f32::NAN] {
        let mut file = paired();
        for name in ["fine", "ws"] {
            let at = constant(&mut file, name);
            let mut broken = file.clone();
            broken.graph().initializer[at].float_data[0] = scale;
            let message = broken.read().unwrap_err().to_string();
            assert!(message.contains("above 0"), "{message}");
        }
    }
    let long = refused(|file| {
        file.graph().initializer.iter_mut().for_each(|tensor| {
            if tensor.name == "wz" {
                *tensor = bytes("wz", &[3], &[1, 2, 3], true);
            }
        })
    });
    assert!(long.contains("does not fit"), "{long}");
}

#[test]
fn bytes_may_come_in_as_they_are() {
    let nodes = vec![node("/DequantizeLinear", "pixels coarse byte"), node("/Flatten", "/DequantizeLinear")];
    let mut constants = scales();
    constants.push(bytes("byte", &[], &[128], false));
    let mut file = File::new(nodes, constants, &["/Flatten"]);
    file.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = data_type::UINT8;
    let graph = file.read().unwrap();
    let Op::Affine { scale, shift, .. } = &graph.layers[0].op else { panic!("expected a scale") };
    assert_eq!((floats_of(scale), floats_of(shift)), (&[2.0][..], &[-256.0][..]));
}
