//! Frames: what every message on a connection looks like. Payload length (`u32`, little-endian), kind (one byte), payload.

use std::fmt;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use coprof_core::error::{Error, Result};

/// The version of everything in this room that two sides must agree on.
pub const PROTOCOL: u32 = 3;

/// Opens the first frame of either side. The line end catches tools that translate line ends.
pub(super) const MAGIC: [u8; 8] = *b"coprof\r\n";

/// Length and kind.
pub(super) const HEADER_BYTES: usize = 5;

/// Sequence number and forced exit in front of a task's payload.
pub(super) const TASK_HEAD_BYTES: usize = 6;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The most bytes that a peer may ask for or send in one measuring frame.
pub(super) const MAX_FILLER_BYTES: usize = 16 * MIB;

/// The most bytes in one piece of a model file.
pub(super) const MODEL_CHUNK_BYTES: usize = MIB;

/// Memory for a payload is taken in steps of this, as its bytes arrive.
const GROWTH_BYTES: usize = MIB;

/// What a measuring frame with `payload` bytes occupies on the link, TCP and IP aside.
pub const fn frame_bytes(payload: usize) -> usize {
    HEADER_BYTES + payload
}

/// What a task with an encoded frontier of `payload` bytes occupies on the link, TCP and IP aside.
pub const fn task_bytes(payload: usize) -> usize {
    HEADER_BYTES + TASK_HEAD_BYTES + payload
}

/// Brings `filler` to `bytes` bytes, new ones such that no link compresses them.
pub(super) fn set_filler(filler: &mut Vec<u8>, bytes: usize) {
    let mut state = filler.len() as u64;
    filler.truncate(bytes);
    while filler.len() < bytes {
        // Knuth's MMIX generator; its high bits are good.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        filler.push((state >> 56) as u8);
    }
}

macro_rules! frame_kinds {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $cap:expr;)*) => {
        /// What a frame carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum FrameKind { $($(#[$doc])* $name = $byte,)* }

        impl FrameKind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)*];

            fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($byte => Some(Self::$name),)* _ => None }
            }

            /// The longest payload that is read; `run_cap` bounds tasks, whose size follows from the plan, and answers, whose
            /// size follows from the model.
            fn cap(self, run_cap: usize) -> usize {
                if matches!(self, Self::Task | Self::Answer) {
                    return run_cap;
                }
                match self { $(Self::$name => $cap,)* }
            }
        }
    };
}

frame_kinds! {
    /// Client: magic and [`super::messages::Hello`].
    Hello = 1, 4 * KIB;
    /// Server: magic and [`super::messages::Welcome`].
    Welcome = 2, MIB;
    /// Server: no connection, and why.
    Refused = 3, 64 * KIB;
    /// Server: the request failed, and why; the connection ends.
    Failed = 4, 64 * KIB;
    /// Client: names the model that the next requests are about.
    OfferModel = 5, 4 * KIB;
    /// Server: lacks that model.
    ModelWanted = 6, 0;
    /// Client: the next piece of the model file.
    ModelChunk = 7, MODEL_CHUNK_BYTES;
    /// Server: has the model.
    ModelReady = 8, 0;
    /// Client: bytes of the wanted reply (`u32`), then filler.
    Ping = 9, MAX_FILLER_BYTES;
    /// Server: its clock (`u64` ns since the connection began), then filler.
    Pong = 10, MAX_FILLER_BYTES;
    /// Client: announces a stream of filler frames.
    StreamUp = 11, 4 * KIB;
    /// Client: asks for a stream of filler frames.
    StreamDown = 12, 4 * KIB;
    /// Either: a stream's frame.
    Filler = 13, MAX_FILLER_BYTES;
    /// Server: what it received of a stream.
    StreamReport = 14, 4 * KIB;
    /// Client: asks for measurements.
    Profile = 15, MIB;
    /// Server: how far they are; also says that it is alive.
    Progress = 16, KIB;
    /// Server: the measurements.
    Profiled = 17, 64 * MIB;
    /// Client: [`super::messages::RunRequest`].
    Run = 18, MIB;
    /// Server: takes tasks now.
    RunReady = 19, 0;
    /// Client: one task.
    Task = 20, 0;
    /// Server: its answer.
    Answer = 21, 0;
    /// Either: no more tasks, no more answers.
    Done = 22, 0;
    /// Client: wants to measure, alone.
    TakeTurn = 23, 0;
    /// Server: others measure before; also says that it is alive. [`super::messages::Waiting`].
    Waiting = 24, KIB;
    /// Server: nobody else measures here until this connection ends.
    Turn = 25, 0;
    /// Server: no connection, since others have all that there are. [`super::messages::Busy`].
    Busy = 26, KIB;
}

