//! Looks through a file before it is decoded. An empty message costs two bytes in the file and a hundred times that in
//! memory, so that their number is capped first. Everything else in a file grows little when decoded.

use prost::Message;

use super::foreign::foreign;
use super::proto::ModelProto;
use crate::error::Result;

/// Enough for the nodes of any network, their attributes and notes.
const MAX_MESSAGES: usize = 1 << 18;

/// Messages that hold other messages which the reader decodes.
#[derive(Clone, Copy)]
enum Level {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    Leaf,
}

impl Level {
    /// What lies in a field; `None` where it is no message, or one that is skipped.
    fn inside(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5) => Some(Self::Tensor),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Model, 8 | 14)
            | (Self::Graph, 11 | 12)
            | (Self::Function, 9)
            | (Self::Node, 9)
            | (Self::Tensor, 13) => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// The model in a file's bytes.
pub fn decoded(file: &[u8]) -> Result<ModelProto> {
    check(file).map_err(|what| foreign(file, what))?;
    ModelProto::decode(file).map_err(|error| foreign(file, error))
}

/// Errors if the file's outer structure is broken or it holds too many messages.
fn check(file: &[u8]) -> Result<(), String> {
    let mut left = MAX_MESSAGES;
    walk(Level::Model, file, &mut left)
}

fn walk(level: Level, mut bytes: &[u8], left: &mut usize) -> Result<(), String> {
    const BROKEN: &str = "they break off or are no protobuf";
    while !bytes.is_empty() {
        let key = varint(&mut bytes).ok_or(BROKEN)?;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes).ok_or(BROKEN)?;
                0
            }
            1 => 8,
            2 => varint(&mut bytes).and_then(|length| usize::try_from(length).ok()).ok_or(BROKEN)?,
            // Groups are written out between two keys; nothing known lies in them.
            3 | 4 => 0,
            5 => 4,
            _ => return Err(BROKEN.into()),
        };
        let (content, rest) = bytes.split_at_checked(length).ok_or(BROKEN)?;
        bytes = rest;
        if let (2, Some(inner)) = (key & 7, level.inside(key >> 3)) {
            *left = left.checked_sub(1).ok_or_else(|| format!("they hold over {MAX_MESSAGES} messages"))?;
            walk(inner, content, left)?;
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::chain;
    use super::*;

    #[test]
    fn a_sound_file_passes_and_a_short_one_does_not() {
        let bytes = chain().bytes();
        check(&bytes).unwrap();
        assert!(check(&bytes[..bytes.len() - 1]).is_err());
        assert!(check(&[0x0f]).is_err(), "wire type 7 does not exist");
        assert!(check(&[0x80; 20]).is_err(), "an endless number");
    }

    #[test]
    fn many_empty_nodes_are_refused() {
        // A graph (field 7) of empty nodes (field 1, length 0).
        let nodes = [0x0a, 0x00].repeat(MAX_MESSAGES + 1);
        let mut file = vec![0x3a];
        prost::encode_length_delimiter(nodes.len(), &mut file).unwrap();
        file.extend(nodes);
        assert!(check(&file).unwrap_err().contains("messages"));
    }
}
