//! CIFAR-10 in its official binary layout: from the folder or straight from the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::images::{Images, Split};
use coprof_core::error::{Error, Remedy, Result};

/// The name of the official archive.
pub const ARCHIVE: &str = "cifar-10-binary.tar.gz";
/// The folder inside it.
const FOLDER: &str = "cifar-10-batches-bin";
const PICTURE_BYTES: usize = 3 * 32 * 32;
/// A label, then the picture.
const RECORD_BYTES: usize = 1 + PICTURE_BYTES;
const RECORDS_PER_FILE: usize = 10_000;
const FILE_BYTES: u64 = (RECORDS_PER_FILE * RECORD_BYTES) as u64;
const CLASSES: u8 = 10;
/// The last pictures of the training set, which no bundled model was trained on.
const VALIDATION: usize = 5_000;
const TEST_FILE: &str = "test_batch.bin";
const LAST_TRAIN_FILE: &str = "data_batch_5.bin";

/// The contents of `.bin` files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// CIFAR-10 where it was found; nothing is read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cifar10 {
    /// The folder that holds the six `.bin` files.
    Folder(PathBuf),
    /// The official archive.
    Archive(PathBuf),
}

/// Finds CIFAR-10: in `named`, else in `COPROF_DATA`, else in `datasets/`. Each may be the folder of `.bin`
/// files, a folder that holds it or the archive, or the archive itself. `None` when nobody named a place and there is
/// nothing in `datasets/`; an error when the named place holds no CIFAR-10.
pub fn locate(named: Option<&Path>) -> Result<Option<Cifar10>> {
    let variable = env::var_os("COPROF_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
    locate_in(named, variable.as_deref(), Path::new("datasets"))
}

fn locate_in(named: Option<&Path>, variable: Option<&Path>, default: &Path) -> Result<Option<Cifar10>> {
    let missing = |place: &Path, named_by: &str| {
        Error::failed(format!(
            "{named_by}{}, but there is no CIFAR-10 there: expected {FOLDER}/ or {ARCHIVE}\n\
             `coprof fetch cifar10` downloads it",
            place.display()
        ))
    };
    match (named, variable) {
        (Some(place), _) => {
            find(place).map(Some).ok_or_else(|| missing(place, "").with(Remedy::NameOtherCifar10))
        }
        (None, Some(place)) => find(place).map(Some).ok_or_else(|| missing(place, "COPROF_DATA names ")),
        (None, None) => Ok(find(default)),
    }
}

/// Whether CIFAR-10 lies there, as [`locate`] finds it: its folder, or a `.tar.gz` file.
pub fn is_cifar10(place: &Path) -> bool {
    let is_archive = place.extension().is_some_and(|extension| extension == "gz");
    (place.is_dir() || is_archive) && find(place).is_some()
}

fn find(place: &Path) -> Option<Cifar10> {
    if place.is_file() {
        return Some(Cifar10::Archive(place.into()));
    }
    let inner = place.join(FOLDER);
    for folder in [inner.as_path(), place] {
        if folder.join(TEST_FILE).is_file() || folder.join(LAST_TRAIN_FILE).is_file() {
            return Some(Cifar10::Folder(folder.into()));
        }
    }
    Some(place.join(ARCHIVE)).filter(|archive| archive.is_file()).map(Cifar10::Archive)
}

impl Cifar10 {
    /// The folder or archive.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive(path) => path,
        }
    }

    /// The files that these splits are read from.
    pub(super) fn files(&self, splits: &[Split]) -> Vec<PathBuf> {
        match self {
            Self::Folder(folder) => names(splits).into_iter().map(|name| folder.join(name)).collect(),
            Self::Archive(archive) => vec![archive.clone()],
        }
    }

    /// Reads one split. Errors name the file, what was expected and what was found.
    pub fn load(&self, split: Split) -> Result<Images> {
        let files = self.read(&[split])?;
        self.assemble(split, &files)
    }

    /// Reads several splits in one pass, in the order asked for.
    pub fn load_many(&self, splits: &[Split]) -> Result<Vec<Images>> {
        let files = self.read(splits)?;
        splits.iter().map(|&split| self.assemble(split, &files)).collect()
    }

    /// The files that these splits need, by name.
    fn read(&self, splits: &[Split]) -> Result<Files> {
        let wanted = names(splits);
        match self {
            Self::Folder(folder) => read_folder(folder, &wanted),
            Self::Archive(archive) => read_archive(archive, &wanted),
        }
    }

    fn assemble(&self, split: Split, files: &Files) -> Result<Images> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for (name, range) in parts(split) {
            let bytes = files.get(name).ok_or_else(|| broken(self.path(), format!("{name} is missing")))?;
            for record in bytes.chunks_exact(RECORD_BYTES).skip(range.start).take(range.len()) {
                let (label, picture) = (record[0], &record[1..]);
                if label >= CLASSES {
                    return Err(broken(
                        self.path(),
                        format!("a label in {name} is {label}, expected 0 to 9"),
                    ));
                }
                labels.push(label);
                pixels.extend_from_slice(picture);
            }
        }
        Images::new(PICTURE_BYTES, pixels, Some(labels))
            .ok_or_else(|| broken(self.path(), format!("the {split} split has no whole pictures")))
    }
}

