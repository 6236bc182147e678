//! Turns the file's nodes, one by one, into layers of the runtime's few kinds; `fuse` then joins what belongs together.

mod activation;
mod arithmetic;
mod cut;
mod einsum;
mod linear;
mod microsoft;
mod norm;
mod places;
mod pool;
mod quantised;
mod resize;
mod shape;
mod supported;
mod transposed;
mod window;

use std::collections::HashMap;
use std::ops::Range;

pub use window::MAX_ELEMENTS;

use super::constant::{Budget, Constant, elements};
use super::fold;
use super::input::Input;
use super::node::{Node, is_standard, shown};
use super::proto::data_type::{BFLOAT16, DOUBLE, FLOAT, FLOAT16, INT32, INT64};
use super::value::{Quantisation, Value, View, per_sample};
use crate::error::{Error, Result};
use crate::model::{LayerId, Op, Shape, Source};

/// More layers than any network for images has; planning is quadratic in them.
const MAX_LAYERS: usize = 4096;

/// The largest number of values in all tensors of one sample together: the runtime keeps them all.
const MAX_ALL_ELEMENTS: usize = 1 << 30;

/// A layer in the making: one or more nodes of the file.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// What it computes.
    pub op: Op,
    /// The tensors that it reads; ids count drafts.
    pub inputs: Vec<Source>,
    /// The shape that it writes.
    pub output: Shape,
    /// The nodes it stands for, the one that does the main work first; none for a change of shape that no node asks for.
    pub nodes: Vec<Node<'a>>,
}

/// The graph as far as it has been read.
#[derive(Debug)]
pub struct Lowering<'a> {
    /// The layers so far.
    pub drafts: Vec<Draft<'a>>,
    /// What is left for computing with constants.
    pub budget: Budget,
    input: Shape,
    input_names: Vec<&'a str>,
    /// How many samples the file runs at once, where it fixes more than one.
    fixed_batch: Option<usize>,
    values: HashMap<&'a str, Value>,
    /// Which whole numbers the file has where a tensor's values are kept as the real ones that they stand for.
    quantised: HashMap<&'a str, Quantisation>,
    /// Tensors that lie in another shape as well.
    reshaped: HashMap<(Source, Vec<usize>), Source>,
    /// How many values all tensors so far hold.
    elements: usize,
}

