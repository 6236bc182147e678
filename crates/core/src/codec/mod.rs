//! Encodings: how a frontier is written for the link. Bytes in, bytes out; knows no runtime and no sockets.
//!
//! [`Encoding`] names one, [`Codec`] writes and reads payloads in it, [`Calibration`] holds what some of them learn
//! from data beforehand, and [`Calibrator`] makes one. A payload is the frontier's tensors one after the other, each
//! starting on a byte. Both sides know the tensors' shapes and the calibration from the plan, so neither is in the
//! payload.

#![forbid(unsafe_code)]

mod bits;
mod calibration;
mod calibrator;
#[expect(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod codec;
#[cfg(test)]
mod codec_tests;
mod colour;
mod encoding;
mod extremes;
mod grid;
mod histogram;
mod huffman;
mod lanes;
mod name;
mod packer;
mod picture;
mod png;
mod portable;
mod span;
mod stream;
mod tensor;
#[cfg(target_arch = "x86_64")]
mod x86;
mod zero;

pub use calibration::{Calibration, TensorCalibration};
pub use calibrator::Calibrator;
pub use codec::Codec;
pub use encoding::{Coder, Element, Encoding, Quantization};
pub use tensor::TensorSpec;
