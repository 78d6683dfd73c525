//! The consumers of a queue: who they are, whose turn it is, and who has no credit.
//!
//! Those with credit are a ring, linked through their entries: whose turn it is, who blocks, who
//! has credit again and who leaves are found without a look at the others, however many wait.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::Queue;
use crate::limits;
use crate::refusal::Refusal;
use crate::reply_code::ReplyCode;
use crate::sink::Sink;
use crate::time::Time;

/// One consumer. `key` is the sink's own name for it.
#[derive(Clone)]
pub struct Consumer {
    /// Unique among the consumers of its sink.
    pub key: u64,
    /// The connection's number.
    pub connection: u64,
    /// The consumer tag, as listings show it.
    pub tag: Arc<str>,
    /// Deliveries are settled when they are taken.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacknowledged deliveries it may have, 0 for any number; for listings, the sink enforces it.
    pub prefetch: u32,
    /// Who takes the deliveries.
    pub sink: Arc<dyn Sink>,
    blocked: bool,
    /// The places of its neighbours in the ring, while it is not blocked.
    next: u32,
    previous: u32,
}

impl Consumer {
    /// A consumer that gets nothing yet.
    #[must_use]
    pub fn new(key: u64, connection: u64, tag: Arc<str>, sink: Arc<dyn Sink>) -> Self {
        Self {
            key,
            connection,
            tag,
            no_ack: false,
            exclusive: false,
            prefetch: 0,
            sink,
            blocked: true,
            next: 0,
            previous: 0,
        }
    }
}

/// What is told of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerView {
    /// Its queue.
    pub queue: String,
    /// Its connection's number.
    pub connection: u64,
    /// Its tag.
    pub tag: String,
    /// Whether deliveries are acknowledged.
    pub ack_required: bool,
    /// Its window, 0 for none.
    pub prefetch: u32,
    /// Nobody else may consume.
    pub exclusive: bool,
}

/// The consumers of one queue: nothing but a pointer while there are none.
#[derive(Default)]
pub(super) struct Consumers(Option<Box<Ring>>);

/// One consumer or more. The first stands in it: nearly all queues have no other.
#[derive(Default)]
struct Ring {
    list: SmallVec<[Consumer; 1]>,
    /// Places by connection and key, once there are many.
    index: Option<Box<Index>>,
    /// The place of the one whose turn it is, while any has credit.
    turn: u32,
    /// How many have credit.
    open: u32,
}

#[derive(Default)]
struct Index {
    hasher: RandomState,
    places: HashTable<u32>,
}

/// From so many consumers on they are found by hash.
const INDEXED_FROM: usize = 16;

fn hash(hasher: &RandomState, consumer: &Consumer) -> u64 {
    hasher.hash_one((consumer.connection, consumer.key))
}

impl Index {
    fn add(&mut self, list: &[Consumer], place: u32) {
        let hasher = &self.hasher;
        let of = |place: &u32| hash(hasher, &list[*place as usize]);
        self.places.insert_unique(of(&place), place, of);
    }

    fn remove(&mut self, list: &[Consumer], place: u32) {
        let hash = hash(&self.hasher, &list[place as usize]);
        if let Ok(entry) = self.places.find_entry(hash, |held| *held == place) {
            entry.remove();
        }
    }
}

impl Consumers {
    pub(super) fn len(&self) -> usize {
        self.list().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn list(&self) -> &[Consumer] {
        self.0.as_deref().map_or(&[], |ring| &ring.list)
    }

    /// How many have credit.
    pub(super) fn open(&self) -> usize {
        self.0.as_deref().map_or(0, |ring| ring.open as usize)
    }

    pub(super) fn at(&self, place: usize) -> Option<&Consumer> {
        self.list().get(place)
    }

    /// All of them, as the queue ends.
    pub(super) fn into_list(self) -> Vec<Consumer> {
        self.0.map(|ring| ring.list.into_vec()).unwrap_or_default()
    }

    /// Nobody else may consume. Who is exclusive is alone.
    fn is_exclusive(&self) -> bool {
        self.list().first().is_some_and(|held| held.exclusive)
    }

    /// Adds one without credit.
    fn add(&mut self, consumer: Consumer) {
        self.0.get_or_insert_default().add(consumer);
    }

    /// Removes a connection's consumer; says whether it was there.
    fn remove(&mut self, connection: u64, key: u64) -> bool {
        let Some(ring) = &mut self.0 else {
            return false;
        };
        let removed = ring.remove(connection, key);
        if ring.list.is_empty() {
            self.0 = None;
        }
        removed
    }

    /// It has no credit: it leaves the ring.
    pub(super) fn block(&mut self, place: usize) {
        if let Some(ring) = &mut self.0 {
            ring.block(place);
        }
    }

    /// It has credit: its turn comes after all others.
    pub(super) fn unblock(&mut self, connection: u64, key: u64) -> bool {
        self.0
            .as_mut()
            .is_some_and(|ring| ring.unblock(connection, key))
    }

    /// The place of the consumer whose turn it is, among those that have credit.
    pub(super) fn next_open(&mut self) -> Option<usize> {
        self.0.as_mut()?.next_open()
    }
}

impl Ring {
    /// Adds one without credit.
    fn add(&mut self, consumer: Consumer) {
        let place = self.list.len() as u32;
        self.list.push(Consumer {
            blocked: true,
            ..consumer
        });
        if let Some(index) = &mut self.index {
            index.add(&self.list, place);
        } else if self.list.len() > INDEXED_FROM {
            let mut index = Box::<Index>::default();
            (0..=place).for_each(|place| index.add(&self.list, place));
            self.index = Some(index);
        }
    }

