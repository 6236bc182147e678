//! Requests on one connection, good and bad.

use super::*;
use crate::pipeline::messages::RunRequest;

#[test]
fn one_connection_serves_one_request_after_another() {
    with_edge(FakeServices::default(), |edge| {
        let mut peer = edge.connect();
        assert_eq!(peer.host().cpu.as_deref(), Some("fake"));
        let graph = samples::chain();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        let mut shares = Vec::new();
        let request =
            ProfileRequest { encodings: vec!["q8+zstd".parse().unwrap()], ..ProfileRequest::default() };
        let profile = peer.profile(&request, &mut |share| shares.push(share)).unwrap();
        let names: Vec<&str> = profile.codecs.iter().map(|times| times.cut[0].as_str()).collect();
        assert!(names.iter().eq(graph.layers.iter().map(|layer| &layer.name)), "{names:?}");
        assert!(profile.codecs.iter().all(|times| times.encoding == request.encodings[0]));
        for _ in 0..2 {
            run_over(Some(&mut peer), &graph, &resuming_plan(&graph), &frames_for(&graph)).unwrap();
        }
        peer.ping(1 << 20, 8).unwrap();
        peer.ping(4, 1 << 20).unwrap();
        assert_eq!(peer.ping(usize::MAX, 0).unwrap_err().kind(), Kind::Usage);
    });
}

#[test]
fn a_model_is_sent_once_and_must_have_its_hash() {
    with_edge(FakeServices::default(), |edge| {
        let graph = samples::chain();
        let error = edge.connect().offer_model("x", &graph.hash, b"another file").unwrap_err();
        assert!(error.to_string().contains("announced"), "{error}");
        let foreign = ModelHash::of(b"no model");
        let error = edge.connect().offer_model("x", &foreign, b"no model").unwrap_err();
        assert!(error.to_string().contains("not a model file"), "{error}");
        edge.connect().offer_model("x", &graph.hash, graph.name.as_bytes()).unwrap();
        // Not sent again: an empty file would not have the hash.
        edge.connect().offer_model("x", &graph.hash, b"").unwrap();
        edge.check_serving();
    });
}

#[test]
fn bad_requests_end_their_connection_with_a_reason_and_nothing_else() {
    with_edge(FakeServices { measuring: Measuring::Panics, ..FakeServices::default() }, |edge| {
        let graph = samples::chain();
        let error = edge.connect().profile(&ProfileRequest::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("no model"), "{error}");
        let mut peer = edge.connect();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        let other = samples::residual();
        let foreign = plan(&other, &[], &[], "pixels", &[(ALWAYS, 1)]);
        let error = run_over(Some(&mut peer), &other, &foreign, &frames_for(&other)).unwrap_err();
        assert_eq!(error.kind(), Kind::Peer);
        assert!(error.to_string().contains("the plan is for model"), "{error}");
        let mut peer = edge.connect();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        let calibrated = plan(&graph, &["conv2"], &["conv1"], "q4ck+zstd", &[(HALF, 0), (ALWAYS, 1)]);
        let request = RunRequest { plan: calibrated.clone(), node: 1, in_flight: 1 };
        let error = peer.start_run(&request).unwrap_err();
        assert_eq!(error.kind(), Kind::Peer);
        assert!(error.to_string().contains("'q4ck+zstd' needs a calibration"), "{error}");
        let mut peer = edge.connect();
        peer.offer_model(&graph.name, &graph.hash, graph.name.as_bytes()).unwrap();
        // This device finds it out before it asks.
        let error = run_over(Some(&mut peer), &graph, &calibrated, &frames_for(&graph)).unwrap_err();
        assert!(error.to_string().contains("'q4ck+zstd' needs a calibration"), "{error}");
        let error = peer.profile(&ProfileRequest::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("edge says"), "{error}");
        assert!(edge.connect().stream_up(1 << 20, 1 << 20).is_err());
        edge.check_serving();
    });
}
