//! What the planner wants to know of one node, measured there: layers, exits and codecs. The request travels to an edge.

use serde::{Deserialize, Serialize};

use super::crossings::crossings;
use super::frames::timing_inputs;
use coprof_core::clock::Clock;
use coprof_core::codec::Encoding;
use coprof_core::error::{Error, Result};
use coprof_core::model::Cut;
use coprof_core::plan::Range;
use coprof_core::units::Micros;
use coprof_run::backend::Backend;
use coprof_run::measure::{
    Budget, CodecRequest, Disturbance, LayerProfile, Samples, Watch, profile_codecs, profile_layers,
    profile_ranges, profile_whole,
};
use coprof_run::pipeline::Peer;

/// More ranges than any plan has, and more encodings than the ladder: a request comes from the network.
const MOST_RANGES: usize = 64;
const MOST_ENCODINGS: usize = 1000;

/// What to measure on a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProfileRequest {
    /// Layers and exits.
    pub layers: bool,
    /// These encodings at every cut at which they are weighed.
    pub encodings: Vec<Encoding>,
    /// Whole ranges of layers; their times are not looked at.
    #[serde(default)]
    pub ranges: Vec<Range>,
    /// The whole trunk, over and over for so long.
    #[serde(default)]
    pub whole_for_us: Option<Micros>,
}

/// The mean times of one encoding at one cut on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecTimes {
    /// The tips of the cut.
    pub cut: Vec<String>,
    /// The encoding.
    pub encoding: Encoding,
    /// To read the frontier from the runtime and write it.
    pub encode_us: Micros,
    /// To read it and hand it to the runtime.
    pub decode_us: Micros,
}

/// What was measured. Times are means over undisturbed timings: the time of a stage is the sum of its parts' means, where medians
/// do not add up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeProfile {
    /// Present where asked for.
    pub layers: Option<LayerProfile>,
    /// Empty where not asked for.
    pub codecs: Vec<CodecTimes>,
    /// The ranges that were asked for, with their mean times.
    #[serde(default)]
    pub ranges: Vec<Range>,
    /// The whole trunk in one call, again and again: as it was asked for, or beside the codecs.
    #[serde(default)]
    pub whole: Option<Samples>,
    /// How many timings of codecs were taken, and set aside.
    #[serde(default)]
    pub codec_disturbance: Disturbance,
}

/// Has the edge measure.
pub fn ask(peer: &mut Peer, request: &ProfileRequest, progress: &mut dyn FnMut(f64)) -> Result<NodeProfile> {
    let profile = peer.profile(serde_json::json!(request), progress)?;
    serde_json::from_value(profile).map_err(|error| {
        Error::peer(format!("the edge's profile makes no sense ({error}); is it the same coprof?"))
    })
}

/// Measures what `request` asks for on this thread.
pub fn profile_node(
    backend: &mut dyn Backend,
    request: &ProfileRequest,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(f64),
    stop: &dyn Fn() -> bool,
) -> Result<NodeProfile> {
    let graph = std::sync::Arc::clone(backend.graph());
    let inputs = timing_inputs(&graph);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let has_codecs = !request.encodings.is_empty();
    let parts = f64::from(u8::from(request.layers) + u8::from(has_codecs)).max(1.0);
    let mut profile = NodeProfile::default();
    if let Some(time) = request.whole_for_us {
        profile.whole = Some(run_whole(backend, clock, time, &inputs, &mut Watch::new(progress, stop))?);
    }
    if !request.ranges.is_empty() {
        let mut watch = Watch::new(progress, stop);
        profile.ranges = measure_ranges(backend, &request.ranges, clock, &inputs, &mut watch)?;
    }
    if request.layers {
        let mut part = |share: f64| progress(share / parts);
        profile.layers =
            Some(profile_layers(backend, clock, &inputs, Budget::LAYERS, &mut Watch::new(&mut part, stop))?);
    }
    if has_codecs {
        let before = 1.0 - 1.0 / parts;
        let mut part = |share: f64| progress(before + share / parts);
        measure_codecs(
            backend,
            &request.encodings,
            clock,
            &inputs,
            &mut Watch::new(&mut part, stop),
            &mut profile,
        )?;
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
