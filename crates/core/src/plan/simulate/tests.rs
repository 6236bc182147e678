//! Against closed forms where there are some, and against an event queue where there are none.

use proptest::prelude::*;

use super::event_queue::{self, Arrivals, Job};
use super::*;

const SEED: u64 = 1;

fn class(samples: usize, service: &[f64], delay: f64) -> Class {
    Class { samples, service_us: service.iter().copied().map(Micros).collect(), delay_us: Micros(delay) }
}

fn workload(classes: Vec<Class>) -> Workload {
    let stages = classes.iter().map(|class| class.service_us.len()).max().unwrap_or(0);
    Workload::new((0..stages).map(|stage| format!("stage{stage}")).collect(), classes).unwrap()
}

fn arrival(text: &str) -> Arrival {
    text.parse().unwrap()
}

fn poisson(rate_per_s: f64) -> Arrival {
    Arrival::Open { spacing: Spacing::Poisson, rate_per_s }
}

fn periodic(rate_per_s: f64) -> Arrival {
    Arrival::Open { spacing: Spacing::Periodic, rate_per_s }
}

fn run_under(workload: &Workload, arrival: Arrival) -> Simulated {
    simulate(workload, arrival, SEED).unwrap()
}

#[track_caller]
fn close(found: f64, expected: f64, share: f64) {
    assert!((found - expected).abs() <= share * expected.abs(), "expected {expected}, found {found}");
}

/// Passages of all measured tasks.
fn passages(workload: &Workload, arrival: Arrival) -> Vec<Passage> {
    let (tasks, unit_arrivals) = Tasks::draw(workload, arrival, SEED);
    let source = match arrival {
        Arrival::Closed { in_flight } => Source::Closed { in_flight },
        Arrival::Open { rate_per_s, .. } => {
            Source::Open { unit_arrivals: &unit_arrivals, gap: 1e6 / rate_per_s }
        }
    };
    flow(&tasks.classes, workload.stages().len(), &source, |_, _| ()).skip(tasks.warm_up).collect()
}

#[test]
fn evenly_spaced_tasks_below_capacity_never_wait() {
    let pipeline = workload(vec![class(10, &[300.0, 1000.0, 200.0], 50.0)]);
    for share in [0.1, 0.5, 0.999] {
        let found = run_under(&pipeline, periodic(share * 1000.0));
        let latency = found.latency_us.unwrap();
        for figure in [latency.mean, latency.median, latency.p90, latency.p99] {
            close(figure.0, 1550.0, 1e-9);
        }
        close(found.rate_per_s, share * 1000.0, 1e-9);
        assert!(!found.saturated);
        assert_eq!(found.tasks, 100_000);
        for (stage, busy) in found.stages.iter().zip([0.3, 1.0, 0.2]) {
            close(stage.utilisation.0, share * busy, 1e-3);
            assert_eq!((stage.mean_waiting, stage.max_waiting), (0.0, 0), "{}", stage.name);
        }
    }
}

#[test]
fn a_closed_loop_runs_at_the_least_of_tasks_over_latency_and_the_slowest_stage() {
    for service in [[20.0, 7.0, 3.0], [7.0, 20.0, 3.0], [3.0, 7.0, 20.0], [0.0, 20.0, 0.0]] {
        let total = service.iter().sum::<f64>() + 60.0;
        let pipeline = workload(vec![class(1, &service, 60.0)]);
        for in_flight in [1, 2, 3, 4, 5, 8, 12] {
            let found = run_under(&pipeline, Arrival::Closed { in_flight });
            close(found.rate_per_s, 1e6 * (in_flight as f64 / total).min(1.0 / 20.0), 1e-3);
            assert_eq!((found.stages[0].max_waiting, found.saturated), (0, false));
            // With a device that is never the bottleneck, Little's law gives the latency.
            if service[0] < 20.0 {
                close(found.latency_us.unwrap().mean.0, total.max(in_flight as f64 * 20.0), 1e-3);
            }
        }
    }
}

#[test]
fn one_task_at_a_time_takes_its_own_path() {
    let pipeline = workload(vec![class(3, &[100.0], 0.0), class(1, &[300.0, 1000.0, 200.0], 40.0)]);
    let found = run_under(&pipeline, arrival("closed:1"));
    let latency = found.latency_us.unwrap();
    close(latency.mean.0, 0.75 * 100.0 + 0.25 * 1540.0, 1e-9);
    close(found.rate_per_s, 1e6 / latency.mean.0, 1e-9);
    close(latency.median.0, 100.0, 1e-6);
    close(latency.p90.0, 1540.0, 1e-6);
}

