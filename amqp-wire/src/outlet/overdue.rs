//! Deliveries that were not acknowledged in time: which is due first, where not all have the same
//! timeout.
//!
//! Owns an order by time with entries of deliveries that are settled meanwhile; they leave when
//! they are first, or when they are most. RabbitMQ's `consumer_timeout`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use leveret_core::queue::Queue;
use leveret_core::time::Time;

/// A delivery that waits too long, or will.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Overdue {
    /// When it has waited too long.
    pub(crate) due: Time,
    /// How long it may wait, in milliseconds.
    pub(crate) timeout_ms: u32,
}

/// How long the deliveries of each queue may wait, as asked a moment ago.
pub(crate) struct Patience {
    default_ms: u32,
    queues: HashMap<u64, u32, RandomState>,
}

impl Patience {
    /// Nothing was asked yet; queues that say nothing have `default_ms`.
    pub(crate) fn new(default_ms: u32) -> Self {
        Self {
            default_ms,
            queues: HashMap::default(),
        }
    }

    /// Asks a queue, unless it was asked before.
    pub(crate) fn ask(&mut self, queue: &Queue) {
        let own = || queue.consumer_timeout_ms().unwrap_or(self.default_ms);
        self.queues.entry(queue.id()).or_insert_with(own);
    }

    /// What a queue has said.
    pub(super) fn known(&self, queue: &Queue) -> u32 {
        let said = self.queues.get(&queue.id());
        said.copied().unwrap_or(self.default_ms)
    }

    /// What a queue says, asked or not. Never with the out-buffer's lock held.
    pub(crate) fn of(&mut self, queue: &Queue) -> u32 {
        self.ask(queue);
        self.known(queue)
    }
}

/// Deliveries of one channel by when they are due.
#[derive(Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(Time, u64)>>);

impl Deadlines {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, tag: u64, due: Time) {
        if due < Time(u64::MAX) {
            self.0.push(Reverse((due, tag)));
        }
    }

    /// The tag of the delivery that is due first, of those that wait.
    pub(super) fn first(&mut self, waits: impl Fn(u64) -> bool) -> Option<u64> {
        while let Some(Reverse((_, tag))) = self.0.peek() {
            if waits(*tag) {
                return Some(*tag);
            }
            self.0.pop();
        }
        None
    }

    /// Drops what does not wait, and what is there twice.
    pub(super) fn keep(&mut self, waits: impl Fn(u64) -> bool) {
        let mut all = std::mem::take(&mut self.0).into_vec();
        all.retain(|Reverse((_, tag))| waits(*tag));
        all.sort_unstable();
        all.dedup();
        self.0 = all.into();
    }
}
