//! Codec times: reading a frontier out and writing it, and reading it back in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::budget::Budget;
use super::sampler::{Disturbance, Sampler};
use super::stats::Samples;
use super::watch::Watch;
use crate::backend::Backend;
use coprof_core::clock::Clock;
use coprof_core::codec::{Calibration, Calibrator, Codec, Encoding, TensorSpec};
use coprof_core::error::{Error, Result};
use coprof_core::model::{LayerId, Source};

/// A frontier and how to write it.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecRequest {
    /// The tensors that cross, in this order.
    pub frontier: Vec<Source>,
    /// How they are written.
    pub encoding: Encoding,
}

/// What [`profile_codecs`] measured for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecProfile {
    /// The request.
    pub request: CodecRequest,
    /// Getting the tensors from the backend and writing the payload.
    pub encode: Samples,
    /// Reading the payload and putting the tensors into the backend.
    pub decode: Samples,
    /// Mean size of the payload over the inputs.
    pub bytes_mean: f64,
    /// How many timings were taken, and set aside.
    pub disturbance: Disturbance,
}

/// What [`profile_codecs`] measured.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecProfiles {
    /// In the order of the requests.
    pub codecs: Vec<CodecProfile>,
    /// The whole trunk in one call, every now and then while codecs were measured, in order: how the node's speed moved
    /// meanwhile. Absent where codecs were measured too fast to tell.
    pub whole: Option<Samples>,
}

/// At least so many are timed one after another, …
const RUNS_A_ROUND: usize = 2;
/// … and more until so much time has passed, …
const TIME_A_ROUND: Duration = Duration::from_micros(300);
/// … but no more than these.
const MOST_A_ROUND: usize = 10;

/// So often the whole trunk runs between codecs.
const WHOLE_EVERY: Duration = Duration::from_millis(50);

/// Times every request on real tensors: the network runs once for each of `inputs`, then rounds over all requests follow,
/// each with the next input, until every request has met the budget with its own encoding and decoding time. Requests that
/// have are left out of later rounds. What an encoding needs to know of its frontier it learns from these inputs: whatever it
/// learns, it has as much to do.
pub fn profile_codecs(
    backend: &mut dyn Backend,
    clock: &dyn Clock,
    requests: &[CodecRequest],
    inputs: &[&[f32]],
    budget: Budget,
    watch: &mut Watch<'_>,
) -> Result<CodecProfiles> {
    if inputs.is_empty() {
        return Err(Error::failed("profiling needs at least one input"));
    }
    let mut speed = Speed::new(backend, clock);
    let kept = run_all(backend, requests, inputs, watch)?;
    let known = calibrations(backend, requests, &kept)?;
    let bench = |request| Bench::new(backend, request, known.get(&request.frontier));
    let mut benches = requests.iter().map(bench).collect::<Result<Vec<_>>>()?;
    for round in 0.. {
        let mut settled = 0;
        for bench in &mut benches {
            if bench.is_settled(inputs.len(), budget) {
                settled += 1;
            } else {
                let exact = &kept[round % kept.len()];
                bench.round(backend, clock, exact, (inputs.len(), budget))?;
                speed.look(backend, inputs[round % inputs.len()])?;
                watch.step(settled as f64 / requests.len() as f64)?;
            }
        }
        if settled == benches.len() {
            break;
        }
    }
    let codecs = benches.into_iter().map(Bench::finish).collect::<Result<_>>()?;
    Ok(CodecProfiles { codecs, whole: speed.whole.finish() })
}

/// Runs the whole trunk now and then.
struct Speed<'a> {
    clock: &'a dyn Clock,
    trunk: Vec<LayerId>,
    next: Duration,
    whole: Sampler,
}

impl<'a> Speed<'a> {
    fn new(backend: &dyn Backend, clock: &'a dyn Clock) -> Self {
        let trunk = backend.graph().trunk();
        Self { clock, trunk, next: clock.now() + WHOLE_EVERY, whole: Sampler::default() }
    }

    fn look(&mut self, backend: &mut dyn Backend, input: &[f32]) -> Result<()> {
        if self.clock.now() < self.next {
            return Ok(());
        }
        // Codecs have filled the caches with other things: the first run only brings the layers' back.
        let mut cold = Sampler::default();
        for times in [&mut cold, &mut self.whole] {
            backend.clear();
            backend.put(Source::Input, input)?;
            let trunk = &self.trunk;
            times.time(self.clock, || backend.run_keeping(trunk, &[]))?;
        }
        self.next = self.clock.now() + WHOLE_EVERY;
        Ok(())
    }
}

