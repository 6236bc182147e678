//! Outcomes made from tables without samples. What such a table does not tell is assumed, so plans from it are weaker than
//! those from per-sample outcomes:
//!
//! - the same samples are easy at every exit: whoever passes a low threshold at one would do so at all others;
//! - within a step of a table, and at exits without steps, right answers are spread evenly.

use super::outcomes::Outcomes;
use super::plan::Threshold;
use super::scenario::Marginal;
use crate::units::Share;

/// Stand-ins for samples, from the easiest to the hardest: shares are exact to one in this many.
const STAND_INS: usize = 10_000;

/// As many as a threshold grid may have.
const MOST_STEPS: usize = 1000;

/// One sample that is always right: what counts is whether an answer is the uncut model's.
pub(super) fn always_right() -> Outcomes {
    Outcomes::new(&[true], vec![0.0]).unwrap_or_else(|| unreachable!("as many of both"))
}

/// Stand-ins that answer as a table says.
pub(super) fn outcomes(table: &Marginal) -> Result<Outcomes, String> {
    let mut right = Vec::with_capacity(STAND_INS);
    let mut entropy = Vec::with_capacity(STAND_INS);
    if table.steps.len() > MOST_STEPS {
        return Err(format!(
            "at most {MOST_STEPS} marginal steps were expected, found {}",
            table.steps.len()
        ));
    }
    let mut last = (-1.0, 0.0, 0.0);
    for step in &table.steps {
        let (threshold, share) = (step.entropy.0, step.share.0);
        if !(threshold > last.0 && threshold <= 1.0 && share >= last.1 && share <= 1.0) {
            return Err("marginal steps need rising thresholds and shares of 0 to 1".into());
        }
        let answered = share * step.accuracy.0;
        spread(&mut right, share, answered - last.2)?;
        entropy.resize(right.len(), threshold as f32);
        last = (threshold, share, answered);
    }
    spread(&mut right, 1.0, table.accuracy.0 - last.2)?;
    // Beyond the last threshold nothing leaves but by "always".
    entropy.resize(STAND_INS, 1.0);
    Outcomes::new(&right, entropy).ok_or_else(|| "more shares than samples".into())
}

/// The thresholds of a table's steps, as the entropies of its stand-ins are kept.
pub(super) fn thresholds(table: &Marginal) -> Vec<Threshold> {
    let mut entropies: Vec<f32> = table.steps.iter().map(|step| step.entropy.0 as f32).collect();
    entropies.dedup();
    entropies.into_iter().map(|entropy| Threshold::Entropy(Share(f64::from(entropy)))).collect()
}

/// How many times each sample is to count: once where these shares of all are whole numbers of them, else so many times that
/// they are exact to one in [`STAND_INS`].
pub(super) fn repeats(samples: usize, shares: &[Share]) -> usize {
    let is_whole = |share: &Share| {
        let count = share.0 * samples as f64;
        (count - count.round()).abs() < 1e-9 * samples as f64
    };
    if shares.iter().all(is_whole) { 1 } else { STAND_INS.div_ceil(samples) }
}

/// Adds stand-ins up to the share `end`, of which `answered` (a share of all) are right.
fn spread(right: &mut Vec<bool>, end: f64, answered: f64) -> Result<(), String> {
    let count = ((end * STAND_INS as f64).round() as usize).saturating_sub(right.len());
    let hits = (answered * STAND_INS as f64).round();
    // One stand-in's worth of rounding on either side.
    if hits < -1.0 || hits > count as f64 + 1.0 {
        return Err("marginal accuracies contradict each other: no samples answer so".into());
    }
    let hits = (hits.max(0.0) as usize).min(count);
    right.extend((0..count).map(|index| (index + 1) * hits / count > index * hits / count));
    Ok(())
}

/// The samples of `exit`, as sure as before, but this share of them right: answers are turned evenly over the samples.
pub(super) fn with_accuracy(exit: &Outcomes, accuracy: Share) -> Outcomes {
    let samples = exit.len();
    let wanted = ((accuracy.0 * samples as f64).round() as usize).min(samples);
    let found = exit.right_count();
    let gains = wanted >= found;
    let (turned, among) = if gains { (wanted - found, samples - found) } else { (found - wanted, found) };
    let mut seen = 0;
    let right: Vec<bool> = (0..samples)
        .map(|sample| {
            let was = exit.right().contains(sample);
            if was == gains {
                return was;
            }
            seen += 1;
            was ^ (seen * turned / among > (seen - 1) * turned / among)
        })
        .collect();
    let entropy = (0..samples).map(|sample| exit.entropy(sample).0 as f32).collect();
    Outcomes::new(&right, entropy).unwrap_or_else(|| unreachable!("as many of both"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scenario::MarginalStep;
    use super::*;

    fn step(entropy: f64, share: f64, accuracy: f64) -> MarginalStep {
        MarginalStep { entropy: Share(entropy), share: Share(share), accuracy: Share(accuracy) }
    }

    #[test]
    fn stand_ins_answer_as_their_table() {
        let table =
            Marginal { accuracy: Share(0.7), steps: vec![step(0.1, 0.25, 0.96), step(0.4, 0.5, 0.9)] };
        let made = outcomes(&table).unwrap();
        for row in &table.steps {
            // Entropies are kept as 32-bit floats.
            let leaving = made.leaving(Threshold::Entropy(Share(f64::from(row.entropy.0 as f32))));
            assert_eq!(leaving.count(), (row.share.0 * 10_000.0) as usize);
            let right = leaving.count_and(made.right()) as f64 / leaving.count() as f64;
            assert!((right - row.accuracy.0).abs() < 1e-3);
        }
        assert_eq!(made.right_count(), 7000);
    }

    #[test]
    fn tables_that_contradict_themselves_are_refused() {
        for steps in [
            vec![step(0.2, 0.5, 0.9), step(0.1, 0.6, 0.9)],
            vec![step(0.2, 0.5, 0.9), step(0.3, 0.4, 0.9)],
            vec![step(0.2, 1.2, 0.9)],
            // Half of all are right already, then the next tenth is to lose some of them.
            vec![step(0.2, 0.5, 1.0), step(0.3, 0.6, 0.5)],
            // 0.8 of all are right early, but only 0.7 in the end.
            vec![step(0.2, 0.8, 1.0)],
        ] {
            assert!(outcomes(&Marginal { accuracy: Share(0.7), steps }).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_accuracy_can_be_asked_for(
            right in proptest::collection::vec(any::<bool>(), 1..50), asked in 0.0f64..=1.0,
        ) {
            let exit = Outcomes::new(&right, vec![0.5; right.len()]).unwrap();
            let made = with_accuracy(&exit, Share(asked));
            prop_assert_eq!(made.right_count(), (asked * right.len() as f64).round() as usize);
            let kept = (0..right.len()).filter(|&s| made.right().contains(s) == right[s]).count();
            prop_assert_eq!(right.len() - kept, made.right_count().abs_diff(exit.right_count()));
        }
    }
}
