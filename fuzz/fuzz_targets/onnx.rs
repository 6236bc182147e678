//! The ONNX reader takes any bytes without a panic and without much memory.
//!
//! ```sh
//! cargo install cargo-fuzz
//! mkdir -p fuzz/corpus/onnx                    # what is found; the seeds stay as they are
//! RUSTC_BOOTSTRAP=1 cargo fuzz run -s none onnx fuzz/corpus/onnx tests/data/onnx -- \
//!     -rss_limit_mb=4096 -malloc_limit_mb=1024
//! ```
//!
//! `-s none`: the reader has no unsafe code.

#![no_main]

use coprof_core::model::{Graph, Source, self_contained};
use libfuzzer_sys::fuzz_target;

/// Enough for weights in separate files of small models.
const MOST_BYTES: usize = 1 << 20;

fuzz_target!(|file: &[u8]| {
    let inside = self_contained(file, MOST_BYTES, |part| Ok(vec![0; part.length]));
    let Ok(inside) = inside else { return };
    let Ok(graph) = Graph::from_onnx("fuzzed", &inside) else { return };
    for id in graph.layer_ids() {
        let layer = graph.layer(id);
        assert!(!layer.inputs.is_empty() && layer.output.elements() > 0);
        assert!(layer.inputs.iter().all(|&input| input < Source::Layer(id)));
    }
});