/// The names of the files that these splits are made of.
fn names(splits: &[Split]) -> BTreeSet<&'static str> {
    splits.iter().flat_map(|&split| parts(split)).map(|part| part.0).collect()
}

/// The files of a split, and which of their records belong to it.
fn parts(split: Split) -> Vec<(&'static str, Range<usize>)> {
    let kept = RECORDS_PER_FILE - VALIDATION;
    match split {
        Split::Train => vec![
            ("data_batch_1.bin", 0..RECORDS_PER_FILE),
            ("data_batch_2.bin", 0..RECORDS_PER_FILE),
            ("data_batch_3.bin", 0..RECORDS_PER_FILE),
            ("data_batch_4.bin", 0..RECORDS_PER_FILE),
            (LAST_TRAIN_FILE, 0..kept),
        ],
        Split::Validation => vec![(LAST_TRAIN_FILE, kept..RECORDS_PER_FILE)],
        Split::Test => vec![(TEST_FILE, 0..RECORDS_PER_FILE)],
    }
}

fn broken(place: &Path, what: String) -> Error {
    Error::failed(format!(
        "{}: {what}\nThis is not CIFAR-10's binary version, or it is damaged; `coprof fetch cifar10` gets a good copy",
        place.display()
    ))
}

fn read_folder(folder: &Path, wanted: &BTreeSet<&str>) -> Result<Files> {
    let mut files = Files::new();
    for &name in wanted {
        let path = folder.join(name);
        let file = File::open(&path).map_err(|error| broken(&path, error.to_string()))?;
        let size = file.metadata().map_err(|error| broken(&path, error.to_string()))?.len();
        files.insert(name.into(), read_file(&path, name, size, file)?);
    }
    Ok(files)
}

fn read_archive(archive: &Path, wanted: &BTreeSet<&str>) -> Result<Files> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => broken(archive, "it is cut short".into()),
        _ => broken(archive, format!("not a readable .tar.gz ({error})")),
    };
    let file = File::open(archive).map_err(fail)?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut files = Files::new();
    for entry in tar.entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path().map_err(fail)?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| wanted.contains(name))
        else {
            continue;
        };
        let size = entry.size();
        files.insert(name.into(), read_file(archive, name, size, entry)?);
        if files.len() == wanted.len() {
            break;
        }
    }
    Ok(files)
}

