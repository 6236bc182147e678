//! Accuracies as counts of right answers.
//!
//! Trying every encoding on a sample costs seconds, asking the exits without one costs milliseconds. So a scenario may know
//! what the exits answer uncut on more samples than it knows anything of behind encodings. A plan's accuracy is then that of
//! its thresholds on the more samples, uncut, plus what its encoding changes on the fewer: the difference estimator (Särndal,
//! Swensson, Wretman: "Model Assisted Survey Sampling", 1992, section 6.3). It is unbiased as the plain mean over the fewer is,
//! and varies less, since few answers change behind an encoding: thresholds that only fit the fewer samples gain nothing.

use super::marginal;
use super::outcomes::{Outcomes, parts};
use super::plan::{ExitPlan, Threshold};
use super::problem::Problem;
use crate::units::Share;

/// Of more exits than these there are too many ways to have some on and others off.
pub(super) const MAX_EXITS: usize = 12;

/// Per exit an index into its grid; 0 is "never".
pub(super) type Setting = [u16; MAX_EXITS];

/// In what parts a scenario counts right answers: one a sample, or, where it knows more samples uncut, the least common
/// multiple of both numbers of samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    /// Parts that make up an accuracy of 1.
    whole: u32,
    /// Parts of a sample that is known behind encodings, and of one that is known uncut; 0 where no more are known so.
    weight: u32,
    uncut_weight: u32,
}

impl Tally {
    pub fn of(scenario: &Problem) -> Self {
        Self::new(scenario.samples(), scenario.uncut_samples())
    }

    fn new(few: usize, more: usize) -> Self {
        if more == 0 {
            return Self { whole: few as u32, weight: 1, uncut_weight: 0 };
        }
        let whole = parts(few, more);
        Self {
            whole: whole as u32,
            weight: (whole / few.max(1) as u64) as u32,
            uncut_weight: (whole / more as u64) as u32,
        }
    }

    /// The accuracy of so many parts.
    pub fn accuracy(self, right: u32) -> Share {
        Share::of(right as usize, self.whole as usize)
    }

    /// Parts that make up this accuracy at least; may be more than there are.
    pub fn parts_of(self, accuracy: f64) -> u32 {
        (accuracy * f64::from(self.whole)).ceil().max(0.0) as u32
    }

    /// The parts that an accuracy stands for.
    pub fn parts_in(self, accuracy: Share) -> u32 {
        (accuracy.0 * f64::from(self.whole)).round() as u32
    }

    /// How far so many parts fall short of the wanted ones, as an accuracy.
    pub fn shortfall(self, wanted: u32, right: u32) -> f64 {
        (f64::from(wanted) - f64::from(right)) / f64::from(self.whole)
    }

    /// The parts that are right under a plan: samples that it has right, and those that its thresholds have right uncut, of
    /// the same samples and of the more.
    pub fn count(self, right: usize, uncut: usize, more_uncut: usize) -> u32 {
        self.corrected(right as u32, self.correction(uncut as u32, more_uncut as u32))
    }

    pub fn correction(self, uncut: u32, more_uncut: u32) -> i32 {
        if self.uncut_weight == 0 {
            return 0;
        }
        (self.uncut_weight * more_uncut) as i32 - (self.weight * uncut) as i32
    }

    /// Parts that are right, after so many more samples that are known behind encodings are right.
    pub fn moved(self, right: u32, samples: i32) -> u32 {
        right.saturating_add_signed(self.weight as i32 * samples).min(self.whole)
    }

    /// So many right samples, corrected.
    pub fn corrected(self, right: u32, correction: i32) -> u32 {
        (self.weight * right).saturating_add_signed(correction).min(self.whole)
    }
}

/// How many samples thresholds get right when every exit answers uncut.
pub(super) fn right_uncut(outcomes: &[Outcomes], exits: &[ExitPlan]) -> usize {
    let samples = outcomes.first().map_or(0, Outcomes::len);
    let right = |sample: &usize| {
        let mut tried = outcomes.iter().zip(exits).filter(|(_, exit)| exit.threshold.is_on());
        let leaves = tried.find(|(outcomes, exit)| exit.threshold.passes(outcomes.entropy(*sample)));
        leaves.is_some_and(|(outcomes, _)| outcomes.right().contains(*sample))
    };
    (0..samples).filter(right).count()
}

/// An exit's thresholds between "never" and "always": those of its table, or even shares of all samples whose uncut answers
/// are known.
pub(super) fn threshold_grid(scenario: &Problem, exit: usize) -> Vec<Threshold> {
    if let Some(table) = &scenario.exits[exit].marginal {
        return marginal::thresholds(table);
    }
    let known = scenario.uncut_outcomes.get(exit).unwrap_or(&scenario.outcomes[exit]);
    known.entropy_quantiles(scenario.threshold_steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_on_few_samples_moves_what_all_of_them_say() {
        // 0.8 of the 10 uncut; behind the encoding one of the 4 fewer than uncut.
        let tally = Tally::new(4, 10);
        assert!((tally.accuracy(tally.count(2, 3, 8)).0 - 0.55).abs() < 1e-12);
        assert!((tally.accuracy(tally.count(3, 3, 8)).0 - 0.8).abs() < 1e-12);
        assert_eq!(tally.accuracy(tally.count(0, 4, 5)), Share(0.0));
        assert_eq!(tally.accuracy(tally.count(4, 0, 9)), Share(1.0));
    }

    #[test]
    fn without_more_samples_it_counts_the_few() {
        let tally = Tally::new(4, 0);
        assert_eq!(tally.accuracy(tally.count(3, 1, 0)), Share(0.75));
        assert_eq!(tally.parts_of(0.75), 3);
    }
}
