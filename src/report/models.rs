//! The results of `coprof models`.

use comfy_table::{Cell, CellAlignment};
use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::drawing::{exits_at, rails};
use super::layers::LayerFacts;
use super::table::new_table;
use coprof_core::model::{Cut, ExitId, Graph, ModelHash, Source};
use coprof_core::units::Share;

/// More cuts than these are not counted.
pub const MOST_CUTS: usize = 20_000;

/// An exit of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelExit {
    /// Its name.
    pub name: String,
    /// The tips of what must have run before its head.
    pub after: Vec<String>,
    /// Multiply-accumulate operations as far as this exit, its head included.
    pub macs: u64,
    /// How often it is right on the test split, all samples leaving there; absent without an exit record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<Share>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    /// Its name.
    pub name: String,
    /// The hash of its file.
    pub sha256: ModelHash,
    /// The size of its file.
    pub file_bytes: u64,
    /// Layers, those of side exits included.
    pub layer_count: usize,
    /// Learned values.
    pub params: u64,
    /// Its exits in order, the last one final.
    pub exits: Vec<ModelExit>,
    /// How many cuts its trunk has.
    pub cut_count: usize,
    /// Whether these are all; with more than 20,000 cuts only those along the topological order are counted.
    pub all_cuts: bool,
}

/// The document of `coprof models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelsDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The bundled models.
    pub models: Vec<ModelRow>,
}

/// A cut and what crosses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphCut {
    /// Its tips; empty: before the first layer.
    pub after: Vec<String>,
    /// The tensors that cross, each once.
    pub frontier: Vec<String>,
    /// Their size as 32-bit floats.
    pub bytes: u64,
}

/// The document of `coprof models show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The model's facts.
    pub facts: ModelRow,
    /// Every layer in topological order.
    pub layers: Vec<LayerFacts>,
    /// Every cut that a plan may cross.
    pub cuts: Vec<GraphCut>,
}

impl GraphCut {
    /// A cut of a graph.
    pub fn of(graph: &Graph, cut: &Cut) -> Self {
        let frontier = cut.frontier(graph, &[]);
        Self {
            after: cut.tip_names(graph),
            bytes: frontier.iter().map(|&source| graph.shape(source).bytes()).sum(),
            frontier: frontier.into_iter().map(|source| graph.tensor_name(source).to_owned()).collect(),
        }
    }
}

/// The tables of `coprof models`: the models, and their exits.
pub fn models_view(document: &ModelsDocument) -> String {
    let mut models = new_table(["model", "layers", "cuts", "params", "file", "sha256"]);
    let mut exits = new_table(["model", "exit", "after", "MMACs", "accuracy"]);
    for model in &document.models {
        models.add_row([
            Cell::new(&model.name),
            right(model.layer_count.to_string()),
            right(cuts(model)),
            right(format!("{:.2}M", model.params as f64 / 1e6)),
            right(format!("{:.1} MB", model.file_bytes as f64 / 1e6)),
            Cell::new(model.sha256.short()),
        ]);
        let mut name = model.name.as_str();
        for exit in &model.exits {
            exits.add_row([
                Cell::new(name),
                Cell::new(&exit.name),
                Cell::new(exit.after.join(" + ")),
                right(format!("{:.1}", exit.macs as f64 / 1e6)),
                right(exit.test_accuracy.map_or_else(|| "–".into(), |share| share.to_string())),
            ]);
            name = "";
        }
    }
    format!(
        "{models}\n{exits}\nAccuracy on CIFAR-10's test split were every sample to leave at that exit.\n`coprof models show NAME` draws one."
    )
}

/// The drawing of `coprof models show`.
pub fn model_view(graph: &Graph, document: &ModelDocument) -> String {
    let crossing = |cut: &Cut| {
        let cut = GraphCut::of(graph, cut);
        let tensors = if cut.frontier.len() > 1 {
            format!(" in {} tensors", cut.frontier.len())
        } else {
            String::new()
        };
        format!("{:.1} KiB{tensors}", cut.bytes as f64 / 1024.0)
    };
    let (rails, along) = (rails(graph), Cut::along_trunk(graph));
    let mut after = along.iter();
    let mut next_cut =
        || after.next().filter(|cut| cut.len() + 1 < along.len()).map_or_else(String::new, crossing);
    let mut rows = vec![[
        rails[0].clone(),
        "input".into(),
        String::new(),
        graph.shape(Source::Input).to_string(),
        next_cut(),
        String::new(),
    ]];
    for (id, rail) in graph.layer_ids().zip(&rails[1..]) {
        let layer = LayerFacts::of(graph, id);
        let crossing = if layer.in_side_exit { String::new() } else { next_cut() };
        let shape = layer.output_shape.to_string();
        rows.push([rail.clone(), layer.name, layer.op, shape, crossing, exits_at(graph, id)]);
    }
    let header = ["", "layer", "op", "output", "a cut here sends", "exit"].map(str::to_owned);
    let facts = &document.facts;
    format!(
        "{}\n\n{} layers, {} cuts; sizes are those of 32-bit floats, behind all layers above.",
        aligned(&header, &rows),
        facts.layer_count,
        cuts(facts)
    )
}

fn cuts(model: &ModelRow) -> String {
    format!("{}{}", model.cut_count, if model.all_cuts { "" } else { "+" })
}

/// Columns side by side without lines between the rows, which would cut the rails.
fn aligned<const N: usize>(header: &[String; N], rows: &[[String; N]]) -> String {
    let all = || std::iter::once(header).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect::<Vec<_>>().join("\n")
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The facts of one exit.
pub fn model_exit(graph: &Graph, exit: ExitId, test_accuracy: Option<Share>) -> ModelExit {
    ModelExit {
        name: graph.exits[exit.0].name.clone(),
        after: Cut::needed_by(graph, exit).tip_names(graph),
        macs: graph.macs_to(exit),
        test_accuracy,
    }
}
