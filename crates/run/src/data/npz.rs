//! Members of a zip archive, which is what NumPy's `.npz` files are.
//!
//! Field by field as in PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
const ENTRY: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
/// The end of the directory, and the longest comment behind it.
const END_BYTES: u64 = 22 + u16::MAX as u64;
/// The longest directory that is read.
const MAX_DIRECTORY: usize = 1 << 24;

/// Whether a file is such an archive; it is read from its start afterwards.
pub fn is_archive(file: &mut File) -> Result<bool, String> {
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(text)?;
    file.rewind().map_err(text)?;
    Ok(start == LOCAL || start == END)
}

/// What lies under a name.
pub fn member<'f>(file: &'f mut File, name: &str) -> Result<Box<dyn Read + 'f>, String> {
    let directory = directory(file)?;
    let mut rest = directory.as_slice();
    while rest.starts_with(ENTRY) {
        let field = |at: usize, bytes: usize| number(rest, at, bytes);
        let (method, size, start) = (field(10, 2)?, field(20, 4)?, field(42, 4)?);
        let [name_bytes, extra, comment] = [28, 30, 32].map(|at| field(at, 2));
        let (name_bytes, behind) = (name_bytes? as usize, (extra? + comment?) as usize);
        let found = rest.get(46..46 + name_bytes).ok_or_else(broken)?;
        if found != name.as_bytes() {
            rest = rest.get(46 + name_bytes + behind..).ok_or_else(broken)?;
            continue;
        }
        let mut head = [0; 30];
        file.seek(SeekFrom::Start(start)).map_err(text)?;
        file.read_exact(&mut head).map_err(text)?;
        if !head.starts_with(LOCAL) {
            return Err(broken());
        }
        let skipped = number(&head, 26, 2)? + number(&head, 28, 2)?;
        file.seek_relative(skipped as i64).map_err(text)?;
        let data = file.take(size);
        return match method {
            0 => Ok(Box::new(data)),
            8 => Ok(Box::new(DeflateDecoder::new(data))),
            _ => Err(format!("{name} is packed in a way that is not read; save it with numpy.savez")),
        };
    }
    Err(format!("no {name} in it"))
}

/// The list of members.
fn directory(file: &mut File) -> Result<Vec<u8>, String> {
    let length = file.metadata().map_err(text)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES))).map_err(text)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(text)?;
    let end = tail.windows(4).rposition(|bytes| bytes == END).ok_or_else(broken)?;
    let (size, start) = (number(&tail, end + 12, 4)?, number(&tail, end + 16, 4)?);
    if size as usize > MAX_DIRECTORY {
        return Err(broken());
    }
    file.seek(SeekFrom::Start(start)).map_err(text)?;
    let mut directory = Vec::new();
    file.take(size).read_to_end(&mut directory).map_err(text)?;
    Ok(directory)
}

/// A number of up to four bytes, little-endian.
fn number(bytes: &[u8], at: usize, count: usize) -> Result<u64, String> {
    let mut number = [0; 8];
    let found = bytes.get(at..at + count).ok_or_else(broken)?;
    Cursor::new(found).read_exact(&mut number[..count]).map_err(text)?;
    Ok(u64::from_le_bytes(number))
}

fn broken() -> String {
    "a broken or very large archive".into()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// An archive of these members.
#[cfg(test)]
pub fn zipped(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    use std::io::Write;

    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let packed = if deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        } else {
            data.to_vec()
        };
        let start = file.len() as u32;
        let method: u16 = if deflated { 8 } else { 0 };
        let sizes = [packed.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat();
        let name_bytes = (name.len() as u16).to_le_bytes();
        let common = [&[20, 0, 0, 0][..], &method.to_le_bytes(), &[0; 8], &sizes, &name_bytes].concat();
        // Zip64's extra field, as NumPy leaves it in front of the data alone.
        file.extend([&LOCAL[..], &common, &[4, 0], name.as_bytes(), &[1, 0, 0, 0], &packed].concat());
        directory.extend(
            [&ENTRY[..], &[20, 0], &common, &[0; 12], &start.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let count = (members.len() as u16).to_le_bytes();
    let [size, start] = [directory.len() as u32, file.len() as u32].map(u32::to_le_bytes);
    let end = [&END[..], &[0; 4], &count, &count, &size, &start, &[0; 2]].concat();
    [file, directory, end].concat()
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
            if let Ok(mut found) = member(&mut file, "b.npy") {
                let _ = found.read_to_end(&mut Vec::new());
            }
        }
    }
}
