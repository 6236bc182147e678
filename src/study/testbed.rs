//! Where plans run end to end: predicted beside measured.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::Context;
use super::drift::{drift, messages_larger};
use super::edge::Endpoint;
use super::emulation::pace;
use super::frames::Frames;
use super::gauge::{Gauge, Speeds};
use super::local_node::LocalNode;
use super::model::Model;
use crate::report::{Agreement, Emulation, ErrorShares, Inside95, Latency, Measured, ReplayDocument};
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::plan::{AccuracyBasis, Plan, Prediction, Route};
use coprof_core::units::{Micros, Share};
use coprof_run::backend::Backend;
use coprof_run::measure::{Samples, Watch, enough_samples};
use coprof_run::pipeline::{Answer, FrameSource, Peer, ReplayOptions, Trace, replay, run_in_process};

/// A plan to run.
pub struct Job<'a> {
    /// As tables call it.
    pub name: &'a str,
    /// What is run.
    pub plan: &'a Plan,
    /// What is to be expected.
    pub predicted: &'a Prediction,
    /// What the predicted accuracy is; the same is measured.
    pub accuracy_basis: AccuracyBasis,
}

/// Where jobs run.
pub struct Testbed<'a> {
    /// The model of all jobs.
    pub model: &'a Model,
    /// This machine.
    pub device: &'a LocalNode,
    /// `None` where no job crosses the link.
    pub edge: Option<&'a Endpoint>,
    /// What is emulated.
    pub emulation: Emulation,
    /// Where the frames are; `None`: CIFAR-10 where it is found by itself, else made-up ones.
    pub data: Option<&'a Path>,
    /// Whether the model's records are of other images than `data` gives.
    pub records_of_other_images: Option<bool>,
    /// How many run with the pipeline full.
    pub tasks: usize,
    /// Messages, the stop flag and the folder of results.
    pub context: &'a Context,
}

/// A run is cut into rounds of about this length, and so many at most: between them both nodes run the whole model for a moment,
/// which tells how far their speed has moved since they were profiled. A host's moves by a tenth and more within tenths of a second.
const ROUND: Micros = Micros(200e3);
const ROUNDS: usize = 40;
/// A round has so many tasks at least where none crosses …
const FEWEST_A_ROUND: usize = 6;
/// … so many where some cross and not all leave at one exit: with fewer, now one node has more to do than on average and now the
/// other, by the chance of who leaves early, and the pipeline is slower than either node …
const FEWEST_MIXED: usize = 400;
/// … and so many messages where the link has much to do: a kernel lets several of them at once through a slow one.
const FEWEST_MESSAGES: f64 = 100.0;
/// Between all rounds together, the whole model runs for about so long on each node, and for so long each time.
const GAUGES: Duration = Duration::from_secs(2);
const GAUGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));
/// One task at a time there run a quarter of the tasks, and of few of them half.
const FEW: usize = 250;

/// What ran, and the nodes' speeds before, between and after all passes: with the pipeline full and one at a time by turns.
struct Ran {
    full: Trace,
    single: Trace,
    speeds: Vec<Speeds>,
}

