//! `coprof models`: the bundled models, and any model as a drawing with its cuts.

use clap::{Args as ClapArgs, Subcommand};

use super::args::ReadingArgs;
use super::output::Output;
use crate::report::{
    Emulation, GraphCut, LayerFacts, ModelDocument, ModelsDocument, model_view, models_view,
};
use crate::study::{LocalNode, Model, ModelOptions, NodeOptions, bundled_names, facts};
use coprof_core::error::Result;

pub const EXAMPLE: &str = "Examples:
  coprof models                    # what is bundled
  coprof models show alexnet       # its graph, and what a cut would send
  coprof models show mine.onnx --json | jq '.cuts[] | {after, bytes}'";

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    show: Option<Show>,
}

#[derive(Subcommand)]
enum Show {
    /// Draw a model's graph and say where it can be cut
    #[command(after_help = "Example:\n  coprof models show alexnet")]
    Show {
        /// A bundled model or an ONNX file
        #[arg(value_name = "NAME|FILE.onnx")]
        model: String,
        #[command(flatten)]
        reading: ReadingArgs,
    },
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let device = LocalNode::as_device(&NodeOptions::default())?;
    match &args.show {
        None => list(&device, output),
        Some(Show::Show { model, reading }) => {
            show(&Model::open(&reading.of(model), &output.context())?, &device, output)
        }
    }
}

fn list(device: &LocalNode, output: Output) -> Result<()> {
    let row = |name| Ok(facts(&Model::load(&ModelOptions::named(name))?).0);
    let models = bundled_names().map(row).collect::<Result<_>>()?;
    let document = ModelsDocument { envelope: device.envelope("models", None, &Emulation::NONE), models };
    output.result(&document, || models_view(&document))
}

fn show(model: &Model, device: &LocalNode, output: Output) -> Result<()> {
    let graph = &*model.graph;
    let (facts, cuts) = facts(model);
    let whole = graph.trunk().len();
    let cuts = cuts.iter().filter(|cut| cut.len() < whole);
    let document = ModelDocument {
        envelope: device.envelope("model", Some(graph), &Emulation::NONE),
        facts,
        layers: graph.layer_ids().map(|id| LayerFacts::of(graph, id)).collect(),
        cuts: cuts.map(|cut| GraphCut::of(graph, cut)).collect(),
    };
    output.result(&document, || model_view(graph, &document))
}
