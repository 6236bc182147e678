//! A replay answers as one process does.

use super::super::messages::RunRequest;
use super::*;
use coprof_core::codec::{Calibration, TensorCalibration};
use coprof_core::model::{Output, Source};

/// Replays `plan` and compares with one process, sample by sample; gives back where the samples left.
fn agree(edge: &Edge, graph: &Arc<Graph>, plan: &Plan, frames: &dyn FrameSource) -> Vec<ExitId> {
    let mut peer = edge.connect();
    peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
    let trace = run_over(Some(&mut peer), graph, plan, frames).unwrap();
    let answers: Vec<Answer> = trace.tasks.iter().map(|task| task.answer).collect();
    assert_eq!(answers, in_process(graph, plan, frames));
    assert!(trace.tasks.iter().enumerate().all(|(seq, task)| task.seq as usize == seq && task.frame == seq));
    answers.iter().map(|answer| answer.exit).collect()
}

#[test]
fn a_replay_agrees_with_one_process_sample_by_sample() {
    with_edge(FakeServices::default(), |edge| {
        let (chain, residual) = (samples::chain(), samples::residual());
        let plans = [
            (&chain, resuming_plan(&chain)),
            (&chain, plan(&chain, &["pool1"], &["pool1"], "f16", &[(HALF, 0), (ALWAYS, 1)])),
            (&chain, plan(&chain, &["conv2"], &["conv1"], "q8+deflate", &[(HALF, 0), (ALWAYS, 1)])),
            (&chain, plan(&chain, &["conv1"], &["conv1"], "f32", &[(HALF, 1), (ALWAYS, 1)])),
            (&chain, plan(&chain, &[], &[], "pixels", &[(HALF, 1), (ALWAYS, 1)])),
            (&chain, plan(&chain, &["pool2"], &["pool2"], "q4", &[(NEVER, 0), (ALWAYS, 1)])),
            (&residual, plan(&residual, &["conv2a"], &["conv2a"], "f32+deflate", &[(ALWAYS, 1)])),
            (&residual, plan(&residual, &["conv2a"], &["conv2a"], "jalad6", &[(ALWAYS, 1)])),
            (&residual, plan(&residual, &["conv2a"], &["conv2a"], "f16+zero", &[(ALWAYS, 1)])),
            (&chain, plan(&chain, &["conv2"], &["conv1"], "q3c+zstd", &[(HALF, 0), (ALWAYS, 1)])),
            (&chain, plan(&chain, &["conv2"], &["conv1"], "jpeg90", &[(HALF, 0), (ALWAYS, 1)])),
            (&residual, plan(&residual, &[], &[], "pixels+deflate", &[(ALWAYS, 1)])),
        ];
        for (graph, plan) in plans {
            let exits = agree(edge, graph, &plan, &frames_for(graph));
            let mixed = plan.exits[0].threshold == HALF;
            let early = exits.iter().filter(|exit| exit.0 == 0).count();
            assert!(!mixed || (1..60).contains(&early), "{early} of 60 left early under {plan:?}");
        }
    });
}

/// What encodings need to know of pool1 of the chain, which has four channels.
fn known_of_pool1() -> TensorCalibration {
    TensorCalibration {
        channels_by_importance: vec![2, 0, 3, 1],
        channel_means: vec![4.0, 1.0 / 3.0, 0.1, 5.5],
        ranges: [(4, [0.0, 11.3])].into(),
        channel_ranges: [(3, vec![[0.1, 9.7]; 4])].into(),
    }
}

#[test]
fn what_a_plan_knows_of_its_frontier_reaches_the_edge() {
    with_edge(FakeServices::default(), |edge| {
        let graph = samples::chain();
        let mut wrong = known_of_pool1();
        wrong.channels_by_importance.push(4);
        for name in ["q4k", "q3ck+zero", "prune50-q8", "prune25-q3ck+zstd"] {
            let mut plan = plan(&graph, &["pool1"], &["pool1"], name, &[(HALF, 0), (ALWAYS, 1)]);
            let link = plan.links[0].as_mut().unwrap();
            let calibration = Calibration { tensors: vec![known_of_pool1()] }.only_for(link.encoding);
            assert!(calibration != Calibration::default());
            link.calibration = Some(calibration);
            agree(edge, &graph, &plan, &frames_for(&graph));
        }
        let mut plan = plan(&graph, &["pool1"], &["pool1"], "prune50-q8", &[(HALF, 0), (ALWAYS, 1)]);
        for tensors in [vec![wrong], vec![], vec![known_of_pool1(), known_of_pool1()]] {
            plan.links[0].as_mut().unwrap().calibration = Some(Calibration { tensors });
            let mut peer = edge.connect();
            peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
            let error = run_over(Some(&mut peer), &graph, &plan, &frames_for(&graph)).unwrap_err();
            assert!(error.to_string().contains("expected a calibration of 'prune50-q8'"), "{error}");
            // That was this device; now the edge, whatever a device may send.
            let request = RunRequest { plan: plan.clone(), node: 1, in_flight: 1 };
            let error = peer.start_run(&request).unwrap_err();
            assert_eq!(error.kind(), Kind::Peer);
            assert!(error.to_string().contains("expected a calibration of 'prune50-q8'"), "{error}");
        }
    });
}

