//! The frames that a replay sends: CIFAR-10 test images where they are, else made-up pictures.

use super::args::DataArgs;
use super::model::Model;
use super::output::Output;
use crate::data::{ExitRecord, Images, Split, locate, made_up_frames};
use crate::error::Result;
use crate::model::{ExitId, Graph, Shape};
use crate::pipeline::FrameSource;
use crate::plan::{Plan, Threshold};

/// The seed of the made-up pictures.
const SEED: u64 = 7;

/// As many as CIFAR-10's test split, to which the records match them by index; more tasks start again at the first …
const MADE_UP_FRAMES: usize = 10_000;
/// … and fewer where they are large.
const MADE_UP_BYTES: usize = 64 << 20;

/// CIFAR-10's pictures.
const CIFAR_SHAPE: [usize; 3] = [3, 32, 32];

/// Frames for a replay.
pub struct Frames {
    images: Images,
    forced: Option<Vec<ExitId>>,
}

impl Frames {
    /// At most `count` frames: the first test images, or where there are none made-up pictures, of which each leaves at
    /// the exit at which the recorded test image of its index would leave under the plan.
    pub fn load(data: &DataArgs, model: &Model, count: usize, output: Output) -> Result<Self> {
        let mut images = match test_images(data, &model.graph)? {
            Some(images) => images,
            None => {
                output.say(format!(
                    "no CIFAR-10 for {}: made-up frames, so no accuracy (`coprof fetch cifar10`, or --data)",
                    model.graph.name
                ));
                let most = (MADE_UP_BYTES / model.graph.input.elements().max(1)).clamp(1, MADE_UP_FRAMES);
                made_up_frames(&model.graph.input.0, count.min(most), SEED)
            }
        };
        images.truncate(count);
        Ok(Self { images, forced: None })
    }

    /// Whether these are real images with known labels.
    pub fn are_real(&self) -> bool {
        self.len() > 0 && self.images.label(0).is_some()
    }

    /// `cifar10-test` or `made-up`: how documents name them.
    pub fn name(&self) -> &'static str {
        if self.are_real() { "cifar10-test" } else { "made-up" }
    }

    /// The right class of a frame.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.images.label(index).map(u32::from)
    }

    /// For made-up frames: each is to leave where the recorded test sample of its index would leave under `plan`.
    pub fn force_exits(&mut self, record: &ExitRecord, plan: &Plan) {
        if self.are_real() {
            return;
        }
        let samples: Vec<_> = record.of_split(Split::Test).collect();
        let leaves = |sample: &crate::data::ExitSample| {
            let mut exits = plan.exits.iter().zip(&sample.exits).enumerate();
            let first = exits.find(|(_, (exit, answer))| exit.threshold.passes(answer.entropy));
            ExitId(first.map_or(plan.exits.len() - 1, |(index, _)| index))
        };
        let always = plan.exits.iter().position(|exit| exit.threshold == Threshold::Always).unwrap_or(0);
        let forced = |index: usize| match samples.len() {
            0 => ExitId(always),
            n => leaves(samples[index % n]),
        };
        self.forced = Some((0..self.len()).map(forced).collect());
    }
}

fn test_images(data: &DataArgs, graph: &Graph) -> Result<Option<Images>> {
    if graph.input != Shape(CIFAR_SHAPE.to_vec()) {
        return Ok(None);
    }
    locate(data.data.as_deref())?.map(|found| found.load(Split::Test)).transpose()
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
}

/// A few pictures to measure times on: made up, since times hardly depend on what is in them and everyone has these.
pub fn timing_inputs(graph: &Graph) -> Vec<Vec<f32>> {
    let images = made_up_frames(&graph.input.0, 8, SEED);
    (0..images.len()).map(|index| images.floats(index)).collect()
}
