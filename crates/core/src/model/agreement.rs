//! When two answers of a network count as the same.

use std::fmt;
use std::str::FromStr;

use super::confidence::place_of_largest;
use crate::error::{Error, Result};

/// When two answers of one output count as the same. The one is what is expected, the other what was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Agreement {
    /// The largest of their numbers stands at the same place: the same class.
    Class,
    /// Each number lies on the same side of 0.5.
    Decision,
    /// The cosine of the angle between them is at least this, above 0 and up to 1.
    Cosine(f64),
    /// `‖found − expected‖ / ‖expected‖` (Euclidean norms) is at most this, above 0 and below 1.
    Relative(f64),
}

impl Agreement {
    /// For numbers that point somewhere, as embeddings do.
    pub const DIRECTION: Self = Self::Cosine(0.99);
    /// For numbers of any kind.
    pub const NUMBERS: Self = Self::Relative(0.05);

    /// Whether `found` counts as the same as `expected`. What is not finite never does, except that a class still stands out.
    pub fn holds(self, expected: &[f32], found: &[f32]) -> bool {
        if expected.len() != found.len() {
            return false;
        }
        match self {
            Self::Class => place_of_largest(expected) == place_of_largest(found),
            Self::Decision => std::iter::zip(expected, found)
                .all(|(a, b)| (*a > 0.5) == (*b > 0.5) && a.is_finite() && b.is_finite()),
            Self::Cosine(least) => {
                let (lengths, product) = (norm(expected) * norm(found), dot(expected, found));
                // Only nothing points where nothing does.
                if lengths == 0.0 { norm(expected) == norm(found) } else { product >= least * lengths }
            }
            Self::Relative(most) => {
                let apart = std::iter::zip(expected, found).map(|(a, b)| f64::from(*b) - f64::from(*a));
                apart.map(|apart| apart * apart).sum::<f64>().sqrt() <= most * norm(expected)
            }
        }
    }

    /// Whether answers of so many numbers can differ by it: one number alone is always the largest one and points one way.
    pub fn can_fail(self, numbers: usize) -> bool {
        numbers > 1 || matches!(self, Self::Decision | Self::Relative(_))
    }

    /// In words.
    pub fn words(self) -> String {
        match self {
            Self::Class => "same class".into(),
            Self::Decision => "same decision at 0.5".into(),
            Self::Cosine(least) => format!("cosine of at least {least}"),
            Self::Relative(most) => format!("relative error of at most {most}"),
        }
    }
}

fn dot(one: &[f32], other: &[f32]) -> f64 {
    std::iter::zip(one, other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

impl fmt::Display for Agreement {
    /// As it is read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class => f.write_str("class"),
            Self::Decision => f.write_str("decision"),
            Self::Cosine(least) => write!(f, "cosine:{least}"),
            Self::Relative(most) => write!(f, "rel:{most}"),
        }
    }
}

impl FromStr for Agreement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse().ok().filter(|number: &f64| *number > 0.0);
        let found = match text.split_once(':') {
            None if text == "class" => Some(Self::Class),
            None if text == "decision" => Some(Self::Decision),
            Some(("cosine", least)) => number(least).filter(|least| *least <= 1.0).map(Self::Cosine),
            Some(("rel", most)) => number(most).filter(|most| *most < 1.0).map(Self::Relative),
            _ => None,
        };
        found.ok_or_else(|| {
            Error::usage(format!(
                "class, decision, cosine:LEAST (up to 1) or rel:MOST (below 1) was expected, such as cosine:0.99, found \
                 '{}'",
                text.escape_debug()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_can_hold_and_can_fail() {
        let cases = [
            (Agreement::Class, [vec![0.1, 0.9, 0.3], vec![7.0, 8.0, 0.0], vec![9.0, 8.0, 0.0]]),
            (Agreement::Decision, [vec![0.6, 0.1], vec![0.51, 0.49], vec![0.51, 0.51]]),
            (Agreement::Cosine(0.99), [vec![3.0, 4.0], vec![6.0, 8.2], vec![4.0, 3.0]]),
            (Agreement::Relative(0.05), [vec![3.0, 4.0], vec![3.2, 4.1], vec![3.2, 4.3]]),
            (Agreement::Relative(0.05), [vec![37.0], vec![38.0], vec![40.0]]),
        ];
        for (how, [expected, near, far]) in &cases {
            assert!(how.holds(expected, expected), "{how}");
            assert!(how.holds(expected, near) && !how.holds(expected, far), "{how}");
            assert!(how.can_fail(expected.len()));
        }
        assert!(!Agreement::Class.can_fail(1) && !Agreement::Cosine(0.5).can_fail(1));
    }

    #[test]
    fn nothing_and_what_is_no_number_agree_with_nothing_else() {
        for how in [Agreement::DIRECTION, Agreement::NUMBERS] {
            assert!(how.holds(&[0.0, 0.0], &[0.0, 0.0]), "{how}");
            assert!(!how.holds(&[0.0, 0.0], &[0.0, 1.0]) && !how.holds(&[1.0, 2.0], &[0.0, 0.0]), "{how}");
            assert!(!how.holds(&[1.0, f32::NAN], &[1.0, f32::NAN]), "{how}");
            assert!(!how.holds(&[1.0, 2.0], &[1.0]), "{how}");
        }
        assert!(!Agreement::Decision.holds(&[f32::NAN], &[0.1]));
        // So long that 32 bits would overflow.
        assert!(!Agreement::NUMBERS.holds(&[3e38, 1.0], &[-3e38, 1.0]));
    }

    #[test]
    fn measures_are_read_as_they_are_written() {
        for text in ["class", "decision", "cosine:0.99", "rel:0.05"] {
            assert_eq!(text.parse::<Agreement>().unwrap().to_string(), text);
        }
        for text in
            ["", "classes", "cosine", "cosine:0", "cosine:1.1", "rel:1", "rel:-0.1", "rel:NaN", "class:1"]
        {
            assert!(text.parse::<Agreement>().is_err(), "{text}");
        }
    }
}
