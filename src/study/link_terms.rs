//! A measured link as the planner sees it.

use coprof_core::plan::Link;
use coprof_core::units::Micros;
use coprof_run::measure::{FrameTime, LinkProfile};
use coprof_run::pipeline::ANSWER_BYTES;

/// A measured link as the planner sees it.
pub fn link_of(profile: &LinkProfile) -> Link {
    let (delay_us, transfer) = (profile.one_way_delay(), &profile.transfer);
    let over_line = |point: &FrameTime| point.time_us / transfer.time_for(point.frame_bytes as f64);
    Link {
        emulated: false,
        overhead_us: transfer.overhead_us,
        bits_per_second: transfer.bits_per_second,
        delay_us,
        reply_us: Some(profile.downlink_transfer.time_for(ANSWER_BYTES as f64) + delay_us),
        handover_us: Micros::ZERO,
        lone: profile.lone.clone(),
        spread: profile.uplink.frame_times.iter().map(over_line).collect(),
    }
}
