//! What a front dominates, told in some nanoseconds.
//!
//! Interval and latency fall into logarithmic cells. A cell holds the highest accuracy of all points whose cells are lower or
//! equal in both. A point from a strictly lower cell has strictly the lower figure, so whatever lies one cell further
//! in both figures and is no more accurate than the cell's entry is dominated. What remains are points in the row or the column of
//! the cell itself, which are few, and compared one by one.

/// Cells per doubling, as a power of two.
const CELLS_PER_DOUBLING_BITS: u32 = 6;
/// Doublings that the cells span, and how many of these lie below the first point.
const DOUBLINGS: usize = 8;
const DOUBLINGS_BELOW: i64 = 6;
const SIDE: usize = DOUBLINGS << CELLS_PER_DOUBLING_BITS;

/// Interval, latency and right answers.
type Figures = (f64, f64, u32);

#[derive(Clone, Debug, Default)]
pub(super) struct DominanceIndex {
    /// `None` until the first point sets where the cells lie.
    base: Option<[i64; 2]>,
    /// One more than the highest count of right answers, by interval, then latency; 0: no point.
    best: Vec<u32>,
    /// The points of each row and of each column that no other one there dominates, the most accurate first.
    rows: Vec<Vec<Figures>>,
    columns: Vec<Vec<Figures>>,
}

/// The logarithmic cell of a figure: the upper bits of a positive float grow with its logarithm.
fn cell(figure: f64) -> i64 {
    (figure.to_bits() >> (52 - CELLS_PER_DOUBLING_BITS)) as i64
}

/// The first and the last cells stand for all that lies beyond.
fn place(figure: f64, base: i64) -> usize {
    (cell(figure) - base).clamp(0, SIDE as i64 - 1) as usize
}

fn dominates(a: &Figures, b: &Figures) -> bool {
    a.0 <= b.0 && a.1 <= b.1 && a.2 >= b.2
}

impl DominanceIndex {
    /// Whether a known point is no slower, no later and no less accurate.
    #[inline]
    pub fn covers(&self, interval: f64, latency: f64, right: u32) -> bool {
        let Some(base) = self.base else { return false };
        let (row, column) = (place(interval, base[0]), place(latency, base[1]));
        if row > 0 && column > 0 && self.best[(row - 1) * SIDE + column - 1] > right {
            return true;
        }
        [&self.rows[row], &self.columns[column]].into_iter().any(|points| {
            let as_right = points.iter().take_while(|point| point.2 >= right);
            as_right.into_iter().any(|point| point.0 <= interval && point.1 <= latency)
        })
    }

    /// Makes a point known.
    pub fn add(&mut self, interval: f64, latency: f64, right: u32) {
        let base = *self.base.get_or_insert_with(|| {
            self.best = vec![0; SIDE * SIDE];
            (self.rows, self.columns) = (vec![Vec::new(); SIDE], vec![Vec::new(); SIDE]);
            [interval, latency].map(|figure| cell(figure) - (DOUBLINGS_BELOW << CELLS_PER_DOUBLING_BITS))
        });
        let (row, column) = (place(interval, base[0]), place(latency, base[1]));
        let point = (interval, latency, right);
        for points in [&mut self.rows[row], &mut self.columns[column]] {
            points.retain(|other| !dominates(&point, other));
            points.insert(points.partition_point(|other| other.2 >= right), point);
        }
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
        fn what_is_dominated_and_nothing_else_is_covered(
            points in proptest::collection::vec((figure(), figure(), 0u32..5), 1..40),
            asked in (figure(), figure(), 0u32..5),
        ) {
            let mut index = DominanceIndex::default();
            points.iter().for_each(|&(interval, latency, right)| index.add(interval, latency, right));
            let dominated = points.iter().any(|p| p.0 <= asked.0 && p.1 <= asked.1 && p.2 >= asked.2);
            prop_assert_eq!(index.covers(asked.0, asked.1, asked.2), dominated);
        }
    }
}
