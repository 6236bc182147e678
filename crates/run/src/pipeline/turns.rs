//! Turns: two who measure on an edge at once would measure each other, so one does, and the others wait in a queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Who measures, and who comes next, in the order in which they asked.
#[derive(Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Whose turn it is stands in front.
    tickets: VecDeque<u64>,
    next_ticket: u64,
}

impl Turns {
    /// A place at the end of the queue.
    pub fn queue(&self) -> Place<'_> {
        let mut queue = self.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.tickets.push_back(ticket);
        Place { turns: self, ticket }
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lock().tickets.len().saturating_sub(1)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when dropped.
pub(super) struct Place<'a> {
    turns: &'a Turns,
    ticket: u64,
}

impl Place<'_> {
    /// How many come before; with none, it is this one's turn.
    pub fn before(&self) -> usize {
        // Tickets stand in the order of their numbers.
        self.turns.lock().tickets.partition_point(|&ticket| ticket < self.ticket)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.lock().tickets.retain(|&ticket| ticket != self.ticket);
    }
}

/// What ends a session that would go on.
#[derive(Clone, Copy)]
pub(super) struct Limit<'a> {
    /// The edge stops.
    pub stop: &'a AtomicBool,
    /// Its turn ends then.
    pub turn_ends: Option<Instant>,
}

impl Limit<'_> {
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn is_reached(&self) -> bool {
        self.is_stopped() || self.turn_ends.is_some_and(|end| Instant::now() >= end)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn turns_come_in_the_order_in_which_they_were_asked_for() {
        let turns = Turns::default();
        let (first, second, third) = (turns.queue(), turns.queue(), turns.queue());
        assert_eq!([&first, &second, &third].map(Place::before), [0, 1, 2]);
        assert_eq!(turns.waiting(), 2);
        drop(second);
        let fourth = turns.queue();
        assert_eq!([&first, &third, &fourth].map(Place::before), [0, 1, 2]);
        drop(first);
        assert_eq!([&third, &fourth].map(Place::before), [0, 1]);
        drop((third, fourth));
        assert_eq!((turns.waiting(), turns.queue().before()), (0, 0));
    }

    #[test]
    fn a_panic_ends_its_turn() {
        let turns = Turns::default();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _turn = turns.queue();
            panic!("as asked");
        }));
        assert!(panicked.is_err());
        assert_eq!(turns.queue().before(), 0);
    }
}
