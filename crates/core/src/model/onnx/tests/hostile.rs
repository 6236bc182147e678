//! Whatever a file says, reading it ends in a graph or an error, never in a panic or a large allocation.

use prop::sample::Index;
use proptest::prelude::*;

use super::*;

/// Real files, each with other ops.
const SEEDS: [&[u8]; 19] = [
    include_bytes!("../../../../../../tests/data/onnx/activations_20.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/arithmetic_13.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/convolutions_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/lines_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/norms_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/older_5.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/optimised_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/pairs_13.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/parts_13.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/places_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/pools_18.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/products_13.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/resized_18.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/results_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/shapes_13.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/softmaxes_11.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/transposed_17.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/whole_13.onnx"),
    include_bytes!("../../../../../../tests/data/onnx/written_out_13.onnx"),
];

/// Numbers that readers trip over.
fn awkward() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3..20_i64,
        Just(i64::MAX),
        Just(i64::MIN),
        Just(1 << 20),
        Just(1 << 28),
        Just(1 << 32),
        Just(1 << 62),
        any::<i64>()
    ]
}

/// More than any of these small files may make the reader take: 4 million numbers for constants, some of them twice.
const MOST_BYTES: u64 = 128 << 20;

/// What constants that nodes fill may take besides, each written twice more: as much as the largest networks' weights.
const MOST_FILLED_BYTES: u64 = 3 * 4 * 150_000_000;

/// Reads a file without taking much memory. A graph that comes out holds what the runtime and the planner take for granted.
fn check(file: &[u8]) {
    let mut read = None;
    let taken = allocation_counter::measure(|| read = Some(Graph::from_onnx("test", file)));
    let fills = file.windows(15).any(|name| name == b"ConstantOfShape");
    let most = MOST_BYTES + if fills { MOST_FILLED_BYTES } else { 0 };
    assert!(taken.bytes_max <= most, "{} bytes were taken", taken.bytes_max);
    let Some(Ok(graph)) = read else { return };
    for (id, layer) in graph.layers.iter().enumerate() {
        assert!(layer.inputs.iter().all(|&input| input < Source::Layer(crate::model::LayerId(id))));
        assert!((1..=1 << 28).contains(&layer.output.elements()));
        assert!(!layer.inputs.is_empty());
        assert_eq!(graph.find_layer(&layer.name).map(|id| id.0), Some(id), "{} is not unique", layer.name);
    }
    let numbers: usize = graph.outputs.iter().map(|output| output.shape.elements()).sum();
    assert!(graph.exits.iter().all(|exit| graph.layer(exit.logits).output.0 == [numbers]));
}

fn change_attributes(graph: &mut GraphProto, changes: Vec<(Index, usize, i64)>) {
    let mut given: Vec<&mut AttributeProto> =
        graph.node.iter_mut().flat_map(|node| &mut node.attribute).collect();
    for (attribute, at, number) in changes {
        let Some(place) = (!given.is_empty()).then(|| attribute.index(given.len())) else { continue };
        given[place].i = number;
        if let Some(int) = given[place].ints.get_mut(at) {
            *int = number;
        }
    }
}

