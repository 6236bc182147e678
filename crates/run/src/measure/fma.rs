//! What the processor computes at best: fused multiply-adds that never leave its registers, in vectors as wide as those of the
//! layers' kernels. Layers do the same and have to fetch what they compute with, so none of them is faster.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pulp::{Arch, Simd, WithSimd};

use coprof_core::clock::{Clock, SystemClock};

/// Steps between two looks at the time: so many that looking counts for nothing.
const STEPS: usize = 1 << 14;

/// Floating-point operations and the time that they took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operations {
    /// A multiplication and an addition are two.
    pub operations: f64,
    /// From the first thread's start to the last one's end.
    pub time: Duration,
}

/// Multiplies and adds for `span` on so many threads at once: the calling one, and others that start where it may run.
pub fn multiply_add(threads: usize, span: Duration) -> Operations {
    let (clock, over) = (SystemClock::default(), AtomicBool::new(false));
    let (threads, arrived) = (threads.max(1), AtomicUsize::new(0));
    let work = |is_over: &dyn Fn(Duration) -> bool| {
        arrived.fetch_add(1, Ordering::Relaxed);
        // Asleep, some would wake up later than others.
        while arrived.load(Ordering::Relaxed) < threads {
            spin_loop();
        }
        let (arch, start, mut operations) = (Arch::new(), clock.now(), 0);
        while !is_over(start) {
            operations += steps(arch);
        }
        (operations, start, clock.now())
    };
    let done: Vec<(u64, Duration, Duration)> = thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|_| scope.spawn(|| work(&|_| over.load(Ordering::Relaxed)))).collect();
        let own = work(&|start| clock.now().saturating_sub(start) >= span);
        over.store(true, Ordering::Relaxed);
        let others = others.into_iter().filter_map(|other| other.join().ok());
        std::iter::once(own).chain(others).collect()
    });
    let start = done.iter().map(|(_, start, _)| *start).min().unwrap_or_default();
    let end = done.iter().map(|(_, _, end)| *end).max().unwrap_or_default();
    let operations: u64 = done.iter().map(|(operations, ..)| operations).sum();
    Operations { operations: operations as f64, time: end.saturating_sub(start) }
}

/// Takes some ten microseconds; returns how many operations that were.
fn steps(arch: Arch) -> u64 {
    let (operations, sum) = widest(arch);
    // Nobody needs the sum, but the compiler must not know.
    black_box(sum);
    operations
}

#[cfg(not(target_arch = "x86_64"))]
fn widest(arch: Arch) -> (u64, f32) {
    arch.dispatch(Fused)
}

/// Processors without AVX2 multiply and add apart, in shorter vectors, of which the kernels' dispatch knows nothing.
#[cfg(target_arch = "x86_64")]
fn widest(arch: Arch) -> (u64, f32) {
    match (arch, pulp::x86::V2::try_new()) {
        (Arch::Scalar, Some(simd)) => Simd::vectorize(simd, Apart),
        (Arch::Scalar, None) => arch.dispatch(Apart),
        _ => arch.dispatch(Fused),
    }
}

struct Fused;

impl WithSimd for Fused {
    type Output = (u64, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (u64, f32) {
        // Two units that take four cycles need 8 sums under way, four units, as in the largest ARM cores, 16.
        if S::REGISTER_COUNT >= 32 {
            run::<S, 24>(simd, S::mul_add_f32s)
        } else {
            run::<S, 12>(simd, S::mul_add_f32s)
        }
    }
}

#[cfg(target_arch = "x86_64")]
struct Apart;

#[cfg(target_arch = "x86_64")]
impl WithSimd for Apart {
    type Output = (u64, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (u64, f32) {
        run::<S, 12>(simd, |simd, sum, factor, summand| simd.add_f32s(simd.mul_f32s(sum, factor), summand))
    }
}

/// `sum * factor + summand` again and again for `N` sums that do not wait for each other: the operations, and what comes out.
#[inline(always)]
fn run<S: Simd, const N: usize>(
    simd: S,
    multiply_add: impl Fn(S, S::f32s, S::f32s, S::f32s) -> S::f32s,
) -> (u64, f32) {
    // Every sum draws near to 1, far from numbers with which processors are slower.
    let [factor, summand] = [0.5; 2].map(|value| simd.splat_f32s(black_box(value)));
    // Equal sums would be computed once.
    let mut sums = [summand; N];
    sums.iter_mut().enumerate().for_each(|(at, sum)| *sum = simd.splat_f32s(black_box(at as f32)));
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = multiply_add(simd, *sum, factor, summand);
        }
    }
    let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
    ((2 * STEPS * N * S::F32_LANES) as u64, simd.reduce_sum_f32s(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_computed() {
        let check = |(operations, sum): (u64, f32)| {
            // Each value of each sum is close to 1 in the end.
            assert_eq!(operations, 2 * STEPS as u64 * sum.round() as u64);
            assert!(sum >= 12.0, "{sum}");
        };
        check(widest(Arch::new()));
        check(widest(Arch::Scalar));
    }

    #[test]
    fn all_threads_work_for_the_whole_span() {
        let span = Duration::from_millis(2);
        for threads in [0, 1, 2] {
            let burst = multiply_add(threads, span);
            assert!(burst.time >= span && burst.operations >= (2 * STEPS * 12) as f64, "{burst:?}");
        }
    }
}
