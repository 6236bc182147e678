//! `coprof demo`: all of it on one machine.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::args::{EmulationArgs, FrameArgs, ModelArgs, PeerArgs, RuntimeArgs};
use super::device::Device;
use super::edge::Route;
use super::evidence::Evidence;
use super::model::Model;
use super::optimize::{self, Problem, Wishes};
use super::output::Output;
use super::refine::Nodes;
use super::replay::{Job, Stage};
use super::{exits, layers, link, provenance, save, survey};
use crate::error::Result;
use crate::plan::Policy;
use crate::report::{
    Envelope, ExitsDocument, LayersDocument, LinkDocument, OptimizeDocument, PolicyChoice, ReplayDocument,
    exits_view, layers_view, link_view, optimize_view, replay_view,
};
use crate::units::BitRate;

pub const EXAMPLE: &str = "Examples:
  coprof demo                                     # an 8 times slower device on a 2 Mbit/s, 5 ms link
  coprof demo --slowdown 4 --link-rate 20mbit     # another board, another link";

/// A device so much slower than this host …
const SLOWDOWN: f64 = 8.0;
/// … on a link like those that Edgent (MECOMM 2018) measured: 0.05 to 1.5 Mbit/s …
const LINK_RATE: BitRate = BitRate(2e6);
/// … with this delay.
const LINK_DELAY: Duration = Duration::from_millis(5);
/// The rivals that the demo runs, too; `replay --policy` runs any.
const DEMO_RIVALS: [Policy; 3] = [Policy::DeviceOnly, Policy::EdgeOnly, Policy::Neurosurgeon];
/// Tasks per plan: enough for figures within some per cent in the demo's two minutes.
const TASKS: usize = 400;
/// The link is measured for so long.
const LINK_TIME: Duration = Duration::from_secs(5);

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    emulation: EmulationArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    data: FrameArgs,
}

/// What every step found.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    envelope: Envelope,
    layers: LayersDocument,
    link: LinkDocument,
    exits: ExitsDocument,
    optimize: OptimizeDocument,
    replays: Vec<ReplayDocument>,
}

impl Args {
    /// The flags, the demo's own values where none is given.
    fn emulation(&self) -> EmulationArgs {
        EmulationArgs {
            slowdown: self.emulation.slowdown.or(Some(SLOWDOWN)),
            link_rate: self.emulation.link_rate.or(Some(LINK_RATE)),
            link_delay: self.emulation.link_delay.or(Some(LINK_DELAY)),
        }
    }
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime)?;
    let emulation = args.emulation().emulation();
    let described = emulation.describe().unwrap_or_default();
    output.say(format!("{} on this host as device and edge; {described}", model.graph.name));
    let show = |title: &str, view: &dyn Fn() -> String| {
        if output.is_json() { Ok(()) } else { output.text(&format!("\n── {title} ──\n{}", view())) }
    };

    let (layers, _) = layers::measure(&model, &device, output)?;
    show("layers, on this host", &|| layers_view(&layers))?;
    let route = Route::open(&PeerArgs { peer: None }, &args.runtime, &emulation, output)?;
    let link_only = crate::report::Emulation { slowdown: 1.0, ..emulation };
    let (link, _) = link::measure(&route, &device, link_only, LINK_TIME, output)?;
    show(&format!("link, {}", link_only.describe().unwrap_or_default()), &|| link_view(&link))?;
    let other = provenance::of_frames(&model, &args.data, output);
    let exits = exits::document(&model, &device, &model.exit_record()?)?;
    let exits = ExitsDocument { records_of_other_images: other, ..exits };
    show("exits, from the committed record of CIFAR-10", &|| exits_view(&exits))?;
    let evidence = Evidence::gather(&model, &device, None, output)?;
    let nodes = Nodes { model: &model, device: &device, route: &route, output };
    let problem = survey::measure_scenario(&nodes, &evidence, emulation, &Wishes::default(), 0)?;
    let problem = Problem { records_of_other_images: other, ..problem };
    let optimized = optimize::optimize(&problem, None, output)?;
    show(&format!("optimize, {described}"), &|| optimize_view(&optimized))?;

    let stage = Stage {
        model: &model,
        device: &device,
        edge: Some(&route),
        emulation,
        data: &args.data,
        records_of_other_images: other,
        tasks: TASKS,
        output,
    };
    let replays = replay_all(&stage, &optimized)?;
    let emulated = described.clone();
    let envelope = device.envelope("demo", Some(&model.graph), &emulation);
    let document = Document { envelope, layers, link, exits, optimize: optimized, replays };
    let path = save("demo", &document)?;
    output.result(&document, || {
        let replays: Vec<&ReplayDocument> = document.replays.iter().collect();
        format!(
            "\n── replay: what was predicted, and what happened ──\n{}\n{emulated}",
            replay_view(&replays)
        )
    })?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}

/// Our plan first, then each rival's.
fn replay_all(stage: &Stage<'_>, optimized: &OptimizeDocument) -> Result<Vec<ReplayDocument>> {
    let (best, accuracy_basis) = (&optimized.best, optimized.accuracy_basis);
    let mut jobs =
        vec![Job { name: "coprof", plan: &best.plan, predicted: &best.prediction, accuracy_basis }];
    let simple = |choice: &&PolicyChoice| DEMO_RIVALS.contains(&choice.name);
    jobs.extend(optimized.policies.iter().filter(simple).map(|choice| Job {
        name: choice.name.label(),
        plan: &choice.predicted.plan,
        predicted: &choice.predicted.prediction,
        accuracy_basis,
    }));
    jobs.iter().map(|job| stage.replay(job)).collect()
}
