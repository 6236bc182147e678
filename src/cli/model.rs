//! Which model a command works on: a bundled one or a file, with its records.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::{EncodingRecord, ExitRecord};
use crate::error::{Error, Result};
use crate::model::{Graph, ModelHash};

/// A model that comes inside the program, with the records that `coprof exits` and `coprof encodings` made of it.
struct Bundled {
    name: &'static str,
    onnx: &'static [u8],
    exits: &'static [u8],
    encodings: &'static [u8],
}

macro_rules! bundled {
    ($name:literal) => {
        Bundled {
            name: $name,
            onnx: include_bytes!(concat!("../../models/", $name, ".onnx")),
            exits: include_bytes!(concat!("../../models/", $name, ".exits.csv.gz")),
            encodings: include_bytes!(concat!("../../models/", $name, ".encodings.csv.gz")),
        }
    };
}

static BUNDLED: [Bundled; 1] = [bundled!("alexnet")];

/// No model file that coprof can run is larger.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// A model as a command works on it.
#[derive(Clone)]
pub struct Model {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The bytes of its file, as an edge wants them.
    pub file: Arc<[u8]>,
    origin: Origin,
}

#[derive(Clone)]
enum Origin {
    Bundled(&'static Bundled),
    File(PathBuf),
}

impl Model {
    /// Loads `--model`: a bundled name, or else a file.
    pub fn load(name: &str) -> Result<Self> {
        if let Some(bundled) = BUNDLED.iter().find(|bundled| bundled.name == name) {
            let graph = Graph::from_onnx(bundled.name, bundled.onnx)?;
            let origin = Origin::Bundled(bundled);
            return Ok(Self { graph: Arc::new(graph), file: bundled.onnx.into(), origin });
        }
        let path = Path::new(name);
        let file = read(path, name)?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model");
        let graph = Graph::from_onnx(stem, &file).map_err(|error| error.within(name))?;
        Ok(Self { graph: Arc::new(graph), file: file.into(), origin: Origin::File(path.into()) })
    }

    /// Where a record of this model is written: `NAME.exits.csv.gz` under `models/`, or beside the model's file.
    pub fn record_path(&self, kind: &str) -> PathBuf {
        let file_name = format!("{}.{kind}.csv.gz", self.graph.name);
        match &self.origin {
            Origin::Bundled(_) => Path::new("models").join(file_name),
            Origin::File(path) => path.with_file_name(file_name),
        }
    }

    /// The exit record; a file's stands beside the model.
    pub fn exit_record(&self) -> Result<ExitRecord> {
        let hash = Some(&self.graph.hash);
        match &self.origin {
            Origin::Bundled(bundled) => ExitRecord::from_gzip(bundled.exits, hash),
            Origin::File(_) => ExitRecord::read(&self.record_path("exits"), hash),
        }
    }

    /// The encoding record; a file's stands beside the model.
    pub fn encoding_record(&self) -> Result<EncodingRecord> {
        let hash = Some(&self.graph.hash);
        match &self.origin {
            Origin::Bundled(bundled) => EncodingRecord::from_gzip(bundled.encodings, hash),
            Origin::File(_) => EncodingRecord::read(&self.record_path("encodings"), hash),
        }
    }
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>> {
    let names: Vec<&str> = bundled_names().collect();
    let missing = |error: std::io::Error| {
        Error::failed(format!(
            "--model {name}: {error}\nexpected an ONNX file or a bundled model ({})",
            names.join(", ")
        ))
    };
    let size = std::fs::metadata(path).map_err(missing)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Error::failed(format!(
            "--model {name}: {size} bytes; files of up to {MAX_FILE_BYTES} are read"
        )));
    }
    std::fs::read(path).map_err(missing)
}

/// The names of the bundled models.
pub fn bundled_names() -> impl Iterator<Item = &'static str> {
    BUNDLED.iter().map(|bundled| bundled.name)
}

/// The bundled model with this hash: its name and file.
pub fn bundled(hash: &ModelHash) -> Option<(String, Arc<[u8]>)> {
    let found = BUNDLED.iter().find(|bundled| ModelHash::of(bundled.onnx) == *hash)?;
    Some((found.name.into(), found.onnx.into()))
}
