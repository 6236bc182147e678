//! coprof: profiles the layers of a deep neural network and the link to an edge server, and finds, runs and checks the
//! best way of splitting the network between the two. `ARCHITECTURE.md` draws the rooms.

pub mod cli;
pub mod report;
pub mod runtime;
pub mod study;
