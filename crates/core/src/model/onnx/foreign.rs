//! What is taken for a model by mistake: files that are something else, told by how they begin.

use crate::error::Error;

/// A failure about a file that is no ONNX file; `what` says what was found wrong with it.
pub fn foreign(file: &[u8], what: impl std::fmt::Display) -> Error {
    match known(file) {
        Some(known) => Error::failed(format!("expected an ONNX file, found {known}")),
        None => {
            Error::failed(format!("expected an ONNX file, found {} bytes that are none ({what})", file.len()))
        }
    }
}

/// What a file is, and what to do, if it is one of the usual mistakes.
fn known(file: &[u8]) -> Option<&'static str> {
    let text = file.trim_ascii_start();
    let begins =
        |start: &[u8]| text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
    Some(if begins(b"version https://git-lfs") {
        "a Git LFS pointer, which only stands for the file; fetch that with `git lfs pull`"
    } else if begins(b"<!doctype html") || begins(b"<html") {
        "a web page, as a failed download leaves it; download the model's own file"
    } else if file.starts_with(b"PK\x03\x04") {
        "a zip archive; unpack it, or export what PyTorch saved with torch.onnx.export"
    } else if file.starts_with(b"\x1f\x8b") {
        "a gzip archive; unpack it"
    } else if file.starts_with(b"\x89HDF\r\n") {
        "an HDF5 file, as Keras saves models; convert it to ONNX"
    } else if file.get(4..8) == Some(b"TFL3") {
        "a TensorFlow Lite model; convert it to ONNX"
    } else if file.get(4..8) == Some(b"ORTM") {
        "a model in ONNX Runtime's own format; take the .onnx file that it was made of"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use crate::model::Graph;

    #[test]
    fn what_is_no_model_is_called_by_its_name() {
        let cases: [(&[u8], &str); 7] = [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:e8\nsize 11307067\n", "git lfs pull"),
            (b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "a web page"),
            (b"\n<HTML>", "a web page"),
            (b"PK\x03\x04\0\0", "torch.onnx.export"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (b"\x18\0\0\0ORTM", "ONNX Runtime's own format"),
        ];
        for (file, says) in cases {
            let message = Graph::from_onnx("test", file).unwrap_err().to_string();
            assert!(
                message.contains("expected an ONNX file, found a") && message.contains(says),
                "{message}"
            );
        }
    }
}
