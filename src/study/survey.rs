//! All that a scenario rests on, measured on both nodes and the link or picked up where it still holds.

use std::time::Duration;

use super::Context;
use super::calibrate::calibrate;
use super::case::{Case, Criteria};
use super::encodings;
use super::evidence::Evidence;
use super::gauge::Gauge;
use super::layers;
use super::link;
use super::local_node::LocalNode;
use super::model::Model;
use super::null;
use super::profile::profile_device;
use super::refine::{Nodes, refine};
use super::saved::{say_outdated, say_picked_up};
use super::scenario::{Circumstances, Measured, ScenarioDocument};
use crate::report::{Emulation, EncodingsDocument, LayersDocument, LinkDocument};
use coprof_core::codec::Encoding;
use coprof_core::error::Result;
use coprof_core::plan::Constraints;
use coprof_run::measure::{HostFacts, holds};
use coprof_run::pipeline::{CodecTimes, NodeProfile, ProfileRequest};

/// The whole model runs for so long to tell whether saved layers still hold.
const PROBE: Duration = Duration::from_millis(300);
/// So many encodings are timed, at all their cuts, to tell whether saved codec times still hold.
const PROBED_ENCODINGS: usize = 5;

/// Measures both nodes and the link, or picks up what is saved of them, measures the stages of so many leading plans
/// whole, and saves the scenario.
pub fn measure_scenario(
    nodes: &Nodes<'_>,
    evidence: &Evidence,
    emulation: Emulation,
    criteria: &Criteria,
    plans: usize,
) -> Result<Case> {
    let &Nodes { model, device, edge, context } = nodes;
    let weighed = evidence.weighed();
    let link = link::saved_or_measured(edge, device, emulation, context)?;
    let here = profile_here(model, device, &weighed, context)?;
    let (there, circumstances) = profile_edge(nodes, weighed, emulation, &link)?;
    let measured = Measured {
        model,
        evidence,
        device: &here,
        edge: &there,
        link: &link.profile,
        circumstances: &circumstances,
        emulation,
    };
    let scenario = measured.scenario(criteria.over(Constraints::default()))?;
    for node in scenario.unsettled() {
        context.say(format!(
            "the times of the {node} did not settle, and plans rest on them: measure again when nothing else runs on its core"
        ));
    }
    let scenario = calibrate(scenario, nodes, &emulation)?;
    let scenario = refine(scenario, plans, nodes)?;
    let envelope = device.envelope("scenario", Some(&model.graph), &emulation);
    let path = context.save("scenario", &ScenarioDocument::new(&scenario, &envelope))?;
    context.say(format!("saved {}", path.display()));
    let peer = edge.peer_name().into();
    Ok(Case { scenario, path, peer, envelope, records_of_other_images: None })
}

/// This device's layers and codecs, from the newest saved results that still hold or measured now.
fn profile_here(
    model: &Model,
    device: &LocalNode,
    weighed: &[Encoding],
    context: &Context,
) -> Result<NodeProfile> {
    let layers = match saved_layers(model, device, context)? {
        Some(layers) => layers,
        None => layers::measure(model, device, context)?.0,
    };
    let layers = layers::profile_of(&layers);
    if let Some(codecs) = saved_codecs(model, device, weighed, context)? {
        return Ok(NodeProfile { layers, codecs, ..NodeProfile::default() });
    }
    let bar = context.progress("codecs on the device");
    let request = ProfileRequest { encodings: weighed.to_vec(), ..ProfileRequest::default() };
    let profile = profile_device(model, device, &request, &|share| bar.set(share), context)?;
    Ok(NodeProfile { layers, ..profile })
}

/// The newest saved layers, if they were settled and the whole model still takes what it took then.
fn saved_layers(model: &Model, device: &LocalNode, context: &Context) -> Result<Option<LayersDocument>> {
    let fits = |document: &LayersDocument| device.fits(&document.envelope, &model.graph) && document.settled;
    let Some((path, document)) = context.store().newest("layers", fits) else { return Ok(None) };
    let mut backend = device.on_thread(|thread| device.load(&model.graph, thread))?;
    let now = Gauge { device, context, backend: &mut backend, peer: None }.together(PROBE)?.device;
    if holds(document.whole_model_us.summary.mean, now) {
        say_picked_up(context, "layers", &path, &document.envelope);
        return Ok(Some(document));
    }
    say_outdated(context, "layers", &path, &document.envelope);
    Ok(None)
}