/// The exact tensors of one input.
type Tensors = BTreeMap<Source, Vec<f32>>;

/// Runs the trunk once per input and keeps the tensors that any request needs.
fn run_all(
    backend: &mut dyn Backend,
    requests: &[CodecRequest],
    inputs: &[&[f32]],
    watch: &mut Watch<'_>,
) -> Result<Vec<Tensors>> {
    let wanted: BTreeSet<Source> =
        requests.iter().flat_map(|request| request.frontier.iter().copied()).collect();
    let trunk = backend.graph().trunk();
    let mut kept = Vec::with_capacity(inputs.len());
    for input in inputs {
        watch.step(0.0)?;
        backend.clear();
        backend.put(Source::Input, input)?;
        backend.run(&trunk)?;
        let mut tensors = Tensors::new();
        for &source in &wanted {
            backend.get(source, tensors.entry(source).or_default())?;
        }
        kept.push(tensors);
    }
    Ok(kept)
}

/// What the encodings of each frontier that need a calibration learn from these inputs.
fn calibrations<'a>(
    backend: &dyn Backend,
    requests: &'a [CodecRequest],
    inputs: &[Tensors],
) -> Result<BTreeMap<&'a Vec<Source>, Calibration>> {
    let mut asking: BTreeMap<&Vec<Source>, Vec<Encoding>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.encoding.needs_calibration()) {
        asking.entry(&request.frontier).or_default().push(request.encoding);
    }
    let calibrate = |(frontier, encodings): (&'a Vec<Source>, Vec<Encoding>)| {
        let mut calibrator = Calibrator::new(&TensorSpec::of_frontier(backend.graph(), frontier)?);
        for tensors in inputs {
            let views: Vec<&[f32]> = frontier.iter().map(|source| tensors[source].as_slice()).collect();
            calibrator.feed(&views);
        }
        Ok((frontier, calibrator.finish(&encodings)))
    };
    asking.into_iter().map(calibrate).collect()
}

struct Bench<'a> {
    request: &'a CodecRequest,
    codec: Codec,
    tensors: Vec<Vec<f32>>,
    payload: Vec<u8>,
    encode: Sampler,
    decode: Sampler,
    bytes: u64,
    runs: usize,
    spent: Duration,
}

impl<'a> Bench<'a> {
    fn new(
        backend: &dyn Backend,
        request: &'a CodecRequest,
        calibration: Option<&Calibration>,
    ) -> Result<Self> {
        let specs = TensorSpec::of_frontier(backend.graph(), &request.frontier)?;
        Ok(Self {
            request,
            codec: Codec::new(request.encoding, &specs, calibration)?,
            tensors: vec![Vec::new(); specs.len()],
            payload: Vec::new(),
            encode: Sampler::default(),
            decode: Sampler::default(),
            bytes: 0,
            runs: 0,
            spent: Duration::ZERO,
        })
    }

    /// Some encodings and decodings. A plan has one codec, which finds its code and tables in the caches: since the others have
    /// used them meanwhile, a first time brings them back and does not count.
    fn round(
        &mut self,
        backend: &mut dyn Backend,
        clock: &dyn Clock,
        exact: &Tensors,
        (inputs, budget): (usize, Budget),
    ) -> Result<()> {
        let counted = (std::mem::take(&mut self.encode), std::mem::take(&mut self.decode), self.spent);
        self.once(backend, clock, exact)?;
        (self.encode, self.decode, self.spent) = counted;
        let (first, until) = (self.runs, self.spent + TIME_A_ROUND);
        while self.runs < first + RUNS_A_ROUND
            || (self.spent < until && self.runs < first + MOST_A_ROUND && !self.is_settled(inputs, budget))
        {
            self.bytes += self.once(backend, clock, exact)?;
            self.runs += 1;
        }
        Ok(())
    }

    /// One encoding and one decoding; the payload's size. The exact tensors go in first, untimed, since decoding leaves lossy
    /// ones behind.
    fn once(&mut self, backend: &mut dyn Backend, clock: &dyn Clock, exact: &Tensors) -> Result<u64> {
        let frontier = &self.request.frontier;
        for source in frontier {
            backend.put(*source, &exact[source])?;
        }
        let start = clock.now();
        let (codec, tensors, payload) = (&mut self.codec, &mut self.tensors, &mut self.payload);
        self.encode.time(clock, || {
            for (source, tensor) in frontier.iter().zip(&mut *tensors) {
                backend.get(*source, tensor)?;
            }
            let views: Vec<&[f32]> = tensors.iter().map(Vec::as_slice).collect();
            codec.encode(&views, payload)
        })?;
        self.decode.time(clock, || {
            codec.decode(payload, tensors)?;
            frontier.iter().zip(&*tensors).try_for_each(|(source, tensor)| backend.put(*source, tensor))
        })?;
        self.spent += clock.now().saturating_sub(start);
        Ok(self.payload.len() as u64)
    }

