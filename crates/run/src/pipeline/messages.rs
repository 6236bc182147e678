//! What the frames carry: control messages as JSON, tasks and answers in binary.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::task::Answer;
use super::wire::{MAGIC, PROTOCOL, TASK_HEAD_BYTES};
use coprof_core::error::{Error, Result};
use coprof_core::model::{ExitId, ModelHash};
use coprof_core::plan::Plan;
use coprof_core::units::{Micros, Share};

/// The client's greeting.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub protocol: u32,
    /// coprof's version, for messages.
    pub coprof: String,
}

/// The server's greeting.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub protocol: u32,
    /// coprof's version, for messages.
    pub coprof: String,
    /// Facts about the host, as its commands report them.
    pub host: serde_json::Value,
}

/// Why a peer was refused or a request failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub message: String,
}

/// The model that the next requests are about.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ModelOffer {
    pub name: String,
    pub hash: ModelHash,
    /// The file's size.
    pub bytes: usize,
}

/// A stream of filler frames.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct StreamRequest {
    pub frames: usize,
    /// Payload of each.
    pub payload_bytes: usize,
}

/// What the receiver of a stream saw between the end of its first frame and the end of its last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Bytes of the frames after the first, headers included.
    pub bytes: u64,
    /// How many frames after the first.
    pub frames: u64,
    /// The time that they took.
    pub span_us: Micros,
}

/// How far a measurement is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Progress {
    pub share: f64,
}

/// What stands between a client and its turn.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// How many come before it, the one that measures included.
    pub before: usize,
}

/// Asks node `node` of `plan` to take tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunRequest {
    pub plan: Plan,
    pub node: usize,
    /// The most tasks that the client will have under way.
    pub in_flight: usize,
}

impl Hello {
    pub fn ours() -> Self {
        Self { protocol: PROTOCOL, coprof: env!("CARGO_PKG_VERSION").into() }
    }

    /// Whether the two versions can talk; else the message for both sides.
    pub fn check(protocol: u32, coprof: &str) -> Result<()> {
        if protocol == PROTOCOL {
            return Ok(());
        }
        let ours = env!("CARGO_PKG_VERSION");
        Err(Error::peer(format!(
            "one side speaks protocol {PROTOCOL} (coprof {ours}), the other protocol {protocol} (coprof {}); install \
             the same coprof on both",
            printable(coprof)
        )))
    }
}

/// The JSON behind the magic of a greeting.
pub(super) fn parse_greeting<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    match payload.strip_prefix(&MAGIC) {
        Some(json) => parse(json),
        None => Err(Error::peer("expected coprof's greeting, found something else; is the peer coprof?")),
    }
}

/// A JSON message and nothing behind it.
pub(super) fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload).map_err(|error| {
        Error::peer(format!("a message from the peer cannot be read ({error}); update both sides"))
    })
}

/// A peer's text, safe for a terminal and a log: short and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// In front of a task's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskHead {
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

/// What the edge says about one task. Times count from the start of its side of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AnswerFrame {
    pub seq: u32,
    pub answer: Answer,
    /// Others had the worker's core meanwhile.
    pub disturbed: bool,
    /// The task's frame was read.
    pub arrived: Duration,
    /// A worker took it.
    pub started: Duration,
    /// The answer was known.
    pub finished: Duration,
}

/// Bytes of an answer, without the frame header.
pub const ANSWER_BYTES: usize = 51;

impl AnswerFrame {
    pub const BYTES: usize = ANSWER_BYTES;

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.seq.to_le_bytes());
        put(&(self.answer.exit.0 as u16).to_le_bytes());
        put(&self.answer.class.to_le_bytes());
        put(&self.answer.entropy.0.to_le_bytes());
        put(&self.answer.top.0.to_le_bytes());
        put(&[u8::from(self.disturbed)]);
        for time in [self.arrived, self.started, self.finished] {
            put(&(time.as_nanos() as u64).to_le_bytes());
        }
        bytes
    }

    pub fn parse(frame: &[u8]) -> Result<Self> {
        Self::fields(frame).ok_or_else(|| {
            Error::peer(format!(
                "an answer has {} bytes and sane values, found {} bytes",
                Self::BYTES,
                frame.len()
            ))
        })
    }

    fn fields(frame: &[u8]) -> Option<Self> {
        if frame.len() != Self::BYTES {
            return None;
        }
        let mut fields = Fields(frame);
        let seq = u32::from_le_bytes(fields.take()?);
        let exit = ExitId(u16::from_le_bytes(fields.take()?).into());
        let class = u32::from_le_bytes(fields.take()?);
        let mut share =
            || Some(f64::from_le_bytes(fields.take()?)).filter(|share| (0.0..=1.0).contains(share));
        let (entropy, top) = (Share(share()?), Share(share()?));
        let [disturbed] = fields.take()?;
        let mut time = || Some(Duration::from_nanos(u64::from_le_bytes(fields.take()?)));
        let (arrived, started, finished) = (time()?, time()?, time()?);
        let answer = Answer { exit, class, entropy, top };
        Some(Self { seq, answer, disturbed: disturbed != 0, arrived, started, finished })
    }
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
        fn task_heads_survive_the_trip(seq: u32, forced in prop::option::of(0usize..1000), tail: Vec<u8>) {
            let head = TaskHead { seq, forced_exit: forced.map(ExitId) };
            let mut frame = head.to_bytes().to_vec();
            frame.extend(tail);
            prop_assert_eq!(TaskHead::parse(&frame).unwrap(), head);
        }

        #[test]
        fn answers_survive_the_trip(
            seq: u32, exit in 0usize..1000, class in 0u32..60_000, shares in [0.0..=1.0, 0.0..=1.0],
            disturbed: bool, times: [u32; 3],
        ) {
            let answer = Answer { exit: ExitId(exit), class, entropy: Share(shares[0]), top: Share(shares[1]) };
            let [arrived, started, finished] = times.map(|ns| Duration::from_nanos(ns.into()));
            let frame = AnswerFrame { seq, answer, disturbed, arrived, started, finished };
            prop_assert_eq!(AnswerFrame::parse(&frame.to_bytes()).unwrap(), frame);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (TaskHead::parse(&bytes), AnswerFrame::parse(&bytes), parse_greeting::<Hello>(&bytes));
        }
    }

    #[test]
    fn nothing_may_follow_a_message() {
        assert!(parse::<Refusal>(br#"{"message":"no"}"#).is_ok());
        assert!(parse::<Refusal>(br#"{"message":"no"}x"#).is_err());
    }

    #[test]
    fn a_peers_text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
