//! What the exits answer under every setting of their thresholds: how many samples go on past each exit, and how many are
//! answered right. All counts of joint records, never products of shares.
//!
//! Settings of the last two side exits are counted together: one pass over the samples fills a table of (step at which a
//! sample leaves the one, step at which it leaves the other), and running sums over it give every pair of thresholds. A
//! sample is thus looked at once for thousands of settings. Exits before these two are gone through one threshold after
//! the other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::outcomes::{Outcomes, SampleSet};
use super::plan::Threshold;
use super::problem::Problem;
use super::space::Path;
use super::tally::{Corrections, MAX_EXITS, Setting, Tally, threshold_grid};

/// Settings of the last side exit that share a bound.
pub(super) const CHUNK: usize = 8;

/// A threshold grid per exit: `[never, entropies…, always]`, the final exit's `[never, always]`.
pub(super) struct Grids {
    pub thresholds: Vec<Vec<Threshold>>,
    /// Per side exit the entropies of its grid.
    entropies: Vec<Vec<f32>>,
    /// Per side exit and cell, where the search for a sample's step starts: no entropy of the grid before it reaches into
    /// the sample's cell.
    first: Vec<Vec<u16>>,
    /// Per side exit the step at which each sample leaves, uncut.
    uncut: Vec<Vec<u16>>,
    /// What counts of right answers are corrected by; `None` where no more samples are known uncut than behind encodings.
    corrections: Option<Corrections>,
    /// The same behind each lossy path, worked out when it is first asked for.
    lossy: RefCell<HashMap<usize, Rc<[Vec<u16>]>>>,
}

impl Grids {
    pub fn new(scenario: &Problem) -> Self {
        let side = scenario.outcomes.len() - 1;
        let mut grids = Self {
            thresholds: Vec::new(),
            entropies: Vec::new(),
            first: Vec::new(),
            uncut: Vec::new(),
            corrections: None,
            lossy: RefCell::default(),
        };
        for exit in 0..side {
            let steps = threshold_grid(scenario, exit);
            grids.entropies.push(steps.iter().copied().filter_map(entropy).collect());
            let ends = (Threshold::Never, Threshold::Always);
            grids.thresholds.push([vec![ends.0], steps, vec![ends.1]].concat());
        }
        grids.thresholds.push(vec![Threshold::Never, Threshold::Always]);
        let first = |grid: &Vec<f32>| {
            let start = |at| grid.partition_point(|&entropy| cell(entropy) < at) as u16;
            (0..=CELLS).map(start).collect()
        };
        grids.first = grids.entropies.iter().map(first).collect();
        grids.uncut = grids.steps_of(&scenario.outcomes);
        grids.corrections = corrections(scenario, &grids);
        grids
    }

    /// The steps of all side exits when they answer so.
    pub fn steps_of(&self, outcomes: &[Outcomes]) -> Vec<Vec<u16>> {
        let side = self.entropies.len();
        (0..side).zip(outcomes).map(|(exit, outcomes)| self.steps(exit, outcomes)).collect()
    }

    /// The steps of all side exits behind a lossy path; empty where an exit is unknown there.
    fn behind(&self, path: usize, outcomes: &[Option<&Outcomes>]) -> Rc<[Vec<u16>]> {
        let of_exit = |exit: usize| outcomes[exit].map_or_else(Vec::new, |known| self.steps(exit, known));
        let work_out = || (0..self.entropies.len()).map(of_exit).collect();
        Rc::clone(self.lossy.borrow_mut().entry(path).or_insert_with(work_out))
    }

    /// The least grid index at which each sample leaves: that of "always" where no entropy lets it go.
    fn steps(&self, exit: usize, outcomes: &Outcomes) -> Vec<u16> {
        let (grid, first) = (&self.entropies[exit], &self.first[exit]);
        let step = |&entropy: &f32| {
            let mut step = usize::from(first[cell(entropy).min(CELLS)]);
            while step < grid.len() && entropy > grid[step] {
                step += 1;
            }
            step as u16 + 1
        };
        outcomes.entropies().iter().map(step).collect()
    }
}

/// `None` where the scenario knows no more samples uncut than behind encodings.
fn corrections(scenario: &Problem, grids: &Grids) -> Option<Corrections> {
    if scenario.uncut_outcomes.is_empty() {
        return None;
    }
    let (few, more) = (settings(grids, &scenario.outcomes), settings(grids, &scenario.uncut_outcomes));
    let tally = Tally::of(scenario);
    let of = few.into_iter().filter_map(|(setting, uncut)| {
        let pairs = uncut.into_iter().zip(more.get(&setting)?);
        Some((setting, pairs.map(|(uncut, &more)| tally.correction(uncut, more)).collect()))
    });
    Some(Corrections::new(tally, of.collect()))
}

