//! The table that `optimize`, `replay` and `demo` end with: a row for our plan and one for each baseline.

use comfy_table::{Cell, CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::table::new_table;
use coprof_core::plan::{Plan, Prediction, Stage, Threshold};
use coprof_core::units::{Micros, Share};

/// What a run showed of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Tasks per second with the pipeline full.
    pub rate_per_s: f64,
    /// Latencies of tasks that were alone in the pipeline.
    pub latency_us: Latency,
    /// Share answered right, or as the uncut model; `null` where that is not known.
    pub accuracy: Option<Share>,
    /// Device, link and edge: mean busy time per task.
    pub stages: Vec<Stage>,
    /// The stage that set the rate.
    pub bottleneck: String,
    /// Tasks during which others had a node's core: they count for the rate, but for no stage and no latency.
    #[serde(default)]
    pub disturbed_tasks: usize,
}

/// Latencies of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean: what the prediction is of.
    pub mean: Micros,
    /// Median.
    pub median: Micros,
    /// 90th percentile, `sorted[floor(0.9 n)]`.
    pub p90: Micros,
    /// 99th percentile, `sorted[floor(0.99 n)]`.
    pub p99: Micros,
    /// Whether there were the 662 runs that a 99th percentile needs.
    pub p99_settled: bool,
    /// How many.
    pub runs: usize,
}

/// One row: a plan, what it would do, and what it did.
#[derive(Clone, Debug)]
pub struct PlanRow<'a> {
    /// Whose plan it is.
    pub name: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// What it would do.
    pub predicted: &'a Prediction,
    /// What it did, once it has run.
    pub measured: Option<&'a Measured>,
}

/// The table of plans. Times in milliseconds; the bottleneck's is marked with `◀`. Accuracies may be agreement with the uncut
/// model.
pub fn plan_table(rows: &[PlanRow<'_>], is_agreement: bool) -> Table {
    let many = rows.iter().any(|row| row.predicted.stages.len() > 3);
    let stages = if many { ["nodes\nms", "links\nms", ""] } else { ["device\nms", "link\nms", "edge\nms"] };
    let header = [
        "plan",
        "cut, encoding",
        "exits",
        stages[0],
        stages[1],
        stages[2],
        "rate\n/s",
        "latency\nms",
        if is_agreement { "agreement\n%" } else { "accuracy\n%" },
    ];
    let mut table = new_table(header);
    for row in rows {
        let predicted = row.predicted;
        let measured = row.measured;
        let stage = |index: usize| {
            let cell = |stages: &[Stage], bottleneck: &str| {
                stages.get(index).map(|stage| {
                    let mark = if stage.name == bottleneck { " ◀" } else { "" };
                    format!("{}{mark}", millis(stage.time_us))
                })
            };
            let before = cell(&predicted.stages, &predicted.bottleneck).unwrap_or_default();
            beside(before, measured.and_then(|m| cell(&m.stages, &m.bottleneck)))
        };
        // Nodes lie at even places, links at odd ones.
        let list = |first: usize| {
            let cells: Vec<String> = (first..predicted.stages.len()).step_by(2).map(stage).collect();
            cells.join("\n")
        };
        let accuracy = |share: Share| format!("{:.2}", share.0 * 100.0);
        let text = [row.name.to_owned(), crossing(row.plan), exits(row.plan)].map(Cell::new);
        let figures = [
            if many { list(0) } else { stage(0) },
            if many { list(1) } else { stage(1) },
            if many { String::new() } else { stage(2) },
            beside(rate(predicted.rate_per_s), measured.map(|m| rate(m.rate_per_s))),
            beside(millis(predicted.latency_us), measured.map(|m| millis(m.latency_us.mean))),
            beside(accuracy(predicted.accuracy), measured.and_then(|m| m.accuracy).map(accuracy)),
        ];
        let figures = figures.map(|figure| Cell::new(figure).set_alignment(CellAlignment::Right));
        table.add_row(text.into_iter().chain(figures));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

/// Prediction above, measurement below.
fn beside(predicted: String, measured: Option<String>) -> String {
    measured.map_or(predicted.clone(), |measured| format!("{predicted}\n→ {measured}"))
}

fn millis(time: Micros) -> String {
    let ms = time.0 / 1e3;
    format!("{ms:.0$}", if ms < 10.0 { 2 } else { 1 })
}

fn rate(per_s: f64) -> String {
    format!("{per_s:.0$}", if per_s < 1000.0 { 1 } else { 0 })
}

/// Where a plan cuts and what crosses, in one or two lines; with more than two nodes a line per link.
pub fn crossing(plan: &Plan) -> String {
    let after = |tips: &[String]| if tips.is_empty() { "input".to_owned() } else { tips.join(" + ") };
    if plan.links.len() > 1 {
        let links = plan.links.iter().flatten().enumerate();
        let lines: Vec<String> = links
            .map(|(link, crossing)| {
                format!("{}: {}, {}", link + 1, after(&crossing.resume), crossing.encoding)
            })
            .collect();
        return if lines.is_empty() { "all on the first node".into() } else { lines.join("\n") };
    }
    let device = plan.nodes.first().map(|node| after(&node.cut)).unwrap_or_default();
    match plan.links.first().and_then(Option::as_ref) {
        None => "all on the device".into(),
        Some(link) if link.resume.is_empty() && device == "input" => {
            format!("all on the edge,\n{}", link.encoding)
        }
        Some(link) if after(&link.resume) == device => format!("after {device},\n{}", link.encoding),
        Some(link) => format!("after {device}, sends\n{} {}", after(&link.resume), link.encoding),
    }
}

/// The side exits that are on, a line each.
fn exits(plan: &Plan) -> String {
    let last = plan.exits.len().saturating_sub(1);
    let on = plan.exits.iter().enumerate().filter(|(index, exit)| {
        exit.threshold.is_on() && (*index < last || exit.threshold != Threshold::Always)
    });
    let lines: Vec<String> = on
        .map(|(_, exit)| {
            let node = match (exit.node, plan.nodes.len()) {
                (0, _) => String::new(),
                (_, 2) => " (edge)".into(),
                (node, _) => format!(" (node {})", node + 1),
            };
            format!("{} {}{node}", exit.name, exit.threshold)
        })
        .collect();
    if lines.is_empty() { "none".into() } else { lines.join("\n") }
}
