//! What happened in a run, task by task, and what follows from it: rate, latencies, stage times, bottleneck.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::task::Answer;
use coprof_core::model::ExitId;
use coprof_core::plan::Stage;
use coprof_core::units::{Micros, Share};

/// Names of the stages in order.
const STAGES: [&str; 3] = ["device", "link", "edge"];

/// One task. Times are on the device's clock, from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskTrace {
    /// Its place in the run.
    pub seq: u32,
    /// The index of its frame.
    pub frame: usize,
    /// Where it left, with what answer.
    pub answer: Answer,
    /// Others had the core of the device or the edge while it was worked on: its times count for no stage and no latency.
    #[serde(default)]
    pub disturbed: bool,
    /// The device began with it.
    pub started_us: Micros,
    /// The device had run its layers.
    pub computed_us: Micros,
    /// What happened beyond the device; `None` where the sample left there.
    pub crossed: Option<Crossed>,
    /// The answer was known on the device.
    pub finished_us: Micros,
}

impl TaskTrace {
    /// The same task as one of a trace that began so many tasks and so much time before.
    fn moved(mut self, tasks: u32, time: Micros) -> Self {
        self.seq += tasks;
        let own = [&mut self.started_us, &mut self.computed_us, &mut self.finished_us];
        let there = self.crossed.iter_mut().flat_map(|crossed| {
            [
                &mut crossed.encoded_us,
                &mut crossed.sent_us,
                &mut crossed.arrived_us,
                &mut crossed.edge_started_us,
                &mut crossed.edge_finished_us,
            ]
        });
        own.into_iter().chain(there).for_each(|moment| *moment += time);
        self
    }
}

/// The part of a task beyond the device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crossed {
    /// The frontier was encoded.
    pub encoded_us: Micros,
    /// It was handed to the socket.
    pub sent_us: Micros,
    /// The edge had read it. From here on the edge's clock, mapped to the device's.
    pub arrived_us: Micros,
    /// The edge's worker took it.
    pub edge_started_us: Micros,
    /// The edge's worker knew the answer.
    pub edge_finished_us: Micros,
    /// The encoded frontier, without headers.
    pub payload_bytes: u64,
}

/// A finished run, or several in turn, between which the pipeline was empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// In the order in which they started.
    pub tasks: Vec<TaskTrace>,
    /// Where each run begins among the tasks.
    #[serde(default)]
    pub runs: Vec<usize>,
    /// The most tasks that were under way at a time.
    pub in_flight: usize,
    /// The time that an empty message takes one way: half the shortest round trip found before the run.
    pub one_way_us: Micros,
}

impl Trace {
    /// Of one run.
    pub fn of_run(tasks: Vec<TaskTrace>, in_flight: usize, one_way_us: Micros) -> Self {
        Self { tasks, runs: vec![0], in_flight, one_way_us }
    }

    /// Puts a later trace behind this one: its tasks' numbers and times go on from here.
    pub fn append(&mut self, later: Self) {
        let (tasks, seq) = (self.tasks.len(), self.tasks.last().map_or(0, |task| task.seq + 1));
        let end = self.tasks.iter().map(|task| task.finished_us).fold(Micros::ZERO, Micros::max);
        self.runs.extend(later.runs.iter().map(|run| run + tasks));
        self.tasks.extend(later.tasks.into_iter().map(|task| task.moved(seq, end)));
        self.in_flight = self.in_flight.max(later.in_flight);
        self.one_way_us = if tasks == 0 { later.one_way_us } else { self.one_way_us.min(later.one_way_us) };
    }

    /// The tasks of each run.
    fn each_run(&self) -> impl Iterator<Item = &[TaskTrace]> {
        let ends = self.runs.iter().skip(1).copied().chain([self.tasks.len()]);
        self.runs.iter().zip(ends).map(|(&start, end)| &self.tasks[start..end])
    }

    /// How many of a run's tasks do not count: the first tenth, and at least one pipeline full, in which caches warm up and the
    /// pipeline fills; never more than half.
    fn warm_up(&self, run: &[TaskTrace]) -> usize {
        (run.len() / 10).max(self.in_flight).min(run.len() / 2)
    }

    /// The tasks that count.
    pub fn steady(&self) -> impl Iterator<Item = &TaskTrace> {
        self.each_run().flat_map(|run| &run[self.warm_up(run)..])
    }