/// Reads a file of 10,000 records; `place` is what errors name.
fn read_file(place: &Path, name: &str, size: u64, reader: impl Read) -> Result<Vec<u8>> {
    let wrong = |found: u64| broken(place, format!("{name} should have {FILE_BYTES} bytes, found {found}"));
    if size != FILE_BYTES {
        return Err(wrong(size));
    }
    let mut bytes = Vec::with_capacity(RECORDS_PER_FILE * RECORD_BYTES);
    reader.take(FILE_BYTES).read_to_end(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => broken(place, format!("it is cut short in {name}")),
        _ => broken(place, format!("{name}: {error}")),
    })?;
    if bytes.len() as u64 != FILE_BYTES {
        return Err(wrong(bytes.len() as u64));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(super) use tests::copy_of_cifar10;

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A file of records whose labels and pixels tell file and place.
    fn batch(file: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for i in 0..RECORDS_PER_FILE {
            bytes.extend([(i % 10) as u8, file]);
            bytes.resize((i + 1) * RECORD_BYTES, (i % 251) as u8);
        }
        bytes
    }

    fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join(FOLDER);
        std::fs::create_dir(&inner).unwrap();
        for (name, bytes) in files {
            std::fs::write(inner.join(name), bytes).unwrap();
        }
        dir
    }

    /// The splits that records are made on, with pictures that the number tells from those of other copies.
    pub fn copy_of_cifar10(number: u8) -> tempfile::TempDir {
        folder_of(&[(TEST_FILE, &batch(number)), (LAST_TRAIN_FILE, &batch(0))])
    }

    fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, format!("{FOLDER}/{name}"), *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn folder_and_archive_give_the_same_splits() {
        let (last, test) = (batch(5), batch(6));
        let dir = folder_of(&[(TEST_FILE, &test), (LAST_TRAIN_FILE, &last)]);
        let archive = dir.path().join("a.tar.gz");
        std::fs::write(&archive, archive_of(&[("batches.meta.txt", b"x"), (TEST_FILE, &test)])).unwrap();
        let from_folder = find(dir.path()).unwrap();
        assert_eq!(from_folder, find(&dir.path().join(FOLDER)).unwrap());
        let splits = [Split::Validation, Split::Test];
        let loaded = from_folder.load_many(&splits).unwrap();
        assert_eq!(loaded[1], find(&archive).unwrap().load(Split::Test).unwrap());
        let (validation, test) = (&loaded[0], &loaded[1]);
        assert_eq!((validation.len(), test.len()), (5_000, 10_000));
        assert_eq!(validation.bytes(0)[..2], [5, (5_000 % 251) as u8]);
        assert_eq!((validation.label(7), test.bytes(9_999)[0]), (Some(7), 6));
    }

    #[test]
    fn damage_is_named() {
        let mut bad_label = batch(6);
        bad_label[3 * RECORD_BYTES] = 10;
        let message = |bytes: &[u8]| {
            let dir = folder_of(&[(TEST_FILE, bytes)]);
            find(dir.path()).unwrap().load(Split::Test).unwrap_err().to_string()
        };
        assert!(message(&bad_label).contains("label in test_batch.bin is 10"), "{}", message(&bad_label));
        let short = message(&bad_label[..70_000]);
        assert!(short.contains("30730000 bytes, found 70000") && short.contains("fetch cifar10"), "{short}");
        let dir = folder_of(&[(TEST_FILE, &bad_label)]);
        let missing = find(dir.path()).unwrap().load(Split::Train).unwrap_err().to_string();
        assert!(missing.contains("data_batch_1.bin"), "{missing}");
    }

    #[test]
    fn damaged_archives_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ARCHIVE);
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            find(dir.path()).unwrap().load(Split::Test).unwrap_err().to_string()
        };
        let whole = archive_of(&[(TEST_FILE, &batch(6))]);
        assert!(message(&whole[..whole.len() / 2]).contains("cut short"));
        assert!(message(&b"<html>".repeat(99)).contains("not a readable .tar.gz"));
        let other = archive_of(&[("readme.html", b"x")]);
        assert!(message(&other).contains("test_batch.bin is missing"), "{}", message(&other));
    }

    #[test]
    fn only_a_named_place_must_hold_it() {
        let empty = tempfile::tempdir().unwrap();
        let full = folder_of(&[(TEST_FILE, b"")]);
        assert_eq!(locate_in(None, None, empty.path()), Ok(None));
        assert!(locate_in(None, None, full.path()).unwrap().is_some());
        assert!(locate_in(Some(full.path()), Some(empty.path()), empty.path()).unwrap().is_some());
        let error = locate_in(Some(empty.path()), None, full.path()).unwrap_err();
        assert_eq!(error.remedy(), Some(Remedy::NameOtherCifar10));
        let error = locate_in(None, Some(empty.path()), full.path()).unwrap_err().to_string();
        assert!(error.contains("COPROF_DATA") && error.contains("coprof fetch"), "{error}");
    }
}
