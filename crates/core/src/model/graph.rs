//! The model graph: layers in topological order, and the exits among them.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::dag::{Dag, Tensor};
use super::op::Op;

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
    /// The layer whose output is the logits, shape `[classes]`.
    pub logits: LayerId,
}

/// A network: layers in topological order and the exits in the file's order, the last one final.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What people call the model (a bundled name or the file's stem).
    pub name: String,
    /// The hash of the file that it was read from.
    pub hash: ModelHash,
    /// The input of one sample.
    pub input: Shape,
    /// How many samples its file runs at once, where it fixes more than one: it is run with one all the same.
    pub fixed_batch: Option<usize>,
    /// Every layer; a layer's inputs come before it.
    pub layers: Vec<Layer>,
    /// Never empty; the last one is final.
    pub exits: Vec<Exit>,
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
        Self { name: name.to_owned(), hash, input, fixed_batch: None, layers, exits, dag }
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

    /// How many classes the network tells apart.
    pub fn classes(&self) -> usize {
        self.layer(self.exits[self.final_exit().0].logits).output.elements()
    }

    /// Whether its answers are classes, so that they can be right or wrong: it tells several apart, or two by one probability.
    /// One output that is no probability measures something, and every answer would count as the same class.
    pub fn decides(&self) -> bool {
        self.classes() > 1 || self.exits.iter().all(|exit| self.is_probability(exit.logits))
    }

    fn is_probability(&self, id: LayerId) -> bool {
        let Layer { op, inputs, .. } = self.layer(id);
        let function = match op {
            Op::Activation(function) => Some(*function),
            _ => op.activation(),
        };
        match (function, inputs.as_slice()) {
            (Some(Activation::Sigmoid | Activation::HardSigmoid { .. }), _) => true,
            (Some(Activation::Quantize { .. }), &[Source::Layer(input)]) if function != op.activation() => {
                self.is_probability(input)
            }
            _ => false,
        }
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
        assert_eq!(graph.classes(), 4);
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