    /// Tasks per second in steady state: of the `n` steady tasks of each run, `n − 1` over the time from the first to the last
    /// of their completions in order, where a task is complete when it and all before it are answered. Counting answers as
    /// they come would count too many while a queue builds up before the link: those that leave on the device overtake.
    /// `None` where too few tasks finished to tell.
    pub fn rate_per_s(&self) -> Option<f64> {
        let complete = |tasks: &[TaskTrace]| tasks.iter().map(|task| task.finished_us).reduce(Micros::max);
        let (mut tasks, mut time) = (0, Micros::ZERO);
        for run in self.each_run() {
            let warm_up = self.warm_up(run);
            time += complete(run)? - complete(run.get(..=warm_up)?)?;
            tasks += run.len() - warm_up - 1;
        }
        (time > Micros::ZERO).then(|| tasks as f64 * time.rate_per_s())
    }

    /// From the start of each steady task to its answer, the disturbed ones left out.
    pub fn latencies(&self) -> Vec<Micros> {
        let weights = self.weights();
        let counted = self.steady().filter(|task| weights.of(task) > 0.0);
        counted.map(|task| task.finished_us - task.started_us).collect()
    }

    /// Their mean; `None` without any.
    pub fn mean_latency(&self) -> Option<Micros> {
        let weights = self.weights();
        let weighed = self.steady().map(|task| (weights.of(task), task.finished_us - task.started_us));
        let (weight, sum) = weighed
            .fold((0.0, Micros::ZERO), |(weight, sum), (own, latency)| (weight + own, sum + latency * own));
        (weight > 0.0).then(|| sum * (1.0 / weight))
    }

    /// How many of the steady tasks were disturbed.
    pub fn disturbed(&self) -> usize {
        self.steady().filter(|task| task.disturbed).count()
    }

    /// How much each task counts in a mean.
    fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for task in self.steady() {
            let (all, undisturbed) = weights.0.entry(task.answer.exit).or_default();
            *all += 1;
            *undisturbed += usize::from(!task.disturbed);
        }
        weights
    }

    /// Device, link and edge: mean busy time per steady and undisturbed task, those included that never reached the stage.
    ///
    /// - device: layers, exits and encoding;
    /// - link: from when the task was handed to the socket, or the one before it was through if that was later, until it
    ///   arrived. The delay is no work: a task that finds the link idle is charged its time less the one-way delay;
    /// - edge: decoding, layers and exits.
    pub fn stages(&self) -> Vec<Stage> {
        let (mut sums, mut crossings, mut tasks) = ([Micros::ZERO; 3], 0, 0);
        let (weights, mut total) = (self.weights(), 0.0);
        let mut link_free = Micros(f64::NEG_INFINITY);
        let in_runs = self.each_run().flat_map(|run| {
            let warm_up = self.warm_up(run);
            run.iter().enumerate().map(move |(at, task)| (at >= warm_up, task))
        });
        for (is_steady, task) in in_runs {
            let device_done = task.crossed.map_or(task.computed_us, |crossed| crossed.encoded_us);
            let mut busy = [device_done - task.started_us, Micros::ZERO, Micros::ZERO];
            if let Some(crossed) = task.crossed {
                let began = link_free.max(crossed.sent_us + self.one_way_us);
                busy[1] = Micros::ZERO.max(crossed.arrived_us - began);
                busy[2] = crossed.edge_finished_us - crossed.edge_started_us;
                link_free = crossed.arrived_us;
                crossings += usize::from(is_steady);
            }
            if is_steady {
                let weight = weights.of(task);
                (tasks, total) = (tasks + 1, total + weight);
                sums.iter_mut().zip(busy).for_each(|(sum, busy)| *sum += busy * weight);
            }
        }
        let share = Share::of(crossings, tasks);
        let mean = |sum: Micros| sum * (1.0 / f64::max(total, 1.0));
        let shares = [Share(1.0), share, share];
        let stages = STAGES.iter().zip(sums).zip(shares);
        stages.map(|((name, sum), share)| Stage { name: (*name).into(), time_us: mean(sum), share }).collect()
    }

    /// On device and edge the times from the end of a task to the start of the next one, where that one could have started at once:
    /// handing over to the threads that talk, and taking on from them. No stage and no latency holds them.
    pub fn turnarounds(&self) -> [Vec<Micros>; 2] {
        let mut found = [Vec::new(), Vec::new()];
        for run in self.each_run() {
            for (at, pair) in run.windows(2).enumerate() {
                let done = pair[0].crossed.map_or(pair[0].computed_us, |crossed| crossed.encoded_us);
                let is_unanswered = |task: &&TaskTrace| task.crossed.is_some() && task.finished_us > done;
                let unanswered = run[..=at].iter().filter(is_unanswered).count();
                if unanswered < self.in_flight {
                    found[0].push(pair[1].started_us - done);
                }
            }
            let crossed: Vec<Crossed> = run.iter().filter_map(|task| task.crossed).collect();
            let waited = crossed.windows(2).filter(|pair| pair[1].arrived_us <= pair[0].edge_finished_us);
            found[1].extend(waited.map(|pair| pair[1].edge_started_us - pair[0].edge_finished_us));
        }
        found
    }

    /// The stage with the longest busy time: the one that sets the rate. The earliest of several.
    pub fn bottleneck(&self) -> Option<Stage> {
        self.stages().into_iter().rev().max_by(|a, b| a.time_us.0.total_cmp(&b.time_us.0))
    }

    /// The measured rate over the bottleneck stage's own: 1 when that stage never waits.
    pub fn efficiency(&self) -> Option<f64> {
        Some(self.rate_per_s()? * self.bottleneck()?.time_us.0 / 1e6)
    }
}

