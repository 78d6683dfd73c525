//! Walks the trie of retained messages in the order of topics, from any topic on: each node is
//! entered once, with all the places of the filter that it can stand at. Allocates nothing for a
//! topic.

use std::collections::btree_map::Range;
use std::ops::{Bound, RangeBounds};

use smallvec::SmallVec;

use super::Node;
use crate::key::Form;
use crate::limits::BINDING_WORDS_MAX;
use crate::message::Message;
use crate::shelf::Place;

/// A word of a filter or binding key.
#[derive(Clone, Copy)]
enum Word<'a> {
    Exact(&'a str),
    One,
    Many,
}

/// A filter or binding key, taken apart.
pub(super) struct Filter<'a> {
    words: Vec<Word<'a>>,
    form: Form,
}

impl<'a> Filter<'a> {
    /// `None` for one with more words than anything can be bound with.
    pub(super) fn new(text: &'a str, form: Form) -> Option<Self> {
        let word = |word: &'a str| match word.as_bytes() {
            b"#" => Word::Many,
            one if one == form.single_wildcard() => Word::One,
            _ => Word::Exact(word),
        };
        let mut words = Vec::new();
        if !(text.is_empty() && form == Form::Dotted) {
            words.extend(text.split(char::from(form.separator())).map(word));
        }
        (words.len() <= BINDING_WORDS_MAX).then_some(Self { words, form })
    }

    /// Nothing but the last word takes any number of words: it stands at one place always.
    pub(super) fn is_plain(&self) -> bool {
        let multi = |word: &Word<'_>| matches!(word, Word::Many);
        let before = self.words.len().saturating_sub(1);
        !self.words[..before].iter().any(multi)
    }

    /// Whether wildcards leave out a topic that begins so ([MQTT-4.7.2-1]).
    fn hides(&self, level: &str) -> bool {
        let wild = matches!(self.words.first(), Some(Word::One | Word::Many));
        self.form == Form::Slashed && wild && level.starts_with('$')
    }
}

/// Where in a filter a topic stands.
pub(super) trait Stand: Copy {
    /// Before the first level.
    fn start(filter: &Filter<'_>) -> Self;

    /// After one more word; `None` if nothing matches.
    fn step(self, filter: &Filter<'_>, word: &str) -> Option<Self>;

    /// The topic matches.
    fn accepts(self, filter: &Filter<'_>) -> bool;

    /// Topics below it may match.
    fn leads_on(self, filter: &Filter<'_>) -> bool;

    /// The only level that can follow, if there is only one.
    fn only<'a>(self, filter: &Filter<'a>) -> Option<&'a str>;
}

/// In a filter that [`Filter::is_plain`].
impl Stand for usize {
    fn start(_filter: &Filter<'_>) -> Self {
        0
    }

    #[inline]
    fn step(self, filter: &Filter<'_>, word: &str) -> Option<Self> {
        match filter.words.get(self)? {
            Word::Many => Some(self),
            Word::One => Some(self + 1),
            Word::Exact(wanted) => (*wanted == word).then_some(self + 1),
        }
    }

    #[inline]
    fn accepts(self, filter: &Filter<'_>) -> bool {
        matches!(filter.words.get(self), None | Some(Word::Many))
    }

    #[inline]
    fn leads_on(self, filter: &Filter<'_>) -> bool {
        self < filter.words.len()
    }

    #[inline]
    fn only<'a>(self, filter: &Filter<'a>) -> Option<&'a str> {
        match filter.words.get(self) {
            // A level that has dots is several words of AMQP.
            Some(Word::Exact(wanted)) if filter.form == Form::Slashed => Some(wanted),
            _ => None,
        }
    }
}

/// Bits of [`Places`], from the first word to the end.
const PLACES: usize = BINDING_WORDS_MAX + 1;

/// In any filter: all places at once.
#[derive(Clone, Copy, Default)]
pub(super) struct Places([u64; PLACES.div_ceil(64)]);

impl Places {
    fn has(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    /// Adds a place, and those that words which may be none lead to.
    fn add(&mut self, filter: &Filter<'_>, mut place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
        while let Some(Word::Many) = filter.words.get(place) {
            place += 1;
            self.0[place / 64] |= 1 << (place % 64);
        }
    }
}

impl Stand for Places {
    fn start(filter: &Filter<'_>) -> Self {
        let mut places = Self::default();
        places.add(filter, 0);
        places
    }

    fn step(self, filter: &Filter<'_>, word: &str) -> Option<Self> {
        let mut next = Self::default();
        for (place, wanted) in filter.words.iter().enumerate() {
            if !self.has(place) {
                continue;
            }
            match wanted {
                Word::Many => next.add(filter, place),
                Word::One => next.add(filter, place + 1),
                Word::Exact(wanted) if *wanted == word => next.add(filter, place + 1),
                Word::Exact(_) => {}
            }
        }
        (next.0 != [0; PLACES.div_ceil(64)]).then_some(next)
    }

