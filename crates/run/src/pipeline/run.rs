//! One run of a plan: how it is to go, and what its threads share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use super::pace::Pace;
use super::task::FrameSource;
use coprof_core::clock::{Clock, SystemClock};
use coprof_core::error::Error;

/// How to replay.
#[derive(Clone, Copy)]
pub struct ReplayOptions<'a> {
    /// How many tasks.
    pub tasks: usize,
    /// The frame of the first one; the next ones follow.
    pub first_frame: usize,
    /// The most tasks between start and answer at a time. With 1, latencies are those of an unloaded pipeline.
    pub in_flight: usize,
    /// Before each task the device waits so long, once it has room for it.
    pub pause: Duration,
    /// How slow the device is.
    pub pace: Pace,
    /// Tells what the computing thread did itself, where that says how busy it was.
    pub clock: &'a dyn Clock,
    /// Called on the thread that computes, before it does.
    pub pin: Option<&'a (dyn Fn() + Sync)>,
    /// Set by SIGINT: the run ends.
    pub stop: &'a AtomicBool,
}

/// What the threads of a run share.
pub(super) struct Run<'a> {
    pub clock: SystemClock,
    pub connection: Option<&'a Connection>,
    pub frames: &'a dyn FrameSource,
    /// The frame of the first task.
    pub first_frame: usize,
    /// How many numbers an answer has that is more than a class.
    pub numbers: usize,
    pub stop: &'a AtomicBool,
    pub over: AtomicBool,
    /// The first thing that went wrong; what follows from it is not told.
    pub error: Mutex<Option<Error>>,
    pub answered: AtomicUsize,
}

impl Run<'_> {
    /// Ends the run for all threads.
    pub fn fail(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.over.store(true, Ordering::Relaxed);
        if let Some(connection) = self.connection {
            connection.close();
        }
    }

    /// The frame of a task.
    pub fn frame(&self, seq: usize) -> usize {
        (self.first_frame + seq) % self.frames.len()
    }

    /// Whether to go on; a stop fails the run.
    pub fn goes_on(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            self.fail(Error::interrupted());
        }
        !self.over.load(Ordering::Relaxed)
    }
}
