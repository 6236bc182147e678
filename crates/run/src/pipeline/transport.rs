//! The bytes of a connection below its frames: plain, or sealed in records.
//!
//! A record is its length (`u16`, little-endian) and a Noise message of so many bytes. Where records begin and end means nothing to
//! the frames inside them.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::noise::{Cipher, TAG_BYTES};
use super::wire::is_pause;

const LENGTH_BYTES: usize = 2;

/// Plain bytes in a record, at most. Nothing of a record can be read before all of it is there, so they are far shorter than Noise
/// allows; 18 bytes more for each of these are 0.11 %.
const RECORD_BYTES: usize = 16 << 10;

/// What a record adds to its bytes.
const RECORD_OVERHEAD: usize = LENGTH_BYTES + TAG_BYTES;

/// Records are sent together up to so many bytes of them.
const OUT_BYTES: usize = 4 * (RECORD_BYTES + RECORD_OVERHEAD) + GATHERED_BYTES + RECORD_OVERHEAD;

/// Parts that have no more together share a record: heads, answers, short messages.
const GATHERED_BYTES: usize = 1 << 10;

/// A connection's bytes. One thread may read while another one writes.
pub(super) struct Transport {
    stream: TcpStream,
    seal: Option<Seal>,
}

struct Seal {
    cipher: Cipher,
    out: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
}

#[derive(Default)]
struct Outgoing {
    /// The next record's place in the order.
    number: u64,
    /// Sealed records on their way, up to `end`.
    records: Vec<u8>,
    end: usize,
}

#[derive(Default)]
struct Incoming {
    number: u64,
    /// The record that is arriving, of which `got` bytes are there.
    record: Vec<u8>,
    got: usize,
    /// What was opened and is still to be read, from `read` to `end`.
    opened: Vec<u8>,
    read: usize,
    end: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport {
    /// Plain for the time being.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, seal: None }
    }

    /// All bytes from here on are sealed, in both directions.
    pub fn seal(&mut self, cipher: Cipher) {
        self.seal = Some(Seal { cipher, out: Mutex::default(), incoming: Mutex::default() });
    }

    /// The socket, for what is no matter of the bytes.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether bytes are here that no one has read yet.
    pub fn is_ahead(&self) -> bool {
        let is_ahead = |seal: &Seal| {
            let incoming = lock(&seal.incoming);
            incoming.got > 0 || incoming.read < incoming.end
        };
        self.seal.as_ref().is_some_and(is_ahead)
    }
}

/// `Interrupted` tells that something has come, but not yet a whole record.
impl Read for &Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &self.seal {
            None => (&self.stream).read(into),
            Some(_) if into.is_empty() => Ok(0),
            Some(seal) => lock(&seal.incoming).read(&self.stream, &seal.cipher, into),
        }
    }
}

