//! What a file's outputs are: exits, of which a sample takes one, or results, which belong together. And which of them count,
//! where its user says so.

use std::borrow::Cow;
use std::str::FromStr;

use prost::Message;

use super::constant::elements;
use super::depth::are_exits;
use super::guard::decoded;
use super::lower::{Draft, Lowering};
use super::node::shown;
use super::proto::{ModelProto, StringStringEntryProto, ValueInfoProto};
use super::value::{Value, View, per_sample};
use crate::error::{Error, Given, Remedy, Result};
use crate::model::{Activation, Agreement, Arithmetic, LayerId, Op, Output, Reduction, Shape, Source};

/// Where a file says whether its outputs are `exits` or `results`.
const KIND_KEY: &str = "coprof.outputs";
/// Where a file says when answers count as the same: a list as [`Agreements`] reads it.
const AGREEMENT_KEY: &str = "coprof.agree";

/// What a user says of a model's outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputChoice {
    /// These are its exits, the final one last.
    pub exits: Vec<String>,
    /// These are its results.
    pub results: Vec<String>,
    /// When answers count as the same, where that is to be another than coprof would choose.
    pub agreements: Option<Agreements>,
}

/// Measures for all outputs, or for some by name: `rel:0.05`, `age=rel:0.1,gender=class`.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreements(Vec<(Option<String>, Agreement)>);

impl FromStr for Agreements {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let one = |item: &str| {
            let (name, how) = match item.rsplit_once('=') {
                Some((name, how)) => (Some(name.to_owned()), how),
                None => (None, item),
            };
            how.parse().map(|how| (name, how))
        };
        text.split(',').map(one).collect::<Result<_>>().map(Self)
    }
}

impl std::fmt::Display for Agreements {
    /// As it is read back.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let item = |(name, how): &(Option<String>, Agreement)| match name {
            Some(name) => format!("{name}={how}"),
            None => how.to_string(),
        };
        f.write_str(&self.0.iter().map(item).collect::<Vec<_>>().join(","))
    }
}

/// The bytes of an ONNX file of whose outputs this is said: the same ones if nothing is, else a new file's, which is another
/// model and says so itself. Errors on names that are no outputs of it.
pub fn with_outputs<'f>(file: &'f [u8], choice: &OutputChoice) -> Result<Cow<'f, [u8]>> {
    if *choice == OutputChoice::default() {
        return Ok(file.into());
    }
    let mut model = decoded(file)?;
    let Some(graph) = &mut model.graph else { return Ok(file.into()) };
    let named = choice.agreements.iter().flat_map(|agreements| &agreements.0);
    find_all(&graph.output, named.filter_map(|(name, _)| name.as_ref()), Given::Agreement)?;
    let mut said = Vec::new();
    for (names, kind, given) in
        [(&choice.exits, "exits", Given::Exits), (&choice.results, "results", Given::Outputs)]
    {
        if !names.is_empty() {
            graph.output = find_all(&graph.output, names, given)?;
            said.push((KIND_KEY, kind.to_owned()));
        }
    }
    said.extend(choice.agreements.as_ref().map(|agreements| (AGREEMENT_KEY, agreements.to_string())));
    model.metadata_props.retain(|entry| !said.iter().any(|(key, _)| entry.key == *key));
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    model.metadata_props.extend(said.into_iter().map(entry));
    Ok(model.encode_to_vec().into())
}

/// The outputs of these names, in their order.
fn find_all<'n>(
    outputs: &[ValueInfoProto],
    names: impl IntoIterator<Item = &'n String>,
    given: Given,
) -> Result<Vec<ValueInfoProto>> {
    let mut found: Vec<ValueInfoProto> = Vec::new();
    for name in names {
        let output = outputs.iter().find(|output| output.name == *name);
        match output.filter(|output| !found.contains(output)) {
            Some(output) => found.push(output.clone()),
            None => {
                let (fault, all) = (if output.is_some() { "twice" } else { "no output" }, listed(outputs));
                let what = format!("'{}' is {fault}; the model's outputs are {all}", shown(name));
                return Err(Error::usage(what).with(Remedy::GiveAnother(given)));
            }
        }
    }
    Ok(found)
}

