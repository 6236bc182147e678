//! `coprof optimize --refine N`: sums of layers mislead (caches, calls), so the stages of the leading plans are measured whole
//! on the real nodes, and all plans are ranked again.

use super::Context;
use super::edge::Endpoint;
use super::local_node::LocalNode;
use super::model::Model;
use super::profile::profile_device;
use coprof_core::error::{Error, Result};
use coprof_core::plan::{Problem, Range, Stretch, search, stretches};
use coprof_core::units::Micros;
use coprof_run::pipeline::{NodeProfile, ProfileRequest};

/// What it takes to measure on both nodes.
pub struct Nodes<'a> {
    /// The model that runs on both.
    pub model: &'a Model,
    /// This machine.
    pub device: &'a LocalNode,
    /// Where the edge is reached.
    pub edge: &'a Endpoint,
    /// Messages, the stop flag and the folder of results.
    pub context: &'a Context,
}

/// Measures the stages of the best plan whole, searches again, and so on, until the best plan has been measured or `plans`
/// of them have. The measured ranges stay in the scenario.
pub fn refine(mut scenario: Problem, plans: usize, nodes: &Nodes<'_>) -> Result<Problem> {
    for round in 0..plans {
        let best = search(&scenario)?.best.plan;
        let all = stretches(&scenario, &best)?;
        let missing: Vec<Stretch> = all.into_iter().filter(|stretch| !is_known(&scenario, stretch)).collect();
        if missing.is_empty() {
            nodes.context.say(format!("refined: the best plan's stages are measured, after {round} plans"));
            return Ok(scenario);
        }
        for node in 0..scenario.nodes.len() {
            let own: Vec<Stretch> = missing.iter().filter(|stretch| stretch.node == node).cloned().collect();
            if own.is_empty() {
                continue;
            }
            let measured = measure(node, own, nodes)?;
            let slowdown = scenario.nodes[node].emulated_slowdown.unwrap_or(1.0);
            let slowed = |range: Range| Range { time_us: range.time_us * slowdown, ..range };
            let ranges = measured.ranges.into_iter().map(slowed);
            scenario = scenario.with(|file| file.nodes[node].ranges.extend(ranges))?;
        }
    }
    if plans > 0 {
        nodes
            .context
            .say(format!("refined: {plans} plans measured; the best may still rest on sums of layers"));
    }
    Ok(scenario)
}

fn is_known(scenario: &Problem, stretch: &Stretch) -> bool {
    let same = |range: &Range| range.from == stretch.from && range.to == stretch.to;
    scenario.nodes[stretch.node].ranges.iter().any(same)
}

fn measure(node: usize, stretches: Vec<Stretch>, nodes: &Nodes<'_>) -> Result<NodeProfile> {
    let count = stretches.len();
    let ranges = stretches
        .into_iter()
        .map(|stretch| Range { from: stretch.from, to: stretch.to, time_us: Micros::ZERO })
        .collect();
    let request = ProfileRequest { ranges, ..ProfileRequest::default() };
    let bar = |place: &str| nodes.context.progress(&format!("stages of the best plan on {place}"));
    let profile = if node == 0 {
        let bar = bar("the device");
        profile_device(nodes.model, nodes.device, &request, &|share| bar.set(share), nodes.context)?
    } else {
        let mut peer = nodes.edge.connect_with(nodes.model)?;
        let bar = bar("the edge");
        peer.profile(&request, &mut |share| bar.set(share))?
    };
    if profile.ranges.len() != count {
        return Err(Error::peer("the edge measured no ranges; is it the same coprof?"));
    }
    Ok(profile)
}