impl FrameKind {
    /// Whether a client may ask for it only while nobody else measures. Pings are free: those under load come over another
    /// connection than the load.
    pub fn needs_turn(self) -> bool {
        matches!(self, Self::StreamUp | Self::StreamDown | Self::OfferModel | Self::Profile | Self::Run)
    }
}

/// How long a reader waits.
pub(super) struct Wait<'a> {
    /// Without a single byte.
    pub idle: Duration,
    /// In all.
    pub until: Option<Instant>,
    /// Asked again and again; true ends the wait.
    pub stop: &'a (dyn Fn() -> bool + 'a),
}

impl Wait<'_> {
    fn check(&self, last_byte: Instant) -> Result<()> {
        let now = Instant::now();
        if (self.stop)() {
            return Err(Error::interrupted());
        }
        if self.until.is_some_and(|until| now > until) {
            return Err(Error::peer("the peer did not finish the handshake in time; is it coprof?"));
        }
        if now.duration_since(last_byte) > self.idle {
            let waited = self.idle.as_secs_f64();
            return Err(Error::peer(format!(
                "the peer was silent for {waited} s; is it alive, and the network up?"
            )));
        }
        Ok(())
    }
}

/// Reads one frame, its payload into `payload`. `None`: the peer closed the connection between frames. A source whose
/// reads time out (`WouldBlock`, `TimedOut`) is asked again until `wait` is over; `Interrupted` tells of bytes to come.
pub(super) fn read_frame(
    source: &mut impl Read,
    wait: &Wait<'_>,
    run_cap: usize,
    payload: &mut Vec<u8>,
) -> Result<Option<FrameKind>> {
    let mut header = [0; HEADER_BYTES];
    match fill(source, wait, &mut header)? {
        0 => return Ok(None),
        HEADER_BYTES => {}
        _ => return Err(cut_off()),
    }
    let (kind, len) = announced(header, run_cap)?;
    let mut got = 0;
    while got < len {
        let end = len.min(got + GROWTH_BYTES);
        if payload.len() < end {
            payload.resize(end, 0);
        }
        if fill(source, wait, &mut payload[got..end])? < end - got {
            return Err(cut_off());
        }
        got = end;
    }
    payload.truncate(len);
    Ok(Some(kind))
}

/// What a frame's header says: its kind, and the bytes of payload that follow, of which there are not too many.
pub(super) fn announced(header: [u8; HEADER_BYTES], run_cap: usize) -> Result<(FrameKind, usize)> {
    let [a, b, c, d, kind] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let kind = FrameKind::from_byte(kind).ok_or_else(|| {
        Error::peer(format!("expected a coprof frame, found kind {kind}; is the peer coprof?"))
    })?;
    let cap = kind.cap(run_cap);
    if len > cap {
        return Err(Error::peer(format!(
            "a {kind:?} frame holds at most {cap} bytes, the peer announced {len}"
        )));
    }
    Ok((kind, len))
}

fn cut_off() -> Error {
    Error::peer("the peer closed the connection in the middle of a frame")
}

