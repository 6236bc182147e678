//! The result of `coprof encodings`.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment};
use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::table::new_table;
use coprof_core::codec::{Element, Encoding};
use coprof_core::units::{Micros, Share};

/// The losses that the overview allows, in points.
const LOSSES: [(f64, &str); 3] = [(0.0, "none"), (0.5, "≤ 0.5"), (1.0, "≤ 1.0")];

/// One encoding at one cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodingTableRow {
    /// The cut's tips joined by `+`, or `input`.
    pub cut: String,
    /// How its frontier is written.
    pub encoding: Encoding,
    /// Mean size of the payload, without framing.
    pub bytes_mean: f64,
    /// The size that 99 % of the samples stay within.
    pub bytes_p99: u64,
    /// Mean time on this host to read the frontier from the runtime and write it; `None` where coprof runs no layers.
    pub encode_us: Option<Micros>,
    /// Mean time on this host to read it and hand it to the runtime.
    pub decode_us: Option<Micros>,
    /// By name, how often each exit behind the cut is right when all samples are answered there.
    pub accuracy: BTreeMap<String, Share>,
    /// That of the final exit.
    pub final_accuracy: Share,
}

/// The document of `coprof encodings`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodingsDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The fingerprint of the images.
    pub data_sha256: String,
    /// Validation images, on which sizes and answers are counted.
    pub samples: usize,
    /// Training images that calibrations were learned from.
    pub calibrated_on: usize,
    /// How often each exit is right uncut, by name.
    pub uncut_accuracy: BTreeMap<String, Share>,
    /// The final exit's.
    pub uncut_final_accuracy: Share,
    /// Every encoding at every cut.
    pub encodings: Vec<EncodingTableRow>,
}

impl EncodingsDocument {
    /// The names of its cuts in the order of the network.
    pub fn cuts(&self) -> Vec<&str> {
        let mut cuts: Vec<&str> = self.encodings.iter().map(|row| row.cut.as_str()).collect();
        cuts.dedup();
        cuts
    }

    fn of_cut(&self, cut: &str) -> impl Iterator<Item = &EncodingTableRow> {
        self.encodings.iter().filter(move |row| row.cut == cut)
    }

    /// The smallest encoding of a cut behind which the final exit loses at most so many points; of equal ones the fastest.
    fn smallest(&self, cut: &str, points: f64) -> Option<&EncodingTableRow> {
        let allowed = |row: &&EncodingTableRow| match points {
            0.0 => row.encoding.is_lossless(),
            _ => row.final_accuracy.0 >= self.uncut_final_accuracy.0 - points / 100.0 - 1e-9,
        };
        let time = |row: &EncodingTableRow| row.encode_us.into_iter().chain(row.decode_us).sum::<Micros>();
        let cost = |row: &EncodingTableRow| (row.bytes_mean, time(row).0);
        self.of_cut(cut).filter(allowed).min_by(|a, b| {
            let ((a_bytes, a_time), (b_bytes, b_time)) = (cost(a), cost(b));
            a_bytes.total_cmp(&b_bytes).then(a_time.total_cmp(&b_time))
        })
    }
}

/// An overview: at each cut, the smallest encoding at a few losses.
pub fn encodings_view(document: &EncodingsDocument) -> String {
    let mut table =
        new_table(["cut after", "loss", "encoding", "bytes", "write", "read", "of f32", "accuracy"]);
    let is_exact = |cut: &&str| document.of_cut(cut).all(|row| row.encoding.is_lossless());
    let (exact, cuts): (Vec<&str>, Vec<&str>) = document.cuts().into_iter().partition(is_exact);
    for cut in cuts {
        let plain = document.of_cut(cut).find(|row| row.encoding == Encoding::plain(Element::F32));
        let mut name = cut;
        for (points, loss) in LOSSES {
            let Some(row) = document.smallest(cut, points) else { continue };
            let share =
                |plain: &EncodingTableRow| format!("{:.1} %", 100.0 * row.bytes_mean / plain.bytes_mean);
            let mut cells = vec![Cell::new(name), Cell::new(loss)];
            cells.extend(figures(row));
            cells.push(right(plain.map_or_else(String::new, share)));
            cells.push(right(row.final_accuracy.to_string()));
            table.add_row(cells);
            name = "";
        }
    }
    let wide = match exact.len() {
        0 => String::new(),
        count => format!(
            "\n{count} more cuts, through parallel branches, carry no less than a cut before them: only exact encodings are\n\
             weighed there."
        ),
    };
    format!(
        "{table}\nThe smallest encoding of each cut by the points of accuracy that the final exit loses. Uncut it is\n\
         right on {} of {} validation images. Bytes and times, on this host: means.\n\
         Every encoding of a cut: --cut NAME; of all: --csv FILE.{wide}",
        document.uncut_final_accuracy, document.samples
    )
}

/// Every encoding of one cut, the smallest first.
pub fn cut_view(document: &EncodingsDocument, cut: &str) -> String {
    let named = |shares: &BTreeMap<String, Share>| {
        let named: Vec<String> = shares.iter().map(|(exit, share)| format!("{exit} {share}")).collect();
        named.join(", ")
    };
    let mut table = new_table(["encoding", "bytes", "p99", "write", "read", "accuracy of the exits behind"]);
    let mut rows: Vec<&EncodingTableRow> = document.of_cut(cut).collect();
    rows.sort_by(|a, b| a.bytes_mean.total_cmp(&b.bytes_mean));
    for row in rows {
        let mut cells = figures(row).to_vec();
        cells.insert(2, right(row.bytes_p99.to_string()));
        cells.push(Cell::new(named(&row.accuracy)));
        table.add_row(cells);
    }
    format!(
        "{table}\nCut after {cut}. Uncut, of {} validation images: {}.\nTimes on this host: means.",
        document.samples,
        named(&document.uncut_accuracy)
    )
}

fn time(known: Option<Micros>) -> String {
    known.map_or_else(|| "–".into(), |time| time.to_string())
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// An encoding's name, mean size and times.
fn figures(row: &EncodingTableRow) -> [Cell; 4] {
    [
        Cell::new(row.encoding.to_string()),
        right(format!("{:.0}", row.bytes_mean)),
        right(time(row.encode_us)),
        right(time(row.decode_us)),
    ]
}

/// The rows of its CSV file, the header first.
pub fn encodings_csv(document: &EncodingsDocument) -> Vec<Vec<String>> {
    let exits: Vec<&String> = document.uncut_accuracy.keys().collect();
    let time = |known: Option<Micros>| known.map_or_else(String::new, |time| format!("{:.2}", time.0));
    let header = ["cut", "encoding", "bytes_mean", "bytes_p99", "encode_us", "decode_us"];
    let accuracies = exits.iter().map(|exit| format!("{exit}_accuracy"));
    let mut rows = vec![header.map(str::to_owned).into_iter().chain(accuracies).collect::<Vec<_>>()];
    rows.extend(document.encodings.iter().map(|row| {
        let of_exit = |exit: &&String| {
            row.accuracy.get(*exit).map_or_else(String::new, |share| format!("{:.4}", share.0))
        };
        let figures = [
            row.cut.clone(),
            row.encoding.to_string(),
            format!("{:.1}", row.bytes_mean),
            row.bytes_p99.to_string(),
            time(row.encode_us),
            time(row.decode_us),
        ];
        figures.into_iter().chain(exits.iter().map(of_exit)).collect()
    }));
    rows
}
