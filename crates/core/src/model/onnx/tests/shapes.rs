//! Inputs of any rank, and files for a fixed batch.

use super::*;
use crate::model::{Op, Shape};

/// A network over signals of two channels, `[n, 2, 16]`.
fn signals() -> File {
    let nodes = vec![
        node("/a/Conv", "signal wa").with("pads", &[1, 1]),
        node("/a/BatchNormalization", "/a/Conv s s s s"),
        node("/a/Relu", "/a/BatchNormalization"),
        node("/p/MaxPool", "/a/Relu").with("kernel_shape", &[2]).with("strides", &[2]),
        node("/b/Conv", "/p/MaxPool wb").with("dilations", &[2]).with("kernel_shape", &[3]),
        node("/q/AveragePool", "/b/Conv").with("kernel_shape", &[2]),
        node("/m/ReduceMean", "/q/AveragePool").with("axes", &[2]).with("keepdims", &[0]),
    ];
    let constants = vec![halves("wa", &[4, 2, 3]), halves("wb", &[5, 4, 3]), floats("s", &[4], &[1.0; 4])];
    let mut file = File::new(nodes, constants, &["/m/ReduceMean"]);
    file.graph().input[0] = tensor_info("signal", &[0, 2, 16]);
    file
}

#[test]
fn a_signal_is_a_plane_of_height_one() {
    let graph = signals().read().unwrap();
    assert_eq!(graph.input, Shape(vec![2, 16]));
    assert_eq!(
        outline(&graph),
        [
            "reshape1: reshape(input) -> 2×1×16",
            "a: conv+relu(reshape1) -> 4×1×16",
            "p: maxpool(a) -> 4×1×8",
            "b: conv(p) -> 5×1×4",
            "q: avgpool(b) -> 5×3",
            "m: mean(q) -> 5",
        ]
    );
    let Op::Conv { weight, window, .. } = &graph.layers[1].op else { panic!("expected a conv") };
    assert_eq!((weight.shape.as_slice(), window.padding), (&[4, 2, 1, 3][..], [0, 1, 0, 1]));
    let macs: Vec<u64> = graph.layers.iter().map(|layer| layer.macs).collect();
    assert_eq!(macs, [0, 4 * 16 * 6, 0, 5 * 4 * 12, 0, 0]);
}

#[test]
fn windows_have_the_dimensions_of_their_input() {
    let refused = |attribute: &str, ints: &[i64]| {
        let mut file = signals();
        let pool = &mut file.graph().node[3];
        pool.attribute.retain(|held| held.name != attribute);
        *pool = pool.clone().with(attribute, ints);
        file.read().unwrap_err().to_string()
    };
    assert!(refused("kernel_shape", &[2, 2]).contains("expected kernel_shape to be a number"));
    assert!(refused("pads", &[0; 4]).contains("expected pads to be two numbers"));
    let mut file = signals();
    file.graph().input[0] = tensor_info("signal", &[1, 2, 4, 4, 4]);
    assert!(file.read().unwrap_err().to_string().contains("'/a/Conv' (Conv): a Conv over 3 dimensions"));
    let mut file = signals();
    file.graph().initializer[0] = halves("wa", &[4, 2, 3, 3]);
    assert!(file.read().unwrap_err().to_string().contains("expected a weight of rank 3"));
}

#[test]
fn inputs_of_every_rank_are_taken() {
    for dims in [&[1, 6][..], &[0, 2, 3], &[1, 1, 2, 3], &[1, 1, 2, 1, 3], &[1, 1, 1, 2, 1, 3]] {
        let nodes = vec![node("/Flatten", "pixels"), node("/Gemm", "/Flatten w")];
        let mut file = File::new(nodes, vec![halves("w", &[6, 4])], &["/Gemm"]);
        file.graph().input[0] = tensor_info("pixels", dims);
        let sides: Vec<usize> = dims[1..].iter().map(|&side| side as usize).collect();
        assert_eq!(file.read().unwrap().input, Shape(sides));
    }
}

/// The chain for batches of 5, its Reshape as exporters write it for them: five samples, whatever is read.
fn for_five() -> File {
    let mut file = chain();
    file.graph().input[0] = tensor_info("pixels", &[5, 3, 8, 8]);
    let target = file.graph().initializer.iter_mut().find(|tensor| tensor.name == "target").unwrap();
    target.int64_data = vec![5, -1];
    file
}

#[test]
fn a_fixed_batch_is_run_one_by_one() {
    let graph = for_five().read().unwrap();
    assert_eq!(graph.fixed_batch, Some(5));
    assert_eq!(outline(&graph), outline(&chain().read().unwrap()));
    assert_eq!(chain().read().unwrap().fixed_batch, None);
}

#[test]
fn what_needs_the_whole_batch_is_named() {
    let mut file = for_five();
    let graph = file.graph();
    graph.initializer.push(floats("each", &[5, 1, 1, 1], &[1.0; 5]));
    graph.node.push(node("/own/Add", "/Relu each"));
    graph.node.iter_mut().find(|node| node.op_type == "GlobalAveragePool").unwrap().input =
        vec!["/own/Add".into()];
    let refused = file.read().unwrap_err().to_string();
    for part in ["batch of 1 in place of its fixed 5", "'/own/Add' (Add)", "dynamic batch"] {
        assert!(refused.contains(part), "{refused}");
    }
    let mut file = for_five();
    let target = file.graph().initializer.iter_mut().find(|tensor| tensor.name == "target").unwrap();
    (target.dims, target.int64_data) = (vec![1], vec![25]);
    let refused = file.read().unwrap_err().to_string();
    assert!(refused.contains("'/Reshape' (Reshape)"), "{refused}");
}

#[test]
fn a_mean_with_gaps_is_a_convolution_of_equal_shares() {
    let pool = node("/AveragePool", "pixels").with("kernel_shape", &[2, 2]).with("dilations", &[3, 3]);
    let file = |pool: NodeProto| {
        File::new(vec![pool, node("/GlobalAveragePool", "/AveragePool")], vec![], &["/GlobalAveragePool"])
            .read()
    };
    let graph = file(pool.clone()).unwrap();
    let Op::Conv { weight, groups: 3, .. } = &graph.layers[0].op else { panic!("expected a conv") };
    assert_eq!((weight.shape.as_slice(), weight.data.as_slice()), (&[3, 1, 2, 2][..], &[0.25; 12][..]));
    assert_eq!(graph.layers[0].output, Shape(vec![3, 5, 5]));
    let padded = pool.with("pads", &[1; 4]);
    assert!(file(padded.clone()).unwrap_err().to_string().contains("without padding"));
    file(padded.with("count_include_pad", &[1])).unwrap();
}