impl Testbed<'_> {
    /// Runs a plan in rounds, each with the pipeline full and then one task at a time, and compares with the prediction and with
    /// the same plan in one process.
    pub fn replay(&self, job: &Job<'_>) -> Result<ReplayDocument> {
        let graph = &self.model.graph;
        let route = Route::new(graph, job.plan)?;
        let mut frames = Frames::load(self.data, self.model, self.tasks, self.context)?;
        if job.accuracy_basis.is_agreement() {
            frames.label_as_uncut(self.model, self.device, self.context)?;
        }
        frames.force_exits(graph, job.plan, job.predicted)?;
        let Ran { full, single, speeds } = self.rounds(job, &route, &frames)?;
        let expected = self.answers_in_process(&route, &frames)?;
        let measured = measured(&full, &single, &frames)?;
        let sizes = if frames.are_real() { None } else { messages_larger(job.predicted, &full) };
        Ok(ReplayDocument {
            envelope: self.device.envelope("replay", Some(graph), &self.emulation),
            peer: self.edge.map_or("none", Endpoint::peer_name).into(),
            name: job.name.into(),
            plan: job.plan.clone(),
            predicted: job.predicted.clone(),
            error: ErrorShares::of(job.predicted, &measured),
            drift: drift(job.predicted, &speeds, sizes, &measured),
            inside95: Inside95::of(job.predicted.interval95.as_ref(), &measured),
            measured,
            efficiency: full.efficiency().ok_or_else(too_few)?,
            agreement: agreement(&full, &expected),
            accuracy_basis: job.accuracy_basis,
            records_of_other_images: self.records_of_other_images,
            frames: frames.name().into(),
            full,
            single,
        })
    }

    fn rounds(&self, job: &Job<'_>, route: &Route, frames: &Frames) -> Result<Ran> {
        let mut backend = self.device.on_thread(|thread| self.device.load(&self.model.graph, thread))?;
        let crosses = route.nodes.iter().any(|node| node.send.is_some());
        let mut peer = self.edge.filter(|_| crosses).map(|edge| edge.connect_with(self.model)).transpose()?;
        let in_flight = if crosses { in_flight(job.predicted) } else { 1 };
        let a_round = ((ROUND / job.predicted.interval_us) as usize).max(fewest(job.predicted, crosses));
        let rounds = (self.tasks / a_round).clamp(1, ROUNDS);
        let bar = self.context.progress(job.name);
        let mut ran = Ran { full: Trace::default(), single: Trace::default(), speeds: Vec::new() };
        let time = (GAUGES / (2 * rounds as u32)).clamp(GAUGE.0, GAUGE.1);
        let gauge = |backend: &mut dyn Backend, peer: Option<&mut Peer>| {
            Gauge { device: self.device, context: self.context, backend, peer }.in_turn(time)
        };
        let singles = (self.tasks / 4).max(FEW.min(self.tasks / 2));
        ran.speeds.push(gauge(&mut backend, peer.as_mut())?);
        for round in 0..rounds {
            let part = |tasks: usize| tasks * round / rounds..tasks * (round + 1) / rounds;
            let mut pass = |tasks: Range<usize>, in_flight, pause, half: f64| {
                let mut progress = |done| bar.set((round as f64 + half + 0.5 * done) / rounds as f64);
                let pass = Pass { tasks, in_flight, pause };
                let trace =
                    self.pass(job, route, frames, (&mut backend, peer.as_mut()), &pass, &mut progress)?;
                Ok::<_, Error>((trace, gauge(&mut backend, peer.as_mut())?))
            };
            let (trace, speeds) = pass(part(self.tasks), in_flight, Duration::ZERO, 0.0)?;
            ran.full.append(trace);
            ran.speeds.push(speeds);
            let pause = job.predicted.interval_us.to_duration().min(LONGEST_PAUSE);
            let (trace, speeds) = pass(part(singles), 1, pause, 0.5)?;
            ran.single.append(trace);
            ran.speeds.push(speeds);
        }
        Ok(ran)
    }

    fn pass(
        &self,
        job: &Job<'_>,
        route: &Route,
        frames: &Frames,
        (backend, peer): (&mut dyn Backend, Option<&mut Peer>),
        pass: &Pass,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Trace> {
        let prepare = || _ = self.device.prepare_thread();
        let (stop, clock) = (self.context.flag(), self.device.clock());
        let options = ReplayOptions {
            tasks: pass.tasks.len(),
            first_frame: pass.tasks.start,
            in_flight: pass.in_flight,
            pause: pass.pause,
            pace: pace(&self.emulation)?,
            clock: &*clock,
            pin: Some(&prepare),
            stop: &stop,
        };
        let mut progress = |done: usize| progress(done as f64 / pass.tasks.len() as f64);
        replay(peer, backend, route, job.plan, frames, &options, &mut progress)
    }

    fn answers_in_process(&self, route: &Route, frames: &Frames) -> Result<Vec<Answer>> {
        let bar = self.context.progress("the same in one process");
        self.device.on_thread(|thread| {
            let mut progress = |share: f64| bar.set(share);
            let mut watch = Watch::new(&mut progress, self.context.stop());
            let mut step = |done: usize| watch.step(done as f64 / frames.len() as f64);
            let load = |_| -> Result<Box<dyn Backend>> {
                Ok(Box::new(self.device.load(&self.model.graph, thread)?))
            };
            let mut backends = route.nodes.iter().map(load).collect::<Result<Vec<_>>>()?;
            run_in_process(route, &mut backends, frames, &mut step)
        })
    }
}