#[test]
fn a_plan_that_never_crosses_needs_no_edge() {
    let graph = samples::chain();
    for exits in [[(HALF, 0), (ALWAYS, 0)], [(ALWAYS, 0), (NEVER, 0)]] {
        let plan = plan(&graph, &["fc"], &[], "pixels", &exits);
        let frames = frames_for(&graph);
        let trace = run_over(None, &graph, &plan, &frames).unwrap();
        let answers: Vec<Answer> = trace.tasks.iter().map(|task| task.answer).collect();
        assert_eq!(answers, in_process(&graph, &plan, &frames));
        assert!(trace.tasks.iter().all(|task| task.crossed.is_none()));
    }
    let error = run_over(None, &graph, &resuming_plan(&graph), &frames_for(&graph)).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}

#[test]
fn made_up_frames_leave_where_they_are_told() {
    with_edge(FakeServices { bundled: true, ..FakeServices::default() }, |edge| {
        let graph = samples::chain();
        let frames =
            Frames { forced: |index| Some(ExitId(usize::from(index % 3 == 0))), ..frames_for(&graph) };
        let expected: Vec<ExitId> = (0..60).map(|index| ExitId(usize::from(index % 3 == 0))).collect();
        for (node, resume) in [(0, "pool1"), (1, "conv1")] {
            let plan = plan(&graph, &["pool1"], &[resume], "f32", &[(HALF, node), (ALWAYS, 1)]);
            assert_eq!(agree(edge, &graph, &plan, &frames), expected);
        }
    });
}

#[test]
fn a_replay_through_an_emulated_link_agrees_too() {
    with_edge(FakeServices::default(), |edge| {
        let shape = LinkShape { rate: Some(BitRate(1e9)), delay: Duration::from_micros(50) };
        let relay = Relay::start(edge.address, shape).unwrap();
        let behind = Edge { address: relay.addr(), key: None };
        let graph = samples::chain();
        agree(&behind, &graph, &resuming_plan(&graph), &frames_for(&graph));
        let mut peer = behind.connect();
        assert_eq!(peer.stream_up(1000, 20).unwrap().bytes, 19 * 1005);
        assert_eq!(peer.stream_down(1000, 20).unwrap().bytes, 19 * 1005);
    });
}

/// Frames of which it is known what a network answers uncut.
struct Known {
    frames: Frames,
    graph: Arc<Graph>,
    expected: Vec<Vec<f32>>,
}

impl FrameSource for Known {
    fn len(&self) -> usize {
        self.frames.len()
    }
    fn pixels(&self, index: usize, into: &mut Vec<f32>) {
        self.frames.pixels(index, into);
    }
    fn forced_exit(&self, _: usize) -> Option<ExitId> {
        None
    }
    fn is_right(&self, index: usize, numbers: &[f32]) -> Option<bool> {
        Some(Output::agree(&self.graph.outputs, &self.expected[index], numbers))
    }
}

#[test]
fn answers_that_are_more_than_classes_come_with_their_numbers_and_are_judged() {
    let graph = samples::results();
    let (frames, mut backend) = (frames_for(&graph), fake(Arc::clone(&graph)));
    let last = Source::Layer(graph.exits[0].logits);
    let mut answer = |index| {
        let (mut pixels, mut numbers) = (Vec::new(), Vec::new());
        frames.pixels(index, &mut pixels);
        backend.put(Source::Input, &pixels).unwrap();
        backend.run(&graph.trunk()).unwrap();
        backend.get(last, &mut numbers).unwrap();
        numbers
    };
    let expected = (0..frames.len()).map(&mut answer).collect();
    let known = Known { frames: frames_for(&graph), graph: Arc::clone(&graph), expected };
    with_edge(FakeServices::default(), |edge| {
        for (cut, encoding, node, all_right) in
            [(&["add"][..], "f32", 1, true), (&["add"], "q2", 1, false), (&["fc"], "f32", 0, true)]
        {
            let plan = plan(&graph, cut, cut, encoding, &[(ALWAYS, node)]);
            let mut peer = edge.connect();
            peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
            let trace = run_over(Some(&mut peer), &graph, &plan, &known).unwrap();
            let right: Vec<Option<bool>> = trace.tasks.iter().map(|task| task.answer.right).collect();
            let in_process = in_process(&graph, &plan, &known);
            assert!(right.iter().copied().eq(in_process.iter().map(|answer| answer.right)));
            let count = right.iter().filter(|&&right| right == Some(true)).count();
            assert_eq!(count == 60, all_right, "{count} of 60 are right under {encoding}");
            // Nobody knows what is right of other frames. The connection before must end its turn.
            drop(peer);
            let mut peer = edge.connect();
            peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
            let trace = run_over(Some(&mut peer), &graph, &plan, &frames).unwrap();
            assert!(trace.tasks.iter().all(|task| task.answer.right.is_none()));
        }
    });
}
