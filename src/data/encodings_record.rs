//! The encoding record: how large each frontier is under each encoding, and what each lossy element type does to the exits
//! behind it.

use std::fmt::Write;
use std::path::Path;

use super::files::{gunzip_text, gzip, read_gzip_text, write_whole};
use super::header::{header_line, split_header};
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::model::ModelHash;

const SCHEMA: &str = "coprof.encoding-record/1";
/// Far above any record, far below what hurts.
const MAX_BYTES: u64 = 256 << 20;
const REMEDY: &str = "`coprof encodings --record` makes it from CIFAR-10";
const COLUMNS: [&str; 7] = ["cut", "encoding", "bytes_mean", "bytes_p99", "exit", "right", "entropy"];

/// The name of a cut in the record: its tips joined by `+`, or `input` for the empty cut.
pub fn cut_name(tips: &[String]) -> String {
    if tips.is_empty() { "input".into() } else { tips.join("+") }
}

/// What an exit behind a cut answers when the frontier crossed under a lossy element type.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitEffect {
    /// The exit's name.
    pub exit: String,
    /// Per sample whether its answer is right.
    pub right: Vec<bool>,
    /// Per sample its normalised entropy in steps of 1/65535.
    pub entropy: Vec<u16>,
}

impl ExitEffect {
    /// Per sample the normalised entropy, 0 to 1.
    pub fn entropies(&self) -> Vec<f32> {
        self.entropy.iter().map(|&steps| f32::from(steps) / f32::from(u16::MAX)).collect()
    }
}

/// One cut under one encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodingRow {
    /// The cut, as [`cut_name`] gives it.
    pub cut: String,
    /// How its frontier is written.
    pub encoding: Encoding,
    /// Mean size of the payload, without framing.
    pub bytes_mean: f64,
    /// The payload size that 99 % of the samples stay within.
    pub bytes_p99: u64,
    /// For lossy element types without a coder, what each exit behind the cut answers. Otherwise empty: lossless element
    /// types change nothing, and with a coder the answers are those of the same element type without.
    pub exits: Vec<ExitEffect>,
}

/// Sizes and effects of every encoding at every cut of one model: `models/NAME.encodings.csv.gz`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodingRecord {
    /// The model that it is for.
    pub model: ModelHash,
    /// The fingerprint of the data.
    pub data: String,
    /// How many samples of the validation split it was made from, from the first one on.
    pub samples: usize,
    /// Every cut under every encoding.
    pub rows: Vec<EncodingRow>,
}

impl EncodingRecord {
    /// The row of a cut, given by its tips, under an encoding.
    pub fn row(&self, tips: &[String], encoding: Encoding) -> Option<&EncodingRow> {
        let cut = cut_name(tips);
        self.rows.iter().find(|row| row.cut == cut && row.encoding == encoding)
    }

    /// Writes it as a gzipped CSV file, whole or not at all. The same record gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &gzip(&self.to_csv()?)?)
    }

    fn to_csv(&self) -> Result<Vec<u8>> {
        let samples = self.samples.to_string();
        let fields = [("model_sha256", &*self.model.0), ("data_sha256", &self.data), ("samples", &samples)];
        let mut writer = csv::Writer::from_writer(header_line(SCHEMA, &fields).into_bytes());
        let broken = |error: csv::Error| Error::failed(format!("cannot write the table ({error})"));
        writer.write_record(COLUMNS).map_err(broken)?;
        for row in &self.rows {
            let encoding = row.encoding.to_string();
            let (mean, p99) = (row.bytes_mean.to_string(), row.bytes_p99.to_string());
            let mut write = |exit: &str, right: &str, entropy: &str| {
                writer.write_record([&row.cut, &encoding, &mean, &p99, exit, right, entropy]).map_err(broken)
            };
            if row.exits.is_empty() {
                write("", "", "")?;
            }
            for effect in &row.exits {
                let right: String = effect.right.iter().map(|&right| if right { '1' } else { '0' }).collect();
                let mut entropy = String::with_capacity(effect.entropy.len() * 6);
                for (i, steps) in effect.entropy.iter().enumerate() {
                    // Writing to a String cannot fail.
                    let _ = write!(entropy, "{}{steps}", if i == 0 { "" } else { " " });
                }
                write(&effect.exit, &right, &entropy)?;
            }
        }
        writer.into_inner().map_err(|error| Error::failed(format!("cannot write the table ({error})")))
    }

    /// Reads a record and checks all of it; an error unless it was made from `model`, where that is given.
    pub fn read(path: &Path, model: Option<&ModelHash>) -> Result<Self> {
        let text = read_gzip_text(path, MAX_BYTES, REMEDY)?;
        Self::from_csv(&text, model).map_err(|error| {
            Error::failed(format!("{error}; {REMEDY}")).within(format!("encoding record {}", path.display()))
        })
    }

    /// Reads a record that is not in a file of its own; otherwise as [`read`](Self::read).
    pub fn from_gzip(bytes: &[u8], model: Option<&ModelHash>) -> Result<Self> {
        let record = gunzip_text(bytes, MAX_BYTES, REMEDY).and_then(|text| {
            Self::from_csv(&text, model).map_err(|error| Error::failed(format!("{error}; {REMEDY}")))
        });
        record.map_err(|error| error.within("the bundled encoding record"))
    }

    fn from_csv(text: &str, model: Option<&ModelHash>) -> Result<Self> {
        let (header, table) = split_header(text, SCHEMA)?;
        let samples = header.field("samples")?.parse().ok().filter(|&samples| samples > 0);
        let samples =
            samples.ok_or_else(|| Error::failed("samples=… on the first line must be a positive number"))?;
        let (model, data) = (header.model(model)?, header.field("data_sha256")?.into());
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let broken = |error: csv::Error| Error::failed(format!("broken table ({error})"));
        if reader.headers().map_err(broken)? != COLUMNS.as_slice() {
            return Err(Error::failed(format!("the columns {} were expected", COLUMNS.join(","))));
        }
        let mut rows: Vec<EncodingRow> = Vec::new();
        for (number, record) in reader.records().enumerate() {
            let row = parse_row(&record.map_err(broken)?, samples);
            let row = row.ok_or_else(|| Error::failed(format!("row {} makes no sense", number + 1)))?;
            match rows.last_mut().filter(|last| last.cut == row.cut && last.encoding == row.encoding) {
                Some(last) => last.exits.extend(row.exits),
                None => rows.push(row),
            }
        }
        if rows.is_empty() {
            return Err(Error::failed("it holds no rows"));
        }
        Ok(Self { model, data, samples, rows })
    }
}

