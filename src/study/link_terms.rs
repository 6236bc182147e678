//! A measured link as the planner sees it.

use coprof_core::plan::Link;
use coprof_core::units::Micros;
use coprof_run::measure::{FrameTime, LinkProfile};
use coprof_run::pipeline::answer_bytes;

/// A stream that took less than this share of its line's time went into buffers on the way: it tells nothing of how the link's
/// speed moved.
const LEAST_LEVEL: f64 = 0.5;

/// A measured link as the planner sees it, where an answer is made of so many numbers besides its class.
pub fn link_of(profile: &LinkProfile, numbers: usize) -> Link {
    let (delay_us, transfer) = (profile.one_way_delay(), &profile.transfer);
    let over_line = |point: &FrameTime| point.time_us / transfer.time_for(point.frame_bytes as f64);
    Link {
        emulated: false,
        overhead_us: transfer.overhead_us,
        bits_per_second: transfer.bits_per_second,
        delay_us,
        reply_us: Some(profile.downlink_transfer.time_for(answer_bytes(numbers) as f64) + delay_us),
        handover_us: Micros::ZERO,
        lone: profile.lone.clone(),
        spread: profile
            .uplink
            .frame_times
            .iter()
            .map(over_line)
            .filter(|level| *level >= LEAST_LEVEL)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_went_into_buffers_is_no_movement_of_the_link() {
        let frame = |bytes: usize, time: f64| serde_json::json!({"frame_bytes": bytes, "time_us": time});
        let direction =
            |times: Vec<serde_json::Value>| serde_json::json!({"bits_per_second": 2e6, "frame_times": times});
        let trips: Vec<f64> = vec![100.0; 4];
        let line = serde_json::json!({"overhead_us": 0, "bits_per_second": 2e6});
        let profile: LinkProfile = serde_json::from_value(serde_json::json!({
            "uplink": direction(vec![frame(1000, 4000.0), frame(64, 0.5), frame(250, 1100.0)]),
            "downlink": direction(vec![frame(1000, 4000.0)]),
            "rtt_us": {"min": 100, "median": 100, "p99": 100, "p99_settled": false, "samples": trips},
            "transfer": line,
            "downlink_transfer": line,
        }))
        .unwrap();
        assert_eq!(link_of(&profile, 0).spread, [1.0, 1.1]);
        // Four bytes of 8 bits over 2 Mbit/s.
        let [class, number] = [0, 1].map(|numbers| link_of(&profile, numbers).reply_us.unwrap());
        assert!((number - class - Micros(16.0)).0.abs() < 1e-9);
    }
}
