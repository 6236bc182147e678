//! What there is to say of a model before it has run.

use super::model::Model;
use crate::report::{MOST_CUTS, ModelRow, model_exit};
use coprof_core::model::{Cut, ExitId};
use coprof_run::data::Split;
use coprof_run::measure::SweepTable;

/// What there is to say of a model, and its cuts, that behind the whole trunk included. A model without an exit record has no
/// accuracies.
pub fn facts(model: &Model) -> (ModelRow, Vec<Cut>) {
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
