//! Progress bars on a terminal, and the last words of a process that ends in the middle of its work.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle, WeakProgressBar};

use crate::study::Progress;
use coprof_core::error::Error;

/// The progress bars on the terminal.
static SHOWN: Mutex<Vec<WeakProgressBar>> = Mutex::new(Vec::new());

/// A progress bar with a time left, on a terminal; elsewhere nothing. It goes away when dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar for a part of the work that is to be seen, or not.
    pub fn new(what: &str, is_wanted: bool) -> Self {
        if !is_wanted || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(1000);
        if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:40} {percent:>3} %  {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|bar| bar.upgrade().is_some());
        shown.push(bar.downgrade());
        Self(bar)
    }
}

impl Progress for Bar {
    fn start_at(&self, share: f64) {
        self.set(share);
        self.0.reset_eta();
    }

    fn set(&self, share: f64) {
        self.0.set_position((share.clamp(0.0, 1.0) * 1000.0) as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What a process says that ends in the middle of its work. Progress bars are gone, and nobody says anything after it.
pub fn last_words(error: &Error) {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.iter().filter_map(WeakProgressBar::upgrade).for_each(|bar| bar.finish_and_clear());
    let mut stderr = std::io::stderr().lock();
    // There is nobody left to tell that it failed.
    let _ = writeln!(stderr, "error: {error}");
    std::mem::forget((shown, stderr));
}
