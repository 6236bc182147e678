//! The plan of a file or of the last `optimize` runs end to end.

use std::path::{Path, PathBuf};

use super::Context;
use super::edge::{EdgeOptions, Endpoint};
use super::local_node::{LocalNode, NodeOptions};
use super::model::{Model, ModelOptions};
use super::provenance;
use super::testbed::{Job, Testbed};
use crate::report::{Emulation, OptimizeDocument, PlanDocument, ReplayDocument};
use crate::runtime;
use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_core::plan::{AccuracyBasis, Policy};

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// A bundled model or an ONNX file.
    pub model: ModelOptions,
    /// Which edge.
    pub edge: EdgeOptions,
    /// What is emulated.
    pub emulation: Emulation,
    /// How layers run on this machine.
    pub node: NodeOptions,
    /// Where the frames are; `None`: CIFAR-10 where it is found by itself, else made-up ones.
    pub data: Option<PathBuf>,
    /// The file of the plan; `None` for that of the newest `coprof optimize` for this model, host and emulation.
    pub plan: Option<PathBuf>,
    /// Of the newest `coprof optimize`, this baseline's plan instead of ours.
    pub policy: Option<Policy>,
    /// How many tasks run with the pipeline full.
    pub tasks: usize,
}

/// Runs the plan and saves what came of it; where.
pub fn run(options: &Options, context: &Context) -> Result<(ReplayDocument, PathBuf)> {
    runtime::check()?;
    let model = Model::open(&options.model, context)?;
    let device = LocalNode::as_device(&options.node)?;
    let plan = match &options.plan {
        Some(path) => read_plan(path)?,
        None => newest_plan(&model, &device, options.emulation, options.policy, context)?,
    };
    let crosses = plan.plan.links.iter().any(Option::is_some);
    let open = || Endpoint::open(&options.edge, &options.node, &options.emulation, context);
    let edge = crosses.then(open).transpose()?;
    let data = options.data.as_deref();
    // Predictions that come from elsewhere than from records are no matter of theirs.
    let from_records = plan.accuracy_basis == AccuracyBasis::Samples;
    let other = || provenance::of_frames(&model, data, context);
    let testbed = Testbed {
        model: &model,
        device: &device,
        edge: edge.as_ref(),
        emulation: options.emulation,
        data,
        records_of_other_images: from_records.then(other).flatten(),
        tasks: options.tasks,
        context,
    };
    let document = testbed.replay(&Job {
        name: options.policy.map_or("coprof", Policy::label),
        plan: &plan.plan,
        predicted: &plan.prediction,
        accuracy_basis: plan.accuracy_basis,
    })?;
    let path = context.save("replay", &document)?;
    Ok((document, path))
}

/// The plan documents that are read.
const PLAN_SCHEMA: &str = "coprof.plan/1";

/// The plan that a file holds.
fn read_plan(path: &Path) -> Result<PlanDocument> {
    let wrong = |what: String| {
        Error::failed(format!(
            "{}: {what}\n`coprof optimize` writes such files under reports/",
            path.display()
        ))
        .with(Remedy::GiveAnother(Given::Plan))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let plan: PlanDocument = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("not a plan of schema {PLAN_SCHEMA} ({error})")))?;
    if plan.envelope.schema != PLAN_SCHEMA {
        return Err(wrong(format!("schema {PLAN_SCHEMA} was expected, found '{}'", plan.envelope.schema)));
    }
    Ok(plan)
}

/// The plan of the newest `coprof optimize` for this model, host and emulation: ours, or that of `policy`.
fn newest_plan(
    model: &Model,
    device: &LocalNode,
    emulation: Emulation,
    policy: Option<Policy>,
    context: &Context,
) -> Result<PlanDocument> {
    let emulated = (emulation != Emulation::NONE).then_some(emulation);
    let of_this = |document: &OptimizeDocument| device.fits(&document.envelope, &model.graph);
    let fits = |document: &OptimizeDocument| of_this(document) && document.envelope.emulated == emulated;
    if let Some((path, document)) = context.store().newest("optimize", fits) {
        context.say(format!(
            "plan: from {} ({}, edge {})",
            path.display(),
            document.envelope.created,
            document.peer
        ));
        let predicted = match policy {
            None => document.best,
            Some(name) => document.choice(name).cloned().ok_or_else(|| {
                Error::failed(format!(
                    "policy '{name}' found no plan in {}; `coprof optimize` says why",
                    path.display()
                ))
            })?,
        };
        let (plan, prediction) = (predicted.plan, predicted.prediction);
        let OptimizeDocument { envelope, peer, accuracy_basis, .. } = document;
        return Ok(PlanDocument { envelope, peer, plan, prediction, accuracy_basis });
    }
    let hint = match context.store().newest("optimize", of_this) {
        Some((_, other)) => {
            let theirs = other.envelope.emulated.and_then(|emulation| emulation.describe());
            format!("the newest plan is for {}", theirs.unwrap_or_else(|| "a real device and link".into()))
        }
        None => "there is none under reports/".into(),
    };
    Err(Error::failed(format!(
        "no saved plan for {} on this host{}: {hint}",
        model.graph.name,
        emulation.describe().map_or_else(String::new, |emulated| format!(", {emulated}")),
    ))
    .with(Remedy::PlanOrNamePlan))
}
