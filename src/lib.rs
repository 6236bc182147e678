//! coprof: profiles the layers of a deep neural network and the link to an edge server, and finds, runs and checks the
//! best way of splitting the network between the two. `ARCHITECTURE.md` draws the rooms.

pub mod cli;
pub mod clock;
pub mod codec;
pub mod data;
pub mod error;
pub mod measure;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod report;
pub mod runtime;
pub mod units;
