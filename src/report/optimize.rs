//! The result of `coprof optimize`, and the plan that it saves.

use comfy_table::{Cell, CellAlignment};
use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::plans::{PlanRow, crossing, plan_table};
use super::table::{bar, new_table};
use coprof_core::plan::{
    AccuracyBasis, Constraints, FrontPlan, Guarantee, Objective, Plan, Policy, Predicted, Prediction,
    Stability, UnderLoad, Within,
};
use coprof_core::units::{Micros, Share};

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
    /// What its accuracy is.
    #[serde(default)]
    pub accuracy_basis: AccuracyBasis,
}

/// A baseline's choice.
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
    /// Configurations weighed; the greatest number that there is where they are more.
    pub configurations: u64,
    /// How long it took to find the best plan and the runner-up.
    pub time_us: Micros,
    /// The interval or latency, whichever is the objective, of the very best plan, with which `best` ties.
    #[serde(default)]
    pub very_best_us: Option<Micros>,
    /// Whether the search for the runner-up came to its end.
    #[serde(default = "always")]
    pub knows_runner_up: bool,
    /// By which share of the best plan's interval, latency or accuracy, whichever is the objective, another plan may be better;
    /// 0 unless time was short.
    #[serde(default)]
    pub gap: Share,
    /// How long the Pareto front took.
    #[serde(default)]
    pub front_time_us: Micros,
    /// How many of each exit's thresholds the front was looked for among, where all are too many.
    #[serde(default)]
    pub front_thresholds: Option<usize>,
    /// How long it took to find where the best plan stays the best; 0 where that was not looked for.
    #[serde(default)]
    pub ranges_time_us: Micros,
    /// How many cuts can be crossed.
    pub cuts: usize,
    /// Whether these are all cuts that the graph has.
    pub all_cuts: bool,
}

/// Documents of earlier versions come from searches that were never cut short.
fn always() -> bool {
    true
}

/// Plans under arrivals, by simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Where a ceiling of the 99th percentile was asked for: how many leaders of the exact search were simulated for it.
    pub decided_among: Option<usize>,
    /// Ours first, then the baselines'.
    pub plans: Vec<LoadedPlan>,
}

/// One plan under arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedPlan {
    /// Whose plan it is.
    pub name: String,
    /// What the simulation found.
    #[serde(flatten)]
    pub load: UnderLoad,
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
    /// What is certain of the best plan's accuracy; `null` where no confidence was asked for.
    #[serde(default)]
    pub guarantee: Option<Guarantee>,
    /// The uncut model's accuracy on all samples.
    pub uncut_accuracy: Share,
    /// Nodes whose times did not settle when they were measured: plans rest on doubtful figures.
    #[serde(default)]
    pub unsettled: Vec<String>,
    /// How many validation samples accuracies are counts of.
    pub samples: usize,
    /// Where more are known uncut than behind encodings: how many, `samples` being the fewer.
    #[serde(default)]
    pub uncut_samples: Option<usize>,
    /// The best plan.
    pub best: Predicted,
    /// The best plan that cuts, resumes or encodes otherwise.
    pub runner_up: Option<Predicted>,
    /// Baselines on the same scenario.
    pub policies: Vec<PolicyChoice>,
    /// No plan is better in one of rate, latency and accuracy without being worse in another.
    pub pareto: Vec<FrontPlan>,
    /// How the search went.
    pub search: SearchFacts,
    /// Where accuracies come from.
    pub accuracy_basis: AccuracyBasis,
    /// Whether the records that accuracies come from are of other images than those at hand; `null` where they come from
    /// elsewhere, where there are no images, or where nobody knows.
    #[serde(default)]
    pub records_of_other_images: Option<bool>,
    /// Where the best plan stays the best; `null` where a simulation decided otherwise than the search.
    pub stability: Option<Stability>,
    /// Plans under arrivals, where the constraints name some.
    pub arrivals: Option<Arrivals>,
}

impl OptimizeDocument {
    /// A baseline's choice, if it has one.
    pub fn choice(&self, name: Policy) -> Option<&Predicted> {
        self.policies.iter().find(|choice| choice.name == name).map(|choice| &choice.predicted)
    }
}

/// The tables of `coprof optimize`: the front, why, and our plan beside the baselines.
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
    let load = document
        .arrivals
        .as_ref()
        .map_or_else(String::new, |arrivals| format!("\n\n{}", load_view(arrivals)));
    format!(
        "{}\n\n{}{load}\n\n{}\n\n◀ marks the stage that sets the rate.\n{}",
        front_table(document),
        why(document),
        plan_table(&rows, document.accuracy_basis.is_agreement()),
        accuracy_note(document)
    )
}

