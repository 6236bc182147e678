//! The Noise protocol with a pre-shared key: how two sides that have it find keys for one connection, and what seals its bytes.

use snow::{Builder, HandshakeState, StatelessTransportState};

use super::key::{Grant, Key};
use coprof_core::error::{Error, Result};

/// Neither side has an identity but the key, so no static keys (NN); the key goes in before the first message (psk0), so that an
/// edge tells from that alone which of its keys a client has, and says nothing to who has none. Ephemeral keys keep earlier
/// connections secret from who learns the key later. ChaCha20 is fast on boards whose processors have no instructions for AES.
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// What both sides must mean by it.
const PROLOGUE: &[u8] = b"coprof noise 1";

/// Both messages of the handshake: an ephemeral public key, and the tag of nothing.
pub(super) const HANDSHAKE_BYTES: usize = 32 + TAG_BYTES;

/// What sealing adds to a message.
pub(super) const TAG_BYTES: usize = 16;

pub(super) type HandshakeMessage = [u8; HANDSHAKE_BYTES];

/// Seals and opens the messages of one connection.
pub(super) struct Cipher(StatelessTransportState);

impl Cipher {
    /// Seals the `number`th message of this side, counted from 0, into as many bytes and a tag.
    pub fn seal(&self, number: u64, message: &[u8], into: &mut [u8]) -> Result<(), snow::Error> {
        self.0.write_message(number, message, into).map(drop)
    }

    /// Opens the other side's, which must be this one, unchanged.
    pub fn open(&self, number: u64, sealed: &[u8], into: &mut [u8]) -> Result<(), snow::Error> {
        self.0.read_message(number, sealed, into).map(drop)
    }
}

fn builder(key: &Key) -> Result<Builder<'_>, snow::Error> {
    Builder::new(PATTERN.parse()?).prologue(PROLOGUE)?.psk(0, key.bytes())
}

fn failed(error: snow::Error) -> Error {
    Error::failed(format!("the connection cannot be encrypted: {error}"))
}

/// A client's handshake.
pub(super) struct Initiator(HandshakeState);

impl Initiator {
    /// Begins one: the first message.
    pub fn begin(key: &Key) -> Result<(Self, HandshakeMessage)> {
        let begin = || {
            let mut state = builder(key)?.build_initiator()?;
            let mut first = [0; HANDSHAKE_BYTES];
            state.write_message(&[], &mut first)?;
            Ok((Self(state), first))
        };
        begin().map_err(failed)
    }

    /// Ends it with the edge's answer.
    pub fn end(mut self, second: &HandshakeMessage) -> Result<Cipher> {
        self.0
            .read_message(second, &mut [])
            .map_err(|_| Error::peer("the peer's answer is not that of an edge that has our key"))?;
        self.0.into_stateless_transport_mode().map(Cipher).map_err(failed)
    }
}

/// An edge's part: the place of the key that the client has, and the answer. `None`: it has none of ours. A recorded message gets an
/// answer, too, but only its author can read it.
pub(super) fn respond(
    grants: &[Grant],
    first: &HandshakeMessage,
) -> Result<Option<(usize, HandshakeMessage, Cipher)>> {
    let mut found = None;
    // All are tried, whichever it is: how long that takes tells nothing.
    for (place, grant) in grants.iter().enumerate() {
        let mut state = builder(&grant.key).and_then(Builder::build_responder).map_err(failed)?;
        if state.read_message(first, &mut []).is_ok() {
            found = Some((place, state));
        }
    }
    let Some((place, mut state)) = found else { return Ok(None) };
    let mut second = [0; HANDSHAKE_BYTES];
    state.write_message(&[], &mut second).map_err(failed)?;
    let cipher = state.into_stateless_transport_mode().map_err(failed)?;
    Ok(Some((place, second, Cipher(cipher))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&Key]) -> Vec<Grant> {
        let grant = |&key: &&Key| Grant {
            name: String::new(),
            key: key.clone(),
            sessions: None,
            models: 0,
            turn: None,
        };
        keys.iter().map(grant).collect()
    }

    fn keys() -> [Key; 3] {
        [(); 3].map(|()| Key::random().unwrap())
    }

    #[test]
    fn the_edge_tells_by_the_first_message_who_it_is() {
        let [first, second, stranger] = keys();
        let ring = ring(&[&first, &second]);
        for (place, key) in [&first, &second].into_iter().enumerate() {
            let (client, message) = Initiator::begin(key).unwrap();
            let (found, answer, edge) = respond(&ring, &message).unwrap().unwrap();
            assert_eq!(found, place);
            let client = client.end(&answer).unwrap();
            let (mut sealed, mut opened) = ([0; 4 + TAG_BYTES], [0; 4]);
            client.seal(0, b"task", &mut sealed).unwrap();
            assert!(!sealed.starts_with(b"task"));
            edge.open(0, &sealed, &mut opened).unwrap();
            assert_eq!(&opened, b"task");
        }
        let (_, message) = Initiator::begin(&stranger).unwrap();
        assert!(respond(&ring, &message).unwrap().is_none());
        assert!(respond(&ring, &[7; HANDSHAKE_BYTES]).unwrap().is_none());
    }

    #[test]
    fn an_edge_that_lacks_the_key_cannot_answer() {
        let [ours, theirs, _] = keys();
        let (client, _) = Initiator::begin(&ours).unwrap();
        let (_, message) = Initiator::begin(&theirs).unwrap();
        let (_, answer, _) = respond(&ring(&[&theirs]), &message).unwrap().unwrap();
        assert_eq!(client.end(&answer).err().unwrap().exit_code(), 3);
    }

    #[test]
    fn messages_open_only_in_their_place_unchanged_and_on_the_other_side() {
        let [key, ..] = keys();
        let (client, message) = Initiator::begin(&key).unwrap();
        let (_, answer, edge) = respond(&ring(&[&key]), &message).unwrap().unwrap();
        let client = client.end(&answer).unwrap();
        let (mut sealed, mut opened) = ([0; 4 + TAG_BYTES], [0; 4]);
        client.seal(3, b"task", &mut sealed).unwrap();
        assert!(edge.open(2, &sealed, &mut opened).is_err(), "in another place");
        assert!(client.open(3, &sealed, &mut opened).is_err(), "sent back");
        for bit in 0..8 * sealed.len() {
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(edge.open(3, &changed, &mut opened).is_err(), "bit {bit} changed");
        }
        // Nor on another connection with the same key.
        let (_, message) = Initiator::begin(&key).unwrap();
        let (.., other) = respond(&ring(&[&key]), &message).unwrap().unwrap();
        assert!(other.open(3, &sealed, &mut opened).is_err(), "on another connection");
        assert!(edge.open(3, &sealed, &mut opened).is_ok());
    }
}