    /// Whether it had its budget of undisturbed runs, each input once if that allows so many, or will never get them.
    fn is_settled(&self, inputs: usize, budget: Budget) -> bool {
        let kept = self.encode.kept().min(self.decode.kept());
        (kept >= inputs.min(budget.max_runs) && budget.is_met(kept, self.spent))
            || budget.is_exhausted(self.runs, self.spent)
    }

    fn finish(self) -> Result<CodecProfile> {
        let bytes_mean = self.bytes as f64 / self.runs as f64;
        let disturbance = self.encode.disturbance().and(self.decode.disturbance());
        let samples =
            |times: Sampler| times.finish().ok_or_else(|| Error::unmet("a codec's budget allows no runs"));
        let (encode, decode) = (samples(self.encode)?, samples(self.decode)?);
        Ok(CodecProfile { request: self.request.clone(), encode, decode, bytes_mean, disturbance })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::FakeBackend;
    use coprof_core::clock::ManualClock;
    use coprof_core::model::samples::chain;
    use coprof_core::model::{Cut, Graph};
    use coprof_core::units::Micros;

    /// A backend whose `get` takes 3 µs and whose `put` takes 5 µs.
    struct Timed(FakeBackend<ManualClock>, ManualClock);

    impl Backend for Timed {
        fn graph(&self) -> &Arc<Graph> {
            self.0.graph()
        }
        fn clear(&mut self) {
            self.0.clear();
        }
        fn put(&mut self, tensor: Source, values: &[f32]) -> Result<()> {
            self.1.advance(Duration::from_micros(5));
            self.0.put(tensor, values)
        }
        fn run(&mut self, layers: &[LayerId]) -> Result<()> {
            self.0.run(layers)
        }
        fn get(&mut self, tensor: Source, into: &mut Vec<f32>) -> Result<()> {
            self.1.advance(Duration::from_micros(3));
            self.0.get(tensor, into)
        }
    }

    fn profile(budget: Budget) -> Vec<CodecProfile> {
        let graph = chain();
        let clock = ManualClock::default();
        let fake = FakeBackend::new(graph.clone(), vec![Duration::ZERO; 6], clock.clone());
        let frontier = |cut: &Cut| cut.frontier(&graph, &[]);
        let requests: Vec<CodecRequest> = Cut::along_trunk(&graph)[..3]
            .iter()
            .flat_map(|cut| {
                ["f32", "prune50-q8k", "q8+deflate"].map(|name| (frontier(cut), name.parse().unwrap()))
            })
            .map(|(frontier, encoding)| CodecRequest { frontier, encoding })
            .collect();
        let inputs: Vec<Vec<f32>> = (0..4).map(|i| vec![i as f32; 192]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let mut backend = Timed(fake, clock.clone());
        profile_codecs(
            &mut backend,
            &clock,
            &requests,
            &inputs,
            budget,
            &mut Watch::new(&mut |_| (), &|| false),
        )
        .unwrap()
        .codecs
    }

    #[test]
    fn getting_and_putting_are_charged_and_sizes_are_those_of_the_codec() {
        let profiles = profile(Budget { min_runs: 10, min_time: Duration::ZERO, max_runs: 100 });
        assert_eq!(profiles.len(), 9);
        for profile in &profiles {
            assert_eq!((profile.encode.median(), profile.decode.median()), (Micros(3.0), Micros(5.0)));
            assert_eq!(profile.encode.raw().len(), 10);
        }
        // Input of 192 values, conv1 of 256, pool1 of 64.
        assert_eq!([0, 3, 6].map(|i| profiles[i].bytes_mean), [768.0, 1024.0, 256.0]);
    }

    #[test]
    fn each_request_has_its_own_budget() {
        // 8 µs a round.
        let budget = Budget { min_runs: 10, min_time: Duration::from_micros(160), max_runs: 100 };
        assert!(profile(budget).iter().all(|profile| profile.encode.raw().len() == 20));
        let capped = Budget { max_runs: 14, ..budget };
        assert!(profile(capped).iter().all(|profile| profile.encode.raw().len() == 14));
    }
}
