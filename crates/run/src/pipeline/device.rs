//! The computing thread of a run: node 0 of the plan, task by task.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use super::messages::TaskHead;
use super::run::{ReplayOptions, Run};
use super::stage_runner::{Outcome, StageInput, StageRunner};
use super::task::Answer;
use crate::backend::Backend;
use coprof_core::clock::Clock;
use coprof_core::error::Result;

/// How often a waiting device looks whether the run is over.
const POLL: Duration = Duration::from_millis(50);

/// The device's part of a task.
pub(super) struct Started {
    pub seq: u32,
    pub frame: usize,
    pub started: Duration,
    pub computed: Duration,
    /// Others had the core while it was worked on.
    pub disturbed: bool,
    pub fate: Fate,
}

pub(super) enum Fate {
    Left(Answer),
    Forwarded { encoded: Duration, payload_bytes: u64 },
}

/// A task on its way to the sender.
pub(super) struct Outgoing {
    pub head: TaskHead,
    pub payload: Vec<u8>,
}

/// The computing thread.
pub(super) struct DeviceWorker<'a> {
    pub runner: StageRunner,
    pub backend: &'a mut dyn Backend,
    pub options: &'a ReplayOptions<'a>,
    pub run: &'a Run<'a>,
}

impl DeviceWorker<'_> {
    /// All tasks, or those before the run failed.
    pub fn work(
        mut self,
        outbox: &SyncSender<Outgoing>,
        buffers: &Receiver<Vec<u8>>,
        answers: &Receiver<()>,
    ) -> Vec<Started> {
        if let Some(pin) = self.options.pin {
            pin();
        }
        let mut started = Vec::with_capacity(self.options.tasks);
        let (mut unanswered, mut pixels) = (0, Vec::new());
        for seq in 0..self.options.tasks {
            if !self.wait_for_room(&mut unanswered, answers) {
                break;
            }
            let frame = self.run.frame(seq);
            self.run.frames.pixels(frame, &mut pixels);
            if !self.options.pause.is_zero() {
                self.run.clock.sleep_until(self.run.clock.now() + self.options.pause);
            }
            let payload = buffers.try_recv().unwrap_or_default();
            match self.task(seq as u32, frame, &pixels, payload) {
                Ok((task, outgoing)) => {
                    started.push(task);
                    match outgoing.map(|outgoing| outbox.send(outgoing)) {
                        None => _ = self.run.answered.fetch_add(1, Ordering::Relaxed),
                        Some(Ok(())) => unanswered += 1,
                        // The sender has ended; the receiver says why.
                        Some(Err(_)) => break,
                    }
                }
                Err(error) => {
                    self.run.fail(error);
                    break;
                }
            }
        }
        started
    }

    /// Waits until another task may start; false when the run is over.
    fn wait_for_room(&self, unanswered: &mut usize, answers: &Receiver<()>) -> bool {
        while self.run.goes_on() {
            match answers.try_recv() {
                Ok(()) => *unanswered = unanswered.saturating_sub(1),
                Err(TryRecvError::Empty | TryRecvError::Disconnected)
                    if *unanswered < self.options.in_flight =>
                {
                    return true;
                }
                // The receiver has ended before the last answer, and says why.
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => {
                    if answers.recv_timeout(POLL).is_ok() {
                        *unanswered = unanswered.saturating_sub(1);
                    }
                }
            }
        }
        false
    }

    fn task(
        &mut self,
        seq: u32,
        frame: usize,
        pixels: &[f32],
        mut payload: Vec<u8>,
    ) -> Result<(Started, Option<Outgoing>)> {
        let (clock, own, pace) = (&self.run.clock, self.options.clock, self.options.pace);
        let forced_exit = self.run.frames.forced_exit(frame);
        let (runner, backend) = (&mut self.runner, &mut *self.backend);
        let started = clock.now();
        let (outcome, time) =
            pace.stretch(own, || runner.compute(backend, StageInput::Pixels(pixels), forced_exit))?;
        let computed = clock.now();
        let mut disturbed = time.is_disturbed();
        let (fate, outgoing) = match outcome {
            Outcome::Left(answer) => {
                (Fate::Left(answer.judged(self.run.frames, frame, runner.numbers())), None)
            }
            Outcome::Forward => {
                let ((), time) = pace.stretch(own, || runner.encode(backend, &mut payload))?;
                disturbed |= time.is_disturbed();
                let (encoded, payload_bytes) = (clock.now(), payload.len() as u64);
                let head = TaskHead { seq, forced_exit };
                (Fate::Forwarded { encoded, payload_bytes }, Some(Outgoing { head, payload }))
            }
        };
        Ok((Started { seq, frame, started, computed, disturbed, fate }, outgoing))
    }
}
