//! What the frames carry: control messages as JSON, tasks and answers in binary.

mod answer;
mod greeting;
mod model;
mod profile;
mod refusal;
mod run;
mod stream;
mod task;
mod turn;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{FrameKind, MAGIC};
use coprof_core::error::{Error, Result};

pub(super) use answer::AnswerFrame;
pub use answer::answer_bytes;
pub(super) use greeting::{Hello, Welcome};
pub(super) use model::ModelOffer;
pub(super) use profile::Progress;
pub use profile::{CodecTimes, NodeProfile, ProfileRequest};
pub(super) use refusal::{Busy, Failed, Refused};
pub(super) use run::RunRequest;
pub use stream::StreamReport;
pub(super) use stream::{StreamDown, StreamRequest, StreamUp};
pub(super) use task::TaskHead;
pub(super) use turn::Waiting;

/// A message in JSON, which is all that frames of its kind carry.
pub(super) trait Message: Serialize + DeserializeOwned {
    const KIND: FrameKind;

    /// What stands before the JSON.
    const PREFIX: &[u8] = &[];

    /// The message of a frame of this kind, with nothing behind it.
    fn parse(payload: &[u8]) -> Result<Self> {
        let json = payload.strip_prefix(Self::PREFIX).ok_or_else(|| {
            Error::peer("expected coprof's greeting, found something else; is the peer coprof?")
        })?;
        serde_json::from_slice(json).map_err(|error| {
            Error::peer(format!("a message from the peer cannot be read ({error}); update both sides"))
        })
    }
}

/// Which kind of frame carries which message, and behind what.
macro_rules! messages {
    ($($message:ty => $kind:ident $(behind $prefix:expr)?),+ $(,)?) => {$(
        impl Message for $message {
            const KIND: FrameKind = FrameKind::$kind;
            $(const PREFIX: &[u8] = $prefix;)?
        }
    )+};
}

messages! {
    Hello => Hello behind &MAGIC,
    Welcome => Welcome behind &MAGIC,
    Refused => Refused,
    Busy => Busy,
    Failed => Failed,
    Waiting => Waiting,
    StreamUp => StreamUp,
    StreamDown => StreamDown,
    StreamReport => StreamReport,
    ModelOffer => OfferModel,
    ProfileRequest => Profile,
    Progress => Progress,
    NodeProfile => Profiled,
    RunRequest => Run,
}

/// A peer's text, safe for a terminal and a log: short and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Takes fixed-size fields off the front.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (TaskHead::parse(&bytes), AnswerFrame::read(&bytes, &mut Vec::new()), Hello::parse(&bytes));
        }
    }

    #[test]
    fn nothing_may_follow_a_message() {
        assert!(Refused::parse(br#"{"message":"no"}"#).is_ok());
        assert!(Refused::parse(br#"{"message":"no"}x"#).is_err());
    }

    #[test]
    fn a_peers_text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
