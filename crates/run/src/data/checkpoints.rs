//! What a long measurement has finished, kept in a folder so that it goes on where it was stopped.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::{gzip, read_gzip_text, write_whole};
use super::unfinished::undisturbed;
use coprof_core::error::{Error, Result};

/// Far above any part.
const MAX_BYTES: u64 = 1 << 30;

/// Checkpoints of one measurement: its numbered parts. A part of another one (other model, data, settings or version) is not seen.
pub struct Checkpoints {
    folder: PathBuf,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct File<T> {
    key: String,
    part: T,
}

impl Checkpoints {
    /// Those in `folder`, which need not exist, of the measurement that `settings` describe.
    pub fn new(folder: &Path, settings: &[String]) -> Self {
        let mut hash = Sha256::new();
        for setting in settings.iter().map(String::as_str).chain([env!("CARGO_PKG_VERSION")]) {
            hash.update((setting.len() as u64).to_le_bytes());
            hash.update(setting);
        }
        let key = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { folder: folder.into(), key }
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{index:06}.json.gz"))
    }

    /// A part that is there, whole, and of this measurement.
    pub fn get<T: DeserializeOwned>(&self, index: usize) -> Option<T> {
        let text = read_gzip_text(&self.path(index), MAX_BYTES).ok()?;
        let file: File<T> = serde_json::from_str(&text).ok()?;
        (file.key == self.key).then_some(file.part)
    }

    /// A part that is there, or else the one that is made, which is kept.
    pub fn get_or_make<T: DeserializeOwned + Serialize>(
        &self,
        index: usize,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(part) = self.get(index) {
            return Ok(part);
        }
        let part = make()?;
        self.put(index, &part)?;
        Ok(part)
    }

    /// Keeps a part.
    pub fn put<T: Serialize>(&self, index: usize, part: &T) -> Result<()> {
        let text = serde_json::to_vec(&File { key: self.key.clone(), part })
            .map_err(|error| Error::failed(format!("cannot keep a part of the measurement ({error})")))?;
        write_whole(&self.path(index), &gzip(&text)?)
    }

    /// Removes the folder: the whole is made.
    pub fn remove(self) -> Result<()> {
        match undisturbed(|| std::fs::remove_dir_all(&self.folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::failed(format!("cannot remove {}: {error}", self.folder.display())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_to_their_own_measurement_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x.part");
        let checkpoints = Checkpoints::new(&folder, &["model", "data"].map(str::to_owned));
        assert_eq!(checkpoints.get::<Vec<u32>>(0), None);
        checkpoints.put(0, &vec![1, 2]).unwrap();
        checkpoints.put(7, &vec![3]).unwrap();
        assert_eq!(checkpoints.get_or_make(0, || Ok(vec![9])).unwrap(), [1, 2]);
        assert_eq!(checkpoints.get_or_make(8, || Ok(vec![9])).unwrap(), [9]);
        assert_eq!(checkpoints.get_or_make(8, || Ok(vec![10])).unwrap(), [9]);
        assert_eq!(checkpoints.get::<Vec<u32>>(0), Some(vec![1, 2]));
        assert_eq!(checkpoints.get::<Vec<u32>>(1), None);
        assert_eq!(checkpoints.get::<String>(7), None);
        assert_eq!(Checkpoints::new(&folder, &["modeld", "ata"].map(str::to_owned)).get::<Vec<u32>>(0), None);
        std::fs::write(checkpoints.path(7), b"cut short").unwrap();
        assert_eq!(checkpoints.get::<Vec<u32>>(7), None);
        checkpoints.remove().unwrap();
        assert!(!folder.exists());
        Checkpoints::new(&folder, &[]).remove().unwrap();
    }
}
