//! The model graph: layers in topological order, and the exits among them.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::confidence::{Confidence, confidence, place_of_largest};
use super::dag::{Dag, Tensor};
use super::op::Op;
use crate::units::Share;

/// A layer's place in [`Graph::layers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(pub usize);

/// An exit's place in [`Graph::exits`]; the last one is the final exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExitId(pub usize);

/// Where a tensor comes from. Every layer has exactly one output, so this names every tensor of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The network's input.
    Input,
    /// The output of a layer.
    Layer(LayerId),
}

impl Source {
    pub(super) fn tensor(self) -> Tensor {
        match self {
            Self::Input => None,
            Self::Layer(id) => Some(id.0),
        }
    }

    pub(super) fn of(tensor: Tensor) -> Self {
        tensor.map_or(Self::Input, |layer| Self::Layer(LayerId(layer)))
    }
}

/// A tensor's shape without the batch dimension: `[channels, height, width]` or `[features]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// How many values a tensor of this shape holds.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Its size as 32-bit floats.
    pub fn bytes(&self) -> u64 {
        self.elements() as u64 * 4
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.pad(&sides.join("×"))
    }
}

/// The SHA-256 of a model file, in hexadecimal: what tells one model from another everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelHash(pub String);

impl ModelHash {
    /// The hash of a model file's bytes.
    pub fn of(file: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        Self(Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The first 12 digits, enough for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// One unit that the runtime executes and the profiler times.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Unique in its graph.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The tensors that it reads, in order.
    pub inputs: Vec<Source>,
    /// The shape that it writes.
    pub output: Shape,
    /// Learned values, folded ones counted once.
    pub params: u64,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
}

/// A place where the network answers.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The name of the ONNX output.
    pub name: String,
    /// The layer whose output is the logits, shape `[classes]`; or, at an only exit, all results one behind the other.
    pub logits: LayerId,
}

/// One of the file's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it is called.
    pub name: String,
    /// Of one sample, channels first.
    pub shape: Shape,
    /// Whether the file has it as `[height, width, channels]` where `shape` is `[channels, height, width]`.
    pub channels_last: bool,
}

impl Input {
    /// The sides of one sample as the file has them.
    pub fn sides_in_file(&self) -> Vec<usize> {
        match self.shape.0.as_slice() {
            &[channels, height, width] if self.channels_last => vec![height, width, channels],
            sides => sides.to_vec(),
        }
    }
}

/// One of the file's outputs as a part of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// What it is called.
    pub name: String,
    /// Of one sample.
    pub shape: Shape,
    /// When two answers of it count as the same.
    pub agreement: Agreement,
}

impl Output {
    /// Whether two answers that are made of these parts, one behind the other, count as the same: all parts of them do.
    pub fn agree(parts: &[Self], expected: &[f32], found: &[f32]) -> bool {
        let same = |((output, expected), (_, found)): ((&Self, _), (&Self, _))| {
            output.agreement.holds(expected, found)
        };
        expected.len() == found.len()
            && std::iter::zip(Self::parts(parts, expected), Self::parts(parts, found)).all(same)
    }

    /// The parts of an answer with their numbers; what numbers it lacks, its last parts lack.
    pub fn parts<'a>(
        parts: &'a [Self],
        mut numbers: &'a [f32],
    ) -> impl Iterator<Item = (&'a Self, &'a [f32])> {
        parts.iter().map(move |part| {
            let (own, rest) = numbers.split_at(part.shape.elements().min(numbers.len()));
            numbers = rest;
            (part, own)
        })
    }
}

/// A network: layers in topological order and the exits in the file's order, the last one final.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What people call the model (a bundled name or the file's stem).
    pub name: String,
    /// The hash of the file that it was read from.
    pub hash: ModelHash,
    /// The input of one sample; of several inputs all values, one behind the other.
    pub input: Shape,
    /// What it is made of.
    pub inputs: Vec<Input>,
    /// How many samples its file runs at once, where it fixes more than one: it is run with one all the same.
    pub fixed_batch: Option<usize>,
    /// Every layer; a layer's inputs come before it.
    pub layers: Vec<Layer>,
    /// Never empty; the last one is final.
    pub exits: Vec<Exit>,
    /// What an exit's answer is made of, one behind the other: one output, or several where they are results and no exits.
    pub outputs: Vec<Output>,
    pub(super) dag: Dag,
}

