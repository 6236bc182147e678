//! What the planner wants to know of one node, measured there: layers, exits and codecs.

use super::Context;
use super::crossings::crossings;
use super::frames::timing_inputs;
use super::local_node::LocalNode;
use super::model::Model;
use coprof_core::clock::Clock;
use coprof_core::codec::Encoding;
use coprof_core::error::{Error, Result};
use coprof_core::model::Cut;
use coprof_core::plan::Range;
use coprof_core::units::Micros;
use coprof_run::backend::Backend;
use coprof_run::measure::{
    Budget, CodecRequest, Samples, Watch, profile_codecs, profile_layers, profile_ranges, profile_whole,
};
use coprof_run::pipeline::{CodecTimes, NodeProfile, ProfileRequest};

/// More ranges than any plan has, and more encodings than the ladder: a request comes from the network.
const MOST_RANGES: usize = 64;
const MOST_ENCODINGS: usize = 1000;

/// Measures what `request` asks for on this machine, on a thread of its own.
pub fn profile_device(
    model: &Model,
    device: &LocalNode,
    request: &ProfileRequest,
    progress: &(dyn Fn(f64) + Sync),
    context: &Context,
) -> Result<NodeProfile> {
    device.run(&model.graph, |backend| {
        let mut progress = |share| progress(share);
        profile_node(backend, request, &*device.clock(), &mut Watch::new(&mut progress, context.stop()))
    })
}

/// Measures what `request` asks for on this thread.
pub fn profile_node(
    backend: &mut dyn Backend,
    request: &ProfileRequest,
    clock: &dyn Clock,
    watch: &mut Watch<'_>,
) -> Result<NodeProfile> {
    let graph = std::sync::Arc::clone(backend.graph());
    let inputs = timing_inputs(&graph);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let has_codecs = !request.encodings.is_empty();
    let share = 1.0 / f64::from(u8::from(request.layers) + u8::from(has_codecs)).max(1.0);
    let mut profile = NodeProfile::default();
    if let Some(time) = request.whole_for_us {
        profile.whole = Some(run_whole(backend, clock, time, &inputs, watch)?);
    }
    if !request.ranges.is_empty() {
        profile.ranges = measure_ranges(backend, &request.ranges, clock, &inputs, watch)?;
    }
    if request.layers {
        let layers =
            watch.part(0.0, share, |watch| profile_layers(backend, clock, &inputs, Budget::LAYERS, watch))?;
        profile.layers = Some(layers);
    }
    if has_codecs {
        watch.part(1.0 - share, share, |watch| {
            measure_codecs(backend, &request.encodings, clock, &inputs, watch, &mut profile)
        })?;
    }
    Ok(profile)
}

/// Runs the whole trunk for so long, at most a minute and a thousand times.
fn run_whole(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    time: Micros,
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
) -> Result<Samples> {
    const MOST: Micros = Micros(60e6);
    let time = Micros(time.0.clamp(0.0, MOST.0)).to_duration();
    let budget = Budget { min_runs: 3, min_time: time, max_runs: 1000 };
    profile_whole(backend, clock, inputs, budget, watch)
}

fn measure_codecs(
    backend: &mut dyn Backend,
    encodings: &[Encoding],
    clock: &dyn Clock,
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
    profile: &mut NodeProfile,
) -> Result<()> {
    at_most(MOST_ENCODINGS, "encodings", encodings.len())?;
    let graph = std::sync::Arc::clone(backend.graph());
    let crossings = crossings(&graph, encodings).cuts;
    let requests: Vec<CodecRequest> = crossings
        .iter()
        .flat_map(|(cut, encodings)| {
            let frontier = cut.frontier(&graph, &[]);
            encodings.iter().map(move |&encoding| CodecRequest { frontier: frontier.clone(), encoding })
        })
        .collect();
    let measured = profile_codecs(backend, clock, &requests, inputs, Budget::CODECS, watch)?;
    let named = crossings.iter().flat_map(|(cut, encodings)| {
        let tips = cut.tip_names(&graph);
        encodings.iter().map(move |&encoding| (tips.clone(), encoding))
    });
    for ((cut, encoding), times) in named.zip(measured.codecs) {
        let (encode_us, decode_us) = (times.encode.mean(), times.decode.mean());
        profile.codecs.push(CodecTimes { cut, encoding, encode_us, decode_us });
        profile.codec_disturbance = profile.codec_disturbance.and(times.disturbance);
    }
    profile.whole = measured.whole.or_else(|| profile.whole.take());
    Ok(())
}

/// What a request may ask for at once.
fn at_most(most: usize, what: &str, found: usize) -> Result<()> {
    if found <= most {
        return Ok(());
    }
    Err(Error::usage(format!("at most {most} {what} are measured at once, found {found}")))
}

fn measure_ranges(
    backend: &mut dyn Backend,
    ranges: &[Range],
    clock: &dyn Clock,
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
) -> Result<Vec<Range>> {
    at_most(MOST_RANGES, "ranges", ranges.len())?;
    let graph = std::sync::Arc::clone(backend.graph());
    let cuts = |range: &Range| {
        Ok((Cut::from_tip_names(&graph, &range.from)?, Cut::from_tip_names(&graph, &range.to)?))
    };
    let wanted: Vec<(Cut, Cut)> = ranges.iter().map(cuts).collect::<Result<_>>()?;
    let samples = profile_ranges(backend, clock, &wanted, inputs, Budget::LAYERS, watch)?;
    let measured = ranges.iter().zip(samples);
    Ok(measured.map(|(range, samples)| Range { time_us: samples.mean(), ..range.clone() }).collect())
}
