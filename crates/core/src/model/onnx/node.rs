//! One node of the file, with its operator set, its attributes by name, and errors that say which node they are about.

use super::proto::{AttributeProto, ModelProto, NodeProto, data_type};
use crate::error::{Error, Result};

/// A node together with the operator set that gives it its meaning.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The node as it was stored.
    pub proto: &'a NodeProto,
    /// Its operator set's version.
    pub opset: i64,
}

impl<'a> Node<'a> {
    /// What it does.
    pub fn op(&self) -> &'a str {
        &self.proto.op_type
    }

    /// The name of its first output, the only one that is read.
    pub fn output(&self) -> &'a str {
        self.proto.output.first().map_or("", String::as_str)
    }

    /// The name of its input number `index`, unless that is left out.
    pub fn input(&self, index: usize) -> Option<&'a str> {
        self.proto.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The names of all its inputs that are not left out.
    pub fn inputs(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.proto.input.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// An attribute, if it is given.
    pub fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// A list of integers, if it is given.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// An integer, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    /// A number, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    /// A text, or `default`.
    pub fn text(&self, name: &str, default: &'static str) -> &'a str {
        self.attribute(name).map_or(default, |attribute| std::str::from_utf8(&attribute.s).unwrap_or("?"))
    }

    /// The element type that a Cast casts to: a number, or before opset 6 a name. 0 for a name that does not exist.
    pub fn cast_target(&self) -> i32 {
        use data_type::{BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64};
        if self.opset >= 6 {
            return i32::try_from(self.int("to", 0)).unwrap_or(0);
        }
        match self.text("to", "") {
            "FLOAT" => FLOAT,
            "FLOAT16" => FLOAT16,
            "BFLOAT16" => BFLOAT16,
            "DOUBLE" => DOUBLE,
            "INT32" => INT32,
            "INT64" => INT64,
            "BOOL" => BOOL,
            _ => 0,
        }
    }

    /// A failure about this node.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        let name = if self.proto.name.is_empty() { self.output() } else { &self.proto.name };
        Error::failed(format!("node '{}' ({}): {what}", shown(name), shown(self.op())))
    }

    /// Turns an axis that may count from the end into a place among `rank` sides.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        from_start
            .and_then(|axis| usize::try_from(axis).ok())
            .filter(|&axis| axis < rank)
            .ok_or_else(|| self.error(format_args!("axis {axis} lies outside its tensor of rank {rank}")))
    }
}

/// A name from a file, made safe for a message: printable and short.
pub fn shown(name: &str) -> String {
    let printable = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '_' };
    name.chars().take(60).map(printable).collect()
}

/// The opset of the standard operators that the file is written in. Before version 3 of the format there was but the first.
pub fn opset(model: &ModelProto) -> Result<i64> {
    let standard = model.opset_import.iter().find(|import| is_standard(&import.domain));
    match standard.map(|import| import.version) {
        Some(version) if version >= 1 => Ok(version),
        Some(version) => {
            Err(Error::failed(format!("its ONNX opset {version} does not exist, expected 1 or newer")))
        }
        None if (1..3).contains(&model.ir_version) => Ok(1),
        None => Err(Error::failed("it does not say which ONNX opset it uses; export it again with opset 17")),
    }
}

/// Whether a domain is that of the standard operators.
pub fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}