#[test]
fn many_in_flight_reach_the_capacity_whatever_the_mix() {
    let pipeline = workload(vec![class(3, &[100.0], 0.0), class(1, &[300.0, 1000.0, 200.0], 40.0)]);
    close(sustained_rate(&pipeline), 1e6 / 250.0, 1e-12);
    close(run_under(&pipeline, arrival("closed:500")).rate_per_s, 1e6 / 250.0, 0.01);
}

/// An early leaver that starts second answers first, so its answer lets the third task in.
#[test]
fn an_answer_that_overtakes_lets_the_next_task_start() {
    let (long, short) = (class(1, &[10.0, 100.0], 5.0), class(1, &[10.0], 0.0));
    let tasks = [&long, &short, &short, &long, &short];
    let found: Vec<(f64, f64)> = flow(&tasks, 2, &Source::Closed { in_flight: 2 }, |_, _| ())
        .map(|passage| (passage.arrived, passage.finished))
        .collect();
    // Tasks 1 and 2 leave at 20 and 30; then 0 (till 115) and 3 (till 215) are under way, and task 4 waits for 0.
    assert_eq!(found, [(0.0, 115.0), (10.0, 20.0), (20.0, 30.0), (30.0, 215.0), (115.0, 125.0)]);
}

/// Mean wait of M/D/1, in service times.
fn md1_wait(load: f64) -> f64 {
    load / (2.0 * (1.0 - load))
}

/// P(wait ≤ `t` service times) of M/D/1 (Erlang 1909).
fn md1_wait_within(load: f64, t: f64) -> f64 {
    let mut sum = 0.0;
    for j in 0..=t as u32 {
        let x = load * (t - f64::from(j));
        let power: f64 = (1..=j).map(|i| -x / f64::from(i)).product();
        sum += power * x.exp();
    }
    (1.0 - load) * sum
}

/// The wait that a share `p` of M/D/1's tasks does not exceed, in service times.
fn md1_percentile(load: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 50.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        *(if md1_wait_within(load, middle) < p { &mut low } else { &mut high }) = middle;
    }
    high
}

/// Whether `expected` lies in the 99.9 % confidence interval of independent runs' `figures`, and that interval is narrow
/// enough (a share of `expected`) to show anything.
#[track_caller]
fn within_interval(figures: &[f64; 20], expected: f64, narrow: f64) {
    let n = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / n;
    let variance = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // Student's t with 19 degrees of freedom.
    let interval = 3.883 * (variance / n).sqrt();
    assert!((mean - expected).abs() <= interval, "expected {expected}, found {mean} ± {interval}");
    assert!(interval < narrow * expected, "{interval} around {expected} shows nothing");
}

fn seeds() -> [u64; 20] {
    std::array::from_fn(|seed| seed as u64)
}

#[test]
fn waits_are_those_of_m_d_1() {
    let pipeline = workload(vec![class(1, &[100.0], 7.0)]);
    for load in [0.3, 0.6, 0.9] {
        let found = seeds().map(|seed| simulate(&pipeline, poisson(load * 1e4), seed).unwrap());
        let wait = |found: &Simulated| found.latency_us.unwrap().mean.0 - 107.0;
        within_interval(&found.each_ref().map(wait), md1_wait(load) * 100.0, 0.05);
        let waiting = |found: &Simulated| found.stages[0].mean_waiting;
        within_interval(&found.each_ref().map(waiting), load * md1_wait(load), 0.05);
        within_interval(&found.each_ref().map(|found| found.stages[0].utilisation.0), load, 0.01);
    }
}

#[test]
fn percentiles_are_those_of_m_d_1() {
    let pipeline = workload(vec![class(1, &[100.0], 0.0)]);
    for load in [0.3, 0.6, 0.8] {
        let found =
            seeds().map(|seed| simulate(&pipeline, poisson(load * 1e4), seed).unwrap().latency_us.unwrap());
        for (index, p) in [0.5, 0.9, 0.99].into_iter().enumerate() {
            let figure = |found: &Latencies| [found.median.0, found.p90.0, found.p99.0][index];
            // More than half of the tasks of a light load do not wait at all: their median has no spread.
            if md1_wait_within(load, 0.0) < p {
                let expected = 100.0 * (1.0 + md1_percentile(load, p));
                within_interval(&found.each_ref().map(figure), expected, 0.05);
            }
        }
    }
}

