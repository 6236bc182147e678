//! What encodings do at each cut: payload sizes of all, and the answers behind the lossy ones, measured on real pictures.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::behind::{Behind, Exact};
use super::exits::is_right;
use super::watch::Watch;
use crate::backend::Backend;
use crate::data::{EncodingRow, ExitEffect, Images, cut_name};
use coprof_core::codec::{Calibration, Codec, Encoding, TensorSpec};
use coprof_core::error::{Error, Result};
use coprof_core::model::{Cut, ExitId, Graph, LayerId, Source, confidence};

/// What exits answered for some samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Answers {
    right: Vec<bool>,
    /// Normalised entropies in steps of 1/65535; empty for the final exit, at which no sample is asked whether it leaves.
    entropy: Vec<u16>,
}

impl Answers {
    fn add(&mut self, logits: &[f32], right: bool, is_final: bool) {
        self.right.push(right);
        if !is_final {
            self.entropy.push((confidence(logits).entropy.0 * f64::from(u16::MAX)).round() as u16);
        }
    }

    fn fit(&self, exit: &TriedExit, samples: usize) -> bool {
        let entropies = if exit.is_final { 0 } else { samples };
        (self.right.len(), self.entropy.len()) == (samples, entropies)
    }
}

/// One encoding at one cut over some samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tried {
    bytes: Vec<u32>,
    /// One per exit behind the cut; empty where the answers need no measuring.
    answers: Vec<Answers>,
}

/// What a [`Ladder`] measured on some samples. Parts of neighbouring samples make up the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LadderPart {
    uncut: Vec<Answers>,
    /// In the order of the ladder's sites and their trials.
    tried: Vec<Tried>,
}

/// Every encoding at every cut, ready to be measured by one thread.
pub struct Ladder {
    sites: Vec<Site>,
    exits: Vec<TriedExit>,
    everything: Vec<LayerId>,
    exact: Exact,
    logits: Vec<f32>,
}

impl Ladder {
    /// For these cuts and their encodings, with a calibration for each cut. Encodings that may not carry a cut's frontier and
    /// cuts without one are left out.
    pub fn new(
        graph: &Graph,
        crossings: &[(Cut, Vec<Encoding>)],
        calibrations: &[Calibration],
    ) -> Result<Self> {
        let sites = crossings.iter().zip(calibrations).filter_map(|((cut, encodings), calibration)| {
            Site::new(graph, cut, encodings, calibration).transpose()
        });
        let sites = sites.collect::<Result<Vec<_>>>()?;
        let exact = Exact::of(sites.iter().map(|site| &site.behind));
        let exits = (0..graph.exits.len()).map(|exit| TriedExit::of(graph, ExitId(exit))).collect();
        Ok(Self { sites, exits, everything: graph.layer_ids().collect(), exact, logits: Vec::new() })
    }

    /// Measures all of it on these pictures, of which it must be known what is right. The network's head runs once for each of them; for each lossy
    /// element type, the network behind the cut runs on what comes out of the codec.
    pub fn measure(
        &mut self,
        backend: &mut dyn Backend,
        images: &Images,
        samples: Range<usize>,
        watch: &mut Watch<'_>,
    ) -> Result<LadderPart> {
        let mut part = LadderPart {
            uncut: vec![Answers::default(); self.exits.len()],
            tried: self.trials().map(|(site, trial)| trial.untried(site)).collect(),
        };
        let total = samples.len() as f64;
        for (done, index) in samples.enumerate() {
            self.exact.run(backend, images, index, &self.everything)?;
            for (answers, exit) in part.uncut.iter_mut().zip(&self.exits) {
                backend.get(Source::Layer(exit.logits), &mut self.logits)?;
                answers.add(&self.logits, is_right(images, index, &self.logits)?, exit.is_final);
            }
            let mut tried = part.tried.iter_mut();
            let count = self.sites.len() as f64;
            for (at, site) in self.sites.iter_mut().enumerate() {
                watch.step((done as f64 + at as f64 / count) / total)?;
                let tensors = self.exact.frontier(&site.behind);
                site.measure(backend, &tensors, (images, index), &mut tried)?;
            }
        }
        watch.step(1.0)?;
        Ok(part)
    }

