//! The result of `coprof exits`.

use comfy_table::{Cell, CellAlignment};
use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::table::{bar, new_table};
use coprof_core::units::Share;
use coprof_run::measure::{Choice, SweepPoint};

/// Steps of the accuracy plot.
const PLOT_ROWS: usize = 12;

/// How often an exit alone is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitAccuracy {
    /// Its name.
    pub name: String,
    /// On the test split, were every sample to leave there.
    pub accuracy: Share,
    /// Wilson's 95 % interval.
    pub accuracy_ci95: [Share; 2],
    /// On the validation split.
    pub validation_accuracy: Share,
    /// Multiply-accumulate operations as far as this exit, its head included.
    pub macs: u64,
}

/// A threshold setting on the test split, with what it costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// Thresholds, accuracy, shares.
    #[serde(flatten)]
    pub point: SweepPoint,
    /// Multiply-accumulate operations per sample on average.
    pub macs: f64,
}

/// The document of `coprof exits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitsDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The fingerprint of the images.
    pub data_sha256: String,
    /// Whether the images at hand are others; `null` where there are none, or nobody knows.
    #[serde(default)]
    pub records_of_other_images: Option<bool>,
    /// Samples of the test split, on which `exits` and `sweep` are counted.
    pub samples: usize,
    /// Samples of the validation split, on which `chosen` was chosen.
    pub validation_samples: usize,
    /// Every exit alone.
    pub exits: Vec<ExitAccuracy>,
    /// Every threshold setting.
    pub sweep: Vec<SweepRow>,
    /// The least work within one point of the final exit's accuracy: chosen on validation, reported on test.
    pub chosen: Option<Choice>,
    /// What evaluating all settings took.
    pub sweep_time_us: coprof_core::units::Micros,
}

/// The tables of `coprof exits`.
pub fn exits_view(document: &ExitsDocument) -> String {
    let mut exits = new_table(["exit alone", "MMACs", "test accuracy", "95 % interval", "validation"]);
    for exit in &document.exits {
        let [low, high] = exit.accuracy_ci95;
        exits.add_row([
            exit.name.clone(),
            format!("{:.2}", exit.macs as f64 / 1e6),
            exit.accuracy.to_string(),
            format!("{:.2}–{:.2}", low.0 * 100.0, high.0 * 100.0),
            exit.validation_accuracy.to_string(),
        ]);
    }
    format!(
        "{exits}\n\n{}\n\n{}\n{} settings on {} test images in {}",
        plot(document),
        chosen(document),
        document.sweep.len(),
        document.samples,
        document.sweep_time_us
    )
}

fn chosen(document: &ExitsDocument) -> String {
    let Some(choice) = &document.chosen else {
        return "No setting stays within one point of the final exit's accuracy.".into();
    };
    let names = document.exits.iter().map(|exit| exit.name.as_str());
    let settings: Vec<String> = names
        .clone()
        .zip(&choice.test.thresholds)
        .map(|(name, threshold)| format!("{name} {threshold}"))
        .collect();
    let shares: Vec<String> = names
        .zip(&choice.test.exit_fractions)
        .map(|(name, share)| format!("{name} {:.1} %", share.0 * 100.0))
        .collect();
    let [low, high] = choice.test.accuracy_ci95;
    format!(
        "Chosen on {} validation images ({}), within one point of the final exit with the least work:\n  {}\n\
         on test: {} ({:.2}–{:.2}); leaving: {}",
        document.validation_samples,
        choice.validation.accuracy,
        settings.join(", "),
        choice.test.accuracy,
        low.0 * 100.0,
        high.0 * 100.0,
        shares.join(", ")
    )
}

/// The best accuracy against work: of all settings with at most so much work the most accurate one.
fn plot(document: &ExitsDocument) -> comfy_table::Table {
    let mut table =
        new_table(["work", "MMACs", "best test accuracy", "leaving at each exit", "entropy thresholds"]);
    let most = document.sweep.iter().map(|row| row.macs).fold(f64::MIN_POSITIVE, f64::max);
    let mut shown: Option<&SweepRow> = None;
    for step in 1..=PLOT_ROWS {
        let limit = most * step as f64 / PLOT_ROWS as f64;
        let within = document.sweep.iter().filter(|row| row.macs <= limit * (1.0 + 1e-9));
        let Some(row) = within.max_by(|a, b| a.point.accuracy.0.total_cmp(&b.point.accuracy.0)) else {
            continue;
        };
        if shown == Some(row) {
            continue;
        }
        shown = Some(row);
        let shares: Vec<String> =
            row.point.exit_fractions.iter().map(|share| format!("{:.0} %", share.0 * 100.0)).collect();
        let thresholds: Vec<String> = row.point.thresholds.iter().map(ToString::to_string).collect();
        table.add_row([
            Cell::new(bar(row.macs / most, 12)),
            Cell::new(format!("{:.1}", row.macs / 1e6)).set_alignment(CellAlignment::Right),
            Cell::new(row.point.accuracy.to_string()).set_alignment(CellAlignment::Right),
            Cell::new(shares.join(" / ")),
            Cell::new(thresholds[..thresholds.len().saturating_sub(1)].join(", ")),
        ]);
    }
    table
}

/// The rows of its CSV file, the header first.
pub fn exits_csv(document: &ExitsDocument) -> Vec<Vec<String>> {
    let names = || document.exits.iter().map(|exit| exit.name.clone());
    let mut header: Vec<String> = names().map(|name| format!("{name}_threshold")).collect();
    header.extend(["accuracy", "accuracy_ci95_low", "accuracy_ci95_high"].map(str::to_owned));
    header.extend(names().map(|name| format!("{name}_share")));
    header.push("macs".into());
    let mut rows = vec![header];
    rows.extend(document.sweep.iter().map(|SweepRow { point, macs }| {
        let mut cells: Vec<String> = point.thresholds.iter().map(ToString::to_string).collect();
        let figures = [point.accuracy, point.accuracy_ci95[0], point.accuracy_ci95[1]];
        cells.extend(figures.iter().chain(&point.exit_fractions).map(|share| format!("{:.4}", share.0)));
        cells.push(format!("{macs:.0}"));
        cells
    }));
    rows
}
