//! A line through points that is not moved by the few that were hit by a hiccup.

/// `y = intercept + slope * x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// `y` at `x = 0`.
    pub intercept: f64,
    /// Change of `y` per unit of `x`.
    pub slope: f64,
}

/// The Theil–Sen line: the median of the slopes through every two points, each weighted by their distance in `x`, then the
/// median of what is left as intercept. `None` with fewer than two different `x`.
///
/// Times only ever err upwards, by scheduling and retransmission, and rarely but far. Least squares lets one such point
/// move the line; the median holds against just under 29 % of them. The weights keep near neighbours, whose slopes are
/// mostly noise, from outvoting distant ones.
pub fn fit_line(points: &[(f64, f64)]) -> Option<Line> {
    let mut slopes = Vec::new();
    for (i, a) in points.iter().enumerate() {
        slopes.extend(
            points[i + 1..]
                .iter()
                .filter(|b| b.0 != a.0)
                .map(|b| ((b.1 - a.1) / (b.0 - a.0), (b.0 - a.0).abs())),
        );
    }
    let slope = weighted_median(slopes)?;
    let intercept = weighted_median(points.iter().map(|&(x, y)| (y - slope * x, 1.0)).collect())?;
    Some(Line { intercept, slope })
}

/// The value at which half of the weight is reached; between two values that share it, their mean. `(value, weight)`.
fn weighted_median(mut values: Vec<(f64, f64)>) -> Option<f64> {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|value| value.1).sum::<f64>() / 2.0;
    let mut reached = 0.0;
    for (i, &(value, weight)) in values.iter().enumerate() {
        reached += weight;
        if reached > half {
            return Some(value);
        }
        if reached == half {
            return Some(values.get(i + 1).map_or(value, |next| f64::midpoint(value, next.0)));
        }
    }
    values.last().map(|last| last.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_place_gives_no_line() {
        assert_eq!(fit_line(&[]), None);
        assert_eq!(fit_line(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }

    proptest! {
        #[test]
        fn a_line_is_found_again(intercept in 0.0..1e4f64, slope in 1e-4..100.0f64, xs in prop::collection::btree_set(1u32..100_000, 2..12)) {
            let points: Vec<(f64, f64)> = xs.iter().map(|&x| (f64::from(x), intercept + slope * f64::from(x))).collect();
            let line = fit_line(&points).unwrap();
            prop_assert!((line.slope / slope - 1.0).abs() < 1e-6, "{line:?}");
            prop_assert!((line.intercept - intercept).abs() < 1e-6 * (intercept + slope * 1e5), "{line:?}");
        }

        #[test]
        fn one_wild_point_in_ten_does_not_move_it(wild in 0usize..10, by in 1.0..1e6f64) {
            let mut points: Vec<(f64, f64)> = (1..=10).map(|x| (f64::from(x), 5.0 + 2.0 * f64::from(x))).collect();
            points[wild].1 += by;
            let line = fit_line(&points).unwrap();
            prop_assert!((line.slope - 2.0).abs() < 1e-9 && (line.intercept - 5.0).abs() < 1e-9, "{line:?}");
        }
    }
}
