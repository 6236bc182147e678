//! Turns the file's nodes, one by one, into layers of the runtime's few kinds; `fuse` then joins what belongs together.

use std::collections::{HashMap, HashSet};

use super::constant::{Budget, Constant, elements};
use super::node::{Node, is_standard, shown};
use super::window::MAX_ELEMENTS;
use super::{elementwise, fold, linear, pool};
use crate::error::{Error, Result};
use crate::model::{LayerId, Op, Shape, Source};

/// What the reader turns into layers or computes away, for its messages.
const SUPPORTED: &str = "Add, AveragePool, BatchNormalization, Cast, Concat, Constant, Conv, Div, Dropout, Flatten, \
    Gemm, GlobalAveragePool, Identity, LogSoftmax (last), MatMul, MaxPool, Mul, ReduceMean, Relu, Reshape, \
    Shape, Softmax (last), Squeeze, Sub, Sum, Unsqueeze";

/// More layers than any network for images has; planning is quadratic in them.
const MAX_LAYERS: usize = 4096;

/// A layer in the making: one or more nodes of the file.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// What it computes.
    pub op: Op,
    /// The tensors that it reads; ids count drafts.
    pub inputs: Vec<Source>,
    /// The shape that it writes.
    pub output: Shape,
    /// The nodes it stands for, the one that does the main work first.
    pub nodes: Vec<Node<'a>>,
}

/// What a name in the file stands for.
#[derive(Clone, Debug)]
pub enum Value {
    /// Known while reading.
    Constant(Constant),
    /// Computed for every sample.
    Tensor(Source),
}

/// The graph as far as it has been read.
#[derive(Debug)]
pub struct Lowering<'a> {
    /// The layers so far.
    pub drafts: Vec<Draft<'a>>,
    /// What is left for computing with constants.
    pub budget: Budget,
    input: Shape,
    values: HashMap<&'a str, Value>,
    read: HashSet<&'a str>,
    outputs: HashSet<&'a str>,
}

impl<'a> Lowering<'a> {
    /// Before the first node. `values` holds the graph's input and the stored constants.
    pub fn new(
        input: Shape,
        values: HashMap<&'a str, Value>,
        outputs: HashSet<&'a str>,
        budget: Budget,
    ) -> Self {
        Self { drafts: Vec::new(), budget, input, values, read: HashSet::new(), outputs }
    }

    /// Reads all nodes, given in an order in which each comes behind those that it needs.
    pub fn run(&mut self, nodes: &[Node<'a>]) -> Result<()> {
        self.read.extend(nodes.iter().flat_map(Node::inputs));
        for node in nodes {
            let value = self.node(node)?;
            self.values.insert(node.output(), value);
        }
        Ok(())
    }

    /// The layers, with all else given up.
    pub fn into_drafts(self) -> Vec<Draft<'a>> {
        self.drafts
    }

    /// What a name stands for.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The shape of a tensor, without the batch.
    pub fn shape(&self, source: Source) -> &Shape {
        match source {
            Source::Input => &self.input,
            Source::Layer(LayerId(id)) => &self.drafts[id].output,
        }
    }

    /// The same with a batch of one in front.
    pub fn full_shape(&self, source: Source) -> Vec<usize> {
        [&[1], self.shape(source).0.as_slice()].concat()
    }

    /// Appends a layer.
    pub fn push(
        &mut self,
        node: &Node<'a>,
        op: Op,
        inputs: Vec<Source>,
        output: Vec<usize>,
    ) -> Result<Value> {
        if !elements(&output).is_some_and(|count| (1..=MAX_ELEMENTS).contains(&count)) {
            let what = format_args!("its output {output:?} is empty or holds over {MAX_ELEMENTS} values");
            return Err(node.error(what));
        }
        if self.drafts.len() == MAX_LAYERS {
            return Err(node.error(format_args!("the model has over {MAX_LAYERS} layers")));
        }
        // Charged for each use, since fusing may give each use of shared weights its own copy.
        self.budget.take(op.learned_values()).map_err(|error| node.error(error))?;
        self.drafts.push(Draft { op, inputs, output: Shape(output), nodes: vec![*node] });
        Ok(Value::Tensor(Source::Layer(LayerId(self.drafts.len() - 1))))
    }

    /// Input number `index` of a node, which must be there.
    pub fn operand(&self, node: &Node<'_>, index: usize) -> Result<Value> {
        let name =
            node.input(index).ok_or_else(|| node.error(format_args!("its input {index} is missing")))?;
        self.values.get(name).cloned().ok_or_else(|| {
            node.error(format_args!("it reads '{}', which no node writes as its first output", shown(name)))
        })
    }

