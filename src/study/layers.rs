//! Every layer of a model on this machine, beside its peak.

use std::path::{Path, PathBuf};

use super::Context;
use super::local_node::LocalNode;
use super::model::Model;
use super::peak;
use super::profile::profile_device;
use crate::report::{Emulation, ExitRow, LayerFacts, LayerRow, LayersDocument, Timing};
use coprof_core::error::{Error, Result};
use coprof_core::model::{Cut, ExitId, Graph};
use coprof_core::units::{Micros, Share};
use coprof_run::measure::{HostPeak, LayerProfile, Samples};
use coprof_run::pipeline::ProfileRequest;

/// Measures and saves.
pub fn measure(model: &Model, device: &LocalNode, context: &Context) -> Result<(LayersDocument, PathBuf)> {
    let mut peak = peak::host_peak(device, context)?;
    let bar = context.progress("layers");
    let request = ProfileRequest { layers: true, ..ProfileRequest::default() };
    let profile = profile_device(model, device, &request, &|share| bar.set(share), context)?;
    drop(bar);
    let profile = profile.layers.ok_or_else(|| Error::failed("no layers were measured"))?;
    let mut found = document(&model.graph, device, &profile, &peak);
    if !found.above_peak.is_empty() {
        peak = peak::not_below_layers(peak, device, context)?;
        found = document(&model.graph, device, &profile, &peak);
    }
    let path = context.save("layers", &found)?;
    if !found.above_peak.is_empty() {
        context.say(above_peak(&found.above_peak, &path));
    }
    Ok((found, path))
}

/// What to say of layers that are faster than can be.
fn above_peak(layers: &[String], path: &Path) -> String {
    const MOST_NAMED: usize = 5;
    let mut names = layers.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if layers.len() > MOST_NAMED {
        names.push_str(&format!(" and {} more", layers.len() - MOST_NAMED));
    }
    format!(
        "above this host's peak, which nothing can be: {names}. Unless the host's clock rate has changed in between, this is a \
         bug\nin coprof; please report it with {}",
        path.display()
    )
}

fn document(graph: &Graph, device: &LocalNode, profile: &LayerProfile, peak: &HostPeak) -> LayersDocument {
    let layer = |id: coprof_core::model::LayerId| {
        let time = &profile.layers[id.0];
        LayerRow {
            index: id.0,
            layer: LayerFacts::of(graph, id),
            peak_share: peak_share(graph.macs_inside(id), time.median(), peak)
                .filter(|_| device.is_processor()),
            time_us: timing(time),
        }
    };
    let exit = |index: usize| ExitRow {
        name: graph.exits[index].name.clone(),
        after: Cut::needed_by(graph, ExitId(index)).tip_names(graph),
        time_us: timing(&profile.exits[index]),
    };
    let mut envelope = device.envelope("layers", Some(graph), &Emulation::NONE);
    envelope.host.peak = Some(peak.into());
    let layer_sum_us = profile.layer_sum(graph);
    let layers: Vec<LayerRow> = graph.layer_ids().map(layer).collect();
    let is_above = |row: &&LayerRow| row.peak_share.is_some_and(|share| share.0 > 1.0);
    LayersDocument {
        envelope,
        above_peak: layers.iter().filter(is_above).map(|row| row.layer.name.clone()).collect(),
        layers,
        exits: (0..graph.exits.len()).map(exit).collect(),
        layer_sum_over_whole: layer_sum_us / profile.whole.median(),
        whole_model_us: timing(&profile.whole),
        input_us: profile.input.as_ref().map(timing),
        input_and_first_us: profile.input_and_first.as_ref().map(timing),
        layer_sum_us,
        disturbance: profile.disturbance,
        attempts: profile.attempts,
        settled: profile.is_settled(graph),
    }
}

fn timing(samples: &Samples) -> Timing {
    Timing { summary: samples.summary(), samples_us: samples.raw().to_vec() }
}

/// Two operations per MAC over the peak; `None` for layers without MACs, which move data instead.
fn peak_share(macs: f64, time: Micros, peak: &HostPeak) -> Option<Share> {
    let gflops = 2.0 * macs / (time.0 * 1e3);
    (macs > 0.0 && gflops.is_finite()).then(|| Share(gflops / peak.peak_gflops))
}

/// The profile that a saved result holds.
pub fn profile_of(document: &LayersDocument) -> Option<LayerProfile> {
    let samples = |timing: &Timing| Samples::new(timing.samples_us.clone());
    Some(LayerProfile {
        layers: document.layers.iter().map(|row| samples(&row.time_us)).collect::<Option<_>>()?,
        whole: samples(&document.whole_model_us)?,
        exits: document.exits.iter().map(|row| samples(&row.time_us)).collect::<Option<_>>()?,
        input: document.input_us.as_ref().and_then(samples),
        input_and_first: document.input_and_first_us.as_ref().and_then(samples),
        disturbance: document.disturbance,
        attempts: document.attempts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::layers_view;
    use crate::study::NodeOptions;
    use coprof_core::model::samples;
    use coprof_run::measure::Disturbance;

    fn all(micros: f64) -> Samples {
        Samples::new(vec![Micros(micros); 3]).unwrap()
    }

    #[test]
    fn a_layer_above_the_peak_is_marked_and_told() {
        let graph = samples::chain();
        let device = LocalNode::as_device(&NodeOptions::default()).unwrap();
        let mut profile = LayerProfile {
            layers: vec![all(1000.0); graph.layers.len()],
            whole: all(5000.0),
            exits: vec![all(10.0); graph.exits.len()],
            input: None,
            input_and_first: None,
            disturbance: Disturbance::default(),
            attempts: 1,
        };
        let peak = HostPeak {
            peak_gflops: 1.0,
            solve_gflops: 0.5,
            solve_unknowns: 1,
            copy_bytes_per_s: 1.0,
            measured_unix_s: 1,
            bursts_gflops: vec![1.0],
            solve_us: all(1.0),
            copy_us: all(1.0),
        };
        assert!(document(&graph, &device, &profile, &peak).above_peak.is_empty());
        // 6,912 MACs, of which 5,808 lie inside: 11.6 µs at the peak.
        profile.layers[0] = all(11.7);
        assert!(document(&graph, &device, &profile, &peak).above_peak.is_empty());
        profile.layers[0] = all(11.5);
        let found = document(&graph, &device, &profile, &peak);
        assert_eq!(found.above_peak, ["conv1"]);
        assert!(layers_view(&found).ends_with("1 thread(s); above it, which is a bug: conv1"));
        let said = above_peak(&["a", "b", "c", "d", "e", "f", "g"].map(String::from), Path::new("x.json"));
        assert!(
            said.contains("a, b, c, d, e and 2 more") && said.contains("report it with x.json"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2);
    }
}