impl Graph {
    /// A network of these layers, each behind those that it reads, and exits, the last one final.
    ///
    /// # Panics
    /// On a layer that reads one behind it, and on a final exit without its layer.
    pub fn new(name: &str, hash: ModelHash, input: Shape, layers: Vec<Layer>, exits: Vec<Exit>) -> Self {
        let mut dag = Dag::default();
        for layer in &layers {
            dag.push(layer.inputs.iter().map(|input| input.tensor()).collect());
        }
        let dag = match exits.last() {
            Some(last) => dag.with_trunk_to(last.logits.0),
            None => dag,
        };
        let inputs = vec![Input { name: "input".into(), shape: input.clone(), channels_last: false }];
        let mut graph = Self {
            name: name.to_owned(),
            hash,
            input,
            inputs,
            fixed_batch: None,
            layers,
            exits,
            outputs: Vec::new(),
            dag,
        };
        graph.outputs.extend(graph.exits.last().map(|last| graph.only_output(last)));
        graph
    }

    /// The final exit as the one part of every answer: a class, or by one number alone a decision.
    fn only_output(&self, last: &Exit) -> Output {
        let shape = self.layer(last.logits).output.clone();
        let agreement = if shape.elements() > 1 { Agreement::Class } else { Agreement::Decision };
        Output { name: last.name.clone(), shape, agreement }
    }

    /// The layer behind an id of this graph.
    pub fn layer(&self, id: LayerId) -> &Layer {
        &self.layers[id.0]
    }

    /// Every layer's id, in topological order.
    pub fn layer_ids(&self) -> impl DoubleEndedIterator<Item = LayerId> + use<> {
        (0..self.layers.len()).map(LayerId)
    }

    /// The layer called `name`.
    pub fn find_layer(&self, name: &str) -> Option<LayerId> {
        self.layers.iter().position(|layer| layer.name == name).map(LayerId)
    }

    /// The exit called `name`.
    pub fn find_exit(&self, name: &str) -> Option<ExitId> {
        self.exits.iter().position(|exit| exit.name == name).map(ExitId)
    }

    /// The final exit.
    pub fn final_exit(&self) -> ExitId {
        ExitId(self.exits.len() - 1)
    }

    /// Whether its answers are classes, which can be right or wrong: one output, of which two answers count as the same where the
    /// class is, or where the one decision is.
    pub fn tells_classes(&self) -> bool {
        match self.outputs.as_slice() {
            [Output { agreement: Agreement::Class, .. }] => true,
            [Output { agreement: Agreement::Decision, shape, .. }] => shape.elements() == 1,
            _ => false,
        }
    }

    /// How many numbers an answer has that is more than a class; 0 where the class is all.
    pub fn answer_numbers(&self) -> usize {
        if self.tells_classes() { 0 } else { self.outputs.iter().map(|output| output.shape.elements()).sum() }
    }

    /// When two answers count as the same, in words.
    pub fn agreement(&self) -> String {
        let [first, others @ ..] = self.outputs.as_slice() else { return String::new() };
        if others.iter().all(|other| other.agreement == first.agreement) {
            let of = match others.len() {
                0 => String::new(),
                more => format!(" of each of {} outputs", more + 1),
            };
            return format!("{}{of}", first.agreement.words());
        }
        let words = |output: &Output| format!("{}: {}", output.name, output.agreement.words());
        self.outputs.iter().map(words).collect::<Vec<_>>().join(", ")
    }

    /// What an exit's numbers say. Results that are no classes say nothing but where their largest number stands.
    pub fn confidence(&self, logits: &[f32]) -> Confidence {
        if self.exits.len() > 1 || self.tells_classes() {
            return confidence(logits);
        }
        let class = place_of_largest(logits) as u32;
        Confidence { class, entropy: Share(1.0), top: Share(0.0) }
    }

    /// The shape of any tensor of a task.
    pub fn shape(&self, source: Source) -> &Shape {
        match source {
            Source::Input => &self.input,
            Source::Layer(id) => &self.layer(id).output,
        }
    }

