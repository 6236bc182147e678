//! The network as a graph of layers: read from ONNX, cut into parts. Knows no runtime, no sockets and no clocks.

mod activation;
mod confidence;
mod cut;
mod dag;
mod graph;
mod onnx;
mod op;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

pub use activation::Activation;
pub use confidence::{Confidence, confidence};
pub use cut::Cut;
pub(crate) use dag::{Dag, LayerSet, Tensor};
pub use graph::{Exit, ExitId, Graph, Layer, LayerId, ModelHash, Shape, Source};
pub use onnx::{ExternalPart, InputShape, self_contained, with_input_shape};
pub use op::{Arithmetic, Op, Reduction, Weights, Window};
