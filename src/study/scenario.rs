//! Puts what was measured together into a scenario.

use std::collections::HashMap;

use serde::Serialize;

use super::crossings::crossings;
use super::evidence::Evidence;
use super::link_terms::link_of;
use super::model::Model;
use super::null::Overheads;
use crate::report::{Emulation, Envelope, HostReport};
use coprof_core::codec::{Element, Encoding};
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::{Cut, ExitId, Graph, LayerId, Source};
use coprof_core::plan::{
    AccuracyBasis, Constraints, EncodedFrontier, ExitSite, Link, LossyOutcomes, ModelId, Node, Outcomes,
    Problem, SCHEMA, ScenarioFile, TrunkLayer, in_flight, threshold_steps,
};
use coprof_core::units::Micros;
use coprof_run::data::{EncodingRecord, EncodingRow, ExitEffect, ExitRecord, Split, cut_name};
use coprof_run::measure::{LinkProfile, Samples};
use coprof_run::pipeline::{CodecTimes, NodeProfile, frame_bytes, task_bytes};

/// A scenario as it is saved: beside what the planner reads stands what every document has.
#[derive(Serialize)]
pub struct ScenarioDocument<'a> {
    /// Its `schema` and `model` are those of the envelope, too.
    #[serde(flatten)]
    scenario: &'a Problem,
    coprof_version: &'a str,
    created: &'a str,
    host: &'a HostReport,
    host_id: &'a str,
    threads: usize,
    pinned_core: Option<usize>,
    emulated: Option<Emulation>,
}

impl<'a> ScenarioDocument<'a> {
    /// The scenario as it was measured under the circumstances that `envelope` tells.
    pub fn new(scenario: &'a Problem, envelope: &'a Envelope) -> Self {
        Self {
            scenario,
            coprof_version: &envelope.coprof_version,
            created: &envelope.created,
            host: &envelope.host,
            host_id: &envelope.host_id,
            threads: envelope.threads,
            pinned_core: envelope.pinned_core,
            emulated: envelope.emulated,
        }
    }
}

/// What is emulated in a scenario that says so only by its device and its link, as hand-made ones do.
pub fn emulation_of(scenario: &Problem) -> Emulation {
    let link = scenario.links.first().filter(|link| link.emulated);
    Emulation {
        slowdown: scenario.nodes.first().and_then(|device| device.emulated_slowdown).unwrap_or(1.0),
        link_bits_per_second: link.map(|link| link.bits_per_second),
        link_delay_us: link.map(|link| link.delay_us),
    }
}

/// Everything that was measured for a scenario.
pub struct Measured<'a> {
    pub model: &'a Model,
    pub evidence: &'a Evidence,
    pub device: &'a NodeProfile,
    pub edge: &'a NodeProfile,
    pub link: &'a LinkProfile,
    pub circumstances: &'a Circumstances,
    pub emulation: Emulation,
}

/// What was measured of both nodes together.
pub struct Circumstances {
    /// What the pipeline itself costs.
    pub overheads: Overheads,
    /// The cores that they compute on, where they are on one host.
    pub cores: Option<[String; 2]>,
}

