//! The deliveries of one channel: their tags, those that wait for acknowledgement, how many more
//! there may be, and how long they may wait.
//!
//! Owns the order of tags; never touches a queue. AMQP 0-9-1, class basic: delivery-tag, qos.
//!
//! ```text
//! delivered ──take──▶ settled
//!     │  ▲
//!   park │ put_back              a transaction has them, and may give them back;
//!     ▼  │                       until it forgets them they count for basic.qos
//!   parked ──forget──▶ settled
//! ```

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use leveret_core::message::Message;
use leveret_core::queue::Queue;
use leveret_core::time::Time;

use super::overdue::{Deadlines, Overdue};
use crate::limits::UNACKED_PER_CHANNEL_MAX;

/// A delivery that waits for acknowledgement.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its queue.
    pub(crate) queue: Arc<Queue>,
    /// Its number there.
    pub(crate) seq: u64,
    /// The message, should it go back; of a stream nothing does.
    pub(crate) message: Message,
    /// Its consumer's number on the connection; [`FETCHED`] for `basic.get`.
    pub(crate) consumer: u32,
    /// How long it may wait, in milliseconds; 0 is for ever.
    pub(crate) timeout_ms: u32,
}

/// The consumer's number of a fetched message: no window counts it.
pub(crate) const FETCHED: u32 = u32::MAX;

/// In the numbers of consumers whose timeout is their own, whatever their queues say.
pub(crate) const OWN_TIMEOUT: u32 = 1 << 31;

/// Whether the timeout of the consumer with that number is its own; a fetched message has none.
pub(crate) fn is_own(number: u32) -> bool {
    number != FETCHED && number & OWN_TIMEOUT != 0
}

impl Held {
    /// When it has waited too long, delivered at `since`.
    #[inline]
    fn due(&self, since: Time) -> Time {
        match self.timeout_ms {
            0 => Time(u64::MAX),
            timeout_ms => since.after_ms(timeout_ms.into()),
        }
    }
}

/// A delivery's place in the window.
pub(crate) struct Slot {
    pub(crate) tag: u64,
    /// When it was delivered.
    since: Time,
    /// `None` once it is settled out of order.
    held: Option<Held>,
}

impl Slot {
    /// When it has waited too long.
    fn due(&self) -> Time {
        let held = self.held.as_ref();
        held.map_or(Time(u64::MAX), |held| held.due(self.since))
    }

    /// Asks for another timeout of its delivery; says whether it is another one.
    pub(crate) fn retime(&mut self, timeout_ms: &mut impl FnMut(&Held) -> u32) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let before = held.timeout_ms;
        if !is_own(held.consumer) {
            held.timeout_ms = timeout_ms(held);
        }
        held.timeout_ms != before
    }

    /// The delivery, in a parked slot.
    pub(crate) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// The delivery, out of a parked slot.
    pub(crate) fn into_held(self) -> Option<Held> {
        self.held
    }
}

/// What listings tell of a channel beside its deliveries, as of its last batch of input.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listed {
    /// `basic.qos` without global.
    pub(crate) prefetch: u16,
    /// It confirms what is published.
    pub(crate) confirm: bool,
    /// It has transactions.
    pub(crate) transactional: bool,
    pub(crate) counts: Counts,
}

