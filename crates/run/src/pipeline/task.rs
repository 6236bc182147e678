//! A task from outside: the frame that goes in, and the answer that comes out.

use serde::{Deserialize, Serialize};

use coprof_core::model::ExitId;
use coprof_core::units::Share;

/// Where the tasks' inputs come from.
pub trait FrameSource: Sync {
    /// How many frames there are; tasks beyond start again at the first.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes frame `index` over `into`, as the network's input.
    fn pixels(&self, index: usize, into: &mut Vec<f32>);
    /// The exit at which this frame leaves whatever the network says, where the frames are made up.
    fn forced_exit(&self, index: usize) -> Option<ExitId>;
    /// Whether these numbers are the right answer to frame `index`; `None` where nobody knows. It is asked where answers are
    /// more than classes, which are told by themselves.
    fn is_right(&self, index: usize, numbers: &[f32]) -> Option<bool> {
        let _ = (index, numbers);
        None
    }
}

/// Where a sample left and what the network says there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The exit that it left at.
    pub exit: ExitId,
    /// The most probable class; of results that are no classes, the place of the largest number.
    pub class: u32,
    /// Normalised entropy of the class probabilities.
    pub entropy: Share,
    /// The probability of `class`; 0 where there are none.
    pub top: Share,
    /// Whether the numbers that came with it are the right ones; `None` where classes are all, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<bool>,
}

impl Answer {
    /// The same, with whether the numbers that came with it are the right ones for a frame.
    #[must_use]
    pub(super) fn judged(self, frames: &dyn FrameSource, frame: usize, numbers: &[f32]) -> Self {
        let right = if numbers.is_empty() { None } else { frames.is_right(frame, numbers) };
        Self { right, ..self }
    }
}