impl Incoming {
    fn read(&mut self, stream: &TcpStream, cipher: &Cipher, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.read < self.end {
                let n = into.len().min(self.end - self.read);
                into[..n].copy_from_slice(&self.opened[self.read..self.read + n]);
                self.read += n;
                return Ok(n);
            }
            if !self.take_record(stream)? {
                return Ok(0);
            }
            let plain = self.got - RECORD_OVERHEAD;
            if plain <= into.len() {
                self.open(cipher, into)?;
                // One that is empty is not the end.
                if plain > 0 {
                    return Ok(plain);
                }
            } else {
                let mut opened = std::mem::take(&mut self.opened);
                opened.resize(RECORD_BYTES, 0);
                let done = self.open(cipher, &mut opened);
                self.opened = opened;
                done?;
                (self.read, self.end) = (0, plain);
            }
        }
    }

    /// Opens the record that is here.
    fn open(&mut self, cipher: &Cipher, into: &mut [u8]) -> io::Result<()> {
        let changed = |_| io::Error::new(ErrorKind::InvalidData, "what arrived is not what was sent");
        cipher.open(self.number, &self.record[LENGTH_BYTES..self.got], into).map_err(changed)?;
        self.number += 1;
        self.got = 0;
        Ok(())
    }

    /// Takes what has come of the next record; true once all of it has, false where the peer has closed the connection before it.
    fn take_record(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        let before = self.got;
        loop {
            let wanted = self.wanted()?;
            if self.got == wanted {
                return Ok(true);
            }
            if self.record.len() < wanted {
                self.record.resize(wanted, 0);
            }
            match stream.read(&mut self.record[self.got..wanted]) {
                Ok(0) if self.got == 0 => return Ok(false),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.got += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_pause(error.kind()) && self.got > before => {
                    return Err(ErrorKind::Interrupted.into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many bytes of the record are known to come.
    fn wanted(&self) -> io::Result<usize> {
        let Some(&length) = self.record[..self.got].first_chunk() else { return Ok(LENGTH_BYTES) };
        let length = usize::from(u16::from_le_bytes(length));
        if (TAG_BYTES..=RECORD_BYTES + TAG_BYTES).contains(&length) {
            return Ok(LENGTH_BYTES + length);
        }
        Err(io::Error::new(ErrorKind::InvalidData, format!("a record of {length} bytes was announced")))
    }
}

impl Write for &Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.seal {
            None => (&self.stream).write_vectored(parts),
            Some(seal) => lock(&seal.out).write(&self.stream, &seal.cipher, parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outgoing {
    /// Seals as much as is sent at once, and sends it. How much that was of `parts`. Of no use after an error: the peer may have
    /// got a part of a record.
    fn write(&mut self, stream: &TcpStream, cipher: &Cipher, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.records.resize(OUT_BYTES, 0);
        self.end = 0;
        let taken = self.pack(cipher, parts)?;
        send(stream, &self.records[..self.end])?;
        Ok(taken)
    }

    /// Seals as much of `parts` as there is room for; how much that was.
    fn pack(&mut self, cipher: &Cipher, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let (mut taken, mut small) = (0, Gathered::default());
        for part in parts {
            if small.take(part) {
                continue;
            }
            let gathered = std::mem::take(&mut small);
            for bytes in std::iter::once(gathered.bytes()).chain(part.chunks(RECORD_BYTES)) {
                if !self.put(cipher, bytes)? {
                    return Ok(taken);
                }
                taken += bytes.len();
            }
        }
        if self.put(cipher, small.bytes())? {
            taken += small.bytes().len();
        }
        Ok(taken)
    }

    /// Puts a record behind the others; false where there is no room for it.
    fn put(&mut self, cipher: &Cipher, bytes: &[u8]) -> io::Result<bool> {
        if bytes.is_empty() {
            return Ok(true);
        }
        // A record is shorter than 64 KiB.
        let length = bytes.len() + TAG_BYTES;
        let Some(room) = self.records[self.end..].get_mut(..LENGTH_BYTES + length) else { return Ok(false) };
        let (start, sealed) = room.split_at_mut(LENGTH_BYTES);
        start.copy_from_slice(&(length as u16).to_le_bytes());
        cipher.seal(self.number, bytes, sealed).map_err(io::Error::other)?;
        self.number += 1;
        self.end += LENGTH_BYTES + length;
        Ok(true)
    }
}

/// Small parts, side by side.
struct Gathered {
    bytes: [u8; GATHERED_BYTES],
    len: usize,
}

impl Default for Gathered {
    fn default() -> Self {
        Self { bytes: [0; GATHERED_BYTES], len: 0 }
    }
}

impl Gathered {
    /// Takes a part that fits.
    fn take(&mut self, part: &[u8]) -> bool {
        let Some(room) = self.bytes[self.len..].get_mut(..part.len()) else { return false };
        room.copy_from_slice(part);
        self.len += part.len();
        true
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn send(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::key::{Key, KeyRing};
    use crate::pipeline::noise::{Initiator, respond};

    fn streams() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// Both ends of an encrypted connection, over streams that may lead elsewhere.
    fn sealed(near: TcpStream, far: TcpStream) -> (Transport, Transport) {
        let ring = KeyRing::parse(&Key::random().unwrap().secret_text()).unwrap();
        let (client, first) = Initiator::begin(&ring.grants()[0].key).unwrap();
        let (_, second, edge) = respond(ring.grants(), &first).unwrap().unwrap();
        let (mut near, mut far) = (Transport::new(near), Transport::new(far));
        near.seal(client.end(&second).unwrap());
        far.seal(edge);
        (near, far)
    }

    /// Bytes of which no two parts are alike.
    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// What one write puts on the wire.
    fn records(parts: &[&[u8]]) -> (Vec<u8>, usize, Transport, TcpStream) {
        let ((near, mut wire), (other_wire, far)) = (streams(), streams());
        let (near, far) = sealed(near, far);
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let taken = (&near).write_vectored(&parts).unwrap();
        drop(near);
        let mut sealed = Vec::new();
        wire.read_to_end(&mut sealed).unwrap();
        (sealed, taken, far, other_wire)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn bytes_survive_however_they_are_written_and_read(
            parts in prop::collection::vec(prop_oneof![0usize..2000, 0usize..150_000], 1..6),
            reads in prop::collection::vec(prop_oneof![1usize..2000, 1usize..150_000], 1..6),
        ) {
            let (near, far) = streams();
            let (near, far) = sealed(near, far);
            let all = bytes(parts.iter().sum());
            let mut found = vec![0; all.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut rest = &all[..];
                    let parts: Vec<IoSlice<'_>> = parts
                        .iter()
                        .map(|&len| IoSlice::new(rest.split_off(..len).unwrap()))
                        .collect();
                    let mut parts = parts;
                    let mut parts = &mut parts[..];
                    IoSlice::advance_slices(&mut parts, 0);
                    while !parts.is_empty() {
                        let taken = (&near).write_vectored(parts).unwrap();
                        IoSlice::advance_slices(&mut parts, taken);
                    }
                });
                let mut got = 0;
                for most in reads.iter().cycle() {
                    if got == found.len() {
                        break;
                    }
                    let end = found.len().min(got + most);
                    match (&far).read(&mut found[got..end]) {
                        Ok(n) => got += n,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
                    }
                }
            });
            prop_assert!(found == all);
            prop_assert!(!far.is_ahead());
        }
    }

    #[test]
    fn a_record_costs_eighteen_bytes_and_small_parts_share_one() {
        for (parts, records_there) in [
            (&[&[1u8; 5][..], &[2; 6], &[3; 900]][..], 1),
            (&[&[1; 5], &[2; 6], &[3; 2000]], 2),
            (&[&[1; 5], &[], &[3; 2 * RECORD_BYTES]], 3),
        ] {
            let (sealed, taken, ..) = records(parts);
            let plain: usize = parts.iter().map(|part| part.len()).sum();
            assert_eq!((taken, sealed.len()), (plain, plain + 18 * records_there));
        }
        let (sealed, taken, ..) = records(&[&[0; 5], &bytes(10 * RECORD_BYTES)]);
        assert!(taken < 10 * RECORD_BYTES && sealed.len() <= OUT_BYTES, "{taken}");
    }

    #[test]
    fn a_part_of_a_record_is_told_and_then_read_as_a_whole() {
        let (sealed, _, far, mut wire) = records(&[b"frame"]);
        far.stream().set_nonblocking(true).unwrap();
        let mut into = [0; 64];
        let (last, first) = sealed.split_last().unwrap();
        for byte in first {
            wire.write_all(&[*byte]).unwrap();
            assert_eq!((&far).read(&mut into).unwrap_err().kind(), ErrorKind::Interrupted);
            assert_eq!((&far).read(&mut into).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        assert!(far.is_ahead());
        wire.write_all(&[*last]).unwrap();
        assert_eq!((&far).read(&mut into).unwrap(), 5);
        assert_eq!(&into[..5], b"frame");
    }

    #[test]
    fn an_end_is_one_between_records_and_a_fault_within() {
        let (sealed, _, far, mut wire) = records(&[b"frame"]);
        wire.write_all(&sealed).unwrap();
        drop(wire);
        let mut into = [0; 3];
        assert_eq!(((&far).read(&mut into).unwrap(), (&far).read(&mut into).unwrap()), (3, 2));
        assert_eq!((&far).read(&mut into).unwrap(), 0);

        let (sealed, _, far, mut wire) = records(&[b"frame"]);
        wire.write_all(&sealed[..7]).unwrap();
        drop(wire);
        assert_eq!((&far).read(&mut into).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_record_of_a_length_that_none_has_is_refused_at_once() {
        for length in [0, TAG_BYTES - 1, RECORD_BYTES + TAG_BYTES + 1, 0xffff] {
            let (_, _, far, mut wire) = records(&[]);
            wire.write_all(&(length as u16).to_le_bytes()).unwrap();
            assert_eq!((&far).read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::InvalidData, "{length}");
            assert!(lock(&far.seal.as_ref().unwrap().incoming).record.len() <= LENGTH_BYTES);
        }
    }
}