fn accuracy_note(document: &OptimizeDocument) -> String {
    let (floor, uncut) = (document.accuracy_floor, document.uncut_accuracy);
    match document.accuracy_basis {
        AccuracyBasis::Samples => {
            let samples = match document.uncut_samples {
                Some(all) => format!("{all} validation samples, of encodings {}", document.samples),
                None => format!("{} validation samples", document.samples),
            };
            format!("Accuracy: {samples}; floor {floor}, uncut model {uncut}.")
        }
        AccuracyBasis::Agreement => format!(
            "Agreement: with the uncut model's answers{}, on {} inputs; floor {floor}. What is right, nobody told.",
            document.envelope.meaning_of_agreement(),
            document.samples
        ),
        AccuracyBasis::Marginals => format!(
            "Accuracy: from tables without samples, which is weaker; floor {floor}, uncut model {uncut}."
        ),
        AccuracyBasis::Relative => "Accuracy: unknown; the uncut model counts as always right.".into(),
    }
}

/// Where the plan stays the best.
fn stays_best(stability: &Stability) -> String {
    fn within<T: Copy>(range: &Within<T>, text: impl Fn(T) -> String) -> String {
        match (range.from, range.to) {
            (Some(from), Some(to)) => format!("between {} and {}", text(from), text(to)),
            (Some(from), None) => format!("from {} up", text(from)),
            (None, Some(to)) => format!("up to {}", text(to)),
            (None, None) => "whatever it is".into(),
        }
    }
    let links = &stability.links_bits_per_second;
    let rates = links.iter().enumerate().map(|(link, range)| {
        let number = if links.len() > 1 { format!(" {}", link + 1) } else { String::new() };
        format!("  rate of link{number}: {}\n", within(range, |rate| rate.to_string()))
    });
    let slowdown = within(&stability.device_slowdown, |factor| format!("{factor:.2}×"));
    format!(
        "It stays the best, one of these being varied at a time:\n{}  slowdown of the device: {slowdown}",
        rates.collect::<String>()
    )
}

/// Queues under arrivals.
fn load_view(arrivals: &Arrivals) -> String {
    let Some(first) = arrivals.plans.first() else { return String::new() };
    let title = format!("under {}", first.load.arrival);
    let mut table =
        new_table([&title, "rate /s", "latency p50", "p90", "p99", "waiting, most", "sustains /s"]);
    for plan in &arrivals.plans {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let simulated = &plan.load.simulated;
        let latency = simulated.latency_us.map_or_else(
            || ["grows".to_owned(), "without".into(), "end".into()],
            |latency| [latency.median, latency.p90, latency.p99].map(|time| time.to_string()),
        );
        let busiest = simulated.stages.iter().max_by_key(|stage| stage.max_waiting);
        let waiting =
            busiest.map_or_else(String::new, |stage| format!("{} ({})", stage.max_waiting, stage.name));
        let mut row = vec![Cell::new(&plan.name), right(format!("{:.1}", simulated.rate_per_s))];
        row.extend(latency.map(right));
        row.extend([right(waiting), right(format!("{:.1}", plan.load.sustained_rate_per_s))]);
        table.add_row(row);
    }
    let decided = arrivals.decided_among.map_or_else(String::new, |leaders| {
        format!("\nThe exact search ranked the plans; simulating {leaders} of its leaders decided for the 99th percentile.")
    });
    format!("{table}\nBy simulation of the validation samples.{decided}")
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
    let next = document.runner_up.as_ref().map_or_else(
        || match document.guarantee {
            Some(_) => "No plan with another cut or encoding was certified.".to_owned(),
            None if !document.search.knows_runner_up => {
                "Time was short: the next-best cut or encoding is not known.".to_owned()
            }
            None => "No other cut or encoding meets the constraints.".to_owned(),
        },
        |next| {
            let loss = 1.0 - next.prediction.rate_per_s / prediction.rate_per_s;
            format!(
                "The next-best cut or encoding, {}:\n  {:.1}/s ({:+.1} %), latency {}, {} {}.",
                crossing(&next.plan).replace('\n', " "),
                next.prediction.rate_per_s,
                -100.0 * loss,
                next.prediction.latency_us,
                share_name(document),
                next.prediction.accuracy
            )
        },
    );
    let range = document
        .stability
        .as_ref()
        .map_or_else(String::new, |stability| format!("{}\n", stays_best(stability)));
    let known = notes(document);
    format!(
        "{table}\n{known}{next}\n{range}{}{}",
        tied(document),
        searched(&document.search, document.stability.is_some())
    )
}

