//! The result of `coprof replay`.

use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::plans::{Measured, PlanRow, plan_table};
use coprof_core::plan::{AccuracyBasis, Interval95, Plan, Prediction};
use coprof_core::units::Micros;
use coprof_run::pipeline::Trace;

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

/// How the nodes' speeds have moved since they were profiled, and what that leaves of the error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Device and, where tasks crossed, edge.
    pub nodes: Vec<NodeDrift>,
    /// How many times as large as predicted the messages of made-up frames were; `null` of other frames.
    #[serde(default)]
    pub messages_larger: Option<f64>,
    /// The prediction with each node at the speed that it had meanwhile, and messages of the size that they had.
    pub predicted: Drifted,
    /// Measured against that.
    pub error: ErrorShares,
    /// Where the figures should lie then, with a probability of 95 %.
    pub interval95: Option<Drifted95>,
    /// Whether they do.
    pub inside95: Option<Inside95>,
}

/// One node's speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDrift {
    /// Its name.
    pub name: String,
    /// How many times as long as in its profile the whole model took.
    pub slower: f64,
}

/// A prediction's figures at other speeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// Tasks per second.
    pub rate_per_s: f64,
    /// Mean time of a task alone.
    pub latency_us: Micros,
}

/// A prediction's intervals at other speeds: as wide in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drifted95 {
    /// Of the rate.
    pub rate_per_s: [f64; 2],
    /// Of the latency.
    pub latency_us: [Micros; 2],
}

/// Whether what was measured lies in the prediction's 95 % intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside95 {
    /// The rate.
    pub rate: bool,
    /// The mean latency.
    pub latency: bool,
    /// The accuracy; `null` where it was not measured.
    pub accuracy: Option<bool>,
}

impl Inside95 {
    /// `None` without intervals.
    pub fn of(interval: Option<&Interval95>, measured: &Measured) -> Option<Self> {
        let interval = interval?;
        let [low, high] = interval.accuracy;
        Some(Self {
            rate: within(measured.rate_per_s, interval.rate_per_s),
            latency: within(measured.latency_us.mean.0, interval.latency_us.map(|us| us.0)),
            accuracy: measured.accuracy.map(|accuracy| within(accuracy.0, [low.0, high.0])),
        })
    }
}

fn within(figure: f64, [low, high]: [f64; 2]) -> bool {
    (low..=high).contains(&figure)
}

impl Drift {
    /// With the factors by which the nodes were slower and messages larger, and the figures predicted with these.
    pub fn new(
        predicted: &Prediction,
        measured: &Measured,
        slower: Vec<f64>,
        messages_larger: Option<f64>,
        rate_per_s: f64,
        latency_us: Micros,
    ) -> Self {
        let names = predicted.stages.iter().step_by(2).map(|stage| stage.name.clone());
        let moved = Prediction { rate_per_s, latency_us, ..predicted.clone() };
        let interval95 = predicted.interval95.as_ref().map(|interval| Drifted95 {
            rate_per_s: interval.rate_per_s.map(|rate| rate * (rate_per_s / predicted.rate_per_s)),
            latency_us: interval.latency_us.map(|us| us * (latency_us / predicted.latency_us)),
        });
        let inside95 = interval95.map(|interval| Inside95 {
            rate: within(measured.rate_per_s, interval.rate_per_s),
            latency: within(measured.latency_us.mean.0, interval.latency_us.map(|us| us.0)),
            accuracy: None,
        });
        Self {
            nodes: names.zip(slower).map(|(name, slower)| NodeDrift { name, slower }).collect(),
            messages_larger,
            predicted: Drifted { rate_per_s, latency_us },
            error: ErrorShares { accuracy_points: None, ..ErrorShares::of(&moved, measured) },
            interval95,
            inside95,
        }
    }
}

