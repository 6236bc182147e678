//! Tasks: a head in binary, then the encoded frontier.

use super::super::wire::TASK_HEAD_BYTES;
use super::Fields;
use coprof_core::error::{Error, Result};
use coprof_core::model::ExitId;

/// In front of a task's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct TaskHead {
    pub seq: u32,
    pub forced_exit: Option<ExitId>,
}

impl TaskHead {
    const FREE: u16 = u16::MAX;

    pub fn to_bytes(self) -> [u8; TASK_HEAD_BYTES] {
        let forced = self.forced_exit.map_or(Self::FREE, |exit| exit.0 as u16);
        let mut bytes = [0; TASK_HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.seq.to_le_bytes());
        bytes[4..].copy_from_slice(&forced.to_le_bytes());
        bytes
    }

    /// The head of a task frame; its payload is what follows [`TASK_HEAD_BYTES`].
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let mut fields = Fields(frame);
        let (seq, forced) = (fields.take().map(u32::from_le_bytes), fields.take().map(u16::from_le_bytes));
        match (seq, forced) {
            (Some(seq), Some(forced)) => {
                Ok(Self { seq, forced_exit: (forced != Self::FREE).then_some(ExitId(forced.into())) })
            }
            _ => Err(Error::peer(format!(
                "a task frame has at least {TASK_HEAD_BYTES} bytes, found {}",
                frame.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn task_heads_survive_the_trip(seq: u32, forced in prop::option::of(0usize..1000), tail: Vec<u8>) {
            let head = TaskHead { seq, forced_exit: forced.map(ExitId) };
            let mut frame = head.to_bytes().to_vec();
            frame.extend(tail);
            prop_assert_eq!(TaskHead::parse(&frame).unwrap(), head);
        }
    }
}