#[test]
fn queues_obey_littles_law() {
    let pipeline = workload(vec![class(2, &[100.0, 20.0], 0.0), class(1, &[100.0, 180.0], 30.0)]);
    let found = run_under(&pipeline, poisson(7_500.0));
    let waits = found.latency_us.unwrap().mean.0 - (100.0 + (20.0 + 20.0 + 180.0 + 30.0) / 3.0);
    let waiting: f64 = found.stages.iter().map(|stage| stage.mean_waiting).sum();
    close(waiting, found.rate_per_s * waits / 1e6, 5e-3);
    assert!(found.stages.iter().all(|stage| stage.max_waiting as f64 > 5.0 * stage.mean_waiting));
}

/// Friedman (1965): with deterministic services the order of the stages does not matter to the time in the system, so all
/// the waiting is as before the slowest one alone.
#[test]
fn deterministic_stages_in_a_row_wait_as_the_slowest_alone() {
    let arrivals = poisson(8_000.0);
    let alone = passages(&workload(vec![class(1, &[100.0], 0.0)]), arrivals);
    for service in [[100.0, 60.0, 30.0], [30.0, 100.0, 60.0], [30.0, 60.0, 100.0]] {
        let in_a_row = passages(&workload(vec![class(1, &service, 11.0)]), arrivals);
        for (alone, in_a_row) in alone.iter().zip(&in_a_row) {
            assert!((alone.latency() + 90.0 + 11.0 - in_a_row.latency()).abs() < 1e-4);
        }
    }
    let slowest_first = run_under(&workload(vec![class(1, &[100.0, 99.0, 30.0], 0.0)]), arrivals);
    assert!(slowest_first.stages[0].max_waiting > 3);
    // Late times are rounded, so that back-to-back tasks may seem to overlap by less than a nanosecond.
    assert!(slowest_first.stages[1..].iter().all(|stage| stage.mean_waiting < 1e-9));
}

#[test]
fn saturation_is_flagged_from_the_capacity_on() {
    let pipeline = workload(vec![class(1, &[100.0], 0.0), class(1, &[100.0, 300.0], 20.0)]);
    let capacity = 1e6 / 150.0;
    for spacing in [Spacing::Periodic, Spacing::Poisson] {
        let at = |share: f64| run_under(&pipeline, Arrival::Open { spacing, rate_per_s: capacity * share });
        let below = at(0.95);
        assert!(!below.saturated && below.latency_us.is_some());
        close(below.rate_per_s, 0.95 * capacity, 0.03);
        for share in [1.0, 1.5] {
            let found = at(share);
            assert!(found.saturated && found.latency_us.is_none());
        }
        let overrun = at(1.4);
        close(overrun.rate_per_s, capacity, 0.02);
        close(overrun.stages[1].utilisation.0, 1.0, 1e-3);
        assert!(overrun.stages[1].max_waiting > 1000);
    }
}

#[test]
fn the_highest_rate_meets_the_limit_and_the_next_does_not() {
    let pipeline = workload(vec![class(7, &[400.0], 0.0), class(3, &[500.0, 1200.0, 100.0], 80.0)]);
    let alone = Micros(1880.0);
    for spacing in [Spacing::Periodic, Spacing::Poisson] {
        let p99 = |rate_per_s: f64| {
            run_under(&pipeline, Arrival::Open { spacing, rate_per_s }).latency_us.unwrap().p99
        };
        let mut last = 0.0;
        for limit in [1.05, 1.5, 4.0].map(|factor| alone * factor) {
            let rate = highest_rate_with_p99_below(&pipeline, spacing, limit, SEED).unwrap();
            assert!(p99(rate) <= limit);
            assert!(p99(rate * 1.0011) > limit, "{spacing:?} {limit}");
            assert!(rate > last);
            last = rate;
        }
        assert_eq!(highest_rate_with_p99_below(&pipeline, spacing, Micros(1879.0), SEED), None);
    }
}

#[test]
fn a_limit_that_every_sustained_rate_meets_gives_the_capacity() {
    let pipeline = workload(vec![class(10, &[300.0, 1000.0, 200.0], 50.0)]);
    let highest = |limit| highest_rate_with_p99_below(&pipeline, Spacing::Periodic, Micros(limit), SEED);
    close(highest(1550.0).unwrap(), 1000.0, 1.001e-3);
    assert_eq!(highest(1549.9), None);
}

