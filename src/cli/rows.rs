//! CSV files beside the tables.

use std::path::Path;

use super::stop;
use crate::data::write_whole;
use crate::error::{Error, Result};

/// Writes rows, the header first, as a CSV file that appears whole or not at all; not once a signal has come.
pub fn write_csv(path: &Path, rows: &[Vec<String>]) -> Result<()> {
    stop::check()?;
    let broken = |error: csv::Error| Error::failed(format!("cannot write {}: {error}", path.display()));
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.write_record(row)).map_err(broken)?;
    let bytes = writer
        .into_inner()
        .map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))?;
    write_whole(path, &bytes)
}
