//! How tasks pass through the stages, exactly, without an event queue.
//!
//! Each stage is one server with an unbounded first-come-first-served queue before it, and each task visits a prefix of
//! the stages. Then the tasks that visit stage `k` reach it in the order of their arrival at the pipeline:
//!
//! - At stage 0 they queue in that order.
//! - One server that serves in order of arrival also finishes in that order: a task starts no earlier than the one
//!   before it ends. The tasks that go on from stage `k` are a subset of those that finish there, hence in the same
//!   order; and every visitor of stage `k + 1` comes from stage `k`, since visits are prefixes. A task that leaves early
//!   only drops out of the order. (A tie, as with a service time of zero, keeps the order by definition of the queue.)
//!
//! So no later task ever delays an earlier one, and with `D(i, k)` the time at which task `i` ends its service `S(i, k)`
//! at stage `k`, and `j` the last visitor of stage `k` before `i` (Lindley's recursion),
//!
//! ```text
//! D(i, k) = max(D(i, k - 1), D(j, k)) + S(i, k)        D(i, -1) = arrival of i
//! ```
//!
//! which needs one number per stage and visits tasks in order of arrival.
//!
//! A delay between stages `k - 1` and `k` is the same for all that cross, so all arrivals, and with them all starts and
//! ends, at `k` and beyond shift by it and no wait changes. That is a mere shift of the later stages' clocks: delays may
//! be added up and charged at the end of the task, which is what happens here. A reply's delay comes last anyway.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::workload::Class;

/// One task at one stage, in microseconds. The later stages' clocks run behind by the delays before them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Visit {
    /// It joined the queue.
    pub arrived: f64,
    /// Its service began.
    pub started: f64,
    /// Its service ended.
    pub ended: f64,
}

/// One task as seen from outside, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Passage {
    /// It came, or was meant to come.
    pub arrived: f64,
    /// Its answer was known.
    pub finished: f64,
}

impl Passage {
    pub fn latency(&self) -> f64 {
        self.finished - self.arrived
    }
}

/// Who decides when the next task comes.
pub(super) enum Source<'a> {
    /// Times of arrival in units of `gap`, ascending.
    Open { unit_arrivals: &'a [f64], gap: f64 },
    /// At most so many tasks are under way.
    Closed { in_flight: usize },
}

/// Sends `tasks` through `stages` empty stages. `visit` is told the stage and what happened there; the passages come in
/// order of arrival.
pub(super) fn flow<'a>(
    tasks: &'a [&Class],
    stages: usize,
    source: &'a Source<'_>,
    mut visit: impl FnMut(usize, Visit) + 'a,
) -> impl Iterator<Item = Passage> + 'a {
    let mut free = vec![0.0_f64; stages];
    let mut unanswered = BinaryHeap::new();
    tasks.iter().enumerate().map(move |(task, class)| {
        let arrived = match source {
            Source::Open { unit_arrivals, gap } => unit_arrivals[task] * gap,
            Source::Closed { in_flight } => room(&mut unanswered, *in_flight).max(free[0]),
        };
        let mut now = arrived;
        for ((stage, free), service) in free.iter_mut().enumerate().zip(&class.service_us) {
            let started = now.max(*free);
            *free = started + service.0;
            visit(stage, Visit { arrived: now, started, ended: *free });
            now = *free;
        }
        let finished = now + class.delay_us.0;
        if let Source::Closed { .. } = source {
            unanswered.push(Reverse(Moment(finished)));
        }
        Passage { arrived, finished }
    })
}

/// When fewer than `in_flight` tasks are unanswered. The heap holds the answers that no start has waited for yet, and a
/// start waits for the earliest of them. Their times are final, since later tasks delay no earlier ones; and no task
/// that starts later answers before this start. So the `m`-th start beyond the first `in_flight` waits for the `m`-th
/// answer of the whole run, also where tasks that leave early answer before earlier ones.
fn room(unanswered: &mut BinaryHeap<Reverse<Moment>>, in_flight: usize) -> f64 {
    if unanswered.len() < in_flight {
        return 0.0;
    }
    unanswered.pop().map_or(0.0, |Reverse(Moment(answered))| answered)
}

/// A time with the total order that a heap needs.
struct Moment(f64);

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Moment {}
