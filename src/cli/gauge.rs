//! How fast both nodes are at this moment: the whole model on each, by itself, at the same time, and after pauses.

use std::time::Duration;

use super::device::Device;
use super::frames::timing_inputs;
use super::profile::{NodeProfile, ProfileRequest, WholeRequest};
use super::stop;
use crate::error::{Error, Result};
use crate::measure::{Budget, Samples, Watch, profile_whole};
use crate::model::Source;
use crate::pipeline::{Pace, Peer};
use crate::runtime::Backend;
use crate::units::Micros;

/// Both nodes with the model loaded.
pub struct Gauge<'a> {
    pub device: &'a Device,
    pub backend: &'a mut (dyn Backend + 'a),
    /// `None` where no task crosses the link.
    pub peer: Option<&'a mut Peer>,
}

/// So often an emulated device runs the whole model in a round.
const PACED_RUNS: usize = 4;

/// What the whole model takes on each node, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    pub device: Micros,
    pub edge: Option<Micros>,
}

/// What happens to a node's times in a full pipeline and after pauses: see `busy_factor` and `pause_factor` of a scenario's node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    pub busy: f64,
    pub pause: f64,
}


/// Windows that are compared with each other are short and take turns, since hosts change their speed by the second.
const ROUNDS: usize = 5;
const WINDOW: Duration = Duration::from_millis(60);
/// As long as a device usually waits for an answer: by then others have used the caches.
const PAUSE: Duration = Duration::from_millis(5);

impl Gauge<'_> {
    /// Both nodes for so long, at the same time: as in a full pipeline.
    pub fn together(&mut self, time: Duration) -> Result<Speeds> {
        let (device, backend) = (self.device, &mut *self.backend);
        let peer = self.peer.as_deref_mut();
        std::thread::scope(|scope| {
            let here = scope.spawn(move || on_device(device, backend, time, Duration::ZERO));
            let edge = peer.map(|peer| on_edge(peer, time, Duration::ZERO)).transpose();
            let here = here.join().unwrap_or_else(|_| Err(Error::failed("the measuring thread broke down")));
            Ok(Speeds { device: here?.mean(), edge: edge?.map(|edge| edge.mean()) })
        })
    }

    /// The device after pauses, at its own pace: an emulated one is warm again after the first of its repetitions.
    fn device_paused(&mut self, pace: Pace) -> Result<Vec<Micros>> {
        if !pace.is_emulated() {
            return Ok(on_device(self.device, self.backend, WINDOW, PAUSE)?.raw().to_vec());
        }
        let (device, backend) = (self.device, &mut *self.backend);
        let input = timing_inputs(backend.graph()).swap_remove(0);
        let trunk = backend.graph().trunk();
        device.on_thread(|_| {
            let clock = device.clock();
            let mut times = Vec::with_capacity(PACED_RUNS);
            for _ in 0..PACED_RUNS {
                clock.sleep_until(clock.now() + PAUSE);
                let ((), time) = pace.stretch(&*clock, || {
                    backend.clear();
                    backend.put(Source::Input, &input)?;
                    backend.run_keeping(&trunk, &[])
                })?;
                times.push(Micros::from(time.span) * (1.0 / pace.slowdown()));
            }
            Ok(times)
        })
    }

    /// The factors of device and edge. Where they are on the same host, each is measured beside the other, too.
    pub fn factors(&mut self, same_host: bool, pace: Pace) -> Result<[Factors; 2]> {
        let mut alone = [const { Vec::new() }; 2];
        let mut together = [const { Vec::new() }; 2];
        let mut paused = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            alone[0].extend(on_device(self.device, self.backend, WINDOW, Duration::ZERO)?.raw());
            paused[0].extend(self.device_paused(pace)?);
            if let Some(peer) = self.peer.as_deref_mut() {
                alone[1].extend(on_edge(peer, WINDOW, Duration::ZERO)?.raw());
                paused[1].extend(on_edge(peer, WINDOW, PAUSE)?.raw());
                if same_host {
                    let speeds = self.together(WINDOW)?;
                    together[0].push(speeds.device);
                    together[1].extend(speeds.edge);
                }
            }
        }
        Ok([0, 1].map(|node| Factors {
            busy: factor(&together[node], &alone[node]),
            pause: factor(&paused[node], &alone[node]),
        }))
    }
}

/// How many times as long the ones take on average; 1 where nothing was measured, and never less: neither company nor a pause
/// makes a processor faster.
fn factor(these: &[Micros], those: &[Micros]) -> f64 {
    let mean = |times: &[Micros]| Samples::new(times.to_vec()).map(|times| times.mean());
    match (mean(these), mean(those)) {
        (Some(these), Some(those)) if those > Micros::ZERO => (these / those).max(1.0),
        _ => 1.0,
    }
}

fn on_device(device: &Device, backend: &mut dyn Backend, time: Duration, pause: Duration) -> Result<Samples> {
    let inputs = timing_inputs(backend.graph());
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let budget = Budget { min_runs: 3, min_time: time, max_runs: 1000 };
    device.on_thread(|_| {
        let mut ignore = |_| ();
        let mut watch = Watch::new(&mut ignore, &stop::asked);
        profile_whole(backend, &*device.clock(), &inputs, budget, pause, &mut watch)
    })
}

fn on_edge(peer: &mut Peer, time: Duration, pause: Duration) -> Result<Samples> {
    let whole = Some(WholeRequest { time_us: time.into(), pause_us: pause.into() });
    let profile = ask(peer, &ProfileRequest { whole, ..ProfileRequest::default() }, &mut |_| ())?;
    profile.whole.ok_or_else(|| Error::peer("the edge measured no whole model; is it the same coprof?"))
}

/// Has the edge measure.
pub fn ask(peer: &mut Peer, request: &ProfileRequest, progress: &mut dyn FnMut(f64)) -> Result<NodeProfile> {
    let profile = peer.profile(&serde_json::json!(request), progress)?;
    serde_json::from_value(profile).map_err(|error| {
        Error::peer(format!("the edge's profile makes no sense ({error}); is it the same coprof?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_one_of_means_and_at_least_one() {
        let times = |values: &[f64]| values.iter().copied().map(Micros).collect::<Vec<_>>();
        assert_eq!(factor(&times(&[30.0, 10.0]), &times(&[10.0])), 2.0);
        assert_eq!(factor(&times(&[9.0]), &times(&[10.0])), 1.0);
        assert_eq!(factor(&[], &times(&[10.0])), 1.0);
    }
}
