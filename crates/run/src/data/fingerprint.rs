//! Which pictures a result was made on: a hash of them, kept in the user's cache, since files have to be read for it whole, and
//! archives unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cifar10::Cifar10;
use super::files::{user_cache, write_whole};
use super::images::{Images, Split};
use coprof_core::error::Result;

/// The SHA-256, in hexadecimal, of the records that these splits were read from: says which data a result was made from.
pub fn fingerprint(splits: &[&Images]) -> String {
    let mut hash = Sha256::new();
    for images in splits {
        for i in 0..images.len() {
            // As CIFAR-10's files have it: a byte for the label.
            hash.update(images.label(i).map(|label| label as u8).as_slice());
            hash.update(images.bytes(i));
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The splits that a model's records are made on.
const RECORDED: [Split; 2] = [Split::Validation, Split::Test];

const SCHEMA: &str = "coprof.images/1";

/// The fingerprints of copies of CIFAR-10 that this user has had: `images.json`.
#[derive(Clone, Debug)]
pub struct Fingerprints {
    path: Option<PathBuf>,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    schema: String,
    copies: BTreeMap<String, Copy>,
}

#[derive(Serialize, Deserialize)]
struct Copy {
    files: Vec<Stamp>,
    data_sha256: String,
}

/// What changes when a file is written anew.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_unix_ns: u64,
}

impl Fingerprints {
    /// Those in the user's cache.
    pub fn of_user() -> Self {
        Self { path: user_cache().map(|folder| folder.join("images.json")) }
    }

    /// The fingerprint that a record made on these pictures would carry.
    pub fn of_records(&self, found: &Cifar10) -> Result<String> {
        let (name, files) = (name(found), stamps(found));
        let mut known = self.read();
        if let Some(copy) = known.copies.get(&name).filter(|copy| Some(&copy.files) == files.as_ref()) {
            return Ok(copy.data_sha256.clone());
        }
        let images = found.load_many(&RECORDED)?;
        let data_sha256 = fingerprint(&images.iter().collect::<Vec<_>>());
        if let (Some(path), Some(files)) = (&self.path, files) {
            known.copies.insert(name, Copy { files, data_sha256: data_sha256.clone() });
            let json = serde_json::to_vec_pretty(&known).unwrap_or_default();
            // Without a cache it only takes longer the next time.
            let _ = write_whole(path, &json);
        }
        Ok(data_sha256)
    }

    /// A missing, damaged or foreign file holds nothing.
    fn read(&self) -> Document {
        let bytes = self.path.as_ref().and_then(|path| fs::read(path).ok());
        let document = bytes.and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok());
        document
            .filter(|document| document.schema == SCHEMA)
            .unwrap_or_else(|| Document { schema: SCHEMA.into(), copies: BTreeMap::new() })
    }
}

fn name(found: &Cifar10) -> String {
    let path = found.path();
    path.canonicalize().unwrap_or_else(|_| path.into()).display().to_string()
}

/// `None` where a file is missing.
fn stamps(found: &Cifar10) -> Option<Vec<Stamp>> {
    found.files(&RECORDED).iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = fs::metadata(path).ok()?;
    let modified = facts.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Stamp { bytes: facts.len(), modified_unix_ns: u64::try_from(modified.as_nanos()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::super::cifar10::{copy_of_cifar10, locate};
    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_the_records() {
        let images = Images::new(2, vec![1, 1, 2, 2], Some(vec![7, 8])).unwrap();
        assert_eq!(fingerprint(&[&images]), coprof_core::model::ModelHash::of(&[7, 1, 1, 8, 2, 2]).0);
    }

    #[test]
    fn copies_are_told_apart_and_each_is_read_once() {
        let [one, other] = [5, 6].map(copy_of_cifar10);
        let cache = tempfile::tempdir().unwrap();
        let fingerprints = Fingerprints { path: Some(cache.path().join("coprof/images.json")) };
        let found = |place: &tempfile::TempDir| locate(Some(place.path())).unwrap().unwrap();
        let of = |place| fingerprints.of_records(&found(place)).unwrap();
        let first = of(&one);
        let images = found(&one).load_many(&RECORDED).unwrap();
        assert_eq!(first, fingerprint(&[&images[0], &images[1]]));
        assert_ne!(first, of(&other));
        assert_eq!((of(&one), fingerprints.read().copies.len()), (first.clone(), 2));

        // What the cache says holds for files that nobody has written since.
        let mut known = fingerprints.read();
        known.copies.values_mut().for_each(|copy| copy.data_sha256 = "from the cache".into());
        let path = fingerprints.path.as_ref().unwrap();
        write_whole(path, &serde_json::to_vec(&known).unwrap()).unwrap();
        assert_eq!(of(&one), "from the cache");
        let file = &found(&one).files(&RECORDED)[0];
        fs::copy(file, one.path().join("new")).unwrap();
        fs::rename(one.path().join("new"), file).unwrap();
        assert_eq!(of(&one), first);
        fs::remove_file(file).unwrap();
        assert!(fingerprints.of_records(&found(&one)).unwrap_err().to_string().contains("data_batch_5.bin"));
    }
}
