//! How far both nodes' speeds have moved since their profiles, and what that leaves of a replay's error.

use super::gauge::Speeds;
use crate::report::{Drift, Measured};
use coprof_core::plan::Prediction;
use coprof_core::units::Micros;
use coprof_run::pipeline::{Trace, frame_bytes, task_bytes};

/// What is left of the error where each node's change of speed since its profile is taken out, pass by pass, and the sizes of
/// messages where they are so many times as large as predicted. `speeds` were found before, between and after passes that ran
/// with the pipeline full and one task at a time by turns.
pub fn drift(
    predicted: &Prediction,
    speeds: &[Speeds],
    messages_larger: Option<f64>,
    measured: &Measured,
) -> Option<Drift> {
    let profiled = |node: usize| predicted.nodes.get(node)?.whole_us;
    let factors = |speeds: &Speeds| -> Option<Vec<f64>> {
        let edge = speeds.edge.map(|edge| Some(edge / profiled(1)?));
        std::iter::once(Some(speeds.device / profiled(0)?)).chain(edge).collect()
    };
    let factors: Vec<Vec<f64>> = speeds.iter().map(factors).collect::<Option<_>>()?;
    // Each pass runs at the mean of the speeds before and after it.
    let passes: Vec<Vec<f64>> = factors
        .windows(2)
        .map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| f64::midpoint(*a, *b)).collect())
        .collect();
    let moved = |pass: &Vec<f64>| predicted.at_speeds(pass, messages_larger.unwrap_or(1.0));
    let interval = mean(passes.iter().step_by(2).map(|pass| moved(pass).0.0))?;
    let latency = mean(passes.iter().skip(1).step_by(2).map(|pass| moved(pass).1.0))?;
    let nodes = 0..passes.first()?.len();
    let slower = nodes.map(|node| mean(passes.iter().map(|pass| pass[node]))).collect::<Option<_>>()?;
    let rate_per_s = Micros(interval).rate_per_s();
    Some(Drift::new(predicted, measured, slower, messages_larger, rate_per_s, Micros(latency)))
}

/// `None` of nothing.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// How many times as large as predicted the messages of a plan for two nodes were, headers included; `None` where none was sent.
pub fn messages_larger(predicted: &Prediction, full: &Trace) -> Option<f64> {
    let share = predicted.stages.get(1)?.share.0;
    let expected = predicted.bytes_per_task / share;
    // Of those that count for the rate.
    let sent = full.steady().filter_map(|task| task.crossed);
    let sent =
        mean(sent.map(|crossed| (task_bytes(crossed.payload_bytes as usize) - frame_bytes(0)) as f64))?;
    (share > 0.0 && expected > 0.0).then(|| sent / expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latency;
    use coprof_core::plan::{NodeBasis, Stage as Part};
    use coprof_core::units::Share;

    /// The device sets the rate; both nodes take 1.5 times as long in a full pipeline, and the link takes 500 µs.
    fn predicted() -> Prediction {
        let part = |name: &str, us| Part { name: name.into(), time_us: Micros(us), share: Share(1.0) };
        let basis = |us| NodeBasis { whole_us: Some(Micros(us)), busy_factor: 1.5, pause_factor: 1.0 };
        Prediction {
            rate_per_s: 1e6 / 3000.0,
            interval_us: Micros(3000.0),
            latency_us: Micros(2000.0 + 500.0 + 400.0),
            accuracy: Share(0.9),
            bytes_per_task: 1000.0,
            bottleneck: "device".into(),
            stages: vec![part("device", 3000.0), part("link", 500.0), part("edge", 600.0)],
            exit_shares: vec![Share(1.0)],
            memory_bytes: Vec::new(),
            nodes: vec![basis(12000.0), basis(1500.0)],
            one_core: false,
            contention: 0.0,
            interval95: None,
        }
    }

    fn measured(rate_per_s: f64, latency: f64) -> Measured {
        let latency = Micros(latency);
        Measured {
            rate_per_s,
            latency_us: Latency {
                mean: latency,
                median: latency,
                p90: latency,
                p99: latency,
                p99_settled: false,
                runs: 1,
            },
            accuracy: None,
            stages: Vec::new(),
            bottleneck: "device".into(),
            disturbed_tasks: 0,
        }
    }

    /// The whole model on each node, as many times slower than in their profiles.
    fn speeds(device: f64, edge: f64) -> Speeds {
        Speeds { device: Micros(12000.0 * device), edge: Some(Micros(1500.0 * edge)) }
    }

    #[test]
    fn what_the_nodes_speeds_explain_is_no_error_of_the_prediction() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        // As fast as they were: the error is what it is.
        let (predicted, slow) = (predicted(), measured(1e6 / 6000.0, 2.0 * 2000.0 + 500.0 + 400.0));
        let same = drift(&predicted, &[speeds(1.0, 1.0); 3], None, &slow).unwrap();
        assert!(close(same.error.rate, -0.5) && close(same.nodes[1].slower, 1.0), "{same:?}");
        // The device has become half as fast.
        let twice = drift(&predicted, &[speeds(2.0, 1.0); 3], None, &slow).unwrap();
        assert!(close(twice.error.rate, 0.0) && close(twice.error.latency, 0.0), "{twice:?}");
        assert!(close(twice.nodes[0].slower, 2.0) && twice.nodes[0].name == "device", "{twice:?}");
        // It did so while the second task alone ran, of two passes of each kind: that concerns the latency only.
        let late = [1.0, 1.0, 1.0, 1.0, 3.0].map(|device| speeds(device, 1.0));
        let midway = drift(&predicted, &late, None, &slow).unwrap();
        assert!(close(midway.predicted.rate_per_s, predicted.rate_per_s), "{midway:?}");
        assert!(close(midway.predicted.latency_us.0, predicted.latency_us.0 + 0.5 * 2000.0), "{midway:?}");
        assert!(close(midway.nodes[0].slower, 1.25), "{midway:?}");
    }

    #[test]
    fn made_up_frames_of_another_size_are_no_error_of_the_prediction() {
        let mut predicted = predicted();
        predicted.stages[1].time_us = Micros(4000.0);
        let fast = measured(1e6 / 6000.0, 2900.0);
        let larger = drift(&predicted, &[speeds(1.0, 1.0); 3], Some(1.5), &fast).unwrap();
        assert!(larger.error.rate.abs() < 1e-9 && larger.messages_larger == Some(1.5), "{larger:?}");
        assert!(larger.error.latency.abs() < 1e-9, "{larger:?}");
    }

    #[test]
    fn without_profiles_nothing_is_said_of_drift() {
        let mut predicted = predicted();
        predicted.nodes[1].whole_us = None;
        let measured = measured(300.0, 3000.0);
        assert!(drift(&predicted, &[speeds(1.0, 1.0); 2], None, &measured).is_none());
        // Of an edge that no task reached nothing needs to be known.
        let alone = Speeds { edge: None, ..speeds(1.0, 1.0) };
        assert_eq!(drift(&predicted, &[alone; 3], None, &measured).unwrap().nodes.len(), 1);
        predicted.nodes.clear();
        assert!(drift(&predicted, &[alone; 2], None, &measured).is_none());
    }
}
