//! Weights that lie in files beside the model's, put inside it. PyTorch's newer exporter writes every model that way.

use std::borrow::Cow;
use std::path::{Component, Path};

use prost::Message;

use super::constant::{dimensions, elements, value_bytes};
use super::guard::decoded;
use super::node::shown;
use super::proto::{ModelProto, TensorProto};
use crate::error::{Error, Result};

/// A part of a file beside the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalPart<'a> {
    /// The file, by a path that starts at the model's folder and never leaves it by its names.
    pub path: &'a Path,
    /// Where the part begins.
    pub offset: u64,
    /// Its length in bytes.
    pub length: usize,
}

/// The bytes of an ONNX file with all weights inside: the same ones if nothing lies outside, else a new file's, of up to
/// `most` bytes. `read` fetches a part of a file beside the model's.
pub fn self_contained<'f>(
    file: &'f [u8],
    most: usize,
    read: impl FnMut(ExternalPart<'_>) -> Result<Vec<u8>>,
) -> Result<Cow<'f, [u8]>> {
    let mut model = decoded(file)?;
    let gathered = gather(&mut model, most.saturating_sub(file.len()), read)?;
    if !model.opset_import.is_empty() {
        // It tells nothing more, and the file that is written stays the same whether it is read or not.
        model.ir_version = 0;
    }
    Ok(if gathered == 0 { file.into() } else { model.encode_to_vec().into() })
}

/// Says for how many tensors there was something to read.
fn gather(
    model: &mut ModelProto,
    mut left: usize,
    mut read: impl FnMut(ExternalPart<'_>) -> Result<Vec<u8>>,
) -> Result<usize> {
    let mut gathered = 0;
    let Some(graph) = &mut model.graph else { return Ok(gathered) };
    let in_nodes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let tensors = graph.initializer.iter_mut().chain(in_nodes.filter_map(|attribute| attribute.t.as_mut()));
    for tensor in tensors.filter(|tensor| tensor.data_location != 0) {
        let fault = |what: String| Error::failed(format!("constant '{}': {what}", shown(&tensor.name)));
        let part = part(tensor).map_err(fault)?;
        left = left.checked_sub(part.length).ok_or_else(|| {
            Error::failed("its weights in separate files are larger than any model that is read")
        })?;
        let data = read(part)?;
        if data.len() != part.length {
            return Err(fault(format!("expected {} bytes, found {}", part.length, data.len())));
        }
        tensor.raw_data = data;
        tensor.data_location = 0;
        tensor.external_data.clear();
        gathered += 1;
    }
    Ok(gathered)
}

/// Where a tensor's values lie. Their length follows from its shape; a length that is given must be the same.
fn part(tensor: &TensorProto) -> Result<ExternalPart<'_>, String> {
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let number = |key: &str| match entry(key).map(str::parse) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(format!("its {key} in a separate file is no number")),
    };
    let path = Path::new(entry("location").ok_or("it says no file that its values lie in")?);
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        let path = shown(&path.to_string_lossy());
        return Err(format!("expected its values in the model's folder, found '{path}' outside it"));
    }
    let length = elements(&dimensions(&tensor.dims)?)
        .zip(value_bytes(tensor.data_type))
        .and_then(|(count, bytes)| count.checked_mul(bytes))
        .ok_or("its dimensions or its element type make no sense")?;
    match number("length")? {
        Some(named) if named != length as u64 => {
            Err(format!("its shape asks for {length} bytes, but {named} are in its separate file"))
        }
        _ => Ok(ExternalPart { path, offset: number("offset")?.unwrap_or(0), length }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::super::tests::chain;
    use super::*;
    use crate::model::{Graph, ModelHash};

    const MOST: usize = 1 << 20;

    /// A file whose first weights lie outside, and those.
    fn split(entries: &[(&str, &str)]) -> (Vec<u8>, Vec<u8>) {
        let mut file = chain();
        let tensor = &mut file.graph().initializer[0];
        let data = std::mem::take(&mut tensor.raw_data);
        let entry =
            |&(key, value): &(&str, &str)| StringStringEntryProto { key: key.into(), value: value.into() };
        tensor.external_data = entries.iter().map(entry).collect();
        tensor.data_location = 1;
        (file.bytes(), data)
    }

    fn message(entries: &[(&str, &str)]) -> String {
        let (file, _) = split(entries);
        let unread = |part: ExternalPart<'_>| panic!("{part:?} was read");
        self_contained(&file, MOST, unread).unwrap_err().to_string()
    }

    #[test]
    fn weights_outside_make_the_same_model() {
        let (file, data) = split(&[("location", "w/model.data"), ("offset", "64"), ("length", "108")]);
        let whole = self_contained(&file, MOST, |part| {
            let expected = ExternalPart { path: Path::new("w/model.data"), offset: 64, length: 108 };
            assert_eq!(part, expected);
            Ok(data.clone())
        });
        let whole = whole.unwrap();
        let mut same = chain();
        same.model.ir_version = 0;
        assert_eq!(ModelHash::of(&whole), ModelHash::of(&same.bytes()));
        assert!(Graph::from_onnx("test", &file).unwrap_err().to_string().contains("separate file"));
    }

    #[test]
    fn a_file_with_all_inside_stays_as_it_is() {
        let file = chain().bytes();
        let whole = self_contained(&file, MOST, |_| panic!("nothing lies outside")).unwrap();
        assert!(matches!(whole, Cow::Borrowed(_)));
    }

    #[test]
    fn places_that_make_no_sense_are_never_read() {
        for outside in ["/etc/passwd", "../weights", "a/../../b"] {
            assert!(message(&[("location", outside)]).contains("outside it"), "{outside}");
        }
        assert!(message(&[]).contains("says no file"));
        assert!(message(&[("location", "w"), ("offset", "-1")]).contains("no number"));
        assert!(message(&[("location", "w"), ("length", "107")]).contains("asks for 108 bytes, but 107"));
    }

    #[test]
    fn sizes_are_known_before_anything_is_read() {
        let (file, data) = split(&[("location", "w")]);
        let unread = |_: ExternalPart<'_>| panic!("over the limit");
        assert!(self_contained(&file, file.len() + 107, unread).unwrap_err().to_string().contains("larger"));
        let short = self_contained(&file, MOST, |_| Ok(data[1..].to_vec())).unwrap_err().to_string();
        assert!(short.contains("expected 108 bytes, found 107"), "{short}");
    }
}
