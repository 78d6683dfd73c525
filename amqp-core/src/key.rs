//! Keys in their two forms, and the one translation between them.
//!
//! AMQP publishers name dotted routing keys, publishers of the adapter name slashed topics. Both
//! meet in one topic exchange: a slashed key is routed under its dotted translation (`/` becomes
//! `.`, `+` becomes `*`), except that two slashed ends meet on the original, so that dots, `*` and
//! leading slashes lose nothing between them.

use smallvec::SmallVec;

/// How a key or a binding key was written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Form {
    /// Words separated by `.`; in a binding key `*` is one word and `#` any number of them.
    #[default]
    Dotted,
    /// Levels separated by `/`; in a binding key `+` is one level and `#` any number of them.
    Slashed,
}

impl Form {
    /// The byte between two words.
    #[must_use]
    pub fn separator(self) -> u8 {
        match self {
            Self::Dotted => b'.',
            Self::Slashed => b'/',
        }
    }

    /// The word that stands for exactly one word.
    #[must_use]
    pub fn single_wildcard(self) -> &'static [u8] {
        match self {
            Self::Dotted => b"*",
            Self::Slashed => b"+",
        }
    }

    /// The words of a key. An empty dotted key has none (RabbitMQ has it so).
    pub fn words(self, key: &[u8]) -> impl Iterator<Item = &[u8]> {
        let separator = self.separator();
        let empty = key.is_empty() && self == Self::Dotted;
        key.split(move |byte| *byte == separator)
            .filter(move |_| !empty)
    }
}

/// Whether a slashed key and its dotted translation tell the same: no `.` and no `*` inside.
#[must_use]
pub fn is_plain(slashed: &[u8]) -> bool {
    !slashed.iter().any(|byte| matches!(byte, b'.' | b'*'))
}

/// Appends the dotted form of a slashed key.
pub fn append_dotted(slashed: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(slashed);
    translate_all(&mut out[start..]);
}

/// Translates in place, eight bytes at a time: keys are too short for longer steps, and every
/// delivery to AMQP of what MQTT published pays for this.
fn translate_all(key: &mut [u8]) {
    let mut words = key.chunks_exact_mut(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        let bytes = u64::from_ne_bytes(bytes);
        // Both translations change the lowest bit alone.
        let changed = equal(bytes, b'/') | equal(bytes, b'+');
        word.copy_from_slice(&(bytes ^ changed).to_ne_bytes());
    }
    for byte in words.into_remainder() {
        *byte = translate(byte);
    }
}

/// 1 in each byte that equals `byte`, 0 in the others.
fn equal(bytes: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7F; 8]);
    let differs = bytes ^ u64::from_ne_bytes([byte; 8]);
    // The highest bit of each byte is set unless the byte is 0; no carry leaves a byte.
    let is_not_0 = ((differs & LOW) + LOW) | differs;
    (!is_not_0 & !LOW) >> 7
}

fn translate(byte: &u8) -> u8 {
    match byte {
        b'/' => b'.',
        b'+' => b'*',
        other => *other,
    }
}

/// Keys that are translated without an allocation.
pub(crate) type Translated = SmallVec<[u8; 128]>;

/// The dotted form of a key in either form; `room` holds a translation.
pub(crate) fn dotted<'a>(key: &'a [u8], form: Form, room: &'a mut Translated) -> &'a [u8] {
    match form {
        Form::Dotted => key,
        Form::Slashed => {
            room.clear();
            room.extend_from_slice(key);
            translate_all(room);
            room
        }
    }
}

/// Whether `dotted` is the dotted form of `slashed`.
pub(crate) fn translates_to(slashed: &[u8], dotted: &[u8]) -> bool {
    // Without an early end the compiler takes many bytes at a time.
    let differ = |all, (one, other): (&u8, &u8)| all | (translate(one) ^ other);
    slashed.len() == dotted.len() && slashed.iter().zip(dotted).fold(0, differ) == 0
}

/// The dotted form of a key in either form, as text for people and permissions.
#[must_use]
pub fn dotted_text(key: &[u8], form: Form) -> String {
    let mut out = Vec::with_capacity(key.len());
    match form {
        Form::Dotted => out.extend_from_slice(key),
        Form::Slashed => append_dotted(key, &mut out),
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether slashed `filter` matches slashed `topic`: `+` one level, `#` any number of them wherever
/// it stands, and no wildcard at the first level for topics that begin with `$` ([MQTT-4.7.2-1]).
#[must_use]
pub fn slashed_matches(filter: &str, topic: &str) -> bool {
    let first = filter.split('/').next().unwrap_or_default();
    if topic.starts_with('$') && (first == "+" || first == "#") {
        return false;
    }
    let filter: SmallVec<[&str; 16]> = filter.split('/').collect();
    let topic: SmallVec<[&str; 16]> = topic.split('/').collect();
    let Some(last) = filter.iter().rposition(|level| *level == "#") else {
        return filter.len() == topic.len() && levels_fit(&filter, &topic);
    };
    // What follows the last `#` stands at the end: nothing else needs trying if it does not.
    let tail = &filter[last + 1..];
    let Some(rest) = topic.len().checked_sub(tail.len()) else {
        return false;
    };
    levels_fit(tail, &topic[rest..]) && parts_fit(&filter[..last], &topic[..rest])
}

/// Whether levels fit one to one; only as many as the filter has are looked at.
fn levels_fit(filter: &[&str], topic: &[&str]) -> bool {
    let mut pairs = filter.iter().zip(topic);
    filter.len() <= topic.len() && pairs.all(|(wanted, level)| *wanted == "+" || wanted == level)
}

/// Whether the parts between `#` come in this order, the first one at the start, with anything in
/// between and after: the earliest place of each is as good as any.
fn parts_fit(filter: &[&str], topic: &[&str]) -> bool {
    let mut parts = filter.split(|level| *level == "#");
    let first = parts.next().unwrap_or_default();
    if !levels_fit(first, topic) {
        return false;
    }
    let mut from = first.len();
    parts.all(|part| {
        let found = (from..=topic.len()).find(|at| levels_fit(part, &topic[*at..]));
        found.is_some_and(|at| {
            from = at + part.len();
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FEATURES M2 and M3: what a slashed filter matches.
    #[test]
    fn m2_m3_slashed_filters_match_levels() {
        for (filter, topic, expected) in [
            ("sport/#", "sport", true),
            ("sport/#", "sport/a/b", true),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("+", "/a", false),
            ("a/#/z", "a/z", true),
            ("a/#/z", "a/b/c/z", true),
            ("a/#/z", "a/b/c", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a.b/c", "a.b/c", true),
            ("a.b/c", "a/b/c", false),
            ("*", "x", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("a/", "a", false),
        ] {
            assert_eq!(
                slashed_matches(filter, topic),
                expected,
                "{filter} on {topic}"
            );
        }
    }

    #[test]
    fn m2_every_byte_is_translated_wherever_it_stands() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut key = vec![byte.wrapping_add(1); length];
                    key[at] = byte;
                    let expected: Vec<u8> = key.iter().map(translate).collect();
                    let mut out = b"/".to_vec();
                    append_dotted(&key, &mut out);
                    assert_eq!(out[0], b'/', "what was there stays");
                    assert_eq!(out[1..], expected, "{key:?}");
                }
            }
        }
    }

    #[test]
    fn m2_an_empty_dotted_key_has_no_words() {
        assert_eq!(Form::Dotted.words(b"").count(), 0);
        assert_eq!(Form::Dotted.words(b".").count(), 2);
        assert_eq!(Form::Slashed.words(b"/a").count(), 2);
    }
}
