//! How sure an exit is of its answer.

use crate::units::Share;

/// What an exit's logits say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The most probable class; the first of several. Of two that one output tells apart, 1 is the one that it is the
    /// probability of.
    pub class: u32,
    /// Entropy of the class probabilities over the logarithm of the class count: 0 is sure, 1 knows nothing.
    pub entropy: Share,
    /// The probability of `class`.
    pub top: Share,
}

/// Softmax of `logits` and what follows from it, in double precision, shifted by the largest logit so that nothing
/// overflows. Logits that are not finite count as knowing nothing: such a sample leaves only where it must. One output alone
/// is no logit but the probability of class 1 of two.
pub fn confidence(logits: &[f32]) -> Confidence {
    if let &[probability] = logits {
        return decision(probability.into());
    }
    let (classes, class) = (logits.len(), place_of_largest(logits));
    let finite = logits.iter().all(|logit| logit.is_finite());
    if classes < 2 || !finite {
        let top = 1.0 / classes.max(1) as f64;
        return Confidence { class: class as u32, entropy: Share(1.0), top: Share(top) };
    }
    // With z = logit − max and S = Σ e^z: p = e^z / S and H = −Σ p ln p = ln S − Σ z e^z / S.
    let largest = f64::from(logits[class]);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for logit in logits {
        let z = f64::from(*logit) - largest;
        let power = z.exp();
        sum += power;
        weighted += z * power;
    }
    let entropy = (sum.ln() - weighted / sum) / (classes as f64).ln();
    Confidence { class: class as u32, entropy: Share(entropy.clamp(0.0, 1.0)), top: Share(1.0 / sum) }
}

/// Where the largest of some numbers stands, the first of several. What is no number counts as the least.
pub fn place_of_largest(numbers: &[f32]) -> usize {
    let mut place = 0;
    for (index, number) in numbers.iter().enumerate() {
        if *number > numbers[place] || numbers[place].is_nan() {
            place = index;
        }
    }
    place
}

/// Whether something is so, given its probability. What is no probability knows nothing.
fn decision(probability: f64) -> Confidence {
    let class = u32::from(probability > 0.5);
    if !(0.0..=1.0).contains(&probability) {
        return Confidence { class, entropy: Share(1.0), top: Share(0.5) };
    }
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    let entropy = part(probability) + part(1.0 - probability);
    Confidence {
        class,
        entropy: Share(entropy.clamp(0.0, 1.0)),
        top: Share(probability.max(1.0 - probability)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_logits_know_nothing() {
        let unsure = confidence(&[3.0; 4]);
        assert_eq!(unsure.class, 0);
        assert!((unsure.entropy.0 - 1.0).abs() < 1e-12);
        assert!((unsure.top.0 - 0.25).abs() < 1e-12);
    }

    #[test]
    fn two_classes_follow_the_textbook() {
        let p: f64 = 1.0 / (1.0 + (-2.0f64).exp());
        let expected = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2());
        let found = confidence(&[-1.0, 1.0]);
        assert_eq!(found.class, 1);
        assert!((found.entropy.0 - expected).abs() < 1e-12);
        assert!((found.top.0 - p).abs() < 1e-12);
    }

    #[test]
    fn one_output_decides_at_one_half() {
        let cases = [(0.0, 0, 0.0, 1.0), (0.25, 0, 0.811_278, 0.75), (0.5, 0, 1.0, 0.5), (1.0, 1, 0.0, 1.0)];
        for (probability, class, entropy, top) in cases {
            let found = confidence(&[probability]);
            assert_eq!((found.class, found.top), (class, Share(top)));
            assert!((found.entropy.0 - entropy).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(confidence(&[0.75]).class, 1);
        for none in [-0.1, 37.0, f32::NAN, f32::INFINITY] {
            let found = confidence(&[none]);
            assert_eq!((found.entropy, found.top), (Share(1.0), Share(0.5)));
        }
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let sure = confidence(&[-3e38, 3e38, 0.0]);
        assert_eq!(sure, Confidence { class: 1, entropy: Share(0.0), top: Share(1.0) });
    }

    #[test]
    fn logits_that_are_not_finite_know_nothing() {
        for logits in [[f32::NAN, 1.0, 2.0, 0.0], [f32::INFINITY, 1.0, 2.0, 0.0]] {
            assert_eq!(confidence(&logits).entropy, Share(1.0));
        }
        assert_eq!(confidence(&[f32::NAN, 1.0, 2.0, 0.0]).class, 2);
        assert_eq!(confidence(&[]).entropy, Share(1.0));
    }

    proptest! {
        #[test]
        fn shares_stay_shares_and_a_shift_changes_nothing(
            logits in prop::collection::vec(-50.0f32..50.0, 2..20),
            shift in -64i8..64,
        ) {
            let found = confidence(&logits);
            prop_assert!((0.0..=1.0).contains(&found.entropy.0));
            prop_assert!((1.0 / logits.len() as f64 - 1e-12..=1.0).contains(&found.top.0));
            let shifted: Vec<f32> = logits.iter().map(|logit| logit + f32::from(shift)).collect();
            prop_assert!((confidence(&shifted).entropy.0 - found.entropy.0).abs() < 1e-3);
        }
    }
}