    /// The name of any tensor of a task: its layer's, or `input`.
    pub fn tensor_name(&self, source: Source) -> &str {
        match source {
            Source::Input => "input",
            Source::Layer(id) => &self.layer(id).name,
        }
    }

    /// The layers that `wanted` needs, itself included, in topological order.
    pub fn ancestors(&self, wanted: LayerId) -> Vec<LayerId> {
        self.dag.up_to([wanted.0]).iter().map(LayerId).collect()
    }

    /// The trunk: every layer that the final exit needs, in topological order.
    pub fn trunk(&self) -> Vec<LayerId> {
        self.dag.trunk().iter().map(LayerId).collect()
    }

    /// Multiply-accumulate operations for one sample as far as an exit, its head included.
    pub fn macs_to(&self, exit: ExitId) -> u64 {
        self.ancestors(self.exits[exit.0].logits).into_iter().map(|id| self.layer(id).macs).sum()
    }

    /// Multiply-accumulate operations for one sample without those in the padding of convolutions, which kernels may leave out.
    pub fn macs_inside(&self, id: LayerId) -> f64 {
        let layer = self.layer(id);
        let read = layer.inputs.first().map_or(&[][..], |&input| &self.shape(input).0);
        let inside = match (&layer.op, read, layer.output.0.as_slice()) {
            // What was written in another shape is read as if it lay inside.
            (Op::Conv { window, weight, groups, .. }, &[channels, height, width], &[_, rows, columns])
                if weight.shape.get(1).is_some_and(|depth| depth * groups == channels) =>
            {
                window.share_inside([height, width], [rows, columns])
            }
            _ => 1.0,
        };
        layer.macs as f64 * inside
    }