/// A small file that claims much: nodes behind a convolution, and constants.
fn claim(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> File {
    let mut all = vec![node("/conv/Conv", "pixels w")];
    all.extend(nodes);
    all.push(node("/Flatten", "last"));
    let mut stored = vec![halves("w", &[1, 3, 1, 1]), floats("two", &[], &[2.0])];
    stored.extend(constants);
    File::new(all, stored, &["/Flatten"])
}

#[test]
fn claims_of_gigabytes_cost_nothing() {
    let shape = |sides: &[i64]| vec![ints("shape", sides)];
    let huge = &[1 << 14, 1 << 14];
    // Weights as large as a network's may be filled in, and these are larger.
    let filled = |op: &str, last: NodeProto| vec![node(op, "shape"), last.writes("last")];
    let files = [
        claim(filled("/ConstantOfShape", node("/Add", "/conv/Conv /ConstantOfShape")), shape(huge)),
        claim(
            vec![node("/Expand", "two shape"), node("/Mul", "/conv/Conv /Expand").writes("last")],
            shape(huge),
        ),
        claim(vec![node("/Expand", "/conv/Conv shape").writes("last")], shape(huge)),
        claim(
            vec![node("/Pad", "/conv/Conv shape").writes("last")],
            shape(&[0, 0, 1 << 28, 0, 0, 0, 0, 1 << 28]),
        ),
        claim(vec![node("/Reshape", "/conv/Conv shape").writes("last")], shape(&[1; 100_000])),
        // A plane of 2²⁸ values, normalised: its weights would be as many.
        claim(
            vec![
                node("/Pad", "/conv/Conv shape"),
                node("/InstanceNormalization", "/Pad one one"),
                node("/Mul", "/InstanceNormalization two").writes("last"),
            ],
            [shape(&[0, 0, (1 << 14) - 8, 0, 0, 0, 0, (1 << 13) - 8]), vec![floats("one", &[1], &[1.0])]]
                .concat(),
        ),
    ];
    for file in files {
        check(&file.bytes());
    }
}

#[test]
fn slices_backwards_stay_within_their_axis() {
    let slice = |data: &[i64], start: i64, end: i64| {
        let nodes = vec![
            node("/Slice", "data start end axis step"),
            node("/Reshape", "/conv/Conv /Slice").writes("last"),
        ];
        let (start, end) = (ints("start", &[start]), ints("end", &[end]));
        claim(nodes, vec![ints("data", data), start, end, ints("axis", &[0]), ints("step", &[-1])]).read()
    };
    assert!(slice(&[64, 1], 1, -3).is_ok(), "to the front");
    assert!(slice(&[64, 1], i64::MAX, i64::MIN).is_ok(), "all of it");
    assert!(slice(&[64, 1], 1, 0).is_err(), "one side of two");
    for bound in [0, 1, -1, i64::MAX, i64::MIN] {
        assert!(slice(&[], bound, bound).is_err(), "nothing");
    }
}

proptest! {
    #[test]
    fn random_bytes_in_a_file_never_panic(
        seed in any::<Index>(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        keep in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = SEEDS[seed.index(SEEDS.len())].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        check(&bytes);
    }

    #[test]
    fn random_numbers_in_a_graph_never_panic(
        attributes in proptest::collection::vec((any::<Index>(), 0..4_usize, awkward()), 0..3),
        dims in proptest::collection::vec((any::<Index>(), 0..4_usize, awkward()), 0..2),
        wires in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..2),
        target in proptest::option::of(proptest::collection::vec(awkward(), 0..5)),
    ) {
        let mut file = chain();
        let graph = file.graph();
        change_attributes(graph, attributes);
        for (tensor, at, number) in dims {
            let at_tensor = tensor.index(graph.initializer.len());
            if let Some(place) = graph.initializer[at_tensor].dims.get_mut(at) {
                *place = number;
            }
        }
        for (from, to) in wires {
            let (from, to) = (from.index(graph.node.len()), to.index(graph.node.len()));
            graph.node[to].input[0] = graph.node[from].output[0].clone();
        }
        if let Some(target) = target {
            let place = graph.initializer.iter_mut().find(|tensor| tensor.name == "target").unwrap();
            *place = ints("target", &target);
        }
        check(&file.bytes());
    }

    #[test]
    fn random_changes_of_real_graphs_never_panic(
        seed in any::<Index>(),
        numbers in proptest::collection::vec((any::<Index>(), any::<Index>(), awkward()), 0..3),
        attributes in proptest::collection::vec((any::<Index>(), 0..4_usize, awkward()), 0..2),
        ops in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..2),
        wires in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<Index>()), 0..2),
    ) {
        let mut model = ModelProto::decode(SEEDS[seed.index(SEEDS.len())]).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let mut lists: Vec<&mut TensorProto> =
            graph.initializer.iter_mut().filter(|tensor| tensor.data_type == data_type::INT64).collect();
        for (list, at, number) in numbers {
            let Some(place) = (!lists.is_empty()).then(|| list.index(lists.len())) else { continue };
            let raw = &mut lists[place].raw_data;
            if !raw.is_empty() {
                let at = at.index(raw.len() / 8) * 8;
                raw[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
        }
        change_attributes(graph, attributes);
        for (from, to) in ops {
            let (from, to) = (from.index(graph.node.len()), to.index(graph.node.len()));
            graph.node[to].op_type = graph.node[from].op_type.clone();
        }
        for (from, to, input) in wires {
            let (from, to) = (from.index(graph.node.len()), to.index(graph.node.len()));
            let name = graph.node[from].output[0].clone();
            if let inputs @ [_, ..] = graph.node[to].input.as_mut_slice() {
                inputs[input.index(inputs.len())] = name;
            }
        }
        check(&model.encode_to_vec());
    }
}
