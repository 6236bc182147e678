//! All of it on one machine: this host as an emulated device and as the edge.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Context;
use super::case::{Case, Criteria};
use super::edge::{EdgeOptions, Endpoint};
use super::evidence::Evidence;
use super::local_node::{LocalNode, NodeOptions};
use super::model::{Model, ModelOptions};
use super::refine::Nodes;
use super::survey::measure_scenario;
use super::testbed::{Job, Testbed};
use super::{exits, layers, link, optimize, provenance};
use crate::report::{
    DemoDocument, Emulation, ExitsDocument, LayersDocument, LinkDocument, OptimizeDocument, PolicyChoice,
    ReplayDocument,
};
use crate::runtime;
use coprof_core::error::Result;
use coprof_core::plan::Policy;

/// The baselines that run, too.
const BASELINES: [Policy; 3] = [Policy::DeviceOnly, Policy::EdgeOnly, Policy::Neurosurgeon];
/// Tasks per plan: enough for figures within some per cent in the demo's two minutes.
const TASKS: usize = 400;
/// The link is measured for so long.
const LINK_TIME: Duration = Duration::from_secs(5);

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// A bundled model or an ONNX file.
    pub model: ModelOptions,
    /// What is emulated.
    pub emulation: Emulation,
    /// How layers run on this machine.
    pub node: NodeOptions,
    /// Where the frames of the replays are; `None`: CIFAR-10 where it is found by itself, else made-up ones.
    pub data: Option<PathBuf>,
}

/// What a step before the replays found.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// On this host, not slowed.
    Layers(&'a LayersDocument),
    /// As it is emulated.
    Link(&'a LinkDocument),
    /// From the model's record.
    Exits(&'a ExitsDocument),
    /// For the emulated device and link.
    Optimize(&'a OptimizeDocument),
}

/// Takes all steps, of which `show` is told one by one, and saves what they found; where.
pub fn run(
    options: &Options,
    show: &mut dyn FnMut(Step<'_>) -> Result<()>,
    context: &Context,
) -> Result<(DemoDocument, PathBuf)> {
    runtime::check()?;
    let model = Model::open(&options.model, context)?;
    let device = LocalNode::as_device(&options.node)?;
    let emulation = options.emulation;
    let described = emulation.describe().unwrap_or_default();
    context.say(format!("{} on this host as device and edge; {described}", model.graph.name));

    let (layers, _) = layers::measure(&model, &device, context)?;
    show(Step::Layers(&layers))?;
    let edge = Endpoint::open(&EdgeOptions::default(), &options.node, &emulation, context)?;
    let link_only = Emulation { slowdown: 1.0, ..emulation };
    let (link, _) = link::measure(&edge, &device, link_only, LINK_TIME, context)?;
    show(Step::Link(&link))?;
    let data = options.data.as_deref();
    let records_of_other_images = provenance::of_frames(&model, data, context);
    let exits = exits::sweep_record(&model, &device, &model.exit_record()?)?;
    let exits = ExitsDocument { records_of_other_images, ..exits };
    show(Step::Exits(&exits))?;
    let nodes = Nodes { model: &model, device: &device, edge: &edge, context };
    let case = Case { records_of_other_images, ..measure_case(&nodes, emulation)? };
    let optimized = optimize::optimize(&case, None, optimize::Effort::default(), context)?;
    show(Step::Optimize(&optimized))?;

    let replays = replay_all(&nodes, emulation, data, &optimized)?;
    let envelope = device.envelope("demo", Some(&model.graph), &emulation);
    let document = DemoDocument { envelope, layers, link, exits, optimize: optimized, replays };
    let path = context.save("demo", &document)?;
    Ok((document, path))
}

fn measure_case(nodes: &Nodes<'_>, emulation: Emulation) -> Result<Case> {
    let evidence = Evidence::gather(nodes.model, nodes.device, None, nodes.context)?;
    measure_scenario(nodes, &evidence, emulation, &Criteria::default(), 0)
}

/// Our plan first, then each baseline's.
fn replay_all(
    nodes: &Nodes<'_>,
    emulation: Emulation,
    data: Option<&Path>,
    optimized: &OptimizeDocument,
) -> Result<Vec<ReplayDocument>> {
    let testbed = Testbed {
        model: nodes.model,
        device: nodes.device,
        edge: Some(nodes.edge),
        emulation,
        data,
        records_of_other_images: optimized.records_of_other_images,
        tasks: TASKS,
        context: nodes.context,
    };
    let (best, accuracy_basis) = (&optimized.best, optimized.accuracy_basis);
    let mut jobs =
        vec![Job { name: "coprof", plan: &best.plan, predicted: &best.prediction, accuracy_basis }];
    let simple = |choice: &&PolicyChoice| BASELINES.contains(&choice.name);
    jobs.extend(optimized.policies.iter().filter(simple).map(|choice| Job {
        name: choice.name.label(),
        plan: &choice.predicted.plan,
        predicted: &choice.predicted.prediction,
        accuracy_basis,
    }));
    jobs.iter().map(|job| testbed.replay(job)).collect()
}
