//! The device's side of a run: one thread computes, one sends, one receives, so that device, link and edge overlap.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::client::{ClockMap, Peer, unexpected};
use super::connection::Connection;
use super::device::{DeviceWorker, Fate, Outgoing, Started};
use super::messages::{AnswerFrame, RunRequest, answer_bytes};
use super::run::{ReplayOptions, Run};
use super::stage_runner::StageRunner;
use super::task::FrameSource;
use super::trace::{Crossed, TaskTrace, Trace};
use super::wire::FrameKind;
use crate::backend::Backend;
use coprof_core::clock::{Clock, SystemClock};
use coprof_core::error::{Error, Kind, Remedy, Result};
use coprof_core::plan::{NodeRoute, Plan, Route};
use coprof_core::units::Micros;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Without a task to send for so long, the sender asks whether the edge is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Runs `options.tasks` tasks through `plan`, of which `route` is the resolved form: node 0 here on `local`, node 1 at
/// `peer`, which must have been offered the model. A plan under which nothing crosses the link needs no peer. `progress` is
/// told, some times per second, how many tasks have been answered.
pub fn replay(
    peer: Option<&mut Peer>,
    local: &mut dyn Backend,
    route: &Route,
    plan: &Plan,
    frames: &dyn FrameSource,
    options: &ReplayOptions<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<Trace> {
    let clock = SystemClock::default();
    let first = check(route, frames, options)?;
    let runner = StageRunner::new(local.graph(), first)?;
    let link = match (&first.send, peer) {
        (None, _) => None,
        (Some(_), None) => return Err(Error::usage("this plan crosses the link").with(Remedy::NameEdge)),
        (Some(_), Some(peer)) => {
            let request = RunRequest { plan: plan.clone(), node: 1, in_flight: options.in_flight };
            peer.take_turn(&mut |_| ())?;
            let map = peer.map_clock(&clock)?;
            peer.start_run(&request)?;
            Some((&peer.connection, map, peer.addr()))
        }
    };
    let run = Run {
        clock,
        connection: link.map(|(connection, ..)| connection),
        frames,
        first_frame: options.first_frame,
        numbers: local.graph().answer_numbers(),
        stop: options.stop,
        over: AtomicBool::new(false),
        error: Mutex::new(None),
        answered: AtomicUsize::new(0),
    };
    let device = DeviceWorker { runner, backend: local, options, run: &run };
    let log = run.threads(device, options, progress);
    if let Some(error) = run.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(match link {
            Some((_, _, address)) if error.kind() == Kind::Peer => error.within(address),
            _ => error,
        });
    }
    let map = link.map(|(_, map, _)| map);
    log.merge(map, options)
}

fn check<'a>(
    route: &'a Route,
    frames: &dyn FrameSource,
    options: &ReplayOptions<'_>,
) -> Result<&'a NodeRoute> {
    if options.tasks == 0 || options.in_flight == 0 || u32::try_from(options.tasks).is_err() {
        let (tasks, in_flight) = (options.tasks, options.in_flight);
        return Err(Error::usage(format!(
            "a run has 1 to {} tasks and at least one in flight, found {tasks} and {in_flight}",
            u32::MAX
        )));
    }
    if frames.is_empty() {
        return Err(Error::failed("a run needs at least one frame"));
    }
    let crossed = route.nodes.iter().filter(|node| node.send.is_some()).count();
    match route.nodes.first() {
        Some(first) if crossed <= 1 => Ok(first),
        _ => Err(Error::failed("only plans for a device and one edge can be replayed so far")),
    }
}

/// What the threads found, each in the order of its tasks.
#[derive(Default)]
struct RunLog {
    started: Vec<Started>,
    sent: Vec<(u32, Duration)>,
    answers: Vec<(AnswerFrame, Duration)>,
}

