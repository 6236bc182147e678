//! A scenario that can be planned for: complete and checked.

use std::ops::Deref;

use serde::Serialize;

use super::keys;
use super::scenario::{SCHEMA, ScenarioFile};
use crate::error::{Error, Result};

/// A scenario with every default written out, which makes sense: what search, policies and simulation take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Problem(ScenarioFile);

impl Deref for Problem {
    type Target = ScenarioFile;

    fn deref(&self) -> &ScenarioFile {
        &self.0
    }
}

impl Problem {
    /// Reads a scenario document, fills in what it leaves out, and checks it.
    pub fn from_json(text: &str) -> Result<Self> {
        let file = keys::read(text).map_err(|error| {
            Error::failed(format!(
                "not a scenario of schema {SCHEMA}: {error}\ndocs/formats.md shows one; `coprof optimize` writes such \
                 a file under reports/"
            ))
        })?;
        Self::of(file)
    }

    /// Fills in what a scenario leaves out, and checks it.
    pub fn of(file: ScenarioFile) -> Result<Self> {
        file.completed().map(Self)
    }

    /// The same but for some changes, checked again.
    pub fn with(&self, change: impl FnOnce(&mut ScenarioFile)) -> Result<Self> {
        let mut file = self.0.clone();
        change(&mut file);
        Self::of(file)
    }

    /// The same but for changes that leave sense and completeness as they are.
    pub(super) fn varied(&self, change: impl FnOnce(&mut ScenarioFile)) -> Self {
        let mut file = self.0.clone();
        change(&mut file);
        Self(file)
    }
}
