//! Where somebody is who gets retained messages piece by piece: between two pieces others publish,
//! and what they set comes to the subscriber as it is published.

use std::sync::Arc;

use super::walk::{Filter, Places, Stand, Stop, Walk};
use super::{Node, Retained, find};
use crate::key::Form;
use crate::message::Message;
use crate::shelf::{Place, Shelf};
use crate::sink::Loss;
use crate::time::Time;

/// See the module.
#[derive(Clone, Debug)]
pub struct Cursor {
    filter: Arc<str>,
    form: Form,
    /// The topic to go on with; `None` at the beginning.
    next: Option<String>,
    /// What was set later has a place that is not below this.
    below: u64,
}

/// What became of a retained message that was shown to somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// It is on its way.
    Taken,
    /// It is to be shown again.
    Unwanted,
    /// It cannot be sent.
    Lost(Loss),
}

/// Why a piece of retained messages has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece {
    /// That was all.
    Last,
    /// There may be more: others have their turn first.
    Spent,
    /// The next one was not wanted.
    Unwanted,
}

impl Cursor {
    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &Arc<str> {
        &self.filter
    }
}

impl Retained {
    /// What is set by now and matches; `None` where that is surely nothing.
    // What is kept and not yet routed comes both ways: it is kept before it is routed.
    pub(crate) fn cursor(&self, filter: &str, form: Form, shelf: &Shelf) -> Option<Cursor> {
        let trie = self.root.read();
        let exact = form == Form::Slashed && !filter.contains(['+', '#']);
        let none = match exact {
            true => find(&trie.root, filter).is_none_or(|node| node.message.is_none()),
            false => trie.messages == 0,
        };
        drop(trie);
        (!none).then(|| Cursor {
            filter: filter.into(),
            form,
            next: None,
            below: shelf.next(),
        })
    }

    /// Shows what a cursor points to, and moves it on. A topic counts for one of `steps` whether it
    /// matches or not.
    pub(crate) fn piece(
        &self,
        cursor: &mut Cursor,
        steps: &mut usize,
        now: Time,
        mut show: impl FnMut(&Message) -> bool,
    ) -> Piece {
        let Some(filter) = Filter::new(&cursor.filter, cursor.form) else {
            return Piece::Last;
        };
        let below = cursor.below;
        let mut show = |message: &Message, place: Place| {
            // [MQTT-3.3.2-5]
            place.number() >= below
                || message.head().expires.is_some_and(|at| at <= now)
                || show(message)
        };
        let from = cursor.next.take();
        let trie = self.root.read();
        let (stop, next) = if filter.is_plain() {
            go::<usize>(&filter, &trie.root, from, steps, &mut show)
        } else {
            go::<Places>(&filter, &trie.root, from, steps, &mut show)
        };
        drop(trie);
        let piece = match stop {
            Stop::End => return Piece::Last,
            Stop::Spent => Piece::Spent,
            Stop::Unwanted => Piece::Unwanted,
        };
        cursor.next = Some(next);
        piece
    }
}