impl Run<'_> {
    fn threads(
        &self,
        device: DeviceWorker<'_>,
        options: &ReplayOptions<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> RunLog {
        // In-flight tasks bound every queue, so nothing here blocks but the link.
        let (outbox, to_send) = sync_channel(options.in_flight);
        let (give_back, buffers) = channel();
        let (answer, answers) = channel();
        let (alive, all_ended) = channel::<()>();
        std::thread::scope(|scope| {
            let device_alive = alive.clone();
            let computing = scope.spawn(move || {
                let _alive = device_alive;
                device.work(&outbox, &buffers, &answers)
            });
            let talking = self.connection.map(|connection| {
                let sending = scope.spawn(move || self.send(connection, &to_send, &give_back));
                let receiving = scope.spawn(move || {
                    let _alive = alive;
                    self.receive(connection, &answer, options.tasks)
                });
                (sending, receiving)
            });
            // Without an edge the other ends are gone by now, and only the device keeps this going.
            while all_ended.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                progress(self.answered.load(Ordering::Relaxed));
            }
            let started = self.join(computing);
            let (sent, answers) = talking.map_or_else(Default::default, |(sending, receiving)| {
                let answers = self.join(receiving);
                (self.join(sending), answers)
            });
            progress(self.answered.load(Ordering::Relaxed));
            RunLog { started, sent, answers }
        })
    }

    fn join<T: Default>(&self, thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
        thread.join().unwrap_or_else(|_| {
            self.fail(Error::failed("a thread of the run panicked"));
            T::default()
        })
    }

    /// The sending thread: from the device's outbox to the socket, until the device is done.
    fn send(
        &self,
        connection: &Connection,
        outbox: &Receiver<Outgoing>,
        give_back: &Sender<Vec<u8>>,
    ) -> Vec<(u32, Duration)> {
        let mut sent = Vec::new();
        loop {
            let written = match outbox.recv_timeout(KEEP_ALIVE) {
                Ok(Outgoing { head, payload }) => {
                    sent.push((head.seq, self.clock.now()));
                    let written = connection.send(FrameKind::Task, &head.to_bytes(), &payload);
                    // The device may have ended before.
                    let _ = give_back.send(payload);
                    written
                }
                Err(RecvTimeoutError::Timeout) => connection.send(FrameKind::Ping, &8u32.to_le_bytes(), &[]),
                Err(RecvTimeoutError::Disconnected) => {
                    // If the connection is gone, the receiver says so.
                    let _ = connection.send(FrameKind::Done, &[], &[]);
                    return sent;
                }
            };
            if written.is_err() {
                // The receiver finds the edge's reason, or that it is silent.
                return sent;
            }
        }
    }

    /// The receiving thread: answers until the edge is done.
    fn receive(
        &self,
        connection: &Connection,
        answer: &Sender<()>,
        tasks: usize,
    ) -> Vec<(AnswerFrame, Duration)> {
        let mut answers = Vec::with_capacity(tasks);
        if let Err(error) = self.take_answers(connection, answer, &mut answers) {
            self.fail(error);
        }
        answers
    }

    fn take_answers(
        &self,
        connection: &Connection,
        answer: &Sender<()>,
        answers: &mut Vec<(AnswerFrame, Duration)>,
    ) -> Result<()> {
        let (mut payload, mut numbers) = (Vec::new(), Vec::new());
        let stop = || !self.goes_on();
        loop {
            match connection.receive(answer_bytes(self.numbers), &stop, &mut payload)? {
                Some(FrameKind::Answer) if answers.len() < answers.capacity() => {
                    let known = self.clock.now();
                    let mut found = AnswerFrame::read(&payload, &mut numbers)?;
                    if numbers.len() != self.numbers {
                        return Err(Error::peer(format!(
                            "an answer of {} numbers was expected, found {}; update both sides",
                            self.numbers,
                            numbers.len()
                        )));
                    }
                    found.answer = found.answer.judged(self.frames, self.frame(found.seq as usize), &numbers);
                    answers.push((found, known));
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    // The device may have ended before.
                    let _ = answer.send(());
                }
                Some(FrameKind::Pong) => {}
                Some(FrameKind::Done) => return Ok(()),
                other => return Err(unexpected(other, &payload)),
            }
        }
    }
}

impl RunLog {
    /// Puts each task's parts together. The link and the edge keep the order, so the parts pair off.
    fn merge(self, map: Option<ClockMap>, options: &ReplayOptions<'_>) -> Result<Trace> {
        let offset = map.map_or(Micros::ZERO, |map| map.offset);
        let (mut sent, mut answers) = (self.sent.into_iter(), self.answers.into_iter());
        let mut tasks = Vec::with_capacity(self.started.len());
        for Started { seq, frame, started, computed, mut disturbed, fate } in self.started {
            let (answer, crossed, finished) = match fate {
                Fate::Left(answer) => (answer, None, computed),
                Fate::Forwarded { encoded, payload_bytes } => {
                    let (Some((_, sent)), Some((found, answered))) =
                        (sent.next(), answers.next().filter(|(found, _)| found.seq == seq))
                    else {
                        return Err(Error::peer(format!(
                            "the edge gave no answer to task {seq}; update both sides"
                        )));
                    };
                    disturbed |= found.disturbed;
                    let there = |time: Duration| Micros::from(time) + offset;
                    let crossed = Crossed {
                        encoded_us: encoded.into(),
                        sent_us: sent.into(),
                        arrived_us: there(found.arrived),
                        edge_started_us: there(found.started),
                        edge_finished_us: there(found.finished),
                        payload_bytes,
                    };
                    (found.answer, Some(crossed), answered)
                }
            };
            let [started_us, computed_us, finished_us] = [started, computed, finished].map(Micros::from);
            tasks.push(TaskTrace {
                seq,
                frame,
                answer,
                disturbed,
                started_us,
                computed_us,
                crossed,
                finished_us,
            });
        }
        if tasks.len() < options.tasks {
            return Err(Error::peer(
                "the edge ended the run before its last task; look at what it says there",
            ));
        }
        let one_way_us = map.map_or(Micros::ZERO, |map| map.round_trip * 0.5);
        Ok(Trace::of_run(tasks, options.in_flight, one_way_us))
    }
}
