//! The frames that a replay sends: inputs that were given, CIFAR-10 test images where they are, else made-up pictures.

use std::path::Path;

use super::Context;
use super::agreement;
use super::local_node::LocalNode;
use super::model::Model;
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::{ExitId, Graph, Shape};
use coprof_core::plan::{ExitPlan, Plan, Prediction};
use coprof_run::data::{Images, Split, is_cifar10, load_inputs, locate, made_up_frames, mixed};
use coprof_run::pipeline::FrameSource;

/// The seed of the made-up pictures.
const SEED: u64 = 7;

/// More tasks start again at the first …
const MADE_UP_FRAMES: usize = 10_000;
/// … and fewer where they are large.
const MADE_UP_BYTES: usize = 64 << 20;

/// CIFAR-10's pictures.
const CIFAR_SHAPE: [usize; 3] = [3, 32, 32];

/// Frames for a replay.
pub struct Frames {
    images: Images,
    kind: Kind,
    forced: Option<Vec<ExitId>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cifar10Test,
    /// Without labels.
    Inputs,
    MadeUp,
}

impl Frames {
    /// At most `count` frames: the inputs in `data`; or the first test images; or where there are none,
    /// made-up pictures.
    pub fn load(data: Option<&Path>, model: &Model, count: usize, context: &Context) -> Result<Self> {
        let shape = &model.graph.input.0;
        if let Some(place) = data.filter(|place| !is_cifar10(place)) {
            let mut images = load_inputs(place, &model.graph.inputs)?;
            images.truncate(count);
            return Ok(Self { images, kind: Kind::Inputs, forced: None });
        }
        if let Some(mut images) = test_images(data, &model.graph)? {
            images.truncate(count);
            return Ok(Self { images, kind: Kind::Cifar10Test, forced: None });
        }
        let made_up = format!("no CIFAR-10 for {}: made-up frames, so no accuracy", model.graph.name);
        context.advise(made_up, Remedy::FetchOrNameCifar10);
        let most = (MADE_UP_BYTES / model.graph.input.elements().max(1)).clamp(1, MADE_UP_FRAMES);
        let images = made_up_frames(shape, count.min(most), SEED);
        Ok(Self { images, kind: Kind::MadeUp, forced: None })
    }

    /// Whether the answers mean something.
    pub fn are_real(&self) -> bool {
        self.kind != Kind::MadeUp
    }

    /// Whether it is known what each frame is to be answered with.
    pub fn tell_what_is_right(&self) -> bool {
        self.images.tell_what_is_right()
    }

    /// From now on the uncut model's answers are the right ones, unless the frames are made up.
    pub fn label_as_uncut(&mut self, model: &Model, device: &LocalNode, context: &Context) -> Result<()> {
        if self.are_real() {
            self.images = agreement::labelled(self.images.clone(), model, device, context)?;
        }
        Ok(())
    }

    /// How documents name them.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Cifar10Test => "cifar10-test",
            Kind::Inputs => "inputs",
            Kind::MadeUp => "made-up",
        }
    }

    /// The right class of a frame.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.images.label(index)
    }

    /// Made-up frames are to leave at each exit as often as predicted, if `plan` has any side exit on: nothing else says where
    /// they would.
    pub fn force_exits(&mut self, graph: &Graph, plan: &Plan, predicted: &Prediction) -> Result<()> {
        let is_side = |exit: &&ExitPlan| {
            exit.threshold.is_on() && graph.find_exit(&exit.name) != Some(graph.final_exit())
        };
        if self.are_real() || !plan.exits.iter().any(|exit| is_side(&exit)) {
            return Ok(());
        }
        let exits: Option<Vec<ExitId>> = plan.exits.iter().map(|exit| graph.find_exit(&exit.name)).collect();
        let shares = &predicted.exit_shares;
        let Some(exits) = exits.filter(|exits| exits.len() == shares.len()) else {
            return Err(Error::failed(
                "the plan's prediction does not tell how often tasks leave at each of its exits; make it anew with `coprof optimize`",
            ));
        };
        let kinds = mixed(shares, self.len(), SEED);
        self.forced = Some(kinds.into_iter().map(|kind| exits[kind]).collect());
        Ok(())
    }
}

/// Whether a model takes CIFAR-10's pictures.
pub fn takes_cifar10(graph: &Graph) -> bool {
    graph.input == Shape(CIFAR_SHAPE.to_vec())
}

fn test_images(data: Option<&Path>, graph: &Graph) -> Result<Option<Images>> {
    if !takes_cifar10(graph) {
        return Ok(None);
    }
    locate(data)?.map(|found| found.load(Split::Test)).transpose()
}

impl FrameSource for Frames {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn pixels(&self, index: usize, into: &mut Vec<f32>) {
        self.images.read_into(index, into);
    }

    fn forced_exit(&self, index: usize) -> Option<ExitId> {
        self.forced.as_ref().map(|forced| forced[index])
    }

    fn is_right(&self, index: usize, numbers: &[f32]) -> Option<bool> {
        self.images.is_right(index, numbers)
    }
}

/// A few pictures to measure times on: made up, since times hardly depend on what is in them and everyone has these.
pub fn timing_inputs(graph: &Graph) -> Vec<Vec<f32>> {
    let images = made_up_frames(&graph.input.0, 8, SEED);
    (0..images.len()).map(|index| images.floats(index)).collect()
}

/// The same as frames of a run that is only to be timed.
pub struct TimingFrames(Vec<Vec<f32>>);

impl TimingFrames {
    /// For this network.
    pub fn of(graph: &Graph) -> Self {
        Self(timing_inputs(graph))
    }
}

impl FrameSource for TimingFrames {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn pixels(&self, index: usize, into: &mut Vec<f32>) {
        into.clone_from(&self.0[index]);
    }

    fn forced_exit(&self, _: usize) -> Option<ExitId> {
        None
    }
}
