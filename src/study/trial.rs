//! A trial: three plans run through the real pipeline in short rounds, full and one task at a time, beside the whole model on
//! each node alone and on both at once. One plan has work for both nodes, the others all of it on one.

use std::time::Duration;

use super::emulation::pace;
use super::frames::TimingFrames;
use super::gauge::{Gauge, Moment, Speeds};
use super::refine::Nodes;
use crate::report::Emulation;
use coprof_core::error::{Error, Result};
use coprof_core::plan::{Link, Plan, Predicted, Problem, Route, all_on_device, all_on_edge, most_balanced};
use coprof_core::units::Micros;
use coprof_run::backend::Backend;
use coprof_run::measure::Samples;
use coprof_run::pipeline::{Peer, ReplayOptions, Trace, frame_bytes, replay, task_bytes};

/// Many short ones: a host's speed moves by a tenth and more within tenths of a second, and what is compared must have run at
/// the same speed on average.
const ROUNDS: usize = 20;
/// In each the whole model runs so often alone and together by turns, …
const GAUGES: usize = 3;
/// … for so long each time …
const GAUGE: Duration = Duration::from_millis(12);
/// … and a full pipeline for so long, within these numbers of tasks.
const FULL: Micros = Micros(80e3);
const TASKS: (usize, usize) = (8, 150);
const IN_FLIGHT: usize = 16;
/// Where nothing crosses there is no pipeline to fill, and one task warms up for the next.
const FEWEST_ALONE: usize = 2;
/// What goes cold in a pause has done so by then.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Only of a node that works for so much of the time a full pipeline says how it works; others wait, and go cold.
const WORKING: f64 = 0.75;

/// The plans of a trial.
pub struct Plans {
    pub balanced: Predicted,
    /// All work on the device, and on the edge; `None` where that can't be.
    pub alone: [Option<Predicted>; 2],
}

impl Plans {
    /// `None` where nothing can cross.
    pub fn of(scenario: &Problem) -> Result<Option<Self>> {
        let Some(balanced) = most_balanced(scenario)? else { return Ok(None) };
        Ok(Some(Self { balanced, alone: [all_on_device(scenario)?, all_on_edge(scenario)?] }))
    }
}

/// What a trial found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The whole model on each node alone, and beside the other.
    pub whole: [Micros; 2],
    pub whole_busy: [Micros; 2],
    /// The stages of the balanced plan in a full pipeline, each where it kept its node working.
    pub balanced: [Option<Micros>; 2],
    /// Each node with all the work, as in [`Plans`], or where it waits for the link then, in the balanced plan.
    pub alone: [Option<Alone>; 2],
    /// On each node from one task to the next that waits; zero where none did.
    pub turnarounds: [Micros; 2],
    /// What a task costs a device that only passes it on.
    pub passing_on: Option<Micros>,
    /// What lone messages took beyond the link's times.
    pub handover: Option<Micros>,
}

/// What a task costs a node that works all the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alone {
    /// One after another, and each after a pause.
    pub in_a_row: Micros,
    pub after_pause: Micros,
}

/// What one round found of a plan.
struct Once {
    /// Both nodes' stages in a full pipeline, and with one task at a time.
    full: [Micros; 2],
    single: [Micros; 2],
    /// Whether a full pipeline kept them working.
    works: [bool; 2],
    turnarounds: [Option<Micros>; 2],
    handover: Option<Micros>,
}

struct Round {
    alone: [Micros; 2],
    together: [Micros; 2],
    balanced: Once,
    /// As in [`Plans`].
    of_one: [Option<Once>; 2],
}

impl Round {
    fn plans(&self) -> impl Iterator<Item = &Once> {
        std::iter::once(&self.balanced).chain(self.of_one.iter().flatten())
    }

    /// Those in which a node has work, most of it first.
    fn plans_of(&self, node: usize) -> impl Iterator<Item = &Once> {
        self.of_one[node].iter().chain([&self.balanced])
    }
}

/// Runs the plans of a trial, over a link of which this much is known.
pub fn run(plans: &Plans, link: &Link, nodes: &Nodes<'_>, emulation: &Emulation) -> Result<Found> {
    let &Nodes { model, device, edge, context } = nodes;
    let mut backend = device.on_thread(|thread| device.load(&model.graph, thread))?;
    let mut peer = edge.connect_with(model)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let mut pass = |found: &Predicted| once(found, link, nodes, emulation, (&mut backend, &mut peer));
        let balanced = pass(&plans.balanced)?;
        let [on_device, on_edge] = &plans.alone;
        let of_one =
            [on_device.as_ref().map(&mut pass).transpose()?, on_edge.as_ref().map(&mut pass).transpose()?];
        let mut gauge = Gauge { device, context, backend: &mut backend, peer: Some(&mut peer) };
        let moments = (0..GAUGES).map(|_| gauge.moment(GAUGE)).collect::<Result<Vec<_>>>()?;
        let mean_of = |speeds: fn(&Moment) -> Speeds| -> Result<[Micros; 2]> {
            let both = moments.iter().map(|moment| of_both(speeds(moment))).collect::<Result<Vec<_>>>()?;
            Ok([0, 1].map(|node| mean(both.iter().map(|both| both[node]))))
        };
        let (alone, together) = (mean_of(|moment| moment.alone)?, mean_of(|moment| moment.together)?);
        rounds.push(Round { alone, together, balanced, of_one });
    }
    Ok(Found::over(&rounds))
}

