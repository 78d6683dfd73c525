//! A queue's ready messages: the first ones in memory, and where there are many, the rest on disk
//! until their turn comes.
//!
//! ```text
//! head, in memory ◄── read back ── cold: stretches of numbers ◄── paged out ── fresh, in memory
//!       │                                                                          ▲
//!   to consumers                                                             from publishers
//! ```
//! Only what the journal has can be paged out; the rest stays in its place. Without cold ones there
//! is only the head.

use std::collections::VecDeque;

use super::{Entry, Queue};
use crate::journal::Stretch;
use crate::message::Message;

/// Bytes of ready messages that a queue holds in memory before it pages out.
pub(super) const HELD_BYTES: u64 = 16 * 1_024 * 1_024;

/// What a message takes beside its body, about: the allocation's head and the entry.
const ENTRY_BYTES: u64 = 128;

/// What stays in memory at the head of a queue that pages out.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    messages: usize,
    bytes: u64,
}

impl Keep {
    /// While only this queue has many.
    const MUCH: Self = Self {
        messages: 512,
        bytes: 256 * 1_024,
    };
    /// While the whole node has too many.
    pub(super) const LITTLE: Self = Self {
        messages: 16,
        bytes: 4 * 1_024,
    };
}

/// Stretches that one call pages out: the publisher waits meanwhile.
const STRETCHES_AT_ONCE: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    head: VecDeque<Entry>,
    /// Bytes of all bodies, wherever they are.
    bytes: u64,
    rest: Option<Box<Rest>>,
}

/// What is behind the head.
#[derive(Default)]
struct Rest {
    cold: VecDeque<Cold>,
    cold_messages: usize,
    cold_bytes: u64,
    fresh: VecDeque<Entry>,
    /// Messages on disk may have a time to live of their own.
    expires: bool,
    /// Bytes in memory from which on paging out is tried again.
    look_at: u64,
}

/// What is between the head and the fresh ones.
enum Cold {
    Paged {
        stretch: Stretch,
        redelivered: bool,
    },
    /// The journal does not have it.
    Held(Entry),
}

impl Cold {
    fn first(&self) -> u64 {
        match self {
            Self::Paged { stretch, .. } => stretch.first,
            Self::Held(entry) => entry.seq(),
        }
    }
}

/// Where paged messages can be had.
pub(super) trait Pager {
    /// Whether a message is one that the journal has, sooner or later.
    fn keeps(&self, entry: &Entry) -> bool;

    /// Whether it has all of these now.
    fn has(&self, stretch: &Stretch) -> bool;

    /// Reads them back.
    fn fetch(&self, stretch: &Stretch) -> Vec<(u64, Message)>;
}

impl Pager for Queue {
    fn keeps(&self, entry: &Entry) -> bool {
        self.keeps(entry.message.head())
    }

    fn has(&self, stretch: &Stretch) -> bool {
        let door = self.door.as_ref();
        door.is_some_and(|door| door.journal.has(self.id, stretch.first..stretch.end()))
    }

    fn fetch(&self, stretch: &Stretch) -> Vec<(u64, Message)> {
        let door = self.door.as_ref();
        door.map(|door| door.journal.fetch(self.id, stretch.first..stretch.end()))
            .unwrap_or_default()
    }
}

/// What was taken without being read.
pub(super) struct Dropped {
    pub(super) seq: u64,
    /// The journal has it.
    pub(super) kept: bool,
}

fn body_bytes(entry: &Entry) -> u64 {
    entry.message.payload_bytes()
}