impl<'a> Lowering<'a> {
    /// Before the first node. `values` holds the stored constants. Of several inputs, never none, each is a part of all values,
    /// which come one behind the other.
    pub fn new(inputs: &[Input<'a>], values: HashMap<&'a str, Value>, budget: Budget) -> Result<Self> {
        let bytes = inputs.iter().filter(|input| input.bytes).map(|input| (input.name, Quantisation::BYTES));
        let input = match inputs {
            [only] => only.shape.clone(),
            several => Shape(vec![several.iter().map(|input| input.shape.elements()).sum()]),
        };
        let mut lowering = Self {
            drafts: Vec::new(),
            budget,
            input,
            input_names: inputs.iter().map(|input| input.name).collect(),
            fixed_batch: inputs.first().and_then(|input| input.fixed_batch),
            values,
            quantised: bytes.collect(),
            reshaped: HashMap::new(),
            elements: 0,
        };
        let mut start = 0;
        for input in inputs {
            let end = start + input.shape.elements();
            let source = match inputs.len() {
                1 => Source::Input,
                _ => lowering.part_of_input(start..end, &input.shape).map_err(Error::failed)?,
            };
            let view = View { source, shape: [&[1], input.shape.0.as_slice()].concat() };
            if lowering.values.insert(input.name, Value::Tensor(view)).is_some() {
                return Err(Error::failed(format!("input '{}' is there twice", shown(input.name))));
            }
            start = end;
        }
        Ok(lowering)
    }

    /// One of several inputs, which lie one behind the other.
    fn part_of_input(&mut self, values: Range<usize>, shape: &Shape) -> Result<Source, String> {
        let Range { start, end } = values;
        let op = Op::Slice { axis: 0, start, end, step: 1 };
        self.append(Draft { op, inputs: vec![Source::Input], output: shape.clone(), nodes: vec![] })
    }

    /// Reads all nodes, given in an order in which each comes behind those that it needs.
    pub fn run(&mut self, nodes: &[Node<'a>]) -> Result<()> {
        supported::check(nodes, &self.input_names)?;
        for node in nodes {
            if matches!(node.op(), "Split" | "TopK") && is_standard(&node.proto.domain) {
                let parts =
                    if node.op() == "Split" { cut::split(self, node) } else { places::top(self, node) };
                for (name, part) in std::iter::zip(&node.proto.output, parts?) {
                    self.values.insert(name, part);
                }
            } else {
                let value = self.node(node)?;
                self.check_batch(node, &value)?;
                self.values.insert(node.output(), value);
            }
            quantised::pass_on(&mut self.quantised, node);
        }
        Ok(())
    }

    /// Errors where a node makes a fixed batch of one sample: with a constant for each sample, say.
    fn check_batch(&self, node: &Node<'_>, value: &Value) -> Result<()> {
        let Some(batch) = self.fixed_batch else { return Ok(()) };
        let spreads = matches!(
            node.op(),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Sum" | "Max" | "Min" | "PRelu" | "Expand" | "Concat"
        );
        match value {
            Value::Tensor(view) if spreads && view.shape.first() == Some(&batch) => {
                Err(node.error(format_args!(
                    "it writes all {batch} samples, whatever it reads; export the model with a dynamic batch"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The shape that a Reshape of one sample is to give where the file writes that of its fixed batch.
    pub fn of_one_sample(&self, from: &[usize], mut target: Vec<i64>) -> Vec<i64> {
        if let (Some(batch), Some(1), Some(first)) = (self.fixed_batch, from.first(), target.first_mut())
            && usize::try_from(*first) == Ok(batch)
        {
            *first = 1;
        }
        target
    }

    /// The layers, with all else given up.
    pub fn into_drafts(self) -> Vec<Draft<'a>> {
        self.drafts
    }

    /// What a name stands for.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The shape that a tensor was written in.
    pub fn stored_shape(&self, source: Source) -> &Shape {
        match source {
            Source::Input => &self.input,
            Source::Layer(LayerId(id)) => &self.drafts[id].output,
        }
    }

    /// Appends a layer for a node, which writes this shape of the file's.
    pub fn push(&mut self, node: &Node<'a>, op: Op, inputs: Vec<Source>, shape: Vec<usize>) -> Result<View> {
        // Charged for each use, since fusing may give each use of shared weights its own copy.
        self.budget.take(op.learned_values()).map_err(|error| node.error(error))?;
        let draft = Draft { op, inputs, output: Shape(per_sample(&shape).to_vec()), nodes: vec![*node] };
        let source = self.append(draft).map_err(|what| node.error(what))?;
        Ok(View { source, shape })
    }

    /// Appends a layer that works value by value, so that it can leave the values in the shape that they lie in.
    pub fn push_alike(&mut self, node: &Node<'a>, op: Op, view: View) -> Result<View> {
        self.budget.take(op.learned_values()).map_err(|error| node.error(error))?;
        let output = self.stored_shape(view.source).clone();
        let draft = Draft { op, inputs: vec![view.source], output, nodes: vec![*node] };
        let source = self.append(draft).map_err(|what| node.error(what))?;
        Ok(View { source, shape: view.shape })
    }

    /// Where a tensor lies in this shape: where it lies already, or behind a layer that changes its shape.
    pub fn stored_as(&mut self, view: &View, shape: &[usize]) -> Result<Source, String> {
        if self.stored_shape(view.source).0 == shape {
            return Ok(view.source);
        }
        let key = (view.source, shape.to_vec());
        if let Some(&there) = self.reshaped.get(&key) {
            return Ok(there);
        }
        let output = Shape(shape.to_vec());
        let source =
            self.append(Draft { op: Op::Reshape, inputs: vec![view.source], output, nodes: vec![] })?;
        self.reshaped.insert(key, source);
        Ok(source)
    }

    /// These vectors one behind the other.
    pub fn joined(&mut self, vectors: Vec<Source>) -> Result<Source, String> {
        let numbers = vectors.iter().map(|&vector| self.stored_shape(vector).elements()).sum();
        let op = Op::Concat { axis: 0, constants: Vec::new() };
        self.append(Draft { op, inputs: vectors, output: Shape(vec![numbers]), nodes: vec![] })
    }

    /// Where a tensor lies in the shape that the file gives it, without the batch.
    pub fn settled(&mut self, node: &Node<'_>, view: &View) -> Result<Source> {
        self.stored_as(view, per_sample(&view.shape)).map_err(|what| node.error(what))
    }

    /// The same for an op that works along axes: also by how much their numbers are smaller there than in the file. With
    /// `whole`, the first axis stays even if it may be the batch.
    pub fn along_axes(&mut self, node: &Node<'_>, view: &View, whole: bool) -> Result<(Source, usize)> {
        let stored = if whole { &view.shape } else { per_sample(&view.shape) };
        let source = self.stored_as(view, stored).map_err(|what| node.error(what))?;
        Ok((source, view.shape.len() - stored.len()))
    }

    /// Input number `index` of a node, which must be there.
    pub fn operand(&self, node: &Node<'_>, index: usize) -> Result<Value> {
        let name =
            node.input(index).ok_or_else(|| node.error(format_args!("its input {index} is missing")))?;
        self.values.get(name).cloned().ok_or_else(|| {
            node.error(format_args!(
                "it reads '{}', which no node writes as an output that is supported",
                shown(name)
            ))
        })
    }

    /// A tensor that it reads.
    pub fn tensor(&self, node: &Node<'_>, index: usize) -> Result<View> {
        match self.operand(node, index)? {
            Value::Tensor(view) => Ok(view),
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

    /// A list of integers that it reads as an attribute (old opsets) or as an input (new ones).
    pub fn list(&self, node: &Node<'_>, name: &str, index: usize) -> Result<Option<Vec<i64>>> {
        match (node.ints(name), self.constant(node, index)?) {
            (Some(list), _) => Ok(Some(list.to_vec())),
            (None, Some(Constant::Int(list))) => Ok(Some(list.data.clone())),
            (None, Some(Constant::Float(_))) => Err(node.error(format_args!("its {name} are not integers"))),
            (None, None) => Ok(None),
        }
    }

    fn append(&mut self, draft: Draft<'a>) -> Result<Source, String> {
        let output = &draft.output.0;
        let count = elements(output).filter(|count| (1..=MAX_ELEMENTS).contains(count));
        let count = count
            .ok_or_else(|| format!("its output {output:?} is empty or holds over {MAX_ELEMENTS} values"))?;
        if self.elements > MAX_ALL_ELEMENTS - count {
            return Err(format!("the tensors of one sample hold over {MAX_ALL_ELEMENTS} values"));
        }
        self.elements += count;
        if self.drafts.len() == MAX_LAYERS {
            return Err(format!("the model has over {MAX_LAYERS} layers"));
        }
        self.drafts.push(draft);
        Ok(Source::Layer(LayerId(self.drafts.len() - 1)))
    }

    fn node(&mut self, node: &Node<'a>) -> Result<Value> {
        let standard = is_standard(&node.proto.domain);
        if !standard && node.proto.domain != microsoft::DOMAIN {
            return Err(supported::refusal(node));
        }
        if let Some(constant) = self.folded(node)? {
            return Ok(Value::Constant(constant));
        }
        if !standard {
            return microsoft::lower(self, node)?.ok_or_else(|| supported::refusal(node));
        }
        match node.op() {
            "Conv" => linear::conv(self, node),
            "Gemm" => linear::gemm(self, node),
            "MatMul" => linear::matmul(self, node),
            "Einsum" => einsum::einsum(self, node),
            "BatchNormalization" => norm::batch_norm(self, node),
            "InstanceNormalization" => norm::instance_norm(self, node),
            "LayerNormalization" => norm::layer_norm(self, node),
            "LRN" => norm::local_response_norm(self, node),
            "Softmax" | "LogSoftmax" => norm::softmax(self, node),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => arithmetic::pair(self, node),
            "Sum" | "Max" | "Min" => arithmetic::several(self, node),
            "Neg" => arithmetic::negative(self, node),
            "PRelu" => arithmetic::sloped(self, node),
            "Selu" => arithmetic::selu(self, node),
            "Clip" => activation::clip(self, node),
            "MaxPool" | "AveragePool" => pool::pool(self, node),
            "GlobalAveragePool" | "GlobalMaxPool" => pool::global(self, node),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL1" | "ReduceL2"
            | "ReduceSumSquare" => pool::reduce(self, node),
            "ArgMax" | "ArgMin" => places::extreme(self, node),
            "Resize" | "Upsample" => resize::resize(self, node),
            "ConvTranspose" => transposed::conv_transpose(self, node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => shape::reshape(self, node),
            "Transpose" => shape::transpose(self, node),
            "Expand" => shape::expand(self, node),
            "Concat" => shape::concat(self, node),
            "Pad" => shape::pad(self, node),
            "Slice" => cut::slice(self, node),
            "Gather" => cut::gather(self, node),
            "Identity" => self.operand(node, 0),
            "Cast" | "CastLike" => self.cast(node),
            "QuantizeLinear" => quantised::quantize(self, node),
            "DequantizeLinear" => quantised::dequantize(self, node),
            "QLinearConv" => quantised::conv(self, node),
            "QLinearMatMul" => quantised::matmul(self, node),
            "Dropout" => self.dropout(node),
            _ => match activation::of_node(node) {
                Some(function) => activation::apply(self, node, function),
                None => Err(supported::refusal(node)),
            },
        }
    }

    /// The node's value, if it depends on constants and shapes alone.
    fn folded(&mut self, node: &Node<'_>) -> Result<Option<Constant>> {
        match node.op() {
            "Constant" => return fold::constant_node(node).map(Some),
            "Shape" => return Ok(Some(fold::shape_node(node, self.operand(node, 0)?.shape()))),
            "Size" => {
                let count = elements(self.operand(node, 0)?.shape()).unwrap_or(usize::MAX);
                return Ok(Some(Constant::int(vec![], vec![i64::try_from(count).unwrap_or(i64::MAX)])));
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
        fold::constants(node, &inputs, &mut self.budget)
    }

    /// Everything is computed in single precision, so that casts between floating-point types do nothing.
    fn cast(&mut self, node: &Node<'a>) -> Result<Value> {
        let to_real = matches!(node.cast_target(), FLOAT | FLOAT16 | BFLOAT16 | DOUBLE);
        if let (Value::Tensor(view), INT32 | INT64) = (self.operand(node, 0)?, node.cast_target())
            && places::are_places(self, &view)
        {
            return Ok(Value::Tensor(view));
        }
        if node.op() == "CastLike" || to_real {
            return quantised::as_numbers(self, node).map(Value::Tensor);
        }
        Err(node.error("it casts a tensor to something other than a floating-point type"))
    }

    fn dropout(&self, node: &Node<'_>) -> Result<Value> {
        match self.constant(node, 2)? {
            Some(Constant::Int(flag)) if flag.data.first().is_some_and(|&flag| flag != 0) => {
                Err(node.error("it was exported in training mode; call model.eval() before the export"))
            }
            _ => Ok(Value::Tensor(self.tensor(node, 0)?)),
        }
    }
}
