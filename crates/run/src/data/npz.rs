//! Members of a zip archive, which is what NumPy's `.npz` files are.

use std::fs::File;
use std::io::{Read, Seek};

use zip::ZipArchive;
use zip::result::ZipError;

/// What an archive begins with: a member, or its end where it has none.
const STARTS: [&[u8; 4]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Whether a file is such an archive; it is read from its start afterwards.
pub fn is_archive(file: &mut File) -> Result<bool, String> {
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(text)?;
    file.rewind().map_err(text)?;
    Ok(STARTS.iter().any(|known| start == *known))
}

/// Hands what lies under a name to `read`.
pub fn member<T>(
    file: &mut File,
    name: &str,
    read: impl FnOnce(&mut dyn Read) -> Result<T, String>,
) -> Result<T, String> {
    let mut archive = ZipArchive::new(file).map_err(text)?;
    match archive.by_name(name) {
        Ok(mut found) => read(&mut found),
        Err(ZipError::FileNotFound) => Err(format!("no {name} in it")),
        Err(ZipError::UnsupportedArchive(_)) => {
            Err(format!("{name} is packed in a way that is not read; save it with numpy.savez"))
        }
        Err(error) => Err(text(error)),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// An archive of these members.
#[cfg(test)]
pub fn zipped(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        archive.start_file(*name, options).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_archive_makes_the_reader_panic(at in 0usize..200, junk in prop::collection::vec(any::<u8>(), 0..24)) {
            let mut bytes = zipped(&[("a.npy", &[1, 2, 3]), ("b.npy", &[4; 40])], false);
            let at = at.min(bytes.len());
            bytes.splice(at..(at + junk.len()).min(bytes.len()), junk);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let _ = member(&mut file, "b.npy", |found| found.read_to_end(&mut Vec::new()).map_err(text));
        }
    }
}
