//! Outputs are exits or results, and two answers of each count as the same by what they are.

use super::*;
use crate::model::{Agreement, Op, OutputChoice, with_outputs};

/// A file with heads at three depths that tell 4 classes apart, `early`, `late` and `last`; `heavy` hangs where `early` does and
/// has a layer more, `twin` where `late` does; `vector` and
/// `plane` are what these read, `share` is one probability and `years` one number.
fn heads(outputs: &[&str]) -> File {
    let fc = |name: &str, input: &str, weight: &str| node(name, &format!("{input} {weight}"));
    let nodes = vec![
        node("/a/Conv", "pixels w1"),
        node("/a/GlobalAveragePool", "/a/Conv"),
        node("/a/Flatten", "/a/GlobalAveragePool"),
        fc("/early/Gemm", "/a/Flatten", "w4").writes("early"),
        fc("/heavy/Gemm_1", "/a/Flatten", "w4"),
        fc("/heavy/Gemm_2", "/heavy/Gemm_1", "w4").writes("heavy"),
        node("/b/Conv", "/a/Conv w2").writes("plane"),
        node("/b/GlobalAveragePool", "plane"),
        node("/b/Flatten", "/b/GlobalAveragePool").writes("vector"),
        fc("/late/Gemm", "vector", "w4").writes("late"),
        fc("/twin/Gemm", "vector", "w4").writes("twin"),
        node("/c/Conv", "plane w2"),
        node("/c/GlobalAveragePool", "/c/Conv"),
        node("/c/Flatten", "/c/GlobalAveragePool"),
        fc("/last/Gemm", "/c/Flatten", "w4").writes("last"),
        fc("/years/Gemm", "vector", "w1x").writes("years"),
        fc("/share/Gemm", "vector", "w1x"),
        node("/share/Sigmoid", "/share/Gemm").writes("share"),
        node("/norm/ReduceL2", "vector").with("axes", &[1]).with("keepdims", &[1]),
        node("/norm/Div", "vector /norm/ReduceL2").writes("unit"),
    ];
    let constants = vec![
        halves("w1", &[4, 3, 3, 3]),
        halves("w2", &[4, 4, 3, 3]),
        halves("w4", &[4, 4]),
        halves("w1x", &[4, 1]),
    ];
    File::new(nodes, constants, outputs)
}

fn exits(graph: &Graph) -> Vec<&str> {
    graph.exits.iter().map(|exit| exit.name.as_str()).collect()
}

fn agreements(graph: &Graph) -> Vec<(&str, Agreement)> {
    graph.outputs.iter().map(|output| (output.name.as_str(), output.agreement)).collect()
}

fn chosen(file: &File, choice: &OutputChoice) -> Result<Graph> {
    let bytes = with_outputs(&file.bytes(), choice)?.into_owned();
    Graph::from_onnx("test", &bytes)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn exits_lie_deeper_one_after_another_and_have_heads_of_their_own() {
    let graph = heads(&["early", "late"]).read().unwrap();
    assert_eq!(exits(&graph), ["early", "late"]);
    assert_eq!(agreements(&graph), [("late", Agreement::Class)]);
    // A heavy head early on is an exit all the same.
    let graph = heads(&["heavy", "late", "last"]).read().unwrap();
    assert_eq!(exits(&graph), ["heavy", "late", "last"]);
    for others in [
        &["late", "early"][..],
        &["late", "twin"],
        &["early", "late", "twin"],
        &["late", "heavy", "last"],
        &["early", "heavy", "last"],
        &["vector", "late"],
    ] {
        let graph = heads(others).read().unwrap();
        assert_eq!(exits(&graph), ["results"], "{others:?}");
        assert_eq!(graph.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), others);
    }
}

#[test]
fn results_come_together_at_the_end_in_the_files_order() {
    let graph = heads(&["plane", "late", "years"]).read().unwrap();
    let last = graph.layer(graph.exits[0].logits);
    assert!(matches!(last.op, Op::Concat { axis: 0, .. }));
    let plane = 4 * 4 * 4;
    assert_eq!((last.inputs.len(), last.output.elements()), (3, plane + 4 + 1));
    assert_eq!(graph.outputs[0].shape.0, [4, 4, 4]);
    assert_eq!(graph.trunk().len(), graph.layers.len());
    assert_eq!((graph.tells_classes(), graph.answer_numbers()), (false, plane + 5));
}

