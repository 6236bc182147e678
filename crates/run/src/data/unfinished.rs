//! Files that are being written. A process that ends in the middle of it leaves none of them behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use tempfile::{Builder, NamedTempFile};

/// A look at whether the files are free costs little.
const POLL: Duration = Duration::from_millis(1);

/// Those of this process.
static OWN: Files = Files(Mutex::new(BTreeSet::new()));

/// Temporary files, each beside where it will stand. Locked while one appears or vanishes.
struct Files(Mutex<BTreeSet<PathBuf>>);

/// A file in the making, gone when dropped unless it was put in place.
pub(super) struct Unfinished {
    files: &'static Files,
    /// `None` once it is in place.
    file: Option<NamedTempFile>,
}

/// Removes all files in the making, after which no other is made or put in place: for a process that is about to end. Files
/// that cannot be had within `patience`, since the system is just putting one in place, stay.
pub fn abandon_unfinished(patience: Duration) {
    // Whoever wants the lock now waits for the end.
    std::mem::forget(OWN.abandon(patience));
}

/// Runs `work` whole or not at all, even if the process is about to end.
pub(super) fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let _lock = OWN.lock();
    work()
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abandon(&self, patience: Duration) -> Option<MutexGuard<'_, BTreeSet<PathBuf>>> {
        let mut waited = Duration::ZERO;
        let mut files = loop {
            match self.0.try_lock() {
                Ok(files) => break files,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if waited >= patience => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(POLL),
            }
            waited += POLL;
        };
        for path in std::mem::take(&mut *files) {
            // One that is gone already is what is wanted.
            let _ = fs::remove_file(path);
        }
        Some(files)
    }

    /// Makes the folder where needed.
    fn beside(&'static self, path: &Path) -> io::Result<Unfinished> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder)?;
        let mut builder = Builder::new();
        builder.suffix(".part");
        // Temporary files are private by default, but this one becomes a result that others may read.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut files = self.lock();
        let file = builder.tempfile_in(folder)?;
        files.insert(file.path().into());
        Ok(Unfinished { files: self, file: Some(file) })
    }
}

impl Unfinished {
    /// A file that will stand at `path`. Makes the folder where needed.
    pub fn beside(path: &Path) -> io::Result<Self> {
        OWN.beside(path)
    }

    /// What is written to.
    pub fn file(&mut self) -> io::Result<&mut File> {
        // Only a file that was put in place is gone, and none is left to write to then.
        self.file.as_mut().map(NamedTempFile::as_file_mut).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Puts it in place, all of it.
    pub fn keep(mut self, path: &Path) -> io::Result<()> {
        self.file()?.sync_all()?;
        let mut files = self.files.lock();
        let Some(file) = self.file.take() else { return Ok(()) };
        files.remove(file.path());
        file.persist(path).map(drop).map_err(|error| error.error)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let mut files = self.files.lock();
            files.remove(file.path());
            drop(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn files() -> &'static Files {
        Box::leak(Box::new(Files(Mutex::default())))
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_is_not_put_in_place_is_gone() {
        let (folder, files) = (tempfile::tempdir().unwrap(), files());
        let path = folder.path().join("new/x");
        drop(files.beside(&path).unwrap());
        assert_eq!(count(path.parent().unwrap()), 0);
        let mut file = files.beside(&path).unwrap();
        file.file().unwrap().write_all(b"whole").unwrap();
        file.keep(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!((count(path.parent().unwrap()), files.lock().len()), (1, 0));
    }

    #[test]
    fn what_is_abandoned_is_gone_and_nothing_new_appears() {
        let (folder, files) = (tempfile::tempdir().unwrap(), files());
        let path = folder.path().join("x");
        let [mut half, other] = ["x", "y"].map(|name| files.beside(&folder.path().join(name)).unwrap());
        half.file().unwrap().write_all(b"half").unwrap();
        assert_eq!(count(folder.path()), 2);
        let end = files.abandon(Duration::ZERO).unwrap();
        assert_eq!(count(folder.path()), 0);
        let writer = thread::spawn(move || half.keep(&path));
        assert!(files.abandon(POLL).is_none(), "it is taken");
        assert_eq!(count(folder.path()), 0);
        drop(end);
        assert!(writer.join().unwrap().is_err(), "there is nothing left to put in place");
        drop(other);
        assert_eq!(count(folder.path()), 0);
    }
}
