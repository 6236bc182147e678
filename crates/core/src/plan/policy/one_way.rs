//! Plans under which every sample goes the same way: one exit, at which all leave. Most baselines choose among these.

use super::super::plan::{LinkPlan, Plan, Threshold};
use super::super::scenario::EncodedFrontier;
use super::super::script::Script;
use super::super::space::{EMPTY, Space};
use crate::codec::{Element, Encoding};

/// A plan of one way, weighed. It respects every limit of the nodes.
pub(super) struct OneWay {
    pub plan: Plan,
    /// Microseconds per stage: node, link, node, and so on.
    pub stages: Vec<f64>,
    travel: f64,
}

impl OneWay {
    /// `None` where the plan is not allowed or does not fit into a node.
    pub fn new(space: &Space<'_>, plan: Plan) -> Option<Self> {
        let script = Script::new(space, &plan).ok()?;
        let mut limits = space.scenario.nodes.iter().zip(&script.memory_bytes);
        if !limits.all(|(node, &bytes)| node.memory_bytes.is_none_or(|limit| bytes <= limit as f64)) {
            return None;
        }
        // All samples go this way, so one stands for them.
        let way = script.follow(0).ok()?;
        let stages = way.service.iter().map(|time| time.0).collect();
        Some(Self { plan, stages, travel: way.travel.0 })
    }

    pub fn latency(&self) -> f64 {
        self.stages.iter().sum::<f64>() + self.travel
    }

    pub fn interval(&self) -> f64 {
        self.stages.iter().copied().fold(0.0, f64::max)
    }

    /// The allowed plan with the least figure; of equal ones the first.
    pub fn least(
        space: &Space<'_>,
        plans: impl IntoIterator<Item = Plan>,
        figure: impl Fn(&Self) -> f64,
    ) -> Option<Self> {
        let allowed = plans.into_iter().filter_map(|plan| Self::new(space, plan));
        allowed.min_by(|a, b| figure(a).total_cmp(&figure(b)))
    }
}

/// Every sample leaves at `exit`, tried by `node`.
fn all_leave_at(space: &Space<'_>, exit: usize, node: usize) -> Vec<(Threshold, usize)> {
    let threshold = |site| if site == exit { Threshold::Always } else { Threshold::Never };
    (0..space.needs.len()).map(|site| (threshold(site), node)).collect()
}

/// The network as far as `exit`, on node 0 alone.
fn stay(space: &Space<'_>, exit: usize) -> Plan {
    let nodes = space.scenario.nodes.len();
    space.plan(&vec![space.needs[exit]; nodes], &vec![None; nodes - 1], &all_leave_at(space, exit, 0))
}

pub(super) fn device_only(space: &Space<'_>) -> Plan {
    stay(space, space.needs.len() - 1)
}

/// Whether a row is one that planners without lossy encodings know: features as they are, the input exactly, with or without
/// a lossless coder (pictures are sent compressed).
pub(super) fn is_raw(row: &EncodedFrontier) -> bool {
    if row.cut.is_empty() { is_exact_input(row.encoding) } else { row.encoding == F32 }
}

const F32: Encoding = Encoding::plain(Element::F32);

/// Whether an encoding brings the input over as it came.
pub(super) fn is_exact_input(encoding: Encoding) -> bool {
    encoding.is_lossless()
}

/// The whole network on the last node; every link takes the input in the exact form that is over it soonest.
pub(super) fn edge_only(space: &Space<'_>) -> Option<Plan> {
    let scenario = space.scenario;
    let last = scenario.links.len();
    let (mut cuts, exit) = (vec![EMPTY; last], space.needs.len() - 1);
    cuts.push(space.needs[exit]);
    let time = |link: usize, row: &EncodedFrontier| {
        row.encode_us[link].0 + space.link_time(link, row) + row.decode_us[link + 1].0
    };
    let of_link = |link: usize| {
        let rows = (0..scenario.encodings.len()).filter(|&row| {
            let row = &scenario.encodings[row];
            row.cut.is_empty() && is_raw(row)
        });
        rows.min_by(|&a, &b| {
            time(link, &scenario.encodings[a]).total_cmp(&time(link, &scenario.encodings[b]))
        })
    };
    let rows: Option<Vec<usize>> = (0..last).map(of_link).collect();
    let rows: Vec<Option<usize>> = rows?.into_iter().map(Some).collect();
    Some(space.plan(&cuts, &rows, &all_leave_at(space, exit, last)))
}

/// The network as far as `exit` on two nodes: all on the device, then cut wherever the scenario has a row that `knows`.
pub(super) fn plans(space: &Space<'_>, exit: usize, knows: impl Fn(&EncodedFrontier) -> bool) -> Vec<Plan> {
    let needs = space.set(space.needs[exit]);
    let mut plans = vec![stay(space, exit)];
    for path in &space.paths {
        let cut = space.resumes[path.resume].cut();
        if needs.covers(space.set(cut)) {
            let known = path.rows.iter().filter(|&&row| knows(&space.scenario.encodings[row]));
            plans.extend(known.map(|&row| {
                space.plan(&[cut, space.needs[exit]], &[Some(row)], &all_leave_at(space, exit, 1))
            }));
        }
    }
    plans
}

/// What crosses the first link.
pub(super) fn crossing(plan: &Plan) -> Option<&LinkPlan> {
    plan.links.first().and_then(Option::as_ref)
}
