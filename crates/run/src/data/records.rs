//! The exit record: what every exit answers for every sample of the validation and test splits.

use std::fmt::Write;
use std::path::Path;

use super::files::{gunzip_text, gzip, read_gzip_text, write_whole};
use super::header::{header_line, split_header};
use super::images::Split;
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::{Confidence, ModelHash};
use coprof_core::units::Share;

const SCHEMA: &str = "coprof.exit-record/1";
/// Far above any record, far below what hurts.
const MAX_BYTES: u64 = 256 << 20;
const REMEDY: Remedy = Remedy::MakeExitRecord;
/// The columns before those of the exits.
const LEADING: [&str; 3] = ["split", "index", "label"];
/// The columns of each exit.
const PER_EXIT: [&str; 3] = ["prediction", "entropy", "top"];

/// What one exit answers for one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExitAnswer {
    /// The most probable class.
    pub prediction: u32,
    /// Entropy over the logarithm of the class count, to six decimals.
    pub entropy: Share,
    /// The probability of `prediction`, to six decimals.
    pub top: Share,
}

impl From<Confidence> for ExitAnswer {
    /// Rounds to what the file keeps, so that a fresh record and the one read back are the same.
    fn from(confidence: Confidence) -> Self {
        let rounded = |share: Share| Share((share.0 * 1e6).round() / 1e6);
        Self {
            prediction: confidence.class,
            entropy: rounded(confidence.entropy),
            top: rounded(confidence.top),
        }
    }
}

/// What every exit answers for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitSample {
    /// The split that it belongs to.
    pub split: Split,
    /// Its place in the split.
    pub index: u32,
    /// The right class.
    pub label: u32,
    /// Per exit, in the model's order.
    pub exits: Vec<ExitAnswer>,
}

/// The answers of every exit of one model, sample by sample: `models/NAME.exits.csv.gz`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitRecord {
    /// The model that answered.
    pub model: ModelHash,
    /// The fingerprint of the data.
    pub data: String,
    /// The names of the exits, the last one final.
    pub exits: Vec<String>,
    /// The samples, each with one answer per exit.
    pub samples: Vec<ExitSample>,
}

impl ExitRecord {
    /// The samples of one split.
    pub fn of_split(&self, split: Split) -> impl Iterator<Item = &ExitSample> {
        self.samples.iter().filter(move |sample| sample.split == split)
    }

    /// Per sample of a split whether an exit is right, and its normalised entropy.
    pub fn outcomes(&self, split: Split, exit: usize) -> (Vec<bool>, Vec<f32>) {
        self.of_split(split)
            .map(|sample| {
                let answer = sample.exits[exit];
                (answer.prediction == sample.label, answer.entropy.0 as f32)
            })
            .unzip()
    }

    /// Writes it as a gzipped CSV file, whole or not at all. The same record gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &gzip(self.to_csv().as_bytes())?)
    }

    fn to_csv(&self) -> String {
        let mut text = header_line(SCHEMA, &[("model_sha256", &self.model.0), ("data_sha256", &self.data)]);
        text.push_str(&LEADING.join(","));
        for exit in &self.exits {
            for column in PER_EXIT {
                text.push_str(&format!(",{exit}_{column}"));
            }
        }
        text.push('\n');
        for sample in &self.samples {
            // Writing to a String cannot fail.
            let _ = write!(text, "{},{},{}", sample.split, sample.index, sample.label);
            for ExitAnswer { prediction, entropy, top } in &sample.exits {
                let _ = write!(text, ",{prediction},{:.6},{:.6}", entropy.0, top.0);
            }
            text.push('\n');
        }
        text
    }

    /// Reads a record and checks all of it; an error unless it was made from `model`, where that is given.
    pub fn read(path: &Path, model: Option<&ModelHash>) -> Result<Self> {
        let text = read_gzip_text(path, MAX_BYTES).map_err(|error| error.with(REMEDY))?;
        Self::from_csv(&text, model)
            .map_err(|error| error.with(REMEDY).within(format!("exit record {}", path.display())))
    }

    /// Reads a record that is not in a file of its own; otherwise as [`read`](Self::read).
    pub fn from_gzip(bytes: &[u8], model: Option<&ModelHash>) -> Result<Self> {
        let record = gunzip_text(bytes, MAX_BYTES).and_then(|text| Self::from_csv(&text, model));
        record.map_err(|error| error.with(REMEDY).within("the bundled exit record"))
    }

    fn from_csv(text: &str, model: Option<&ModelHash>) -> Result<Self> {
        let (header, table) = split_header(text, SCHEMA)?;
        let model = header.model(model)?;
        let data = header.field("data_sha256")?.into();
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let broken = |error: csv::Error| Error::failed(format!("broken table ({error})"));
        let exits = exit_names(reader.headers().map_err(broken)?)?;
        let mut samples = Vec::new();
        for (row, record) in reader.records().enumerate() {
            let sample = parse_sample(&record.map_err(broken)?);
            samples.push(sample.ok_or_else(|| Error::failed(format!("row {} makes no sense", row + 1)))?);
        }
        if samples.is_empty() {
            return Err(Error::failed("it holds no samples"));
        }
        Ok(Self { model, data, exits, samples })
    }
}

/// The exits that the table's columns name.
fn exit_names(columns: &csv::StringRecord) -> Result<Vec<String>> {
    let columns: Vec<&str> = columns.iter().collect();
    let wrong = || Error::failed("columns split,index,label and three for each exit were expected");
    let rest = columns.strip_prefix(&LEADING).filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
    let mut exits = Vec::new();
    for three in rest.chunks(PER_EXIT.len()) {
        let name = three[0].strip_suffix("_prediction").ok_or_else(wrong)?;
        if !PER_EXIT.map(|column| format!("{name}_{column}")).iter().eq(three) {
            return Err(wrong());
        }
        exits.push(name.into());
    }
    Ok(exits)
}

