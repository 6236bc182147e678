//! What encodings do at each cut: payload sizes of all, and the answers behind the lossy ones, measured on real pictures.

use std::collections::{BTreeMap, BTreeSet};

use super::exits::label_of;
use super::watch::Watch;
use crate::codec::{Codec, Encoding, TensorSpec};
use crate::data::{EncodingRow, ExitEffect, Images, cut_name};
use crate::error::{Error, Result};
use crate::model::{Cut, ExitId, Graph, LayerId, Source, confidence};
use crate::runtime::Backend;

/// What lies behind a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The tensors that cross.
    pub frontier: Vec<Source>,
    /// The exits that can be tried on what crosses: those that need layers outside the cut, and those whose heads hang on
    /// the frontier itself.
    pub exits: Vec<ExitId>,
}

impl Behind {
    /// What lies behind `cut`. The frontier is empty behind the whole trunk.
    pub fn new(graph: &Graph, cut: &Cut) -> Self {
        let all = || (0..graph.exits.len()).map(ExitId);
        let outside: Vec<ExitId> = all().filter(|&exit| !cut.covers(&Cut::needed_by(graph, exit))).collect();
        let frontier = cut.frontier(graph, &outside);
        let hangs_on_it = |exit: ExitId| {
            let head = graph.head(exit);
            let is_own = |source: &Source| matches!(source, Source::Layer(id) if head.contains(id));
            let mut inputs =
                head.iter().flat_map(|&id| &graph.layer(id).inputs).filter(|source| !is_own(source));
            !head.is_empty() && inputs.all(|source| frontier.contains(source))
        };
        let exits = all().filter(|&exit| outside.contains(&exit) || hangs_on_it(exit)).collect();
        Self { frontier, exits }
    }

    /// The trunk outside `cut` and the heads of the exits, in topological order.
    fn layers(&self, graph: &Graph, cut: &Cut) -> Vec<LayerId> {
        let mut layers: BTreeSet<LayerId> = cut.rest(graph).into_iter().collect();
        layers.extend(self.exits.iter().flat_map(|&exit| graph.head(exit)));
        layers.into_iter().collect()
    }
}

/// Measures every encoding at every cut on all the pictures, which need labels. Encodings that may not carry a cut's frontier
/// and cuts without one are left out. For each lossy element type, the network behind the cut runs on what comes out of
/// the codec.
pub fn record_encodings(
    backend: &mut dyn Backend,
    images: &Images,
    cuts: &[Cut],
    encodings: &[Encoding],
    watch: &mut Watch<'_>,
) -> Result<Vec<EncodingRow>> {
    let graph = backend.graph().clone();
    let sites = cuts.iter().filter_map(|cut| Site::new(&graph, cut, encodings).transpose());
    let mut sites = sites.collect::<Result<Vec<_>>>()?;
    let wanted: BTreeSet<Source> =
        sites.iter().flat_map(|site| site.behind.frontier.iter().copied()).collect();
    let (trunk, mut pixels, mut exact) = (graph.trunk(), Vec::new(), BTreeMap::new());
    let count = sites.len() as f64;
    for index in 0..images.len() {
        let label = label_of(images, index)?;
        images.read_into(index, &mut pixels);
        backend.clear();
        backend.put(Source::Input, &pixels)?;
        backend.run(&trunk)?;
        for &source in &wanted {
            backend.get(source, exact.entry(source).or_default())?;
        }
        for (at, site) in sites.iter_mut().enumerate() {
            watch.step((index as f64 + at as f64 / count) / images.len() as f64)?;
            site.measure(backend, &exact, label)?;
        }
    }
    watch.step(1.0)?;
    sites.into_iter().flat_map(Site::into_rows).collect()
}

/// One cut under all its encodings.
struct Site {
    name: String,
    behind: Behind,
    layers: Vec<LayerId>,
    /// Names and logits of `behind.exits`.
    exits: Vec<(String, LayerId)>,
    trials: Vec<Trial>,
    decoded: Vec<Vec<f32>>,
    logits: Vec<f32>,
}

