//! Threshold settings evaluated on the joint record of all exits: no model runs, and shares are counts of samples.

use std::iter;

use serde::{Deserialize, Serialize};

use super::stats::wilson95;
use crate::data::{ExitRecord, Split};
use coprof_core::model::{Cut, ExitId, Graph};
use coprof_core::plan::Threshold;
use coprof_core::units::Share;

/// One split of an exit record, laid out for sweeping.
#[derive(Clone, Debug)]
pub struct SweepTable {
    exits: usize,
    /// Row by row, one entropy per exit.
    entropy: Vec<f32>,
    /// In the same order, whether the exit is right.
    right: Vec<bool>,
}

/// What a threshold setting does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// One per exit, the final one included.
    pub thresholds: Vec<Threshold>,
    /// Share of samples that are right where they leave.
    pub accuracy: Share,
    /// Wilson's 95 % interval of `accuracy`.
    pub accuracy_ci95: [Share; 2],
    /// Per exit the share of samples that leave there.
    pub exit_fractions: Vec<Share>,
}

/// A setting chosen on one split and what it does on another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Where it was chosen.
    pub validation: SweepPoint,
    /// What to report.
    pub test: SweepPoint,
}

impl SweepTable {
    /// The samples of one split.
    pub fn new(record: &ExitRecord, split: Split) -> Self {
        let answers =
            || record.of_split(split).flat_map(|sample| iter::repeat(sample.label).zip(&sample.exits));
        Self {
            exits: record.exits.len(),
            entropy: answers().map(|(_, answer)| answer.entropy.0 as f32).collect(),
            right: answers().map(|(label, answer)| answer.prediction == label).collect(),
        }
    }

    /// How many samples.
    pub fn samples(&self) -> usize {
        self.entropy.len() / self.exits.max(1)
    }

    /// Share of all samples that an exit gets right, whether or not they would leave there, with its 95 % interval.
    pub fn accuracy_of(&self, exit: ExitId) -> (Share, [Share; 2]) {
        let right = self.right.iter().skip(exit.0).step_by(self.exits.max(1)).filter(|&&right| right).count();
        (Share::of(right, self.samples()), wilson95(right, self.samples()))
    }

    /// What happens under these thresholds, one per exit. Who passes none leaves at the final exit.
    pub fn evaluate(&self, thresholds: &[Threshold]) -> SweepPoint {
        let last = self.exits - 1;
        let limits: Vec<f32> = thresholds.iter().take(last).map(|&threshold| limit_of(threshold)).collect();
        let (mut left, mut right_count) = (vec![0; self.exits], 0);
        for (entropy, right) in self.entropy.chunks_exact(self.exits).zip(self.right.chunks_exact(self.exits))
        {
            // From the last exit back, without branches: which exit it is cannot be foreseen.
            let mut exit = last;
            for (earlier, (entropy, limit)) in entropy.iter().zip(&limits).enumerate().rev() {
                exit = if entropy <= limit { earlier } else { exit };
            }
            left[exit] += 1;
            right_count += usize::from(right[exit]);
        }
        SweepPoint {
            thresholds: thresholds.to_vec(),
            accuracy: Share::of(right_count, self.samples()),
            accuracy_ci95: wilson95(right_count, self.samples()),
            exit_fractions: left.into_iter().map(|count| Share::of(count, self.samples())).collect(),
        }
    }
}

/// The largest 32-bit entropy that passes.
fn limit_of(threshold: Threshold) -> f32 {
    match threshold {
        Threshold::Never => f32::NEG_INFINITY,
        Threshold::Always => f32::INFINITY,
        Threshold::Entropy(Share(limit)) => {
            let nearest = limit as f32;
            if f64::from(nearest) > limit { nearest.next_down() } else { nearest }
        }
    }
}

/// At most `wanted` settings (at least one): per side exit never, always, and entropies that let even shares of the samples
/// through, in all combinations. The final exit is always "always".
pub fn settings(table: &SweepTable, wanted: usize) -> Vec<Vec<Threshold>> {
    let side_exits = table.exits - 1;
    let mut steps = 1;
    while (steps + 1usize).checked_pow(side_exits as u32).is_some_and(|count| count <= wanted)
        && steps < wanted
    {
        steps += 1;
    }
    let mut all = vec![Vec::new()];
    for exit in 0..side_exits {
        let choices = thresholds_of(table, exit, steps);
        all = all
            .iter()
            .flat_map(|head| choices.iter().map(move |&choice| [head.as_slice(), &[choice]].concat()))
            .collect();
    }
    all.iter_mut().for_each(|setting| setting.push(Threshold::Always));
    all
}

