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

mod newest;
mod piece;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::{Entry, Queue};
use crate::journal::Stretch;
use crate::message::Message;

pub(super) use piece::Piece;

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

/// Messages that one call looks at: the publisher waits meanwhile.
const MESSAGES_AT_ONCE: usize = 16 * Stretch::COUNT_MAX as usize;

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    head: VecDeque<Entry>,
    /// Messages that came back to places in the midst of a long head, or behind the first of the
    /// rest: each is taken when nothing is before it.
    back: BTreeMap<u64, Entry>,
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
    Paged(Piece),
    /// The journal does not have it.
    Held(Entry),
}

impl Cold {
    fn first(&self) -> u64 {
        match self {
            Self::Paged(piece) => piece.first(),
            Self::Held(entry) => entry.seq(),
        }
    }

    /// One behind the last.
    fn end(&self) -> u64 {
        match self {
            Self::Paged(piece) => piece.end(),
            Self::Held(entry) => entry.seq() + 1,
        }
    }
}

/// Where paged messages can be had.
pub(super) trait Pager {
    /// Whether a message is one that the journal has, sooner or later.
    fn keeps(&self, entry: &Entry) -> bool;

    /// Whether it has all of these now.
    fn has(&self, seqs: Range<u64>) -> bool;

    /// Reads them back.
    fn fetch(&self, piece: &Piece) -> Vec<(u64, Message)>;
}

impl Pager for Queue {
    fn keeps(&self, entry: &Entry) -> bool {
        self.keeps(entry.message.head())
    }

    fn has(&self, seqs: Range<u64>) -> bool {
        let door = self.door.as_ref();
        door.is_some_and(|door| door.journal.has(self.id, seqs))
    }

    fn fetch(&self, piece: &Piece) -> Vec<(u64, Message)> {
        let Some(door) = &self.door else {
            return Vec::new();
        };
        match piece.range() {
            Some(seqs) => door.journal.fetch(self.id, seqs),
            None => {
                let seqs: Vec<u64> = piece.seqs().collect();
                door.journal.fetch_these(self.id, &seqs)
            }
        }
    }
}

/// What was taken without being read.
pub(super) struct Dropped {
    pub(super) seq: u64,
    /// The journal has it.
    pub(super) kept: bool,
    /// Its QoS; what was not read was to last.
    pub(super) qos: u8,
}

fn body_bytes(entry: &Entry) -> u64 {
    entry.message.payload_bytes()
}

impl Backlog {
    /// Messages that a restart found, and whether some of them may expire, come behind all others.
    pub(super) fn restore(&mut self, stretch: &Stretch, expires: bool) {
        self.bytes += stretch.bytes;
        let rest = self.rest.get_or_insert_with(|| {
            Box::new(Rest {
                look_at: HELD_BYTES,
                ..Rest::default()
            })
        });
        rest.expires |= expires;
        rest.cold_bytes += stretch.bytes;
        rest.cold_messages += stretch.count as usize;
        if let Some(Cold::Paged(last)) = rest.cold.back_mut()
            && last.extend(stretch)
        {
            return;
        }
        rest.cold.push_back(Cold::Paged(Piece::restored(stretch)));
    }

    pub(super) fn len(&self) -> usize {
        let rest = self.rest.as_ref();
        let behind = rest.map_or(0, |rest| rest.cold_messages + rest.fresh.len());
        self.head.len() + self.back.len() + behind
    }

    /// Bytes of all bodies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages on disk only.
    pub(super) fn paged(&self) -> usize {
        let cold = self.rest.iter().flat_map(|rest| &rest.cold);
        cold.map(|cold| match cold {
            Cold::Paged(piece) => piece.count(),
            Cold::Held(_) => 0,
        })
        .sum()
    }

    /// Messages in memory.
    pub(super) fn held(&self) -> impl Iterator<Item = &Entry> {
        let rest = self.rest.as_deref();
        let cold = rest.into_iter().flat_map(|rest| &rest.cold);
        let cold = cold.filter_map(|cold| match cold {
            Cold::Held(entry) => Some(entry),
            Cold::Paged(_) => None,
        });
        let fresh = rest.into_iter().flat_map(|rest| &rest.fresh);
        let head = self.back.values().chain(&self.head);
        head.chain(cold).chain(fresh)
    }

    /// The first message, if it is in memory before the rest.
    #[inline]
    pub(super) fn head(&self) -> Option<&Entry> {
        let first = self.head.front();
        if self.back.is_empty() {
            return first;
        }
        let back = self.back.values().next();
        back.filter(|back| self.is_first(back.seq())).or(first)
    }

    /// Takes it.
    #[inline]
    fn pop_head(&mut self) -> Option<Entry> {
        if !self.back.is_empty() {
            let back = self.back.keys().next();
            if back.is_some_and(|back| self.is_first(*back)) {
                return self.back.pop_first().map(|(_, entry)| entry);
            }
        }
        self.head.pop_front()
    }

    /// Whether one that came back is before the head; or where that is empty, before the rest.
    fn is_first(&self, seq: u64) -> bool {
        let rest = || self.rest.as_ref()?.first();
        let next = self.head.front().map(Entry::seq).or_else(rest);
        next.is_none_or(|next| seq < next)
    }

