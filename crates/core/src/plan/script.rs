//! A plan against a scenario, step by step: what each stage does with a task, in order, until its sample leaves.

use super::memory::Holds;
use super::outcomes::Outcomes;
use super::plan::{Plan, Threshold};
use super::problem::Problem;
use super::space::{Path, Space};
use crate::error::{Error, Result};
use crate::model::LayerSet;
use crate::units::Micros;

/// What happens next to a task.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// A stage works on it.
    Work { stage: usize, time: Micros },
    /// It travels without occupying a stage; less than no time where a message that is alone takes less than in a stream.
    Travel(Micros),
    /// Its sample leaves here if the exit is sure enough.
    Try { exit: usize, threshold: Threshold, outcomes: &'a Outcomes },
}

/// All that a plan does under a scenario. Stage `2 k` is node `k`, stage `2 k + 1` the link behind it.
pub(super) struct Script<'a> {
    pub steps: Vec<Step<'a>>,
    /// Per link the bytes of a message, where one crosses.
    pub message_bytes: Vec<Option<f64>>,
    /// Per node what it must hold.
    pub memory_bytes: Vec<f64>,
    /// What each node runs in one go, by the cuts between which it lies.
    pub stretches: Vec<(usize, LayerSet, LayerSet)>,
}

/// A stretch of layers that a node runs in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The node.
    pub node: usize,
    /// The tips of the cut behind which it starts.
    pub from: Vec<String>,
    /// The tips of the cut with which it ends.
    pub to: Vec<String>,
}

/// Every stretch of layers that a plan has a node run between receiving, trying exits and sending.
pub fn stretches(scenario: &Problem, plan: &Plan) -> Result<Vec<Stretch>> {
    let space = Space::new(scenario)?;
    let script = Script::new(&space, plan)?;
    let named = |(node, from, to): (usize, LayerSet, LayerSet)| Stretch {
        node,
        from: space.names(&from),
        to: space.names(&to),
    };
    Ok(script.stretches.into_iter().map(named).collect())
}

/// A sample's own passage: what each stage spends on it, what it travels besides, and where it leaves.
pub(super) struct Passage {
    pub service: Vec<Micros>,
    pub travel: Micros,
    pub exit: usize,
    pub right: bool,
    /// How many stages it visits, from the first one on.
    pub stages: usize,
}

impl<'a> Script<'a> {
    /// Errors when the plan names what the scenario does not have, or what a node may not do.
    pub fn new(space: &Space<'a>, plan: &Plan) -> Result<Self> {
        check_names(space, plan)?;
        let nodes = space.scenario.nodes.len();
        let mut writer = Writer {
            space,
            plan,
            script: Self {
                steps: Vec::new(),
                message_bytes: vec![None; nodes - 1],
                memory_bytes: vec![0.0; nodes],
                stretches: Vec::new(),
            },
            from: LayerSet::default(),
            lossy: None,
        };
        let mut received = 0.0;
        for node in 0..nodes {
            let over = writer.node(node, received)?;
            if over {
                return Ok(writer.script);
            }
            received = writer.cross(node)?;
        }
        Err(Error::failed("the plan ends before every sample has left"))
    }

    /// Follows one sample.
    pub fn follow(&self, sample: usize) -> Result<Passage> {
        let stages = 2 * self.memory_bytes.len() - 1;
        let mut passage = Passage {
            service: vec![Micros::ZERO; stages],
            travel: Micros::ZERO,
            exit: 0,
            right: false,
            stages: 1,
        };
        for step in &self.steps {
            match *step {
                Step::Work { stage, time } => {
                    passage.service[stage] += time;
                    passage.stages = passage.stages.max(stage + 1);
                }
                Step::Travel(time) => passage.travel += time,
                Step::Try { exit, threshold, outcomes } if threshold.passes(outcomes.entropy(sample)) => {
                    (passage.exit, passage.right) = (exit, outcomes.right().contains(sample));
                    return Ok(passage);
                }
                Step::Try { .. } => (),
            }
        }
        Err(Error::failed("the plan ends before every sample has left"))
    }
}

fn check_names(space: &Space<'_>, plan: &Plan) -> Result<()> {
    let scenario = space.scenario;
    let names = plan.exits.iter().map(|exit| &exit.name);
    if plan.model != scenario.model.sha256 || !names.eq(scenario.exits.iter().map(|exit| &exit.name)) {
        return Err(Error::failed(format!(
            "the plan is for model {}, the scenario for {} ({}); run `coprof optimize` again",
            plan.model.short(),
            scenario.model.sha256.short(),
            scenario.model.name
        )));
    }
    let expected = scenario.nodes.len();
    if plan.nodes.len() != expected || plan.links.len() + 1 != expected {
        return Err(Error::failed(format!(
            "a plan for {expected} nodes was expected, found {} nodes and {} links",
            plan.nodes.len(),
            plan.links.len()
        )));
    }
    Ok(())
}