fn of_both(speeds: Speeds) -> Result<[Micros; 2]> {
    let no_edge = || Error::peer("the edge measured no whole model; is it the same coprof?");
    Ok([speeds.device, speeds.edge.ok_or_else(no_edge)?])
}

/// One plan for a moment.
fn once(
    found: &Predicted,
    link: &Link,
    nodes: &Nodes<'_>,
    emulation: &Emulation,
    (backend, peer): (&mut dyn Backend, &mut Peer),
) -> Result<Once> {
    let Predicted { plan, prediction } = found;
    let crosses = plan.links.iter().any(Option::is_some);
    let (in_flight, fewest) = if crosses { (IN_FLIGHT, TASKS.0) } else { (1, FEWEST_ALONE) };
    let tasks = ((FULL / prediction.interval_us) as usize).clamp(fewest, TASKS.1);
    let resolved = Route::new(&nodes.model.graph, plan)?;
    let inputs = TimingFrames::of(&nodes.model.graph);
    let (prepare, stop, clock) =
        (|| _ = nodes.device.prepare_thread(), nodes.context.flag(), nodes.device.clock());
    let pace = pace(emulation)?;
    let mut pass = |plan: &Plan, tasks, in_flight, pause| {
        let pin = Some(&prepare as &(dyn Fn() + Sync));
        let options =
            ReplayOptions { tasks, first_frame: 0, in_flight, pause, pace, clock: &*clock, pin, stop: &stop };
        let peer = if crosses { Some(&mut *peer) } else { None };
        replay(peer, backend, &resolved, plan, &inputs, &options, &mut |_| ())
    };
    let full = pass(plan, tasks, in_flight, Duration::ZERO)?;
    let single = pass(plan, tasks.div_ceil(3), 1, prediction.interval_us.to_duration().min(LONGEST_PAUSE))?;
    Once::of(&full, &single, link)
}

impl Once {
    fn of(full: &Trace, single: &Trace, link: &Link) -> Result<Self> {
        let of_nodes = |trace: &Trace| {
            let stages = trace.stages();
            [0, 2].map(|stage: usize| stages[stage].time_us)
        };
        let bottleneck = full.bottleneck().ok_or_else(|| Error::failed("the trial ran no tasks"))?;
        let median = |times: Vec<Micros>| Samples::new(times).map(|times| times.median());
        let beyond = single.steady().filter_map(|task| {
            let crossed = task.crossed?;
            let device = crossed.encoded_us - task.started_us;
            let edge = crossed.edge_finished_us - crossed.edge_started_us;
            let message = (task_bytes(crossed.payload_bytes as usize) - frame_bytes(0)) as f64;
            let known = link.lone_time(message) + link.transit() - link.handover_us;
            Some(task.finished_us - task.started_us - device - edge - known)
        });
        let stages = of_nodes(full);
        Ok(Self {
            full: stages,
            single: of_nodes(single),
            works: stages.map(|stage| stage > bottleneck.time_us * WORKING),
            // A mean would hold what others do to one of them.
            turnarounds: full.turnarounds().map(median),
            handover: median(beyond.collect()),
        })
    }
}

