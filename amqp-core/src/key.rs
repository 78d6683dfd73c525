//! Keys in their two forms, and the one translation between them.
//!
//! AMQP publishers name dotted routing keys, publishers of the adapter name slashed topics. Both
//! meet in one topic exchange: a slashed key is routed under its dotted translation (`/` becomes
//! `.`, `+` becomes `*`), except that two slashed ends meet on the original, so that dots, `*` and
//! leading slashes lose nothing between them.

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
    out.extend(slashed.iter().map(|byte| match byte {
        b'/' => b'.',
        b'+' => b'*',
        other => *other,
    }));
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
    if filter.split('/').filter(|level| *level == "#").count() > crate::limits::MULTI_WILDCARDS_MAX
    {
        return false;
    }
    words_match(filter, topic)
}

/// Matches the rest of a filter against the rest of a topic; recursion only at `#`, of which there
/// are two at most.
fn words_match(filter: &str, topic: &str) -> bool {
    let mut filter = Some(filter);
    let mut topic = Some(topic);
    while let Some(pattern) = filter {
        let (level, rest) = split_level(pattern);
        if level == "#" {
            let Some(rest) = rest else { return true };
            let mut from = topic;
            while let Some(here) = from {
                if words_match(rest, here) {
                    return true;
                }
                from = split_level(here).1;
            }
            return false;
        }
        let Some(name) = topic else { return false };
        let (word, after) = split_level(name);
        if level != "+" && level != word {
            return false;
        }
        filter = rest;
        topic = after;
    }
    topic.is_none()
}

fn split_level(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
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
    fn m2_an_empty_dotted_key_has_no_words() {
        assert_eq!(Form::Dotted.words(b"").count(), 0);
        assert_eq!(Form::Dotted.words(b".").count(), 2);
        assert_eq!(Form::Slashed.words(b"/a").count(), 2);
    }
}
