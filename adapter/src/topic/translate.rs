//! Topics to AMQP routing keys and back. Owns the characters exchanged; must never decide which
//! of the two a message is matched on.
//!
//! | direction | exchanged | left alone |
//! |---|---|---|
//! | topic or filter to key | `/` to `.`, `+` to `*` | all else, `.`, `*` and `#` too |
//! | key to topic | `.` to `/`, `*` to `+` | all else, `/`, `+` and `#` too |
//!
//! Neither direction keeps apart what the other brings together: `a.b` and `a/b` are one key. A
//! topic for which [`is_plain`] holds comes back as it went. AMQP 0-9-1 §3.1.3.3 gives the words.

/// Writes the routing key of a topic, or the binding key of a filter, over `out`.
pub fn to_key(topic: &str, out: &mut String) {
    exchange(topic, out, |byte| match byte {
        b'/' => b'.',
        b'+' => b'*',
        _ => byte,
    });
}

/// Writes the topic of a routing key, or the filter of a binding key, over `out`.
pub fn to_topic(key: &str, out: &mut String) {
    exchange(key, out, |byte| match byte {
        b'.' => b'/',
        b'*' => b'+',
        _ => byte,
    });
}

fn exchange(from: &str, out: &mut String, map: impl Fn(u8) -> u8) {
    let mut bytes = std::mem::take(out).into_bytes();
    bytes.clear();
    bytes.extend(from.bytes().map(map));
    // ASCII was put for ASCII, so the text is still UTF-8 and the default is never taken.
    *out = String::from_utf8(bytes).unwrap_or_default();
}

/// Whether translation loses nothing of this topic: it contains neither `.` nor `*`.
#[must_use]
pub fn is_plain(topic: &str) -> bool {
    topic
        .bytes()
        .fold(true, |plain, byte| plain & (byte != b'.') & (byte != b'*'))
}

/// Whether a key of AMQP origin would become a topic under `$SYS`, which is the broker's own.
#[must_use]
pub fn is_reserved_key(key: &str) -> bool {
    key.strip_prefix("$SYS")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}

/// Writes over `out` the topic under which a message of AMQP origin reaches the subscriber of
/// `filter` (MQTT form, without `$share/group/`), and tells whether the filter matches at all.
///
/// The filter's translation is matched word by word against the key (`*` one word, `#` zero or
/// more). Words are joined by `/`, except inside a level the filter spells with dots, which keeps
/// them: filter `a.b/+` makes of key `a.b.c` the topic `a.b/c`. Where two `#` leave a choice the
/// first takes as few words as it can. An empty key and a key under `$SYS` have no topic.
///
/// At most filter words × key words steps. `out` is empty when the answer is `false`.
#[must_use]
pub fn restore(key: &str, filter: &str, out: &mut String) -> bool {
    out.clear();
    if key.is_empty() || is_reserved_key(key) {
        return false;
    }
    // [MQTT-4.7.2-1] holds for the topic that would come of it.
    if key.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let matched = rebuild(key, filter, out);
    if !matched {
        out.clear();
    }
    matched
}

/// Where to go on when the rest of a filter fails: behind its last `#`.
#[derive(Clone, Copy)]
struct Retry<'k, 'f> {
    filter: Words<'f>,
    key: Words<'k>,
    out_bytes: usize,
}

fn rebuild(key: &str, filter: &str, out: &mut String) -> bool {
    let mut filter = Words::new(filter, &['/', '.']);
    let mut key = Words::new(key, &['.']);
    let mut retry: Option<Retry<'_, '_>> = None;
    loop {
        let key_before = key;
        match (filter.next(), key.next()) {
            (Some((_, "#")), _) => {
                key = key_before;
                retry = Some(Retry {
                    filter,
                    key,
                    out_bytes: out.len(),
                });
                continue;
            }
            (None, None) => return true,
            (Some((separator, level)), Some((before, word))) if word_matches(level, word) => {
                // The first word of the key has nothing before it, whatever the filter says.
                if before.is_some() {
                    out.push(separator.unwrap_or('/'));
                }
                push_word(level, word, out);
                continue;
            }
            _ => {}
        }
        let Some(last) = retry.as_mut() else {
            return false;
        };
        let Some((before, word)) = last.key.next() else {
            return false;
        };
        out.truncate(last.out_bytes);
        if before.is_some() {
            out.push('/');
        }
        push_word("#", word, out);
        last.out_bytes = out.len();
        (filter, key) = (last.filter, last.key);
    }
}

/// A literal `*` of a filter is a wildcard once it is translated (RabbitMQ does the same).
fn word_matches(level: &str, word: &str) -> bool {
    matches!(level, "+" | "*") || level == word
}

fn push_word(level: &str, word: &str, out: &mut String) {
    if level == word {
        out.push_str(word);
        return;
    }
    out.extend(
        word.chars()
            .map(|letter| if letter == '*' { '+' } else { letter }),
    );
}