#[test]
fn answers_are_compared_by_what_they_are() {
    let all = heads(&["late", "vector", "plane", "years", "share", "unit"]).read().unwrap();
    let [class, decision] = [Agreement::Class, Agreement::Decision];
    let [numbers, direction] = [Agreement::NUMBERS, Agreement::DIRECTION];
    let expected = [class, direction, numbers, numbers, decision, direction];
    assert!(agreements(&all).into_iter().map(|(_, how)| how).eq(expected), "{:?}", agreements(&all));
    for (only, how) in [
        ("late", class),
        ("vector", class),
        ("plane", numbers),
        ("years", numbers),
        ("share", decision),
        ("unit", direction),
    ] {
        let graph = heads(&[only]).read().unwrap();
        assert_eq!((exits(&graph), agreements(&graph)), (vec![only], vec![(only, how)]));
    }
}

#[test]
fn what_stands_first_among_scores_is_their_class() {
    let mut file = heads(&["label"]);
    let nodes = [
        node("/label/ArgMax", "late").with("axis", &[1]).with("keepdims", &[0]).writes("label"),
        node("/shares/Softmax", "late").with("axis", &[1]).writes("shares"),
        node("/top/TopK", "shares two"),
        node("/map/ArgMax", "plane").with("axis", &[1]).writes("map"),
    ];
    file.graph().node.extend(nodes);
    let top = file.graph().node.iter_mut().find(|node| node.op_type == "TopK").unwrap();
    top.output = vec!["best".into(), "places".into()];
    file.graph().initializer.push(ints("two", &[2]));
    let late = heads(&["late"]).read().unwrap();
    for names in [&["label"][..], &["best", "places"], &["label", "shares"], &["shares", "label"]] {
        file.graph().output = names.iter().map(|name| tensor_info(name, &[])).collect();
        let graph = file.read().unwrap();
        assert_eq!(graph.layers.len(), late.layers.len(), "{:?}", outline(&graph));
        let name = if names.contains(&"shares") { "shares" } else { names[0] };
        assert_eq!((agreements(&graph), graph.tells_classes()), (vec![(name, Agreement::Class)], true));
    }
    file.graph().output = ["label", "years"].map(|name| tensor_info(name, &[])).to_vec();
    assert_eq!(file.read().unwrap().answer_numbers(), 4 + 1);
    // Over a map, places are an answer of their own.
    file.graph().output = vec![tensor_info("map", &[])];
    let map = file.read().unwrap();
    assert_eq!(
        (map.outputs[0].shape.0.as_slice(), map.layers.last().unwrap().op.kind()),
        (&[1, 4, 4][..], "argmax")
    );
}

#[test]
fn a_user_names_exits_results_and_measures() {
    let file = heads(&["late", "early", "years"]);
    let exits_of = |names_of: &[&str]| OutputChoice { exits: names(names_of), ..OutputChoice::default() };
    let graph = chosen(&file, &exits_of(&["early", "late"])).unwrap();
    assert_eq!(exits(&graph), ["early", "late"]);
    assert!(graph.find_layer("years").is_none(), "what no exit needs is left out");
    let results = OutputChoice { results: names(&["early", "late"]), ..OutputChoice::default() };
    let results = chosen(&file, &results).unwrap();
    assert_eq!((exits(&results), results.outputs.len()), (vec!["results"], 2));
    assert_ne!(results.hash, graph.hash);
    let measured = OutputChoice {
        agreements: Some("rel:0.1,late=cosine:0.9".parse().unwrap()),
        ..OutputChoice::default()
    };
    let measured = chosen(&file, &measured).unwrap();
    let tenth = Agreement::Relative(0.1);
    let expected = [("late", Agreement::Cosine(0.9)), ("early", tenth), ("years", tenth)];
    assert_eq!(agreements(&measured), expected);
    let same = chosen(&file, &OutputChoice::default()).unwrap();
    assert_eq!(same.hash, file.read().unwrap().hash);
}

#[test]
fn what_a_user_says_of_no_output_is_refused() {
    let file = heads(&["late", "years", "plane"]);
    let agreements =
        |text: &str| OutputChoice { agreements: Some(text.parse().unwrap()), ..Default::default() };
    let exits = |names_of: &[&str]| OutputChoice { exits: names(names_of), ..Default::default() };
    for (choice, says) in [
        (exits(&["early"]), "'early' is no output; the model's outputs are late, years, plane"),
        (exits(&["late", "late"]), "twice"),
        (exits(&["late", "years"]), "tell 4 classes apart, found 1 at 'years'"),
        (exits(&["plane"]), "[batch, classes], as exits are, found [1, 4, 4, 4]"),
        (OutputChoice { results: names(&["nowhere"]), ..Default::default() }, "no output"),
        (agreements("nowhere=class"), "no output"),
        (agreements("years=class"), "'years' is one number"),
        (agreements("cosine:0.9"), "'years' is one number"),
    ] {
        let message = chosen(&file, &choice).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}
