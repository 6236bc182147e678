//! Key files: made, and read where nobody else may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_run::pipeline::{Key, KeyRing};

/// The line of a new key for a key file, with a name before it if it has one.
pub fn new_line(name: Option<&str>) -> Result<String> {
    let key = Key::random()?.secret_text();
    let line = name.map_or_else(|| key.clone(), |name| format!("{name} {key}"));
    let is_read =
        KeyRing::parse(&line).is_ok_and(|ring| name.is_none_or(|name| ring.grants()[0].name == name));
    if is_read { Ok(line) } else { Err(Error::usage("a key's name is one word, and no key")) }
}

/// Writes a new key file that only this user may read. None is replaced: other machines may have the key in it.
pub fn write(path: &Path, line: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let put = |mut file: File| writeln!(file, "{line}").and_then(|()| file.sync_all());
    let written = options.open(path).and_then(|file| {
        // A part of a key is of no use.
        put(file).inspect_err(|_| _ = fs::remove_file(path))
    });
    written.map_err(|error| {
        let path = path.display();
        Error::failed(match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{path} is there already; remove it if nobody uses its key, or choose another file")
            }
            _ => format!("cannot write {path}: {error}"),
        })
    })
}

/// All keys of a file.
pub fn read_ring(path: &Path) -> Result<KeyRing> {
    let read = || {
        let cannot =
            |error: io::Error| Error::failed(format!("cannot be read ({error}); `coprof key` makes one"));
        check_private(&fs::metadata(path).map_err(cannot)?)?;
        KeyRing::parse(&fs::read_to_string(path).map_err(cannot)?)
    };
    read().map_err(|error| error.within(path.display()).with(Remedy::GiveAnother(Given::Key)))
}

/// The key of a file that has one.
pub fn read_key(path: &Path) -> Result<Key> {
    match read_ring(path)?.grants() {
        [grant] => Ok(grant.key.clone()),
        grants => Err(Error::failed(format!(
            "{}: a file with this machine's key alone was expected, found {} keys",
            path.display(),
            grants.len()
        ))
        .with(Remedy::GiveAnother(Given::Key))),
    }
}

/// A group may read it: services are given their secrets so.
#[cfg(unix)]
fn check_private(metadata: &fs::Metadata) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(Error::failed(format!("everyone on this machine has access to it (mode {mode:04o}); `chmod 600` it")))
}

#[cfg(not(unix))]
fn check_private(_: &fs::Metadata) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word() {
        assert_eq!(KeyRing::parse(&new_line(Some("board")).unwrap()).unwrap().grants()[0].name, "board");
        assert_eq!(KeyRing::parse(&new_line(None).unwrap()).unwrap().grants()[0].name, "key-1");
        for name in ["two words", "", "#board", "a\nb", "coprof-key-1-"] {
            assert_eq!(new_line(Some(name)).unwrap_err().exit_code(), 2, "{name}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_key_file_is_its_owners_and_is_not_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coprof.key");
        let line = new_line(None).unwrap();
        write(&path, &line).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).unwrap(), line.parse().unwrap());
        assert!(write(&path, &line).unwrap_err().to_string().contains("is there already"));

        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let error = read_key(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0644") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        read_key(&path).unwrap();
    }

    #[test]
    fn a_client_has_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coprof.keys");
        write(&path, &format!("{}\n{}", new_line(None).unwrap(), new_line(None).unwrap())).unwrap();
        assert_eq!(read_ring(&path).unwrap().grants().len(), 2);
        assert!(read_key(&path).unwrap_err().to_string().contains("found 2 keys"));
        let error = read_key(&folder.path().join("none")).unwrap_err();
        assert!(error.exit_code() == 1 && error.to_string().contains("coprof key"), "{error}");
    }
}
