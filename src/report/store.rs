//! The folder of saved results: each command adds to it, and the next one picks up the newest that fits.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::document::timestamp;
use coprof_core::error::{Error, Result};
use coprof_run::data::write_whole;

/// Larger files in the folder are not ours.
const MAX_BYTES: u64 = 512 << 20;

/// The folder of saved results.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Results lie in `folder`, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where a file of this name stands in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Saves a document as `KIND-TIME.json`, whole or not at all, and returns where.
    pub fn save(&self, kind: &str, document: &impl Serialize) -> Result<PathBuf> {
        let stamp = timestamp(SystemTime::now()).replace([':', '.'], "-");
        let path = self.folder.join(format!("{kind}-{stamp}.json"));
        let text = serde_json::to_string(document)
            .map_err(|error| Error::failed(format!("cannot write the {kind} result as JSON: {error}")))?;
        write_whole(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The newest document of a kind that `fits`, with its path. What cannot be read is no candidate.
    pub fn newest<T: DeserializeOwned>(&self, kind: &str, fits: impl Fn(&T) -> bool) -> Option<(PathBuf, T)> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(&self.folder).ok()?.flatten().map(|entry| entry.path()).collect();
        let prefix = format!("{kind}-");
        paths.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&prefix) && name.ends_with(".json")
        });
        // Names end with their time, so the last in order is the newest.
        paths.sort_unstable();
        paths.into_iter().rev().find_map(|path| {
            let text = read_small(&path)?;
            let document: T = serde_json::from_str(&text).ok()?;
            fits(&document).then_some((path, document))
        })
    }
}

fn read_small(path: &Path) -> Option<String> {
    let small = std::fs::metadata(path).ok()?.len() <= MAX_BYTES;
    if small { std::fs::read_to_string(path).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Envelope, HostReport};
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    struct Document {
        #[serde(flatten)]
        envelope: Envelope,
        figure: u32,
    }

    fn document(host: &str, figure: u32) -> Document {
        let envelope = Envelope {
            schema: "coprof.test/1".into(),
            coprof_version: "0".into(),
            created: timestamp(SystemTime::now()),
            host: HostReport::default(),
            host_id: host.into(),
            model: None,
            threads: 1,
            pinned_core: None,
            emulated: None,
        };
        Document { envelope, figure }
    }

    #[test]
    fn the_newest_that_fits_is_found_past_garbage() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let newest = |host: &str| {
            store
                .newest::<Document>("test", |found| found.envelope.host_id == host)
                .map(|(_, found)| found.figure)
        };
        assert_eq!(newest("a"), None);
        for (name, host, figure) in [("1", "a", 1), ("2", "a", 2), ("3", "b", 3)] {
            let text = serde_json::to_string(&document(host, figure)).unwrap();
            write_whole(&folder.path().join(format!("test-{name}.json")), text.as_bytes()).unwrap();
        }
        write_whole(&folder.path().join("test-9.json"), b"{\"schema\":").unwrap();
        write_whole(&folder.path().join("other-9.json"), b"{}").unwrap();
        assert_eq!((newest("a"), newest("b"), newest("c")), (Some(2), Some(3), None));
    }

    #[test]
    fn a_saved_document_is_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let path = store.save("test", &document("a", 7)).unwrap();
        let (found, read) = store.newest::<Document>("test", |_| true).unwrap();
        assert_eq!((found, read.figure), (path, 7));
    }
}
