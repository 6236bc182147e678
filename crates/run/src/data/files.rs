//! Files that appear whole or not at all, and gzip that always writes the same bytes and never reads without a bound.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::unfinished::Unfinished;
use coprof_core::error::{Error, Result};

/// Where what this user can always make again is kept: `$XDG_CACHE_HOME/coprof`, else `~/.cache/coprof`; `None` where there
/// is no home.
pub fn user_cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("coprof"))
}

/// Writes a file whole or not at all, making its folder where needed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = Unfinished::beside(path)?;
        file.file()?.write_all(bytes)?;
        file.keep(path)
    };
    write().map_err(|error| Error::failed(format!("cannot write {}: {error}", path.display())))
}

/// `bytes` as a gzip file without a time in it: the same bytes give the same file.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| Error::failed(format!("cannot compress: {error}")))
}

/// The text of a gzip file of at most `cap` bytes unpacked.
pub(super) fn read_gzip_text(path: &Path, cap: u64) -> Result<String> {
    let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fail("no such file".into()),
        _ => fail(error.to_string()),
    })?;
    gunzip_text(file, cap).map_err(|error| error.within(path.display()))
}

/// The text that `source` holds as gzip, of at most `cap` bytes unpacked.
pub(super) fn gunzip_text(source: impl Read, cap: u64) -> Result<String> {
    let mut text = String::new();
    GzDecoder::new(source).take(cap + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::failed("the file is cut short"),
        _ => Error::failed(format!("not a gzip file of text ({error})")),
    })?;
    if text.len() as u64 > cap {
        return Err(Error::failed(format!("unpacks to more than {} MiB, which no record does", cap >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_whole_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/file");
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn gzip_is_the_same_every_time_and_bounded_when_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gz");
        let text = "0123456789".repeat(100);
        assert_eq!(gzip(text.as_bytes()).unwrap(), gzip(text.as_bytes()).unwrap());
        write_whole(&path, &gzip(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(read_gzip_text(&path, 1000).unwrap(), text);
        let error = read_gzip_text(&path, 999).unwrap_err().to_string();
        assert!(error.contains("no record does"), "{error}");
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gz");
        let read = || read_gzip_text(&path, 1 << 20).unwrap_err().to_string();
        assert!(read().contains("no such file"), "{}", read());
        std::fs::write(&path, b"plain text").unwrap();
        assert!(read().contains("not a gzip file"), "{}", read());
        let whole = gzip(&[b'x'; 5000]).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(read().contains("cut short"), "{}", read());
    }
}