/// Per exit how many tasks left there, and how many of them undisturbed. The longer a task takes, the likelier it is disturbed:
/// were the disturbed ones just left out, those that leave early would count too much. So the undisturbed ones of each exit stand
/// for all of it.
#[derive(Default)]
struct Weights(BTreeMap<ExitId, (usize, usize)>);

impl Weights {
    fn of(&self, task: &TaskTrace) -> f64 {
        match self.0.get(&task.answer.exit) {
            // Where most were disturbed, the others say no more than all.
            Some((all, undisturbed)) if 2 * undisturbed < *all => 1.0,
            Some((all, undisturbed)) if !task.disturbed => *all as f64 / *undisturbed as f64,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const DELAY: f64 = 5.0;

    /// A pipeline with given times per stage, in which every `crossing`-th task crosses; computed step by step.
    fn made_up(n: u32, in_flight: usize, device: f64, link: f64, edge: f64, crossing: u32) -> Trace {
        let (exit, share) = (ExitId(0), Share(0.5));
        let answer = Answer { exit, class: 0, entropy: share, top: share, right: None };
        let (mut device_free, mut link_free, mut edge_free): (f64, f64, f64) = (0.0, 0.0, 0.0);
        let mut tasks: Vec<TaskTrace> = Vec::new();
        for seq in 0..n {
            // Start when fewer than `in_flight` tasks are unanswered.
            let mut finished: Vec<f64> = tasks.iter().map(|task| task.finished_us.0).collect();
            finished.sort_by(f64::total_cmp);
            let token = finished.len().checked_sub(in_flight).map_or(0.0, |at| finished[at]);
            let started = device_free.max(token);
            device_free = started + device;
            let mut finished_us = Micros(device_free);
            let crossed = (seq % crossing == 0).then(|| {
                link_free = link_free.max(device_free) + link;
                let arrived = link_free + DELAY;
                let edge_started = edge_free.max(arrived);
                edge_free = edge_started + edge;
                finished_us = Micros(edge_free + DELAY);
                let [encoded_us, arrived_us, edge_started_us, edge_finished_us] =
                    [device_free, arrived, edge_started, edge_free].map(Micros);
                let sent_us = encoded_us;
                Crossed {
                    encoded_us,
                    sent_us,
                    arrived_us,
                    edge_started_us,
                    edge_finished_us,
                    payload_bytes: 1,
                }
            });
            let (started_us, computed_us) = (Micros(started), Micros(device_free));
            tasks.push(TaskTrace {
                seq,
                frame: 0,
                answer,
                disturbed: false,
                started_us,
                computed_us,
                crossed,
                finished_us,
            });
        }
        Trace::of_run(tasks, in_flight, Micros(DELAY))
    }

    fn busy(trace: &Trace) -> Vec<f64> {
        trace.stages().iter().map(|stage| stage.time_us.0).collect()
    }

    fn close(found: f64, expected: f64, share: f64) {
        assert!((found / expected - 1.0).abs() <= share, "expected {expected}, found {found}");
    }

    #[test]
    fn stages_show_their_own_time_whoever_is_the_bottleneck() {
        for times in [[20.0, 7.0, 3.0], [7.0, 20.0, 3.0], [3.0, 7.0, 20.0]] {
            let trace = made_up(200, 8, times[0], times[1], times[2], 1);
            for (found, expected) in busy(&trace).into_iter().zip(times) {
                close(found, expected, 1e-9);
            }
            close(trace.rate_per_s().unwrap(), 1e6 / 20.0, 1e-9);
            close(trace.efficiency().unwrap(), 1.0, 1e-9);
        }
    }

    #[test]
    fn a_stage_that_few_tasks_reach_is_averaged_over_all() {
        let trace = made_up(400, 8, 10.0, 60.0, 3.0, 4);
        let [device, link, edge] = busy(&trace).try_into().unwrap();
        close(device, 10.0, 1e-9);
        close(link, 15.0, 0.02);
        close(edge, 0.75, 0.02);
        assert_eq!(trace.bottleneck().unwrap().name, "link");
        close(trace.bottleneck().unwrap().share.0, 0.25, 0.02);
        close(trace.rate_per_s().unwrap(), 1e6 / 15.0, 0.01);
        close(trace.efficiency().unwrap(), 1.0, 0.01);
    }

    #[test]
    fn a_queue_that_still_fills_does_not_raise_the_rate() {
        // The device is hardly faster than the link, so that the queue fills all along.
        let trace = made_up(400, 64, 14.0, 60.0, 3.0, 4);
        close(trace.rate_per_s().unwrap(), 1e6 / 15.0, 0.01);
        close(trace.efficiency().unwrap(), 1.0, 0.01);
    }

    #[test]
    fn one_task_at_a_time_shows_the_unloaded_latency() {
        let trace = made_up(50, 1, 10.0, 20.0, 3.0, 1);
        let latency = 10.0 + 20.0 + 3.0 + 2.0 * DELAY;
        assert!(trace.latencies().iter().all(|found| (found.0 - latency).abs() < 1e-9));
        close(trace.rate_per_s().unwrap(), 1e6 / latency, 1e-9);
        close(trace.efficiency().unwrap(), 20.0 / latency, 1e-9);
    }

    #[test]
    fn a_clock_that_runs_ahead_never_makes_a_time_negative() {
        let mut trace = made_up(50, 1, 10.0, 1.0, 3.0, 1);
        trace.one_way_us = Micros(1000.0);
        assert_eq!(busy(&trace)[1], 0.0);
    }

    #[test]
    fn a_disturbed_task_counts_for_no_stage_and_no_latency() {
        let mut trace = made_up(200, 1, 20.0, 7.0, 3.0, 1);
        for task in trace.tasks.iter_mut().step_by(5) {
            task.disturbed = true;
            task.finished_us += Micros(5000.0);
            task.started_us = task.started_us - Micros(5000.0);
        }
        assert_eq!(trace.disturbed(), trace.steady().count() / 5);
        close(busy(&trace)[0], 20.0, 1e-9);
        assert!(trace.latencies().iter().all(|latency| latency.0 < 100.0));
        // Half of the tasks leave early: they are not counted more for the others' being disturbed.
        for task in trace.tasks.iter_mut().step_by(2) {
            (task.answer.exit, task.disturbed) = (ExitId(1), false);
            task.finished_us = task.started_us + Micros(1.0);
        }
        let early = trace.steady().filter(|task| task.answer.exit == ExitId(1)).count() as f64;
        let share = early / trace.steady().count() as f64;
        let late = trace.latencies().into_iter().map(|latency| latency.0).fold(0.0, f64::max);
        close(trace.mean_latency().unwrap().0, share + (1.0 - share) * late, 1e-9);
        trace.tasks.iter_mut().for_each(|task| task.disturbed = true);
        assert_eq!(trace.latencies().len(), trace.steady().count(), "all, where hardly one was undisturbed");
    }

    #[test]
    fn a_turnaround_is_no_wait() {
        // The edge is the slowest, so that the device soon waits for room, and tasks for the edge.
        let mut trace = made_up(200, 8, 7.0, 3.0, 20.0, 1);
        for task in &mut trace.tasks {
            task.started_us += Micros(1.5);
            task.crossed.as_mut().unwrap().edge_started_us += Micros(2.0);
        }
        let [device, edge] = trace.turnarounds();
        assert!((4..20).contains(&device.len()), "only as long as there was room: {}", device.len());
        device.iter().for_each(|time| close(time.0, 1.5, 1e-9));
        assert!(edge.len() > 190);
        edge.iter().for_each(|time| close(time.0, 2.0, 1e-9));
        // Where the device is, the edge waits for tasks.
        let [device, edge] = made_up(200, 8, 20.0, 3.0, 7.0, 1).turnarounds();
        assert_eq!((device.len(), edge.len()), (199, 0));
        assert_eq!(Trace::default().turnarounds(), [Vec::new(), Vec::new()]);
    }

    #[test]
    fn runs_in_turn_are_one_trace() {
        let mut trace = Trace::default();
        for _ in 0..3 {
            trace.append(made_up(200, 8, 7.0, 20.0, 3.0, 1));
        }
        assert_eq!((trace.runs.clone(), trace.tasks.len()), (vec![0, 200, 400], 600));
        assert!(trace.tasks.is_sorted_by(|a, b| a.seq < b.seq && a.started_us < b.started_us));
        close(trace.rate_per_s().unwrap(), 1e6 / 20.0, 1e-9);
        close(busy(&trace)[1], 20.0, 1e-9);
        assert_eq!(trace.one_way_us, Micros(DELAY));
    }

    #[test]
    fn too_few_tasks_give_no_rate() {
        assert_eq!(Trace::default().rate_per_s(), None);
        assert_eq!(Trace::default().efficiency(), None);
        assert_eq!(made_up(1, 4, 1.0, 1.0, 1.0, 1).rate_per_s(), None);
    }
}