    /// Every encoding at every cut, in the order of a part's `tried`.
    fn trials(&self) -> impl Iterator<Item = (&Site, &Trial)> {
        self.sites.iter().flat_map(|site| site.trials.iter().map(move |trial| (site, trial)))
    }

    /// Whether a part that was kept elsewhere is one of this ladder over so many samples.
    pub fn fits(&self, part: &LadderPart, samples: usize) -> bool {
        let like = |answers: &[Answers], exits: &[TriedExit]| {
            let pairs = answers.iter().zip(exits);
            answers.len() == exits.len()
                && pairs.into_iter().all(|(answers, exit)| answers.fit(exit, samples))
        };
        let fits = |(tried, (site, trial)): (&Tried, (&Site, &Trial))| {
            tried.bytes.len() == samples && like(&tried.answers, trial.exits(site))
        };
        like(&part.uncut, &self.exits)
            && part.tried.len() == self.trials().count()
            && part.tried.iter().zip(self.trials()).all(fits)
    }

    /// The record's rows from all parts in the order of their samples: what the exits answer uncut, and every cut under every
    /// encoding.
    pub fn rows(&self, parts: Vec<LadderPart>) -> Result<(Vec<ExitEffect>, Vec<EncodingRow>)> {
        let whole = parts.into_iter().reduce(LadderPart::followed_by).ok_or_else(|| {
            Error::failed("encodings are measured on at least one picture, but there is none")
        })?;
        let effects = |exits: &[TriedExit], answers: Vec<Answers>| {
            let pairs = exits.iter().zip(answers);
            let effect = |(exit, answers): (&TriedExit, Answers)| ExitEffect {
                exit: exit.name.clone(),
                right: answers.right,
                entropy: answers.entropy,
            };
            pairs.map(effect).collect()
        };
        let row = |((site, trial), mut tried): ((&Site, &Trial), Tried)| {
            tried.bytes.sort_unstable();
            let n = tried.bytes.len();
            let total: u64 = tried.bytes.iter().copied().map(u64::from).sum();
            EncodingRow {
                cut: site.name.clone(),
                encoding: trial.codec.encoding(),
                bytes_mean: total as f64 / n.max(1) as f64,
                bytes_p99: tried.bytes.get((n as f64 * 0.99) as usize).copied().map_or(0, u64::from),
                calibration: trial.calibration.clone(),
                exits: effects(trial.exits(site), tried.answers),
            }
        };
        let rows = self.trials().zip(whole.tried).map(row).collect();
        Ok((effects(&self.exits, whole.uncut), rows))
    }
}

impl LadderPart {
    fn followed_by(mut self, later: Self) -> Self {
        append_all(&mut self.uncut, later.uncut);
        for (tried, mut later) in self.tried.iter_mut().zip(later.tried) {
            tried.bytes.append(&mut later.bytes);
            append_all(&mut tried.answers, later.answers);
        }
        self
    }
}

fn append_all(answers: &mut [Answers], later: Vec<Answers>) {
    for (answers, mut later) in answers.iter_mut().zip(later) {
        answers.right.append(&mut later.right);
        answers.entropy.append(&mut later.entropy);
    }
}

/// One cut under all its encodings.
struct Site {
    name: String,
    behind: Behind,
    layers: Vec<LayerId>,
    exits: Vec<TriedExit>,
    trials: Vec<Trial>,
    payload: Vec<u8>,
    decoded: Vec<Vec<f32>>,
    logits: Vec<f32>,
}

/// An exit that answers.
struct TriedExit {
    name: String,
    logits: LayerId,
    is_final: bool,
}

impl TriedExit {
    fn of(graph: &Graph, id: ExitId) -> Self {
        let exit = &graph.exits[id.0];
        Self { name: exit.name.clone(), logits: exit.logits, is_final: id == graph.final_exit() }
    }
}

