//! The result of `coprof replay`.

use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::plans::{Measured, PlanRow, plan_table};
use crate::pipeline::Trace;
use crate::plan::{AccuracyBasis, Plan, Prediction};

/// By how much the measurement lies off the prediction, as signed shares of the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorShares {
    /// Of the rate.
    pub rate: f64,
    /// Of the mean latency.
    pub latency: f64,
    /// Of the accuracy, in points of one hundredth; `null` where it was not measured.
    pub accuracy_points: Option<f64>,
}

impl ErrorShares {
    /// Measured against predicted.
    pub fn of(predicted: &Prediction, measured: &Measured) -> Self {
        Self {
            rate: measured.rate_per_s / predicted.rate_per_s - 1.0,
            latency: measured.latency_us.mean / predicted.latency_us - 1.0,
            accuracy_points: measured.accuracy.map(|accuracy| 100.0 * (accuracy.0 - predicted.accuracy.0)),
        }
    }
}

/// How many answers were the same as in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Tasks whose class and exit were the same.
    pub same: usize,
    /// All tasks of the run.
    pub tasks: usize,
}

/// The document of `coprof replay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The peer's address, `loopback`, or `none` when nothing crosses.
    pub peer: String,
    /// Whose plan it is.
    pub name: String,
    /// The plan.
    pub plan: Plan,
    /// What it would do.
    pub predicted: Prediction,
    /// What it did.
    pub measured: Measured,
    /// How far apart the two are.
    pub error: ErrorShares,
    /// The measured rate over the bottleneck stage's own.
    pub efficiency: f64,
    /// Answers against those of the same plan in one process.
    pub agreement: Agreement,
    /// What accuracies are, predicted and measured.
    pub accuracy_basis: AccuracyBasis,
    /// `cifar10-test`, `made-up`, or `inputs`: those that were given, whose right class nobody told.
    pub frames: String,
    /// The run with the pipeline full, task by task: rate and stages come from it.
    pub full: Trace,
    /// The run with one task at a time: latencies come from it.
    pub single: Trace,
}

impl ReplayDocument {
    /// Its row in the table of plans.
    pub fn row(&self) -> PlanRow<'_> {
        PlanRow {
            name: &self.name,
            plan: &self.plan,
            predicted: &self.predicted,
            measured: Some(&self.measured),
        }
    }
}

/// The table of one or several replays, and what each says of the prediction.
pub fn replay_view(documents: &[&ReplayDocument]) -> String {
    let rows: Vec<PlanRow<'_>> = documents.iter().map(|document| document.row()).collect();
    let mut text = format!(
        "{}\n\npredicted above, → measured below; ◀ marks the stage that sets the rate",
        plan_table(&rows, documents.iter().any(|document| document.accuracy_basis.is_agreement()))
    );
    for document in documents {
        let error = &document.error;
        let is_agreement = document.accuracy_basis.is_agreement();
        let name = if is_agreement { "agreement with the uncut model" } else { "accuracy" };
        let unknown = match document.frames.as_str() {
            "made-up" => "the frames are made up",
            _ => "nobody told what is right of the inputs",
        };
        let accuracy = error
            .accuracy_points
            .map_or_else(|| format!("no {name}: {unknown}"), |points| format!("{name} {points:+.2} points"));
        text.push_str(&format!(
            "\n{}: rate {:+.1} %, latency {:+.1} % off the prediction, {accuracy}\n  {:.1} % of the bottleneck's own \
             rate; {} of {} answers as in one process",
            document.name,
            100.0 * error.rate,
            100.0 * error.latency,
            100.0 * document.efficiency,
            document.agreement.same,
            document.agreement.tasks,
        ));
    }
    text
}
