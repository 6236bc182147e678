//! `coprof models`: the bundled models, and any model as a drawing with its cuts.

use clap::{Args as ClapArgs, Subcommand};

use super::args::RuntimeArgs;
use super::device::Device;
use super::model::{Model, bundled_names};
use super::output::Output;
use crate::data::Split;
use crate::error::Result;
use crate::measure::SweepTable;
use crate::model::{Cut, ExitId};
use crate::report::{
    Emulation, GraphCut, LayerFacts, MOST_CUTS, ModelDocument, ModelRow, ModelsDocument, model_exit,
    model_view, models_view,
};

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
    },
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let device = Device::new(&RuntimeArgs::default())?;
    match &args.show {
        None => list(&device, output),
        Some(Show::Show { model }) => show(&Model::load(model)?, &device, output),
    }
}

fn list(device: &Device, output: Output) -> Result<()> {
    let row = |name| Ok(facts(&Model::load(name)?).0);
    let models = bundled_names().map(row).collect::<Result<_>>()?;
    let document = ModelsDocument { envelope: device.envelope("models", None, &Emulation::NONE), models };
    output.result(&document, || models_view(&document))
}

fn show(model: &Model, device: &Device, output: Output) -> Result<()> {
    let graph = &*model.graph;
    let (facts, cuts) = facts(model);
    let whole = graph.trunk().len();
    let cuts = cuts.iter().filter(|cut| cut.layers().len() < whole);
    let document = ModelDocument {
        envelope: device.envelope("model", Some(graph), &Emulation::NONE),
        facts,
        layers: graph.layer_ids().map(|id| LayerFacts::of(graph, id)).collect(),
        cuts: cuts.map(|cut| GraphCut::of(graph, cut)).collect(),
    };
    output.result(&document, || model_view(graph, &document))
}

/// What there is to say of a model, and its cuts, that behind the whole trunk included. A model without an exit record has no
/// accuracies.
fn facts(model: &Model) -> (ModelRow, Vec<Cut>) {
    let graph = &*model.graph;
    let test = model.exit_record().ok().map(|record| SweepTable::new(&record, Split::Test));
    let accuracy =
        |exit| test.as_ref().filter(|test| test.samples() > 0).map(|test| test.accuracy_of(exit).0);
    let (cuts, all_cuts) = Cut::all(graph, MOST_CUTS);
    let exits = (0..graph.exits.len()).map(ExitId);
    let row = ModelRow {
        name: graph.name.clone(),
        sha256: graph.hash.clone(),
        file_bytes: model.file.len() as u64,
        layer_count: graph.layers.len(),
        params: graph.layers.iter().map(|layer| layer.params).sum(),
        exits: exits.map(|exit| model_exit(graph, exit, accuracy(exit))).collect(),
        // Behind the whole trunk nothing crosses.
        cut_count: cuts.len() - 1,
        all_cuts,
    };
    (row, cuts)
}
