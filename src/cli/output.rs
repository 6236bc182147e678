//! Where words go: the result to stdout, progress and messages to stderr.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle, WeakProgressBar};
use serde::Serialize;

use super::stop;
use crate::error::{Error, Result};

/// How much is said, and in what form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
}

impl Output {
    /// As the flags say.
    pub fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        Self { json, quiet, verbose }
    }

    /// Whether the result is to be one JSON document.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// A message for people, on stderr.
    pub fn say(self, message: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", message.as_ref());
        }
    }

    /// A message for those who asked for more.
    pub fn detail(self, message: impl AsRef<str>) {
        if self.verbose {
            eprintln!("{}", message.as_ref());
        }
    }

    /// The result: the document with `--json`, else what `view` renders. Not once a signal has come.
    pub fn result(self, document: &impl Serialize, view: impl FnOnce() -> String) -> Result<()> {
        stop::check()?;
        let text = if self.json {
            serde_json::to_string(document)
                .map_err(|error| Error::failed(format!("cannot write the result as JSON: {error}")))?
        } else {
            view()
        };
        self.text(&text)
    }

    /// A part of the result, on stdout.
    pub fn text(self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(|error| Error::failed(format!("cannot write to stdout: {error}"))),
        }
    }

    /// A progress bar with a time left, on a terminal; elsewhere nothing.
    pub fn progress(self, what: &str) -> Progress {
        if self.quiet || self.json || !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
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
        Progress(bar)
    }
}

/// The progress bars on the terminal.
static SHOWN: Mutex<Vec<WeakProgressBar>> = Mutex::new(Vec::new());

/// What a process says that ends in the middle of its work. Progress bars are gone, and nobody says anything after it.
pub fn last_words(error: &Error) {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.iter().filter_map(WeakProgressBar::upgrade).for_each(|bar| bar.finish_and_clear());
    let mut stderr = std::io::stderr().lock();
    // There is nobody left to tell that it failed.
    let _ = writeln!(stderr, "error: {error}");
    std::mem::forget((shown, stderr));
}

/// A progress bar that goes away when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Starts from a share that was done before: the time left is reckoned from here.
    pub fn start_at(&self, share: f64) {
        self.set(share);
        self.0.reset_eta();
    }

    /// Shows the share that is done, 0 to 1.
    pub fn set(&self, share: f64) {
        self.0.set_position((share.clamp(0.0, 1.0) * 1000.0) as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