/// Per setting how many samples are right uncut.
fn settings(grids: &Grids, outcomes: &[Outcomes]) -> HashMap<Setting, Vec<u32>> {
    let mut counts = HashMap::new();
    let steps = grids.steps_of(outcomes);
    Answers::uncut(grids, outcomes, &steps).blocks(&mut |block| {
        let right = match block.ends_at {
            Some(_) => vec![block.right],
            None => block.last_right.iter().map(|right| block.right + right).collect(),
        };
        counts.insert(block.setting, right);
    });
    counts
}

/// Cells of equal width into which entropies fall.
const CELLS: usize = 4096;

fn cell(entropy: f32) -> usize {
    (entropy * CELLS as f32) as usize
}

fn entropy(threshold: Threshold) -> Option<f32> {
    match threshold {
        Threshold::Entropy(entropy) => Some(entropy.0 as f32),
        _ => None,
    }
}

/// Settings that differ only in the last side exit.
pub(super) struct Block<'b> {
    /// The setting of the exits before the last side exit; further ones are 0.
    pub setting: Setting,
    /// `alive[exit]`: samples that reach an exit, for the exits up to the last side one.
    pub alive: [u32; MAX_EXITS + 1],
    /// What is answered right before the last side exit, in parts of the scenario's tally as all counts of right answers.
    pub right: u32,
    /// The exit at which everybody leaves, where it lies before the last side exit: the block is then this one setting.
    pub ends_at: Option<usize>,
    /// Per grid index of the last side exit: samples that reach the final exit, falling.
    pub last_alive: &'b [u32],
    /// Per grid index of the last side exit: what is answered right there or at the final exit.
    pub last_right: &'b [u32],
    /// The greatest of `last_right` in each chunk of [`CHUNK`] from index 1 on, "always" left out.
    pub chunk_right: &'b [u32],
    /// Whether a step that leaves nobody for the final exit says something else than "always", for samples that are known
    /// uncut only.
    corrected: bool,
}

/// The answers of all exits where those from `edge_from` on run behind a lossy path.
pub(super) struct Answers<'s> {
    grids: &'s Grids,
    side: usize,
    edge_from: usize,
    uncut: &'s [Vec<u16>],
    behind: Option<Rc<[Vec<u16>]>>,
    right: Vec<&'s SampleSet>,
    samples: usize,
    /// Whether settings are gone through too that differ for none of these samples.
    every: bool,
    corrections: Option<&'s Corrections>,
}

