//! The retained messages that a dotted binding key matches, piece by piece in the order of topics:
//! between two pieces others publish.

use std::ops::Bound;

use super::{Node, Retained};
use crate::key::{self, Form};
use crate::limits::{RETAINED_PAGE_MESSAGES, RETAINED_PAGE_STEPS};
use crate::message::Message;

/// Goes through a trie until it has enough.
struct Page<'a> {
    words: &'a [&'a [u8]],
    steps: usize,
    /// The topic that was looked at last.
    last: Option<String>,
    found: Vec<Message>,
}

impl Retained {
    /// Appends those behind the topic `after` to `found`, as many as one piece may have; gives the
    /// topic to go on behind, `None` at the end.
    pub(crate) fn page(
        &self,
        binding_key: &[u8],
        after: Option<&str>,
        found: &mut Vec<Message>,
    ) -> Option<String> {
        let words: Vec<&[u8]> = Form::Dotted.words(binding_key).collect();
        let mut page = Page {
            words: &words,
            steps: 0,
            last: None,
            found: std::mem::take(found),
        };
        let path: Vec<&str> = after
            .map(|topic| topic.split('/').collect())
            .unwrap_or_default();
        let trie = self.root.read();
        let is_over = page.children(&trie.root, None, &path);
        drop(trie);
        *found = page.found;
        if is_over { None } else { page.last }
    }
}

impl Page<'_> {
    /// Looks at what is below a node, behind `after`; `false` when it has enough. The depth is that
    /// of topics, which is bounded.
    fn children(&mut self, node: &Node, topic: Option<&str>, after: &[&str]) -> bool {
        let (first, deeper) = match after.split_first() {
            Some((first, deeper)) => (Bound::Included(*first), deeper),
            None => (Bound::Unbounded, after),
        };
        for (level, child) in node.children.range::<str, _>((first, Bound::Unbounded)) {
            let name = match topic {
                Some(topic) => format!("{topic}/{level}"),
                None => level.to_string(),
            };
            // The nodes on the way to where the last piece ended were looked at.
            let is_seen = after.first() == Some(&&**level);
            let rest = if is_seen { deeper } else { &[] };
            if !is_seen {
                if self.steps >= RETAINED_PAGE_STEPS || self.found.len() >= RETAINED_PAGE_MESSAGES {
                    return false;
                }
                self.steps += 1;
                self.look(child, &name);
            }
            if self.leads_on(&name) && !self.children(child, Some(&name), rest) {
                return false;
            }
        }
        true
    }

    fn look(&mut self, node: &Node, topic: &str) {
        if let Some((message, _)) = &node.message {
            let mut dotted = Vec::with_capacity(topic.len());
            key::append_dotted(topic.as_bytes(), &mut dotted);
            let found: Vec<&[u8]> = Form::Dotted.words(&dotted).collect();
            if matches(self.words, &found) {
                self.found.push(message.clone());
            }
        }
        self.last = Some(topic.to_owned());
    }

    /// Whether topics below this one can match.
    fn leads_on(&self, topic: &str) -> bool {
        let mut dotted = Vec::with_capacity(topic.len());
        key::append_dotted(topic.as_bytes(), &mut dotted);
        let mut wanted = self.words.iter();
        for word in Form::Dotted.words(&dotted) {
            match wanted.next() {
                Some(&b"#") => return true,
                Some(&b"*") => {}
                Some(wanted) if *wanted == word => {}
                _ => return false,
            }
        }
        wanted.next().is_some()
    }
}

