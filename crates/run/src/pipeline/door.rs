//! Strangers: connections that have not greeted yet, and not shown that they have a key where one is asked for. They have a room of
//! their own at the door, no threads, and little time, so that nothing that they do or leave undone keeps anyone else out.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::key::{Grant, KeyRing};
use super::messages::{Hello, Message};
use super::noise::{Cipher, HANDSHAKE_BYTES, HandshakeMessage, respond};
use super::transport::Transport;
use super::wire::{HEADER_BYTES, MAGIC, announced, broken};
use coprof_core::error::{Error, Result};

/// The most strangers at a time: with as many file descriptors left to sessions, a process may have 1,024 by default.
pub(super) const MAX_STRANGERS: usize = 256;

/// A stranger is looked at at most so often.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// First messages of handshakes that are remembered.
const REMEMBERED: usize = 1024;

/// Tells who has a key.
struct Lock {
    keys: KeyRing,
    /// The latest first messages with one of the keys: whoever says one of these again has recorded it, and is not worth an answer,
    /// which takes far more time than this look.
    heard: VecDeque<HandshakeMessage>,
}

impl Lock {
    /// The answer to a first message that was made with one of the keys, and whose that is.
    fn respond(&mut self, first: &HandshakeMessage) -> Result<Option<(Grant, HandshakeMessage, Cipher)>> {
        if self.heard.contains(first) {
            return Err(Error::peer("repeats the handshake of another connection"));
        }
        let Some((place, second, cipher)) = respond(self.keys.grants(), first)? else { return Ok(None) };
        self.heard.truncate(REMEMBERED - 1);
        self.heard.push_front(*first);
        Ok(self.keys.grants().get(place).map(|grant| (grant.clone(), second, cipher)))
    }
}

/// Connections that have not proved themselves.
pub(super) struct Door {
    strangers: Vec<Stranger>,
    /// How long a stranger may stay.
    patience: Duration,
    /// `None`: whoever greets is let in.
    lock: Option<Lock>,
}

/// A connection that was greeted in the right way, encrypted where there are keys.
pub(super) struct Guest {
    pub transport: Transport,
    pub address: SocketAddr,
    pub hello: Hello,
    /// Whose key it has.
    pub grant: Option<Grant>,
}

/// What became of a stranger.
pub(super) enum Outcome {
    Proved(Box<Guest>),
    /// It is gone, for this reason.
    Gone(SocketAddr, Error),
}

impl Door {
    pub fn new(patience: Duration, keys: Option<KeyRing>) -> Self {
        let lock = keys.map(|keys| Lock { keys, heard: VecDeque::new() });
        Self { strangers: Vec::new(), patience, lock }
    }

    pub fn is_empty(&self) -> bool {
        self.strangers.is_empty()
    }

    /// Takes in a stranger, whose stream must not block. Where there is no room, another one goes, whichever `random` says: of
    /// a crowd that comes faster than it leaves, the honest among them stay as likely as anyone, and need not stay long.
    pub fn take_in(
        &mut self,
        stream: TcpStream,
        address: SocketAddr,
        now: Instant,
        random: u32,
    ) -> Option<(SocketAddr, Error)> {
        let dropped = (self.strangers.len() >= MAX_STRANGERS).then(|| {
            let unlucky = self.strangers.swap_remove(random as usize % self.strangers.len());
            (unlucky.address, Error::peer("dropped for a newer one, since there are too many"))
        });
        self.strangers.push(Stranger {
            transport: Transport::new(stream),
            address,
            since: now,
            look_at: now,
            said: Vec::new(),
            grant: None,
            rejected: None,
        });
        dropped
    }

    /// Hears what strangers have said meanwhile; those for whom something is decided are at the door no more.
    pub fn hear(&mut self, now: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut at = 0;
        while at < self.strangers.len() {
            let heard = self.strangers[at].hear(now, self.patience, self.lock.as_mut());
            let Some(decided) = heard.transpose() else {
                at += 1;
                continue;
            };
            let Stranger { transport, address, grant, .. } = self.strangers.swap_remove(at);
            outcomes.push(match decided {
                Ok(hello) => Outcome::Proved(Box::new(Guest { transport, address, hello, grant })),
                Err(error) => Outcome::Gone(address, error),
            });
        }
        outcomes
    }
}

struct Stranger {
    transport: Transport,
    address: SocketAddr,
    since: Instant,
    look_at: Instant,
    /// Of its handshake, then of its greeting.
    said: Vec<u8>,
    /// Whose key it has, once it has shown that.
    grant: Option<Grant>,
    /// Why it is not listened to any more.
    rejected: Option<Error>,
}

