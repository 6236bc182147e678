//! What the planner wants to know of one node, measured there: layers, exits and codecs. The request travels to an edge.

use serde::{Deserialize, Serialize};

use super::frames::timing_inputs;
use crate::clock::SystemClock;
use crate::codec::{Codec, Coder, Element, Encoding, TensorSpec};
use crate::error::{Error, Result};
use crate::measure::{
    Budget, CodecRequest, LayerProfile, Watch, profile_codecs, profile_layers, profile_ranges,
};
use crate::model::{Cut, Graph};
use crate::plan::Range;
use crate::runtime::Backend;
use crate::units::Micros;

/// More ranges than any plan has: a request comes from the network.
const MOST_RANGES: usize = 64;

/// What to measure on a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProfileRequest {
    /// Layers and exits.
    pub layers: bool,
    /// Every encoding at every cut.
    pub codecs: bool,
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

/// Every cut that can be crossed, with the encodings that the search weighs there.
pub fn crossings(graph: &Graph) -> Vec<(Cut, Vec<Encoding>)> {
    let whole = graph.trunk().len();
    let cuts = Cut::along_trunk(graph).into_iter().filter(|cut| cut.layers().len() < whole);
    cuts.map(|cut| {
        let mut encodings =
            if cut.layers().is_empty() { Encoding::for_input() } else { Encoding::for_features() };
        let tensors = TensorSpec::of_frontier(graph, &cut.frontier(graph, &[]));
        encodings.retain(|encoding| tensors.as_ref().is_ok_and(|tensors| carries(*encoding, tensors)));
        (cut, encodings)
    })
    .collect()
}

/// Whether an encoding has room for these tensors: pictures have a longest side.
fn carries(encoding: Encoding, tensors: &[TensorSpec]) -> bool {
    let is_picture = matches!(encoding.element, Element::Jpeg(_)) || encoding.coder == Coder::Png;
    !is_picture || Codec::new(encoding, tensors, None).is_ok()
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
    let parts = f64::from(u8::from(request.layers) + u8::from(request.codecs)).max(1.0);
    let mut profile = NodeProfile { layers: None, codecs: Vec::new(), ranges: Vec::new() };
    if !request.ranges.is_empty() {
        profile.ranges = measure_ranges(backend, &request.ranges, &inputs, &mut Watch::new(progress, stop))?;
    }
    if request.layers {
        let mut part = |share: f64| progress(share / parts);
        profile.layers =
            Some(profile_layers(backend, &clock, &inputs, Budget::LAYERS, &mut Watch::new(&mut part, stop))?);
    }
    if request.codecs {
        let before = 1.0 - 1.0 / parts;
        let mut part = |share: f64| progress(before + share / parts);
        let crossings = crossings(&graph);
        let requests: Vec<CodecRequest> = crossings
            .iter()
            .flat_map(|(cut, encodings)| {
                let frontier = cut.frontier(&graph, &[]);
                encodings.iter().map(move |&encoding| CodecRequest { frontier: frontier.clone(), encoding })
            })
            .collect();
        let measured = profile_codecs(
            backend,
            &clock,
            &requests,
            &inputs,
            Budget::CODECS,
            &mut Watch::new(&mut part, stop),
        )?;
        let named = crossings.iter().flat_map(|(cut, encodings)| {
            let tips = cut.tip_names(&graph);
            encodings.iter().map(move |&encoding| (tips.clone(), encoding))
        });
        profile.codecs = named
            .zip(measured)
            .map(|((cut, encoding), times)| CodecTimes {
                cut,
                encoding,
                encode_us: times.encode.median(),
                decode_us: times.decode.median(),
            })
            .collect();
    }
    Ok(profile)
}

fn measure_ranges(
    backend: &mut dyn Backend,
    ranges: &[Range],
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
) -> Result<Vec<Range>> {
    if ranges.len() > MOST_RANGES {
        return Err(Error::usage(format!(
            "at most {MOST_RANGES} ranges are measured at once, found {}",
            ranges.len()
        )));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Shape, samples};

    #[test]
    fn what_is_too_wide_for_a_picture_is_encoded_otherwise() {
        let mut graph = Graph::clone(&samples::chain());
        let jpegs = |graph: &Graph| {
            let is_jpeg = |encoding: &&Encoding| matches!(encoding.element, Element::Jpeg(_));
            crossings(graph)
                .iter()
                .map(|(_, encodings)| encodings.iter().filter(is_jpeg).count())
                .collect::<Vec<_>>()
        };
        assert_eq!(jpegs(&graph), [5; 5]);
        graph.input = Shape(vec![1, 1, 70_000]);
        assert_eq!(jpegs(&graph), [0, 5, 5, 5, 5]);
        assert!(crossings(&graph)[0].1.iter().any(|encoding| encoding.to_string() == "pixels+png"));
    }
}
