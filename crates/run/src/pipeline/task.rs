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
}

/// Where a sample left and what the network says there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The exit that it left at.
    pub exit: ExitId,
    /// The most probable class.
    pub class: u32,
    /// Normalised entropy of the class probabilities.
    pub entropy: Share,
    /// The probability of `class`.
    pub top: Share,
}