#[test]
fn the_highest_rate_is_that_of_m_d_1() {
    let pipeline = workload(vec![class(1, &[100.0], 0.0)]);
    let load = 0.7;
    let limit = Micros(100.0 * (1.0 + md1_percentile(load, 0.99)));
    let highest = |seed| highest_rate_with_p99_below(&pipeline, Spacing::Poisson, limit, seed).unwrap();
    within_interval(&seeds().map(highest), load * 1e4, 0.02);
}

#[test]
fn a_pipeline_that_takes_no_time_has_no_bound() {
    let nothing = workload(vec![class(5, &[0.0, 0.0], 0.0)]);
    assert!(sustained_rate(&nothing).is_infinite());
    assert_eq!(
        highest_rate_with_p99_below(&nothing, Spacing::Poisson, Micros(1.0), SEED),
        Some(f64::INFINITY)
    );
    let found = run_under(&nothing, arrival("closed:3"));
    assert!(found.rate_per_s.is_infinite());
    assert_eq!(found.latency_us.unwrap().p99, Micros::ZERO);
    assert!(found.stages.iter().all(|stage| stage.mean_waiting == 0.0 && stage.utilisation == Share(0.0)));
    close(run_under(&nothing, arrival("rate:50")).rate_per_s, 50.0, 1e-9);
}

#[test]
fn a_seed_gives_the_same_figures_again() {
    let pipeline = workload(vec![class(7, &[400.0], 0.0), class(3, &[500.0, 1200.0, 100.0], 80.0)]);
    for arrivals in ["closed:4", "rate:1500", "poisson:1500"].map(arrival) {
        let found = simulate(&pipeline, arrivals, 5).unwrap();
        assert_eq!(found, simulate(&pipeline, arrivals, 5).unwrap());
        assert_ne!(found, simulate(&pipeline, arrivals, 6).unwrap());
    }
    let highest = |seed| highest_rate_with_p99_below(&pipeline, Spacing::Poisson, Micros(4000.0), seed);
    assert_eq!(highest(5), highest(5));
    assert_ne!(highest(5), highest(6));
}

#[test]
fn documents_name_their_units() {
    let pipeline = workload(vec![class(1, &[10.0], 0.0)]);
    let found = run_under(&pipeline, arrival("poisson:50000"));
    let json = serde_json::to_value(&found).unwrap();
    assert!(json["latency_us"]["p99"].as_f64().unwrap() > 10.0);
    assert!(json["stages"][0]["mean_waiting"].as_f64().unwrap() > 0.0);
    assert_eq!(json["tasks"], 100_000);
    assert_eq!(serde_json::from_value::<Simulated>(json).unwrap(), found);
}

#[test]
fn workloads_that_make_no_sense_are_refused() {
    let stages = || vec!["device".into(), "link".into()];
    for (classes, words) in [
        (vec![], "1 to 1000000 samples, found 0"),
        (vec![class(0, &[1.0], 0.0)], "found 0"),
        (vec![class(usize::MAX, &[1.0], 0.0), class(usize::MAX, &[1.0], 0.0)], "1 to 1000000 samples"),
        (vec![class(1, &[], 0.0)], "1 to 2 stages of this pipeline, found one with 0"),
        (vec![class(1, &[1.0; 3], 0.0)], "found one with 3"),
        (vec![class(1, &[1.0, -1.0], 0.0)], "found -1"),
        (vec![class(1, &[f64::NAN], 0.0)], "found NaN"),
        (vec![class(1, &[1.0], f64::INFINITY)], "found inf"),
    ] {
        let error = Workload::new(stages(), classes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let pipeline = workload(vec![class(1, &[1.0], 0.0)]);
    for senseless in [Arrival::Closed { in_flight: 0 }, periodic(0.0), poisson(f64::NAN)] {
        assert_eq!(simulate(&pipeline, senseless, SEED).unwrap_err().exit_code(), 2);
    }
}

/// A small pipeline with a task list, in multiples of 1/1024 µs, so that sums are exact.
#[derive(Clone, Debug)]
struct Case {
    hops: Vec<f64>,
    jobs: Vec<Job>,
    arrivals: Arrivals,
    warm_up: usize,
}

/// Zero and equal times are frequent, so that ties are.
fn time() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(4.0),
        (0..12_u32).prop_map(f64::from),
        (0..8_000_u32).prop_map(|t| f64::from(t) / 1024.0)
    ]
}

