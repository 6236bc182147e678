//! The one error type: what went wrong in one or two lines, and the exit code that it means.

use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failure means to the caller of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The work failed (bad file, broken model, full disk): exit code 1.
    Failed,
    /// The command line asks for something that makes no sense: exit code 2.
    Usage,
    /// The peer is unreachable, refused, or does not fit: exit code 3.
    Peer,
    /// A constraint that no plan meets, or a measurement that did not settle: exit code 4.
    Unmet,
    /// SIGINT or SIGTERM: exit code 130.
    Interrupted,
}

/// A failure: its kind and a message that says what was expected, what was found and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

impl Error {
    /// The work failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into() }
    }

    /// The peer is unreachable, refused, or does not fit.
    pub fn peer(message: impl Into<String>) -> Self {
        Self { kind: Kind::Peer, message: message.into() }
    }

    /// A constraint cannot be met, or a measurement did not settle.
    pub fn unmet(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unmet, message: message.into() }
    }

    /// The user interrupted the run.
    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted, message: "interrupted".into() }
    }

    /// What this failure means to the caller of the program.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Peer => 3,
            Kind::Unmet => 4,
            Kind::Interrupted => 130,
        }
    }

    /// The same failure with `context` (a file name, an address) put before its message.
    #[must_use]
    pub fn within(self, context: impl fmt::Display) -> Self {
        Self { message: format!("{context}: {}", self.message), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