/// Words of a text with the separator before each; `None` before the first.
#[derive(Clone, Copy)]
struct Words<'t> {
    rest: Option<&'t str>,
    before: Option<char>,
    separators: &'static [char],
}

impl<'t> Words<'t> {
    const fn new(text: &'t str, separators: &'static [char]) -> Self {
        Self {
            rest: Some(text),
            before: None,
            separators,
        }
    }

    fn next(&mut self) -> Option<(Option<char>, &'t str)> {
        let rest = self.rest?;
        let before = self.before;
        let Some(end) = rest.find(self.separators) else {
            self.rest = None;
            return Some((before, rest));
        };
        self.before = rest[end..].chars().next();
        self.rest = Some(&rest[end + 1..]);
        Some((before, &rest[..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translation_of_each_character() {
        // Topic, its key, the topic that comes back.
        let rows = [
            ("a/b", "a.b", "a/b"),
            ("a.b", "a.b", "a/b"),
            ("+", "*", "+"),
            ("*", "*", "+"),
            ("#", "#", "#"),
            ("a/+/#", "a.*.#", "a/+/#"),
            ("/x", ".x", "/x"),
            ("a//b", "a..b", "a//b"),
            ("a/", "a.", "a/"),
            ("", "", ""),
            ("$SYS/x", "$SYS.x", "$SYS/x"),
            ("$share/g/x", "$share.g.x", "$share/g/x"),
            (
                "\u{1F980} /\u{e9}",
                "\u{1F980} .\u{e9}",
                "\u{1F980} /\u{e9}",
            ),
        ];
        let (mut key, mut back) = ("old".to_owned(), "old".to_owned());
        for (topic, expect_key, expect_back) in rows {
            to_key(topic, &mut key);
            to_topic(&key, &mut back);
            assert_eq!((key.as_str(), back.as_str()), (expect_key, expect_back));
            assert_eq!(is_plain(topic), topic == expect_back, "{topic:?}");
        }
        for (given, expect) in [("a/b", "a/b"), ("+", "+"), ("a.*", "a/+")] {
            to_topic(given, &mut back);
            assert_eq!(back, expect);
        }
    }

    #[test]
    fn restored_topics() {
        let rows = [
            ("a.b.c", "a.b/+", Some("a.b/c")),
            ("a.b.c", "a/b/+", Some("a/b/c")),
            ("a.b.c", "a.b.c", Some("a.b.c")),
            ("a.b.c", "a/b.c", Some("a/b.c")),
            ("a.b.c", "#", Some("a/b/c")),
            ("a.b.c", "+/#", Some("a/b/c")),
            ("a.b.c", "a.b.c/#", Some("a.b.c")),
            ("a.b.c", "#/b.c", Some("a/b.c")),
            ("b.c", "#/b.c", Some("b.c")),
            ("a.b.c.d.z", "a/#/z", Some("a/b/c/d/z")),
            ("a.b.a.b", "#/a.b/#", Some("a.b/a/b")),
            ("x.a.a.b.y", "#/a.b/#", Some("x/a/a.b/y")),
            (".x", "/x", Some("/x")),
            (".x", "+/+", Some("/x")),
            (".x", "#", Some("/x")),
            ("a..b", "a//b", Some("a//b")),
            ("a.", "a/+", Some("a/")),
            ("a.x", "a.*", Some("a.x")),
            ("a.*", "a.*", Some("a.*")),
            ("a.*", "a/+", Some("a/+")),
            ("a/b", "#", Some("a/b")),
            ("a/b", "a/b", None),
            ("a.b", "a", None),
            ("a", "a.b", None),
            ("a.b.c", "a/+", None),
            ("a.b.c", "a/#/z", None),
            ("", "#", None),
            ("$SYS.x", "$SYS/#", None),
            ("$SYS/x", "$SYS/x", None),
            ("$SYSTEM.x", "$SYSTEM/+", Some("$SYSTEM/x")),
            ("$x.y", "#", None),
        ];
        let mut out = "old".to_owned();
        for (key, filter, expect) in rows {
            let got = restore(key, filter, &mut out).then_some(out.as_str());
            assert_eq!(got, expect, "{key:?} {filter:?}");
        }
    }

    #[test]
    fn a_plain_topic_is_restored_by_every_filter_that_matches_it() {
        let topics = ["a", "/a", "a/", "a//b", "a/b/c", "a/z", "a/b/c/z"];
        let filters = [
            "#", "+", "+/+", "a/#", "a/#/z", "/+", "a/+/b", "#/b/#", "a/b/c",
        ];
        let (mut key, mut out) = (String::new(), String::new());
        for topic in topics {
            to_key(topic, &mut key);
            for filter in filters {
                let matched = restore(&key, filter, &mut out);
                assert_eq!(
                    matched,
                    super::super::matches(filter, topic),
                    "{filter} {topic}"
                );
                if matched {
                    assert_eq!(out, topic);
                }
            }
        }
    }
}