struct Writer<'s, 'a> {
    space: &'s Space<'a>,
    plan: &'s Plan,
    script: Script<'a>,
    /// The cut behind which the next node takes over.
    from: LayerSet,
    /// The lossy path that was crossed.
    lossy: Option<&'s Path<'a>>,
}

impl<'a> Writer<'_, 'a> {
    /// Writes what a node does; whether every sample has left after it.
    fn node(&mut self, node: usize, received: f64) -> Result<bool> {
        let space = self.space;
        let spec = &space.scenario.nodes[node];
        self.work(2 * node, spec.task_us);
        self.script.steps.push(Step::Travel(spec.pause_us));
        let end = space.cut(&self.plan.nodes[node].cut)?;
        let mut at = self.from.clone();
        let mut over = false;
        let mut tried_here = Vec::new();
        for (exit, tried) in self.plan.exits.iter().enumerate() {
            if !tried.threshold.is_on() || tried.node != node {
                continue;
            }
            let needs = space.set(space.needs[exit]);
            let known = match self.lossy {
                Some(path) => path.outcomes(space.scenario, exit),
                None => Some(&space.scenario.outcomes[exit]),
            };
            let (Some(outcomes), true) = (known, space.can_try(&self.from, exit)) else {
                return Err(Error::failed(format!(
                    "exit '{}' cannot be tried by node '{}' in this plan",
                    tried.name, space.scenario.nodes[node].name
                )));
            };
            let there = at.union(needs);
            self.run(node, &at, &there)?;
            self.work(2 * node, space.scenario.nodes[node].exits_us[exit]);
            tried_here.push(exit);
            at = there;
            self.script.steps.push(Step::Try { exit, threshold: tried.threshold, outcomes });
            if tried.threshold == Threshold::Always {
                over = true;
                break;
            }
        }
        let sends = if over { None } else { self.plan.links.get(node).and_then(Option::as_ref) };
        if !over {
            let stop = at.union(&end);
            self.run(node, &at, &stop)?;
            at = stop;
        }
        let resume = sends.map(|link| space.cut(&link.resume)).transpose()?;
        let sent = match (&resume, sends) {
            (Some(cut), Some(link)) => {
                let (_, row) = space.find_row(cut, link.encoding)?;
                space.scenario.encodings[row].bytes
            }
            _ => 0.0,
        };
        let messages = received + sent;
        let holds = Holds { from: &self.from, to: &at, sends: resume.as_ref(), exits: &tried_here, messages };
        self.script.memory_bytes[node] = holds.bytes(space);
        if let Some(cut) = resume
            && !(at.covers(&cut) && cut.covers(&self.from))
        {
            return Err(Error::failed(format!(
                "node '{}' is to send what it does not have: its resume cut must lie within its cut",
                space.scenario.nodes[node].name
            )));
        }
        Ok(over)
    }

    /// Writes the crossing behind a node; the bytes of its message.
    fn cross(&mut self, node: usize) -> Result<f64> {
        let space = self.space;
        let Some(Some(link)) = self.plan.links.get(node) else {
            return Err(Error::failed("the plan neither ends here nor crosses the link"));
        };
        let resume = space.cut(&link.resume)?;
        let (path, row) = space.find_row(&resume, link.encoding)?;
        if path.lossy.is_some() && self.lossy.replace(path).is_some() {
            return Err(Error::failed(
                "the plan has two lossy encodings, whose joint effect has not been measured",
            ));
        }
        let row = &space.scenario.encodings[row];
        let (stream, lone) = (Micros(space.link_time(node, row)), Micros(space.lone_time(node, row)));
        self.work(2 * node, row.encode_us[node]);
        self.work(2 * node + 1, stream);
        self.script.steps.push(Step::Travel(space.scenario.links[node].transit() + (lone - stream)));
        self.work(2 * node + 2, row.decode_us[node + 1]);
        self.script.message_bytes[node] = Some(row.bytes);
        self.from = resume;
        Ok(row.bytes)
    }

    fn run(&mut self, node: usize, from: &LayerSet, to: &LayerSet) -> Result<()> {
        let spec = &self.space.scenario.nodes[node];
        let own = || to.iter().filter(|&layer| !from.contains(layer));
        let name = |layer: usize| &self.space.scenario.layers[layer].name;
        if let Some(layer) = own().find(|&layer| spec.may_not_run.contains(name(layer))) {
            return Err(Error::failed(format!("node '{}' may not run layer '{}'", spec.name, name(layer))));
        }
        let time = match (self.space.id(from), self.space.id(to)) {
            (Some(from), Some(to)) => Micros(self.space.run_time(node, from, to)),
            _ => own().map(|layer| spec.layers_us[layer]).sum(),
        };
        if from != to {
            self.script.stretches.push((node, from.clone(), to.clone()));
        }
        self.work(2 * node, time);
        Ok(())
    }

    fn work(&mut self, stage: usize, time: Micros) {
        self.script.steps.push(Step::Work { stage, time });
    }
}