/// At most `steps` thresholds of one exit.
fn thresholds_of(table: &SweepTable, exit: usize, steps: usize) -> Vec<Threshold> {
    let mut sorted: Vec<f32> = table.entropy.iter().skip(exit).step_by(table.exits).copied().collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let parts = steps.saturating_sub(1);
    let mut entropies: Vec<f32> =
        (1..parts).filter_map(|part| sorted.get(sorted.len() * part / parts).copied()).collect();
    entropies.dedup();
    let between = entropies.into_iter().map(|entropy| Threshold::Entropy(Share(f64::from(entropy))));
    iter::once(Threshold::Never).chain(between).chain(iter::once(Threshold::Always)).take(steps).collect()
}

/// Every setting evaluated.
pub fn sweep(table: &SweepTable, settings: &[Vec<Threshold>]) -> Vec<SweepPoint> {
    settings.iter().map(|setting| table.evaluate(setting)).collect()
}

/// The setting of the least `cost` among those that reach `floor` on the validation split, and what it does on the test
/// split; of equal costs the more accurate one. `None` when no setting reaches the floor.
pub fn choose(
    validation: &[SweepPoint],
    test: &SweepTable,
    floor: Share,
    cost: &dyn Fn(&SweepPoint) -> f64,
) -> Option<Choice> {
    let order = |a: &&SweepPoint, b: &&SweepPoint| {
        cost(a).total_cmp(&cost(b)).then(b.accuracy.0.total_cmp(&a.accuracy.0))
    };
    let best = validation.iter().filter(|point| point.accuracy >= floor).min_by(order)?;
    Some(Choice { validation: best.clone(), test: test.evaluate(&best.thresholds) })
}