/// `None` when a field is missing or makes no sense.
fn parse_row(record: &csv::StringRecord, samples: usize) -> Option<EncodingRow> {
    let fields: Vec<&str> = record.iter().collect();
    let [cut, encoding, mean, p99, exit, right, entropy] = *fields.first_chunk()?;
    let mut row = EncodingRow {
        cut: cut.into(),
        encoding: encoding.parse().ok()?,
        bytes_mean: mean.parse().ok().filter(|mean: &f64| mean.is_finite() && *mean >= 0.0)?,
        bytes_p99: p99.parse().ok()?,
        exits: Vec::new(),
    };
    if exit.is_empty() {
        return (right.is_empty() && entropy.is_empty()).then_some(row);
    }
    let digit = |digit: u8| match digit {
        b'0' => Some(false),
        b'1' => Some(true),
        _ => None,
    };
    let right: Vec<bool> = right.bytes().map(digit).collect::<Option<_>>()?;
    let entropy: Vec<u16> = entropy.split(' ').map(|steps| steps.parse().ok()).collect::<Option<_>>()?;
    if right.len() != samples || entropy.len() != samples {
        return None;
    }
    row.exits.push(ExitEffect { exit: exit.into(), right, entropy });
    Some(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> EncodingRecord {
        let row = |cut: &str, encoding: &str, exits| EncodingRow {
            cut: cut.into(),
            encoding: encoding.parse().unwrap(),
            bytes_mean: 1234.5,
            bytes_p99: 1300,
            exits,
        };
        let effect =
            |exit: &str, entropy| ExitEffect { exit: exit.into(), right: vec![true, false], entropy };
        let rows = vec![
            row("input", "pixels+deflate", vec![]),
            row("input", "q4", vec![effect("exit1", vec![0, 65535]), effect("final", vec![7, 8])]),
            row("conv2a+skip", "q4", vec![effect("final", vec![1, 2])]),
            row("conv2a+skip", "q4+deflate", vec![]),
        ];
        EncodingRecord { model: ModelHash::of(b"m"), data: "d".into(), samples: 2, rows }
    }

    fn text() -> String {
        String::from_utf8(small().to_csv().unwrap()).unwrap()
    }

    #[test]
    fn reads_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.encodings.csv.gz");
        small().write(&path).unwrap();
        assert_eq!(EncodingRecord::read(&path, Some(&small().model)).unwrap(), small());
        assert!(text().contains("\ninput,q4,1234.5,1300,exit1,10,0 65535\n"), "{}", text());
        let error = EncodingRecord::read(&path, Some(&ModelHash::of(b"other"))).unwrap_err().to_string();
        assert!(error.contains("x.encodings") && error.contains("this model is"), "{error}");
    }

    #[test]
    fn rows_are_found_by_tips() {
        let record = small();
        let find = |tips: &[&str], encoding: &str| {
            let tips: Vec<String> = tips.iter().map(|&tip| tip.into()).collect();
            record.row(&tips, encoding.parse().unwrap()).map(|row| row.exits.len())
        };
        assert_eq!(find(&[], "q4"), Some(2));
        assert_eq!(find(&["conv2a", "skip"], "q4+deflate"), Some(0));
        assert_eq!(find(&["conv2a"], "q4"), None);
        assert_eq!(record.rows[1].exits[0].entropies(), [0.0, 1.0]);
    }

    #[test]
    fn damage_is_named() {
        for (from, to, expected) in [
            (
                "coprof.encoding-record/1",
                "coprof.exit-record/1",
                "schema coprof.encoding-record/1 was expected",
            ),
            ("samples=2", "samples=0", "positive number"),
            ("bytes_p99", "p99", "columns"),
            (",10,0 65535", ",1x,0 65535", "row 2 makes no sense"),
            (",10,0 65535", ",101,0 65535", "row 2 makes no sense"),
            (",10,0 65535", ",10,0 65536", "row 2 makes no sense"),
            (",pixels+deflate,", ",q5,", "row 1 makes no sense"),
            (",10,0 65535", ",10", "broken table"),
        ] {
            let found =
                EncodingRecord::from_csv(&text().replacen(from, to, 1), None).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(cut in 0usize..600, junk in "[a-z0-9,+\n ]{0,40}") {
            let text = text();
            let cut = cut.min(text.len());
            let _ = EncodingRecord::from_csv(&format!("{}{junk}{}", &text[..cut], &text[cut..]), None);
        }
    }
}
