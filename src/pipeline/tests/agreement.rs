//! A replay answers as one process does.

use super::*;

/// Replays `plan` and compares with one process, sample by sample; gives back where the samples left.
fn agree(edge: &Edge, graph: &Arc<Graph>, plan: &Plan, frames: &Frames) -> Vec<ExitId> {
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
        let behind = Edge { address: relay.addr() };
        let graph = samples::chain();
        agree(&behind, &graph, &resuming_plan(&graph), &frames_for(&graph));
        let mut peer = behind.connect();
        assert_eq!(peer.stream_up(1000, 20).unwrap().bytes, 19 * 1005);
        assert_eq!(peer.stream_down(1000, 20).unwrap().bytes, 19 * 1005);
    });
}
