//! What the exits answer under the settings of their thresholds: how many samples reach each exit, and how many are answered
//! right. All counts of joint records, never products of shares.
//!
//! Settings are counted by the region, 64 samples at a time: of each exit in turn it is known which samples leave there under
//! some setting of the region, and which under all. A region's greatest count of right answers takes each sample as
//! right that is so at one of the exits where it may leave; reaches are least where all thresholds are at their
//! highest. With a single setting both are what it does.

use std::cell::OnceCell;

use pulp::Arch;

use super::outcomes::{Outcomes, SampleSet};
use super::plan::Threshold;
use super::problem::Problem;
use super::region::Region;
use super::space::{Path, Space};
use super::tally::{MAX_EXITS, Tally, threshold_grid};
use crate::units::Share;

/// A threshold grid per exit: `[never, entropies…, always]`, the final exit's `[never, always]`.
pub(super) struct Grids {
    pub thresholds: Vec<Vec<Threshold>>,
    /// Per side exit the entropies of its grid.
    entropies: Vec<Vec<f32>>,
}

impl Grids {
    pub fn new(scenario: &Problem) -> Self {
        let side = scenario.outcomes.len() - 1;
        let (mut thresholds, mut entropies) = (Vec::new(), Vec::new());
        for exit in 0..side {
            let steps = threshold_grid(scenario, exit);
            entropies.push(steps.iter().copied().filter_map(entropy).collect());
            let ends = (Threshold::Never, Threshold::Always);
            thresholds.push([vec![ends.0], steps, vec![ends.1]].concat());
        }
        thresholds.push(vec![Threshold::Never, Threshold::Always]);
        Self { thresholds, entropies }
    }

    /// Some thresholds of each grid, evenly spread, so that there are no more settings than these, "never" and "always"
    /// included. `None` where there are no more anyway.
    pub fn thinned(&self, most_settings: f64) -> Option<Self> {
        let side = self.entropies.len();
        let settings: f64 = self.entropies.iter().map(|grid| grid.len() as f64 + 2.0).product();
        if settings <= most_settings {
            return None;
        }
        // Roots of round numbers come out a little below them.
        let width = (most_settings.powf(1.0 / side as f64) + 1e-9) as usize;
        let steps = width.saturating_sub(2).max(1);
        let thin = |grid: &Vec<f32>| -> Vec<f32> {
            let chosen = |step: usize| grid[(step + 1) * (grid.len() + 1) / (steps + 1) - 1];
            if grid.len() <= steps { grid.clone() } else { (0..steps).map(chosen).collect() }
        };
        let entropies: Vec<Vec<f32>> = self.entropies.iter().map(thin).collect();
        let named = |grid: &Vec<f32>| {
            let steps = grid.iter().map(|&entropy| Threshold::Entropy(Share(f64::from(entropy))));
            std::iter::once(Threshold::Never).chain(steps).chain([Threshold::Always]).collect()
        };
        let last = std::iter::once(vec![Threshold::Never, Threshold::Always]);
        let thresholds = entropies.iter().map(named).chain(last).collect();
        Some(Self { thresholds, entropies })
    }

    /// Per side exit how many thresholds stand between "never" and "always".
    pub fn steps(&self) -> Vec<u16> {
        self.entropies.iter().map(|grid| grid.len() as u16).collect()
    }
}

fn entropy(threshold: Threshold) -> Option<f32> {
    match threshold {
        Threshold::Entropy(entropy) => Some(entropy.0 as f32),
        _ => None,
    }
}

/// One exit's answers on one set of samples.
struct Exit {
    samples: usize,
    right: SampleSet,
    /// The least grid index at which each sample leaves: that of "always" where no entropy lets it go. Nobody asks the final
    /// exit, so it has none.
    steps: Vec<u16>,
    /// Per grid index the samples that leave there or before, worked out when first asked for.
    leaving: Vec<OnceCell<SampleSet>>,
}

impl Exit {
    fn new(outcomes: &Outcomes, grid: Option<&Vec<f32>>) -> Self {
        let right = outcomes.right().clone();
        let samples = outcomes.len();
        let Some(grid) = grid else { return Self { samples, right, steps: Vec::new(), leaving: Vec::new() } };
        let step = |entropy: &f32| grid.partition_point(|step| step < entropy) as u16 + 1;
        let steps = outcomes.entropies().iter().map(step).collect();
        Self { samples, right, steps, leaving: vec![OnceCell::new(); grid.len() + 1] }
    }