impl Backlog {
    /// Messages that a restart found, in order, and whether some may expire.
    pub(super) fn restored(stretches: Vec<Stretch>, expires: bool) -> Self {
        let bytes = stretches.iter().map(|stretch| stretch.bytes).sum();
        let messages = stretches.iter().map(|stretch| stretch.count as usize).sum();
        let cold = stretches.into_iter().map(|stretch| Cold::Paged {
            stretch,
            redelivered: true,
        });
        let rest = Rest {
            cold: cold.collect(),
            cold_messages: messages,
            cold_bytes: bytes,
            fresh: VecDeque::new(),
            expires,
            look_at: HELD_BYTES,
        };
        Self {
            head: VecDeque::new(),
            bytes,
            rest: (messages > 0).then(|| Box::new(rest)),
        }
    }

    pub(super) fn len(&self) -> usize {
        let rest = self.rest.as_ref();
        self.head.len() + rest.map_or(0, |rest| rest.cold_messages + rest.fresh.len())
    }

    /// Bytes of all bodies; of those that a restart found, with their properties.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages on disk only.
    pub(super) fn paged(&self) -> usize {
        let cold = self.rest.iter().flat_map(|rest| &rest.cold);
        cold.map(|cold| match cold {
            Cold::Paged { stretch, .. } => stretch.count as usize,
            Cold::Held(_) => 0,
        })
        .sum()
    }

    /// Messages in memory, in order.
    pub(super) fn held(&self) -> impl Iterator<Item = &Entry> {
        let rest = self.rest.as_deref();
        let cold = rest.into_iter().flat_map(|rest| &rest.cold);
        let cold = cold.filter_map(|cold| match cold {
            Cold::Held(entry) => Some(entry),
            Cold::Paged { .. } => None,
        });
        let fresh = rest.into_iter().flat_map(|rest| &rest.fresh);
        self.head.iter().chain(cold).chain(fresh)
    }

    /// The first message, if it is in memory.
    pub(super) fn head(&self) -> Option<&Entry> {
        self.head.front()
    }

    /// Whether the first message is on disk, and may have a time to live of its own.
    pub(super) fn may_expire_on_disk(&self) -> bool {
        let rest = self.rest.as_ref().filter(|_| self.head.is_empty());
        rest.is_some_and(|rest| {
            let is_paged = matches!(rest.cold.front(), Some(Cold::Paged { .. }));
            rest.expires || !is_paged
        })
    }

    pub(super) fn push_back(&mut self, entry: Entry) {
        self.bytes += body_bytes(&entry);
        match &mut self.rest {
            Some(rest) => rest.fresh.push_back(entry),
            None => self.head.push_back(entry),
        }
    }

    /// Puts one back that was taken from the front.
    pub(super) fn push_front(&mut self, entry: Entry) {
        self.bytes += body_bytes(&entry);
        self.head.push_front(entry);
    }

    /// Takes the first; reads it back if it must. The flag: some could not be read.
    pub(super) fn pop_front(&mut self, pager: &dyn Pager, lost: &mut u64) -> Option<Entry> {
        loop {
            if let Some(entry) = self.head.pop_front() {
                self.bytes -= body_bytes(&entry);
                return Some(entry);
            }
            if !self.refill(pager, lost) {
                return None;
            }
        }
    }

    /// Brings the next ones into memory; `false` if there are none.
    fn refill(&mut self, pager: &dyn Pager, lost: &mut u64) -> bool {
        let Some(rest) = &mut self.rest else {
            return false;
        };
        match rest.cold.pop_front() {
            Some(Cold::Held(entry)) => {
                rest.cold_messages -= 1;
                rest.cold_bytes -= body_bytes(&entry);
                self.head.push_back(entry);
            }
            Some(Cold::Paged {
                stretch,
                redelivered,
            }) => {
                rest.cold_messages -= stretch.count as usize;
                rest.cold_bytes -= stretch.bytes;
                self.bytes -= stretch.bytes;
                let found = pager.fetch(&stretch);
                *lost += u64::from(stretch.count) - found.len() as u64;
                for (seq, message) in found {
                    let entry = Entry::new(message, seq, redelivered);
                    self.bytes += body_bytes(&entry);
                    self.head.push_back(entry);
                }
            }
            None => {
                self.head = std::mem::take(&mut rest.fresh);
                self.rest = None;
            }
        }
        true
    }

