//! The last retained message of each topic of a vhost, in a trie of levels, in memory, and each on
//! a shelf for a restart.

mod page;

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use parking_lot::RwLock;

use crate::journal::Appended;
use crate::limits::{BINDING_WORDS_MAX, MULTI_WILDCARDS_MAX};
use crate::message::{Message, MessageRef};
use crate::shelf::{Place, Shelf};
use crate::time::Time;

#[derive(Default)]
struct Node {
    message: Option<(Message, Place)>,
    children: BTreeMap<Box<str>, Self>,
}

/// Nodes of the trie for each retained message that is allowed: topics that share nothing and have
/// many levels count for more than one.
const NODES_PER_MESSAGE: usize = 8;

/// The retained messages of one vhost.
#[derive(Default)]
pub(crate) struct Retained {
    root: RwLock<Trie>,
}

#[derive(Default)]
struct Trie {
    root: Node,
    messages: usize,
    nodes: usize,
}

/// What became of a message that asked to be retained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    /// It is set or cleared; that is durable when the journal says so.
    Set(Appended),
    /// The vhost has as many as it may.
    NoRoom,
}

impl Retained {
    /// Sets the topic's message, or clears it if the payload is empty ([MQTT-3.3.1-6],
    /// [MQTT-3.3.1-7]).
    pub(crate) fn keep(
        &self,
        topic: &str,
        message: &MessageRef<'_>,
        max: usize,
        shelf: &Shelf,
        scratch: &mut Vec<u8>,
    ) -> Kept {
        let mut trie = self.root.write();
        let trie = &mut *trie;
        if message.payload.is_empty() {
            let mut appended = Appended::default();
            if let Some(place) = trie.clear(topic) {
                appended.number = shelf.take(&[place]);
            }
            return Kept::Set(appended);
        }
        if !trie.has_room(topic, max) {
            return Kept::NoRoom;
        }
        let (place, appended) = shelf.put(message, None);
        if let Some(former) = trie.set(topic, message.to_message(scratch), place) {
            shelf.drop(former);
        }
        Kept::Set(appended)
    }

    /// Brings back what a restart found: of each topic the last, unless it has expired.
    pub(crate) fn restore(&self, shelf: &Shelf, messages: Vec<(Place, Message)>, now: Time) {
        let mut trie = self.root.write();
        for (place, message) in messages {
            let Ok(topic) = std::str::from_utf8(message.view().key) else {
                shelf.drop(place);
                continue;
            };
            let former = trie.set(topic, message.clone(), place);
            former.into_iter().for_each(|former| shelf.drop(former));
            if message.view().expired(now) {
                // The one that it has replaced is not back for that.
                trie.clear(topic)
                    .into_iter()
                    .for_each(|place| shelf.drop(place));
            }
        }
    }
}

impl Trie {
    /// Whether the topic may have a message.
    fn has_room(&self, topic: &str, max: usize) -> bool {
        let levels = topic.split('/').count();
        if levels > BINDING_WORDS_MAX {
            return false;
        }
        let full =
            self.messages >= max || self.nodes + levels > max.saturating_mul(NODES_PER_MESSAGE);
        !full || find(&self.root, topic).is_some_and(|node| node.message.is_some())
    }

    /// Sets the topic's message; gives where the former one lies.
    fn set(&mut self, topic: &str, message: Message, place: Place) -> Option<Place> {
        let mut node = &mut self.root;
        for level in topic.split('/') {
            if !node.children.contains_key(level) {
                node.children.insert(level.into(), Node::default());
                self.nodes += 1;
            }
            node = node.children.get_mut(level)?;
        }
        let former = node.message.replace((message, place));
        self.messages += usize::from(former.is_none());
        former.map(|(_, place)| place)
    }

    /// Takes the topic's message away; gives where it lies.
    fn clear(&mut self, topic: &str) -> Option<Place> {
        let (place, removed) = remove(&mut self.root, topic)?;
        self.messages -= 1;
        self.nodes -= removed;
        Some(place)
    }
}

