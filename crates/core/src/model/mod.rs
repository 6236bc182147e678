//! The network as a graph of layers: read from ONNX, cut into parts. Knows no runtime, no sockets and no clocks.

mod activation;
mod agreement;
mod confidence;
mod cut;
mod dag;
mod graph;
mod onnx;
mod op;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

pub use activation::Activation;
pub use agreement::Agreement;
pub use confidence::{Confidence, confidence};
pub use cut::Cut;
pub(crate) use dag::{Dag, LayerSet, Tensor};
pub use graph::{Exit, ExitId, Graph, Input, Layer, LayerId, ModelHash, Output, Shape, Source};
pub use onnx::{
    Agreements, ExternalPart, InputShape, OutputChoice, self_contained, with_input_shape, with_outputs,
};
pub use op::{Arithmetic, Op, Reduction, Tap, Weights, Window};
