//! What flows through the pipeline: its stages, and the kinds of tasks with their service times.

use crate::error::{Error, Result};
use crate::units::Micros;

/// More samples than any validation split has; bounds the length of a run.
const MAX_SAMPLES: usize = 1_000_000;

/// Longer than any task takes: eleven days. Sums over a run stay finite.
const MAX_TIME: Micros = Micros(1e12);

/// Samples that take the same time at every stage: under one plan, those that leave at the same exit.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// How many samples are of this kind.
    pub samples: usize,
    /// Service time at each stage that they visit, from the first on; a sample that leaves early visits a prefix.
    pub service_us: Vec<Micros>,
    /// What adds to their latency and occupies no stage: propagation on the links that they cross, and the reply.
    pub delay_us: Micros,
}

impl Class {
    /// The latency of a task that never waits.
    pub(super) fn alone(&self) -> Micros {
        self.service_us.iter().copied().sum::<Micros>() + self.delay_us
    }
}

/// All samples of a validation split under one plan. Times are sane, and there is at least one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    stages: Vec<String>,
    classes: Vec<Class>,
    samples: usize,
}

impl Workload {
    /// Checks and keeps the pipeline's stages, in order, and the classes of its samples.
    pub fn new(stages: Vec<String>, classes: Vec<Class>) -> Result<Self> {
        let counts = classes.iter().map(|class| class.samples);
        let samples = counts.fold(0, usize::saturating_add);
        if samples == 0 || samples > MAX_SAMPLES {
            return Err(Error::failed(format!(
                "a simulation takes 1 to {MAX_SAMPLES} samples, found {samples}"
            )));
        }
        for class in &classes {
            check(class, &stages)?;
        }
        Ok(Self { stages, classes, samples })
    }

    /// Names of the stages in order.
    pub fn stages(&self) -> &[String] {
        &self.stages
    }

    /// The kinds of samples.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// How many samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Mean service time of a stage over all samples, those included that never reach it.
    pub fn mean_service(&self, stage: usize) -> Micros {
        let total =
            |class: &Class| class.service_us.get(stage).copied().unwrap_or_default() * class.samples as f64;
        self.classes.iter().map(total).sum::<Micros>() * (1.0 / self.samples as f64)
    }
}

fn check(class: &Class, stages: &[String]) -> Result<()> {
    let visits = class.service_us.len();
    if visits == 0 || visits > stages.len() {
        return Err(Error::failed(format!(
            "a task visits 1 to {} stages of this pipeline, found one with {visits} service times",
            stages.len()
        )));
    }
    let insane = |time: &&Micros| !(Micros::ZERO..=MAX_TIME).contains(*time);
    match class.service_us.iter().chain([&class.delay_us]).find(insane) {
        Some(Micros(wrong)) => Err(Error::failed(format!(
            "a service time or delay of 0 to {:.0e} µs was expected, found {wrong}; measure it again",
            MAX_TIME.0
        ))),
        None => Ok(()),
    }
}