/// Tasks that run in one go.
struct Pass {
    tasks: Range<usize>,
    in_flight: usize,
    /// Before each.
    pause: Duration,
}

/// A task that runs alone comes after a pause as long as the plan's interval, but not longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many tasks a round needs for a rate.
fn fewest(predicted: &Prediction, crosses: bool) -> usize {
    if !crosses {
        return FEWEST_A_ROUND;
    }
    let exits = predicted.exit_shares.iter().filter(|share| share.0 > 0.0).count();
    // A pipeline full to warm up, and as many that count.
    let fewest = if exits > 1 { FEWEST_MIXED } else { 2 * in_flight(predicted) };
    match predicted.stages.get(1) {
        Some(link) if link.time_us > predicted.interval_us * 0.5 => {
            fewest.max((FEWEST_MESSAGES / link.share.0) as usize)
        }
        _ => fewest,
    }
}

/// Enough tasks under way to keep every stage busy although early exits come in bursts.
fn in_flight(predicted: &Prediction) -> usize {
    let pipeline = predicted.latency_us / predicted.interval_us;
    let pipeline = if pipeline.is_finite() { pipeline.ceil() as usize } else { 1 };
    (2 * pipeline + 8).clamp(16, 64)
}

fn too_few() -> Error {
    Error::unmet("too few tasks finished to tell a rate").with(Remedy::RunMoreTasks)
}

fn measured(full: &Trace, single: &Trace, frames: &Frames) -> Result<Measured> {
    let latencies = Samples::new(single.latencies()).ok_or_else(too_few)?;
    let right = |task: &&coprof_run::pipeline::TaskTrace| {
        let same_class = || frames.label(task.frame) == Some(task.answer.class);
        task.answer.right.unwrap_or_else(same_class)
    };
    let accuracy = || Share::of(full.tasks.iter().filter(right).count(), full.tasks.len());
    Ok(Measured {
        rate_per_s: full.rate_per_s().ok_or_else(too_few)?,
        latency_us: Latency {
            mean: single.mean_latency().ok_or_else(too_few)?,
            median: latencies.median(),
            p90: latencies.percentile(0.9),
            p99: latencies.percentile(0.99),
            p99_settled: enough_samples(0.99, latencies.raw().len()),
            runs: latencies.raw().len(),
        },
        accuracy: frames.tell_what_is_right().then(accuracy),
        stages: full.stages(),
        bottleneck: full.bottleneck().ok_or_else(too_few)?.name,
        disturbed_tasks: full.disturbed() + single.disturbed(),
    })
}

fn agreement(trace: &Trace, expected: &[Answer]) -> Agreement {
    let same = |task: &&coprof_run::pipeline::TaskTrace| {
        let answer = &task.answer;
        let known = |answer: &Answer| (answer.class, answer.exit, answer.right);
        expected.get(task.frame).is_some_and(|other| known(other) == known(answer))
    };
    Agreement { same: trace.tasks.iter().filter(same).count(), tasks: trace.tasks.len() }
}
