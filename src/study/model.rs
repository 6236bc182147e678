//! Which model a command works on: a bundled one or a file, with its records.

use std::borrow::Cow;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Context;
use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_core::model::{
    ExternalPart, Graph, InputShape, ModelHash, OutputChoice, self_contained, with_input_shape, with_outputs,
};
use coprof_run::data::{EncodingRecord, ExitRecord};
use coprof_run::pipeline::MAX_MODEL_BYTES;

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

static BUNDLED: [Bundled; 5] =
    [bundled!("alexnet"), bundled!("googlenet"), bundled!("msdnet"), bundled!("resnet56"), bundled!("vgg16")];

/// A network of two layers that do next to nothing: what remains of a task is coprof's own doing. `models/check/null.py` writes it.
static NULL: &[u8] = include_bytes!("../../models/null.onnx");

/// Which model.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// A bundled model, or an ONNX file.
    pub name: String,
    /// The shapes of its inputs, where its file leaves sides open.
    pub input_shapes: Vec<InputShape>,
    /// What its outputs are, where that is to be said.
    pub outputs: OutputChoice,
}

impl ModelOptions {
    /// A model of which no more is said.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), input_shapes: Vec::new(), outputs: OutputChoice::default() }
    }
}

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
    Null,
}

impl Model {
    /// Loads a model, and says where it is run otherwise than its file has it.
    pub fn open(options: &ModelOptions, context: &Context) -> Result<Self> {
        let (name, loaded) = (&options.name, Self::load(options)?);
        if let Some(batch) = loaded.graph.fixed_batch {
            context.say(format!("{name}: its file runs {batch} samples at once; run with one at a time"));
        }
        if let (outputs @ [_, _, ..], true) = (&*loaded.graph.outputs, options.outputs.exits.is_empty()) {
            let outputs: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            let told = format!("{name}: {} are results, which come together at the end", outputs.join(", "));
            context.advise(told, Remedy::NameExits);
        }
        Ok(loaded)
    }

    /// Loads a bundled model by its name, or else a file. What is said of its input and its outputs the file's bytes then have
    /// inside, so that an edge needs nothing else.
    pub fn load(options: &ModelOptions) -> Result<Self> {
        let ModelOptions { name, input_shapes, outputs } = options;
        if let Some(bundled) = BUNDLED.iter().find(|bundled| bundled.name == name) {
            if *outputs != OutputChoice::default() {
                let what = "its exits and what agreement means are known; only those of a file are named";
                return Err(Error::usage(format!("{name}: {what}")));
            }
            for wanted in input_shapes {
                with_input_shape(bundled.onnx, wanted).map_err(|error| error.within(name))?;
            }
            let graph = Graph::from_onnx(bundled.name, bundled.onnx)?;
            let origin = Origin::Bundled(bundled);
            return Ok(Self { graph: Arc::new(graph), file: bundled.onnx.into(), origin });
        }
        let path = Path::new(name);
        let file = contents(path, options)?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model");
        let graph = Graph::from_onnx(stem, &file).map_err(|error| error.within(name))?;
        Ok(Self { graph: Arc::new(graph), file: file.into(), origin: Origin::File(path.into()) })
    }

    /// The network that does next to nothing.
    pub fn null() -> Result<Self> {
        let graph = Arc::new(Graph::from_onnx("null", NULL)?);
        Ok(Self { graph, file: NULL.into(), origin: Origin::Null })
    }

    /// Errors unless its answers are classes, as labels are.
    pub fn check_classes(&self) -> Result<()> {
        let Graph { name, outputs, .. } = &*self.graph;
        if self.graph.tells_classes() {
            return Ok(());
        }
        let outputs: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        Err(Error::failed(format!(
            "{name}: expected answers that are classes, as the labels are; found {}, which agree by {}",
            outputs.join(", "),
            self.graph.agreement()
        ))
        .with(Remedy::NameExits))
    }

    /// Where a record of this model is written: `NAME.exits.csv.gz` under `models/`, or beside the model's file.
    pub fn record_path(&self, kind: &str) -> PathBuf {
        let file_name = format!("{}.{kind}.csv.gz", self.graph.name);
        match &self.origin {
            Origin::Bundled(_) | Origin::Null => Path::new("models").join(file_name),
            Origin::File(path) => path.with_file_name(file_name),
        }
    }

    /// Whether a record of this kind is there.
    pub fn has_record(&self, kind: &str) -> bool {
        matches!(self.origin, Origin::Bundled(_)) || self.record_path(kind).exists()
    }

    /// The exit record; a file's stands beside the model.
    pub fn exit_record(&self) -> Result<ExitRecord> {
        let hash = Some(&self.graph.hash);
        match &self.origin {
            Origin::Bundled(bundled) => ExitRecord::from_gzip(bundled.exits, hash),
            Origin::File(_) | Origin::Null => ExitRecord::read(&self.record_path("exits"), hash),
        }
    }