impl Measured<'_> {
    /// The scenario under these constraints.
    pub fn scenario(&self, constraints: Constraints) -> Result<Problem> {
        let graph = &*self.model.graph;
        let exits = self.exits();
        let file = ScenarioFile {
            schema: SCHEMA.into(),
            model: ModelId { name: graph.name.clone(), sha256: graph.hash.clone() },
            input_bytes: Some(graph.shape(Source::Input).bytes()),
            layers: trunk_layers(graph),
            exits: exits.iter().map(|&exit| exit_site(graph, exit)).collect(),
            nodes: vec![
                self.node(0, &exits, self.device, self.emulation.slowdown)?,
                self.node(1, &exits, self.edge, 1.0)?,
            ],
            links: vec![self.link()],
            contention: 0.0,
            encodings: self.encoded_frontiers()?,
            outcomes: self.outcomes()?,
            uncut_outcomes: self.uncut_outcomes()?,
            lossy_outcomes: self.lossy_outcomes(),
            accuracy_basis: match self.evidence {
                Evidence::Records { .. } => AccuracyBasis::Samples,
                Evidence::Agreement(_) => AccuracyBasis::Agreement,
                Evidence::Nothing => AccuracyBasis::Relative,
            },
            all_cuts: crossings(graph, &[]).all_cuts,
            threshold_steps: threshold_steps(),
            in_flight: in_flight(),
            constraints,
        };
        Problem::of(file)
    }

    /// The exits that a plan may use: those of which an answer is known, and the final one.
    fn exits(&self) -> Vec<ExitId> {
        let graph = &*self.model.graph;
        match self.evidence {
            Evidence::Nothing => vec![graph.final_exit()],
            _ => (0..graph.exits.len()).map(ExitId).collect(),
        }
    }

    fn node(&self, index: usize, exits: &[ExitId], profile: &NodeProfile, slowdown: f64) -> Result<Node> {
        let Circumstances { overheads, cores } = self.circumstances;
        let node = node(["device", "edge"][index], &self.model.graph, exits, profile, slowdown)?;
        let overhead = [overheads.device_us, overheads.edge_us][index];
        Ok(Node {
            task_us: node.task_us + overhead,
            pause_us: overheads.pause_us[index],
            core: cores.as_ref().map(|cores| cores[index].clone()),
            ..node
        })
    }

    fn link(&self) -> Link {
        Link {
            emulated: self.emulation.shapes_link(),
            handover_us: self.circumstances.overheads.handover_us,
            ..link_of(self.link, self.model.graph.answer_numbers())
        }
    }

    fn encoded_frontiers(&self) -> Result<Vec<EncodedFrontier>> {
        let slowdown = self.emulation.slowdown;
        let key = |row: &CodecTimes| (cut_name(&row.cut), row.encoding);
        let on_edge: HashMap<_, &CodecTimes> = self.edge.codecs.iter().map(|row| (key(row), row)).collect();
        let rows = self.evidence.encodings().map_or(&[][..], |record| &record.rows);
        let recorded: HashMap<_, f64> =
            rows.iter().map(|row| ((row.cut.clone(), row.encoding), row.bytes_mean)).collect();
        let bytes = |row: &CodecTimes| {
            if row.encoding == Encoding::plain(Element::F32) {
                // The one size that depends on no input, and so needs no record.
                let cut = Cut::from_tip_names(&self.model.graph, &row.cut).ok()?;
                return Some(cut.frontier_bytes(&self.model.graph) as f64);
            }
            recorded.get(&key(row)).copied()
        };
        let mut frontiers = Vec::new();
        for row in &self.device.codecs {
            let (Some(bytes), Some(edge)) = (bytes(row), on_edge.get(&key(row))) else {
                return Err(Error::failed(format!(
                    "nothing is recorded of {} at cut [{}] of {}",
                    row.encoding,
                    row.cut.join(", "),
                    self.model.graph.name
                ))
                .with(Remedy::CompleteEncodingRecord));
            };
            // The link's overhead was fitted on measuring frames, so it holds their header already.
            let headers = (task_bytes(0) - frame_bytes(0)) as f64;
            frontiers.push(EncodedFrontier {
                cut: row.cut.clone(),
                encoding: row.encoding,
                bytes: bytes + headers,
                encode_us: vec![row.encode_us * slowdown, edge.encode_us],
                decode_us: vec![row.decode_us * slowdown, edge.decode_us],
                accuracy: None,
            });
        }
        Ok(frontiers)
    }

    /// What the exits answer uncut, on the samples that tell what they answer behind encodings.
    fn outcomes(&self) -> Result<Vec<Outcomes>> {
        match self.evidence {
            Evidence::Records { exits, encodings } => self.recorded_outcomes(exits, encodings.as_ref()),
            Evidence::Agreement(record) => {
                let of = |effect: &ExitEffect| Outcomes::new(&effect.right, effect.entropies());
                let outcomes: Option<Vec<_>> = record.uncut.iter().map(of).collect();
                outcomes.ok_or_else(|| {
                    Error::failed("the record of agreement is damaged; remove it from reports/")
                })
            }
            Evidence::Nothing => Ok(Vec::new()),
        }
    }

    fn recorded_outcomes(
        &self,
        exits: &ExitRecord,
        encodings: Option<&EncodingRecord>,
    ) -> Result<Vec<Outcomes>> {
        let graph = &*self.model.graph;
        if encodings.is_some_and(|encodings| exits.data != encodings.data) {
            return Err(Error::failed(format!(
                "the exit record and the encoding record of {} were made from different data",
                graph.name
            ))
            .with(Remedy::RemakeBothOnSameData));
        }
        let samples =
            encodings.map_or_else(|| exits.of_split(Split::Validation).count(), |record| record.samples);
        self.validation_outcomes(exits, samples)
    }

    /// What the exits answer uncut on all validation images, where the encoding record counts on fewer.
    fn uncut_outcomes(&self) -> Result<Vec<Outcomes>> {
        let Evidence::Records { exits, encodings: Some(encodings) } = self.evidence else {
            return Ok(Vec::new());
        };
        let all = exits.of_split(Split::Validation).count();
        if all > encodings.samples { self.validation_outcomes(exits, all) } else { Ok(Vec::new()) }
    }

    /// What the exits answer uncut on so many validation images.
    fn validation_outcomes(&self, exits: &ExitRecord, samples: usize) -> Result<Vec<Outcomes>> {
        let graph = &*self.model.graph;
        let wrong = || {
            Error::failed(format!(
                "the exit record of {} does not hold the {samples} validation samples of its encoding record",
                graph.name
            ))
            .with(Remedy::MakeBothRecords)
        };
        let mut outcomes = Vec::new();
        for exit in 0..graph.exits.len() {
            let (right, entropy) = exits.outcomes(Split::Validation, exit);
            let (Some(right), Some(entropy)) = (right.get(..samples), entropy.get(..samples)) else {
                return Err(wrong());
            };
            // Nobody asks the final exit how sure it is.
            let is_final = ExitId(exit) == graph.final_exit();
            let entropy = if is_final { vec![0.0; samples] } else { entropy.to_vec() };
            outcomes.push(Outcomes::new(right, entropy).ok_or_else(wrong)?);
        }
        Ok(outcomes)
    }

    /// What the exits answer behind every cut under every lossy element type that crosses there.
    fn lossy_outcomes(&self) -> Vec<LossyOutcomes> {
        let graph = &*self.model.graph;
        let tips: HashMap<String, &Vec<String>> =
            self.device.codecs.iter().map(|row| (cut_name(&row.cut), &row.cut)).collect();
        let outcomes = |row: &EncodingRow| {
            let of_exit = |exit: &coprof_core::model::Exit| {
                let effect = row.exits.iter().find(|effect| effect.exit == exit.name)?;
                Outcomes::new(&effect.right, effect.entropies())
            };
            let cut = (*tips.get(&row.cut)?).clone();
            let exits = graph.exits.iter().map(of_exit).collect();
            Some(LossyOutcomes { cut, element: row.encoding, exits, calibration: row.calibration.clone() })
        };
        let rows = self.evidence.encodings().into_iter().flat_map(|record| &record.rows);
        rows.filter(|row| !row.exits.is_empty()).filter_map(outcomes).collect()
    }
}