    fn find(&self, connection: u64, key: u64) -> Option<usize> {
        let is = |held: &Consumer| held.connection == connection && held.key == key;
        let Some(index) = &self.index else {
            return self.list.iter().position(is);
        };
        let hash = index.hasher.hash_one((connection, key));
        let found = index
            .places
            .find(hash, |place| is(&self.list[*place as usize]));
        found.map(|place| *place as usize)
    }

    /// Removes a connection's consumer; says whether it was there.
    fn remove(&mut self, connection: u64, key: u64) -> bool {
        let Some(place) = self.find(connection, key) else {
            return false;
        };
        self.block(place);
        let last = self.list.len() - 1;
        if let Some(index) = &mut self.index {
            index.remove(&self.list, place as u32);
            if place != last {
                index.remove(&self.list, last as u32);
            }
        }
        // The last one takes its place, in the ring as well.
        if place != last && !self.list[last].blocked {
            let Consumer { next, previous, .. } = self.list[last];
            self.list[previous as usize].next = place as u32;
            self.list[next as usize].previous = place as u32;
            if self.turn == last as u32 {
                self.turn = place as u32;
            }
        }
        self.list.swap_remove(place);
        if let Some(index) = &mut self.index
            && place != last
        {
            index.add(&self.list, place as u32);
        }
        true
    }

    /// It has no credit: it leaves the ring.
    fn block(&mut self, place: usize) {
        if std::mem::replace(&mut self.list[place].blocked, true) {
            return;
        }
        self.open -= 1;
        let Consumer { next, previous, .. } = self.list[place];
        self.list[previous as usize].next = next;
        self.list[next as usize].previous = previous;
        if self.turn == place as u32 {
            self.turn = next;
        }
    }

    /// It has credit: its turn comes after all others.
    fn unblock(&mut self, connection: u64, key: u64) -> bool {
        let Some(place) = self.find(connection, key) else {
            return false;
        };
        if !std::mem::replace(&mut self.list[place].blocked, false) {
            return true;
        }
        if self.open == 0 {
            self.turn = place as u32;
            self.list[place].previous = place as u32;
        }
        self.open += 1;
        let next = self.turn as usize;
        let previous = self.list[next].previous as usize;
        self.list[place].next = next as u32;
        self.list[place].previous = previous as u32;
        self.list[next].previous = place as u32;
        self.list[previous].next = place as u32;
        true
    }

    /// The place of the consumer whose turn it is, among those that have credit.
    fn next_open(&mut self) -> Option<usize> {
        (self.open > 0).then(|| {
            let place = self.turn as usize;
            self.turn = self.list[place].next;
            place
        })
    }
}

impl Queue {
    /// Adds a consumer; it gets nothing until [`Self::pull`].
    pub(crate) fn add_consumer(
        &self,
        consumer: Consumer,
        vhost: &str,
        now: Time,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(Refusal::not_found(
                crate::refusal::Resource::Queue,
                self.name(),
                vhost,
            ));
        }
        if state.consumers.is_exclusive() || (consumer.exclusive && !state.consumers.is_empty()) {
            return Err(Refusal::new(
                ReplyCode::AccessRefused,
                format!(
                    "queue '{}' in vhost '{vhost}' in exclusive use",
                    self.name()
                ),
            ));
        }
        if state.consumers.len() >= limits::CONSUMERS_PER_QUEUE_MAX {
            return Err(Refusal::precondition(format!(
                "cannot consume from queue '{}' in vhost '{vhost}': it has {} consumers already",
                self.name(),
                limits::CONSUMERS_PER_QUEUE_MAX
            )));
        }
        state.had_consumer = true;
        state.unused_since = now;
        state.consumers.add(consumer);
        Ok(())
    }

    /// Removes a connection's consumer. Says whether the queue should now go as well (auto-delete).
    pub(crate) fn remove_consumer(&self, connection: u64, key: u64, now: Time) -> bool {
        let mut state = self.state.lock();
        if !state.consumers.remove(connection, key) {
            return false;
        }
        state.unused_since = now;
        self.auto_delete && state.consumers.is_empty() && state.had_consumer
    }

    /// The consumers, for listings.
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerView> {
        let state = self.state.lock();
        let view = |held: &Consumer| ConsumerView {
            queue: self.name().to_owned(),
            connection: held.connection,
            tag: held.tag.to_string(),
            ack_required: !held.no_ack,
            prefetch: held.prefetch,
            exclusive: held.exclusive,
        };
        state.consumers.list().iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests;