/// One encoding at one cut.
struct Trial {
    codec: Codec,
    /// What the encoding needs of its cut's calibration; only where the row tells answers.
    calibration: Option<Calibration>,
    /// Whether the answers behind it are measured: not of lossless encodings, and of those that differ by a coder once.
    has_answers: bool,
}

impl Trial {
    /// The exits of its site whose answers it measures.
    fn exits<'s>(&self, site: &'s Site) -> &'s [TriedExit] {
        if self.has_answers { &site.exits } else { &[] }
    }

    fn untried(&self, site: &Site) -> Tried {
        Tried { bytes: Vec::new(), answers: vec![Answers::default(); self.exits(site).len()] }
    }
}

impl Site {
    fn new(
        graph: &Graph,
        cut: &Cut,
        encodings: &[Encoding],
        calibration: &Calibration,
    ) -> Result<Option<Self>> {
        let behind = Behind::new(graph, cut);
        if behind.frontier.is_empty() {
            return Ok(None);
        }
        let specs = TensorSpec::of_frontier(graph, &behind.frontier)?;
        let exits = behind.exits.iter().map(|&exit| TriedExit::of(graph, exit)).collect();
        // The answers of a lossy element type stand in its row without a coder, so that row is always made.
        let lossy = encodings.iter().filter(|encoding| !encoding.is_lossless());
        let raw = lossy.map(|encoding| encoding.without_coder());
        let all: BTreeSet<Encoding> = encodings.iter().copied().chain(raw).collect();
        let fitting = all.into_iter().filter(|encoding| encoding.check_frontier(&behind.frontier).is_ok());
        let trial = |encoding: Encoding| {
            let has_answers = !encoding.is_lossless() && encoding == encoding.without_coder();
            let known = (has_answers && encoding.needs_calibration()).then(|| calibration.only_for(encoding));
            let codec = Codec::new(encoding, &specs, Some(calibration))?;
            Ok(Trial { codec, calibration: known, has_answers })
        };
        let trials = fitting.map(trial).collect::<Result<_>>()?;
        Ok(Some(Self {
            name: cut_name(&cut.tip_names(graph)),
            layers: behind.layers(graph, cut),
            trials,
            payload: Vec::new(),
            decoded: vec![Vec::new(); specs.len()],
            logits: Vec::new(),
            behind,
            exits,
        }))
    }

