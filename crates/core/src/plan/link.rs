//! A link between two nodes, and what messages take on it.

use serde::{Deserialize, Serialize};

use crate::units::{BitRate, Micros};

/// What a lone message of a size takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoneMessage {
    /// Its size, as [`EncodedFrontier::bytes`](super::EncodedFrontier::bytes) counts it.
    pub bytes: f64,
    /// From end to end, without the propagation delay.
    pub time_us: Micros,
}

/// A link between two neighbouring nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Whether the link's rate or delay is shaped in user space.
    #[serde(default)]
    pub emulated: bool,
    /// Time that each message occupies the link beyond its bytes. Left out: 0.
    #[serde(default)]
    pub overhead_us: Micros,
    /// Goodput towards the later node.
    pub bits_per_second: BitRate,
    /// One-way propagation delay: adds to latency, not to the interval. Left out: 0.
    #[serde(default)]
    pub delay_us: Micros,
    /// Time that an answer needs on its way back, its delay included. Left out: the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_us: Option<Micros>,
    /// What hand-overs between threads on both sides add to a message's latency, beside the link itself. Left out: 0.
    #[serde(default)]
    pub handover_us: Micros,
    /// What a lone message takes after a pause, by rising size, where that is not what it takes in a stream: a token bucket has
    /// filled up meanwhile, or a radio has gone to sleep. Sizes between are interpolated. Left out: as in a stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lone: Vec<LoneMessage>,
    /// Measured times of streams over what the line above says of them: how well it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<f64>,
}

impl Link {
    /// What a message of this size occupies in a stream.
    pub fn stream_time(&self, bytes: f64) -> Micros {
        self.overhead_us + self.bits_per_second.time_for(bytes)
    }

    /// What a lone message of this size takes from end to end, without the propagation delay.
    pub fn lone_time(&self, bytes: f64) -> Micros {
        let Some(last) = self.lone.last() else { return self.stream_time(bytes) };
        let after = self.lone.partition_point(|point| point.bytes < bytes);
        match (after.checked_sub(1).map(|before| self.lone[before]), self.lone.get(after)) {
            (Some(from), Some(to)) => {
                let share = (bytes - from.bytes) / (to.bytes - from.bytes);
                from.time_us + (to.time_us - from.time_us) * share
            }
            // Smaller than any that was measured: no message takes less than the least.
            (None, _) => self.lone[0].time_us,
            // Larger: the rest goes as in a stream.
            (Some(_), None) => last.time_us + self.bits_per_second.time_for(bytes - last.bytes),
        }
    }

    /// The answer's way back.
    pub fn reply(&self) -> Micros {
        self.reply_us.unwrap_or(self.delay_us)
    }

    /// What a message adds to latency without occupying the link.
    pub fn transit(&self) -> Micros {
        self.delay_us + self.reply() + self.handover_us
    }
}
