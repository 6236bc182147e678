//! The program as its users run it: commands, documents, errors, two processes.
#![expect(clippy::unwrap_used, reason = "in a test, a broken step is to end it")]

mod any_model;
mod documents;
mod errors;
mod help;
mod images;
mod peers;
mod program;
mod schemas;
mod stops;