    /// Drops the first without reading it.
    pub(super) fn drop_front(&mut self, pager: &dyn Pager) -> Option<Dropped> {
        loop {
            if let Some(entry) = self.head.pop_front() {
                self.bytes -= body_bytes(&entry);
                let kept = pager.keeps(&entry);
                let seq = entry.seq();
                return Some(Dropped { seq, kept });
            }
            let rest = self.rest.as_mut()?;
            if let Some(Cold::Paged { stretch, .. }) = rest.cold.front_mut() {
                let seq = stretch.first;
                let bytes = stretch.bytes / u64::from(stretch.count.max(1));
                stretch.first += 1;
                stretch.count -= 1;
                stretch.bytes -= bytes;
                rest.cold_messages -= 1;
                rest.cold_bytes -= bytes;
                self.bytes -= bytes;
                if stretch.count == 0 {
                    rest.cold.pop_front();
                }
                return Some(Dropped { seq, kept: true });
            }
            self.refill(pager, &mut 0);
        }
    }

    /// Empties it; gives the numbers of those that the journal has.
    pub(super) fn clear(&mut self, pager: &dyn Pager) -> Vec<u64> {
        let all = std::mem::take(self);
        let mut kept = Vec::new();
        let note = |entry: &Entry, kept: &mut Vec<u64>| {
            if pager.keeps(entry) {
                kept.push(entry.seq());
            }
        };
        all.head.iter().for_each(|entry| note(entry, &mut kept));
        let Some(rest) = all.rest else { return kept };
        for cold in &rest.cold {
            match cold {
                Cold::Paged { stretch, .. } => kept.extend(stretch.first..stretch.end()),
                Cold::Held(entry) => note(entry, &mut kept),
            }
        }
        rest.fresh.iter().for_each(|entry| note(entry, &mut kept));
        kept
    }

    /// Puts messages back where they were, sorted by number. Those that come back are from the
    /// front, unless others before them came back earlier.
    pub(super) fn put_back(&mut self, mut entries: Vec<Entry>) {
        self.bytes += entries.iter().map(body_bytes).sum::<u64>();
        if let Some(rest) = &mut self.rest
            && let Some(behind) = rest.first()
        {
            let at = entries.partition_point(|entry| entry.seq() < behind);
            for entry in entries.split_off(at) {
                rest.insert(entry);
            }
        }
        if entries.len() <= INSERTED_MAX {
            // Their places are near the head: an insertion moves the little that is before them.
            for entry in entries {
                let place = self.head.partition_point(|held| held.seq() < entry.seq());
                self.head.insert(place, entry);
            }
        } else {
            let mut head: Vec<Entry> = std::mem::take(&mut self.head).into();
            head.append(&mut entries);
            head.sort_by_key(Entry::seq);
            self.head = head.into();
        }
    }

    /// Pages out if so much is in memory that it is time.
    pub(super) fn look(&mut self, pager: &dyn Pager) {
        if self.bytes < HELD_BYTES / 8 && self.len() < (HELD_BYTES / ENTRY_BYTES / 2) as usize {
            return;
        }
        let look_at = self.rest.as_ref().map_or(HELD_BYTES, |rest| rest.look_at);
        if self.held_bytes() < look_at {
            return;
        }
        self.page_out(pager, Keep::MUCH);
        let held = self.held_bytes();
        if let Some(rest) = &mut self.rest {
            rest.look_at = HELD_BYTES.max(held + HELD_BYTES / 16);
        }
    }

    /// What is in memory, about.
    fn held_bytes(&self) -> u64 {
        let (messages, bytes) = self
            .rest
            .as_ref()
            .map_or((0, 0), |rest| (rest.cold_messages, rest.cold_bytes));
        self.bytes - bytes + (self.len() - messages) as u64 * ENTRY_BYTES
    }