/// Whether a binding key with these words matches a key with those: AMQP's `*` and `#`. Each word
/// is looked at once for each `#` at most.
fn matches(wanted: &[&[u8]], found: &[&[u8]]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where to go on if what follows the last `#` does not match: it takes one word more.
    let mut again = None;
    loop {
        match (wanted.get(at), found.get(place)) {
            (None, None) => return true,
            (Some(&b"#"), _) => {
                again = Some((at, place));
                at += 1;
            }
            (Some(&b"*"), Some(_)) => (at, place) = (at + 1, place + 1),
            (Some(one), Some(other)) if one == other => (at, place) = (at + 1, place + 1),
            _ => match again {
                Some((hash, taken)) if taken < found.len() => {
                    again = Some((hash, taken + 1));
                    (at, place) = (hash + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{AmqpOrigin, Head, MessageRef};
    use crate::shelf::Place;
    use crate::time::Time;

    fn store(topics: &[String]) -> Retained {
        let retained = Retained::default();
        for topic in topics {
            let message = MessageRef {
                head: Head {
                    origin: &AmqpOrigin,
                    form: Form::Slashed,
                    persistent: true,
                    exactly_once: false,
                    retain: true,
                    publisher: 0,
                    received: Time(1),
                    expires: None,
                },
                exchange: "amq.topic",
                key: topic.as_bytes(),
                properties: &[],
                payload: b"x",
            };
            let message = message.to_message(&mut Vec::new());
            let mut trie = retained.root.write();
            trie.set(topic, message, Place::default());
        }
        retained
    }

    /// All topics that a key finds, and in how many pieces.
    fn all(retained: &Retained, key: &str) -> (Vec<String>, usize) {
        let (mut topics, mut pieces, mut after) = (Vec::new(), 0, None);
        loop {
            let mut found = Vec::new();
            after = retained.page(key.as_bytes(), after.as_deref(), &mut found);
            pieces += 1;
            assert!(found.len() <= RETAINED_PAGE_MESSAGES);
            let names = found.iter().map(|message| message.view().key.to_vec());
            topics.extend(names.map(|name| String::from_utf8(name).expect("a topic")));
            if after.is_none() {
                return (topics, pieces);
            }
        }
    }

    #[test]
    fn i4_pieces_have_each_topic_once() {
        let many = 2 * RETAINED_PAGE_MESSAGES + 7;
        let mut topics: Vec<String> = (0..many).map(|n| format!("a/{n:05}/t")).collect();
        topics.extend((0..many).map(|n| format!("b/{n:05}")));
        let retained = store(&topics);
        let (found, pieces) = all(&retained, "a.#");
        assert_eq!(found, topics[..many]);
        assert!(pieces >= 3, "{pieces}");
        assert_eq!(all(&retained, "#").0.len(), topics.len());
        assert_eq!(all(&retained, "b.00003").0, ["b/00003"]);
    }

    #[test]
    fn i4_a_binding_key_finds_the_topics_whose_keys_it_matches() {
        let topics = ["a", "a/b", "a.b", "a/b/c", "a.b/c", "/a", "$SYS/x", "b//c"];
        let retained = store(&topics.map(str::to_owned));
        for (key, expected) in [
            ("a", &["a"][..]),
            ("a.b", &["a.b", "a/b"]),
            ("a.*.c", &["a.b/c", "a/b/c"]),
            ("a.#", &["a", "a.b", "a.b/c", "a/b", "a/b/c"]),
            ("#.c", &["a.b/c", "a/b/c", "b//c"]),
            ("*.*", &["$SYS/x", "/a", "a.b", "a/b"]),
            ("b..c", &["b//c"]),
            ("b.*.c", &["b//c"]),
            ("", &[]),
            ("nobody", &[]),
        ] {
            let mut found = all(&retained, key).0;
            found.sort();
            let mut expected: Vec<_> = expected.iter().map(|topic| (*topic).to_owned()).collect();
            expected.sort();
            assert_eq!(found, expected, "{key}");
        }
    }

    /// What was looked at last may be gone when the next piece is asked for.
    #[test]
    fn i4_a_piece_goes_on_behind_a_topic_that_is_gone() {
        let retained = store(&["a/b".to_owned(), "a/d".to_owned(), "c".to_owned()]);
        for (after, expected) in [("a/c", &["a/d", "c"][..]), ("a/d/e", &["c"]), ("b", &["c"])] {
            let mut found = Vec::new();
            assert_eq!(retained.page(b"#", Some(after), &mut found), None);
            let names: Vec<_> = found.iter().map(|one| one.view().key.to_vec()).collect();
            let expected: Vec<_> = expected.iter().map(|topic| topic.as_bytes()).collect();
            assert_eq!(names, expected, "{after}");
        }
    }
}
