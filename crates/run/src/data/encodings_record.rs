//! The encoding record: how large each frontier is under each encoding, and what each lossy element type does to the exits
//! behind it. In the file, answers behind an encoding stand as changes against the uncut ones, which are few and small, so
//! that it compresses well.

use std::path::Path;

use super::files::{gunzip_text, gzip, read_gzip_text, write_whole};
use super::header::{header_line, split_header};
use coprof_core::codec::{Calibration, Encoding};
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::ModelHash;

const SCHEMA: &str = "coprof.encoding-record/2";
/// Far above any record, far below what hurts.
const MAX_BYTES: u64 = 256 << 20;
const REMEDY: Remedy = Remedy::MakeEncodingRecord;
const COLUMNS: [&str; 8] =
    ["cut", "encoding", "bytes_mean", "bytes_p99", "calibration", "exit", "right", "entropy"];

/// The name of a cut in the record: its tips joined by `+`, or `input` for the empty cut.
pub fn cut_name(tips: &[String]) -> String {
    if tips.is_empty() { "input".into() } else { tips.join("+") }
}

/// What an exit answers, uncut or when the frontier crossed under a lossy element type.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitEffect {
    /// The exit's name.
    pub exit: String,
    /// Per sample whether its answer is right.
    pub right: Vec<bool>,
    /// Per sample its normalised entropy in steps of 1/65535; empty for the final exit, which every sample that comes so far
    /// leaves at.
    pub entropy: Vec<u16>,
}