    /// A tensor that it reads.
    pub fn tensor(&self, node: &Node<'_>, index: usize) -> Result<Source> {
        match self.operand(node, index)? {
            Value::Tensor(source) => Ok(source),
            Value::Constant(_) => {
                Err(node.error(format_args!("expected its input {index} to be computed, found a constant")))
            }
        }
    }

    /// A constant that it reads, unless that input is left out.
    pub fn constant(&self, node: &Node<'_>, index: usize) -> Result<Option<Constant>> {
        if node.input(index).is_none() {
            return Ok(None);
        }
        match self.operand(node, index)? {
            Value::Constant(constant) => Ok(Some(constant)),
            Value::Tensor(_) => Err(node
                .error(format_args!("expected its input {index} to be a constant, found a computed tensor"))),
        }
    }

    fn node(&mut self, node: &Node<'a>) -> Result<Value> {
        if !is_standard(&node.proto.domain) {
            return Err(unsupported(node));
        }
        if let Some(constant) = self.folded(node)? {
            return Ok(Value::Constant(constant));
        }
        match node.op() {
            "Conv" => linear::conv(self, node),
            "Gemm" => linear::gemm(self, node),
            "MatMul" => linear::matmul(self, node),
            "BatchNormalization" => elementwise::batch_norm(self, node),
            "Add" | "Sub" | "Mul" | "Div" => elementwise::arithmetic(self, node),
            "Sum" => elementwise::sum(self, node),
            "Relu" => elementwise::relu(self, node),
            "Concat" => elementwise::concat(self, node),
            "MaxPool" | "AveragePool" => pool::pool(self, node),
            "GlobalAveragePool" => pool::global_average(self, node),
            "ReduceMean" => pool::reduce_mean(self, node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => pool::reshape(self, node),
            "Identity" => Ok(Value::Tensor(self.tensor(node, 0)?)),
            "Cast" => self.cast(node),
            "Dropout" => self.dropout(node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            _ => Err(unsupported(node)),
        }
    }

    /// The node's value, if it depends on constants and shapes alone.
    fn folded(&mut self, node: &Node<'_>) -> Result<Option<Constant>> {
        match node.op() {
            "Constant" => return fold::constant_node(node).map(Some),
            "Shape" => {
                let shape = match self.operand(node, 0)? {
                    Value::Constant(constant) => constant.shape().to_vec(),
                    Value::Tensor(source) => self.full_shape(source),
                };
                return Ok(Some(fold::shape_node(node, &shape)));
            }
            _ => {}
        }
        let mut inputs = Vec::with_capacity(node.proto.input.len());
        for name in node.inputs() {
            match self.values.get(name) {
                Some(Value::Constant(constant)) => inputs.push(constant.clone()),
                _ => return Ok(None),
            }
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        let read = inputs.iter().map(Constant::len).fold(0, usize::saturating_add);
        self.budget.take(read).map_err(|error| node.error(error))?;
        fold::constants(node, &inputs)
    }

    /// Everything is computed in single precision, so that casts between floating-point types do nothing.
    fn cast(&self, node: &Node<'_>) -> Result<Value> {
        use super::proto::data_type::{BFLOAT16, DOUBLE, FLOAT, FLOAT16};
        match i32::try_from(node.int("to", 0)) {
            Ok(FLOAT | FLOAT16 | BFLOAT16 | DOUBLE) => Ok(Value::Tensor(self.tensor(node, 0)?)),
            _ => Err(node.error("it casts a tensor to something other than a floating-point type")),
        }
    }

    fn dropout(&self, node: &Node<'_>) -> Result<Value> {
        match self.constant(node, 2)? {
            Some(Constant::Int(flag)) if flag.data.first().is_some_and(|&flag| flag != 0) => {
                Err(node.error("it was exported in training mode; call model.eval() before the export"))
            }
            _ => Ok(Value::Tensor(self.tensor(node, 0)?)),
        }
    }

    /// A Softmax in front of an output changes no answer, and the exits' confidences are computed from the logits.
    fn softmax(&self, node: &Node<'_>) -> Result<Value> {
        let source = self.tensor(node, 0)?;
        let last = self.outputs.contains(node.output()) && !self.read.contains(node.output());
        let axis = node.int("axis", if node.opset < 13 { 1 } else { -1 });
        if last && self.shape(source).0.len() == 1 && matches!(axis, 1 | -1) {
            Ok(Value::Tensor(source))
        } else {
            Err(node.error("it is supported only over the classes and directly in front of an output"))
        }
    }
}

fn unsupported(node: &Node<'_>) -> Error {
    let domain = shown(&node.proto.domain);
    let domain = if domain.is_empty() { domain } else { format!(" of '{domain}'") };
    node.error(format_args!(
        "this op{domain} is not supported (opset {}); supported: {SUPPORTED}",
        node.opset
    ))
}