fn listed(outputs: &[ValueInfoProto]) -> String {
    outputs.iter().map(|output| shown(&output.name)).collect::<Vec<_>>().join(", ")
}

/// What a network answers.
pub struct Answers<'a> {
    /// Names of the exits, the final one last.
    pub names: Vec<&'a str>,
    /// Per exit the tensor that holds its answer, a vector.
    pub logits: Vec<Source>,
    /// What an answer is made of.
    pub outputs: Vec<Output>,
}

/// An output as it was lowered.
struct Found<'a> {
    name: &'a str,
    view: View,
    /// How many numbers.
    numbers: usize,
    /// Whether the file gives but the place of the largest of these, or the largest few: the class, all the same.
    are_scores: bool,
}

impl Found<'_> {
    fn is_vector(&self) -> bool {
        self.view.shape.iter().filter(|&&side| side != 1).count() < 2
    }

    fn expected_classes(&self) -> Error {
        let (name, found) = (shown(self.name), &self.view.shape);
        Error::failed(format!(
            "expected its output '{name}' to be [batch, classes], as exits are, found {found:?} for a batch of 1"
        ))
    }
}

/// What the network answers: its exits, or all its outputs as one answer.
pub fn answers<'a>(model: &'a ModelProto, lowering: &mut Lowering<'_>) -> Result<Answers<'a>> {
    let outputs = model.graph.as_ref().map_or(&[][..], |graph| &graph.output);
    let found = outputs.iter().map(|output| found(output, lowering)).collect::<Result<Vec<_>>>()?;
    let found = without_repeats(&lowering.drafts, found);
    let said =
        |key: &str| model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
    let vectors = found.iter().all(Found::is_vector);
    let same = found.windows(2).all(|pair| pair[0].numbers == pair[1].numbers);
    let exits = match (said(KIND_KEY), found.as_slice()) {
        (_, []) => return Err(Error::failed("expected at least one output, found none")),
        (Some("exits"), _) => {
            check_exits(&found)?;
            true
        }
        (_, [only]) => only.is_vector(),
        (Some(_), _) => false,
        (None, all) => {
            let sources: Vec<Source> = all.iter().map(|found| found.view.source).collect();
            vectors && same && are_exits(&lowering.drafts, &sources)
        }
    };
    let mut answers = if exits { as_exits(found, lowering)? } else { as_results(found, lowering)? };
    if let Some(said) = said(AGREEMENT_KEY) {
        let Agreements(measures) = said.parse()?;
        for (name, agreement) in measures {
            let fits = |output: &&mut Output| name.as_ref().is_none_or(|name| *name == output.name);
            answers.outputs.iter_mut().filter(fits).for_each(|output| output.agreement = agreement);
        }
    }
    match answers.outputs.iter().find(|output| !output.agreement.can_fail(output.shape.elements())) {
        Some(Output { name, agreement, .. }) => Err(Error::usage(format!(
            "'{}' is one number, of which any two would agree by {agreement}; take decision or rel:0.05",
            shown(name)
        ))
        .with(Remedy::GiveAnother(Given::Agreement))),
        None => Ok(answers),
    }
}

/// An output's tensor, which a node computes.
fn found<'a>(output: &'a ValueInfoProto, lowering: &Lowering<'_>) -> Result<Found<'a>> {
    match lowering.value(&output.name) {
        Some(Value::Tensor(view @ View { source: Source::Layer(_), .. })) => {
            let scores = scores(lowering, view.source);
            let (view, are_scores) = (scores.clone().unwrap_or_else(|| view.clone()), scores.is_some());
            let numbers = elements(&view.shape).unwrap_or(0);
            Ok(Found { name: &output.name, view, numbers, are_scores })
        }
        _ => Err(computed_by_none(&output.name)),
    }
}

