//! The deliveries of one channel: their tags, those that wait for acknowledgement, and how many
//! more there may be.
//!
//! Owns the order of tags; never touches a queue. AMQP 0-9-1, class basic: delivery-tag, qos.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_core::message::Message;
use leveret_core::queue::Queue;

use crate::limits::UNACKED_PER_CHANNEL_MAX;

/// A delivery that waits for acknowledgement.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its queue.
    pub(crate) queue: Arc<Queue>,
    /// Its number there.
    pub(crate) seq: u64,
    /// The message, should it go back.
    pub(crate) message: Message,
    /// Its consumer's key; [`FETCHED`] for `basic.get`.
    pub(crate) consumer: u64,
}

/// The consumer's key of a fetched message: no window counts it.
pub(crate) const FETCHED: u64 = u64::MAX;

struct Slot {
    tag: u64,
    /// `None` once it is settled out of order.
    held: Option<Held>,
}

/// The deliveries of one channel.
#[derive(Default)]
pub(crate) struct Window {
    last_tag: u64,
    /// By rising tag; the first is not settled.
    slots: VecDeque<Slot>,
    unacked: u32,
    /// Those of them that `basic.qos` counts.
    counted: u32,
    /// `basic.qos` with global; 0 is any number.
    limit: u32,
    /// Keys of consumers that were refused a delivery.
    pub(crate) starved: Vec<u64>,
}

impl Window {
    /// Whether another delivery to some consumer may wait for acknowledgement.
    #[inline]
    pub(crate) fn has_credit(&self) -> bool {
        (self.limit == 0 || self.counted < self.limit) && self.unacked < UNACKED_PER_CHANNEL_MAX
    }

    /// Sets how many deliveries to all consumers may wait together; 0 is any number.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Deliveries that wait for acknowledgement.
    pub(crate) fn unacked(&self) -> u32 {
        self.unacked
    }

    /// The tag of the next delivery.
    #[inline]
    pub(crate) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Remembers the delivery that got `tag` last.
    #[inline]
    pub(crate) fn hold(&mut self, tag: u64, held: Held) {
        self.unacked += 1;
        self.counted += u32::from(held.consumer != FETCHED);
        self.slots.push_back(Slot {
            tag,
            held: Some(held),
        });
    }

    /// Takes out one delivery, or all up to it; tag 0 with `multiple` means all. `false`, and
    /// nothing is taken, if no delivery with this tag waits.
    pub(crate) fn take(&mut self, tag: u64, multiple: bool, into: &mut Vec<Held>) -> bool {
        // AMQP 0-9-1, basic.ack: zero with multiple acknowledges all outstanding messages.
        if tag == 0 && multiple {
            self.take_all(into);
            return true;
        }
        let Ok(place) = self.slots.binary_search_by_key(&tag, |slot| slot.tag) else {
            return false;
        };
        if self.slots[place].held.is_none() {
            return false;
        }
        let before = into.len();
        if multiple {
            into.extend(self.slots.drain(..=place).filter_map(|slot| slot.held));
        } else {
            into.extend(self.slots[place].held.take());
        }
        self.forget(&into[before..]);
        self.tidy();
        true
    }

    /// Takes out all deliveries.
    pub(crate) fn take_all(&mut self, into: &mut Vec<Held>) {
        into.extend(self.slots.drain(..).filter_map(|slot| slot.held));
        self.unacked = 0;
        self.counted = 0;
    }

    fn forget(&mut self, taken: &[Held]) {
        // Both count what is in the slots.
        self.unacked -= taken.len() as u32;
        self.counted -= taken.iter().filter(|held| held.consumer != FETCHED).count() as u32;
    }

    /// Drops empty slots at the front, and all when they are most.
    fn tidy(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.held.is_none()) {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.unacked as usize + EMPTY_SLOTS_KEPT {
            self.slots.retain(|slot| slot.held.is_some());
        }
        if self.slots.is_empty() && self.slots.capacity() > SLOTS_KEPT {
            self.slots = VecDeque::new();
        }
    }
}

/// Empty slots that are not worth a pass over all of them.
const EMPTY_SLOTS_KEPT: usize = 32;

/// Capacity that an empty window keeps.
const SLOTS_KEPT: usize = 1_024;
