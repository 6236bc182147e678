//! How much an open stream may bring: what the slowest stage sustains, and what keeps the latency below a limit.

use super::arrivals::{Arrival, Spacing, Tasks};
use super::flow::{Passage, Source, flow};
use super::workload::Workload;
use crate::units::Micros;

/// The percentile that a latency limit is about.
pub(super) const P99: f64 = 0.99;

/// How finely the highest rate is found, as a share of it.
const STEP: f64 = 1e-3;

/// A search for a positive rate ends after so many halvings of the capacity, whatever happens.
const MAX_HALVINGS: usize = 64;

/// The capacity: every arrival rate below it is sustained, at any rate above it the queue before the slowest stage grows
/// without end. It is one over the longest mean service time, since stages in a row with unbounded queues are stable
/// exactly when each of them is busy less than all the time. Infinite where no stage takes any time.
pub fn sustained_rate(workload: &Workload) -> f64 {
    let means = (0..workload.stages().len()).map(|stage| workload.mean_service(stage));
    means.fold(Micros::ZERO, Micros::max).rate_per_s()
}

/// The highest rate at which the 99th percentile of the latency is at most `limit`; `None` where a task that is alone in
/// the pipeline takes longer already. The rate returned meets the limit in simulation; one that is higher by a thousandth
/// does not, or it is within a thousandth of the capacity.
///
/// Bisection is exact here, because every rate meets the same tasks with the same gaps but for their scale (common random
/// numbers), and then no latency falls as the rate grows. For unrolling the recursion in [`flow`](super::flow), the
/// latency of task `i` is its delay plus the maximum, over earlier tasks `j` and over paths of services from `j` to `i`,
/// of the services on the path less the time from arrival `j` to arrival `i`, which only shrinks as the rate grows.
///
/// The rate that a seed gives is off from the true one by what chance does to the gaps and the order of the samples; for
/// one stage under Poisson arrivals (M/D/1) the standard deviation over seeds is below 1 % of the capacity at loads from
/// 0.3 to 0.95.
pub fn highest_rate_with_p99_below(
    workload: &Workload,
    spacing: Spacing,
    limit: Micros,
    seed: u64,
) -> Option<f64> {
    let capacity = sustained_rate(workload);
    let arrival = Arrival::Open { spacing, rate_per_s: capacity };
    let (tasks, unit_arrivals) = Tasks::draw(workload, arrival, seed);
    // `sorted[floor(n p)]` is at most the limit as long as no more than those behind it are above the limit.
    let measured = tasks.classes.len() - tasks.warm_up;
    let allowed = measured - 1 - rank(measured, P99);
    let alone = tasks.classes[tasks.warm_up..].iter().filter(|class| class.alone() > limit).count();
    if alone > allowed {
        return None;
    }
    let holds = |rate: f64| {
        let source = Source::Open { unit_arrivals: &unit_arrivals, gap: 1e6 / rate };
        let passages = flow(&tasks.classes, workload.stages().len(), &source, |_, _| ()).skip(tasks.warm_up);
        passages.filter(|passage| above(passage, limit)).nth(allowed).is_none()
    };
    let highest = capacity * (1.0 - STEP);
    if capacity.is_infinite() || holds(highest) {
        return Some(highest);
    }
    let (mut met, mut too_high) = (0.0, highest);
    for _ in 0..MAX_HALVINGS {
        if too_high - met <= STEP * met {
            break;
        }
        let middle = f64::midpoint(met, too_high);
        *(if holds(middle) { &mut met } else { &mut too_high }) = middle;
    }
    (met > 0.0).then_some(met)
}

/// The difference of two times late in a run is rounded; a latency that meets the limit exactly must not miss it by that.
fn above(passage: &Passage, limit: Micros) -> bool {
    passage.latency() > limit.0 + passage.finished * (4.0 * f64::EPSILON)
}

/// The index of percentile `p` among `n` sorted values.
pub(super) fn rank(n: usize, p: f64) -> usize {
    ((n as f64 * p) as usize).min(n - 1)
}
