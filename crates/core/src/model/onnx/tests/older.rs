//! Files in operator sets from before 7, and those from before there were any.

use super::*;
use crate::model::{Activation, Op};

fn in_opset(opset: i64, nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> File {
    let mut file = File::new(nodes, constants, &["/Flatten"]);
    file.model.opset_import[0].version = opset;
    file
}

/// As caffe2's exporter wrote it.
#[test]
fn the_first_operator_sets_are_read() {
    let nodes = vec![
        node("/Conv", "pixels w").with("kernel_shape", &[8, 8]),
        node("/Add", "/Conv b").with("broadcast", &[1]).with("axis", &[1]),
        node("/BatchNormalization", "/Add b b zero one")
            .with("is_test", &[1])
            .with("consumed_inputs", &[0; 5]),
        node("/Relu", "/BatchNormalization").with("consumed_inputs", &[0]),
        node("/Dropout", "/Relu").with("is_test", &[1]),
        node("/Reshape", "/Dropout").with("shape", &[0, 2]),
        node("/Cast", "/Reshape").saying("to", "FLOAT"),
        node("/Pad", "/Cast").with("paddings", &[0, 1, 0, 0]),
        node("/Flatten", "/Pad"),
    ];
    let constants = vec![
        floats("w", &[2, 3, 8, 8], &[1.0; 384]),
        floats("b", &[2], &[1.0, 2.0]),
        floats("zero", &[2], &[0.0; 2]),
        floats("one", &[2], &[1.0; 2]),
    ];
    let mut file = in_opset(1, nodes, constants);
    let expected = ["conv1: conv+relu(input) -> 2", "pad1: pad(conv1) -> 3"];
    assert_eq!(outline(&file.read().unwrap()), expected);
    let graph = file.read().unwrap();
    let Op::Conv { bias: Some(bias), .. } = &graph.layers[0].op else { panic!("expected a bias") };
    assert!((bias.data[1] - 2.0 * (2.0 + 1.0)).abs() < 1e-4, "{bias:?}");
    // Files were no more than of one operator set before they said so.
    file.model.opset_import.clear();
    file.model.ir_version = 2;
    assert_eq!(outline(&file.read().unwrap()), expected);
}

#[test]
fn an_operand_is_aligned_where_its_axis_says() {
    let add = |axis: &[i64], dims: &[i64]| {
        let count = dims.iter().product::<i64>() as usize;
        let sum = node("/Add", "pixels b").with("broadcast", &[1]).with("axis", axis);
        let constants = vec![floats("b", dims, &vec![1.0; count])];
        in_opset(6, vec![sum, node("/Flatten", "/Add")], constants).read()
    };
    for (axis, dims, shape) in
        [(1, &[3][..], &[3, 1, 1][..]), (-2, &[8, 8], &[8, 8]), (1, &[3, 8], &[3, 8, 1])]
    {
        let graph = add(&[axis], dims).unwrap();
        let Op::Affine { shift, .. } = &graph.layers[0].op else { panic!("expected a sum") };
        assert_eq!(shift.shape, shape);
    }
    assert!(add(&[3], &[8, 8]).unwrap_err().to_string().contains("does not fit in from axis 3 on"));
    assert!(add(&[1], &[8]).is_err(), "eight values for three channels");
}

#[test]
fn a_slope_lies_along_the_channels() {
    let nodes = vec![node("/PRelu", "pixels slope"), node("/Flatten", "/PRelu")];
    let graph = in_opset(6, nodes, vec![floats("slope", &[3], &[0.1, 0.2, 0.3])]).read().unwrap();
    let turned = graph.layers.iter().find_map(|layer| match &layer.op {
        Op::Affine { scale, .. } if scale.data.len() == 3 => Some(scale.shape.clone()),
        _ => None,
    });
    assert_eq!(turned, Some(vec![3, 1, 1]));
    let nodes = vec![node("/Selu", "pixels"), node("/Flatten", "/Selu")];
    let graph = in_opset(1, nodes, vec![]).read().unwrap();
    assert!(matches!(graph.layers[0].op, Op::Activation(Activation::Elu { alpha: 1.6732 })));
}

#[test]
fn batch_norm_that_writes_its_statistics_is_in_training() {
    let mut norm = node("/BatchNormalization", "pixels b b b b");
    norm.output.push("mean".into());
    let nodes = vec![norm, node("/Flatten", "/BatchNormalization")];
    let mut file = in_opset(6, nodes, vec![floats("b", &[3], &[1.0; 3])]);
    assert!(file.read().unwrap_err().to_string().contains("training mode"));
    file.graph().node[0].output.truncate(1);
    file.read().unwrap();
}

/// Files that show a network without its weights, as ONNX's own tests have them.
#[test]
fn weights_may_be_filled_in_up_to_a_size() {
    let filled = |features: i64| {
        let nodes = vec![
            node("/ConstantOfShape", "shape"),
            node("/Reshape", "pixels flat"),
            node("/Gemm", "/Reshape /ConstantOfShape").with("transB", &[1]),
            node("/Flatten", "/Gemm"),
        ];
        File::new(nodes, vec![ints("shape", &[features, 192]), ints("flat", &[1, 192])], &["/Flatten"]).read()
    };
    assert_eq!(filled(30_000).unwrap().layers[0].params, 30_000 * 192);
    let refused = filled(800_000).unwrap_err().to_string();
    assert!(refused.contains("over 150000000 values"), "{refused}");
}