impl<'s> Answers<'s> {
    /// For `path`, given with its index, or uncut. `None` where nothing is known of the final exit behind the path. Of side
    /// exits that are unknown there the uncut answers stand in: they cannot be tried there, so nobody looks.
    pub fn new(
        scenario: &'s Problem,
        grids: &'s Grids,
        path: Option<(usize, &Path<'s>)>,
        edge_from: usize,
    ) -> Option<Self> {
        let side = scenario.outcomes.len() - 1;
        let lossy = path.and_then(|(index, path)| Some((index, path.lossy.as_deref()?)));
        let mut right = Vec::with_capacity(side + 1);
        for exit in 0..=side {
            let known =
                lossy.filter(|_| exit >= edge_from).map_or(Some(&scenario.outcomes[exit]), |(_, o)| o[exit]);
            if exit == side && known.is_none() {
                return None;
            }
            right.push(known.unwrap_or(&scenario.outcomes[exit]).right());
        }
        let behind = lossy.map(|(index, outcomes)| grids.behind(index, outcomes));
        let corrections = grids.corrections.as_ref();
        Some(Self {
            grids,
            side,
            edge_from,
            uncut: &grids.uncut,
            behind,
            right,
            samples: scenario.samples(),
            every: corrections.is_some(),
            corrections,
        })
    }

    /// For answers that no encoding changed, given with their steps; counts samples, under every setting.
    pub fn uncut(grids: &'s Grids, outcomes: &'s [Outcomes], steps: &'s [Vec<u16>]) -> Self {
        Self {
            grids,
            side: steps.len(),
            edge_from: 0,
            uncut: steps,
            behind: None,
            right: outcomes.iter().map(Outcomes::right).collect(),
            samples: outcomes.first().map_or(0, Outcomes::len),
            every: true,
            corrections: None,
        }
    }

    /// The step at which each sample leaves at a side exit.
    fn steps(&self, exit: usize) -> &[u16] {
        let behind = self.behind.as_ref().filter(|_| exit >= self.edge_from).map(|behind| &behind[exit]);
        behind.filter(|steps| !steps.is_empty()).unwrap_or(&self.uncut[exit])
    }

    /// Calls `visit` with every block of settings.
    pub fn blocks(&self, visit: &mut impl FnMut(&Block<'_>)) {
        let mut alive = [0; MAX_EXITS + 1];
        alive[0] = self.samples as u32;
        let all: Vec<u32> = (0..self.samples as u32).collect();
        let mut table = Table::default();
        let start = Outer { setting: [0; MAX_EXITS], alive, right: 0 };
        self.outer(0, &start, &all, &mut table, visit);
    }

    /// Goes through the exits before the last two side exits.
    fn outer(
        &self,
        exit: usize,
        state: &Outer,
        samples: &[u32],
        table: &mut Table,
        visit: &mut impl FnMut(&Block<'_>),
    ) {
        if exit + 2 >= self.side {
            return self.inner(exit, state, samples, table, visit);
        }
        let (always, steps) = (self.grids.thresholds[exit].len() - 1, self.steps(exit));
        for step in 0..=always {
            let leaves = |&&sample: &&u32| usize::from(steps[sample as usize]) <= step;
            let (gone, stay): (Vec<u32>, Vec<u32>) = samples.iter().partition(|sample| leaves(sample));
            let mut next = *state;
            next.setting[exit] = step as u16;
            next.alive[exit + 1] = stay.len() as u32;
            next.right += gone.iter().filter(|&&s| self.right[exit].contains(s as usize)).count() as u32;
            if step == always {
                visit(&self.single(next, exit));
            } else if self.every || !stay.is_empty() {
                self.outer(exit + 1, &next, &stay, table, visit);
            }
        }
    }

    /// Counts all settings of the last one or two side exits.
    fn inner(
        &self,
        exit: usize,
        state: &Outer,
        samples: &[u32],
        table: &mut Table,
        visit: &mut impl FnMut(&Block<'_>),
    ) {
        let width = |exit: usize| self.grids.thresholds[exit].len();
        // Without a second-last or last side exit, nobody leaves there.
        let (second_last, last) = match self.side - exit {
            0 => (None, None),
            1 => (None, Some(exit)),
            _ => (Some(exit), Some(exit + 1)),
        };
        table.fill(self, second_last, last, samples);
        let rows = second_last.map_or(1, |exit| width(exit) - 1);
        for row in 0..rows {
            let mut next = *state;
            if let Some(exit) = second_last {
                next.setting[exit] = row as u16;
                next.alive[exit + 1] = table.first_alive[row];
                next.right += table.first_right[row];
                if table.first_alive[row] == 0 && !self.every {
                    continue;
                }
            }
            table.row(row, last.is_some());
            self.correct(&mut next, &mut table.right);
            table.chunks(last.is_some());
            visit(&Block {
                setting: next.setting,
                alive: next.alive,
                right: next.right,
                ends_at: None,
                last_alive: &table.alive,
                last_right: &table.right,
                chunk_right: &table.chunk_right,
                corrected: self.every,
            });
        }
        if let Some(exit) = second_last {
            let mut next = *state;
            next.setting[exit] = rows as u16;
            next.right += table.first_right[rows];
            visit(&self.single(next, exit));
        }
    }

    /// From samples to parts: what is right under a setting with each of its last steps. All of it then counts as theirs.
    fn correct(&self, state: &mut Outer, last_right: &mut [u32]) {
        if let Some(corrections) = self.corrections {
            last_right.iter_mut().for_each(|right| *right += state.right);
            state.right = 0;
            corrections.apply(&state.setting, last_right);
        }
    }

    /// The block of a setting under which everybody leaves before the last side exit.
    fn single(&self, mut state: Outer, ends_at: usize) -> Block<'static> {
        let mut right = [0];
        self.correct(&mut state, &mut right);
        Block {
            setting: state.setting,
            alive: state.alive,
            right: state.right + right[0],
            ends_at: Some(ends_at),
            last_alive: &[],
            last_right: &[],
            chunk_right: &[],
            corrected: self.every,
        }
    }
}

/// What the exits before the table's have done.
#[derive(Clone, Copy)]
struct Outer {
    setting: Setting,
    alive: [u32; MAX_EXITS + 1],
    right: u32,
}

impl Block<'_> {
    /// Whether a step of the last side exit differs from "always".
    pub fn differs(&self, step: usize) -> bool {
        self.corrected || self.last_alive[step] > 0
    }
}

/// Bits of a count in a cell of the table: three fit into one word, so that one addition counts them all.
pub(super) const COUNT_BITS: u32 = 21;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// One sample in a cell: counted, and once more where an exit has it right.
fn word(last_right: u64, final_right: u64) -> u64 {
    1 | last_right << COUNT_BITS | final_right << (2 * COUNT_BITS)
}

/// The joint table of the last two side exits.
#[derive(Default)]
struct Table {
    /// `sums[row][column]`: samples that pass step `row` of the second-last exit, by the step at which they leave the last
    /// one: how many, how many of them the last side exit has right, how many the final one.
    sums: Vec<u64>,
    columns: usize,
    /// Per step of the second-last exit: samples that go on, and samples that have left rightly.
    first_alive: Vec<u32>,
    first_right: Vec<u32>,
    alive: Vec<u32>,
    right: Vec<u32>,
    chunk_right: Vec<u32>,
}

impl Table {
    /// Counts `samples`; of an exit that is not there, everybody passes step 0.
    fn fill(
        &mut self,
        answers: &Answers<'_>,
        second_last: Option<usize>,
        last: Option<usize>,
        samples: &[u32],
    ) {
        let width = |exit: Option<usize>| exit.map(|exit| answers.grids.thresholds[exit].len());
        let (rows, columns) = (width(second_last).unwrap_or(2), width(last).unwrap_or(1));
        self.columns = columns;
        self.sums.clear();
        self.sums.resize((rows - 1) * columns, 0);
        for counts in [&mut self.first_alive, &mut self.first_right] {
            counts.clear();
            counts.resize(rows, 0);
        }
        let of = |exit: usize| (answers.steps(exit), answers.right[exit]);
        let (first, second) = (second_last.map(of), last.map(of));
        let final_right = answers.right[answers.side];
        match (first, second) {
            (Some((rows, right)), Some((cells, last))) if samples.len() == answers.samples => {
                self.count_all(rows, right, cells, last, final_right);
            }
            _ => {
                for &sample in samples {
                    let at = sample as usize;
                    let row = first.map_or(1, |(steps, _)| usize::from(steps[at]));
                    let column = second.map_or(0, |(steps, _)| usize::from(steps[at]));
                    let last_right = second.map_or(0, |(_, right)| right.bit(at));
                    self.sums[(row - 1) * columns + column] += word(last_right, final_right.bit(at));
                    self.first_alive[row] += 1;
                    self.first_right[row] += first.map_or(0, |(_, right)| right.bit(at)) as u32;
                }
            }
        }
        self.accumulate();
    }

    /// The usual case of [`Table::fill`]: two exits and every sample, 64 samples at a time.
    fn count_all(
        &mut self,
        rows: &[u16],
        right: &SampleSet,
        cells: &[u16],
        last: &SampleSet,
        final_right: &SampleSet,
    ) {
        let rights = right.words().iter().zip(last.words()).zip(final_right.words());
        for ((rows, cells), ((&right, &last), &end)) in rows.chunks(64).zip(cells.chunks(64)).zip(rights) {
            for (bit, (&row, &cell)) in rows.iter().zip(cells).enumerate() {
                let (row, cell) = (usize::from(row), usize::from(cell));
                self.sums[(row - 1) * self.columns + cell] += word(last >> bit & 1, end >> bit & 1);
                self.first_alive[row] += 1;
                self.first_right[row] += (right >> bit & 1) as u32;
            }
        }
    }

    /// From "leaves at this step of the second-last exit" to "leaves after it".
    fn accumulate(&mut self) {
        for at in (0..self.sums.len().saturating_sub(self.columns)).rev() {
            self.sums[at] += self.sums[at + self.columns];
        }
        let mut alive = 0;
        for count in self.first_alive.iter_mut().rev() {
            alive += std::mem::replace(count, alive);
        }
        let mut right = 0;
        for count in &mut self.first_right {
            right += *count;
            *count = right;
        }
    }

    /// The last side exit's settings, the second-last one's being `row`.
    fn row(&mut self, row: usize, has_last: bool) {
        let cells = &self.sums[row * self.columns..(row + 1) * self.columns];
        self.alive.clear();
        self.right.clear();
        let all: u64 = cells.iter().sum();
        let mut gone = 0;
        for cell in cells {
            gone += if has_last { *cell } else { 0 };
            let stay = all - gone;
            self.alive.push((stay & COUNT) as u32);
            self.right.push(((gone >> COUNT_BITS & COUNT) + (stay >> (2 * COUNT_BITS))) as u32);
        }
    }

    /// The greatest counts of right answers in each chunk of the last side exit's steps.
    fn chunks(&mut self, has_last: bool) {
        let steps = if has_last { 1..self.right.len() - 1 } else { 0..0 };
        self.chunk_right.clear();
        let chunks = self.right[steps].chunks(CHUNK);
        self.chunk_right.extend(chunks.map(|chunk| chunk.iter().copied().max().unwrap_or(0)));
    }
}
