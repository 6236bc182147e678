//! The program as its users run it: commands, documents, errors, two processes.
#![expect(clippy::unwrap_used, reason = "in a test, a broken step is to end it")]
#![cfg_attr(not(feature = "torch"), expect(dead_code, reason = "most of it is for tests that run layers"))]

#[cfg(feature = "torch")]
mod any_model;
#[cfg(feature = "torch")]
mod documents;
#[cfg(feature = "torch")]
mod errors;
#[cfg(feature = "torch")]
mod help;
#[cfg(feature = "torch")]
mod images;
mod keys;
#[cfg(feature = "torch")]
mod peers;
mod program;
#[cfg(feature = "torch")]
mod schemas;
#[cfg(feature = "torch")]
mod stops;
#[cfg(not(feature = "torch"))]
mod without_libtorch;
