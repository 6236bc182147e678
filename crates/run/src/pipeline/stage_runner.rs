//! One node's share of a plan, task by task.

use std::collections::BTreeSet;

use crate::backend::Backend;
use coprof_core::codec::{Codec, TensorSpec};
use coprof_core::error::{Error, Result};
use coprof_core::model::{ExitId, Graph, Source};
use coprof_core::plan::{Crossing, NodeRoute, Route, Step, Threshold};

use super::task::{Answer, FrameSource};

/// What a node did with a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The sample left here.
    Left(Answer),
    /// It goes on to the next node; [`StageRunner::encode`] writes what crosses the link.
    Forward,
}

/// What a task starts from.
#[derive(Clone, Copy, Debug)]
pub enum StageInput<'a> {
    /// The network's input: node 0.
    Pixels(&'a [f32]),
    /// What the node before encoded.
    Payload(&'a [u8]),
}

/// Runs one node's part of a plan. Its buffers are reused from task to task.
pub struct StageRunner {
    /// Each with the tensors that are needed behind it.
    steps: Vec<(Step, Vec<Source>)>,
    receive: Option<Port>,
    send: Option<Port>,
    logits: Vec<f32>,
    /// How many numbers an answer has that is more than a class.
    numbers: usize,
}

/// One end of a link: the tensors that cross and their codec.
struct Port {
    frontier: Vec<Source>,
    codec: Codec,
    tensors: Vec<Vec<f32>>,
}

impl Port {
    fn new(graph: &Graph, crossing: &Crossing) -> Result<Self> {
        let specs = TensorSpec::of_frontier(graph, &crossing.frontier)?;
        Ok(Self {
            frontier: crossing.frontier.clone(),
            codec: Codec::new(crossing.encoding, &specs, crossing.calibration.as_ref())?,
            tensors: vec![Vec::new(); specs.len()],
        })
    }
}

impl StageRunner {
    /// For one node of a route through `graph`. Fails where an encoding needs a calibration and the plan has none that
    /// fits.
    pub fn new(graph: &Graph, node: &NodeRoute) -> Result<Self> {
        let port = |crossing: &Option<Crossing>| {
            crossing.as_ref().map(|crossing| Port::new(graph, crossing)).transpose()
        };
        let (receive, send) = (port(&node.receive)?, port(&node.send)?);
        let steps = node.steps.iter().cloned().zip(needed_behind(graph, node)).collect();
        Ok(Self { steps, receive, send, logits: Vec::new(), numbers: graph.answer_numbers() })
    }

    /// The most bytes that a payload for this node has; 0 for the first node.
    pub fn max_payload_bytes(&self) -> usize {
        self.receive.as_ref().map_or(0, |port| port.codec.max_payload_bytes())
    }

    /// Runs one task up to where its sample leaves or this node's part ends. With `forced_exit`, the sample leaves at
    /// that exit if this node tries it, whatever its confidence, and at no earlier one that would let it pass; every head
    /// on the way runs as ever.
    pub fn compute(
        &mut self,
        backend: &mut dyn Backend,
        input: StageInput<'_>,
        forced_exit: Option<ExitId>,
    ) -> Result<Outcome> {
        backend.clear();
        self.put(backend, input)?;
        for (step, needed) in &self.steps {
            backend.run_keeping(&step.layers, needed)?;
            let Some((exit, threshold)) = step.exit else { continue };
            let logits = backend.graph().exits[exit.0].logits;
            backend.get(Source::Layer(logits), &mut self.logits)?;
            let found = backend.graph().confidence(&self.logits);
            let leaves = match forced_exit {
                Some(forced) => exit == forced || threshold == Threshold::Always,
                None => threshold.passes(found.entropy),
            };
            if leaves {
                let (class, entropy, top) = (found.class, found.entropy, found.top);
                return Ok(Outcome::Left(Answer { exit, class, entropy, top, right: None }));
            }
        }
        match self.send {
            Some(_) => Ok(Outcome::Forward),
            None => Err(Error::failed(
                "a sample passed the last exit of the plan; its last node must end with 'always'",
            )),
        }
    }

    /// The numbers of the last answer, after [`Outcome::Left`]; none where its class is all.
    pub fn numbers(&self) -> &[f32] {
        &self.logits[..self.numbers.min(self.logits.len())]
    }

    fn put(&mut self, backend: &mut dyn Backend, input: StageInput<'_>) -> Result<()> {
        match (input, &mut self.receive) {
            (StageInput::Pixels(pixels), None) => backend.put(Source::Input, pixels),
            (StageInput::Payload(payload), Some(port)) => {
                port.codec.decode(payload, &mut port.tensors)?;
                let tensors = port.frontier.iter().zip(&port.tensors);
                tensors.into_iter().try_for_each(|(&tensor, values)| backend.put(tensor, values))
            }
            (StageInput::Pixels(_), Some(_)) => Err(Error::failed("this node takes a payload, found pixels")),
            (StageInput::Payload(_), None) => Err(Error::failed("this node takes pixels, found a payload")),
        }
    }

    /// Overwrites `payload` with what crosses to the next node, after [`Outcome::Forward`].
    pub fn encode(&mut self, backend: &mut dyn Backend, payload: &mut Vec<u8>) -> Result<()> {
        let Some(port) = &mut self.send else {
            return Err(Error::failed("this node sends nothing: every sample leaves here"));
        };
        for (&tensor, values) in port.frontier.iter().zip(&mut port.tensors) {
            backend.get(tensor, values)?;
        }
        match port.tensors.as_slice() {
            // Nearly every cut has one tensor: no list of references is built for it.
            [tensor] => port.codec.encode(&[tensor], payload)?,
            tensors => {
                let tensors: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
                port.codec.encode(&tensors, payload)?;
            }
        }
        Ok(())
    }
}

/// Per step of a node, what is still needed behind it: by the next steps, by its exit, and to be sent.
fn needed_behind(graph: &Graph, node: &NodeRoute) -> Vec<Vec<Source>> {
    let sent: &[Source] = node.send.as_ref().map_or(&[], |crossing| &crossing.frontier);
    let needed = |at: usize| {
        let later = node.steps[at + 1..].iter().flat_map(|step| step.layers.iter().copied());
        let logits = node.steps[at].exit.map(|(exit, _)| Source::Layer(graph.exits[exit.0].logits));
        let all: BTreeSet<Source> = graph.read_by(later).chain(logits).chain(sent.iter().copied()).collect();
        all.into_iter().collect()
    };
    (0..node.steps.len()).map(needed).collect()
}

/// Runs every frame once through all nodes of `route` in this process and on this thread, encoding and decoding as over the
/// links: what a replay's answers must agree with. `backends` holds one per node; `step` is told before each frame how many
/// are done, and ends the run with its error.
pub fn run_in_process(
    route: &Route,
    backends: &mut [Box<dyn Backend>],
    frames: &dyn FrameSource,
    step: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Answer>> {
    if backends.len() != route.nodes.len() {
        let (nodes, found) = (route.nodes.len(), backends.len());
        return Err(Error::failed(format!(
            "the plan needs one backend for each of {nodes} nodes, found {found}"
        )));
    }
    let mut runners: Vec<StageRunner> = route
        .nodes
        .iter()
        .zip(&*backends)
        .map(|(node, backend)| StageRunner::new(backend.graph(), node))
        .collect::<Result<_>>()?;
    let (mut pixels, mut payload) = (Vec::new(), Vec::new());
    let mut answers = Vec::with_capacity(frames.len());
    for frame in 0..frames.len() {
        step(frame)?;
        frames.pixels(frame, &mut pixels);
        let forced = frames.forced_exit(frame);
        for (k, (runner, backend)) in runners.iter_mut().zip(&mut *backends).enumerate() {
            let input = if k == 0 { StageInput::Pixels(&pixels) } else { StageInput::Payload(&payload) };
            match runner.compute(&mut **backend, input, forced)? {
                Outcome::Left(answer) => {
                    answers.push(answer.judged(frames, frame, runner.numbers()));
                    break;
                }
                Outcome::Forward => runner.encode(&mut **backend, &mut payload)?,
            }
        }
    }
    Ok(answers)
}
