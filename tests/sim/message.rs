//! The messages of the simulation: unique payloads that say who published them, and the keys that
//! they travel under.

use std::fmt;

/// Whose message it is, and which of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Id {
    pub(crate) publisher: u8,
    pub(crate) number: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.publisher, self.number)
    }
}

/// The payload of a message, of so many bytes or a few more.
pub(crate) fn payload(id: Id, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{id};").into_bytes();
    payload.resize(payload.len().max(bytes), b'.');
    payload
}

pub(crate) fn read_payload(payload: &[u8]) -> Option<Id> {
    let end = payload.iter().position(|byte| *byte == b';')?;
    let (publisher, number) = std::str::from_utf8(&payload[..end]).ok()?.split_once(':')?;
    Some(Id {
        publisher: publisher.parse().ok()?,
        number: number.parse().ok()?,
    })
}

/// Topics of messages; none has a dot.
pub(crate) const TOPICS: [&str; 6] = ["a", "a/b", "a/c", "b/c", "a/b/c", "d/b"];

/// Filters of MQTT subscriptions.
pub(crate) const FILTERS: [&str; 7] = ["#", "a/#", "a/+", "+/b", "a/b", "+/+/c", "b/c"];

/// A filter or topic as AMQP writes it.
pub(crate) fn dotted(filter: &str) -> String {
    filter.replace('/', ".").replace('+', "*")
}

/// Whether a dotted binding key matches a dotted routing key. AMQP 0-9-1 §3.1.3.3.
pub(crate) fn matches(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let key: Vec<&str> = key.split('.').collect();
    matches_words(&pattern, &key)
}

fn matches_words(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => {
            (0..=key.len()).any(|skipped| matches_words(rest, &key[skipped..]))
        }
        (Some((word, rest)), Some((first, others))) => {
            (*word == "*" || word == first) && matches_words(rest, others)
        }
        _ => false,
    }
}
