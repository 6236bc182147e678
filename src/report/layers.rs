//! The result of `coprof layers`.

use comfy_table::{Cell, CellAlignment};
use serde::{Deserialize, Serialize};

use super::document::{Envelope, PeakFacts};
use super::table::{bar, new_table};
use coprof_core::model::{Graph, LayerId, Shape};
use coprof_core::units::{Micros, Share};
use coprof_run::measure::{Disturbance, Summary};

/// Times of one thing that was run again and again, with the raw samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// Every run.
    pub samples_us: Vec<Micros>,
}

/// A layer without its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// Its name.
    pub name: String,
    /// What it computes, with what is fused into it.
    pub op: String,
    /// The tensors that it reads.
    pub inputs: Vec<String>,
    /// Its output's shape, without the batch.
    pub output_shape: Shape,
    /// Its output as 32-bit floats.
    pub output_bytes: u64,
    /// Learned values.
    pub params: u64,
    /// Multiply-accumulate operations per sample.
    pub macs: u64,
    /// Whether only side exits need it.
    pub in_side_exit: bool,
}

impl LayerFacts {
    /// A layer of a graph.
    pub fn of(graph: &Graph, id: LayerId) -> Self {
        let layer = graph.layer(id);
        Self {
            name: layer.name.clone(),
            op: layer.op.label().into(),
            inputs: layer.inputs.iter().map(|&source| graph.tensor_name(source).to_owned()).collect(),
            output_shape: layer.output.clone(),
            output_bytes: layer.output.bytes(),
            params: layer.params,
            macs: layer.macs,
            in_side_exit: graph.trunk().binary_search(&id).is_err(),
        }
    }
}

/// A layer with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Its place in the graph.
    pub index: usize,
    /// What it is.
    #[serde(flatten)]
    pub layer: LayerFacts,
    /// Its speed over the host's peak: two operations per MAC.
    pub peak_share: Option<Share>,
    /// Its time.
    pub time_us: Timing,
}

/// An exit with the time of its head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitRow {
    /// Its name.
    pub name: String,
    /// The tips of what must have run before its head.
    pub after: Vec<String>,
    /// Its head's layers in one call, reading the logits, and the confidence.
    pub time_us: Timing,
}

/// The document of `coprof layers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayersDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Every layer.
    pub layers: Vec<LayerRow>,
    /// The layers that are faster than the host's peak, which is a bug.
    #[serde(default)]
    pub above_peak: Vec<String>,
    /// Every exit.
    pub exits: Vec<ExitRow>,
    /// The trunk in one call.
    pub whole_model_us: Timing,
    /// Bringing the input in.
    #[serde(default)]
    pub input_us: Option<Timing>,
    /// The same with the first layer, as on a node that runs nothing else.
    #[serde(default)]
    pub input_and_first_us: Option<Timing>,
    /// The sum of the trunk layers' medians.
    pub layer_sum_us: Micros,
    /// The sum over the whole: 1 when timing layers alone costs nothing.
    pub layer_sum_over_whole: f64,
    /// How many timings were taken, and set aside since others had the core meanwhile.
    #[serde(default)]
    pub disturbance: Disturbance,
    /// How often the layers were measured until they were settled, or given up.
    #[serde(default)]
    pub attempts: usize,
    /// Whether they can be relied on: their sum is within a tenth of the whole model, and most timings were undisturbed.
    #[serde(default)]
    pub settled: bool,
}

/// The table of `coprof layers`.
pub fn layers_view(document: &LayersDocument) -> String {
    let header =
        ["layer", "op", "output", "KiB", "params", "MMACs", "median", "p90", "of peak", "share of time"];
    let mut table = new_table(header);
    let total = document.layer_sum_us;
    for row in document.layers.iter().filter(|row| !row.layer.in_side_exit) {
        table.add_row(layer_cells(row, total));
    }
    let mut heads = new_table([
        "side exits",
        "op",
        "output",
        "KiB",
        "params",
        "MMACs",
        "median",
        "p90",
        "of peak",
        "of trunk",
    ]);
    for row in document.layers.iter().filter(|row| row.layer.in_side_exit) {
        heads.add_row(layer_cells(row, total));
    }
    for row in &document.exits {
        let mut cells =
            vec![Cell::new(&row.name), Cell::new(format!("head, after {}", row.after.join(" + ")))];
        cells.extend((0..4).map(|_| Cell::new("")));
        let time = &row.time_us.summary;
        let share = time.median / total;
        cells.extend([
            right(time.median.to_string()),
            right(p90(time)),
            Cell::new(""),
            Cell::new(bar(share, 10)),
        ]);
        heads.add_row(cells);
    }
    for table in [&mut table, &mut heads] {
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 1));
        });
    }
    format!("{table}\n\n{heads}\n\n{}", closing(document))
}

fn closing(document: &LayersDocument) -> String {
    let gflops = |figure: fn(&PeakFacts) -> f64| {
        let figure = document.envelope.host.peak.as_ref().map(figure);
        figure.map_or_else(|| "not measured".into(), |gflops| format!("{gflops:.1} GFLOP/s"))
    };
    let above = document.above_peak.join(", ");
    let above = if above.is_empty() { above } else { format!("; above it, which is a bug: {above}") };
    format!(
        "whole model {} (median of {}); sum of its layers {}: {:.3} × the whole\n\
         host peak {} (multiply-adds in registers); LINPACK solve {}; {} thread(s){above}",
        document.whole_model_us.summary.median,
        document.whole_model_us.summary.runs,
        document.layer_sum_us,
        document.layer_sum_over_whole,
        gflops(|peak| peak.peak_gflops),
        gflops(|peak| peak.solve_gflops),
        document.envelope.threads,
    )
}

fn layer_cells(row: &LayerRow, total: Micros) -> Vec<Cell> {
    let (layer, time) = (&row.layer, &row.time_us.summary);
    vec![
        Cell::new(&layer.name),
        Cell::new(&layer.op),
        Cell::new(layer.output_shape.to_string()),
        right(format!("{:.1}", layer.output_bytes as f64 / 1024.0)),
        right(count(layer.params)),
        right(format!("{:.2}", layer.macs as f64 / 1e6)),
        right(time.median.to_string()),
        right(p90(time)),
        right(row.peak_share.map_or_else(|| "–".into(), |share| format!("{:.0} %", share.0 * 100.0))),
        Cell::new(bar(time.median / total, 10)),
    ]
}

/// The 90th percentile, marked with `?` where there were too few runs for one.
fn p90(time: &Summary) -> String {
    format!("{}{}", time.p90, if time.p90_settled { "" } else { "?" })
}

fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..10_000_000 => format!("{:.0}k", n as f64 / 1e3),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The rows of its CSV file, the header first.
pub fn layers_csv(document: &LayersDocument) -> Vec<Vec<String>> {
    let header = "index,name,op,side_exit,output_shape,output_bytes,params,macs,median_us,p90_us,mean_us,stddev_us,runs";
    let mut rows = vec![header.split(',').map(str::to_owned).collect()];
    rows.extend(document.layers.iter().map(|row| {
        let (layer, time) = (&row.layer, &row.time_us.summary);
        let times = [time.median, time.p90, time.mean, time.stddev].map(|time| format!("{:.3}", time.0));
        let mut cells =
            vec![row.index.to_string(), layer.name.clone(), layer.op.clone(), layer.in_side_exit.to_string()];
        cells.extend([layer.output_shape.to_string(), layer.output_bytes.to_string()]);
        cells.extend([layer.params.to_string(), layer.macs.to_string()]);
        cells.extend(times);
        cells.push(time.runs.to_string());
        cells
    }));
    rows
}
