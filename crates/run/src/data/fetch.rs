//! Downloads CIFAR-10 from where its authors publish it, and checks it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use ureq::Agent;

use super::cifar10::ARCHIVE;
use super::unfinished::Unfinished;
use coprof_core::error::{Error, Remedy, Result};

/// Its address, size and MD5, as published at <https://www.cs.toronto.edu/~kriz/cifar.html>.
const CIFAR10: Remote = Remote {
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    bytes: 170_052_171,
    md5: "c32a1d4ab5d03f1284b67883e8d87530",
};

/// A file of known contents at a known address.
struct Remote<'a> {
    url: &'a str,
    bytes: u64,
    md5: &'a str,
}

/// What [`fetch_cifar10`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where the archive lies.
    pub path: PathBuf,
    /// Whether a good copy was there before.
    pub already_there: bool,
}

/// Brings the official archive into the folder `dest` and checks its MD5. `progress` gets the bytes done and their total;
/// when `stop` turns true the download ends with [`Error::interrupted`]. Whatever happens, no part of a file remains.
pub fn fetch_cifar10(
    dest: &Path,
    progress: &mut dyn FnMut(u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<Fetched> {
    fetch(&CIFAR10, dest, progress, stop)
}

fn fetch(
    remote: &Remote<'_>,
    dest: &Path,
    progress: &mut dyn FnMut(u64, u64),
    stop: &dyn Fn() -> bool,
) -> Result<Fetched> {
    let path = dest.join(ARCHIVE);
    if holds(&path, remote) {
        return Ok(Fetched { path, already_there: true });
    }
    let cannot_write = |error: io::Error| Error::failed(format!("cannot write {}: {error}", path.display()));
    let mut body = open(remote, dest)?;
    let mut file = Unfinished::beside(&path).map_err(cannot_write)?;
    let (mut hash, mut done) = (Md5::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        if stop() {
            return Err(Error::interrupted());
        }
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(incomplete(remote, dest, done, &error.to_string())),
        };
        done += read as u64;
        if done > remote.bytes {
            return Err(wrong_contents(remote, dest, &format!("more than {} bytes", remote.bytes)));
        }
        hash.update(&buffer[..read]);
        file.file().and_then(|file| file.write_all(&buffer[..read])).map_err(cannot_write)?;
        progress(done, remote.bytes);
    }
    if done < remote.bytes {
        return Err(incomplete(remote, dest, done, "the server closed the connection"));
    }
    let found = hex(&hash.finalize());
    if found != remote.md5 {
        return Err(wrong_contents(remote, dest, &format!("MD5 {found}")));
    }
    file.keep(&path).map_err(cannot_write)?;
    Ok(Fetched { path, already_there: false })
}

/// Sends the request; the answer's body follows. Each read has a deadline, but not the whole, since links differ.
fn open(remote: &Remote<'_>, dest: &Path) -> Result<impl Read + use<>> {
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(15)))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        .build()
        .into();
    match agent.get(remote.url).call() {
        Ok(answer) => Ok(answer.into_body().into_reader()),
        Err(ureq::Error::StatusCode(code)) => {
            let answer = format!("{} answers with HTTP status {code}", remote.url);
            Err(by_hand(dest, &format!("{answer}, so the file is not to be had there now")))
        }
        Err(error) => {
            Err(by_hand(dest, &format!("cannot reach {} ({error}): is there a network?", remote.url)))
        }
    }
}

/// The error of a download that failed.
fn by_hand(dest: &Path, what: &str) -> Error {
    Error::failed(format!("{what}\nPut {ARCHIVE} into {} by hand", dest.display())).with(Remedy::NameCopy)
}

fn incomplete(remote: &Remote<'_>, dest: &Path, done: u64, why: &str) -> Error {
    by_hand(dest, &format!("the download ended after {done} of {} bytes ({why}); try again", remote.bytes))
}

fn wrong_contents(remote: &Remote<'_>, dest: &Path, found: &str) -> Error {
    let sent = format!("what {} sent is not the published file", remote.url);
    by_hand(dest, &format!("{sent}: expected MD5 {}, found {found}; nothing was kept", remote.md5))
}

/// Whether a good copy lies at `path`.
fn holds(path: &Path, remote: &Remote<'_>) -> bool {
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == remote.bytes) {
        return false;
    }
    let hash_file = || -> io::Result<String> {
        let (mut file, mut hash) = (std::fs::File::open(path)?, Md5::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
        }
    };
    hash_file().is_ok_and(|found| found == remote.md5)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{JoinHandle, spawn};

    use super::*;

    const BODY: &[u8] = b"what the authors published";

    /// Serves one answer of `body` under a header that promises `length` bytes, then closes.
    fn serve(status: &'static str, body: &'static [u8], length: usize) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let server = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        });
        (url, server)
    }

    fn fetch_into(dest: &Path, url: &str) -> Result<Fetched> {
        let md5 = hex(&Md5::digest(BODY));
        let remote = Remote { url, bytes: BODY.len() as u64, md5: &md5 };
        fetch(&remote, dest, &mut |_, _| (), &|| false)
    }

    /// The error when the server answers so; asserts that nothing stays behind.
    fn message(status: &'static str, body: &'static [u8], length: usize) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (url, server) = serve(status, body, length);
        let error = fetch_into(dir.path(), &url).unwrap_err();
        server.join().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{error}");
        assert_eq!(error.remedy(), Some(Remedy::NameCopy));
        error.to_string()
    }

    #[test]
    fn a_good_copy_is_kept_and_not_fetched_twice() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("datasets");
        let (url, server) = serve("200 OK", BODY, BODY.len());
        let fetched = fetch_into(&dest, &url).unwrap();
        server.join().unwrap();
        assert_eq!(std::fs::read(&fetched.path).unwrap(), BODY);
        assert!(!fetched.already_there);
        assert!(fetch_into(&dest, &url).unwrap().already_there);
    }

    #[test]
    fn wrong_and_truncated_bodies_are_refused() {
        let wrong = message("200 OK", b"what somebody else puts up", BODY.len());
        assert!(wrong.contains("not the published file") && wrong.ends_with("by hand"), "{wrong}");
        let longer = message("200 OK", b"what the authors published and more", BODY.len() + 9);
        assert!(longer.contains("more than 26 bytes"), "{longer}");
        let short = message("200 OK", b"what the au", BODY.len());
        assert!(short.contains("after 11 of 26 bytes"), "{short}");
        let short = message("200 OK", b"what the au", 11);
        assert!(short.contains("after 11 of 26 bytes"), "{short}");
    }

    #[test]
    fn a_missing_server_or_page_says_what_to_do() {
        let gone = message("404 Not Found", b"", 0);
        assert!(gone.contains("HTTP status 404") && gone.contains("by hand"), "{gone}");
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}/file", listener.local_addr().unwrap())
        };
        let dir = tempfile::tempdir().unwrap();
        let error = fetch_into(dir.path(), &closed).unwrap_err().to_string();
        assert!(error.contains("is there a network?") && error.lines().count() == 2, "{error}");
    }
}
