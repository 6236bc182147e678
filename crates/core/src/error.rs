//! The one error type: what went wrong in one or two lines, the exit code that it means, and what can be done about it.

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

/// What a person can do about a failure, or about what a study says. The program's flags put it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Give another of these. The message begins with what was given.
    GiveAnother(Given),
    /// Name another place of CIFAR-10. The message begins with the one that was named.
    NameOtherCifar10,
    /// Name the place where CIFAR-10 is, which is not where it is looked for.
    NameCifar10,
    /// Fetch CIFAR-10, or name the place where it is.
    FetchOrNameCifar10,
    /// Name a copy of CIFAR-10 that was not downloaded by coprof.
    NameCopy,
    /// Make the model's records, since these images have labels. The message begins with the images' place.
    RecordLabelled,
    /// Make the exit record from CIFAR-10.
    MakeExitRecord,
    /// Make the encoding record from CIFAR-10.
    MakeEncodingRecord,
    /// Make an encoding record of a model that has none.
    AddEncodingRecord,
    /// Make an encoding record that lacks nothing.
    CompleteEncodingRecord,
    /// Make the record at hand anew.
    RemakeRecord,
    /// Make both records anew, on the same images.
    RemakeBothOnSameData,
    /// Make both records.
    MakeBothRecords,
    /// Make both records on the images at hand.
    MakeBothRecordsHere,
    /// Bring inputs or make an exit record, so that something is known of a model's answers.
    GatherEvidence,
    /// Give the search more time.
    SearchLonger,
    /// Say how tasks arrive, without which a ceiling of their latency says nothing.
    SayArrival,
    /// Name the shape of a model's input, of which its file leaves sides open.
    NameInputShape,
    /// Name the exits among a model's outputs, which are taken as results.
    NameExits,
    /// Say otherwise when answers count as the same.
    NameAgreement,
    /// Run more tasks.
    RunMoreTasks,
    /// Plan first, or name a plan.
    PlanOrNamePlan,
    /// Name the edge, without which no plan that crosses the link runs.
    NameEdge,
    /// Name an edge, where one in this process stands in for it.
    NameRealEdge,
    /// Listen for those who have a key or for all machines, or else on loopback, on this port.
    AllowOthers {
        /// The port that was asked for.
        port: u16,
    },
    /// Give the key that an edge may ask for.
    GiveKey,
    /// See that both sides have the same key.
    CheckKey,
    /// Wait until one of the edge's sessions ends.
    WaitForSession,
    /// Listen elsewhere.
    ListenElsewhere,
}

/// What a person may have given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A model's name or file.
    Model,
    /// A scenario's file.
    Scenario,
    /// A plan's file.
    Plan,
    /// The place of images or inputs.
    Data,
    /// A processor core.
    Core,
    /// A number of threads.
    Threads,
    /// An edge's name or address.
    Peer,
    /// The shape of a model's input.
    InputShape,
    /// A key's file.
    Key,
    /// Which outputs are exits.
    Exits,
    /// Which outputs are results.
    Outputs,
    /// When answers count as the same.
    Agreement,
}

/// A failure: its kind, a message that says what was expected and what was found, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    remedy: Option<Remedy>,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None }
    }

    /// The work failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The peer is unreachable, refused, or does not fit.
    pub fn peer(message: impl Into<String>) -> Self {
        Self::new(Kind::Peer, message)
    }

    /// A constraint cannot be met, or a measurement did not settle.
    pub fn unmet(message: impl Into<String>) -> Self {
        Self::new(Kind::Unmet, message)
    }

    /// The user interrupted the run.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
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

    /// What can be done about it, where the message does not say so.
    pub fn remedy(&self) -> Option<Remedy> {
        self.remedy
    }

    /// The same failure with what can be done about it.
    #[must_use]
    pub fn with(self, remedy: Remedy) -> Self {
        Self { remedy: Some(remedy), ..self }
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
