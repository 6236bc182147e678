//! What is still ahead at the least, between any two nodes: the heuristic of a best-first search with several criteria
//! (L. Mandow, J. L. Pérez de la Cruz: "Multiobjective A* search with consistent heuristics", Journal of the ACM 57, 2010).
//!
//! Worked out from the end back, for the interval and the latency each by itself, where it is asked for.

use std::cell::RefCell;
use std::rc::Rc;

use super::moves::{Crossing, Leg, Meeting, Moves, Wanted};

/// Rounding of sums in another order must not make a bound exceed what it bounds.
const BELOW: f64 = 1.0 - 1e-12;

/// The least interval and latency of what is ahead, infinite where nothing is. Microseconds, summed over samples.
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

    pub fn is_any(self) -> bool {
        self.interval < f64::INFINITY
    }
}

/// What is known of the places where tasks may come to a node.
type OfNode = Rc<RefCell<Vec<Option<Least>>>>;

/// What is ahead at the least, per node and place where tasks may come to it.
#[derive(Clone)]
pub(super) struct ToGo(Vec<OfNode>);

impl ToGo {
    pub fn new(moves: &Moves<'_, '_>, wanted: &Wanted) -> Self {
        let of_node = |_| Rc::new(RefCell::new(vec![None; moves.meetings(wanted)]));
        Self((0..moves.nodes).map(of_node).collect())
    }

    /// The same where what differs stands before the nodes behind this link.
    pub fn behind(&self, link: usize) -> Self {
        let unknown = |of_node: &OfNode| Rc::new(RefCell::new(vec![None; of_node.borrow().len()]));
        let (changed, same) = self.0.split_at(link + 1);
        Self(changed.iter().map(unknown).chain(same.iter().cloned()).collect())
    }

    /// What is ahead at least where tasks come to `node` so.
    pub fn at(&self, moves: &mut Moves<'_, '_>, node: usize, from: Meeting, wanted: &Wanted) -> Least {
        let slot = from.slot(wanted);
        if let Some(known) = self.0[node].borrow()[slot] {
            return known;
        }
        let least = self.least(moves, node, from, wanted);
        self.0[node].borrow_mut()[slot] = Some(least);
        least
    }

    fn least(&self, moves: &mut Moves<'_, '_>, node: usize, from: Meeting, wanted: &Wanted) -> Least {
        let mut least = Least::NONE;
        for leg in moves.legs(node, from, wanted) {
            if leg.done {
                least = least.or(Self::end(moves, &leg));
            } else if node + 1 < moves.nodes {
                for crossing in moves.crossings(&leg, wanted) {
                    let ahead = self.at(moves, node + 1, crossing.to, wanted);
                    if ahead.is_any() {
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
