//! The queues of a vhost by name: a hash table in parts, each behind its own lock.
//!
//! Owns no name: a queue is its own key, so that an idle one costs a pointer here. It must never
//! call into a queue's lock: whoever declares holds a part of the table meanwhile.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::exchange::shrink;
use crate::queue::Queue;

/// Parts of the table: declarations that meet wait for one of them only.
const PARTS: usize = 32;

/// Queues by name; [`crate::limits::QUEUES_MAX`] of them at most, which the vhost checks.
#[derive(Default)]
pub(crate) struct Queues {
    hasher: RandomState,
    parts: [RwLock<HashTable<Arc<Queue>>>; PARTS],
    count: AtomicUsize,
}

impl Queues {
    fn part(&self, hash: u64) -> &RwLock<HashTable<Arc<Queue>>> {
        // Tables find places by the lowest bits and tell tags by the highest.
        &self.parts[(hash >> 32) as usize % PARTS]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The queue with this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Queue>> {
        let hash = self.hasher.hash_one(name);
        let part = self.part(hash).read();
        part.find(hash, |held| held.name() == name).cloned()
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        let mut all = Vec::with_capacity(self.len());
        for part in &self.parts {
            all.extend(part.read().iter().cloned());
        }
        all
    }

    /// Adds a queue, with `added` called before anybody else finds it; `Err` with the one that is
    /// there already.
    pub(crate) fn add(
        &self,
        queue: Queue,
        added: impl FnOnce(&Queue),
    ) -> Result<Arc<Queue>, Arc<Queue>> {
        let hash = self.hasher.hash_one(queue.name());
        let mut part = self.part(hash).write();
        if let Some(held) = part.find(hash, |held| held.name() == queue.name()) {
            return Err(Arc::clone(held));
        }
        let queue = Arc::new(queue);
        part.insert_unique(hash, Arc::clone(&queue), |held| {
            self.hasher.hash_one(held.name())
        });
        self.count.fetch_add(1, Ordering::Relaxed);
        added(&queue);
        Ok(queue)
    }

    /// Takes out exactly this queue, if it is there.
    pub(crate) fn remove(&self, queue: &Arc<Queue>) {
        let hash = self.hasher.hash_one(queue.name());
        let mut part = self.part(hash).write();
        if let Ok(entry) = part.find_entry(hash, |held| Arc::ptr_eq(held, queue)) {
            entry.remove();
            self.count.fetch_sub(1, Ordering::Relaxed);
            shrink(&mut part, |held| self.hasher.hash_one(held.name()));
        }
    }
}
