//! The last retained message of each topic of a vhost, in a trie of levels, in memory.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::limits::{BINDING_WORDS_MAX, MULTI_WILDCARDS_MAX};
use crate::message::{Message, MessageRef};
use crate::time::Time;

#[derive(Default)]
struct Node {
    message: Option<Message>,
    children: BTreeMap<Box<str>, Self>,
}

/// The retained messages of one vhost.
#[derive(Default)]
pub(crate) struct Retained {
    root: RwLock<(Node, usize)>,
}

/// What became of a message that asked to be retained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    Set,
    Cleared,
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
        scratch: &mut Vec<u8>,
    ) -> Kept {
        let mut guard = self.root.write();
        let (root, count) = &mut *guard;
        if message.payload.is_empty() {
            if remove(root, topic) {
                *count -= 1;
            }
            return Kept::Cleared;
        }
        if topic.split('/').count() > BINDING_WORDS_MAX {
            return Kept::NoRoom;
        }
        let known = find(root, topic).is_some_and(|node| node.message.is_some());
        if !known && *count >= max {
            return Kept::NoRoom;
        }
        let mut node = root;
        for level in topic.split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        *count += usize::from(!known);
        node.message = Some(message.to_message(scratch));
        Kept::Set
    }

    /// The messages whose topics a slashed filter matches, in topic order, without the expired.
    pub(crate) fn matching(&self, filter: &str, now: Time) -> Vec<Message> {
        let levels: Vec<&str> = filter.split('/').collect();
        let multi = levels.iter().filter(|level| **level == "#").count();
        if multi > MULTI_WILDCARDS_MAX || levels.len() > BINDING_WORDS_MAX {
            return Vec::new();
        }
        let guard = self.root.read();
        let mut found = Vec::new();
        walk(&guard.0, &levels, true, &mut |message| {
            if !message.view().expired(now) {
                found.push(message.clone());
            }
        });
        if multi > 1 {
            // Only two `#` can reach one topic in two ways.
            found.sort_by(|a: &Message, b| a.view().key.cmp(b.view().key));
            found.dedup_by(|a, b| a.view().key == b.view().key);
        }
        found
    }

    pub(crate) fn count(&self) -> usize {
        self.root.read().1
    }
}

fn find<'a>(root: &'a Node, topic: &str) -> Option<&'a Node> {
    topic
        .split('/')
        .try_fold(root, |node, level| node.children.get(level))
}

/// Removes the topic's message and the branches that it alone kept. The depth is the topic's:
/// walked with a stack of names, not by recursion.
fn remove(root: &mut Node, topic: &str) -> bool {
    let levels: Vec<&str> = topic.split('/').collect();
    let Some(node) = find_mut(root, &levels) else {
        return false;
    };
    if node.message.take().is_none() {
        return false;
    }
    for depth in (1..=levels.len()).rev() {
        let Some(node) = find_mut(root, &levels[..depth]) else {
            break;
        };
        if node.message.is_some() || !node.children.is_empty() {
            break;
        }
        if let Some(parent) = find_mut(root, &levels[..depth - 1]) {
            parent.children.remove(levels[depth - 1]);
        }
    }
    true
}

fn find_mut<'a>(root: &'a mut Node, levels: &[&str]) -> Option<&'a mut Node> {
    levels
        .iter()
        .try_fold(root, |node, level| node.children.get_mut(*level))
}

/// Visits what fits. `first` is the first level, where wildcards leave out `$` ([MQTT-4.7.2-1]).
fn walk(node: &Node, levels: &[&str], first: bool, visit: &mut dyn FnMut(&Message)) {
    let Some((level, rest)) = levels.split_first() else {
        if let Some(message) = &node.message {
            visit(message);
        }
        return;
    };
    let visible = |name: &str| !(first && name.starts_with('$'));
    match *level {
        "#" => {
            walk(node, rest, first, visit);
            for (name, child) in &node.children {
                if visible(name) {
                    walk(child, levels, false, visit);
                }
            }
        }
        "+" => {
            for (name, child) in &node.children {
                if visible(name) {
                    walk(child, rest, false, visit);
                }
            }
        }
        name => {
            if let Some(child) = node.children.get(name) {
                walk(child, rest, false, visit);
            }
        }
    }
}