impl Found {
    /// Of all rounds. What was measured side by side is compared round by round.
    fn over(rounds: &[Round]) -> Self {
        let whole = [0, 1].map(|node| mean(rounds.iter().map(|round| round.alone[node])));
        // At the speed at which the whole model takes `whole`.
        let level = |node: usize, time: &dyn Fn(&Round) -> Option<Micros>| -> Option<Micros> {
            let ratios = rounds.iter().filter_map(|round| Some(time(round)? / round.alone[node]));
            middle(ratios.collect()).map(|ratio| whole[node] * ratio)
        };
        let of_one = |node: usize| {
            // One that waits for the link comes from a pause to each task.
            let plan = |round: &Round| -> Option<[f64; 2]> {
                let once = round.plans_of(node).find(|once| once.works[node])?;
                Some([once.full[node] / round.alone[node], once.single[node] / once.full[node]])
            };
            let found: Vec<[f64; 2]> = rounds.iter().filter_map(plan).collect();
            let in_a_row = whole[node] * middle(found.iter().map(|found| found[0]).collect())?;
            // Both passes ran one after the other.
            Some(Alone {
                in_a_row,
                after_pause: in_a_row * middle(found.iter().map(|found| found[1]).collect())?,
            })
        };
        let worked =
            |node: usize| 2 * rounds.iter().filter(|round| round.balanced.works[node]).count() > rounds.len();
        let on_edge = || rounds.iter().filter_map(|round| round.of_one[1].as_ref());
        let all = || rounds.iter().flat_map(Round::plans);
        let median = |times: Vec<Micros>| Samples::new(times).map(|times| times.median());
        // The same in all plans, but what the link's table misses between two sizes comes to it.
        let handover = |plan: &dyn Fn(&Round) -> Option<&Once>| {
            median(rounds.iter().filter_map(|round| plan(round)?.handover).collect())
        };
        Self {
            whole,
            whole_busy: [0, 1]
                .map(|node| level(node, &|round| Some(round.together[node])).unwrap_or(whole[node])),
            balanced: [0, 1]
                .map(|node| level(node, &|round| Some(round.balanced.full[node])).filter(|_| worked(node))),
            alone: [0, 1].map(of_one),
            turnarounds: [0, 1].map(|node| mean(all().filter_map(|once| once.turnarounds[node]))),
            passing_on: median(on_edge().map(|once| once.full[0]).collect()),
            handover: [handover(&|round| round.of_one[1].as_ref()), handover(&|round| Some(&round.balanced))]
                .into_iter()
                .flatten()
                .reduce(Micros::min),
        }
    }
}

/// Zero of none.
fn mean(times: impl Iterator<Item = Micros>) -> Micros {
    Samples::new(times.collect()).map_or(Micros::ZERO, |times| times.mean())
}

/// The mean of those in the middle, of which a quarter lies below and a quarter above: nearly as steady as the mean of all, and
/// nearly as safe from outliers as the median. `None` of none, and of what is no number.
fn middle(mut ratios: Vec<f64>) -> Option<f64> {
    if ratios.is_empty() || !ratios.iter().all(|ratio| ratio.is_finite()) {
        return None;
    }
    ratios.sort_by(f64::total_cmp);
    let cut = ratios.len() / 4;
    let middle = &ratios[cut..ratios.len() - cut];
    Some(middle.iter().sum::<f64>() / middle.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(full: f64, single: f64, handover: f64) -> Once {
        Once {
            full: [Micros(7.0), Micros(full)],
            single: [Micros(9.0), Micros(single)],
            works: [false, true],
            turnarounds: [None, Some(Micros(50.0))],
            handover: Some(Micros(handover)),
        }
    }

    #[test]
    fn what_was_measured_side_by_side_is_compared_round_by_round() {
        // The host is twice as slow in every second round, and others disturb the edge's stages in the last one.
        let round = |index: usize| {
            let slow = if index.is_multiple_of(2) { 1.0 } else { 2.0 };
            let disturbed = if index == 7 { 3.0 } else { 1.0 };
            Round {
                alone: [Micros(200.0 * slow), Micros(100.0 * slow)],
                together: [Micros(210.0 * slow), Micros(110.0 * slow)],
                balanced: once(60.0 * slow * disturbed, 70.0 * slow, 30.0),
                of_one: [None, Some(once(90.0 * slow * disturbed, 108.0 * slow, 30.0))],
            }
        };
        let found = Found::over(&(0..8).map(round).collect::<Vec<_>>());
        let close = |found: Micros, expected: f64| assert!((found.0 - expected).abs() < 1e-9, "{found:?}");
        close(found.whole[1], 150.0);
        close(found.whole_busy[1], 165.0);
        close(found.balanced[1].unwrap(), 90.0);
        let alone = found.alone[1].unwrap();
        close(alone.in_a_row, 135.0);
        close(alone.after_pause, 135.0 * 1.2);
        // Of a node that waited for the other nothing is said, nor of a plan that did not run.
        assert_eq!((found.balanced[0], found.alone[0]), (None, None));
        close(found.turnarounds[1], 50.0);
        assert_eq!(found.turnarounds[0], Micros::ZERO);
        assert_eq!((found.passing_on, found.handover), (Some(Micros(7.0)), Some(Micros(30.0))));
    }

    #[test]
    fn the_middle_is_that_of_ratios_that_are_numbers() {
        assert_eq!(middle(vec![9.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(middle(vec![4.0]), Some(4.0));
        assert_eq!((middle(Vec::new()), middle(vec![1.0, f64::NAN])), (None, None));
    }
}
