//! `coprof demo`: all of it on one machine.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::args::{EmulationArgs, FrameArgs, ModelArgs, RuntimeArgs};
use super::output::Output;
use crate::report::{
    Emulation, Envelope, ExitsDocument, LayersDocument, LinkDocument, OptimizeDocument, PolicyChoice,
    ReplayDocument, exits_view, layers_view, link_view, optimize_view, replay_view,
};
use crate::runtime;
use crate::study::replay::{Job, Stage};
use crate::study::{
    Case, Criteria, Device, Evidence, Model, Nodes, Route, exits, layers, link, measure_scenario, optimize,
    provenance,
};
use coprof_core::error::Result;
use coprof_core::plan::Policy;
use coprof_core::units::BitRate;

pub const EXAMPLE: &str = "Examples:
  coprof demo                                     # an 8 times slower device on a 2 Mbit/s, 5 ms link
  coprof demo --slowdown 4 --link-rate 20mbit     # another board, another link";

/// A device so much slower than this host …
const SLOWDOWN: f64 = 8.0;
/// … on a link like those that Edgent (MECOMM 2018) measured: 0.05 to 1.5 Mbit/s …
const LINK_RATE: BitRate = BitRate(2e6);
/// … with this delay.
const LINK_DELAY: Duration = Duration::from_millis(5);
/// The baselines that the demo runs, too; `replay --policy` runs any.
const DEMO_BASELINES: [Policy; 3] = [Policy::DeviceOnly, Policy::EdgeOnly, Policy::Neurosurgeon];
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
    let context = &output.context();
    runtime::check()?;
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime.options())?;
    let emulation = args.emulation().emulation();
    let described = emulation.describe().unwrap_or_default();
    output.say(format!("{} on this host as device and edge; {described}", model.graph.name));
    let show = |title: &str, view: &dyn Fn() -> String| {
        if output.is_json() { Ok(()) } else { output.text(&format!("\n── {title} ──\n{}", view())) }
    };

    let (layers, _) = layers::measure(&model, &device, context)?;
    show("layers, on this host", &|| layers_view(&layers))?;
    let route = Route::open(None, &args.runtime.options(), &emulation, context)?;
    let link_only = Emulation { slowdown: 1.0, ..emulation };
    let (link, _) = link::measure(&route, &device, link_only, LINK_TIME, context)?;
    show(&format!("link, {}", link_only.describe().unwrap_or_default()), &|| link_view(&link))?;
    let data = args.data.data.as_deref();
    let other = provenance::of_frames(&model, data, context);
    let exits = exits::sweep_record(&model, &device, &model.exit_record()?)?;
    let exits = ExitsDocument { records_of_other_images: other, ..exits };
    show("exits, from the committed record of CIFAR-10", &|| exits_view(&exits))?;
    let evidence = Evidence::gather(&model, &device, None, context)?;
    let nodes = Nodes { model: &model, device: &device, route: &route, context };
    let case = measure_scenario(&nodes, &evidence, emulation, &Criteria::default(), 0)?;
    let case = Case { records_of_other_images: other, ..case };
    let optimized = optimize::optimize(&case, None, context)?;
    show(&format!("optimize, {described}"), &|| optimize_view(&optimized))?;

    let stage = Stage {
        model: &model,
        device: &device,
        edge: Some(&route),
        emulation,
        data,
        records_of_other_images: other,
        tasks: TASKS,
        context,
    };
    let replays = replay_all(&stage, &optimized)?;
    let emulated = described.clone();
    let envelope = device.envelope("demo", Some(&model.graph), &emulation);
    let document = Document { envelope, layers, link, exits, optimize: optimized, replays };
    let path = context.save("demo", &document)?;
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

/// Our plan first, then each baseline's.
fn replay_all(stage: &Stage<'_>, optimized: &OptimizeDocument) -> Result<Vec<ReplayDocument>> {
    let (best, accuracy_basis) = (&optimized.best, optimized.accuracy_basis);
    let mut jobs =
        vec![Job { name: "coprof", plan: &best.plan, predicted: &best.prediction, accuracy_basis }];
    let simple = |choice: &&PolicyChoice| DEMO_BASELINES.contains(&choice.name);
    jobs.extend(optimized.policies.iter().filter(simple).map(|choice| Job {
        name: choice.name.label(),
        plan: &choice.predicted.plan,
        predicted: &choice.predicted.prediction,
        accuracy_basis,
    }));
    jobs.iter().map(|job| stage.replay(job)).collect()
}
