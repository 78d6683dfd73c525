//! The trie of levels that retained messages lie in, with what is counted and when they expire.

use std::collections::BTreeMap;

use super::{Full, Limits};
use crate::limits::{BINDING_WORDS_MAX, RETAINED_LOOKED_AT_MS};
use crate::message::{Message, MessageRef};
use crate::shelf::Place;
use crate::time::Time;

#[derive(Default)]
pub(super) struct Node {
    pub(super) message: Option<(Message, Place)>,
    pub(super) children: BTreeMap<Box<str>, Self>,
}

/// Nodes of the trie for each retained message that is allowed: topics that share nothing and have
/// many levels count for more than one.
const NODES_PER_MESSAGE: usize = 8;

#[derive(Default)]
pub(super) struct Trie {
    pub(super) root: Node,
    pub(super) messages: usize,
    nodes: usize,
    /// Bytes of all parts of the messages.
    pub(super) bytes: u64,
    /// Those that expire, the next one first.
    expiring: BTreeMap<(Time, u64), Message>,
    /// When it is looked for those that have.
    armed: Option<Time>,
    /// Topics that were added in this second.
    second: u64,
    added: u32,
}

/// Bytes of a message's parts.
fn part_bytes(message: &MessageRef<'_>) -> u64 {
    let parts = [
        message.exchange.len(),
        message.key.len(),
        message.properties.len(),
        message.payload.len(),
    ];
    parts.iter().sum::<usize>() as u64
}

impl Trie {
    /// Whether the topic may have the message.
    pub(super) fn check(
        &self,
        topic: &str,
        message: &MessageRef<'_>,
        limits: &Limits,
        now: Time,
    ) -> Result<(), Full> {
        let levels = topic.split('/').count();
        if levels > BINDING_WORDS_MAX {
            return Err(Full::Levels);
        }
        let held = find(&self.root, topic).and_then(|node| node.message.as_ref());
        let freed = held.map_or(0, |(former, _)| former.part_bytes());
        if self.bytes - freed + part_bytes(message) > limits.bytes {
            return Err(Full::Bytes);
        }
        if held.is_some() {
            return Ok(());
        }
        let nodes_max = limits.messages.saturating_mul(NODES_PER_MESSAGE);
        if self.messages >= limits.messages || self.nodes + levels > nodes_max {
            return Err(Full::Messages);
        }
        if self.second == now.0 / 1_000 && self.added >= limits.added_per_s {
            return Err(Full::Rate);
        }
        Ok(())
    }

    /// Counts a topic that is new, where it is.
    pub(super) fn count_added(&mut self, topic: &str, now: Time) {
        if find(&self.root, topic).is_none_or(|node| node.message.is_none()) {
            let second = now.0 / 1_000;
            if self.second != second {
                (self.second, self.added) = (second, 0);
            }
            self.added = self.added.saturating_add(1);
        }
    }

    /// Sets the topic's message; gives where the former one lies.
    pub(super) fn set(&mut self, topic: &str, message: Message, place: Place) -> Option<Place> {
        let mut node = &mut self.root;
        for level in topic.split('/') {
            if !node.children.contains_key(level) {
                node.children.insert(level.into(), Node::default());
                self.nodes += 1;
            }
            node = node.children.get_mut(level)?;
        }
        self.messages += 1;
        self.bytes += message.part_bytes();
        if let Some(at) = message.head().expires {
            self.expiring.insert((at, place.number()), message.clone());
        }
        let former = node.message.replace((message, place))?;
        Some(self.forget(&former))
    }

    /// Removes the topic's message; gives where it lies.
    pub(super) fn clear(&mut self, topic: &str) -> Option<Place> {
        let (former, removed) = remove(&mut self.root, topic)?;
        self.nodes -= removed;
        Some(self.forget(&former))
    }

    fn forget(&mut self, (message, place): &(Message, Place)) -> Place {
        self.messages -= 1;
        self.bytes -= message.part_bytes();
        if let Some(at) = message.head().expires {
            self.expiring.remove(&(at, place.number()));
        }
        *place
    }

    /// Removes so many of those that have expired at most; gives where they lie.
    pub(super) fn clear_expired(&mut self, now: Time, max: usize) -> Vec<Place> {
        let mut cleared = Vec::new();
        while cleared.len() < max
            && let Some(next) = self.expiring.first_entry()
            && next.key().0 <= now
        {
            let message = next.remove();
            let view = message.view();
            // What is in the list is what its topic has: whatever replaces or clears it takes it
            // off.
            let topic = std::str::from_utf8(view.key).unwrap_or_default();
            cleared.extend(self.clear(topic));
        }
        cleared
    }

    /// A look has been taken at what has expired.
    pub(super) fn looked(&mut self, now: Time) {
        self.armed = self.armed.filter(|at| *at > now);
    }

    /// When to look at what has expired, unless that is known already: with the next whole second,
    /// so that looks which others overtake are few.
    pub(super) fn arm(&mut self, now: Time) -> Option<Time> {
        let first = self.expiring.first_key_value()?.0.0;
        let at = Time(first.0.div_ceil(1_000).saturating_mul(1_000))
            .min(now.after_ms(RETAINED_LOOKED_AT_MS))
            .max(now);
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        Some(at)
    }
}

pub(super) fn find<'a>(root: &'a Node, topic: &str) -> Option<&'a Node> {
    topic
        .split('/')
        .try_fold(root, |node, level| node.children.get(level))
}

/// Removes the topic's message and the branches that it alone kept; gives it, and how many nodes
/// those were.
/// The depth is the topic's: walked with a stack of names, not by recursion.
fn remove(root: &mut Node, topic: &str) -> Option<((Message, Place), usize)> {
    let levels: Vec<&str> = topic.split('/').collect();
    let former = find_mut(root, &levels)?.message.take()?;
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
    Some((former, removed))
}

fn find_mut<'a>(root: &'a mut Node, levels: &[&str]) -> Option<&'a mut Node> {
    levels
        .iter()
        .try_fold(root, |node, level| node.children.get_mut(*level))
}
