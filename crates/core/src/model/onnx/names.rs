//! Names for layers, made from those that exporters give to nodes: `/conv1/conv/Conv` and `/conv1/relu/Relu` are `conv1`.

use std::collections::{HashMap, HashSet};

use super::lower::Draft;
use super::node::Node;
use crate::model::Op;

/// The longest name, in characters.
const LONGEST: usize = 60;
/// Modules nest less deeply than this; what lies further out is cut off.
const DEEPEST: usize = 16;
/// Where PyTorch's newer exporter writes the modules that a node lies in, as a Python list, itself last.
const SCOPES_KEY: &str = "pkg.torch.onnx.name_scopes";

/// A unique name for every layer.
pub fn layer_names(drafts: &[Draft<'_>]) -> Vec<String> {
    let scopes: Vec<Vec<Vec<String>>> =
        drafts.iter().map(|draft| draft.nodes.iter().map(scope).collect()).collect();
    let inhabitants = inhabitants(&scopes);
    let is_private = |scope: &[String]| !scope.is_empty() && inhabitants.get(scope) == Some(&1);
    let mut taken = Unique::default();
    let mut nameless: HashMap<&str, usize> = HashMap::new();
    std::iter::zip(drafts, &scopes)
        .map(|(draft, scopes)| {
            let main = scopes.first().map_or(&[][..], Vec::as_slice);
            let shared = common(scopes);
            let kind = kind(draft);
            let name = if is_private(shared) {
                shared.join(".")
            } else if is_private(main) {
                main.join(".")
            } else if main.is_empty() {
                let count = nameless.entry(kind).or_default();
                *count += 1;
                format!("{kind}{count}")
            } else {
                format!("{}.{kind}", main.join("."))
            };
            taken.name(&name)
        })
        .collect()
}

/// Hands out names, each once.
#[derive(Debug)]
pub struct Unique {
    taken: HashSet<String>,
    copies: HashMap<String, usize>,
}

impl Default for Unique {
    /// `input` is what the network's input is called.
    fn default() -> Self {
        Self { taken: HashSet::from(["input".into()]), copies: HashMap::new() }
    }
}

impl Unique {
    /// The wished name made plain and short, with a number behind it where it is already taken.
    pub fn name(&mut self, wish: &str) -> String {
        let plain = plain(wish);
        let mut name = plain.clone();
        while !self.taken.insert(name.clone()) {
            let copy = self.copies.entry(plain.clone()).or_insert(1);
            *copy += 1;
            let suffix = format!("_{copy}");
            name = format!("{}{suffix}", &plain[..plain.len().min(LONGEST - suffix.len())]);
        }
        name
    }
}

/// Letters, digits and `.`, `_`, `-` only, and not too many: the end of a name tells more than its beginning.
fn plain(wish: &str) -> String {
    let kept = |letter: char| {
        if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-') { letter } else { '_' }
    };
    let plain: String = wish.chars().map(kept).collect();
    let plain = plain[plain.len().saturating_sub(LONGEST)..].trim_matches('.');
    if plain.is_empty() { "unnamed".into() } else { plain.into() }
}

/// The modules that a node lies in, outermost first.
fn scope(node: &Node<'_>) -> Vec<String> {
    let name = &node.proto.name;
    let listed = node.proto.metadata_props.iter().find(|entry| entry.key == SCOPES_KEY);
    let segments: Vec<&str> = if let Some(listed) = listed {
        let modules = listed.value.split(',').map(|item| item.trim_matches(['[', ']', ' ', '\'', '"']));
        modules.rev().nth(1).unwrap_or("").split('.').collect()
    } else {
        let mut segments: Vec<&str> = name.split('/').collect();
        if segments.last().is_some_and(|last| only_says(last, node.op())) {
            segments.pop();
        }
        segments
    };
    let full = segments.into_iter().filter(|segment| !segment.is_empty()).map(clipped);
    let mut scope: Vec<String> = Vec::new();
    for segment in full {
        // PyTorch's older exporter writes `layer1/layer1.0`.
        if scope
            .last()
            .is_some_and(|outer| segment.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.')))
        {
            scope.pop();
        }
        scope.push(segment.to_owned());
    }
    scope.split_off(scope.len().saturating_sub(DEEPEST))
}

/// Whether a name tells no more than the op and a number: `Conv`, `Conv_12`.
fn only_says(name: &str, op: &str) -> bool {
    let rest = name.strip_prefix(op).map(|rest| rest.trim_start_matches('_'));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// As much of a segment as a name can use.
fn clipped(segment: &str) -> &str {
    let end = segment.char_indices().nth(LONGEST).map_or(segment.len(), |(at, _)| at);
    &segment[..end]
}

/// How many layers have a node in each scope or below it.
fn inhabitants(scopes: &[Vec<Vec<String>>]) -> HashMap<&[String], usize> {
    let mut inhabitants = HashMap::new();
    for nodes in scopes {
        let around: HashSet<&[String]> =
            nodes.iter().flat_map(|scope| (1..=scope.len()).map(|depth| &scope[..depth])).collect();
        for scope in around {
            *inhabitants.entry(scope).or_insert(0) += 1;
        }
    }
    inhabitants
}

/// The innermost scope that holds all of these.
fn common(scopes: &[Vec<String>]) -> &[String] {
    let Some(first) = scopes.first() else { return &[] };
    let depth = scopes
        .iter()
        .map(|scope| std::iter::zip(first, scope).take_while(|(one, other)| one == other).count())
        .min()
        .unwrap_or(0);
    &first[..depth]
}

/// A word for what a layer does.
fn kind(draft: &Draft<'_>) -> &'static str {
    match draft.op {
        Op::Linear { .. } => "fc",
        Op::GlobalAveragePool => "avgpool",
        _ => draft.op.kind(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{NodeProto, StringStringEntryProto};
    use super::*;

    fn scope_of(name: &str, op: &str, listed: Option<&str>) -> String {
        let entry = |value: &str| StringStringEntryProto { key: SCOPES_KEY.into(), value: value.into() };
        let proto = NodeProto {
            name: name.into(),
            op_type: op.into(),
            metadata_props: listed.map(entry).into_iter().collect(),
            ..NodeProto::default()
        };
        scope(&Node { proto: &proto, opset: 17 }).join("|")
    }

    #[test]
    fn scopes_of_every_exporter() {
        assert_eq!(scope_of("/conv1/conv/Conv", "Conv", None), "conv1|conv");
        assert_eq!(scope_of("/conv1/Relu_2", "Relu", None), "conv1");
        assert_eq!(scope_of("/layer1/layer1.0/conv1/Conv", "Conv", None), "layer1.0|conv1");
        assert_eq!(scope_of("Conv_12", "Conv", None), "");
        assert_eq!(scope_of("Convert", "Conv", None), "Convert");
        assert_eq!(scope_of("", "Conv", None), "");
        let listed = "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_1']";
        assert_eq!(scope_of("node_conv2d_1", "Conv", Some(listed)), "layer1|0|conv1");
        assert_eq!(scope_of("node_relu", "Relu", Some("['', 'relu']")), "");
        assert_eq!(scope_of("node_relu", "Relu", Some("no list")), "");
    }

    #[test]
    fn deep_scopes_keep_their_inner_end() {
        let name = format!("{}inner/Conv", "a/".repeat(1000));
        let scope = scope_of(&name, "Conv", None);
        assert!(scope.ends_with("a|inner") && scope.matches('|').count() < DEEPEST, "{scope}");
    }

    #[test]
    fn names_are_unique_plain_and_short() {
        let mut unique = Unique::default();
        assert_eq!(unique.name("conv"), "conv");
        assert_eq!(unique.name("conv_2"), "conv_2");
        assert_eq!(unique.name("conv"), "conv_3");
        assert_eq!(unique.name("input"), "input_2");
        assert_eq!(unique.name("näme\n"), "n_me_");
        assert_eq!(unique.name(""), "unnamed");
        let long = "x".repeat(100);
        assert_eq!(unique.name(&long).len(), LONGEST);
        assert_eq!(unique.name(&long).len(), LONGEST);
    }
}
