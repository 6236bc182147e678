//! What real exporters write is read as the network that it is.

use super::*;
use crate::model::{Agreement, LayerId, ModelHash, Op, Shape};

fn sorted_outline(graph: &Graph) -> Vec<String> {
    let mut lines = outline(graph);
    lines.sort();
    lines
}

#[test]
fn a_chain_with_a_side_exit() {
    let file = chain();
    let graph = file.read().unwrap();
    assert_eq!(
        outline(&graph),
        [
            "normalize: affine(input) -> 3×8×8",
            "conv1: conv+relu(normalize) -> 2×8×8",
            "pool1: maxpool(conv1) -> 2×4×4",
            "exit1.fc: linear(pool1) -> 4",
            "conv2: conv+relu(pool1) -> 5×2×2",
            "avgpool: global avgpool(conv2) -> 5×1×1",
            "classifier.fc: linear(avgpool) -> 4",
        ]
    );
    assert_eq!(graph.input, Shape(vec![3, 8, 8]));
    assert_eq!(graph.hash, ModelHash::of(&file.bytes()));
    let exits: Vec<(&str, LayerId)> =
        graph.exits.iter().map(|exit| (exit.name.as_str(), exit.logits)).collect();
    assert_eq!(exits, [("exit1", LayerId(3)), ("final", LayerId(6))]);
    let params: Vec<u64> = graph.layers.iter().map(|layer| layer.params).collect();
    assert_eq!(params, [6, 54 + 2, 0, 128 + 4, 40, 0, 20 + 4]);
    let macs: Vec<u64> = graph.layers.iter().map(|layer| layer.macs).collect();
    assert_eq!(macs, [192, 27 * 128, 0, 128, 8 * 20, 0, 20]);
}

#[test]
fn the_order_of_the_file_does_not_matter() {
    let mut file = chain();
    let sorted = file.read().unwrap();
    file.graph().node.reverse();
    let graph = file.read().unwrap();
    assert_eq!(sorted_outline(&graph), sorted_outline(&sorted));
    for (id, layer) in graph.layers.iter().enumerate() {
        assert!(layer.inputs.iter().all(|&input| input < Source::Layer(LayerId(id))), "{}", layer.name);
    }
}

#[test]
fn nodes_that_no_exit_needs_are_not_even_understood() {
    let mut file = chain();
    file.graph().node.push(node("/stray/NoSuchOp", "pixels"));
    file.graph().node.push(node("/stray/Relu", "/conv1/conv/Conv"));
    assert_eq!(outline(&file.read().unwrap()), outline(&chain().read().unwrap()));
}

#[test]
fn a_shape_computed_at_run_time_is_worked_out() {
    let mut file = chain();
    let graph = file.graph();
    // x.view(x.size(0), -1) as PyTorch's older exporter writes it.
    graph.node.extend([
        node("/Shape", "/pool1/MaxPool"),
        node("/Gather", "/Shape zero").with("axis", &[0]),
        node("/Unsqueeze", "/Gather zeros"),
        node("/Concat", "/Unsqueeze minus").with("axis", &[0]).writes("view"),
    ]);
    let zero = TensorProto { dims: vec![], ..ints("zero", &[0]) };
    graph.initializer.extend([zero, ints("zeros", &[0]), ints("minus", &[-1])]);
    let flatten = graph.node.iter_mut().find(|node| node.op_type == "Flatten").unwrap();
    (flatten.op_type, flatten.input) = ("Reshape".into(), vec!["/pool1/MaxPool".into(), "view".into()]);
    assert_eq!(sorted_outline(&file.read().unwrap()), sorted_outline(&chain().read().unwrap()));
}

#[test]
fn means_over_the_plane_are_global_poolings_in_every_opset() {
    let expected = outline(&chain().read().unwrap());
    let mean = |inputs| node("/avgpool/ReduceMean", inputs).writes("/avgpool/GlobalAveragePool");
    let variants = [
        mean("/Relu").with("axes", &[-1, 2]),
        mean("/Relu axes"),
        mean("/Relu").with("axes", &[2, 3]).with("keepdims", &[0]),
    ];
    for variant in variants {
        let mut file = chain();
        file.graph().initializer.push(ints("axes", &[2, 3]));
        let pool = file.graph().node.iter_mut().find(|node| node.op_type == "GlobalAveragePool").unwrap();
        *pool = variant;
        assert_eq!(outline(&file.read().unwrap()), expected);
    }
}

#[test]
fn a_network_may_end_in_a_pooling() {
    let nodes = vec![
        node("/conv/Conv", "pixels w"),
        node("/pool/GlobalAveragePool", "/conv/Conv"),
        node("/Squeeze", "/pool/GlobalAveragePool axes").writes("answer"),
    ];
    let constants = vec![halves("w", &[4, 3, 1, 1]), ints("axes", &[2, -1])];
    let graph = File::new(nodes, constants, &["answer"]).read().unwrap();
    let last = graph.layers.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.op.kind(), last.output.to_string()),
        ("pool", "global avgpool", "4".into())
    );
    assert!(graph.tells_classes());
}