/// Multiply-accumulate operations per sample under a setting, on average: each sample is charged the trunk as far as the
/// exit where it leaves, and the heads of all exits that it tried.
pub fn expected_macs(graph: &Graph, point: &SweepPoint) -> f64 {
    let macs = |cut: &Cut| cut.layers().map(|id| graph.layer(id).macs).sum::<u64>() as f64;
    let head_macs =
        |exit: ExitId| graph.head(exit).into_iter().map(|id| graph.layer(id).macs).sum::<u64>() as f64;
    let (mut reached, mut heads, mut expected) = (0.0f64, 0.0, 0.0);
    let exits = point.exit_fractions.iter().zip(&point.thresholds).enumerate();
    for (exit, (fraction, _)) in exits.filter(|(_, (_, threshold))| threshold.is_on()) {
        reached = reached.max(macs(&Cut::needed_by(graph, ExitId(exit))));
        heads += head_macs(ExitId(exit));
        expected += fraction.0 * (reached + heads);
    }
    expected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{TestRow, test_record};
    use coprof_core::model::samples::chain;

    fn entropy(limit: f64) -> Threshold {
        Threshold::Entropy(Share(limit))
    }

    /// Four validation samples of class 1: exit 0 is sure and right, sure and wrong, unsure and right, unsure and wrong.
    fn table() -> SweepTable {
        let rows: [TestRow<'_>; 5] = [
            (Split::Validation, 1, &[(1, 0.1), (1, 0.0)]),
            (Split::Validation, 1, &[(2, 0.2), (1, 0.0)]),
            (Split::Validation, 1, &[(1, 0.8), (1, 0.0)]),
            (Split::Validation, 1, &[(2, 0.9), (2, 0.0)]),
            (Split::Test, 1, &[(2, 0.1), (1, 0.0)]),
        ];
        SweepTable::new(&test_record(&rows), Split::Validation)
    }

    #[test]
    fn samples_leave_where_they_first_pass() {
        for (threshold, accuracy, at_first) in [
            (Threshold::Never, 0.75, 0.0),
            (entropy(0.15), 0.75, 0.25),
            (entropy(0.5), 0.5, 0.5),
            (Threshold::Always, 0.5, 1.0),
        ] {
            let point = table().evaluate(&[threshold, Threshold::Always]);
            assert_eq!(
                (point.accuracy, point.exit_fractions),
                (Share(accuracy), vec![Share(at_first), Share(1.0 - at_first)])
            );
        }
        assert_eq!(table().accuracy_of(ExitId(0)).0, Share(0.5));
        assert_eq!(table().accuracy_of(ExitId(1)).0, Share(0.75));
    }

    #[test]
    fn the_cheapest_setting_above_the_floor_is_reported_on_test() {
        let table = table();
        let points = sweep(&table, &settings(&table, 10));
        let least_late = |point: &SweepPoint| point.exit_fractions[1].0;
        let choice = choose(&points, &table, Share(0.75), &least_late).unwrap();
        assert_eq!(choice.validation.exit_fractions[0], Share(0.25));
        assert_eq!(choice.test.accuracy_ci95, wilson95(3, 4));
        assert!(choose(&points, &table, Share(0.8), &least_late).is_none());
    }

    #[test]
    fn settings_keep_to_their_number_and_hold_the_extremes() {
        let table = table();
        for wanted in [1, 2, 5, 1000] {
            let settings = settings(&table, wanted);
            assert!((1..=wanted).contains(&settings.len()), "{wanted}: {}", settings.len());
            assert_eq!(settings[0], [Threshold::Never, Threshold::Always]);
        }
        assert!(settings(&table, 2).contains(&vec![Threshold::Always, Threshold::Always]));
    }

    #[test]
    fn work_is_charged_as_far_as_each_sample_goes() {
        let graph = chain();
        let at = |thresholds: [Threshold; 2], first: f64| {
            let exit_fractions = vec![Share(first), Share(1.0 - first)];
            let (thresholds, accuracy_ci95) = (thresholds.to_vec(), wilson95(0, 0));
            expected_macs(
                &graph,
                &SweepPoint { thresholds, accuracy: Share(1.0), accuracy_ci95, exit_fractions },
            )
        };
        let macs = |ids: &[usize]| ids.iter().map(|&id| graph.layers[id].macs).sum::<u64>() as f64;
        let (early, late) = (macs(&[0, 1, 2]), macs(&[0, 1, 2, 3, 4, 5]));
        assert_eq!(at([Threshold::Never, Threshold::Always], 0.0), late - macs(&[2]));
        assert_eq!(at([Threshold::Always, Threshold::Always], 1.0), early);
        assert_eq!(at([entropy(0.5), Threshold::Always], 0.25), 0.25 * early + 0.75 * late);
    }

    proptest! {
        #[test]
        fn fractions_sum_to_one_and_agree_with_the_thresholds(
            rows in prop::collection::vec(prop::collection::vec((0u32..3, 0u32..=20), 3), 1..40),
            limits in prop::collection::vec(0u32..=20, 2),
        ) {
            let rows: Vec<Vec<(u32, f64)>> = rows.into_iter()
                .map(|row| row.into_iter().map(|(class, twentieths)| (class, f64::from(twentieths) / 20.0)).collect())
                .collect();
            let samples: Vec<_> = rows.iter().map(|row| (Split::Test, 1, row.as_slice())).collect();
            let table = SweepTable::new(&test_record(&samples), Split::Test);
            // Limits as they come from the record, which holds 32 bits.
            let thresholds = [entropy(f64::from(limits[0] as f32 / 20.0)), entropy(f64::from(limits[1] as f32 / 20.0)), Threshold::Always];
            let point = table.evaluate(&thresholds);
            prop_assert!((point.exit_fractions.iter().map(|share| share.0).sum::<f64>() - 1.0).abs() < 1e-9);
            let leaves = |row: &&Vec<(u32, f64)>| {
                let passes = |exit: usize| thresholds[exit].passes(Share(f64::from(row[exit].1 as f32)));
                if passes(0) { 0 } else if passes(1) { 1 } else { 2 }
            };
            let right = rows.iter().filter(|row| row[leaves(row)].0 == 1).count();
            prop_assert_eq!(point.accuracy, Share::of(right, rows.len()));
        }
    }
}