/// What the choice among ties cost.
fn tied(document: &OptimizeDocument) -> String {
    let prediction = &document.best.prediction;
    let (chosen, broken_by) = match document.constraints.objective {
        Objective::Latency => (prediction.latency_us, "rate"),
        _ => (prediction.interval_us, "latency"),
    };
    let is_simulated = document.arrivals.as_ref().is_some_and(|arrivals| arrivals.decided_among.is_some());
    let is_chosen_otherwise = document.guarantee.is_some() || is_simulated || document.search.gap.0 > 0.0;
    let very_best = document.search.very_best_us.filter(|_| !is_chosen_otherwise);
    let Some(very_best) = very_best else { return String::new() };
    if chosen.0 <= very_best.0 * (1.0 + 1e-9) {
        return String::new();
    }
    let figure = match document.constraints.objective {
        Objective::Latency => very_best.to_string(),
        _ => format!("{:.1}/s", very_best.rate_per_s()),
    };
    format!("Of plans that tie with the very best ({figure}; --ties) it has the best {broken_by}.\n")
}

/// How the search went.
fn searched(search: &SearchFacts, has_ranges: bool) -> String {
    let SearchFacts { configurations, cuts, time_us, gap, front_time_us, ranges_time_us, .. } = search;
    let configurations = match *configurations {
        u64::MAX => "over 10^19".to_owned(),
        count => count.to_string(),
    };
    let how = if gap.0 == 0.0 { "exactly" } else { "in part" };
    let mut text = format!("Searched {configurations} configurations over {cuts} cuts {how} in {time_us}");
    text += &match ranges_time_us.0 {
        0.0 => format!("\n(the Pareto front in {front_time_us})."),
        _ => format!("\n(the Pareto front in {front_time_us}, the ranges in {ranges_time_us})."),
    };
    if gap.0 > 0.0 {
        text += &format!("\nTime was short: the plan found is within {gap} of the best that there can be.");
    }
    if ranges_time_us.0 > 0.0 && !has_ranges {
        text += "\nWhere it stays the best would have taken longer: more --search-time, or --no-ranges.";
    }
    if let Some(thresholds) = search.front_thresholds {
        text += &format!("\nThe front holds plans with {thresholds} thresholds of each exit, evenly spread.");
    }
    if !search.all_cuts {
        text += "\nThe graph has more cuts than were listed: the best of those listed was found.";
    }
    text
}

/// How well the figures are known, and what they rest on.
fn notes(document: &OptimizeDocument) -> String {
    let prediction = &document.best.prediction;
    let mut notes = String::new();
    if let Some(interval) = &prediction.interval95 {
        let ([low, high], [soon, late]) = (interval.rate_per_s, interval.latency_us);
        let [least, most] = interval.accuracy;
        notes.push_str(&format!(
            "With 95 % probability the rate is {low:.1} to {high:.1}/s, the latency {soon} to {late}, the {} {least} to {most}.\n",
            share_name(document)
        ));
    }
    if let Some(known) = &document.guarantee {
        notes.push_str(&format!(
            "Guaranteed with {} confidence: an {} of at least {}.\n",
            known.confidence,
            share_name(document),
            known.accuracy
        ));
        notes.push_str(&format!(
            "Chosen on {} samples, certified on {} others ({} right); plans tested in turn: {}.\n",
            known.chosen_on, known.certified_on, known.right, known.tested
        ));
    }
    if prediction.one_core {
        notes.push_str(
            "The nodes have one core between them: they take turns, and the rate is that of both together.\n",
        );
    }
    if !document.unsettled.is_empty() {
        notes.push_str(&format!(
            "Doubtful: the times of {} did not settle when they were measured.\n",
            document.unsettled.join(" and ")
        ));
    }
    notes
}

/// What accuracies are called.
fn share_name(document: &OptimizeDocument) -> &'static str {
    if document.accuracy_basis.is_agreement() { "agreement" } else { "accuracy" }
}

fn front_table(document: &OptimizeDocument) -> comfy_table::Table {
    let front = &document.pareto;
    let shown = front.len().min(FRONT_ROWS);
    let title = format!("Pareto front, {shown} of {}", front.len());
    let mut table = new_table([title.as_str(), "rate /s", "latency", share_name(document), ""]);
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

/// The rows of its CSV file, the header first.
pub fn optimize_csv(document: &OptimizeDocument) -> Vec<Vec<String>> {
    let mut rows = vec![["rate_per_s", "latency_us", "accuracy", "cut", "exits"].map(str::to_owned).to_vec()];
    rows.extend(document.pareto.iter().map(|point| {
        let on = point.plan.exits.iter().filter(|exit| exit.threshold.is_on());
        let exits: Vec<String> =
            on.map(|exit| format!("{} {} node {}", exit.name, exit.threshold, exit.node)).collect();
        vec![
            format!("{:.3}", point.rate_per_s),
            format!("{:.1}", point.latency_us.0),
            format!("{:.4}", point.accuracy.0),
            crossing(&point.plan).replace('\n', " "),
            exits.join("; "),
        ]
    }));
    rows
}
