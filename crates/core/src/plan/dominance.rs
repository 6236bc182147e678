//! What a front certainly dominates: a coarse picture of it that answers in a few nanoseconds.
//!
//! Interval and latency fall into logarithmic cells. A cell holds the highest accuracy of all points whose cells are lower or
//! equal in both. A point from a strictly lower cell has strictly the lower figure, so whatever lies one cell further
//! in both figures and is no more accurate than the cell's entry is dominated. The picture errs on one side only: within
//! one cell it knows nothing.

/// Cells per doubling, as a power of two.
const CELLS_PER_DOUBLING_BITS: u32 = 6;
/// Doublings that the picture spans, and how many of these lie below its first point.
const DOUBLINGS: usize = 8;
const DOUBLINGS_BELOW: i64 = 6;
const SIDE: usize = DOUBLINGS << CELLS_PER_DOUBLING_BITS;

#[derive(Clone, Debug, Default)]
pub(super) struct DominanceIndex {
    /// `None` until the first point sets where the picture lies.
    base: Option<[i64; 2]>,
    /// One more than the highest count of right answers, by interval, then latency; 0: no point.
    best: Vec<u32>,
}

/// The logarithmic cell of a figure: the upper bits of a positive float grow with its logarithm.
fn cell(figure: f64) -> i64 {
    (figure.to_bits() >> (52 - CELLS_PER_DOUBLING_BITS)) as i64
}

impl DominanceIndex {
    /// Whether a known point is no slower, no later and no less accurate.
    #[inline]
    pub fn covers(&self, interval: f64, latency: f64, right: u32) -> bool {
        let Some(base) = self.base else { return false };
        let (row, column) = (cell(interval) - base[0], cell(latency) - base[1]);
        if row < 1 || column < 1 {
            return false;
        }
        // The last cells stand for all that lies beyond.
        let (row, column) = ((row as usize).min(SIDE - 1) - 1, (column as usize).min(SIDE - 1) - 1);
        self.best[row * SIDE + column] > right
    }

    /// Makes a point known.
    pub fn add(&mut self, interval: f64, latency: f64, right: u32) {
        let base = *self.base.get_or_insert_with(|| {
            self.best = vec![0; SIDE * SIDE];
            [interval, latency].map(|figure| cell(figure) - (DOUBLINGS_BELOW << CELLS_PER_DOUBLING_BITS))
        });
        let place = |figure: f64, base: i64| (cell(figure) - base).clamp(0, SIDE as i64 - 1) as usize;
        let (row, column) = (place(interval, base[0]), place(latency, base[1]));
        // Entries never fall along a row or a column, so the first that is high enough ends it.
        for entries in self.best.chunks_exact_mut(SIDE).skip(row) {
            if entries[column] > right {
                return;
            }
            entries[column..]
                .iter_mut()
                .take_while(|entry| **entry <= right)
                .for_each(|entry| *entry = right + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figure() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), 0.0..10.0f64, (-20.0..20.0f64).prop_map(f64::exp2)]
    }

    proptest! {
        #[test]
        fn only_what_is_dominated_is_covered(
            points in proptest::collection::vec((figure(), figure(), 0u32..5), 1..40),
            asked in (figure(), figure(), 0u32..5),
        ) {
            let mut index = DominanceIndex::default();
            points.iter().for_each(|&(interval, latency, right)| index.add(interval, latency, right));
            let dominated = points.iter().any(|p| p.0 <= asked.0 && p.1 <= asked.1 && p.2 >= asked.2);
            prop_assert!(!index.covers(asked.0, asked.1, asked.2) || dominated);
        }

        #[test]
        fn what_is_clearly_dominated_is_covered(
            point in (1.0..4.0f64, 1.0..4.0f64, 0u32..5), factor in 1.02..2.0f64, less in 0u32..5,
        ) {
            let mut index = DominanceIndex::default();
            index.add(point.0, point.1, point.2);
            let right = point.2.saturating_sub(less);
            prop_assert!(index.covers(point.0 * factor, point.1 * factor, right));
            prop_assert!(!index.covers(point.0 * factor, point.1 * factor, point.2 + 1));
        }
    }
}
