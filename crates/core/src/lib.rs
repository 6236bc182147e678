//! What coprof knows without measuring or running anything: graphs of layers, the encodings that their tensors cross in, and
//! the planner. `ARCHITECTURE.md` draws the rooms.

pub mod clock;
pub mod codec;
pub mod error;
pub mod model;
pub mod plan;
pub mod units;