fn trunk_layers(graph: &Graph) -> Vec<TrunkLayer> {
    let layer = |id: LayerId| {
        let layer = graph.layer(id);
        TrunkLayer {
            name: layer.name.clone(),
            inputs: layer.inputs.iter().map(|&source| graph.tensor_name(source).to_owned()).collect(),
            output_bytes: graph.shape(Source::Layer(id)).bytes(),
            weight_bytes: weight_bytes(graph, id),
        }
    };
    graph.trunk().into_iter().map(layer).collect()
}

/// Weights are kept as 32-bit floats.
fn weight_bytes(graph: &Graph, id: LayerId) -> u64 {
    graph.layer(id).op.learned_values() as u64 * 4
}

fn exit_site(graph: &Graph, exit: ExitId) -> ExitSite {
    ExitSite {
        name: graph.exits[exit.0].name.clone(),
        after: Some(Cut::needed_by(graph, exit).tip_names(graph)),
        weight_bytes: graph.head(exit).into_iter().map(|id| weight_bytes(graph, id)).sum(),
        marginal: None,
    }
}

/// Whole models one after another over their mean, neighbours joined so that there are at most some hundred.
fn speeds(whole: &Samples) -> Vec<f64> {
    const MOST: usize = 200;
    let (mean, raw) = (whole.mean(), whole.raw());
    let of_chunk = |chunk: &[Micros]| {
        let sum: Micros = chunk.iter().copied().sum();
        sum / (mean * chunk.len() as f64)
    };
    raw.chunks(raw.len().div_ceil(MOST)).map(of_chunk).collect()
}

