//! `coprof layers`: latency, size and speed of every layer.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::{ModelArgs, RuntimeArgs};
use super::device::Device;
use super::model::Model;
use super::output::Output;
use super::profile::{ProfileRequest, profile_node};
use super::{peak, rows, stop, store};
use crate::error::{Error, Result};
use crate::measure::{Disturbance, HostPeak, LayerProfile, Samples};
use crate::model::{Cut, ExitId, Graph};
use crate::report::{Emulation, ExitRow, LayerFacts, LayerRow, LayersDocument, Timing, layers_view};
use crate::units::{Micros, Share};

pub const EXAMPLE: &str = "Examples:
  coprof layers                          # the bundled AlexNet, one thread, first core
  coprof layers --model mine.onnx        # your own model
  coprof layers --csv layers.csv --json | jq .whole_model_us.median";

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Write the layers as CSV, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let model = Model::load(&args.model.model)?;
    let device = Device::new(&args.runtime)?;
    let (document, path) = measure(&model, &device, output)?;
    if let Some(csv) = &args.csv {
        rows::write_csv(csv, &csv_rows(&document))?;
    }
    output.result(&document, || layers_view(&document))?;
    output.say(format!("saved {}", path.display()));
    if document.settled { Ok(()) } else { Err(unsettled(&document)) }
}

fn unsettled(document: &LayersDocument) -> Error {
    let Disturbance { samples, set_aside } = document.disturbance;
    Error::unmet(format!(
        "the layers did not settle in {} attempts: their sum is {:.2} of the whole model (0.9 to 1.1 was expected), and others had \
         the core during {set_aside} of {samples} timings\nthe result is marked and no other command picks it up; measure again \
         when nothing else runs on this core",
        document.attempts, document.layer_sum_over_whole
    ))
}

/// Measures and saves.
pub fn measure(model: &Model, device: &Device, output: Output) -> Result<(LayersDocument, PathBuf)> {
    let peak = peak::host_peak(device, output)?;
    let bar = output.progress("layers");
    let request = ProfileRequest { layers: true, ..ProfileRequest::default() };
    let profile = device.run(&model.graph, |backend| {
        profile_node(backend, &request, &*device.clock(), &mut |share| bar.set(share), &stop::asked)
    })?;
    drop(bar);
    let profile = profile.layers.ok_or_else(|| Error::failed("no layers were measured"))?;
    let document = document(&model.graph, device, &profile, &peak);
    let path = store().save("layers", &document)?;
    Ok((document, path))
}

fn document(graph: &Graph, device: &Device, profile: &LayerProfile, peak: &HostPeak) -> LayersDocument {
    let layer = |id: crate::model::LayerId| {
        let time = &profile.layers[id.0];
        LayerRow {
            index: id.0,
            layer: LayerFacts::of(graph, id),
            peak_share: peak_share(graph.layer(id).macs, time.median(), peak),
            time_us: timing(time),
        }
    };
    let exit = |index: usize| ExitRow {
        name: graph.exits[index].name.clone(),
        after: Cut::needed_by(graph, ExitId(index)).tip_names(graph),
        time_us: timing(&profile.exits[index]),
    };
    let mut envelope = device.envelope("layers", Some(graph), &Emulation::NONE);
    peak::add_to(&mut envelope.host, peak);
    let layer_sum_us = profile.layer_sum(graph);
    LayersDocument {
        envelope,
        layers: graph.layer_ids().map(layer).collect(),
        exits: (0..graph.exits.len()).map(exit).collect(),
        layer_sum_over_whole: layer_sum_us / profile.whole.median(),
        whole_model_us: timing(&profile.whole),
        input_us: profile.input.as_ref().map(timing),
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
fn peak_share(macs: u64, time: Micros, peak: &HostPeak) -> Option<Share> {
    let gflops = 2.0 * macs as f64 / (time.0 * 1e3);
    (macs > 0 && gflops.is_finite()).then(|| Share(gflops / peak.peak_gflops))
}

/// The profile that a saved result holds.
pub fn profile_of(document: &LayersDocument) -> Option<LayerProfile> {
    let samples = |timing: &Timing| Samples::new(timing.samples_us.clone());
    Some(LayerProfile {
        layers: document.layers.iter().map(|row| samples(&row.time_us)).collect::<Option<_>>()?,
        whole: samples(&document.whole_model_us)?,
        exits: document.exits.iter().map(|row| samples(&row.time_us)).collect::<Option<_>>()?,
        input: document.input_us.as_ref().and_then(samples),
        disturbance: document.disturbance,
        attempts: document.attempts,
    })
}

fn csv_rows(document: &LayersDocument) -> Vec<Vec<String>> {
    let header = "index,name,op,side_exit,output_shape,output_bytes,params,macs,median_us,p90_us,mean_us,stddev_us,runs";
    let mut rows = vec![header.split(',').map(str::to_owned).collect()];
    rows.extend(document.layers.iter().map(|row| {
        let (layer, time) = (&row.layer, &row.time_us.summary);
        let times = [time.median, time.p90, time.mean, time.stddev].map(|time| format!("{:.3}", time.0));
        let mut cells =
            vec![row.index.to_string(), layer.name.clone(), layer.op.clone(), layer.in_side_exit.to_string()];
        cells.extend([layer.output_shape.to_string(), layer.output_bytes.to_string()]);
        cells.extend([layer.params.to_string(), layer.macs.to_string()]);
        cells.extend(times);
        cells.push(time.runs.to_string());
        cells
    }));
    rows
}