    fn leaving(&self, step: u16) -> &[u64] {
        let work_out = || SampleSet::of(self.steps.len(), |sample| self.steps[sample] <= step);
        self.leaving[usize::from(step)].get_or_init(work_out).words()
    }
}

/// What a region's settings answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// Samples that reach each of the exits that are on, in their order, under the highest thresholds: the least of the region.
    pub reach: [u32; MAX_EXITS + 1],
    /// What the highest thresholds answer right, in parts of the scenario's tally.
    pub right: u32,
    /// No setting of the region answers more right.
    pub most_right: u32,
    /// Per exit that is on but the last, in their order, the samples that leave there under some setting and go on under
    /// another, and that one of it and the last exit has right: where the settings differ most.
    undecided: [u32; MAX_EXITS],
}

impl Answered {
    /// The side exit whose thresholds matter most in a region that has these on; `None` where it has one setting.
    pub fn most_undecided(&self, region: &Region, exits: &[usize]) -> Option<usize> {
        let open = |at: &usize| region.to[exits[*at]] > region.from[exits[*at]];
        (0..exits.len()).filter(open).max_by_key(|&at| self.undecided[at]).map(|at| exits[at])
    }
}

/// The answers of all exits, uncut and behind every lossy path.
pub(super) struct Answers {
    tally: Tally,
    uncut: Vec<Exit>,
    /// The same on more samples, where the scenario knows more of them uncut.
    more: Vec<Exit>,
    /// Per path, where it is lossy, each exit that is known there.
    behind: Vec<Option<Vec<Option<Behind>>>>,
    arch: Arch,
}

/// What an exit answers behind a lossy path, beside what it answers uncut.
struct Behind {
    exit: Exit,
    /// Samples that leave at a lower threshold than uncut, and those that leave at a higher one.
    sooner: SampleSet,
    later: SampleSet,
}

impl Behind {
    fn new(exit: Exit, uncut: &Exit) -> Self {
        let (behind, before) = (&exit.steps, &uncut.steps);
        let sooner = SampleSet::of(behind.len(), |sample| behind[sample] < before[sample]);
        let later = SampleSet::of(behind.len(), |sample| behind[sample] > before[sample]);
        Self { exit, sooner, later }
    }
}

impl Answers {
    pub fn new(space: &Space<'_>, grids: &Grids) -> Self {
        let scenario = space.scenario;
        let of_exit = |exit: usize, known: &Outcomes| Exit::new(known, grids.entropies.get(exit));
        let all = |outcomes: &[Outcomes]| -> Vec<Exit> {
            outcomes.iter().enumerate().map(|(exit, known)| of_exit(exit, known)).collect()
        };
        let uncut = all(&scenario.outcomes);
        let behind = |(exit, known): (usize, &Option<&Outcomes>)| {
            known.map(|known| Behind::new(of_exit(exit, known), &uncut[exit]))
        };
        let of_path =
            |path: &Path<'_>| path.lossy.as_ref().map(|lossy| lossy.iter().enumerate().map(behind).collect());
        Self {
            tally: Tally::of(scenario),
            behind: space.paths.iter().map(of_path).collect(),
            more: all(&scenario.uncut_outcomes),
            uncut,
            arch: Arch::new(),
        }
    }

    /// The answers where nothing lossy crosses; `exits` are those that are on, the last of them answering all that reach it.
    pub fn uncut(&self, region: &Region, exits: &[usize]) -> Answered {
        let mut answered = self.count(&self.uncut, region, exits).answered();
        if !self.more.is_empty() {
            // All that the fewer samples tell is how many reach each exit.
            let more = self.count(&self.more, region, exits);
            let parts = |right| self.tally.corrected(0, self.tally.correction(0, right));
            (answered.right, answered.most_right) = (parts(more.right), parts(more.most_right));
        }
        answered
    }

