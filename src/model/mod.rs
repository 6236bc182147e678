//! The network as a graph of layers: read from ONNX, cut into parts. Knows no runtime, no sockets and no clocks.

mod confidence;
mod cut;
mod graph;
mod onnx;
#[cfg(test)]
pub(crate) mod samples;

pub use confidence::{Confidence, confidence};
pub use cut::Cut;
pub use graph::{Exit, ExitId, Graph, Layer, LayerId, ModelHash, Op, Shape, Source, Weights, Window};