    /// Pages out some of what can be; says how many messages.
    pub(super) fn page_out(&mut self, pager: &dyn Pager, keep: Keep) -> usize {
        if self.rest.is_none() {
            let mut bytes = 0;
            let sizes = self.head.iter().take(keep.messages);
            let kept = sizes
                .take_while(|entry| {
                    bytes += body_bytes(entry);
                    bytes <= keep.bytes
                })
                .count();
            if self.head.len() <= kept.max(1) {
                return 0;
            }
            self.rest = Some(Box::new(Rest {
                fresh: self.head.split_off(kept.max(1)),
                look_at: HELD_BYTES,
                ..Rest::default()
            }));
            self.head.shrink_to(2 * keep.messages);
        }
        let Some(rest) = &mut self.rest else { return 0 };
        let mut paged = 0;
        for _ in 0..STRETCHES_AT_ONCE {
            let Some(first) = rest.fresh.front() else {
                break;
            };
            if !pager.keeps(first) {
                if let Some(entry) = rest.fresh.pop_front() {
                    rest.cold_messages += 1;
                    rest.cold_bytes += body_bytes(&entry);
                    rest.cold.push_back(Cold::Held(entry));
                }
                continue;
            }
            let (stretch, redelivered) = rest.first_stretch(pager);
            if !pager.has(&stretch) {
                break;
            }
            let mut leaving = rest.fresh.drain(..stretch.count as usize);
            rest.expires |= leaving.any(|entry| entry.message.head().expires.is_some());
            drop(leaving);
            rest.cold_messages += stretch.count as usize;
            rest.cold_bytes += stretch.bytes;
            paged += stretch.count as usize;
            rest.cold.push_back(Cold::Paged {
                stretch,
                redelivered,
            });
        }
        if rest.fresh.len() < rest.fresh.capacity() / 4 {
            rest.fresh.shrink_to(rest.fresh.len() * 2);
        }
        paged
    }
}

impl Rest {
    /// Fresh messages from the first on that can be one stretch.
    fn first_stretch(&self, pager: &dyn Pager) -> (Stretch, bool) {
        let first = self.fresh.front().map_or(0, Entry::seq);
        let redelivered = self.fresh.front().is_some_and(Entry::redelivered);
        let mut stretch = Stretch {
            first,
            count: 0,
            bytes: 0,
        };
        for entry in &self.fresh {
            let bytes = body_bytes(entry);
            let alike = entry.seq() == stretch.end() && entry.redelivered() == redelivered;
            let full = stretch.count == Stretch::COUNT_MAX
                || (stretch.count > 0 && stretch.bytes + bytes > Stretch::BYTES_MAX);
            if !alike || full || !pager.keeps(entry) {
                break;
            }
            stretch.count += 1;
            stretch.bytes += bytes;
        }
        (stretch, redelivered)
    }

    /// The number of the first one.
    fn first(&self) -> Option<u64> {
        let cold = self.cold.front().map(Cold::first);
        cold.or_else(|| self.fresh.front().map(Entry::seq))
    }

    /// Puts one between the cold ones, or among the fresh.
    fn insert(&mut self, entry: Entry) {
        let seq = entry.seq();
        let among = self.fresh.front().is_some_and(|fresh| fresh.seq() < seq);
        if among || self.cold.is_empty() {
            let place = self.fresh.partition_point(|held| held.seq() < seq);
            self.fresh.insert(place, entry);
            return;
        }
        self.cold_messages += 1;
        self.cold_bytes += body_bytes(&entry);
        // A stretch has no gap that it could belong into.
        let place = self.cold.partition_point(|cold| cold.first() < seq);
        self.cold.insert(place, Cold::Held(entry));
    }
}

/// Messages that go back one by one; more are merged with what waits, all at once.
const INSERTED_MAX: usize = 512;

#[cfg(test)]
mod tests;