impl Stranger {
    /// Its greeting, once that is whole; an error where none will come.
    fn hear(&mut self, now: Instant, patience: Duration, lock: Option<&mut Lock>) -> Result<Option<Hello>> {
        if now < self.look_at {
            return Ok(None);
        }
        let here = now.saturating_duration_since(self.since);
        // The longer it has kept us waiting, the more rarely: else a crowd of the silent would cost a core.
        self.look_at = now + (here / 4).max(LOOK_EVERY);
        let is_late = here > patience;
        let is_locked = lock.is_some();
        let heard = self.rejected.take().map_or_else(|| self.read(lock), Err);
        let is_keyless = is_locked && self.grant.is_none() && self.said.len() > HEADER_BYTES;
        match heard {
            // A plain greeting is shorter than a handshake.
            Ok(None) if is_late && is_keyless => Err(self.keyless()),
            Ok(None) if is_late => Err(Error::peer("said no greeting in time")),
            // When we hang up tells nothing of the reason.
            Err(error) if is_locked && !is_late => {
                self.rejected = Some(error);
                Ok(None)
            }
            heard => heard,
        }
    }

    /// Why nothing can come of what it says where keys are asked for.
    fn keyless(&self) -> Error {
        // Behind a plain greeting's length and kind.
        let is_plain = self.said.get(HEADER_BYTES..).is_some_and(|said| said.starts_with(&MAGIC));
        Error::peer(if is_plain { "greets without a key" } else { "has none of our keys" })
    }

    fn read(&mut self, lock: Option<&mut Lock>) -> Result<Option<Hello>> {
        if let Some(lock) = lock
            && self.grant.is_none()
            && !self.shake_hands(lock)?
        {
            return Ok(None);
        }
        loop {
            let wanted = greeting_bytes(&self.said)?;
            if self.said.len() > HEADER_BYTES && self.said.len() == wanted {
                return Hello::parse(&self.said[HEADER_BYTES..]).map(Some);
            }
            if !self.read_up_to(wanted)? {
                return Ok(None);
            }
        }
    }

    /// Finds out whose key it has; false while its part of the handshake is on its way.
    fn shake_hands(&mut self, lock: &mut Lock) -> Result<bool> {
        while self.said.len() < HANDSHAKE_BYTES {
            if !self.read_up_to(HANDSHAKE_BYTES)? {
                return Ok(false);
            }
        }
        let Some(first) = self.said.first_chunk() else { return Ok(false) };
        let (grant, second, cipher) = lock.respond(first)?.ok_or_else(|| self.keyless())?;
        (&self.transport).write_all(&second).map_err(broken)?;
        self.transport.seal(cipher);
        self.said.clear();
        self.grant = Some(grant);
        Ok(true)
    }

