//! Runs plans end to end over TCP: the wire format, the edge (server), the device (client and replay), the emulated link and
//! slow node, and the trace of what happened. Plain threads and blocking sockets; knows no command line and no tables.

mod client;
mod connection;
mod device;
mod door;
mod edge;
mod key;
mod messages;
mod noise;
mod pace;
mod relay;
mod replay;
mod run;
mod serve;
mod services;
mod session;
mod shape;
mod stage_runner;
mod task;
#[cfg(test)]
mod tests;
mod trace;
mod transport;
mod turns;
mod wire;

pub use client::{ClockMap, ConnectOptions, Peer, StreamReport};
pub use connection::Deadlines;
pub use key::{Grant, Key, KeyRing};
pub use messages::{CodecTimes, NodeProfile, ProfileRequest, answer_bytes};
pub use pace::Pace;
pub use relay::Relay;
pub use replay::replay;
pub use run::ReplayOptions;
pub use serve::{MAX_SESSIONS, OnEvent, ServeOptions, Server};
pub use services::{MAX_MODEL_BYTES, Services};
pub use shape::{LinkShape, Shaper};
pub use stage_runner::{Outcome, StageInput, StageRunner, run_in_process};
pub use task::{Answer, FrameSource};
pub use trace::{Crossed, TaskTrace, Trace};
pub use wire::{PROTOCOL, frame_bytes, task_bytes};