fn arrivals(tasks: usize) -> impl Strategy<Value = Arrivals> {
    let periodic =
        (0..10_u32).prop_map(move |gap| (0..tasks).map(|task| f64::from(gap) * task as f64).collect());
    let poisson = prop::collection::vec(0.0..1.0_f64, tasks).prop_map(|shares| {
        let mut now = 0.0;
        let arrive = |share: f64| {
            now -= 8.0 * (-share).ln_1p();
            (now * 1024.0).floor() / 1024.0
        };
        shares.into_iter().map(arrive).collect()
    });
    let bunched = prop::collection::vec(time(), tasks).prop_map(|gaps| {
        let mut now = 0.0;
        let arrive = |gap| {
            now += gap;
            now
        };
        gaps.into_iter().map(arrive).collect()
    });
    let open = prop_oneof![periodic.boxed(), poisson.boxed(), bunched.boxed()].prop_map(Arrivals::At);
    prop_oneof![2 => open, 1 => (1..8_usize).prop_map(Arrivals::Closed)]
}

fn cases() -> impl Strategy<Value = Case> {
    (1..6_usize, 2..40_usize).prop_flat_map(|(stages, tasks)| {
        let job = (prop::collection::vec(time(), 1..=stages), time());
        let jobs = prop::collection::vec(job.prop_map(|(service, reply)| Job { service, reply }), tasks);
        let hops = prop::collection::vec(time(), stages);
        (hops, jobs, arrivals(tasks), 1..tasks).prop_map(|(mut hops, jobs, arrivals, warm_up)| {
            hops[0] = 0.0;
            Case { hops, jobs, arrivals, warm_up }
        })
    })
}

/// The job as the recursion knows it: all its delays in one.
fn as_class(job: &Job, hops: &[f64]) -> Class {
    class(1, &job.service, hops[..job.service.len()].iter().sum::<f64>() + job.reply)
}

fn source(arrivals: &Arrivals) -> Source<'_> {
    match arrivals {
        Arrivals::At(times) => Source::Open { unit_arrivals: times, gap: 1.0 },
        Arrivals::Closed(in_flight) => Source::Closed { in_flight: *in_flight },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_recursion_is_the_event_queue(case in cases()) {
        let classes: Vec<Class> = case.jobs.iter().map(|job| as_class(job, &case.hops)).collect();
        let tasks = Tasks { classes: classes.iter().collect(), warm_up: case.warm_up };
        let stages = (0..case.hops.len()).map(|stage| format!("stage{stage}")).collect();
        let pipeline = Workload::new(stages, classes.clone()).unwrap();
        let source = source(&case.arrivals);
        let expected = event_queue::simulate(&case.jobs, &case.hops, &case.arrivals, case.warm_up);

        let passages: Vec<Passage> = flow(&tasks.classes, case.hops.len(), &source, |_, _| ()).collect();
        prop_assert_eq!(&passages, &expected.passages);

        let found = run(&pipeline, &tasks, &source, false);
        for (stage, load) in found.stages.iter().enumerate() {
            prop_assert_eq!(load.mean_waiting, expected.mean_waiting[stage]);
            prop_assert_eq!(load.max_waiting, expected.max_waiting[stage]);
            prop_assert_eq!(load.utilisation.0, expected.utilisation[stage]);
        }
        let sorted = event_queue::latencies(&expected.passages[case.warm_up..]);
        let at = |p: f64| Micros(sorted[(sorted.len() as f64 * p).floor() as usize]);
        let latency = found.latency_us.unwrap();
        prop_assert_eq!([latency.median, latency.p90, latency.p99], [at(0.5), at(0.9), at(0.99)]);
        prop_assert!((latency.mean.0 - sorted.iter().sum::<f64>() / sorted.len() as f64).abs() < 1e-9);
        let complete = event_queue::completions(&expected.passages);
        let span = complete[complete.len() - 1] - complete[case.warm_up - 1];
        prop_assert_eq!(found.rate_per_s, Micros(span).rate_per_s() * sorted.len() as f64);
    }

    /// What the bisection rests on.
    #[test]
    fn no_latency_falls_as_the_rate_grows(case in cases(), scale in 1..5_u32) {
        let classes: Vec<Class> = case.jobs.iter().map(|job| as_class(job, &case.hops)).collect();
        let tasks: Vec<&Class> = classes.iter().collect();
        let Arrivals::At(times) = &case.arrivals else { return Ok(()) };
        let at = |gap| {
            let source = Source::Open { unit_arrivals: times, gap };
            flow(&tasks, case.hops.len(), &source, |_, _| ()).map(|task| task.latency()).collect::<Vec<f64>>()
        };
        for (fast, slow) in at(1.0).into_iter().zip(at(f64::from(scale))) {
            prop_assert!(fast >= slow);
        }
    }
}
