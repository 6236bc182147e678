//! How a measurement tells how far it is, and hears that it should stop.

use coprof_core::error::{Error, Result};

/// Progress out, the wish to stop in. Measurements call [`Watch::step`] between, never within, what they time.
pub struct Watch<'a> {
    progress: &'a mut dyn FnMut(f64),
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Watch<'a> {
    /// `progress` gets the share done, 0 to 1; the measurement ends as interrupted when `stop` turns true.
    pub fn new(progress: &'a mut dyn FnMut(f64), stop: &'a dyn Fn() -> bool) -> Self {
        Self { progress, stop }
    }

    /// The measurement from share `from` on, of which `work` is the share `width`.
    pub fn part<T>(&mut self, from: f64, width: f64, work: impl FnOnce(&mut Watch<'_>) -> T) -> T {
        let mut progress = |share: f64| (self.progress)(from + share * width);
        work(&mut Watch::new(&mut progress, self.stop))
    }

    /// An error when it is time to stop.
    pub fn pass(&mut self) -> Result<()> {
        if (self.stop)() { Err(Error::interrupted()) } else { Ok(()) }
    }

    /// Reports the share done; an error when it is time to stop.
    pub fn step(&mut self, share: f64) -> Result<()> {
        self.pass()?;
        (self.progress)(share.clamp(0.0, 1.0));
        Ok(())
    }
}
