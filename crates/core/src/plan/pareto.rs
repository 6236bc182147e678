//! The Pareto front of rate, latency and accuracy, kept while points stream in.

use super::dominance::DominanceIndex;

/// A configuration's three figures. Lower interval, lower latency and more right answers are better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point<C> {
    /// Microseconds.
    pub interval: f64,
    /// Microseconds.
    pub latency: f64,
    /// Right answers, in parts of the scenario's tally.
    pub right: u32,
    pub config: C,
}

/// Points that no other point weakly dominates. Of equal points the first stays.
#[derive(Clone, Debug)]
pub(super) struct Front<C> {
    points: Vec<Point<C>>,
    settled: usize,
    dominated: DominanceIndex,
}

impl<C> Default for Front<C> {
    fn default() -> Self {
        Self { points: Vec::new(), settled: 0, dominated: DominanceIndex::default() }
    }
}

impl<C: Copy> Front<C> {
    /// Whether a point with these figures is certainly dominated. Where only bounds are known (no figure of a set of
    /// points is better than these), so is every point of the set, and none of them needs a look.
    #[inline]
    pub fn dominates(&self, interval: f64, latency: f64, right: u32) -> bool {
        self.dominated.covers(interval, latency, right)
    }

    pub fn add(&mut self, point: Point<C>) {
        self.dominated.add(point.interval, point.latency, point.right);
        self.points.push(point);
        // Reducing costs a sort, so it waits until the fresh points outnumber the settled ones.
        if self.points.len() > 2 * self.settled + 16_384 {
            self.reduce();
        }
    }

    /// The front by rising interval.
    pub fn take(&mut self) -> Vec<Point<C>> {
        self.reduce();
        self.settled = 0;
        std::mem::take(&mut self.points)
    }

    /// Sweeps by rising interval and keeps a staircase of (latency, accuracy): a point stays when no point before it is
    /// at least as quick and at least as accurate.
    fn reduce(&mut self) {
        self.points.sort_by(|a, b| {
            let by_latency = || a.latency.total_cmp(&b.latency);
            a.interval.total_cmp(&b.interval).then_with(by_latency).then_with(|| b.right.cmp(&a.right))
        });
        // Rising latency and rising accuracy: a step with more latency and no more accuracy is never needed.
        let mut stairs: Vec<(f64, u32)> = Vec::new();
        self.points.retain(|point| {
            let end = stairs.partition_point(|&(latency, _)| latency <= point.latency);
            if end > 0 && stairs[end - 1].1 >= point.right {
                return false;
            }
            let covered = stairs[end..].iter().take_while(|&&(_, right)| right <= point.right).count();
            stairs.splice(end..end + covered, [(point.latency, point.right)]);
            if end > 0 && stairs[end - 1].0 == point.latency {
                stairs.remove(end - 1);
            }
            true
        });
        self.settled = self.points.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dominates(a: &Point<usize>, b: &Point<usize>) -> bool {
        let no_worse = a.interval <= b.interval && a.latency <= b.latency && a.right >= b.right;
        no_worse && (a.interval < b.interval || a.latency < b.latency || a.right > b.right)
    }

    proptest! {
        #[test]
        fn the_front_is_what_pairwise_comparison_leaves(
            figures in proptest::collection::vec((0u8..8, 0u8..8, 0u8..8), 1..60)
        ) {
            let point = |(config, &(i, l, a)): (usize, &(u8, u8, u8))| Point {
                interval: f64::from(i), latency: f64::from(l), right: u32::from(a), config,
            };
            let points: Vec<_> = figures.iter().enumerate().map(point).collect();
            let mut front = Front::default();
            points.iter().for_each(|&point| front.add(point));
            let key = |p: &Point<usize>| (p.interval as u8, p.latency as u8, p.right as u8);
            let mut found: Vec<_> = front.take().iter().map(key).collect();
            let undominated = points.iter().filter(|p| !points.iter().any(|q| dominates(q, p)));
            let mut expected: Vec<_> = undominated.map(key).collect();
            found.sort_unstable();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }
}
