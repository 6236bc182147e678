//! What is emulated, as the pipeline takes it.

use std::time::Duration;

use crate::report::Emulation;
use coprof_core::error::Result;
use coprof_core::units::Micros;
use coprof_run::pipeline::{LinkShape, Pace};

/// How slow the device is to be.
pub fn pace(emulation: &Emulation) -> Result<Pace> {
    Pace::new(emulation.slowdown)
}

/// The link's shape; `None` leaves it as it is.
pub fn link_shape(emulation: &Emulation) -> Option<LinkShape> {
    emulation.shapes_link().then(|| LinkShape {
        rate: emulation.link_bits_per_second,
        delay: emulation.link_delay_us.map_or(Duration::ZERO, Micros::to_duration),
    })
}