/// How many answers were the same as in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Tasks whose class and exit were the same, and whether their numbers were right.
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
    /// The same, without what the nodes' speeds have moved since they were profiled; `null` where their profiles do not tell.
    #[serde(default)]
    pub drift: Option<Drift>,
    /// Whether the figures lie in the prediction's intervals; `null` where it has none.
    #[serde(default)]
    pub inside95: Option<Inside95>,
    /// The measured rate over the bottleneck stage's own.
    pub efficiency: f64,
    /// Answers against those of the same plan in one process.
    pub agreement: Agreement,
    /// What accuracies are, predicted and measured.
    pub accuracy_basis: AccuracyBasis,
    /// Whether the model's records, from which the accuracy was predicted, are of other images than `frames`; `null` where there
    /// are none, or nobody knows.
    #[serde(default)]
    pub records_of_other_images: Option<bool>,
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
        let meaning = document.envelope.meaning_of_agreement();
        let name =
            if is_agreement { format!("agreement with the uncut model{meaning}") } else { "accuracy".into() };
        let unknown = match document.frames.as_str() {
            "made-up" => "the frames are made up",
            _ => "nobody told what is right of the inputs",
        };
        let other =
            if document.records_of_other_images == Some(true) { ", predicted on other images" } else { "" };
        let accuracy = error.accuracy_points.map_or_else(
            || format!("no {name}: {unknown}"),
            |points| format!("{name} {points:+.2} points{other}"),
        );
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
        text.extend(document.drift.as_ref().map(drift_line));
        text.extend(inside_line(document));
    }
    text
}

fn drift_line(drift: &Drift) -> String {
    let change = |factor: f64| format!("{:+.1} %", 100.0 * (factor - 1.0));
    let node = |node: &NodeDrift| format!("{} {}", node.name, change(node.slower));
    let nodes: Vec<String> = drift.nodes.iter().map(node).collect();
    let messages = drift.messages_larger.map(|larger| format!("; made-up messages {}", change(larger)));
    format!(
        "\n  the whole model against the profile: {}{}\n  with that taken out: rate {:+.1} %, latency {:+.1} %",
        nodes.join(", "),
        messages.unwrap_or_default(),
        100.0 * drift.error.rate,
        100.0 * drift.error.latency
    )
}

/// Which figures lie in their intervals, and how many tasks were disturbed.
fn inside_line(document: &ReplayDocument) -> Option<String> {
    let (interval, inside) = (document.predicted.interval95.as_ref()?, document.inside95?);
    let place = |inside: bool| if inside { "inside" } else { "outside" };
    let [low, high] = interval.rate_per_s;
    let [soon, late] = interval.latency_us;
    let disturbed = match document.measured.disturbed_tasks {
        0 => String::new(),
        1 => "; others had a node's core during one task".into(),
        tasks => format!("; others had a node's core during {tasks} tasks"),
    };
    Some(format!(
        "\n  95 % intervals: rate {low:.1} to {high:.1}/s ({}), latency {soon} to {late} ({}){disturbed}",
        place(inside.rate),
        place(inside.latency)
    ))
}

/// The rows of its CSV file, the header first.
pub fn replay_csv(trace: &Trace) -> Vec<Vec<String>> {
    let header = "seq,frame,exit,class,started_us,computed_us,encoded_us,sent_us,arrived_us,edge_started_us,\
                  edge_finished_us,finished_us,payload_bytes";
    let mut rows = vec![header.split(',').map(str::to_owned).collect()];
    let us = |time: Micros| format!("{:.1}", time.0);
    rows.extend(trace.tasks.iter().map(|task| {
        let crossed = task.crossed;
        let mut cells = vec![
            task.seq.to_string(),
            task.frame.to_string(),
            task.answer.exit.0.to_string(),
            task.answer.class.to_string(),
            us(task.started_us),
            us(task.computed_us),
        ];
        let times =
            crossed.map(|c| [c.encoded_us, c.sent_us, c.arrived_us, c.edge_started_us, c.edge_finished_us]);
        cells.extend(times.map_or_else(|| vec![String::new(); 5], |times| times.map(us).to_vec()));
        cells.push(us(task.finished_us));
        cells.push(crossed.map_or_else(String::new, |crossed| crossed.payload_bytes.to_string()));
        cells
    }));
    rows
}