    /// Whether the first message is on disk, and may have a time to live of its own.
    pub(super) fn may_expire_on_disk(&self) -> bool {
        let rest = self.rest.as_ref().filter(|_| self.head().is_none());
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
            if let Some(entry) = self.pop_head() {
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
            Some(Cold::Paged(piece)) => {
                rest.cold_messages -= piece.count();
                rest.cold_bytes -= piece.bytes();
                self.bytes -= piece.bytes();
                let found = pager.fetch(&piece);
                *lost += (piece.count() - found.len()) as u64;
                for (seq, message) in found {
                    let entry = Entry::new(message, seq, piece.redelivered);
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
            if let Some(entry) = self.pop_head() {
                self.bytes -= body_bytes(&entry);
                let kept = pager.keeps(&entry);
                let (seq, qos) = (entry.seq(), entry.message.head().qos());
                return Some(Dropped { seq, kept, qos });
            }
            let rest = self.rest.as_mut()?;
            if let Some(Cold::Paged(piece)) = rest.cold.front_mut() {
                let (seq, bytes) = piece.drop_first();
                rest.cold_messages -= 1;
                rest.cold_bytes -= bytes;
                self.bytes -= bytes;
                if piece.count() == 0 {
                    rest.cold.pop_front();
                }
                return Some(Dropped {
                    seq,
                    kept: true,
                    qos: 1,
                });
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
        let head = all.back.values().chain(&all.head);
        head.for_each(|entry| note(entry, &mut kept));
        let Some(rest) = all.rest else { return kept };
        for cold in &rest.cold {
            match cold {
                Cold::Paged(piece) => kept.extend(piece.seqs()),
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
        if let Some(behind) = self.rest.as_ref().and_then(|rest| rest.first()) {
            let at = entries.partition_point(|entry| entry.seq() < behind);
            let among = entries.split_off(at).into_iter();
            self.back.extend(among.map(|entry| (entry.seq(), entry)));
        }
        // The last first: those that belong before the head come one before the other.
        for entry in entries.into_iter().rev() {
            let place = self.head.partition_point(|held| held.seq() < entry.seq());
            // An insertion moves the few that are on the shorter side.
            let moved = place.min(self.head.len() - place);
            if moved <= MOVED_MAX {
                note_moved(moved);
                self.head.insert(place, entry);
            } else {
                self.back.insert(entry.seq(), entry);
            }
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

    /// Pages out some of what can be; says how many messages it has passed, paged out or not:
    /// called again, it goes on behind them.
    pub(super) fn page_out(&mut self, pager: &dyn Pager, keep: Keep) -> usize {
        if self.rest.is_none() {
            self.merge_back();
            let mut bytes = 0;
            let sizes = self.head.iter().take(keep.messages);
            let kept = sizes
                .take_while(|entry| {
                    bytes += entry.message.part_bytes();
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
        rest.take_among(&mut self.back);
        let mut passed = 0;
        while passed < MESSAGES_AT_ONCE
            && let Some(first) = rest.fresh.front()
        {
            if !pager.keeps(first) {
                if let Some(entry) = rest.fresh.pop_front() {
                    rest.cold_messages += 1;
                    rest.cold_bytes += body_bytes(&entry);
                    rest.cold.push_back(Cold::Held(entry));
                }
                passed += 1;
                continue;
            }
            let piece = rest.first_piece(pager);
            if !piece.ranges().all(|seqs| pager.has(seqs)) {
                break;
            }
            let mut leaving = rest.fresh.drain(..piece.count());
            rest.expires |= leaving.any(|entry| entry.message.head().expires.is_some());
            drop(leaving);
            rest.cold_messages += piece.count();
            rest.cold_bytes += piece.bytes();
            passed += piece.count();
            rest.cold.push_back(Cold::Paged(piece));
        }
        if rest.fresh.len() < rest.fresh.capacity() / 4 {
            rest.fresh.shrink_to(rest.fresh.len() * 2);
        }
        passed
    }

    /// Those that came back take their places in the head.
    fn merge_back(&mut self) {
        merge(&mut self.head, std::mem::take(&mut self.back));
    }
}

/// Puts some in their places among others: one pass, however many.
fn merge(list: &mut VecDeque<Entry>, some: BTreeMap<u64, Entry>) {
    if some.is_empty() {
        return;
    }
    let mut all: Vec<Entry> = some.into_values().chain(list.drain(..)).collect();
    note_moved(all.len());
    // Two runs in order.
    all.sort_by_key(Entry::seq);
    *list = all.into();
}

impl Rest {
    /// Fresh messages from the first on that can be one piece.
    fn first_piece(&self, pager: &dyn Pager) -> Piece {
        let first = self.fresh.front().map_or(0, Entry::seq);
        let redelivered = self.fresh.front().is_some_and(Entry::redelivered);
        let mut piece = Piece::at(first, redelivered);
        for entry in &self.fresh {
            let one = Stretch {
                first: entry.seq(),
                count: 1,
                bytes: body_bytes(entry),
                part_bytes: entry.message.part_bytes(),
                priority: None,
            };
            let alike = entry.redelivered() == redelivered && pager.keeps(entry);
            if !alike || !piece.extend(&one) {
                break;
            }
        }
        piece
    }

    /// The number of the first one.
    fn first(&self) -> Option<u64> {
        let cold = self.cold.front().map(Cold::first);
        cold.or_else(|| self.fresh.front().map(Entry::seq))
    }

    /// Takes those that came back to places among the fresh, so that they can be paged out as well.
    /// What belongs between cold ones stays where it is.
    fn take_among(&mut self, back: &mut BTreeMap<u64, Entry>) {
        let behind = self.cold.back().map(Cold::end);
        let last = back.keys().next_back().copied();
        if let Some(from) = behind.or_else(|| self.first())
            && last.is_some_and(|last| last >= from)
        {
            merge(&mut self.fresh, back.split_off(&from));
        }
    }
}

/// Messages that one which comes back moves at most: 4 KiB.
const MOVED_MAX: usize = 256;

/// Tests count what is moved.
#[cfg(not(test))]
fn note_moved(_entries: usize) {}
#[cfg(test)]
use tests::note_moved;

#[cfg(test)]
mod tests;