/// The vector behind an ArgMax or a TopK over all of it: an answer is its class, and how sure that is follows from the others.
fn scores(lowering: &Lowering<'_>, source: Source) -> Option<View> {
    let draft = behind(&lowering.drafts, source)?;
    let &[input @ Source::Layer(_)] = draft.inputs.as_slice() else { return None };
    let axis = match &draft.op {
        Op::Reduce { how: Reduction::PlaceOfLargest, axes } => *axes.first()?,
        Op::TopK { axis, largest: true, .. } => *axis,
        _ => return None,
    };
    let sides = lowering.stored_shape(input);
    let is_all = sides.0.get(axis) == Some(&sides.elements());
    is_all.then(|| View { source: input, shape: vec![1, sides.elements()] })
}

/// Leaves out scores that are there already: the label beside the shares that it is the place of.
fn without_repeats<'a>(drafts: &[Draft<'_>], all: Vec<Found<'a>>) -> Vec<Found<'a>> {
    let places: Vec<Source> = all.iter().map(|found| before_softmax(drafts, found.view.source)).collect();
    let is_new = |at: usize, are_scores: bool| {
        let same = |other: &usize| *other != at && places[*other] == places[at];
        let first_or_other = |other: usize| other < at || !all[other].are_scores;
        !are_scores || !(0..all.len()).filter(same).any(first_or_other)
    };
    let new: Vec<bool> = all.iter().enumerate().map(|(at, found)| is_new(at, found.are_scores)).collect();
    all.into_iter().zip(new).filter_map(|(found, new)| new.then_some(found)).collect()
}

fn computed_by_none(name: &str) -> Error {
    Error::failed(format!("expected its output '{}' to be computed by a node", shown(name)))
}