impl Retained {
    /// The messages whose topics a slashed filter matches, in topic order, without the expired.
    pub(crate) fn matching(&self, filter: &str, now: Time) -> Vec<Message> {
        let trie = self.root.read();
        if trie.messages == 0 {
            return Vec::new();
        }
        let levels: Vec<&str> = filter.split('/').collect();
        let multi = levels.iter().filter(|level| **level == "#").count();
        if multi > MULTI_WILDCARDS_MAX || levels.len() > BINDING_WORDS_MAX {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut seen = (multi > 1).then(HashSet::default);
        walk(&trie.root, &levels, true, &mut seen, &mut |message| {
            if !message.view().expired(now) {
                found.push(message.clone());
            }
        });
        found
    }

    pub(crate) fn count(&self) -> usize {
        self.root.read().messages
    }
}

fn find<'a>(root: &'a Node, topic: &str) -> Option<&'a Node> {
    topic
        .split('/')
        .try_fold(root, |node, level| node.children.get(level))
}

/// Removes the topic's message and the branches that it alone kept; gives where it lies, and how
/// many nodes those were.
/// The depth is the topic's: walked with a stack of names, not by recursion.
fn remove(root: &mut Node, topic: &str) -> Option<(Place, usize)> {
    let levels: Vec<&str> = topic.split('/').collect();
    let (_, place) = find_mut(root, &levels)?.message.take()?;
    let mut removed = 0;
    for depth in (1..=levels.len()).rev() {
        let Some(node) = find_mut(root, &levels[..depth]) else {
            break;
        };
        if node.message.is_some() || !node.children.is_empty() {
            break;
        }
        if let Some(parent) = find_mut(root, &levels[..depth - 1]) {
            parent.children.remove(levels[depth - 1]);
            removed += 1;
        }
    }
    Some((place, removed))
}

fn find_mut<'a>(root: &'a mut Node, levels: &[&str]) -> Option<&'a mut Node> {
    levels
        .iter()
        .try_fold(root, |node, level| node.children.get_mut(*level))
}

/// Visits what fits. `seen` has which nodes were met with how many levels left: two `#` can meet
/// one in many ways. `first` is the first level, where wildcards leave out `$` ([MQTT-4.7.2-1]).
fn walk(
    node: &Node,
    levels: &[&str],
    first: bool,
    seen: &mut Option<HashSet<(usize, usize), RandomState>>,
    visit: &mut dyn FnMut(&Message),
) {
    let place = std::ptr::from_ref(node).addr();
    if seen
        .as_mut()
        .is_some_and(|seen| !seen.insert((place, levels.len())))
    {
        return;
    }
    let Some((level, rest)) = levels.split_first() else {
        if let Some((message, _)) = &node.message {
            visit(message);
        }
        return;
    };
    let visible = |name: &str| !(first && name.starts_with('$'));
    match *level {
        "#" => {
            walk(node, rest, first, seen, visit);
            for (name, child) in &node.children {
                if visible(name) {
                    walk(child, levels, false, seen, visit);
                }
            }
        }
        "+" => {
            for (name, child) in &node.children {
                if visible(name) {
                    walk(child, rest, false, seen, visit);
                }
            }
        }
        name => {
            if let Some(child) = node.children.get(name) {
                walk(child, rest, false, seen, visit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::Broker;
    use crate::definitions::Volatile;
    use crate::journal::MemoryJournal;
    use crate::key::Form;
    use crate::message::{AmqpOrigin, Head};
    use crate::options::Options;

    fn message(payload: &[u8], expires: Option<Time>) -> Message {
        let message = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                form: Form::Slashed,
                persistent: true,
                exactly_once: false,
                retain: true,
                publisher: 0,
                received: Time(1),
                expires,
            },
            exchange: "amq.topic",
            key: b"a/b",
            properties: &[],
            payload,
        };
        message.to_message(&mut Vec::new())
    }

    /// FEATURES M10: a crash between two records left the message that was replaced on disk.
    #[test]
    fn m10_what_was_replaced_is_not_back_when_the_last_has_expired() {
        let broker = Broker::open(
            Options::default(),
            Arc::new(Volatile::default()),
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "unused".to_owned(),
        );
        let broker = broker.expect("an empty broker opens");
        let vhost = broker.vhost("/").expect("the default vhost is made");
        let found = |now: Time| {
            let retained = Retained::default();
            let former = (Place::default(), message(b"former", None));
            let last = (Place::default(), message(b"last", Some(Time(100))));
            retained.restore(&vhost.shelves.retained, vec![former, last], now);
            let found = retained.matching("#", now);
            let payloads = found.iter().map(|held| held.view().payload.to_vec());
            (payloads.collect::<Vec<_>>(), retained.count())
        };
        assert_eq!(found(Time(99)), (vec![b"last".to_vec()], 1));
        assert_eq!(found(Time(100)), (Vec::new(), 0));
    }
}
