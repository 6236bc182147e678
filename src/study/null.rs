//! What coprof's own threads and sockets cost a task: a network that does next to nothing runs through the real pipeline.

use std::time::Duration;

use super::Context;
use super::edge::Endpoint;
use super::emulation::pace;
use super::frames::TimingFrames;
use super::link_terms::link_of;
use super::local_node::LocalNode;
use super::model::Model;
use super::profile::profile_node;
use crate::report::Emulation;
use coprof_core::codec::{Element, Encoding};
use coprof_core::error::{Error, Result};
use coprof_core::model::{Cut, Graph};
use coprof_core::plan::{ExitPlan, LinkPlan, NodePlan, Plan, Route, Threshold};
use coprof_core::units::Micros;
use coprof_run::backend::Backend;
use coprof_run::measure::{LayerProfile, LinkProfile, Samples, Watch};
use coprof_run::pipeline::{Peer, ProfileRequest, ReplayOptions, Trace, frame_bytes, replay, task_bytes};

/// Tasks of a run: no more than may be under way, so that none waits for room.
const TASKS: usize = 64;
const ROUNDS: usize = 4;
/// Layers of the null network: one for each node.
const LAYERS: usize = 2;
/// Between tasks that run alone.
const PAUSE: Duration = Duration::from_millis(2);

/// What the pipeline adds to the parts that are measured by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overheads {
    /// To the device's work on each task.
    pub device_us: Micros,
    /// To the edge's work on each task.
    pub edge_us: Micros,
    /// To the latency of each task that crosses: hand-overs between threads.
    pub handover_us: Micros,
    /// To the work of device and edge on a task that comes after a pause.
    pub pause_us: [Micros; 2],
}

/// Runs the null network through the pipeline that plans run in.
pub fn measure(
    device: &LocalNode,
    edge: &Endpoint,
    emulation: &Emulation,
    link: &LinkProfile,
    context: &Context,
) -> Result<Overheads> {
    let model = Model::null()?;
    let mut backend = device.on_thread(|thread| device.load(&model.graph, thread))?;
    let mut peer = edge.connect_with(&model)?;
    let request = ProfileRequest { layers: true, ..ProfileRequest::default() };
    let here = device.on_thread(|_| {
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, context.stop());
        profile_node(&mut backend, &request, &*device.clock(), &mut watch)
    })?;
    let there = peer.profile(&request, &mut |_| ())?;
    let mut null = Null { device, context, emulation, model: &model, backend: &mut backend, peer: &mut peer };
    let mut full = Vec::new();
    for _ in 0..ROUNDS {
        full.push(null.run(TASKS, Duration::ZERO)?);
    }
    let single = null.run(1, PAUSE)?;
    let own = OwnTimes::new(&here.layers, &there.layers, emulation.slowdown)?;
    overheads(&full, &single, &own, link)
}

struct Null<'a> {
    device: &'a LocalNode,
    context: &'a Context,
    emulation: &'a Emulation,
    model: &'a Model,
    backend: &'a mut dyn Backend,
    peer: &'a mut Peer,
}

impl Null<'_> {
    fn run(&mut self, in_flight: usize, pause: Duration) -> Result<Trace> {
        let plan = plan(&self.model.graph)?;
        let route = Route::new(&self.model.graph, &plan)?;
        let (prepare, stop) = (|| _ = self.device.prepare_thread(), self.context.flag());
        let clock = self.device.clock();
        let options = ReplayOptions {
            tasks: TASKS,
            first_frame: 0,
            in_flight,
            pause,
            pace: pace(self.emulation)?,
            clock: &*clock,
            pin: Some(&prepare),
            stop: &stop,
        };
        let frames = TimingFrames::of(&self.model.graph);
        replay(Some(self.peer), self.backend, &route, &plan, &frames, &options, &mut |_| ())
    }
}

/// The first layer runs on the device, the other on the edge.
fn plan(graph: &Graph) -> Result<Plan> {
    let whole = Cut::needed_by(graph, graph.final_exit()).tip_names(graph);
    let first = graph.trunk().first().map(|&id| graph.layer(id).name.clone());
    let first = vec![first.ok_or_else(|| Error::failed("the null network has no layers"))?];
    Ok(Plan {
        model: graph.hash.clone(),
        nodes: vec![NodePlan { cut: first.clone() }, NodePlan { cut: whole }],
        links: vec![Some(LinkPlan {
            resume: first,
            encoding: Encoding::plain(Element::F32),
            calibration: None,
        })],
        exits: vec![ExitPlan {
            name: graph.exits[graph.final_exit().0].name.clone(),
            threshold: Threshold::Always,
            node: 1,
        }],
    })
}

