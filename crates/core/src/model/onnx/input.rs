//! The inputs of a model: found among what a file lists, and given sides where the file leaves them open.

use std::borrow::Cow;
use std::collections::HashSet;
use std::str::FromStr;

use prost::Message;

use super::constant::elements;
use super::guard::decoded;
use super::lower::MAX_ELEMENTS;
use super::node::shown;
use super::proto::{
    DimensionProto, GraphProto, TensorShapeProto, TensorTypeProto, ValueInfoProto, data_type,
};
use crate::error::{Error, Given, Remedy, Result};
use crate::model::Shape;

/// More axes than the input of any model has, the batch included.
const MAX_AXES: usize = 8;
/// More samples than any file runs at once.
const MAX_BATCH: i64 = 1 << 20;

/// A model's input as its file has it.
pub struct Input<'a> {
    /// What its nodes call it.
    pub name: &'a str,
    /// One sample.
    pub shape: Shape,
    /// How many samples the file runs at once, where it leaves no other choice.
    pub fixed_batch: Option<usize>,
    /// Whether it holds whole numbers from 0 to 255.
    pub bytes: bool,
}

/// More inputs than any model has.
const MAX_INPUTS: usize = 64;

/// The inputs that are no constants, never none. All run as many samples at once.
pub fn inputs(graph: &GraphProto) -> Result<Vec<Input<'_>>> {
    let places = places(graph);
    if places.is_empty() || places.len() > MAX_INPUTS {
        return Err(Error::failed(format!(
            "expected a model with 1 to {MAX_INPUTS} inputs, found {}",
            places.len()
        )));
    }
    let inputs = places.into_iter().map(|at| input(&graph.input[at])).collect::<Result<Vec<_>>>()?;
    match inputs.iter().find(|other| other.fixed_batch != inputs[0].fixed_batch) {
        Some(other) => Err(Error::failed(format!(
            "expected its inputs to be of as many samples, found {} at '{}' and {} at '{}'",
            inputs[0].fixed_batch.unwrap_or(1),
            shown(inputs[0].name),
            other.fixed_batch.unwrap_or(1),
            shown(other.name)
        ))),
        None => Ok(inputs),
    }
}

fn input(input: &ValueInfoProto) -> Result<Input<'_>> {
    let name = shown(&input.name);
    let Some((tensor, shape)) = tensor(input).and_then(|tensor| Some((tensor, tensor.shape.as_ref()?)))
    else {
        return Err(Error::failed(format!("its input '{name}' says no shape")).with(Remedy::NameInputShape));
    };
    use data_type::{BFLOAT16, DOUBLE, FLOAT, FLOAT16, UINT8};
    if !matches!(tensor.elem_type, FLOAT | FLOAT16 | BFLOAT16 | DOUBLE | UINT8) {
        let what =
            format!("expected its input '{name}' to be pixels, found element type {}", tensor.elem_type);
        return Err(Error::failed(what));
    }
    let sides = sides(shape);
    let fault = |what: &str| {
        let found: Vec<String> =
            sides.iter().map(|&side| if side <= 0 { "?".into() } else { side.to_string() }).collect();
        Error::failed(format!(
            "expected its input '{name}' to be [batch, …] with the sides of a sample fixed, such as [batch, channels, \
             height, width], found [{}]{what}",
            found.join(", ")
        ))
    };
    let [batch, rest @ ..] = sides.as_slice() else { return Err(fault("; it has no axis for the batch")) };
    if rest.iter().any(|side| (-1..=0).contains(side)) {
        return Err(fault("").with(Remedy::NameInputShape));
    }
    let one: Option<Vec<usize>> = rest.iter().map(|&side| usize::try_from(side).ok()).collect();
    let fits = |one: &Vec<usize>| {
        (1..MAX_AXES).contains(&one.len())
            && elements(one).is_some_and(|count| (1..=MAX_ELEMENTS).contains(&count))
    };
    let one = one.filter(fits).filter(|_| (-1..=MAX_BATCH).contains(batch));
    let one = one.ok_or_else(|| fault("these sides make no sense"))?;
    let fixed_batch = usize::try_from(*batch).ok().filter(|&batch| batch > 1);
    Ok(Input { name: &input.name, shape: Shape(one), fixed_batch, bytes: tensor.elem_type == UINT8 })
}

/// Which of the listed inputs are no constants.
fn places(graph: &GraphProto) -> Vec<usize> {
    let stored: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    (0..graph.input.len()).filter(|&at| !stored.contains(graph.input[at].name.as_str())).collect()
}

/// Which of them a shape is for: the one that it names, or the only one.
fn place(graph: &GraphProto, wanted: &InputShape) -> Result<usize> {
    let places = places(graph);
    let is_it = |at: &usize| match &wanted.name {
        Some(name) => graph.input[*at].name == *name,
        None => places.len() == 1,
    };
    places.iter().copied().find(is_it).ok_or_else(|| {
        let names: Vec<String> =
            places.iter().map(|&at| format!("'{}'", shown(&graph.input[at].name))).collect();
        Error::usage(format!("{wanted}: expected NAME:SHAPE of the model's inputs {}", names.join(", ")))
            .with(Remedy::GiveAnother(Given::InputShape))
    })
}

fn tensor(input: &ValueInfoProto) -> Option<&TensorTypeProto> {
    input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref())
}