/// One encoding at one cut.
struct Trial {
    codec: Codec,
    payload: Vec<u8>,
    bytes: Vec<u64>,
    /// One per exit behind the cut; empty where the answers need no measuring.
    effects: Vec<ExitEffect>,
}

impl Site {
    fn new(graph: &Graph, cut: &Cut, encodings: &[Encoding]) -> Result<Option<Self>> {
        let behind = Behind::new(graph, cut);
        if behind.frontier.is_empty() {
            return Ok(None);
        }
        let specs = TensorSpec::of_frontier(graph, &behind.frontier)?;
        let exits: Vec<(String, LayerId)> = behind
            .exits
            .iter()
            .map(|&exit| (graph.exits[exit.0].name.clone(), graph.exits[exit.0].logits))
            .collect();
        let new_effect = |(name, _): &(String, LayerId)| ExitEffect {
            exit: name.clone(),
            right: Vec::new(),
            entropy: Vec::new(),
        };
        // The answers of a lossy element type stand in its row without a coder, so that row is always made.
        let lossy = encodings.iter().filter(|encoding| !encoding.is_lossless());
        let raw = lossy.map(|encoding| encoding.without_coder());
        let all: BTreeSet<Encoding> = encodings.iter().copied().chain(raw).collect();
        let fitting = all.into_iter().filter(|encoding| encoding.check_frontier(&behind.frontier).is_ok());
        let trial = |encoding: Encoding| {
            let effects = if encoding.is_lossless() || encoding != encoding.without_coder() {
                Vec::new()
            } else {
                exits.iter().map(new_effect).collect()
            };
            let codec = Codec::new(encoding, &specs, None)?;
            Ok(Trial { codec, payload: Vec::new(), bytes: Vec::new(), effects })
        };
        let trials = fitting.map(trial).collect::<Result<_>>()?;
        Ok(Some(Self {
            name: cut_name(&cut.tip_names(graph)),
            layers: behind.layers(graph, cut),
            trials,
            decoded: vec![Vec::new(); specs.len()],
            logits: Vec::new(),
            behind,
            exits,
        }))
    }

    fn measure(
        &mut self,
        backend: &mut dyn Backend,
        exact: &BTreeMap<Source, Vec<f32>>,
        label: u32,
    ) -> Result<()> {
        let frontier = &self.behind.frontier;
        let tensors: Vec<&[f32]> = frontier.iter().map(|source| exact[source].as_slice()).collect();
        for trial in &mut self.trials {
            trial.codec.encode(&tensors, &mut trial.payload)?;
            trial.bytes.push(trial.payload.len() as u64);
            if trial.effects.is_empty() {
                continue;
            }
            trial.codec.decode(&trial.payload, &mut self.decoded)?;
            backend.clear();
            for (source, values) in frontier.iter().zip(&self.decoded) {
                backend.put(*source, values)?;
            }
            backend.run(&self.layers)?;
            for (effect, (_, logits)) in trial.effects.iter_mut().zip(&self.exits) {
                backend.get(Source::Layer(*logits), &mut self.logits)?;
                let answer = confidence(&self.logits);
                effect.right.push(answer.class == label);
                effect.entropy.push((answer.entropy.0 * f64::from(u16::MAX)).round() as u16);
            }
        }
        Ok(())
    }