    /// The encoding record; a file's stands beside the model.
    pub fn encoding_record(&self) -> Result<EncodingRecord> {
        let hash = Some(&self.graph.hash);
        match &self.origin {
            Origin::Bundled(bundled) => EncodingRecord::from_gzip(bundled.encodings, hash),
            Origin::File(_) | Origin::Null => EncodingRecord::read(&self.record_path("encodings"), hash),
        }
    }
}

/// The bytes of a file with all weights inside, and with what is said of its input and outputs.
fn contents(path: &Path, options: &ModelOptions) -> Result<Vec<u8>> {
    let ModelOptions { name, input_shapes, outputs } = options;
    let file = read(path, name)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let within = |error: Error| error.within(name);
    let file = self_contained(&file, MAX_MODEL_BYTES, |part| read_part(folder, part)).map_err(within)?;
    let mut file = file.into_owned();
    for wanted in input_shapes {
        if let Cow::Owned(shaped) = with_input_shape(&file, wanted).map_err(within)? {
            file = shaped;
        }
    }
    with_outputs(&file, outputs).map(Cow::into_owned).map_err(within)
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>> {
    let names: Vec<&str> = bundled_names().collect();
    let missing = |error: std::io::Error| {
        Error::failed(format!(
            "{name}: {error}\nexpected an ONNX file or a bundled model ({})",
            names.join(", ")
        ))
        .with(Remedy::GiveAnother(Given::Model))
    };
    let size = std::fs::metadata(path).map_err(missing)?.len();
    if size > MAX_MODEL_BYTES as u64 {
        return Err(Error::failed(format!(
            "{name}: {size} bytes; files of up to {MAX_MODEL_BYTES} are read"
        ))
        .with(Remedy::GiveAnother(Given::Model)));
    }
    std::fs::read(path).map_err(missing)
}

/// Reads weights that lie beside a model's file. Links must not lead out of its folder either.
fn read_part(folder: &Path, part: ExternalPart<'_>) -> Result<Vec<u8>> {
    let path = folder.join(part.path);
    let failed =
        |what: &dyn std::fmt::Display| Error::failed(format!("weights in {}: {what}", path.display()));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (folder, real) = (folder.canonicalize(), path.canonicalize());
    let (folder, real) = (folder.map_err(|e| failed(&e))?, real.map_err(|e| failed(&e))?);
    if !real.starts_with(&folder) {
        return Err(failed(&"the file lies outside the model's folder"));
    }
    let mut file = std::fs::File::open(real).map_err(|e| failed(&e))?;
    let size = file.metadata().map_err(|e| failed(&e))?.len();
    if part.offset.checked_add(part.length as u64).is_none_or(|end| end > size) {
        let ExternalPart { offset, length, .. } = part;
        return Err(failed(&format_args!("expected {length} bytes from {offset} on, found {size} in all")));
    }
    let mut data = vec![0; part.length];
    file.seek(SeekFrom::Start(part.offset)).map_err(|e| failed(&e))?;
    file.read_exact(&mut data).map_err(|e| failed(&e))?;
    Ok(data)
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

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/onnx");

    fn message(folder: &Path) -> String {
        Model::load(&ModelOptions::named(folder.join("outside.onnx").to_str().unwrap()))
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn every_bundled_model_has_its_own_records() {
        for name in bundled_names() {
            let model = Model::load(&ModelOptions::named(name)).unwrap();
            let (exits, encodings) = (model.exit_record().unwrap(), model.encoding_record().unwrap());
            assert_eq!(exits.data, encodings.data, "{name}: records of different images");
            assert!(
                exits.exits.iter().eq(model.graph.exits.iter().map(|exit| &exit.name)),
                "{name}: other exits"
            );
        }
    }

    #[test]
    fn weights_beside_the_file_are_put_inside_it() {
        let inside = Model::load(&ModelOptions::named(&format!("{FOLDER}/convolutions_17.onnx"))).unwrap();
        let outside = Model::load(&ModelOptions::named(&format!("{FOLDER}/outside.onnx"))).unwrap();
        // What a peer is sent needs no other file.
        let sent = Graph::from_onnx("sent", &outside.file).unwrap();
        assert_eq!(sent.hash, outside.graph.hash);
        let layers = |graph: &Graph| format!("{:?}", graph.layers);
        assert_eq!(layers(&inside.graph), layers(&sent));
    }

    #[test]
    fn weights_are_read_from_the_models_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        let to = |name: &str| folder.path().join("models").join(name);
        std::fs::create_dir(folder.path().join("models")).unwrap();
        std::fs::copy(format!("{FOLDER}/outside.onnx"), to("outside.onnx")).unwrap();
        assert!(message(&to("")).contains("outside.data"), "a missing file");
        let elsewhere = folder.path().join("outside.data");
        std::fs::copy(format!("{FOLDER}/outside.data"), &elsewhere).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&elsewhere, to("outside.data")).unwrap();
            assert!(message(&to("")).contains("outside the model's folder"), "a link that leads out");
            std::fs::remove_file(to("outside.data")).unwrap();
        }
        std::fs::write(to("outside.data"), [0; 64]).unwrap();
        assert!(message(&to("")).contains("found 64 in all"), "a short file");
    }
}