/// What the null network's own parts take on each node.
struct OwnTimes {
    device: Micros,
    edge: Micros,
}

impl OwnTimes {
    fn new(here: &Option<LayerProfile>, there: &Option<LayerProfile>, slowdown: f64) -> Result<Self> {
        // The edge's comes from the network.
        let of_both_layers = |profile: &&LayerProfile| profile.layers.len() == LAYERS;
        let (Some(here), Some(there)) =
            (here.as_ref().filter(of_both_layers), there.as_ref().filter(of_both_layers))
        else {
            return Err(Error::peer("the null network was not profiled whole; is the edge the same coprof?"));
        };
        let input = here.input.as_ref().map_or(Micros::ZERO, Samples::mean);
        let layers = |profile: &LayerProfile, from: usize, to: usize| -> Micros {
            profile.layers[from..to].iter().map(Samples::mean).sum()
        };
        let head = there.exits.last().map_or(Micros::ZERO, Samples::mean);
        Ok(Self { device: (input + layers(here, 0, 1)) * slowdown, edge: layers(there, 1, LAYERS) + head })
    }
}

fn overheads(full: &[Trace], single: &Trace, own: &OwnTimes, link: &LinkProfile) -> Result<Overheads> {
    let median = |times: Vec<Micros>| Samples::new(times).map_or(Micros::ZERO, |times| times.median());
    let over = |time: Micros, own: Micros| (time - own).max(Micros::ZERO);
    let crossed = |trace: &Trace| -> Vec<_> {
        trace.tasks.iter().filter_map(|task| Some((*task, task.crossed?))).collect()
    };
    // Its encoding is no part of it: those of plans are measured whole.
    let device = |traces: &[Trace]| {
        median(traces.iter().flat_map(crossed).map(|(task, _)| task.computed_us - task.started_us).collect())
    };
    let edge = |traces: &[Trace]| {
        let times =
            traces.iter().flat_map(crossed).map(|(_, task)| task.edge_finished_us - task.edge_started_us);
        median(times.collect())
    };
    let (in_full, alone) = ([device(full), edge(full)], std::slice::from_ref(single));
    let message = (task_bytes(8) - frame_bytes(0)) as f64;
    let link = link_of(link, 0);
    let travel = link.lone_time(message) + link.transit();
    let handover = crossed(single).into_iter().map(|(task, crossed)| {
        let device = crossed.encoded_us - task.started_us;
        let edge = crossed.edge_finished_us - crossed.edge_started_us;
        task.finished_us - task.started_us - device - edge - travel
    });
    Ok(Overheads {
        device_us: over(in_full[0], own.device),
        edge_us: over(in_full[1], own.edge),
        handover_us: over(median(handover.collect()), Micros::ZERO),
        pause_us: [over(device(alone), in_full[0]), over(edge(alone), in_full[1])],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(layers: usize) -> Option<LayerProfile> {
        let all = |us| Samples::new(vec![Micros(us)]).unwrap();
        Some(LayerProfile {
            layers: vec![all(3.0); layers],
            whole: all(6.0),
            exits: vec![all(1.0)],
            input: Some(all(2.0)),
            input_and_first: None,
            disturbance: coprof_run::measure::Disturbance::default(),
            attempts: 1,
        })
    }

    #[test]
    fn the_null_network_has_a_layer_for_each_node() {
        let graph = Model::null().unwrap().graph;
        assert_eq!(graph.trunk().len(), LAYERS);
        let plan = plan(&graph).unwrap();
        assert_eq!((plan.nodes[0].cut.len(), plan.nodes[1].cut.len()), (1, 1));
        assert_ne!(plan.nodes[0], plan.nodes[1]);
        let own = OwnTimes::new(&profile(2), &profile(2), 8.0).unwrap();
        assert_eq!((own.device, own.edge), (Micros(40.0), Micros(4.0)));
    }

    #[test]
    fn a_profile_of_something_else_is_an_error_and_no_panic() {
        for strange in [None, profile(0), profile(1), profile(3)] {
            assert_eq!(OwnTimes::new(&profile(2), &strange, 1.0).err().unwrap().exit_code(), 3);
        }
    }
}