    fn into_rows(self) -> impl Iterator<Item = Result<EncodingRow>> {
        let cut = self.name;
        self.trials.into_iter().map(move |mut trial| {
            trial.bytes.sort_unstable();
            let n = trial.bytes.len();
            let p99 = trial.bytes.get((n as f64 * 0.99) as usize);
            let none = || Error::failed("encodings are measured on at least one picture, but there is none");
            Ok(EncodingRow {
                cut: cut.clone(),
                encoding: trial.codec.encoding(),
                bytes_mean: trial.bytes.iter().sum::<u64>() as f64 / n as f64,
                bytes_p99: *p99.ok_or_else(none)?,
                exits: trial.effects,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::model::samples::{chain, residual};
    use crate::runtime::FakeBackend;

    fn fake(graph: &Arc<Graph>) -> FakeBackend<ManualClock> {
        FakeBackend::new(graph.clone(), vec![Duration::ZERO; graph.layers.len()], ManualClock::default())
    }

    fn images(count: usize) -> Images {
        let pixels: Vec<u8> = (0..192 * count).map(|i| (i * i % 251) as u8).collect();
        Images::new(192, pixels, Some((0..count).map(|i| (i % 4) as u8).collect())).unwrap()
    }

    fn record(graph: &Arc<Graph>, names: &[&str]) -> Vec<EncodingRow> {
        let encodings: Vec<Encoding> = names.iter().map(|name| name.parse().unwrap()).collect();
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        record_encodings(&mut fake(graph), &images(5), &Cut::along_trunk(graph), &encodings, &mut watch)
            .unwrap()
    }

    #[test]
    fn exits_behind_a_cut_are_those_that_can_be_tried_there() {
        let graph = chain();
        let exits: Vec<usize> =
            Cut::along_trunk(&graph).iter().map(|cut| Behind::new(&graph, cut).exits.len()).collect();
        // exit1 hangs on pool1, the tip of the third cut; behind the whole trunk nothing is left.
        assert_eq!(exits, [2, 2, 2, 1, 1, 0]);
        assert!(Behind::new(&graph, &Cut::along_trunk(&graph)[5]).frontier.is_empty());
    }

    #[test]
    fn every_encoding_that_fits_gets_its_size() {
        let rows = record(&chain(), &["pixels", "f32", "q8", "q8+deflate", "q4+deflate"]);
        let of = |cut: &str| {
            rows.iter().filter(|row| row.cut == cut).map(|row| row.encoding.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("input"), ["pixels", "f32", "q4", "q4+deflate", "q8", "q8+deflate"]);
        assert_eq!(of("pool1"), ["f32", "q4", "q4+deflate", "q8", "q8+deflate"]);
        assert_eq!(of("fc").len(), 0);
        let f32_input = &rows[1];
        assert_eq!((f32_input.bytes_mean, f32_input.bytes_p99), (768.0, 768));
        assert!(rows.iter().all(|row| row.bytes_p99 as f64 >= row.bytes_mean));
    }

    #[test]
    fn only_lossy_elements_without_a_coder_have_answers() {
        for row in record(&chain(), &["f32", "f32+deflate", "f16", "q4", "q4+deflate"]) {
            let name = row.encoding.to_string();
            let expected = match (row.cut.as_str(), name.as_str()) {
                (_, "f32" | "f32+deflate" | "q4+deflate") => 0,
                ("conv2" | "pool2", _) => 1,
                _ => 2,
            };
            assert_eq!(row.exits.len(), expected, "{} {name}", row.cut);
            assert!(row.exits.iter().all(|effect| effect.right.len() == 5 && effect.entropy.len() == 5));
        }
    }

    #[test]
    fn answers_are_those_on_what_the_codec_gives_back() {
        // The fake backend's values are multiples of 1/16 under 16, which half precision keeps: nothing may change.
        let (graph, images) = (residual(), images(5));
        let rows = record(&graph, &["f16", "q2"]);
        let mut backend = fake(&graph);
        let mut logits = Vec::new();
        let mut exact = Vec::new();
        for i in 0..images.len() {
            backend.put(Source::Input, &images.floats(i)).unwrap();
            backend.run(&graph.trunk()).unwrap();
            backend.get(Source::Layer(LayerId(4)), &mut logits).unwrap();
            exact.push((confidence(&logits).entropy.0 * 65535.0).round() as u16);
        }
        let (kept, changed): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row.encoding.to_string() == "f16");
        assert_eq!((kept.len(), changed.len()), (5, 5));
        assert!(kept.iter().all(|row| row.exits[0].entropy == exact));
        assert!(changed.iter().all(|row| row.exits[0].entropy != exact));
    }
}
