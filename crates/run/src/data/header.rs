//! The first line of a record: `# SCHEMA key=value key=value`.

use std::collections::BTreeMap;

use coprof_core::error::{Error, Result};
use coprof_core::model::ModelHash;

/// A header line with its line end.
pub(super) fn header_line(schema: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    format!("# {schema}{fields}\n")
}

/// The fields of a record's first line and the text behind it.
pub(super) fn split_header<'a>(text: &'a str, schema: &str) -> Result<(Header<'a>, &'a str)> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = line.trim_end().split(' ');
    let found = (words.next() == Some("#")).then(|| words.next()).flatten();
    if found != Some(schema) {
        let found = found.map_or_else(|| "another kind of file".into(), |found| format!("'{found}'"));
        return Err(Error::failed(format!("a record of schema {schema} was expected, found {found}")));
    }
    Ok((Header(words.filter_map(|word| word.split_once('=')).collect()), rest))
}

/// The fields of a record's first line.
pub(super) struct Header<'a>(BTreeMap<&'a str, &'a str>);

impl Header<'_> {
    pub fn field(&self, key: &str) -> Result<&str> {
        let field = self.0.get(key).copied();
        field.ok_or_else(|| Error::failed(format!("the first line should hold {key}=…, but does not")))
    }

    /// The model that the record is for; an error unless it is the `expected` one.
    pub fn model(&self, expected: Option<&ModelHash>) -> Result<ModelHash> {
        let found = ModelHash(self.field("model_sha256")?.into());
        match expected {
            Some(expected) if *expected != found => Err(Error::failed(format!(
                "made from model {}, but this model is {}",
                found.short(),
                expected.short()
            ))),
            _ => Ok(found),
        }
    }
}
