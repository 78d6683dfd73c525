//! Deliveries that were not acknowledged in time: which is due first, where not all have the same
//! timeout.
//!
//! Owns an order by time with entries of deliveries that are settled meanwhile; they leave when
//! they are first, or when they are most. RabbitMQ's `consumer_timeout`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use leveret_core::time::Time;

/// A delivery that waits too long, or will.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Overdue {
    /// When it has waited too long.
    pub(crate) due: Time,
    /// How long it may wait, in milliseconds.
    pub(crate) timeout_ms: u32,
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
