//! The result of `coprof optimize`, and the plan that it saves.

use comfy_table::{Cell, CellAlignment};
use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::plans::{PlanRow, crossing, plan_table};
use super::table::{bar, new_table};
use crate::plan::{Constraints, FrontPlan, Plan, Policy, Predicted, Prediction};
use crate::units::{Micros, Share};

/// Rows that the table of the Pareto front shows at most; the document and the CSV file hold all.
const FRONT_ROWS: usize = 8;

/// A plan with its prediction and the circumstances that it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The peer that was measured.
    pub peer: String,
    /// The plan.
    pub plan: Plan,
    /// What it would do.
    pub prediction: Prediction,
}

/// A rival's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyChoice {
    /// Its name.
    pub name: Policy,
    /// Its plan and what that would do.
    #[serde(flatten)]
    pub predicted: Predicted,
}

/// How the search went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchFacts {
    /// Configurations weighed.
    pub configurations: u64,
    /// How long it took.
    pub time_us: Micros,
}

/// The document of `coprof optimize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizeDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The peer that was measured, `loopback`, or `scenario` when all came from a file.
    pub peer: String,
    /// The file that the search read or that was written for it.
    pub scenario: String,
    /// What was asked for.
    pub constraints: Constraints,
    /// The accuracy floor in force.
    pub accuracy_floor: Share,
    /// The uncut model's accuracy on the same samples.
    pub uncut_accuracy: Share,
    /// How many validation samples accuracies are counts of.
    pub samples: usize,
    /// The best plan.
    pub best: Predicted,
    /// The best plan that cuts, resumes or encodes otherwise.
    pub runner_up: Option<Predicted>,
    /// Rivals on the same scenario.
    pub policies: Vec<PolicyChoice>,
    /// No plan is better in one of rate, latency and accuracy without being worse in another.
    pub pareto: Vec<FrontPlan>,
    /// How the search went.
    pub search: SearchFacts,
}

/// The tables of `coprof optimize`: the front, why, and our plan beside its rivals.
pub fn optimize_view(document: &OptimizeDocument) -> String {
    let best = &document.best;
    let mut rows =
        vec![PlanRow { name: "coprof", plan: &best.plan, predicted: &best.prediction, measured: None }];
    rows.extend(document.policies.iter().map(|choice| PlanRow {
        name: choice.name.label(),
        plan: &choice.predicted.plan,
        predicted: &choice.predicted.prediction,
        measured: None,
    }));
    format!(
        "{}\n\n{}\n\n{}\n\n◀ marks the stage that sets the rate. Accuracy: {} validation images; floor {}, uncut model {}.",
        front_table(&document.pareto),
        why(document),
        plan_table(&rows),
        document.samples,
        document.accuracy_floor,
        document.uncut_accuracy
    )
}

fn why(document: &OptimizeDocument) -> String {
    let prediction = &document.best.prediction;
    let mut table = new_table(["stage", "tasks", "mean time", "the slowest sets the rate"]);
    for stage in &prediction.stages {
        let share = stage.time_us / prediction.interval_us;
        table.add_row([
            stage.name.clone(),
            format!("{:.1} %", stage.share.0 * 100.0),
            stage.time_us.to_string(),
            bar(share, 40),
        ]);
    }
    let search = document.search;
    let next = document.runner_up.as_ref().map_or_else(
        || "No other cut or encoding meets the constraints.".to_owned(),
        |next| {
            let loss = 1.0 - next.prediction.rate_per_s / prediction.rate_per_s;
            format!(
                "The next-best cut or encoding, {}:\n  {:.1}/s ({:+.1} %), latency {}, accuracy {}.",
                crossing(&next.plan).replace('\n', " "),
                next.prediction.rate_per_s,
                -100.0 * loss,
                next.prediction.latency_us,
                next.prediction.accuracy
            )
        },
    );
    format!(
        "{table}\n{next}\nSearched {} configurations exactly in {}.",
        search.configurations, search.time_us
    )
}

fn front_table(front: &[FrontPlan]) -> comfy_table::Table {
    let shown = front.len().min(FRONT_ROWS);
    let title = format!("Pareto front, {shown} of {}", front.len());
    let mut table = new_table([title.as_str(), "rate /s", "latency", "accuracy", ""]);
    for index in 0..shown {
        // Evenly along the front, both ends included.
        let point = &front[index * (front.len() - 1) / (shown - 1).max(1)];
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(crossing(&point.plan).replace('\n', " ")),
            right(format!("{:.1}", point.rate_per_s)),
            right(point.latency_us.to_string()),
            right(point.accuracy.to_string()),
            Cell::new(bar(point.accuracy.0, 20)),
        ]);
    }
    table
}