#[test]
fn one_output_decides_if_it_is_a_probability() {
    let answering = |last: &[NodeProto]| {
        let nodes = [&[node("/Flatten", "pixels"), node("/fc/Gemm", "/Flatten w")], last].concat();
        let name = nodes.last().map(|node| node.name.clone()).unwrap();
        let constants = vec![halves("w", &[192, 1]), floats("s", &[], &[0.5]), bytes("z", &[], &[0], false)];
        File::new(nodes, constants, &[&name]).read().unwrap()
    };
    let sigmoid = node("/Sigmoid", "/fc/Gemm");
    let rounded = [
        sigmoid.clone(),
        node("/QuantizeLinear", "/Sigmoid s z"),
        node("/DequantizeLinear", "/QuantizeLinear s z"),
    ];
    let agreement = |graph: Graph| graph.outputs[0].agreement;
    assert_eq!([answering(&[sigmoid]), answering(&rounded)].map(agreement), [Agreement::Decision; 2]);
    let measures = [answering(&[]), answering(&[node("/Relu", "/fc/Gemm")])];
    assert_eq!(measures.map(agreement), [Agreement::NUMBERS; 2]);
    assert_eq!(agreement(chain().read().unwrap()), Agreement::Class);
}

#[test]
fn branches_are_joined_and_added() {
    let nodes = vec![
        node("/a/Conv", "pixels w"),
        node("/b/Conv", "pixels w"),
        node("/Concat", "/a/Conv /b/Conv").with("axis", &[-3]),
        node("/Add", "/Concat /Concat"),
        node("/Relu", "/Add"),
        node("/Flatten", "/Relu"),
        node("/fc/Gemm", "/Flatten fc"),
    ];
    let constants = vec![halves("w", &[4, 3, 8, 8]), halves("fc", &[8, 2])];
    let graph = File::new(nodes, constants, &["/fc/Gemm"]).read().unwrap();
    assert_eq!(
        outline(&graph),
        [
            "a: conv(input) -> 4×1×1",
            "b: conv(input) -> 4×1×1",
            "concat1: concat(a, b) -> 8×1×1",
            "add1: add+relu(concat1, concat1) -> 8×1×1",
            "fc: linear(add1) -> 2",
        ]
    );
    assert_eq!(graph.exits[0].name, "_fc_Gemm");
}

#[test]
fn a_pooling_over_single_values_does_nothing() {
    let mut file = chain();
    let pool = node("/same/AveragePool", "/Relu").with("kernel_shape", &[1, 1]);
    file.graph().node.push(pool);
    let reader = file.graph().node.iter_mut().find(|node| node.op_type == "GlobalAveragePool").unwrap();
    reader.input = vec!["/same/AveragePool".into()];
    assert_eq!(outline(&file.read().unwrap()), outline(&chain().read().unwrap()));
}

#[test]
fn gemm_scales_and_transposes() {
    let nodes = vec![node("/Flatten", "pixels"), node("/fc/Gemm", "/Flatten w b")];
    let weight: Vec<f32> = (0..2 * 192).map(|value| value as f32).collect();
    let mut file =
        File::new(nodes, vec![floats("w", &[192, 2], &weight), floats("b", &[1], &[3.0])], &["/fc/Gemm"]);
    let factor = |name: &str, f| AttributeProto { name: name.into(), f, ..AttributeProto::default() };
    file.graph().node[1].attribute = vec![factor("alpha", 2.0), factor("beta", 0.5)];
    let graph = file.read().unwrap();
    let Op::Linear { weight, bias, .. } = &graph.layers[0].op else { panic!("expected a linear layer") };
    assert_eq!((weight.shape.as_slice(), &weight.data[..3]), (&[2, 192][..], &[0.0, 4.0, 8.0][..]));
    assert_eq!(bias.as_ref().unwrap().data, [1.5, 1.5]);
    assert_eq!(graph.layers[0].inputs, [Source::Input]);
}

#[test]
fn a_softmax_is_dropped_only_where_it_answers() {
    let mut file = chain();
    let softmax = file.graph().node.iter_mut().find(|node| node.op_type == "Softmax").unwrap();
    softmax.output = vec!["shares".into()];
    file.graph().node.push(node("/Reshape_2", "shares as_they_are").writes("final"));
    file.graph().initializer.push(ints("as_they_are", &[1, 4]));
    assert_eq!(outline(&file.read().unwrap()), outline(&chain().read().unwrap()));
    file.graph().node.last_mut().unwrap().op_type = "Relu".into();
    let graph = file.read().unwrap();
    let [.., softmax, relu] = graph.layers.as_slice() else { panic!("expected two more layers") };
    assert_eq!([softmax.op.label(), relu.op.label()], ["softmax", "relu"]);
}