    /// The tensors that `layers` read; one that several read stands there as often.
    pub fn read_by<'a>(
        &'a self,
        layers: impl IntoIterator<Item = LayerId, IntoIter: 'a>,
    ) -> impl Iterator<Item = Source> + 'a {
        layers.into_iter().flat_map(|id| &self.layer(id).inputs).copied()
    }

    /// Every layer in order, each with those of its inputs that later layers read, too.
    pub fn layers_and_kept(&self) -> Vec<(LayerId, Vec<Source>)> {
        let mut last: HashMap<Source, LayerId> = HashMap::new();
        for id in self.layer_ids() {
            last.extend(self.read_by([id]).map(|tensor| (tensor, id)));
        }
        let kept = |id| self.read_by([id]).filter(|tensor| last[tensor] != id).collect();
        self.layer_ids().map(|id| (id, kept(id))).collect()
    }

    /// The head of a side exit: the layers that only side exits need. Empty for the final exit.
    pub fn head(&self, exit: ExitId) -> Vec<LayerId> {
        let needed = self.dag.up_to([self.exits[exit.0].logits.0]);
        needed.without(self.dag.trunk()).iter().map(LayerId).collect()
    }

    /// The tensors of the trunk that an exit's head reads; where it has no head, the one that is its answer.
    pub fn read_by_head(&self, exit: ExitId) -> Vec<Source> {
        let head = self.head(exit);
        if head.is_empty() {
            return vec![Source::Layer(self.exits[exit.0].logits)];
        }
        let is_own = |source: &Source| matches!(source, Source::Layer(id) if head.contains(id));
        self.read_by(head.iter().copied()).filter(|source| !is_own(source)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn ids(ids: &[usize]) -> Vec<LayerId> {
        ids.iter().map(|&id| LayerId(id)).collect()
    }

    #[test]
    fn the_trunk_leaves_out_the_heads_of_side_exits() {
        let graph = samples::chain();
        assert_eq!(graph.trunk(), ids(&[0, 1, 3, 4, 5]));
        assert_eq!(graph.head(ExitId(0)), ids(&[2]));
        assert_eq!(graph.head(graph.final_exit()), ids(&[]));
    }

    #[test]
    fn what_lies_in_the_padding_need_not_be_computed() {
        let graph = samples::chain();
        // A window of 3×3 over 8×8: 22 of 24 taps along each side lie inside.
        let (conv, fc) = (LayerId(0), LayerId(5));
        let inside = graph.layer(conv).macs as f64 * (22.0 / 24.0) * (22.0 / 24.0);
        assert!((graph.macs_inside(conv) - inside).abs() < 1e-6);
        assert_eq!(graph.macs_inside(fc), graph.layer(fc).macs as f64);
    }

    #[test]
    fn ancestors_follow_every_branch() {
        let graph = samples::residual();
        assert_eq!(graph.ancestors(LayerId(3)), ids(&[0, 1, 2, 3]));
        assert_eq!(graph.ancestors(LayerId(1)), ids(&[0, 1]));
    }

    #[test]
    fn what_later_layers_read_is_kept() {
        let graph = samples::residual();
        let kept = graph.layers_and_kept();
        for (id, kept) in &kept {
            for tensor in graph.read_by([*id]) {
                let later =
                    graph.read_by((id.0 + 1..graph.layers.len()).map(LayerId)).any(|read| read == tensor);
                assert_eq!(kept.contains(&tensor), later, "{tensor:?} at {id:?}");
            }
        }
        assert!(kept.iter().any(|(_, kept)| !kept.is_empty()));
    }

    #[test]
    fn tensors_have_names_and_shapes() {
        let graph = samples::chain();
        assert_eq!(graph.tensor_name(Source::Input), "input");
        assert_eq!(graph.tensor_name(Source::Layer(LayerId(1))), "pool1");
        assert_eq!(graph.shape(Source::Input).bytes(), 3 * 8 * 8 * 4);
        assert_eq!(graph.shape(Source::Layer(LayerId(1))).to_string(), "4×4×4");
        assert_eq!((graph.find_layer("pool1"), graph.find_layer("pool9")), (Some(LayerId(1)), None));
        assert_eq!((graph.find_exit("final"), graph.find_exit("exit9")), (Some(ExitId(1)), None));
        assert_eq!((graph.tells_classes(), graph.answer_numbers()), (true, 0));
    }

    #[test]
    fn answers_agree_where_every_part_does() {
        let mut graph = Graph::clone(&samples::chain());
        let part = |name: &str, sides: &[usize], agreement| Output {
            name: name.into(),
            shape: Shape(sides.to_vec()),
            agreement,
        };
        graph.outputs = vec![part("age", &[1], Agreement::NUMBERS), part("gender", &[3], Agreement::Class)];
        assert_eq!((graph.tells_classes(), graph.answer_numbers()), (false, 4));
        assert_eq!(graph.agreement(), "age: relative error of at most 0.05, gender: same class");
        let expected = [40.0, 0.0, 1.0, 0.0];
        assert!(Output::agree(&graph.outputs, &expected, &[41.0, 0.0, 9.0, 0.0]));
        for found in [&[43.0, 0.0, 9.0, 0.0][..], &[41.0, 1.0, 0.0, 0.0], &[41.0, 0.0, 9.0]] {
            assert!(!Output::agree(&graph.outputs, &expected, found), "{found:?}");
        }
        graph.outputs = vec![part("a", &[2], Agreement::Class), part("b", &[2], Agreement::Class)];
        assert_eq!(graph.agreement(), "same class of each of 2 outputs");
    }

    #[test]
    fn results_that_are_no_classes_say_where_their_largest_number_stands() {
        let residual = samples::residual();
        assert_eq!(residual.confidence(&[0.0, 2.0, 1.0, 0.0]), confidence(&[0.0, 2.0, 1.0, 0.0]));
        let mut results = Graph::clone(&residual);
        results.outputs[0].agreement = Agreement::NUMBERS;
        let said = results.confidence(&[0.0, 2.0, 1.0, 0.0]);
        assert_eq!(said, Confidence { class: 1, entropy: Share(1.0), top: Share(0.0) });
    }

    #[test]
    fn a_hash_tells_files_apart() {
        let empty = ModelHash::of(b"");
        assert_eq!(empty.short(), "e3b0c44298fc");
        assert_eq!(empty.0.len(), 64);
        assert_ne!(empty, ModelHash::of(b"model"));
        assert_eq!(ModelHash("short".into()).short(), "short");
    }
}
