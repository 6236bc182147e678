//! How fast both nodes are at this moment: the whole model on each, alone or at the same time.

use std::time::Duration;

use super::Context;
use super::frames::timing_inputs;
use super::local_node::LocalNode;
use coprof_core::error::{Error, Result};
use coprof_core::units::Micros;
use coprof_run::backend::Backend;
use coprof_run::measure::{Budget, Samples, Watch, profile_whole};
use coprof_run::pipeline::{Peer, ProfileRequest};

/// Both nodes with the model loaded.
pub struct Gauge<'a> {
    pub device: &'a LocalNode,
    pub context: &'a Context,
    pub backend: &'a mut (dyn Backend + 'a),
    /// `None` where no task crosses the link.
    pub peer: Option<&'a mut Peer>,
}

/// What the whole model takes on each node, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    pub device: Micros,
    pub edge: Option<Micros>,
}

/// Both nodes' speeds at a moment: of each alone, and beside the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pub alone: Speeds,
    pub together: Speeds,
}

impl Gauge<'_> {
    /// One node after the other and both at the same time, each for so long.
    pub fn moment(&mut self, time: Duration) -> Result<Moment> {
        let alone = self.in_turn(time)?;
        Ok(Moment { alone, together: self.together(time)? })
    }

    /// Both nodes for so long, at the same time: as in a full pipeline.
    pub fn together(&mut self, time: Duration) -> Result<Speeds> {
        let (device, context, backend) = (self.device, self.context, &mut *self.backend);
        let peer = self.peer.as_deref_mut();
        std::thread::scope(|scope| {
            let here = scope.spawn(move || on_device(device, context, backend, time));
            let edge = peer.map(|peer| on_edge(peer, time)).transpose();
            let here = here.join().unwrap_or_else(|_| Err(Error::failed("the measuring thread broke down")));
            Ok(Speeds { device: here?.mean(), edge: edge?.map(|edge| edge.mean()) })
        })
    }

    /// One node after the other, each for so long.
    pub fn in_turn(&mut self, time: Duration) -> Result<Speeds> {
        let device = on_device(self.device, self.context, self.backend, time)?.mean();
        let edge = self.peer.as_deref_mut().map(|peer| on_edge(peer, time)).transpose()?;
        Ok(Speeds { device, edge: edge.map(|edge| edge.mean()) })
    }
}

fn on_device(
    device: &LocalNode,
    context: &Context,
    backend: &mut dyn Backend,
    time: Duration,
) -> Result<Samples> {
    let inputs = timing_inputs(backend.graph());
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let budget = Budget { min_runs: 3, min_time: time, max_runs: 1000 };
    device.on_thread(|_| {
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, context.stop());
        profile_whole(backend, &*device.clock(), &inputs, budget, &mut watch)
    })
}

fn on_edge(peer: &mut Peer, time: Duration) -> Result<Samples> {
    let request = ProfileRequest { whole_for_us: Some(time.into()), ..ProfileRequest::default() };
    let profile = peer.profile(&request, &mut |_| ())?;
    profile.whole.ok_or_else(|| Error::peer("the edge measured no whole model; is it the same coprof?"))
}