    /// Reads on until so much has been said; false where no more has come.
    fn read_up_to(&mut self, wanted: usize) -> Result<bool> {
        let mut chunk = [0; 512];
        let most = chunk.len().min(wanted - self.said.len());
        match (&self.transport).read(&mut chunk[..most]) {
            Ok(0) => Err(Error::peer("closed before the greeting")),
            Ok(n) => {
                self.said.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(broken(error)),
        }
    }
}

/// How many bytes a greeting has of which this is the beginning, as far as that tells.
fn greeting_bytes(said: &[u8]) -> Result<usize> {
    let Some(&header) = said.first_chunk() else { return Ok(HEADER_BYTES) };
    match announced(header, 0)? {
        (Hello::KIND, bytes) => Ok(HEADER_BYTES + bytes),
        (kind, _) => Err(Error::peer(format!("expected a greeting, found a {kind:?} frame"))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::pipeline::key::Key;
    use crate::pipeline::noise::Initiator;
    use crate::pipeline::wire::write_frame;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream, SocketAddr) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, address) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, stream, address)
    }

    fn hello() -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Hello::KIND, &MAGIC, &serde_json::to_vec(&Hello::ours()).unwrap()).unwrap();
        bytes
    }

    /// A clock that the test moves, on which one stranger is heard until something is decided.
    fn decide(mut client: TcpStream, door: &mut Door, bytes: &[u8]) -> Outcome {
        client.write_all(bytes).unwrap();
        let mut now = Instant::now();
        loop {
            now += LOOK_EVERY;
            if let Some(outcome) = door.hear(now).pop() {
                return outcome;
            }
        }
    }

    #[test]
    fn a_greeting_proves_in_however_many_pieces_it_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut client, stream, address) = pair(&listener);
        let (mut door, mut now) = (Door::new(PATIENCE, None), Instant::now());
        assert!(door.take_in(stream, address, now, 0).is_none());
        let hello = hello();
        let (last, first) = hello.split_last().unwrap();
        for byte in first {
            client.write_all(&[*byte]).unwrap();
            now += LOOK_EVERY;
            assert!(door.hear(now).is_empty());
        }
        assert!(matches!(decide(client, &mut door, &[*last]), Outcome::Proved(_)));
        assert!(door.is_empty());
    }

    #[test]
    fn whoever_says_something_else_or_nothing_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut longer = hello();
        longer[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut other = hello();
        other[HEADER_BYTES] = b'C';
        for (bytes, reason) in [
            (&b""[..], "in time"),
            (&hello()[..9], "in time"),
            (b"GET / HTTP/1.1\r\n\r\n", "expected a coprof frame"),
            (&[0xff; 64], "expected a coprof frame"),
            (&longer, "at most"),
            (&other, "coprof's greeting"),
            (&[0, 0, 0, 0, 9], "found a Ping frame"),
        ] {
            let (client, stream, address) = pair(&listener);
            let mut door = Door::new(PATIENCE, None);
            door.take_in(stream, address, Instant::now(), 0);
            let Outcome::Gone(who, error) = decide(client, &mut door, bytes) else { panic!("{reason}") };
            assert!(who == address && error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn keyed_doors_hang_up_at_the_same_time_whatever_the_reason() {
        let key = || Key::random().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ring = KeyRing::parse(&key().secret_text()).unwrap();
        let (_, ours) = Initiator::begin(&ring.grants()[0].key).unwrap();
        let (_, foreign) = Initiator::begin(&key()).unwrap();
        let unanswered = [&ours[..], &[20, 0], &[7; 20]].concat();
        let start = Instant::now();
        let mut ends = Vec::new();
        for (said, reason) in [
            (&b""[..], "in time"),
            (&hello(), "without a key"),
            (&foreign, "none of our keys"),
            (&foreign[..20], "none of our keys"),
            (&[0xff; 64], "none of our keys"),
            // A recorded first message, with nothing or with something wrong behind it.
            (&ours, "in time"),
            (&unanswered, "not what was sent"),
        ] {
            let (mut client, stream, address) = pair(&listener);
            let mut door = Door::new(PATIENCE, Some(ring.clone()));
            door.take_in(stream, address, start, 0);
            client.write_all(said).unwrap();
            let mut now = start;
            let end = loop {
                now += LOOK_EVERY;
                if let Some(outcome) = door.hear(now).pop() {
                    break outcome;
                }
            };
            let Outcome::Gone(_, error) = end else { panic!("{reason}") };
            assert!(error.to_string().contains(reason), "{error}");
            ends.push(now - start);
        }
        assert!(ends.iter().all(|end| *end == ends[0] && *end > PATIENCE), "{ends:?}");
    }

    #[test]
    fn a_newcomer_finds_room_whoever_is_there_and_a_random_one_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut door, now) = (Door::new(PATIENCE, None), Instant::now());
        let mut there = Vec::new();
        for _ in 0..MAX_STRANGERS {
            let (client, stream, address) = pair(&listener);
            assert!(door.take_in(stream, address, now, 7).is_none());
            there.push((client, address));
        }
        let (_client, stream, newest) = pair(&listener);
        let Some((unlucky, _)) = door.take_in(stream, newest, now, MAX_STRANGERS as u32 + 7) else {
            panic!("one must go");
        };
        assert_eq!(unlucky, there[7].1);
        assert_eq!(door.strangers.len(), MAX_STRANGERS);
        assert!(door.strangers.iter().any(|stranger| stranger.address == newest));
    }

    #[test]
    fn the_silent_are_looked_at_ever_more_rarely() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, stream, address) = pair(&listener);
        let (mut door, start) = (Door::new(PATIENCE, None), Instant::now());
        door.take_in(stream, address, start, 0);
        let mut looks = 0;
        for passed in 0..PATIENCE.as_millis() as u64 {
            let before = door.strangers[0].look_at;
            assert!(door.hear(start + Duration::from_millis(passed)).is_empty());
            looks += usize::from(door.strangers[0].look_at != before);
        }
        assert!((10..50).contains(&looks), "{looks}");
    }
}
