//! Functions that a file defines itself: each call is replaced by what the function is made of.

use std::collections::HashMap;

use prost::Message;

use super::node::{Node, is_standard, shown};
use super::proto::{AttributeProto, FunctionProto, ModelProto, NodeProto};
use crate::error::{Error, Result};

/// Functions that call functions are no deeper than this.
const DEEPEST: usize = 32;
/// All bodies that are put in hold so many nodes and attributes …
const MAX_PARTS: usize = 1 << 16;
/// … and so many bytes.
const MAX_BYTES: usize = 16 << 20;

/// Replaces all calls in a model's graph. Errors where calls do not end or multiply the file's size.
pub fn inline(model: &mut ModelProto) -> Result<()> {
    let functions = std::mem::take(&mut model.functions);
    let Some(graph) = model.graph.as_mut().filter(|_| !functions.is_empty()) else { return Ok(()) };
    let by_name: HashMap<(&str, &str), &FunctionProto> =
        functions.iter().map(|function| ((&*function.domain, &*function.name), function)).collect();
    let called = |node: &NodeProto| by_name.get(&(&*node.domain, &*node.op_type)).copied();
    let version = standard_version(&model.opset_import);
    let (mut calls, mut parts, mut bytes) = (0, 0, 0);
    for _ in 0..DEEPEST {
        if !graph.node.iter().any(|node| called(node).is_some()) {
            return Ok(());
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            let Some(function) = called(&node) else {
                nodes.push(node);
                continue;
            };
            let own = standard_version(&function.opset_import);
            if own.is_some() && own != version {
                return Err(failed(&node, "its function is written in another opset than the graph"));
            }
            calls += 1;
            parts += function.node.iter().map(|node| 1 + node.attribute.len()).sum::<usize>();
            bytes += function.node.iter().map(Message::encoded_len).sum::<usize>();
            if parts > MAX_PARTS || bytes > MAX_BYTES {
                return Err(failed(&node, "its functions multiply the file's own size"));
            }
            nodes.extend(body(function, &node, calls));
        }
        graph.node = nodes;
    }
    Err(Error::failed(format!(
        "expected functions that call each other {DEEPEST} deep at most, found deeper ones"
    )))
}

fn failed(node: &NodeProto, what: &str) -> Error {
    Node { proto: node, opset: 0 }.error(what)
}

fn standard_version(imports: &[super::proto::OperatorSetIdProto]) -> Option<i64> {
    imports.iter().find(|import| is_standard(&import.domain)).map(|import| import.version)
}

/// A function's nodes as those of the call number `number`: its tensors under the call's names, its attributes as the call
/// gives them.
fn body(function: &FunctionProto, call: &NodeProto, number: usize) -> Vec<NodeProto> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    for (own, outer) in [(&function.input, &call.input), (&function.output, &call.output)] {
        for (at, name) in own.iter().enumerate() {
            match outer.get(at).filter(|outer| !outer.is_empty()) {
                Some(outer) => _ = names.insert(name, outer),
                // What a call leaves out of its inputs, a node of the function leaves out, too.
                None if std::ptr::eq(own, &function.input) => _ = names.insert(name, ""),
                None => {}
            }
        }
    }
    let renamed = |name: &String| match names.get(name.as_str()) {
        Some(&outer) => outer.to_owned(),
        None if name.is_empty() => String::new(),
        None => format!("{name}#{number}"),
    };
    let of_call = |attribute: &AttributeProto| {
        if attribute.ref_attr_name.is_empty() {
            return Some(attribute.clone());
        }
        let named = |other: &&AttributeProto| other.name == attribute.ref_attr_name;
        let given =
            call.attribute.iter().find(named).or_else(|| function.attribute_proto.iter().find(named))?;
        Some(AttributeProto { name: attribute.name.clone(), ..given.clone() })
    };
    let node = |node: &NodeProto| NodeProto {
        input: node.input.iter().map(renamed).collect(),
        output: node.output.iter().map(renamed).collect(),
        name: format!(
            "{}/{}",
            shown(&call.name),
            if node.name.is_empty() { &node.op_type } else { &node.name }
        ),
        attribute: node.attribute.iter().filter_map(of_call).collect(),
        ..node.clone()
    };
    function.node.iter().map(node).collect()
}