    /// The answers where exits from `edge_from` on run behind a path that may be lossy. All exits that are on must be known there.
    pub fn behind(
        &self,
        path: usize,
        edge_from: usize,
        region: &Region,
        exits: &[usize],
        uncut: &Answered,
    ) -> Answered {
        let Some(lossy) = &self.behind[path] else { return *uncut };
        let (Some((&last, before)), none) = (exits.split_last(), &[][..]) else { return *uncut };
        let known = |exit: usize| lossy[exit].as_ref().filter(|_| exit >= edge_from);
        let mut gates = [GatePair { uncut: Gate::NONE, behind: Gate::NONE, moves: [none; 2] }; MAX_EXITS];
        for (gate, &exit) in gates.iter_mut().zip(before) {
            let uncut = Gate::of(&self.uncut[exit], region, exit);
            *gate = match known(exit) {
                Some(known) => GatePair {
                    uncut,
                    behind: Gate::of(&known.exit, region, exit),
                    moves: [known.sooner.words(), known.later.words()],
                },
                None => GatePair { uncut, behind: uncut, moves: [none; 2] },
            };
        }
        let uncut_last = &self.uncut[last];
        let last = [uncut_last, known(last).map_or(uncut_last, |known| &known.exit)];
        let (samples, last) = (uncut_last.samples, last.map(|exit| exit.right.words()));
        let changes = self.arch.dispatch(CountPair { samples, gates: &gates[..before.len()], last });
        let moved = |right: u32, changed: i32| self.tally.moved(right, changed);
        Answered {
            reach: changes.reach,
            right: moved(uncut.right, changes.right),
            most_right: moved(uncut.most_right, changes.most_right),
            undecided: uncut.undecided,
        }
    }

    fn count(&self, known: &[Exit], region: &Region, exits: &[usize]) -> Counts {
        let Some((&last, before)) = exits.split_last() else { return Counts::default() };
        let mut gates = [Gate::NONE; MAX_EXITS];
        for (gate, &exit) in gates.iter_mut().zip(before) {
            *gate = Gate::of(&known[exit], region, exit);
        }
        let gates = &gates[..before.len()];
        self.arch.dispatch(Count { samples: known[last].samples, gates, last: known[last].right.words() })
    }
}

/// An exit that some samples leave at.
#[derive(Clone, Copy)]
struct Gate<'s> {
    /// Who leaves under every setting of the region, and who under one at least, if they come so far.
    surely: &'s [u64],
    maybe: &'s [u64],
    right: &'s [u64],
}

impl<'s> Gate<'s> {
    const NONE: Gate<'static> = Gate { surely: &[], maybe: &[], right: &[] };

    fn of(known: &'s Exit, region: &Region, exit: usize) -> Self {
        Self {
            surely: known.leaving(region.from[exit]),
            maybe: known.leaving(region.to[exit]),
            right: known.right.words(),
        }
    }

    #[inline(always)]
    fn words(&self, at: usize) -> [u64; 3] {
        [self.surely[at], self.maybe[at], self.right[at]]
    }
}

/// Samples under a region's settings.
#[derive(Clone, Copy, Default)]
struct Counts {
    reach: [u32; MAX_EXITS + 1],
    right: u32,
    most_right: u32,
    undecided: [u32; MAX_EXITS],
}

impl Counts {
    /// In samples.
    fn answered(&self) -> Answered {
        Answered {
            reach: self.reach,
            right: self.right,
            most_right: self.most_right,
            undecided: self.undecided,
        }
    }
}

struct Count<'s> {
    samples: usize,
    gates: &'s [Gate<'s>],
    /// What the last exit has right, which all leave at.
    last: &'s [u64],
}

/// The samples of a word.
#[inline(always)]
fn samples_of(word: usize, samples: usize) -> u64 {
    u64::MAX >> (64 - (samples - word * 64).min(64))
}

/// Who is still there under some setting of a region, and who under its highest thresholds; who of those that have left may be
/// right, may be wrong, and is right under the highest thresholds.
#[derive(Clone, Copy)]
struct Passing {
    some: u64,
    highest: u64,
    maybe_right: u64,
    maybe_wrong: u64,
    right: u64,
}

impl Passing {
    #[inline(always)]
    fn new(all: u64) -> Self {
        Self { some: all, highest: all, maybe_right: 0, maybe_wrong: 0, right: 0 }
    }

