//! What the planner wants to know of one node, measured there: layers, exits and codecs. The request travels to an edge.

use serde::{Deserialize, Serialize};

use super::crossings::crossings;
use super::frames::timing_inputs;
use crate::clock::SystemClock;
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::measure::{
    Budget, CodecRequest, LayerProfile, Watch, profile_codecs, profile_layers, profile_ranges,
};
use crate::model::Cut;
use crate::plan::Range;
use crate::runtime::Backend;
use crate::units::Micros;

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
}

/// The median times of one encoding at one cut on one node.
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

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeProfile {
    /// Present where asked for.
    pub layers: Option<LayerProfile>,
    /// Empty where not asked for.
    pub codecs: Vec<CodecTimes>,
    /// The ranges that were asked for, with their median times.
    #[serde(default)]
    pub ranges: Vec<Range>,
}

/// Measures what `request` asks for on this thread.
pub fn profile_node(
    backend: &mut dyn Backend,
    request: &ProfileRequest,
    progress: &mut dyn FnMut(f64),
    stop: &dyn Fn() -> bool,
) -> Result<NodeProfile> {
    let graph = std::sync::Arc::clone(backend.graph());
    let clock = SystemClock::default();
    let inputs = timing_inputs(&graph);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let has_codecs = !request.encodings.is_empty();
    let parts = f64::from(u8::from(request.layers) + u8::from(has_codecs)).max(1.0);
    let mut profile = NodeProfile { layers: None, codecs: Vec::new(), ranges: Vec::new() };
    if !request.ranges.is_empty() {
        profile.ranges = measure_ranges(backend, &request.ranges, &inputs, &mut Watch::new(progress, stop))?;
    }
    if request.layers {
        let mut part = |share: f64| progress(share / parts);
        profile.layers =
            Some(profile_layers(backend, &clock, &inputs, Budget::LAYERS, &mut Watch::new(&mut part, stop))?);
    }
    if has_codecs {
        let before = 1.0 - 1.0 / parts;
        let mut part = |share: f64| progress(before + share / parts);
        profile.codecs =
            measure_codecs(backend, &request.encodings, &inputs, &mut Watch::new(&mut part, stop))?;
    }
    Ok(profile)
}

fn measure_codecs(
    backend: &mut dyn Backend,
    encodings: &[Encoding],
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
) -> Result<Vec<CodecTimes>> {
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
    let clock = SystemClock::default();
    let measured = profile_codecs(backend, &clock, &requests, inputs, Budget::CODECS, watch)?;
    let named = crossings.iter().flat_map(|(cut, encodings)| {
        let tips = cut.tip_names(&graph);
        encodings.iter().map(move |&encoding| (tips.clone(), encoding))
    });
    let times = named.zip(measured).map(|((cut, encoding), times)| CodecTimes {
        cut,
        encoding,
        encode_us: times.encode.median(),
        decode_us: times.decode.median(),
    });
    Ok(times.collect())
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
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
) -> Result<Vec<Range>> {
    at_most(MOST_RANGES, "ranges", ranges.len())?;
    let graph = std::sync::Arc::clone(backend.graph());
    let cuts = |range: &Range| {
        Ok((Cut::from_tip_names(&graph, &range.from)?, Cut::from_tip_names(&graph, &range.to)?))
    };
    let wanted: Vec<(Cut, Cut)> = ranges.iter().map(cuts).collect::<Result<_>>()?;
    let clock = SystemClock::default();
    let samples = profile_ranges(backend, &clock, &wanted, inputs, Budget::LAYERS, watch)?;
    let measured = ranges.iter().zip(samples);
    Ok(measured.map(|(range, samples)| Range { time_us: samples.median(), ..range.clone() }).collect())
}
