//! From frontiers, one after the other, to a calibration.

use super::calibration::{Calibration, TensorCalibration};
use super::histogram::Histogram;
use super::{Element, Encoding, TensorSpec};

/// Watches frontiers of one cut and yields what encodings need to know of them. The same frontiers in the same order
/// yield the same on every machine. NaN and infinities are passed over.
///
/// A channel's importance is the variance of its values over all samples and places, as in Polyak and Wolf,
/// "Channel-Level Acceleration of Deep Face Representations" (2015): since a channel that does not cross is replaced by
/// its mean, this is the very mean squared error of leaving it away. It needs no gradients. Clipping ranges are those of
/// the least mean squared error (`histogram.rs`).
#[derive(Clone, Debug)]
pub struct Calibrator {
    tensors: Vec<(TensorSpec, Vec<Channel>)>,
}

#[derive(Clone, Debug)]
struct Channel {
    count: u64,
    sum: f64,
    /// Of squares.
    squares: f64,
    histogram: Histogram,
}

impl Calibrator {
    /// For frontiers of these tensors.
    pub fn new(tensors: &[TensorSpec]) -> Self {
        let empty = Channel { count: 0, sum: 0.0, squares: 0.0, histogram: Histogram::new() };
        Self { tensors: tensors.iter().map(|spec| (*spec, vec![empty.clone(); spec.channels()])).collect() }
    }

    /// Watches the frontier of one sample.
    ///
    /// # Panics
    /// When the tensors' lengths are not those that it was made for.
    pub fn feed(&mut self, frontier: &[&[f32]]) {
        assert!(
            frontier.iter().map(|tensor| tensor.len()).eq(self.tensors.iter().map(|(spec, _)| spec.values())),
            "a frontier of other tensors"
        );
        for (values, (spec, channels)) in frontier.iter().zip(&mut self.tensors) {
            // Of tensors without values there are no chunks at all.
            for (values, channel) in values.chunks(spec.channel_values().max(1)).zip(channels) {
                values.iter().filter(|value| value.is_finite()).for_each(|&value| channel.add(value));
            }
        }
    }

    /// What these encodings need to know.
    pub fn finish(&self, encodings: &[Encoding]) -> Calibration {
        let clipped = |wants_channels: bool| {
            let bits = encodings.iter().filter_map(move |encoding| match encoding.element {
                Element::Quantized(q) if q.clipped && q.per_channel == wants_channels => Some(q.bits),
                _ => None,
            });
            // Sorted and each once, since a range takes a search.
            bits.collect::<std::collections::BTreeSet<_>>()
        };
        let prunes = encodings.iter().any(|encoding| encoding.kept_percent.is_some());
        let of = |channels: &Vec<Channel>| {
            let mut whole = Histogram::new();
            channels.iter().for_each(|channel| whole.merge(&channel.histogram));
            let by_channel =
                |bits| channels.iter().map(|channel| channel.histogram.clipping_range(bits)).collect();
            TensorCalibration {
                channels_by_importance: if prunes { by_importance(channels) } else { Vec::new() },
                channel_means: if prunes { channels.iter().map(Channel::mean).collect() } else { Vec::new() },
                ranges: clipped(false).into_iter().map(|bits| (bits, whole.clipping_range(bits))).collect(),
                channel_ranges: clipped(true).into_iter().map(|bits| (bits, by_channel(bits))).collect(),
            }
        };
        Calibration { tensors: self.tensors.iter().map(|(_, channels)| of(channels)).collect() }
    }
}

impl Channel {
    fn add(&mut self, value: f32) {
        self.count += 1;
        self.sum += f64::from(value);
        self.squares += f64::from(value).powi(2);
        self.histogram.add(value);
    }

    /// Zero where there is no value.
    fn mean(&self) -> f32 {
        (self.sum / self.count.max(1) as f64) as f32
    }

    fn variance(&self) -> f64 {
        let count = self.count.max(1) as f64;
        self.squares / count - (self.sum / count).powi(2)
    }
}

/// The channels by falling variance, equal ones by number.
fn by_importance(channels: &[Channel]) -> Vec<u32> {
    let mut order: Vec<(f64, u32)> = channels.iter().map(Channel::variance).zip(0..).collect();
    order.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    order.into_iter().map(|(_, channel)| channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;

    fn encodings() -> [Encoding; 3] {
        ["q4k", "q2ck+zstd", "prune50"].map(|name| name.parse().unwrap())
    }

    #[test]
    fn channels_are_ranked_by_variance_and_ranges_are_their_own() {
        let spec = TensorSpec::of(&Shape(vec![3, 1, 4])).unwrap();
        let mut calibrator = Calibrator::new(&[spec]);
        for shift in [0.0, 1.0] {
            let values =
                [100.0, 100.0, 100.0, 100.0, -1.0, 1.0, -1.0, 1.0, 0.0 + shift, 4.0, f32::NAN, f32::INFINITY];
            calibrator.feed(&[&values]);
        }
        let calibration = calibrator.finish(&encodings());
        let known = &calibration.tensors[0];
        assert_eq!(known.channels_by_importance, [2, 1, 0]);
        assert_eq!(known.channel_means, [100.0, 0.0, 2.25]);
        assert_eq!(known.ranges.keys().copied().collect::<Vec<_>>(), [4]);
        assert_eq!(known.channel_ranges[&2].len(), 3);
        assert_eq!(known.channel_ranges[&2][0], [100.0; 2]);
        for encoding in encodings() {
            assert!(calibration.checked(encoding, &[spec]).is_ok());
        }
    }

    #[test]
    fn order_changes_no_range() {
        let spec = TensorSpec::flat(5);
        let samples: Vec<Vec<f32>> =
            (0..20).map(|i| (0..5).map(|j| (i * j % 7) as f32 - 2.0).collect()).collect();
        let of = |order: &mut dyn Iterator<Item = &Vec<f32>>| {
            let mut calibrator = Calibrator::new(&[spec]);
            order.for_each(|sample| calibrator.feed(&[sample]));
            calibrator.finish(&encodings())
        };
        assert_eq!(of(&mut samples.iter()), of(&mut samples.iter().rev()));
    }

    #[test]
    fn nothing_watched_and_nothing_to_watch_still_fit() {
        let specs = [vec![0], vec![2, 0, 3], vec![3]].map(|sides| TensorSpec::of(&Shape(sides)).unwrap());
        let mut calibrator = Calibrator::new(&specs);
        for fed in [false, true] {
            if fed {
                calibrator.feed(&[&[], &[], &[1.0, 2.0, 3.0]]);
            }
            let calibration = calibrator.finish(&encodings());
            for encoding in encodings() {
                assert!(calibration.checked(encoding, &specs).is_ok());
            }
        }
    }
}
