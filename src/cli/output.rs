//! Where words go: the result to stdout, progress and messages to stderr.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::bars::Bar;
use super::remedies::advised;
use super::stop;
use crate::report::Store;
use crate::study::{Context, Observer, Progress};
use coprof_core::error::{Error, Remedy, Result};
use coprof_run::data::write_whole;

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

    /// Rows, the header first, as a CSV file that appears whole or not at all; not once a signal has come.
    pub fn csv(self, path: &Path, rows: &[Vec<String>]) -> Result<()> {
        stop::check()?;
        let broken = |error: csv::Error| Error::failed(format!("cannot write {}: {error}", path.display()));
        let mut writer = csv::Writer::from_writer(Vec::new());
        rows.iter().try_for_each(|row| writer.write_record(row)).map_err(broken)?;
        let bytes = writer
            .into_inner()
            .map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
        write_whole(path, &bytes)
    }

    /// What studies need: they say on this output how they go on, and keep their results under the folder that coprof runs in.
    pub fn context(self) -> Context {
        Context::new(Arc::new(self), stop::flag(), Store::new("reports"))
    }
}

impl Observer for Output {
    fn say(&self, message: &str) {
        Self::say(*self, message);
    }

    fn advise(&self, message: &str, remedy: Remedy) {
        Self::say(*self, advised(message, remedy));
    }

    fn detail(&self, message: &str) {
        Self::detail(*self, message);
    }

    fn progress(&self, what: &str) -> Box<dyn Progress> {
        Box::new(Bar::new(what, !self.quiet && !self.json))
    }
}