/// `None` when a field is missing or out of its range. The table's reader has checked the number of fields.
fn parse_sample(record: &csv::StringRecord) -> Option<ExitSample> {
    let fields: Vec<&str> = record.iter().collect();
    let (leading, rest) = fields.split_first_chunk::<3>()?;
    let share = |text: &str| text.parse().ok().filter(|value| (0.0..=1.0).contains(value)).map(Share);
    let exits = rest.chunks_exact(PER_EXIT.len()).map(|three| {
        Some(ExitAnswer {
            prediction: three[0].parse().ok()?,
            entropy: share(three[1])?,
            top: share(three[2])?,
        })
    });
    Some(ExitSample {
        split: leading[0].parse().ok()?,
        index: leading[1].parse().ok()?,
        label: leading[2].parse().ok()?,
        exits: exits.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `(split, label, [(prediction, entropy)])` of one sample.
    pub type Row<'a> = (Split, u32, &'a [(u32, f64)]);

    /// A record with these answers, every top probability a half.
    pub fn record(samples: &[Row<'_>]) -> ExitRecord {
        let answer = |&(prediction, entropy): &(u32, f64)| ExitAnswer {
            prediction,
            entropy: Share(entropy),
            top: Share(0.5),
        };
        let sample = |(index, &(split, label, exits)): (usize, &Row<'_>)| ExitSample {
            split,
            index: index as u32,
            label,
            exits: exits.iter().map(answer).collect(),
        };
        let exits = (0..samples[0].2.len()).map(|exit| format!("exit{exit}")).collect();
        let samples = samples.iter().enumerate().map(sample).collect();
        ExitRecord { model: ModelHash::of(b"m"), data: "d".into(), exits, samples }
    }

    fn small() -> ExitRecord {
        record(&[(Split::Validation, 1, &[(1, 0.25), (2, 0.5)]), (Split::Test, 3, &[(3, 0.0), (3, 1.0)])])
    }

    proptest! {
        #[test]
        fn every_record_reads_back_as_it_was(
            answers in prop::collection::vec((0u32..20, prop::collection::vec((0u32..20, 0.0..=1.0, 0.0..=1.0), 3)), 1..40),
        ) {
            let confidence = |(class, entropy, top)| Confidence { class, entropy: Share(entropy), top: Share(top) };
            let samples = answers.into_iter().enumerate().map(|(i, (label, exits))| ExitSample {
                split: if i % 3 == 0 { Split::Test } else { Split::Validation },
                index: i as u32,
                label,
                exits: exits.into_iter().map(|exit| confidence(exit).into()).collect(),
            });
            let record = ExitRecord { samples: samples.collect(), exits: ["a", "b", "final"].map(String::from).to_vec(), ..small() };
            prop_assert_eq!(ExitRecord::from_csv(&record.to_csv(), Some(&record.model)).unwrap(), record);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(# coprof.exit-record/1 model_sha256=a data_sha256=b\n)?[a-z0-9_,.\n]{0,200}") {
            let _ = ExitRecord::from_csv(&text, None);
        }
    }

    #[test]
    fn files_have_the_documented_form_and_the_same_bytes_every_time() {
        let text = small().to_csv();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("# coprof.exit-record/1 model_sha256="), "{}", lines[0]);
        assert!(lines[1].starts_with("split,index,label,exit0_prediction,exit0_entropy,exit0_top,exit1_"));
        assert_eq!(lines[2], "validation,0,1,1,0.250000,0.500000,2,0.500000,0.500000");
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        small().write(&a).unwrap();
        ExitRecord::read(&a, None).unwrap().write(&b).unwrap();
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn outcomes_are_those_of_the_split() {
        assert_eq!(small().outcomes(Split::Validation, 1), (vec![false], vec![0.5]));
        assert_eq!(small().outcomes(Split::Test, 0), (vec![true], vec![0.0]));
    }

    #[test]
    fn foreign_and_damaged_records_are_refused() {
        let text = small().to_csv();
        let message = |text: &str| ExitRecord::from_csv(text, None).unwrap_err().to_string();
        for (from, to, expected) in [
            (
                "coprof.exit-record/1",
                "coprof.exit-record/2",
                "schema coprof.exit-record/1 was expected, found 'coprof.exit-record/2'",
            ),
            ("# coprof", "coprof", "found another kind of file"),
            (" data_sha256=d", "", "should hold data_sha256"),
            ("exit1_top", "exit2_top", "columns split,index,label"),
            (",exit1_prediction,exit1_entropy,exit1_top", "", "broken table"),
            ("0.250000", "1.250000", "row 1 makes no sense"),
            ("\ntest,", "\ndev,", "row 2 makes no sense"),
        ] {
            let found = message(&text.replacen(from, to, 1));
            assert!(found.contains(expected), "{found}");
        }
        assert!(message("").contains("another kind of file"));
        let headers: Vec<&str> = text.lines().take(2).collect();
        assert!(message(&headers.join("\n")).contains("no samples"));
    }

    #[test]
    fn errors_name_the_file_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alexnet.exits.csv.gz");
        small().write(&path).unwrap();
        let error = ExitRecord::read(&path, Some(&ModelHash::of(b"other"))).unwrap_err();
        assert_eq!(error.remedy(), Some(Remedy::MakeExitRecord));
        let error = error.to_string();
        assert!(error.contains("alexnet.exits") && error.contains("this model is"), "{error}");
    }
}