/// What a channel keeps to itself, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Published, and neither confirmed nor rejected.
    pub(crate) unconfirmed: u32,
    /// Published in the open transaction.
    pub(crate) uncommitted: u32,
    /// Deliveries that the open transaction has a word on.
    pub(crate) acks_uncommitted: u32,
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
    /// Kept only where consumers have timeouts of their own: else the first slot is due first.
    deadlines: Option<Box<Deadlines>>,
    /// Only channels with anything to tell pay for it.
    pub(crate) listed: Option<Box<Listed>>,
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

    /// How many deliveries to all consumers may wait together; 0 is any number.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether all consumers share such a limit.
    pub(crate) fn has_limit(&self) -> bool {
        self.limit != 0
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

    /// Remembers the delivery that got `tag` last; says when it has waited too long.
    #[inline]
    pub(crate) fn hold(&mut self, tag: u64, now: Time, held: Held) -> Time {
        self.unacked += 1;
        self.counted += u32::from(held.consumer != FETCHED);
        let due = held.due(now);
        self.slots.push_back(Slot {
            tag,
            since: now,
            held: Some(held),
        });
        if self.deadlines.is_some() {
            self.watch(tag, due);
        }
        due
    }

    /// Takes out one delivery, or all up to it; tag 0 with `multiple` means all. `false`, and
    /// nothing is taken, if no delivery with this tag waits.
    #[inline]
    pub(crate) fn take(&mut self, tag: u64, multiple: bool, into: &mut Vec<Held>) -> bool {
        let before = into.len();
        if !self.pick(tag, multiple, |slot| into.extend(slot.held)) {
            return false;
        }
        self.discount(into[before..].iter());
        self.tidy();
        true
    }

    /// Takes deliveries out as [`Self::take`] does, but they still count for `basic.qos`.
    pub(crate) fn park(&mut self, tag: u64, multiple: bool, into: &mut Vec<Slot>) -> bool {
        let picked = self.pick(tag, multiple, |slot| into.push(slot));
        self.tidy();
        picked
    }

    /// Parked deliveries count no more.
    pub(crate) fn forget(&mut self, parked: &[Slot]) {
        self.discount(parked.iter().filter_map(|slot| slot.held.as_ref()));
        self.tidy();
    }

    /// Parked deliveries wait again, each in its place; says when the first has waited too long.
    /// What others wait costs nothing.
    pub(crate) fn put_back(&mut self, mut parked: Vec<Slot>) -> Time {
        let mut first = Time(u64::MAX);
        // The last one first: those whose places were dropped come before all others.
        parked.sort_unstable_by_key(|slot| Reverse(slot.tag));
        for slot in parked {
            let (tag, due) = (slot.tag, slot.due());
            match self.slots.binary_search_by_key(&tag, |held| held.tag) {
                Ok(place) => self.slots[place] = slot,
                Err(place) => self.slots.insert(place, slot),
            }
            first = first.min(due);
            if self.deadlines.is_some() {
                self.watch(tag, due);
            }
        }
        first
    }

    /// Takes out all deliveries.
    pub(crate) fn take_all(&mut self, into: &mut Vec<Held>) {
        self.take(0, true, into);
    }

    #[inline]
    fn pick(&mut self, tag: u64, multiple: bool, mut give: impl FnMut(Slot)) -> bool {
        let place = if tag == 0 && multiple {
            // AMQP 0-9-1, basic.ack: zero with multiple acknowledges all outstanding messages.
            let all = self.slots.len();
            if all == 0 {
                return true;
            }
            all - 1
        } else {
            match self.find(tag) {
                Some(place) => place,
                None => return false,
            }
        };
        if multiple {
            self.slots
                .drain(..=place)
                .filter(|slot| slot.held.is_some())
                .for_each(give);
        } else {
            let slot = &mut self.slots[place];
            give(Slot {
                held: slot.held.take(),
                ..*slot
            });
        }
        true
    }

    /// The place of a delivery that waits.
    #[inline]
    fn find(&self, tag: u64) -> Option<usize> {
        let place = self.slots.binary_search_by_key(&tag, |slot| slot.tag);
        place.ok().filter(|place| self.slots[*place].held.is_some())
    }

    #[inline]
    fn discount<'a>(&mut self, taken: impl Iterator<Item = &'a Held>) {
        // Both count what is in the slots or parked.
        for held in taken {
            self.unacked -= 1;
            self.counted -= u32::from(held.consumer != FETCHED);
        }
    }

    /// Drops empty slots at the front, and all when they are most.
    #[inline]
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

    /// From now on deliveries may have different timeouts.
    pub(crate) fn watch_all(&mut self) {
        if self.deadlines.is_some() {
            return;
        }
        let mut deadlines = Box::<Deadlines>::default();
        for slot in self.slots() {
            deadlines.add(slot.tag, slot.due());
        }
        self.deadlines = Some(deadlines);
    }

    /// The deliveries that wait.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.held.is_some())
    }

    /// Asks for the timeouts of all deliveries anew.
    pub(crate) fn retime(&mut self, mut timeout_ms: impl FnMut(&Held) -> u32) {
        let mut changed = false;
        for slot in &mut self.slots {
            changed |= slot.retime(&mut timeout_ms);
        }
        if changed {
            self.deadlines = None;
            self.watch_all();
        }
    }

    fn watch(&mut self, tag: u64, due: Time) {
        let Some(mut deadlines) = self.deadlines.take() else {
            return;
        };
        deadlines.add(tag, due);
        if deadlines.len() > 2 * self.unacked as usize + EMPTY_SLOTS_KEPT {
            deadlines.keep(|tag| self.find(tag).is_some());
        }
        self.deadlines = Some(deadlines);
    }

    /// The delivery that is due first, if any has a timeout.
    pub(crate) fn due_first(&mut self) -> Option<Overdue> {
        let place = match self.deadlines.take() {
            None => 0,
            Some(mut deadlines) => {
                let first = deadlines.first(|tag| self.find(tag).is_some());
                self.deadlines = Some(deadlines);
                self.find(first?)?
            }
        };
        let slot = self.slots.get(place)?;
        let timeout_ms = slot.held.as_ref()?.timeout_ms;
        (timeout_ms > 0).then_some(Overdue {
            due: slot.due(),
            timeout_ms,
        })
    }
}

/// Empty slots that are not worth a pass over all of them.
const EMPTY_SLOTS_KEPT: usize = 32;

/// Capacity that an empty window keeps.
const SLOTS_KEPT: usize = 1_024;

/// An idle channel has one.
const _: () = assert!(size_of::<Window>() <= 96);
