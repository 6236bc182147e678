//! Histograms of values whose range is not known beforehand, and the clipping range that follows.

use super::grid::{LIMIT, greatest_code};

/// Buckets to an octave, as a power of two: a bucket is at most 6 % wide.
const OCTAVE_BITS: u32 = 4;
/// Magnitudes below 2^-24 count as zero, those from 2^24 on as that.
const OCTAVES: u32 = 48;
const BUCKETS: usize = 1 + (OCTAVES << OCTAVE_BITS) as usize;
/// The place of 2^-24 among all magnitudes of `f32`.
const FIRST: u32 = (127 - OCTAVES / 2) << OCTAVE_BITS;

/// Clipping ranges that are tried: the whole one, and each 7 % narrower than the one before.
const RANGES: usize = 48;
const NARROWER: f64 = 0.93;

/// Counts of values by magnitude in steps of a constant ratio, and their extremes. Filled in any order it is the same.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    min: f32,
    max: f32,
    /// Counts from zero up, and from zero down; the latter only once there is one.
    positive: Vec<u32>,
    negative: Vec<u32>,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, positive: vec![0; BUCKETS], negative: Vec::new() }
    }

    /// Counts a finite value.
    pub(super) fn add(&mut self, value: f32) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let magnitude = value.abs().to_bits() >> (f32::MANTISSA_DIGITS - 1 - OCTAVE_BITS);
        let bucket = ((magnitude + 1).saturating_sub(FIRST) as usize).min(BUCKETS - 1);
        let counts = if value < 0.0 { &mut self.negative } else { &mut self.positive };
        if counts.is_empty() {
            counts.resize(BUCKETS, 0);
        }
        counts[bucket] = counts[bucket].saturating_add(1);
    }

    /// Counts all that another one has.
    pub(super) fn merge(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for (counts, others) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)]
        {
            counts.resize(counts.len().max(others.len()), 0);
            counts.iter_mut().zip(others).for_each(|(count, other)| *count = count.saturating_add(*other));
        }
    }

    /// The range that, quantized to this many bits, has the least mean squared error over what was counted: the search
    /// of Nagel et al., "A White Paper on Neural Network Quantization" (2021), section 3.1. It narrows toward zero where
    /// values have both signs, else toward the end that is nearer to zero; of equal ranges the widest wins.
    pub(super) fn clipping_range(&self, bits: u8) -> [f32; 2] {
        if self.min > self.max {
            return [0.0; 2];
        }
        // Adding zero turns -0 into 0.
        let (min, max) = (self.min.clamp(-LIMIT, LIMIT) + 0.0, self.max.clamp(-LIMIT, LIMIT) + 0.0);
        let fixed = 0.0_f32.clamp(min, max);
        let points: Vec<(f64, f64)> = self.points().collect();
        let mut best = ([min, max], f64::INFINITY);
        let mut factor = 1.0_f64;
        for _ in 0..RANGES {
            let [low, high] = [min, max]
                .map(|end| (f64::from(fixed) + factor * (f64::from(end) - f64::from(fixed))) as f32);
            let error = squared_error(&points, [low.into(), high.into()], greatest_code(bits).into());
            if error < best.1 {
                best = ([low, high], error);
            }
            factor *= NARROWER;
        }
        best.0
    }

    /// Values that stand for the buckets, and how many each stands for. Two to a bucket, since with many bits a bucket
    /// holds several codes.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let of = |counts: &[u32], sign: f64| {
            let filled = (0_u32..).zip(counts.to_vec()).filter(|(_, count)| *count > 0);
            filled.flat_map(move |(bucket, count)| {
                let bound = |bucket: u32| {
                    f64::from(f32::from_bits(
                        (bucket + FIRST - 1) << (f32::MANTISSA_DIGITS - 1 - OCTAVE_BITS),
                    ))
                };
                let place = |share: f64| match bucket {
                    0 => 0.0,
                    _ => sign * (bound(bucket) * (1.0 - share) + bound(bucket + 1) * share),
                };
                let half = f64::from(count) / 2.0;
                [(place(0.25), half), (place(0.75), half)]
            })
        };
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        of(&self.positive, 1.0)
            .chain(of(&self.negative, -1.0))
            .map(move |(value, count)| (value.clamp(min, max), count))
    }
}

/// The squared error of these points on a grid of `greatest + 1` codes from `low` to `high`.
fn squared_error(points: &[(f64, f64)], [low, high]: [f64; 2], greatest: f64) -> f64 {
    let step = (high - low) / greatest;
    let per_value = if step > 0.0 { step.recip() } else { 0.0 };
    let of = |&(value, count): &(f64, f64)| {
        // Not `round`, which is a call on older CPUs.
        let code = f64::from(((value - low) * per_value + 0.5).clamp(0.0, greatest) as u32);
        count * (value - low - code * step).powi(2)
    };
    points.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f32>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    #[test]
    fn buckets_stand_for_values_near_by() {
        for value in [1.0_f32, 0.37, 123.4, -5.5, 1e-7, -9e6, 0.0] {
            // Beside others, so that the extremes tell nothing.
            let histogram = of([value, 1e7, -1e7]);
            let nearest = histogram.points().map(|(point, _)| (point - f64::from(value)).abs());
            assert!(nearest.fold(f64::INFINITY, f64::min) <= f64::from(value.abs()) * 0.04, "{value}");
        }
    }

    #[test]
    fn an_outlier_is_clipped_the_more_the_fewer_bits() {
        let histogram = of((0..10_000).map(|i| i as f32 / 10_000.0).chain([20.0]));
        let [wide, narrow] = [8, 2].map(|bits| {
            let [low, high] = histogram.clipping_range(bits);
            assert_eq!(low, 0.0);
            high
        });
        assert!((0.8..2.0).contains(&narrow), "{narrow}");
        assert!(narrow <= wide && wide <= 20.0, "{wide}");
    }

    #[test]
    fn even_values_keep_their_range() {
        let [low, high] = of((0..=255).map(|i| i as f32 - 100.0)).clipping_range(8);
        assert!(low <= -92.0 && high >= 143.0, "{low} {high}");
        let [low, high] = of([5.0, 6.0, 7.0, 8.0]).clipping_range(2);
        assert!(low == 5.0 && high > 7.5, "{high}");
    }

    #[test]
    fn edge_cases_have_a_range() {
        assert_eq!(Histogram::new().clipping_range(4), [0.0; 2]);
        assert_eq!(of([2.5; 9]).clipping_range(4), [2.5; 2]);
        assert_eq!(of([-0.0; 9]).clipping_range(4), [0.0; 2]);
        let [low, high] = of([f32::MIN, f32::MAX]).clipping_range(4);
        assert!(-LIMIT <= low && high <= LIMIT);
    }

    #[test]
    fn merging_is_counting_all() {
        let (mut a, b) = (of([1.0, 2.0, 0.0]), of([-3.0, 5.0]));
        a.merge(&b);
        let all = of([5.0, -3.0, 0.0, 1.0, 2.0]);
        assert_eq!((a.min, a.max), (all.min, all.max));
        assert!(a.points().eq(all.points()));
    }
}