/// Errors unless all are vectors of as many classes.
fn check_exits(found: &[Found<'_>]) -> Result<()> {
    if let Some(plane) = found.iter().find(|found| !found.is_vector()) {
        return Err(plane.expected_classes());
    }
    match found.windows(2).find(|pair| pair[0].numbers != pair[1].numbers) {
        Some([first, other]) => Err(Error::failed(format!(
            "expected all exits to tell {} classes apart, found {} at '{}'",
            first.numbers,
            other.numbers,
            shown(other.name)
        ))),
        _ => Ok(()),
    }
}

fn as_exits<'a>(found: Vec<Found<'a>>, lowering: &mut Lowering<'_>) -> Result<Answers<'a>> {
    let mut answers = Answers { names: Vec::new(), logits: Vec::new(), outputs: Vec::new() };
    for Found { name, mut view, numbers, .. } in found {
        let agreement = of_exit(&lowering.drafts, view.source, numbers);
        view.source = before_softmax(&lowering.drafts, view.source);
        let source = lowering.stored_as(&view, &[numbers]).map_err(Error::failed)?;
        if source == Source::Input {
            return Err(computed_by_none(name));
        }
        answers.names.push(name);
        answers.logits.push(source);
        answers.outputs = vec![Output { name: name.into(), shape: Shape(vec![numbers]), agreement }];
    }
    Ok(answers)
}

/// All outputs as one vector, one behind the other, in the file's order. One by one they would have to cross a link, too, but
/// here they are there together, when the last one is.
fn as_results<'a>(found: Vec<Found<'a>>, lowering: &mut Lowering<'_>) -> Result<Answers<'a>> {
    let mut parts = Vec::with_capacity(found.len());
    let mut outputs = Vec::with_capacity(found.len());
    for Found { name, view, numbers, are_scores } in &found {
        let shape = Shape(per_sample(&view.shape).to_vec());
        let kind = of_result(&lowering.drafts, view.source, &shape);
        let agreement = if *are_scores { Agreement::Class } else { kind };
        outputs.push(Output { name: (*name).into(), shape, agreement });
        parts.push(lowering.stored_as(view, &[*numbers]).map_err(Error::failed)?);
    }
    let (name, source) = match (found.as_slice(), parts.as_slice()) {
        ([only], [source]) => (only.name, *source),
        _ => ("results", lowering.joined(parts).map_err(Error::failed)?),
    };
    Ok(Answers { names: vec![name], logits: vec![source], outputs })
}

/// A Softmax over the classes changes no answer, and the exits' confidences are computed from the logits.
fn before_softmax(drafts: &[Draft<'_>], mut source: Source) -> Source {
    while let Source::Layer(LayerId(id)) = source
        && let draft = &drafts[id]
        && let (Op::Softmax { axis, .. }, &[input]) = (&draft.op, draft.inputs.as_slice())
        && draft.output.0.get(*axis) == Some(&draft.output.elements())
    {
        source = input;
    }
    source
}

/// An only vector, or an exit, tells classes apart, unless it is but one number or brought to a length of its own.
fn of_exit(drafts: &[Draft<'_>], source: Source, numbers: usize) -> Agreement {
    let is_quotient = |op: &Op| matches!(op, Op::Combine { how: Arithmetic::Quotient, .. });
    match last_op(drafts, source) {
        op if numbers == 1 && op.is_some_and(is_sigmoid) => Agreement::Decision,
        _ if numbers == 1 => Agreement::NUMBERS,
        Some(op) if is_quotient(op) => Agreement::DIRECTION,
        _ => Agreement::Class,
    }
}

/// A result tells classes apart where it is made as classes are; another vector points somewhere.
fn of_result(drafts: &[Draft<'_>], source: Source, shape: &Shape) -> Agreement {
    let is_vector = shape.0.iter().filter(|&&side| side != 1).count() < 2;
    let op = last_op(drafts, source);
    match shape.elements() {
        _ if is_vector && op.is_some_and(is_sigmoid) => Agreement::Decision,
        1 => Agreement::NUMBERS,
        _ if is_vector && are_classes(drafts, source) => Agreement::Class,
        _ if is_vector => Agreement::DIRECTION,
        _ => Agreement::NUMBERS,
    }
}

fn is_sigmoid(op: &Op) -> bool {
    let function = match op {
        Op::Activation(function) => Some(*function),
        _ => op.activation(),
    };
    matches!(function, Some(Activation::Sigmoid | Activation::HardSigmoid { .. }))
}

/// Whether a vector comes out of a Softmax over all of it, or out of a fully connected layer and nothing but a shift behind it.
fn are_classes(drafts: &[Draft<'_>], source: Source) -> bool {
    before_softmax(drafts, source) != source
        || match last_op(drafts, source) {
            Some(Op::Linear { activation: None, .. }) => true,
            Some(Op::Affine { scale, .. }) => {
                let behind = behind(drafts, source).and_then(|draft| draft.inputs.first());
                let shifts = scale.data.iter().all(|&factor| factor == 1.0);
                shifts
                    && behind.is_some_and(|&input| matches!(last_op(drafts, input), Some(Op::Linear { .. })))
            }
            _ => false,
        }
}

/// What wrote a tensor, changes of its shape and steps of quantisation aside.
fn last_op<'d>(drafts: &'d [Draft<'_>], source: Source) -> Option<&'d Op> {
    behind(drafts, source).map(|draft| &draft.op)
}

fn behind<'d, 'a>(drafts: &'d [Draft<'a>], mut source: Source) -> Option<&'d Draft<'a>> {
    loop {
        let Source::Layer(LayerId(id)) = source else { return None };
        let draft = &drafts[id];
        match (&draft.op, draft.inputs.as_slice()) {
            (Op::Reshape | Op::Activation(Activation::Quantize { .. }), &[input]) => source = input,
            _ => return Some(draft),
        }
    }
}
