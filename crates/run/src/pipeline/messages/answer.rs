//! Answers, in binary.

use std::time::Duration;

use super::super::task::Answer;
use super::Fields;
use coprof_core::error::{Error, Result};
use coprof_core::model::ExitId;
use coprof_core::units::Share;

/// What the edge says about one task. Times count from the start of its side of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct AnswerFrame {
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

/// Bytes of an answer of so many numbers, without the frame header.
pub const fn answer_bytes(numbers: usize) -> usize {
    AnswerFrame::BYTES + 4 * numbers
}

impl AnswerFrame {
    const BYTES: usize = 51;

    /// Overwrites `payload` with the answer and the numbers that it is made of, little-endian, where it is more than a class.
    pub fn write(self, numbers: &[f32], payload: &mut Vec<u8>) {
        payload.clear();
        payload.extend(self.to_bytes());
        for number in numbers {
            payload.extend(number.to_le_bytes());
        }
    }

    /// An answer and its numbers, which replace what `numbers` held.
    pub fn read(frame: &[u8], numbers: &mut Vec<f32>) -> Result<Self> {
        let (head, rest) = frame.split_at(Self::BYTES.min(frame.len()));
        let (each, left) = rest.as_chunks::<4>();
        numbers.clear();
        numbers.extend(each.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        if left.is_empty() { Self::parse(head) } else { Self::parse(frame) }
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
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
        let answer = Answer { exit, class, entropy, top, right: None };
        Some(Self { seq, answer, disturbed: disturbed != 0, arrived, started, finished })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_survive_the_trip(
            seq: u32, exit in 0usize..1000, class in 0u32..60_000, shares in [0.0..=1.0, 0.0..=1.0],
            disturbed: bool, times: [u32; 3], numbers in prop::collection::vec(-1e9f32..1e9, 0..5),
        ) {
            let answer = Answer {
                exit: ExitId(exit), class, entropy: Share(shares[0]), top: Share(shares[1]), right: None
            };
            let [arrived, started, finished] = times.map(|ns| Duration::from_nanos(ns.into()));
            let frame = AnswerFrame { seq, answer, disturbed, arrived, started, finished };
            let (mut payload, mut found) = (vec![9; 3], vec![7.0]);
            frame.write(&numbers, &mut payload);
            prop_assert_eq!(payload.len(), answer_bytes(numbers.len()));
            prop_assert_eq!(AnswerFrame::read(&payload, &mut found).unwrap(), frame);
            prop_assert_eq!(&found, &numbers);
            payload.pop();
            prop_assert!(AnswerFrame::read(&payload, &mut found).is_err());
        }
    }
}