    /// An exit where some leave surely, and some maybe.
    #[inline(always)]
    fn pass(&mut self, [surely, maybe, right]: [u64; 3]) {
        let may_leave = self.some & maybe;
        self.maybe_right |= may_leave & right;
        self.maybe_wrong |= may_leave & !right;
        self.right |= self.highest & maybe & right;
        self.some &= !surely;
        self.highest &= !maybe;
    }
}

impl pulp::NullaryFnOnce for Count<'_> {
    type Output = Counts;

    #[inline(always)]
    fn call(self) -> Counts {
        let mut counts = Counts::default();
        counts.reach[0] = self.samples as u32;
        for (at, &last) in self.last.iter().enumerate() {
            let all = samples_of(at, self.samples);
            let mut samples = Passing::new(all);
            let counted = counts.reach[1..].iter_mut().zip(&mut counts.undecided);
            for (gate, (reach, undecided)) in self.gates.iter().zip(counted) {
                let [surely, maybe, right] = gate.words(at);
                *undecided += (samples.some & maybe & !surely & (right ^ last)).count_ones();
                samples.pass([surely, maybe, right]);
                *reach += samples.highest.count_ones();
            }
            samples.pass([all, all, last]);
            counts.most_right += samples.maybe_right.count_ones();
            counts.right += samples.right.count_ones();
        }
        counts
    }
}

/// An exit uncut, and behind a lossy path.
#[derive(Clone, Copy)]
struct GatePair<'s> {
    uncut: Gate<'s>,
    behind: Gate<'s>,
    /// Samples that leave at a lower threshold behind the path, and those that leave at a higher one; empty where the exit lies
    /// before the path.
    moves: [&'s [u64]; 2],
}

/// What a lossy path changes under a region's settings.
#[derive(Clone, Copy, Default)]
struct Changes {
    /// Samples that reach each exit behind the path.
    reach: [u32; MAX_EXITS + 1],
    /// How many more are right than uncut under the highest thresholds, and at most under any.
    right: i32,
    most_right: i32,
}

struct CountPair<'s> {
    samples: usize,
    gates: &'s [GatePair<'s>],
    /// What the last exit has right, uncut and behind the path.
    last: [&'s [u64]; 2],
}

impl pulp::NullaryFnOnce for CountPair<'_> {
    type Output = Changes;

    /// A sample that leaves at the same exit as uncut, whatever the setting, is changed only where that exit answers otherwise.
    #[inline(always)]
    fn call(self) -> Changes {
        let mut changes = Changes::default();
        changes.reach[0] = self.samples as u32;
        for (at, (&last, &last_behind)) in self.last[0].iter().zip(self.last[1]).enumerate() {
            let all = samples_of(at, self.samples);
            let (mut uncut, mut behind) = (Passing::new(all), Passing::new(all));
            // Who may leave at another exit than uncut, and whom an exit where they may leave puts right.
            let (mut strays, mut mended) = (0, 0);
            for (gate, reach) in self.gates.iter().zip(&mut changes.reach[1..]) {
                let (before, after) = (gate.uncut.words(at), gate.behind.words(at));
                let ([surely, maybe, right], [surely_behind, maybe_behind, right_behind]) = (before, after);
                mended |= behind.some & maybe_behind & right_behind & !right;
                if let [Some(sooner), Some(later)] = gate.moves.map(|moves| moves.get(at)) {
                    strays |= sooner & maybe_behind & !surely;
                    strays |= later & maybe & !surely_behind;
                }
                uncut.pass(before);
                behind.pass(after);
                *reach += behind.highest.count_ones();
            }
            mended |= behind.some & last_behind & !last;
            uncut.pass([all, all, last]);
            behind.pass([all, all, last_behind]);
            let may_gain = behind.maybe_right & uncut.maybe_wrong & (strays | mended);
            let surely_lost = all & !behind.maybe_right & !uncut.maybe_wrong;
            changes.most_right += may_gain.count_ones() as i32 - surely_lost.count_ones() as i32;
            changes.right += behind.right.count_ones() as i32 - uncut.right.count_ones() as i32;
        }
        changes
    }
}