/// Fills `bytes`; fewer only when the source ends.
pub(super) fn fill(source: &mut impl Read, wait: &Wait<'_>, bytes: &mut [u8]) -> Result<usize> {
    let mut got = 0;
    let mut last_byte = Instant::now();
    while got < bytes.len() {
        wait.check(last_byte)?;
        match source.read(&mut bytes[got..]) {
            Ok(0) => break,
            Ok(n) => {
                got += n;
                last_byte = Instant::now();
            }
            // Something has come that is not readable yet: the peer is not silent.
            Err(error) if error.kind() == ErrorKind::Interrupted => last_byte = Instant::now(),
            Err(error) if is_pause(error.kind()) => {}
            // It closed with something of ours unread, which is an end all the same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(got)
}

pub(super) fn is_pause(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

pub(super) fn broken(error: impl fmt::Display) -> Error {
    Error::peer(format!("the connection broke: {error}"))
}

/// Writes one frame, header and payload (`head`, then `body`) in one system call where the sink takes them.
///
/// # Panics
/// In debug builds, on a `head` over 32 bytes.
pub(super) fn write_frame(sink: &mut impl Write, kind: FrameKind, head: &[u8], body: &[u8]) -> Result<()> {
    debug_assert!(head.len() <= 32, "heads are small");
    let len = u32::try_from(head.len() + body.len())
        .map_err(|_| Error::failed(format!("a {kind:?} frame of over 4 GiB; choose an earlier cut")))?;
    let mut start = [0; HEADER_BYTES];
    start[..4].copy_from_slice(&len.to_le_bytes());
    start[4] = kind as u8;
    let mut parts = [IoSlice::new(&start), IoSlice::new(head), IoSlice::new(body)];
    let mut rest = &mut parts[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match sink.write_vectored(rest) {
            Ok(0) => return Err(broken("nothing more can be written")),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_pause(error.kind()) => {
                return Err(Error::peer("the peer stopped taking data; is it alive, and the network up?"));
            }
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Wait<'_> = Wait { idle: Duration::from_secs(3600), until: None, stop: &|| false };

    fn read(mut bytes: &[u8], task_cap: usize, payload: &mut Vec<u8>) -> Result<Option<FrameKind>> {
        read_frame(&mut bytes, &WAIT, task_cap, payload)
    }

    /// Gives and takes at most three bytes at a time, pausing every other call.
    #[derive(Default)]
    struct Trickle {
        bytes: Vec<u8>,
        at: usize,
        calls: usize,
    }

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(ErrorKind::WouldBlock.into());
            }
            let n = into.len().min(3).min(self.bytes.len() - self.at);
            into[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
            self.at += n;
            Ok(n)
        }
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let n = bytes.len().min(3);
            self.bytes.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_kind_has_its_own_byte() {
        for &kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_byte(kind as u8), Some(kind));
        }
        assert_eq!(FrameKind::from_byte(0), None);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_memory_is_taken() {
        for &kind in FrameKind::ALL {
            let mut bytes = u32::MAX.to_le_bytes().to_vec();
            bytes.push(kind as u8);
            let mut payload = Vec::new();
            let error = read(&bytes, 1 << 20, &mut payload).unwrap_err();
            assert!(error.to_string().contains("at most"), "{error}");
            assert_eq!(payload.capacity(), 0);
        }
    }

    #[test]
    fn memory_grows_only_as_bytes_arrive() {
        let mut bytes = (16u32 << 20).to_le_bytes().to_vec();
        bytes.push(FrameKind::Filler as u8);
        let mut payload = Vec::new();
        read(&bytes, 0, &mut payload).unwrap_err();
        assert!(payload.capacity() <= GROWTH_BYTES);
    }

    #[test]
    fn a_stop_and_a_passed_deadline_end_the_wait() {
        let mut payload = Vec::new();
        let stopped = Wait { stop: &|| true, ..WAIT };
        let error = read_frame(&mut &[0u8; 64][..], &stopped, 0, &mut payload).unwrap_err();
        assert_eq!(error, Error::interrupted());
        let late = Wait { until: Instant::now().checked_sub(Duration::from_nanos(1)), ..WAIT };
        assert!(read_frame(&mut &[0u8; 64][..], &late, 0, &mut payload).is_err());
    }

    proptest! {
        #[test]
        fn frames_survive_the_trip(
            frames in prop::collection::vec((0..FrameKind::ALL.len(), prop::collection::vec(any::<u8>(), 0..600)), 1..5),
            split in 0usize..32,
        ) {
            let mut wire = Trickle::default();
            for (kind, body) in &frames {
                let (head, body) = body.split_at(split.min(body.len()));
                write_frame(&mut wire, FrameKind::ALL[*kind], head, body).unwrap();
            }
            let mut payload = vec![7; 100];
            for (kind, body) in &frames {
                let kind = FrameKind::ALL[*kind];
                let found = read_frame(&mut wire, &WAIT, 4096, &mut payload);
                if body.len() > kind.cap(4096) {
                    prop_assert!(found.is_err());
                    return Ok(());
                }
                prop_assert_eq!(found.unwrap(), Some(kind));
                prop_assert_eq!(&payload, body);
            }
            prop_assert_eq!(read_frame(&mut wire, &WAIT, 4096, &mut payload).unwrap(), None);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut payload = Vec::new();
            let _ = read(&bytes, 1 << 20, &mut payload);
            prop_assert!(payload.len() <= GROWTH_BYTES);
        }

        #[test]
        fn a_frame_cut_short_is_an_error(len in 1usize..40, cut in 1usize..45) {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, FrameKind::Ping, &[], &vec![1; len]).unwrap();
            bytes.truncate(cut.min(bytes.len() - 1));
            prop_assert!(read(&bytes, 0, &mut Vec::new()).is_err());
        }
    }
}
