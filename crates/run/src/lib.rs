//! What coprof measures and runs, whatever runs the layers: images and records, profiles of nodes and links, the pipeline
//! over TCP. `ARCHITECTURE.md` draws the rooms.

pub mod backend;
pub mod data;
pub mod measure;
pub mod pipeline;