    fn accepts(self, filter: &Filter<'_>) -> bool {
        self.has(filter.words.len())
    }

    fn leads_on(self, filter: &Filter<'_>) -> bool {
        (0..filter.words.len()).any(|place| self.has(place))
    }

    fn only<'a>(self, filter: &Filter<'a>) -> Option<&'a str> {
        if self.0.iter().map(|bits| bits.count_ones()).sum::<u32>() != 1 {
            return None;
        }
        let place = (0..filter.words.len()).find(|place| self.has(*place))?;
        place.only(filter)
    }
}

/// Children of a node that are still to be looked at.
enum Children<'a> {
    All(Range<'a, Box<str>, Node>),
    One(Option<(&'a str, &'a Node)>),
}

impl<'a> Iterator for Children<'a> {
    type Item = (&'a str, &'a Node);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::All(range) => range.next().map(|(name, node)| (&**name, node)),
            Self::One(one) => one.take(),
        }
    }
}

/// A node whose children are looked at.
struct Frame<'a, S> {
    name: &'a str,
    children: Children<'a>,
    stand: S,
}

/// What ended a walk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// There is no more.
    End,
    /// It has looked at enough nodes.
    Spent,
    /// Whoever was shown a message does not want it now.
    Unwanted,
}

/// The nodes from the root to where a walk is.
pub(super) struct Walk<'a, 'f, S> {
    filter: &'f Filter<'f>,
    stack: SmallVec<[Frame<'a, S>; 8]>,
}

impl<'a, 'f, S: Stand> Walk<'a, 'f, S> {
    /// A walk that begins with the topic `from`, or with the one that would follow it.
    pub(super) fn new(filter: &'f Filter<'f>, root: &'a Node, from: Option<&str>) -> Self {
        let mut walk = Self {
            filter,
            stack: SmallVec::new(),
        };
        let (mut name, mut node, mut stand) = ("", root, S::start(filter));
        let Some(from) = from else {
            walk.push(name, node, stand, Bound::Unbounded);
            return walk;
        };
        let mut levels = from.split('/').peekable();
        while let Some(level) = levels.next() {
            if levels.peek().is_none() {
                walk.push(name, node, stand, Bound::Included(level));
                break;
            }
            walk.push(name, node, stand, Bound::Excluded(level));
            let below = node.children.get_key_value(level);
            // What the topic was below may be gone: then its neighbours are next.
            let Some((key, child)) = below else { break };
            let Some(next) = walk.enter(stand, key) else {
                break;
            };
            (name, node, stand) = (key, child, next);
        }
        walk
    }

    fn push(&mut self, name: &'a str, node: &'a Node, stand: S, from: Bound<&str>) {
        let bounds = (from, Bound::Unbounded);
        let children = match stand.only(self.filter) {
            Some(level) => {
                let one = node.children.get_key_value(level);
                let one = one.map(|(name, child)| (&**name, child));
                Children::One(one.filter(|(name, _)| bounds.contains(*name)))
            }
            None => Children::All(node.children.range::<str, _>(bounds)),
        };
        self.stack.push(Frame {
            name,
            children,
            stand,
        });
    }

    /// Where a child of the last node on the stack stands.
    #[inline]
    fn enter(&self, stand: S, level: &str) -> Option<S> {
        if self.stack.len() == 1 && self.filter.hides(level) {
            return None;
        }
        match self.filter.form {
            Form::Slashed => stand.step(self.filter, level),
            Form::Dotted => level
                .split('.')
                .try_fold(stand, |stand, word| stand.step(self.filter, word)),
        }
    }

    /// Shows the messages that match, for as long as they are wanted and `steps` is not used up.
    /// Unless that was all, `next` has the topic to go on with.
    pub(super) fn go(
        &mut self,
        steps: &mut usize,
        next: &mut String,
        show: &mut impl FnMut(&Message, Place) -> bool,
    ) -> Stop {
        while let Some(frame) = self.stack.last_mut() {
            let Some((name, node)) = frame.children.next() else {
                self.stack.pop();
                continue;
            };
            let stand = frame.stand;
            if *steps == 0 {
                self.write(name, next);
                return Stop::Spent;
            }
            *steps -= 1;
            let Some(stand) = self.enter(stand, name) else {
                continue;
            };
            if stand.accepts(self.filter)
                && let Some((message, place)) = &node.message
                && !show(message, *place)
            {
                self.write(name, next);
                return Stop::Unwanted;
            }
            if !node.children.is_empty() && stand.leads_on(self.filter) {
                self.push(name, node, stand, Bound::Unbounded);
            }
        }
        Stop::End
    }

    /// The topic of a child of the last node on the stack.
    fn write(&self, last: &str, topic: &mut String) {
        topic.clear();
        for frame in self.stack.iter().skip(1) {
            topic.push_str(frame.name);
            topic.push('/');
        }
        topic.push_str(last);
    }
}