/// What the first layer and the input before it take longer after others than alone is charged to the second layer: who runs
/// that runs the first one after others.
fn first_alone(task: Micros, mut layers: Vec<Micros>, factor: f64) -> (Micros, Vec<Micros>) {
    let [first, second, ..] = &mut layers[..] else { return (task, layers) };
    *second += (task + *first) * (1.0 - factor);
    *first = *first * factor;
    (task * factor, layers)
}

fn node(name: &str, graph: &Graph, exits: &[ExitId], profile: &NodeProfile, slowdown: f64) -> Result<Node> {
    let layers =
        profile.layers.as_ref().ok_or_else(|| Error::failed(format!("the {name} was not profiled")))?;
    if layers.layers.len() != graph.layers.len() || layers.exits.len() != graph.exits.len() {
        return Err(Error::failed(format!("the {name}'s profile is of another model; measure again")));
    }
    let whole = profile.whole.as_ref().unwrap_or(&layers.whole);
    // A stage runs its layers in one go, as the whole model does, and the whole model was timed over as long as all codecs:
    // where the host's speed has moved meanwhile, that is the better level.
    let level = whole.mean() / layers.mean_sum(graph);
    let time = |samples: &Samples| -> Micros { samples.mean() * (level * slowdown) };
    let task_us =
        if name == "device" { layers.input.as_ref().map_or(Micros::ZERO, time) } else { Micros::ZERO };
    let layers_us: Vec<Micros> = graph.trunk().into_iter().map(|id| time(&layers.layers[id.0])).collect();
    let (task_us, layers_us) = first_alone(task_us, layers_us, layers.first_alone(graph));
    Ok(Node {
        name: name.into(),
        emulated_slowdown: (slowdown != 1.0).then_some(slowdown),
        layers_us,
        exits_us: exits.iter().map(|exit| time(&layers.exits[exit.0])).collect(),
        task_us,
        whole_us: Some(whole.mean()),
        unsettled: !layers.is_settled(graph) || profile.codec_disturbance.is_heavy(),
        speeds: speeds(whole),
        ..Node::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_the_first_layer_alone_is_not_charged_for_cold_caches() {
        let layers = vec![Micros(40.0), Micros(100.0), Micros(5.0)];
        let (task, found) = first_alone(Micros(20.0), layers, 0.5);
        assert_eq!((task, found), (Micros(10.0), vec![Micros(20.0), Micros(130.0), Micros(5.0)]));
        let single = vec![Micros(40.0)];
        assert_eq!(first_alone(Micros(20.0), single.clone(), 0.5), (Micros(20.0), single));
    }
}