/// One walk; gives the topic that the next one begins with.
fn go<'f, S: Stand>(
    filter: &'f Filter<'f>,
    root: &Node,
    from: Option<String>,
    steps: &mut usize,
    show: &mut impl FnMut(&Message, Place) -> bool,
) -> (Stop, String) {
    let mut walk = Walk::<S>::new(filter, root, from.as_deref());
    let mut next = from.unwrap_or_default();
    (walk.go(steps, &mut next, show), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{AmqpOrigin, Head, MessageRef};

    fn set(retained: &Retained, topic: &str, payload: &[u8], place: u64) {
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
            payload,
        };
        let message = message.to_message(&mut Vec::new());
        retained.root.write().set(topic, message, Place::at(place));
    }

    fn store<T: AsRef<str>>(topics: &[T]) -> Retained {
        let retained = Retained::default();
        for topic in topics {
            set(&retained, topic.as_ref(), b"x", 0);
        }
        retained
    }

    fn cursor(filter: &str, form: Form) -> Cursor {
        Cursor {
            filter: filter.into(),
            form,
            next: None,
            below: 1,
        }
    }

    /// All topics that a cursor comes to in pieces of so many steps, of which each gives so many
    /// messages at most.
    fn all(retained: &Retained, cursor: &mut Cursor, steps: usize, room: usize) -> Vec<String> {
        let mut topics = Vec::new();
        loop {
            let (mut steps, mut room) = (steps, room);
            let piece = retained.piece(cursor, &mut steps, Time(2), |message| {
                if room > 0 {
                    room -= 1;
                    topics.push(String::from_utf8_lossy(message.view().key).into_owned());
                    return true;
                }
                false
            });
            if piece == Piece::Last {
                return topics;
            }
        }
    }

    #[test]
    fn m10_pieces_have_each_topic_once_in_order() {
        let mut topics: Vec<String> = (0..500).map(|n| format!("a/{n:05}/t")).collect();
        topics.extend((0..500).map(|n| format!("b/{n:05}")));
        topics.push("b/00007/below".to_owned());
        let retained = store(&topics);
        topics.sort_by(|one, other| one.split('/').cmp(other.split('/')));
        let tail = |n: usize| topics[n..].to_vec();
        for (steps, room) in [(1, 1), (3, 2), (7, 100), (usize::MAX, 1), (2, usize::MAX)] {
            let all = |filter, form| all(&retained, &mut cursor(filter, form), steps, room);
            assert_eq!(all("#", Form::Slashed), topics);
            assert_eq!(all("a/#", Form::Slashed), topics[..500]);
            assert_eq!(all("b/#", Form::Dotted), Vec::<String>::new());
            assert_eq!(all("b.#", Form::Dotted), tail(500));
            assert_eq!(
                all("+/00007/#", Form::Slashed),
                ["a/00007/t", "b/00007", "b/00007/below"]
            );
            assert_eq!(all("#/00007/#", Form::Slashed).len(), 3);
            assert_eq!(all("b/00003", Form::Slashed), ["b/00003"]);
            assert_eq!(all("b.00003", Form::Dotted), ["b/00003"]);
        }
    }

    #[test]
    fn i4_a_binding_key_finds_the_topics_whose_keys_it_matches() {
        let topics = ["a", "a/b", "a.b", "a/b/c", "a.b/c", "/a", "$SYS/x", "b//c"];
        let retained = store(&topics);
        for (key, expected) in [
            ("a", &["a"][..]),
            ("a.b", &["a.b", "a/b"]),
            ("a.*.c", &["a.b/c", "a/b/c"]),
            ("a.#", &["a", "a.b", "a.b/c", "a/b", "a/b/c"]),
            ("#.c", &["a.b/c", "a/b/c", "b//c"]),
            ("#.b.#", &["a.b", "a.b/c", "a/b", "a/b/c", "b//c"]),
            ("*.*", &["$SYS/x", "/a", "a.b", "a/b"]),
            ("b..c", &["b//c"]),
            ("b.*.c", &["b//c"]),
            ("", &[]),
            ("nobody", &[]),
        ] {
            let mut found = all(&retained, &mut cursor(key, Form::Dotted), 2, 1);
            found.sort();
            let mut expected: Vec<_> = expected.iter().map(|topic| (*topic).to_owned()).collect();
            expected.sort();
            assert_eq!(found, expected, "{key}");
        }
    }

    /// What a slashed filter finds is what it matches.
    #[test]
    fn m10_filters_find_what_they_match() {
        let topics = [
            "a", "a/b", "a/b/c", "a/b/b/z", "/a", "/", "$SYS/x", "$SYS", "b//c", "a.b/c", "x/a/b",
        ];
        let retained = store(&topics);
        for filter in [
            "#",
            "+",
            "+/+",
            "a/#",
            "a/b",
            "a/+/c",
            "#/b/#",
            "a/#/b/#/z",
            "$SYS/#",
            "+/x",
            "#/x",
            "/#",
            "/+",
            "+/a",
            "b//+",
            "a.b/c",
            "#/#",
            "a/#/#",
            "#/c",
            "nobody/#",
            "*/b",
        ] {
            let mut found = all(&retained, &mut cursor(filter, Form::Slashed), 3, 2);
            found.sort();
            let fits = |topic: &&&str| crate::key::slashed_matches(filter, topic);
            let mut expected: Vec<_> = topics
                .iter()
                .filter(fits)
                .map(ToString::to_string)
                .collect();
            expected.sort();
            assert_eq!(found, expected, "{filter}");
        }
    }

    /// What was to come next may be gone when the next piece is asked for.
    #[test]
    fn m10_a_piece_goes_on_behind_a_topic_that_is_gone() {
        let retained = store(&["a/b", "a/d", "c"]);
        for (next, expected) in [
            ("a/c", &["a/d", "c"][..]),
            ("a/b/x", &["a/d", "c"]),
            ("a/d/e", &["c"]),
            ("a/d", &["a/d", "c"]),
            ("b", &["c"]),
            ("b/x/y", &["c"]),
            ("d", &[]),
        ] {
            let mut cursor = cursor("#", Form::Slashed);
            cursor.next = Some(next.to_owned());
            assert_eq!(all(&retained, &mut cursor, 100, 100), expected, "{next}");
        }
    }

    /// However many topics a piece passes, it takes a few buffers.
    #[test]
    fn m10_a_piece_allocates_nothing_for_a_topic() {
        let topics: Vec<String> = (0..2_000).map(|n| format!("a/{n:05}/t/u")).collect();
        let retained = store(&topics);
        for (filter, form) in [("a/#", Form::Slashed), ("#.u", Form::Dotted)] {
            let mut cursor = cursor(filter, form);
            let (mut steps, mut shown) = (6_000, 0);
            let taken = allocation_counter::measure(|| {
                retained.piece(&mut cursor, &mut steps, Time(2), |_| {
                    shown += 1;
                    true
                });
            });
            assert!(shown > 1_000, "{shown}");
            assert!(taken.count_total <= 8, "{}", taken.count_total);
        }
    }

    /// What is set after the cursor was made comes as it is published, not again.
    #[test]
    fn m10_what_is_set_meanwhile_is_left_out() {
        let retained = store(&["a", "b", "c"]);
        let mut cursor = cursor("#", Form::Slashed);
        let mut steps = 1;
        let first = retained.piece(&mut cursor, &mut steps, Time(2), |_| true);
        assert_eq!(first, Piece::Spent);
        set(&retained, "b", b"new", 1);
        set(&retained, "bb", b"new", 2);
        assert_eq!(all(&retained, &mut cursor, 100, 100), ["c"]);
    }
}
