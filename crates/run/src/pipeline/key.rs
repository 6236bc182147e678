//! Pre-shared keys: who has one may use an edge.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use coprof_core::error::{Error, Result};

/// The format's name and version.
const PREFIX: &str = "coprof-key-1-";

const KEY_BYTES: usize = 32;

/// Models of earlier sessions that are kept for one key, or for all without keys.
pub(super) const MAX_MODELS: usize = 4;

/// A client is tried against each, so there is a bound.
const MAX_KEYS: usize = 64;

const EXPECTED: &str = "a key as `coprof key` makes it was expected, with a name before it if you like";

/// A secret of 32 random bytes that two sides share. Written as `coprof-key-1-` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// A new one, from the system's source of randomness.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
        Ok(Self(bytes))
    }

    /// The key itself, for a file that nobody else reads.
    pub fn secret_text(&self) -> String {
        self.0.iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Says nothing, so that no log has it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // What is wrong with it is told without it.
        let wrong = || Error::failed(EXPECTED);
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == 2 * KEY_BYTES);
        let mut bytes = [0; KEY_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.ok_or_else(wrong)?.as_bytes().chunks(2)) {
            let pair = str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// Who may use an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// For people: whose key it is.
    pub name: String,
    /// What proves it.
    pub key: Key,
    /// The most sessions at a time; `None`: as many as the edge has.
    pub sessions: Option<usize>,
    /// How many models that it has sent are kept for its next sessions.
    pub models: usize,
    /// How long one of its sessions may measure while others wait; `None`: until it ends.
    pub turn: Option<Duration>,
}

/// The keys of a file, with different names.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRing(Vec<Grant>);

impl KeyRing {
    /// Reads a key file: a line `[NAME] KEY [sessions=N] [models=N] [turn=SPAN]` for each; empty lines and those that begin with `#`
    /// are passed over. Errors name the line, and never tell what stands there.
    pub fn parse(text: &str) -> Result<Self> {
        let mut grants = Vec::new();
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let grant = grant(line, number).map_err(|error| error.within(format!("line {number}")))?;
            if !names.insert(grant.name.clone()) || !keys.insert(grant.key.clone()) {
                return Err(Error::failed(format!(
                    "line {number}: its name or its key stands in another line"
                )));
            }
            grants.push(grant);
        }
        match grants.len() {
            0 => Err(Error::failed(format!("holds no key; {EXPECTED}"))),
            count if count > MAX_KEYS => {
                Err(Error::failed(format!("holds {count} keys, an edge takes at most {MAX_KEYS}")))
            }
            _ => Ok(Self(grants)),
        }
    }

    /// The keys, in the order of their lines.
    pub fn grants(&self) -> &[Grant] {
        &self.0
    }
}

fn grant(line: &str, number: usize) -> Result<Grant> {
    let mut words = line.split_whitespace().peekable();
    let is_key = |word: &&str| word.starts_with(PREFIX);
    let name = words.next_if(|word| !is_key(word)).map_or_else(|| format!("key-{number}"), str::to_owned);
    let key = words.next().ok_or_else(|| Error::failed(EXPECTED))?.parse()?;
    let mut grant = Grant { name, key, sessions: None, models: MAX_MODELS, turn: None };
    for word in words {
        limit(word, &mut grant).ok_or_else(|| {
            Error::failed(format!(
                "behind a key, sessions=N (1 or more), models=N (0 to {MAX_MODELS}) and turn=SPAN (such as 90s, 10m or 2h) were \
                 expected"
            ))
        })?;
    }
    Ok(grant)
}

/// Takes in a limit that stands behind a key; `None`: it is none.
fn limit(word: &str, grant: &mut Grant) -> Option<()> {
    let (what, limit) = word.split_once('=')?;
    match what {
        "sessions" => grant.sessions = Some(limit.parse().ok().filter(|&sessions| sessions > 0)?),
        "models" => grant.models = limit.parse().ok().filter(|&models| models <= MAX_MODELS)?,
        "turn" => grant.turn = Some(span(limit).filter(|turn| !turn.is_zero())?),
        _ => return None,
    }
    Some(())
}

/// Whole seconds, minutes or hours, up to some years.
fn span(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        _ => return None,
    };
    let count: u16 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(seconds * u64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(digit: char) -> String {
        format!("{PREFIX}{}", digit.to_string().repeat(64))
    }

    #[test]
    fn a_random_key_survives_its_text_and_is_no_other() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        assert_ne!(key, other);
        let text = key.secret_text();
        assert_eq!(text.len(), PREFIX.len() + 64);
        assert_eq!(text.parse::<Key>().unwrap(), key);
        assert!(!format!("{key:?}").contains(&text[PREFIX.len()..PREFIX.len() + 4]));
    }

    #[test]
    fn keys_have_names_of_their_own() {
        let file = format!("# ours\n\nboard {} models=0 sessions=2 turn=10m\n  {}\n", text('a'), text('b'));
        let ring = KeyRing::parse(&file).unwrap();
        let names: Vec<&str> = ring.grants().iter().map(|grant| &*grant.name).collect();
        assert_eq!(names, ["board", "key-4"]);
        assert_eq!(ring.grants()[0].key, text('a').parse().unwrap());
        let limits: Vec<_> =
            ring.grants().iter().map(|grant| (grant.sessions, grant.models, grant.turn)).collect();
        assert_eq!(limits, [(Some(2), 0, Some(Duration::from_secs(600))), (None, MAX_MODELS, None)]);
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_telling_what_it_holds() {
        let short = &text('a')[..40];
        for (file, says) in [
            (String::new(), "holds no key"),
            ("# nothing\n".into(), "holds no key"),
            (short.into(), "line 1: a key as `coprof key` makes it"),
            (format!("{}\nboard", text('c')), "line 2: a key as"),
            (text('g'), "line 1: a key as"),
            (text('a').replace("aaaa", "+a+a"), "line 1: a key as"),
            (format!("board {} and more", text('c')), "behind a key"),
            (format!("board {} sessions=0", text('c')), "behind a key"),
            (format!("board {} models=5", text('c')), "models=N (0 to 4)"),
            (format!("board {} turn=0s", text('c')), "turn=SPAN"),
            (format!("board {} turn=10", text('c')), "turn=SPAN"),
            (format!("board {} turn=é", text('c')), "turn=SPAN"),
            (format!("board {} turn=99999h", text('c')), "turn=SPAN"),
            (format!("board {}\nboard {}", text('c'), text('d')), "line 2: its name or its key"),
            (format!("board {}\nother {}", text('c'), text('c')), "line 2: its name or its key"),
            ((0..65).map(|i| format!("{PREFIX}{i:064x}\n")).collect(), "65 keys"),
        ] {
            let error = KeyRing::parse(&file).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("aaaa") && !error.contains("cccc"), "{error}");
        }
    }
}