impl ExitEffect {
    /// Per sample the normalised entropy, 0 to 1; zeros for the final exit.
    pub fn entropies(&self) -> Vec<f32> {
        if self.entropy.is_empty() {
            return vec![0.0; self.right.len()];
        }
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
    /// What the encoding needs to know of the frontier, where it needs anything, in the rows that have answers.
    pub calibration: Option<Calibration>,
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
    /// How many training images the calibrations were learned from, from the first one on.
    pub calibrated_on: usize,
    /// What each exit answers uncut.
    pub uncut: Vec<ExitEffect>,
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

    /// The row that holds the answers and the calibration of an encoding: that without its coder.
    pub fn answers(&self, row: &EncodingRow) -> Option<&EncodingRow> {
        let element = row.encoding.without_coder();
        self.rows.iter().find(|other| other.cut == row.cut && other.encoding == element)
    }

    /// What an exit answers uncut.
    pub fn uncut(&self, exit: &str) -> Option<&ExitEffect> {
        self.uncut.iter().find(|effect| effect.exit == exit)
    }

    fn to_csv(&self) -> Result<Vec<u8>> {
        let [samples, calibrated_on] = [self.samples, self.calibrated_on].map(|count| count.to_string());
        let fields = [
            ("model_sha256", &*self.model.0),
            ("data_sha256", &self.data),
            ("samples", &samples),
            ("calibrated_on", &calibrated_on),
        ];
        let mut writer = csv::Writer::from_writer(header_line(SCHEMA, &fields).into_bytes());
        let broken = |error: csv::Error| Error::failed(format!("cannot write the table ({error})"));
        writer.write_record(COLUMNS).map_err(broken)?;
        for effect in &self.uncut {
            let (right, entropy) = (digits(&effect.right), numbers(&effect.entropy));
            writer.write_record(["", "", "", "", "", &effect.exit, &right, &entropy]).map_err(broken)?;
        }
        for row in &self.rows {
            let encoding = row.encoding.to_string();
            let (mean, p99) = (row.bytes_mean.to_string(), row.bytes_p99.to_string());
            let mut calibration = calibration_text(row.calibration.as_ref())?;
            let mut write = |exit: &str, right: &str, entropy: &str| {
                let calibration = std::mem::take(&mut calibration);
                let fields = [&row.cut, &encoding, &mean, &p99, &*calibration, exit, right, entropy];
                writer.write_record(fields).map_err(broken)
            };
            if row.exits.is_empty() {
                write("", "", "")?;
            }
            for effect in &row.exits {
                let uncut = self.uncut(&effect.exit).ok_or_else(|| no_such_exit(&effect.exit))?;
                let changed: Vec<bool> = effect.right.iter().zip(&uncut.right).map(|(a, b)| a != b).collect();
                let steps = effect.entropy.iter().zip(&uncut.entropy);
                let steps: Vec<i32> = steps.map(|(&a, &b)| i32::from(a) - i32::from(b)).collect();
                write(&effect.exit, &digits(&changed), &numbers(&steps))?;
            }
        }
        writer.into_inner().map_err(|error| Error::failed(format!("cannot write the table ({error})")))
    }

    /// Reads a record and checks all of it; an error unless it was made from `model`, where that is given.
    pub fn read(path: &Path, model: Option<&ModelHash>) -> Result<Self> {
        let text = read_gzip_text(path, MAX_BYTES).map_err(|error| error.with(REMEDY))?;
        Self::from_csv(&text, model)
            .map_err(|error| error.with(REMEDY).within(format!("encoding record {}", path.display())))
    }

    /// Reads a record that is not in a file of its own; otherwise as [`read`](Self::read).
    pub fn from_gzip(bytes: &[u8], model: Option<&ModelHash>) -> Result<Self> {
        let record = gunzip_text(bytes, MAX_BYTES).and_then(|text| Self::from_csv(&text, model));
        record.map_err(|error| error.with(REMEDY).within("the bundled encoding record"))
    }

    fn from_csv(text: &str, model: Option<&ModelHash>) -> Result<Self> {
        let (header, table) = split_header(text, SCHEMA)?;
        let count = |key| {
            let count: Option<usize> = header.field(key)?.parse().ok().filter(|&count| count > 0);
            count.ok_or_else(|| Error::failed(format!("{key}=… on the first line must be a positive number")))
        };
        let (samples, calibrated_on) = (count("samples")?, count("calibrated_on")?);
        let (model, data) = (header.model(model)?, header.field("data_sha256")?.into());
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let broken = |error: csv::Error| Error::failed(format!("broken table ({error})"));
        if reader.headers().map_err(broken)? != COLUMNS.as_slice() {
            return Err(Error::failed(format!("the columns {} were expected", COLUMNS.join(","))));
        }
        let mut record = Self { model, data, samples, calibrated_on, uncut: Vec::new(), rows: Vec::new() };
        for (number, fields) in reader.records().enumerate() {
            let row = record.add(&fields.map_err(broken)?);
            row.ok_or_else(|| Error::failed(format!("row {} makes no sense", number + 1)))?;
        }
        if record.rows.is_empty() || record.uncut.is_empty() {
            return Err(Error::failed("it holds no rows"));
        }
        Ok(record)
    }

    /// Takes the next row of the file; `None` when a field is missing or makes no sense.
    fn add(&mut self, fields: &csv::StringRecord) -> Option<()> {
        let fields: Vec<&str> = fields.iter().collect();
        let [cut, encoding, mean, p99, calibration, exit, right, entropy] = *fields.first_chunk()?;
        let effect = if exit.is_empty() {
            (right.is_empty() && entropy.is_empty()).then_some(None)?
        } else {
            Some(self.effect(cut.is_empty(), exit, right, entropy)?)
        };
        if cut.is_empty() {
            self.uncut.push(effect?);
            return Some(());
        }
        let encoding = encoding.parse().ok()?;
        match self.rows.last_mut().filter(|last| last.cut == cut && last.encoding == encoding) {
            Some(last) => last.exits.push(effect?),
            None => self.rows.push(EncodingRow {
                cut: cut.into(),
                encoding,
                bytes_mean: mean.parse().ok().filter(|mean: &f64| mean.is_finite() && *mean >= 0.0)?,
                bytes_p99: p99.parse().ok()?,
                calibration: match calibration {
                    "" => None,
                    json => Some(serde_json::from_str(json).ok()?),
                },
                exits: effect.into_iter().collect(),
            }),
        }
        Some(())
    }

    /// An exit's answers: as they stand where they are the uncut ones, else the uncut ones with these changes.
    fn effect(&self, is_uncut: bool, exit: &str, right: &str, entropy: &str) -> Option<ExitEffect> {
        let digit = |digit: u8| matches!(digit, b'0' | b'1').then_some(digit == b'1');
        let mut right: Vec<bool> = right.bytes().map(digit).collect::<Option<_>>()?;
        let numbers = entropy.split(' ').filter(|number| !number.is_empty());
        let mut entropy: Vec<i32> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
        if !is_uncut {
            let uncut = self.uncut(exit)?;
            let same = (right.len(), entropy.len()) == (uncut.right.len(), uncut.entropy.len());
            same.then_some(())?;
            right.iter_mut().zip(&uncut.right).for_each(|(right, uncut)| *right ^= uncut);
            for (steps, &uncut) in entropy.iter_mut().zip(&uncut.entropy) {
                *steps = steps.checked_add(uncut.into())?;
            }
        }
        let entropy: Vec<u16> =
            entropy.into_iter().map(|steps| u16::try_from(steps).ok()).collect::<Option<_>>()?;
        let sizes_fit = right.len() == self.samples && [0, self.samples].contains(&entropy.len());
        sizes_fit.then(|| ExitEffect { exit: exit.into(), right, entropy })
    }
}

fn no_such_exit(exit: &str) -> Error {
    Error::failed(format!("the record has answers of exit '{exit}' behind a cut, but none of it uncut"))
}

fn digits(flags: &[bool]) -> String {
    flags.iter().map(|&flag| if flag { '1' } else { '0' }).collect()
}

fn numbers<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn calibration_text(calibration: Option<&Calibration>) -> Result<String> {
    let text = calibration.map(serde_json::to_string).transpose();
    Ok(text
        .map_err(|error| Error::failed(format!("cannot write a calibration ({error})")))?
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use coprof_core::codec::TensorCalibration;

    fn small() -> EncodingRecord {
        let row = |cut: &str, encoding: &str, exits| EncodingRow {
            cut: cut.into(),
            encoding: encoding.parse().unwrap(),
            bytes_mean: 1234.5,
            bytes_p99: 1300,
            calibration: encoding.contains('k').then(|| Calibration {
                tensors: vec![TensorCalibration {
                    ranges: [(4, [-0.1, 2.0 / 3.0])].into(),
                    ..TensorCalibration::default()
                }],
            }),
            exits,
        };
        let effect = |exit: &str, right: [bool; 2], entropy: &[u16]| ExitEffect {
            exit: exit.into(),
            right: right.to_vec(),
            entropy: entropy.to_vec(),
        };
        let rows = vec![
            row("input", "pixels+deflate", vec![]),
            row(
                "input",
                "q4k",
                vec![effect("exit1", [true, true], &[0, 65535]), effect("final", [false, true], &[])],
            ),
            row("conv2a+skip", "q4", vec![effect("final", [true, true], &[])]),
            row("conv2a+skip", "q4+deflate", vec![]),
        ];
        let uncut = vec![effect("exit1", [true, false], &[65535, 65000]), effect("final", [true, true], &[])];
        let (model, data) = (ModelHash::of(b"m"), "d".into());
        EncodingRecord { model, data, samples: 2, calibrated_on: 3, uncut, rows }
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
        let (text, changes) = (text(), ",exit1,01,-65535 535\n");
        assert!(text.contains("\ninput,q4k,1234.5,1300,\"{") && text.contains(changes), "{text}");
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
        assert_eq!(find(&[], "q4k"), Some(2));
        assert_eq!(find(&["conv2a", "skip"], "q4+deflate"), Some(0));
        assert_eq!(find(&["conv2a"], "q4"), None);
        assert_eq!(record.rows[1].exits[0].entropies(), [0.0, 1.0]);
        assert_eq!(record.rows[1].exits[1].entropies(), [0.0, 0.0]);
        assert_eq!(record.answers(&record.rows[3]), Some(&record.rows[2]));
        assert_eq!(record.answers(&record.rows[0]), None);
    }

    #[test]
    fn damage_is_named() {
        for (from, to, expected) in [
            (
                "coprof.encoding-record/2",
                "coprof.encoding-record/1",
                "schema coprof.encoding-record/2 was expected",
            ),
            ("samples=2", "samples=0", "positive number"),
            ("calibrated_on=3", "calibrated_on=x", "positive number"),
            ("bytes_p99", "p99", "columns"),
            (",01,-65535 535", ",0x,-65535 535", "row 4 makes no sense"),
            (",01,-65535 535", ",011,-65535 535", "row 4 makes no sense"),
            (",01,-65535 535", ",01,-65535 536", "row 4 makes no sense"),
            (",01,-65535 535", ",01,-65536 535", "row 4 makes no sense"),
            (",01,-65535 535", ",01,-65535 2147483647", "row 4 makes no sense"),
            (",01,-65535 535", ",01,-65535", "row 4 makes no sense"),
            (",exit1,01,", ",exit9,01,", "row 4 makes no sense"),
            ("\"\"ranges\"\"", "\"\"fences\"\"", "row 4 makes no sense"),
            (",pixels+deflate,", ",q5,", "row 3 makes no sense"),
            (",01,-65535 535", ",01", "broken table"),
        ] {
            assert!(text().contains(from), "{from}");
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