/// The newest saved codec times, if a few of them still hold.
fn saved_codecs(
    model: &Model,
    device: &LocalNode,
    weighed: &[Encoding],
    context: &Context,
) -> Result<Option<Vec<CodecTimes>>> {
    let fits = |document: &EncodingsDocument| device.fits(&document.envelope, &model.graph);
    let Some((path, document)) = context.store().newest("encodings", fits) else { return Ok(None) };
    let Some(codecs) = encodings::times_of(&model.graph, weighed, &document) else { return Ok(None) };
    let few: Vec<Encoding> =
        weighed.iter().copied().step_by(weighed.len().div_ceil(PROBED_ENCODINGS).max(1)).collect();
    let request = ProfileRequest { encodings: few.clone(), ..ProfileRequest::default() };
    let now = profile_device(model, device, &request, &|_| (), context)?;
    let was = codecs.iter().filter(|row| few.contains(&row.encoding));
    let sum = |row: &CodecTimes| row.encode_us + row.decode_us;
    if holds(was.map(sum).sum(), now.codecs.iter().map(sum).sum()) {
        say_picked_up(context, "codecs", &path, &document.envelope);
        return Ok(Some(codecs));
    }
    say_outdated(context, "codecs", &path, &document.envelope);
    Ok(None)
}

/// The edge's layers and codecs, and what both nodes have to do with each other.
fn profile_edge(
    nodes: &Nodes<'_>,
    encodings: Vec<Encoding>,
    emulation: Emulation,
    link: &LinkDocument,
) -> Result<(NodeProfile, Circumstances)> {
    let &Nodes { model, device, edge, context } = nodes;
    let bar = context.progress("layers and codecs on the edge");
    let request = ProfileRequest { layers: true, encodings, ..ProfileRequest::default() };
    let mut peer = edge.connect_with(model)?;
    let profile = peer.profile(&request, &mut |share| bar.set(share))?;
    drop(bar);
    let cores = cores_of(device, peer.host());
    drop(peer);
    let _bar = context.progress("what the pipeline itself costs");
    let overheads = null::measure(device, edge, &emulation, &link.profile, context)?;
    Ok((profile, Circumstances { overheads, cores }))
}

/// Names of the cores of device and edge where they are on one host: the same one where they get in each other's way.
fn cores_of(device: &LocalNode, edge: &HostFacts) -> Option<[String; 2]> {
    let here = &device.facts;
    if here.machine.is_none() || here.machine != edge.machine {
        return None;
    }
    let name = |facts: &HostFacts| facts.pinned_cores.first().map(|core| format!("core {core}"));
    let crowded = here.threads + edge.threads > here.logical_cores.unwrap_or(usize::MAX);
    match (name(here), name(edge)) {
        (Some(here), Some(there)) => Some([here, there]),
        // Threads that are not pinned run on any core: together they must not be more than there are.
        _ if crowded => Some(["all cores".into(), "all cores".into()]),
        _ => Some(["some cores".into(), "other cores".into()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::NodeOptions;

    #[test]
    fn nodes_that_get_in_each_others_way_have_one_core() {
        let on = |machine: Option<&str>, cores: &[usize], threads| HostFacts {
            machine: machine.map(Into::into),
            logical_cores: Some(4),
            pinned_cores: cores.to_vec(),
            threads,
            ..HostFacts::default()
        };
        let is_one = |here: &HostFacts, edge: &HostFacts| {
            let mut device = LocalNode::as_device(&NodeOptions::default()).unwrap();
            device.facts = here.clone();
            cores_of(&device, edge).map(|[here, there]| here == there)
        };
        let first = on(Some("a"), &[0], 1);
        assert_eq!(is_one(&first, &on(Some("a"), &[0], 1)), Some(true));
        assert_eq!(is_one(&first, &on(Some("a"), &[3], 1)), Some(false));
        // Where both run on several threads, the system places them.
        let [two, three] = [2, 3].map(|threads| on(Some("a"), &[], threads));
        assert_eq!((is_one(&two, &two), is_one(&two, &three)), (Some(false), Some(true)));
        for other in [on(Some("b"), &[0], 1), on(None, &[0], 1)] {
            assert_eq!((is_one(&first, &other), is_one(&other, &first)), (None, None));
        }
        assert_eq!(is_one(&on(None, &[0], 1), &on(None, &[0], 1)), None, "nobody knows");
    }
}