    /// Tries every encoding on the frontier of one picture, and adds what was found to the next of `tried`.
    fn measure<'t>(
        &mut self,
        backend: &mut dyn Backend,
        tensors: &[&[f32]],
        (images, index): (&Images, usize),
        tried: &mut impl Iterator<Item = &'t mut Tried>,
    ) -> Result<()> {
        for (trial, tried) in self.trials.iter_mut().zip(tried) {
            trial.codec.encode(tensors, &mut self.payload)?;
            tried.bytes.push(self.payload.len() as u32);
            if !trial.has_answers {
                continue;
            }
            trial.codec.decode(&self.payload, &mut self.decoded)?;
            backend.clear();
            for (source, values) in self.behind.frontier.iter().zip(&self.decoded) {
                backend.put(*source, values)?;
            }
            backend.run(&self.layers)?;
            for (answers, exit) in tried.answers.iter_mut().zip(&self.exits) {
                backend.get(Source::Layer(exit.logits), &mut self.logits)?;
                answers.add(&self.logits, is_right(images, index, &self.logits)?, exit.is_final);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::calibrate::calibrate;
    use super::*;
    use crate::backend::FakeBackend;
    use coprof_core::clock::ManualClock;
    use coprof_core::model::samples::chain;

    fn fake(graph: &Arc<Graph>) -> FakeBackend<ManualClock> {
        FakeBackend::new(graph.clone(), vec![Duration::ZERO; graph.layers.len()], ManualClock::default())
    }

    fn images(count: usize) -> Images {
        let pixels: Vec<u8> = (0..192 * count).map(|i| (i * i % 251) as u8).collect();
        Images::new(192, pixels, Some((0..count).map(|i| (i % 4) as u8).collect())).unwrap()
    }

    fn prepared(graph: &Arc<Graph>, names: &[&str]) -> Ladder {
        let encodings: Vec<Encoding> = names.iter().map(|name| name.parse().unwrap()).collect();
        let cuts = Cut::along_trunk(graph).into_iter();
        let crossings: Vec<_> = cuts.map(|cut| (cut, encodings.clone())).collect();
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        let known = calibrate(&mut fake(graph), &images(5), &crossings, &mut watch).unwrap();
        Ladder::new(graph, &crossings, &known).unwrap()
    }

    fn measure(ladder: &mut Ladder, graph: &Arc<Graph>, samples: Range<usize>) -> LadderPart {
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &|| false);
        ladder.measure(&mut fake(graph), &images(5), samples, &mut watch).unwrap()
    }

    fn record(graph: &Arc<Graph>, names: &[&str]) -> Vec<EncodingRow> {
        let mut ladder = prepared(graph, names);
        let part = measure(&mut ladder, graph, 0..5);
        ladder.rows(vec![part]).unwrap().1
    }

    #[test]
    fn parts_make_up_the_whole_and_survive_being_kept() {
        let (graph, names) = (chain(), ["f32", "q2", "q3k+zero", "prune50-q8"]);
        let mut ladder = prepared(&graph, &names);
        let whole = measure(&mut ladder, &graph, 0..5);
        let parts = [0..2, 2..5].map(|samples| measure(&mut ladder, &graph, samples));
        let kept: Vec<LadderPart> = parts
            .iter()
            .map(|part| serde_json::from_str(&serde_json::to_string(part).unwrap()).unwrap())
            .collect();
        assert_eq!(kept, parts);
        assert!(ladder.fits(&parts[0], 2) && !ladder.fits(&parts[0], 3));
        assert!(!prepared(&graph, &["f32", "q2"]).fits(&parts[0], 2));
        assert_eq!(ladder.rows(kept).unwrap(), ladder.rows(vec![whole]).unwrap());
        assert!(ladder.rows(Vec::new()).is_err());
    }

    #[test]
    fn rows_with_answers_carry_their_calibration_and_nothing_more() {
        for row in record(&chain(), &["q4", "q4k", "q4k+zero", "prune50-q8"]) {
            let name = row.encoding.to_string();
            let known = row.calibration.map(|calibration| calibration.tensors[0].clone());
            match name.as_str() {
                "q4k" => assert_eq!(known.unwrap().ranges.len(), 1),
                "prune50-q8" => assert!(!known.unwrap().channel_means.is_empty()),
                _ => assert_eq!(known, None, "{name}"),
            }
        }
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
            for effect in &row.exits {
                let entropies = if effect.exit == "final" { 0 } else { 5 };
                assert_eq!((effect.right.len(), effect.entropy.len()), (5, entropies));
            }
        }
    }

    #[test]
    fn answers_are_those_on_what_the_codec_gives_back() {
        // The fake backend's values are multiples of 1/16 under 16, which half precision keeps: nothing may change.
        let (graph, images) = (chain(), images(5));
        let mut rows = record(&graph, &["f16", "q2"]);
        rows.retain(|row| row.exits.len() == 2);
        let mut backend = fake(&graph);
        let mut logits = Vec::new();
        let mut exact = Vec::new();
        for i in 0..images.len() {
            backend.put(Source::Input, &images.floats(i)).unwrap();
            backend.run(&graph.ancestors(LayerId(2))).unwrap();
            backend.get(Source::Layer(LayerId(2)), &mut logits).unwrap();
            exact.push((confidence(&logits).entropy.0 * 65535.0).round() as u16);
        }
        let (kept, changed): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row.encoding.to_string() == "f16");
        assert_eq!((kept.len(), changed.len()), (3, 3));
        assert!(kept.iter().all(|row| row.exits[0].entropy == exact));
        assert!(changed.iter().all(|row| row.exits[0].entropy != exact));
    }
}
