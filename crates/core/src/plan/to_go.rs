//! What is still ahead at the least, between any two nodes: the heuristic of a best-first search with several criteria
//! (L. Mandow, J. L. Pérez de la Cruz: "Multiobjective A* search with consistent heuristics", Journal of the ACM 57, 2010).
//!
//! Worked out from the last node back, for the interval and the latency each by itself.

use super::moves::{Crossing, Leg, Meeting, Moves, Wanted};

/// Rounding of sums in another order must not make a bound exceed what it bounds.
const BELOW: f64 = 1.0 - 1e-12;

/// The least interval and latency of what is ahead. Microseconds, summed over samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    pub interval: f64,
    pub latency: f64,
}

impl Least {
    const NONE: Self = Self { interval: f64::INFINITY, latency: f64::INFINITY };

    fn or(self, other: Self) -> Self {
        Self { interval: self.interval.min(other.interval), latency: self.latency.min(other.latency) }
    }
}

/// Per node but the first, and place where tasks may come to it, what is least ahead.
pub(super) struct ToGo {
    pub start: Least,
    of_node: Vec<Vec<Least>>,
}

impl ToGo {
    pub fn new(moves: &mut Moves<'_, '_>, wanted: &Wanted) -> Self {
        let slots = moves.meetings(wanted);
        let mut to_go = Self { start: Least::NONE, of_node: vec![Vec::new(); moves.nodes] };
        for node in (1..moves.nodes).rev() {
            let least = |slot| to_go.least(moves, node, Meeting::of_slot(slot, wanted), wanted);
            let of_node = (0..slots).map(least).collect();
            to_go.of_node[node] = of_node;
        }
        to_go.start = to_go.least(moves, 0, Meeting::START, wanted);
        to_go
    }

    /// What is ahead at least where tasks come to `node` so.
    pub fn at(&self, node: usize, meeting: Meeting, wanted: &Wanted) -> Least {
        self.of_node[node][meeting.slot(wanted)]
    }

    fn least(&self, moves: &mut Moves<'_, '_>, node: usize, from: Meeting, wanted: &Wanted) -> Least {
        if from.crossed && wanted.lossy.is_none() {
            return Least::NONE;
        }
        let mut least = Least::NONE;
        for leg in moves.legs(node, from, wanted) {
            if leg.done {
                least = least.or(Self::end(moves, &leg));
            } else if node + 1 < moves.nodes {
                for crossing in moves.crossings(&leg, wanted) {
                    let ahead = self.at(node + 1, crossing.to, wanted);
                    if ahead.interval < f64::INFINITY {
                        least = least.or(Self::across(moves, &leg, &crossing, wanted, ahead));
                    }
                }
            }
        }
        least
    }

    fn end(moves: &mut Moves<'_, '_>, leg: &Leg) -> Least {
        let room = moves.room_at_end(leg);
        if !moves.is_wanted(leg.node, None) || !moves.holds(room, 0.0) {
            return Least::NONE;
        }
        let interval = moves.busy(leg.node, leg.time, leg.node > 0);
        Least { interval: interval * BELOW, latency: moves.space.paused(leg.node, leg.time) * BELOW }
    }

    fn across(moves: &Moves<'_, '_>, leg: &Leg, crossing: &Crossing, wanted: &Wanted, ahead: Least) -> Least {
        let (space, node) = (moves.space, leg.node);
        let mut least = Least::NONE;
        for message in moves.messages(node, crossing.path, wanted.reach[leg.from.tried]) {
            if !moves.holds(crossing.room, message.bytes) {
                continue;
            }
            let stage = crossing.time + message.encode;
            let stages = space.busy(node, stage).max(message.link).max(space.busy(node + 1, message.reading));
            let latency =
                space.paused(node, stage) + message.travel + space.paused(node + 1, message.reading);
            least = least.or(Least {
                interval: (stages * BELOW).max(ahead.interval),
                latency: (latency + ahead.latency) * BELOW,
            });
        }
        least
    }
}
