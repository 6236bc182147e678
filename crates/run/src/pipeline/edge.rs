//! The edge's side of a run: one thread reads tasks, another computes and answers, so that both overlap.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use super::connection::Connection;
use super::messages::{AnswerFrame, RunRequest, TaskHead};
use super::services::Services;
use super::stage_runner::{Outcome, StageInput, StageRunner};
use super::turns::Limit;
use super::wire::{FrameKind, TASK_HEAD_BYTES};
use crate::backend::Backend;
use coprof_core::clock::{Clock, Lap, SystemClock};
use coprof_core::error::{Error, Result};
use coprof_core::plan::Route;

/// The longest payload of a task.
const MAX_PAYLOAD_BYTES: usize = 256 << 20;

/// Memory for tasks that wait. Reading on while the worker is busy keeps the link's time apart from the edge's.
const WAITING_BYTES: usize = 64 << 20;

/// Tasks that wait, if they are small.
const MAX_WAITING: usize = 64;

/// What the reader hands to the worker.
enum Work {
    Task {
        head: TaskHead,
        /// The whole frame, head included.
        frame: Vec<u8>,
        arrived: Duration,
    },
    /// The client asks whether we are alive.
    Pong,
}

/// One run of one node's part of a plan.
pub(super) struct Part<'a> {
    connection: &'a Connection,
    clock: &'a SystemClock,
    services: &'a dyn Services,
    limit: Limit<'a>,
    /// The worker failed: the reader need not go on.
    failed: AtomicBool,
}

impl<'a> Part<'a> {
    pub fn new(
        connection: &'a Connection,
        clock: &'a SystemClock,
        services: &'a dyn Services,
        limit: Limit<'a>,
    ) -> Self {
        Self { connection, clock, services, limit, failed: AtomicBool::new(false) }
    }

    /// Answers tasks until the client is done.
    pub fn run(&self, backend: &mut dyn Backend, request: &RunRequest) -> Result<()> {
        let mut runner = stage_runner(backend, request)?;
        let frame_cap = TASK_HEAD_BYTES + runner.max_payload_bytes();
        let waiting = (WAITING_BYTES / frame_cap).clamp(4, MAX_WAITING).min(request.in_flight.max(1));
        let (to_worker, work) = sync_channel(waiting);
        let (give_back, free) = channel();
        self.connection.send(FrameKind::RunReady, &[], &[])?;
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                self.services.pin();
                let worked = self.work(&mut runner, backend, &work, &give_back);
                if worked.is_err() {
                    self.failed.store(true, Ordering::Relaxed);
                }
                worked
            });
            let read = self.read(frame_cap, to_worker, &free);
            let worked = worker.join().unwrap_or_else(|_| Err(Error::failed("the edge panicked at a task")));
            worked.and(read)
        })?;
        self.connection.send(FrameKind::Done, &[], &[])
    }

    /// Reads tasks until the client is done or the worker has failed.
    fn read(&self, frame_cap: usize, to_worker: SyncSender<Work>, free: &Receiver<Vec<u8>>) -> Result<()> {
        let stop = || self.limit.is_reached() || self.failed.load(Ordering::Relaxed);
        loop {
            let mut frame = free.try_recv().unwrap_or_default();
            let work = match self.connection.receive(frame_cap, &stop, &mut frame)? {
                Some(FrameKind::Task) => {
                    Work::Task { head: TaskHead::parse(&frame)?, frame, arrived: self.clock.now() }
                }
                Some(FrameKind::Ping) => Work::Pong,
                Some(FrameKind::Done) => return Ok(()),
                Some(kind) => return Err(Error::peer(format!("expected a task, found a {kind:?} frame"))),
                None => return Err(Error::peer("the device closed the connection in the middle of a run")),
            };
            if to_worker.send(work).is_err() {
                // The worker has ended, and says why.
                return Ok(());
            }
        }
    }

    /// Answers tasks until the reader has ended.
    fn work(
        &self,
        runner: &mut StageRunner,
        backend: &mut dyn Backend,
        work: &Receiver<Work>,
        give_back: &Sender<Vec<u8>>,
    ) -> Result<()> {
        let own = self.services.clock();
        let mut payload = Vec::new();
        for work in work {
            let Work::Task { head, frame, arrived } = work else {
                let now = self.clock.now().as_nanos() as u64;
                self.connection.send(FrameKind::Pong, &now.to_le_bytes(), &[])?;
                continue;
            };
            let (started, lap) = (self.clock.now(), Lap::start(&*own));
            let input = StageInput::Payload(&frame[TASK_HEAD_BYTES..]);
            let Outcome::Left(answer) = runner.compute(backend, input, head.forced_exit)? else {
                return Err(Error::failed("a sample went past the plan's last node"));
            };
            let (finished, disturbed) = (self.clock.now(), lap.end(&*own).is_disturbed());
            let answer = AnswerFrame { seq: head.seq, answer, disturbed, arrived, started, finished };
            answer.write(runner.numbers(), &mut payload);
            self.connection.send(FrameKind::Answer, &[], &payload)?;
            // The reader may have ended before.
            let _ = give_back.send(frame);
        }
        Ok(())
    }
}

/// Checks a request from outside and prepares this node's part.
fn stage_runner(backend: &dyn Backend, request: &RunRequest) -> Result<StageRunner> {
    let graph = backend.graph();
    let route = Route::new(graph, &request.plan)?;
    let node = route.nodes.get(request.node).filter(|node| node.receive.is_some()).ok_or_else(|| {
        Error::peer(format!(
            "node {} receives nothing under this plan; its samples leave before",
            request.node
        ))
    })?;
    if node.send.is_some() {
        let next = request.node + 1;
        return Err(Error::peer(format!(
            "this edge cannot pass tasks on to node {next}; use a plan for two nodes"
        )));
    }
    let runner = StageRunner::new(graph, node)?;
    match runner.max_payload_bytes() {
        bytes if bytes > MAX_PAYLOAD_BYTES => Err(Error::peer(format!(
            "the plan's frontier takes up to {bytes} bytes, {MAX_PAYLOAD_BYTES} are taken at most; choose another cut"
        ))),
        _ => Ok(runner),
    }
}
