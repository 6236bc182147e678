//! A plan resolved against its graph: what each node does with one task, step by step.

use crate::codec::{Calibration, Encoding};
use crate::error::{Error, Result};
use crate::model::{Cut, ExitId, Graph, LayerId, Source};

use super::plan::{ExitPlan, Plan, Threshold};

/// Run `layers`, then try the exit if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Trunk layers, then the exit's head, each in topological order.
    pub layers: Vec<LayerId>,
    /// The exit to try after them, with its threshold.
    pub exit: Option<(ExitId, Threshold)>,
}

/// What crosses a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// The tensors, each sent once, in this order.
    pub frontier: Vec<Source>,
    /// How they are written.
    pub encoding: Encoding,
    /// What the encoding needs to know of them.
    pub calibration: Option<Calibration>,
}

/// What one node does with a task that reaches it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRoute {
    /// What it receives; `None` for node 0, which holds the input.
    pub receive: Option<Crossing>,
    /// What it runs. A sample that leaves at an exit skips the rest.
    pub steps: Vec<Step>,
    /// What it sends for a sample that has not left; `None` where every sample leaves by its last step.
    pub send: Option<Crossing>,
}

/// A plan resolved against a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Per node what it does. Nodes that no sample can reach have no steps.
    pub nodes: Vec<NodeRoute>,
}

impl Route {
    /// Resolves `plan`, checking everything that a hostile or hand-written plan can get wrong.
    pub fn new(graph: &Graph, plan: &Plan) -> Result<Self> {
        check_shape(graph, plan)?;
        let cuts = plan
            .nodes
            .iter()
            .map(|node| Cut::from_tip_names(graph, &node.cut))
            .collect::<Result<Vec<_>>>()?;
        let resumes = plan
            .links
            .iter()
            .map(|link| link.as_ref().map(|link| Cut::from_tip_names(graph, &link.resume)).transpose())
            .collect::<Result<Vec<_>>>()?;
        let mut nodes = Vec::with_capacity(cuts.len());
        let mut receive = None;
        let mut finished = false;
        for (k, cut) in cuts.iter().enumerate() {
            let done = resumed_at(&resumes, k);
            let (steps, all_left) =
                if finished { (Vec::new(), true) } else { node_steps(graph, plan, k, &done, cut)? };
            finished |= all_left;
            let send = if finished { None } else { Some(crossing(graph, plan, &resumes, k, cut)?) };
            nodes.push(NodeRoute { receive: receive.take(), steps, send: send.clone() });
            receive = send;
        }
        if !finished {
            return Err(Error::failed(
                "the plan ends before every sample has left: the last node must reach the final exit",
            ));
        }
        Ok(Self { nodes })
    }
}

fn check_shape(graph: &Graph, plan: &Plan) -> Result<()> {
    if plan.model != graph.hash {
        return Err(Error::failed(format!(
            "the plan is for model {}, this is {} ({}); run `coprof optimize` for this model",
            plan.model.short(),
            graph.hash.short(),
            graph.name
        )));
    }
    if plan.nodes.is_empty() || plan.links.len() + 1 != plan.nodes.len() {
        return Err(Error::failed(format!(
            "a plan has one link fewer than nodes; found {} nodes and {} links",
            plan.nodes.len(),
            plan.links.len()
        )));
    }
    let places: Vec<_> = plan.exits.iter().map(|exit| graph.find_exit(&exit.name)).collect();
    let in_order = places.is_sorted_by(|a, b| a.is_some() && a < b);
    if !in_order || places.last() != Some(&Some(graph.final_exit())) {
        let known: Vec<&str> = graph.exits.iter().map(|exit| exit.name.as_str()).collect();
        return Err(Error::failed(format!(
            "a plan for {} lists its exits in this order, and at least the last: {}",
            graph.name,
            known.join(", ")
        )));
    }
    Ok(())
}

/// The steps of node `k`, which starts with `done` behind it and ends with `cut`, and whether every sample has left
/// after them.
fn node_steps(graph: &Graph, plan: &Plan, k: usize, done: &Cut, cut: &Cut) -> Result<(Vec<Step>, bool)> {
    let mut have = done.clone();
    let mut steps = Vec::new();
    for (id, exit) in exits(graph, plan).filter(|(_, exit)| exit.threshold.is_on() && exit.node == k) {
        let needed = Cut::needed_by(graph, id);
        if !cut.covers(&needed) {
            return Err(Error::failed(format!(
                "node {k} is to try exit '{}' but stops before the layers that it needs",
                exit.name
            )));
        }
        let mut layers = needed.layers_beyond(&have);
        if !done.can_try(graph, &done.frontier(graph, &tried_from(graph, plan, k)), id) {
            return Err(Error::failed(format!(
                "exit '{}' needs tensors that node {k} does not receive",
                exit.name
            )));
        }
        layers.extend(graph.head(id));
        have = have.union(&needed);
        steps.push(Step { layers, exit: Some((id, exit.threshold)) });
        if exit.threshold == Threshold::Always {
            return Ok((steps, true));
        }
    }
    let rest = cut.layers_beyond(&have);
    if !rest.is_empty() {
        steps.push(Step { layers: rest, exit: None });
    }
    Ok((steps, false))
}

/// The exits that the plan lists.
fn exits<'p>(graph: &Graph, plan: &'p Plan) -> impl Iterator<Item = (ExitId, &'p ExitPlan)> {
    plan.exits.iter().filter_map(|exit| Some((graph.find_exit(&exit.name)?, exit)))
}

/// The exits that node `k` or a later one tries.
fn tried_from(graph: &Graph, plan: &Plan, k: usize) -> Vec<ExitId> {
    let later = |exit: &ExitPlan| exit.threshold.is_on() && exit.node >= k;
    exits(graph, plan).filter(|(_, exit)| later(exit)).map(|(id, _)| id).collect()
}

/// Where node `k` takes over: after the resume cut of the link before it.
fn resumed_at(resumes: &[Option<Cut>], k: usize) -> Cut {
    k.checked_sub(1).and_then(|link| resumes[link].clone()).unwrap_or_default()
}

fn crossing(graph: &Graph, plan: &Plan, resumes: &[Option<Cut>], k: usize, cut: &Cut) -> Result<Crossing> {
    let (Some(Some(resume)), Some(Some(link))) = (resumes.get(k), plan.links.get(k)) else {
        return Err(Error::failed(
            "the plan ends before every sample has left: the last node must reach the final exit",
        ));
    };
    if !cut.covers(resume) || !resume.covers(&resumed_at(resumes, k)) {
        return Err(Error::failed(format!(
            "link {k} resumes outside what node {k} has: its resume cut must lie within its cut"
        )));
    }
    let frontier = resume.frontier(graph, &tried_from(graph, plan, k + 1));
    link.encoding.check_frontier(&frontier)?;
    Ok(Crossing { frontier, encoding: link.encoding, calibration: link.calibration.clone() })
}