fn sides(shape: &TensorShapeProto) -> Vec<i64> {
    shape.dim.iter().take(MAX_AXES + 1).map(|dim| dim.dim_value).collect()
}

/// The shape that a model's input is to have, for files that leave sides open: `1x3x48x192`, or with the input's name
/// `pixels:1x3x48x192`. The batch comes first and is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShape {
    name: Option<String>,
    sides: Vec<i64>,
}

impl FromStr for InputShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, shape) = match text.rsplit_once(':') {
            Some((name, shape)) => (Some(name.to_owned()), shape),
            None => (None, text),
        };
        let sides: Option<Vec<i64>> =
            shape.split('x').map(|side| side.parse().ok().filter(|side| *side > 0)).collect();
        match sides {
            Some(sides) if sides.first() == Some(&1) && (2..=MAX_AXES).contains(&sides.len()) => {
                Ok(Self { name, sides })
            }
            _ => Err(Error::usage(format!(
                "a shape with a batch of 1 such as 1x3x224x224 or NAME:1x3x224x224 was expected, found '{}'",
                shown(text)
            ))),
        }
    }
}

impl std::fmt::Display for InputShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sides: Vec<String> = self.sides.iter().map(i64::to_string).collect();
        f.write_str(&sides.join("x"))
    }
}

/// The bytes of an ONNX file whose input has this shape: the same ones if it has it already, else a new file's, which is
/// another model. Errors where the file fixes a side differently. A batch that the file fixes stays.
pub fn with_input_shape<'f>(file: &'f [u8], wanted: &InputShape) -> Result<Cow<'f, [u8]>> {
    let mut model = decoded(file)?;
    let Some(graph) = &mut model.graph else { return Ok(file.into()) };
    let at = place(graph, wanted)?;
    let input = &mut graph.input[at];
    let name = shown(&input.name);
    let Some(tensor) = input.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) else {
        return Err(Error::failed(format!("its input '{name}' is no tensor")));
    };
    let found = tensor.shape.as_ref().map(sides);
    let mut fixed = wanted.sides.clone();
    if let Some(found) = &found {
        let fits = |(&found, &wanted): (&i64, &i64)| found <= 0 || found == wanted;
        if found.len() != fixed.len() || !std::iter::zip(found, &fixed).skip(1).all(fits) {
            let what = format!("{wanted} does not fit the model's input '{name}' of {found:?} (0 is open)");
            return Err(Error::usage(what).with(Remedy::GiveAnother(Given::InputShape)));
        }
        fixed[0] = found[0].max(1);
        if fixed == *found {
            return Ok(file.into());
        }
    }
    let dim = fixed.into_iter().map(|dim_value| DimensionProto { dim_value }).collect();
    tensor.shape = Some(TensorShapeProto { dim });
    Ok(model.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{chain, tensor_info};
    use super::*;
    use crate::model::Graph;

    fn open(dims: &[i64]) -> Vec<u8> {
        let mut file = chain();
        file.graph().input[0] = tensor_info("pixels", dims);
        file.bytes()
    }

    #[test]
    fn open_sides_are_named_and_then_fixed() {
        let file = open(&[0, 3, 0, 0]);
        let refused = Graph::from_onnx("test", &file).unwrap_err();
        assert_eq!(refused.remedy(), Some(Remedy::NameInputShape));
        assert!(refused.to_string().contains("[?, 3, ?, ?]"), "{refused}");
        for wanted in ["1x3x8x8", "pixels:1x3x8x8"] {
            let fixed = with_input_shape(&file, &wanted.parse().unwrap()).unwrap();
            assert_eq!(Graph::from_onnx("test", &fixed).unwrap().input, Shape(vec![3, 8, 8]));
        }
        let mut shapeless = chain();
        shapeless.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = None;
        let fixed = with_input_shape(&shapeless.bytes(), &"1x3x8x8".parse().unwrap()).unwrap().into_owned();
        assert_eq!(Graph::from_onnx("test", &fixed).unwrap().input, Shape(vec![3, 8, 8]));
    }

    #[test]
    fn what_the_file_fixes_stays() {
        let file = open(&[1, 3, 8, 8]);
        let same = with_input_shape(&file, &"1x3x8x8".parse().unwrap()).unwrap();
        assert!(matches!(same, Cow::Borrowed(_)));
        for wanted in ["1x3x8x9", "1x3x8", "1x4x8x8", "other:1x3x8x8"] {
            let error = with_input_shape(&file, &wanted.parse().unwrap()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let many = open(&[32, 3, 0, 8]);
        let fixed = with_input_shape(&many, &"1x3x8x8".parse().unwrap()).unwrap();
        assert_eq!(Graph::from_onnx("test", &fixed).unwrap().fixed_batch, Some(32));
    }

    #[test]
    fn shapes_are_sides_with_a_batch_of_one() {
        for text in ["", "1", "3x224x224", "1x3x0x4", "1x-3x4", "1x3x4x", "name:", "1x1x1x1x1x1x1x1x1"] {
            assert!(text.parse::<InputShape>().is_err(), "{text}");
        }
        let named: InputShape = "input:0:1x9".parse().unwrap();
        assert_eq!((named.name.as_deref(), named.to_string().as_str()), (Some("input:0"), "1x9"));
    }
}
