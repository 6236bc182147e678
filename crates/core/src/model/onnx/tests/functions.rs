//! Calls of a file's own functions are what these are made of.

use super::*;

fn function(name: &str, nodes: Vec<NodeProto>, input: &[&str], output: &[&str]) -> FunctionProto {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    FunctionProto {
        name: name.into(),
        domain: "local".into(),
        input: names(input),
        output: names(output),
        node: nodes,
        ..FunctionProto::default()
    }
}

fn call(name: &str, inputs: &str) -> NodeProto {
    NodeProto { domain: "local".into(), ..node(name, inputs) }
}

/// A `block` of a convolution and a leaky rectifier, whose slope a call gives, and a `pair` of two of these.
fn file() -> File {
    let slope =
        AttributeProto { name: "alpha".into(), ref_attr_name: "slope".into(), ..AttributeProto::default() };
    let mut leaky = node("leaky/LeakyRelu", "inner").writes("b");
    leaky.attribute.push(slope);
    let block = function(
        "block",
        vec![node("conv/Conv", "a w bias").writes("inner"), leaky],
        &["a", "w", "bias"],
        &["b"],
    );
    let first = NodeProto { domain: "local".into(), ..node("one/block", "x w").writes("inner") }
        .with_float("slope", 0.5);
    let second = NodeProto { domain: "local".into(), ..node("two/block", "inner w").writes("y") };
    let pair = function("pair", vec![first, second], &["x", "w"], &["y"]);
    let nodes = vec![
        call("/a/pair", "pixels w3"),
        call("/b/block", "/a/pair w4").with_float("slope", 0.25),
        node("/pool/GlobalAveragePool", "/b/block"),
        node("/Flatten", "/pool/GlobalAveragePool").writes("final"),
    ];
    let mut file =
        File::new(nodes, vec![halves("w3", &[3, 3, 3, 3]), halves("w4", &[4, 3, 1, 1])], &["final"]);
    file.model.functions = vec![block, pair];
    file
}

#[test]
fn calls_are_what_their_functions_are_made_of() {
    let graph = file().read().unwrap();
    let kinds: Vec<String> = graph.layers.iter().map(|layer| layer.op.label().into()).collect();
    assert_eq!(kinds, ["conv+leaky relu", "conv+leaky relu", "conv+leaky relu", "global avgpool"]);
    let slopes: Vec<String> =
        graph.layers[..3].iter().map(|layer| format!("{:?}", layer.op.activation())).collect();
    for (slope, says) in std::iter::zip(slopes, ["0.5", "0.01", "0.25"]) {
        assert!(slope.contains(says), "{slope}");
    }
}

#[test]
fn a_functions_own_value_stands_in_for_what_a_call_leaves_out() {
    let mut file = file();
    let default = node("n", "").with_float("slope", 0.125).attribute;
    file.model.functions[0].attribute_proto = default;
    let graph = file.read().unwrap();
    assert!(format!("{:?}", graph.layers[1].op.activation()).contains("0.125"));
}

#[test]
fn calls_that_do_not_end_or_multiply_are_refused() {
    let mut endless = file();
    endless.model.functions[0].node = vec![call("again/block", "a w").writes("b")];
    let message = endless.read().unwrap_err().to_string();
    assert!(message.contains("32 deep"), "{message}");
    let mut growing = file();
    growing.model.functions[0].node =
        (0..40).map(|at| call(&format!("{at}/block"), "a w").writes(&format!("b{at}"))).collect();
    let message = growing.read().unwrap_err().to_string();
    assert!(message.contains("multiply the file's own size"), "{message}");
    let mut other = file();
    other.model.functions[0].opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 9 }];
    assert!(other.read().unwrap_err().to_string().contains("another opset"));
}
