//! A queue's ready messages: one list, or one for each priority that occurs.
//!
//! The head of the queue is the head of the list with the highest priority; what expires or is
//! dropped goes from there, as in RabbitMQ.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Entry;
use super::backlog::{Backlog, Dropped, Keep, Pager};
use super::undelivered::Undelivered;
use crate::journal::Stretch;
use crate::message::MessageRef;

/// See the module.
#[derive(Default)]
pub(super) struct Ready {
    /// Messages that ask for no priority: all of them, in most queues.
    plain: Backlog,
    /// The priority that those have.
    base: u8,
    /// The rest, highest priority first; none of them is the base.
    lanes: Vec<(u8, Backlog)>,
    /// Messages whose delivery has failed, ready or not, and how often.
    pub(super) failures: HashMap<u64, u32, RandomState>,
    /// Dead letters that somebody has not taken yet.
    pub(super) undelivered: Option<Box<Undelivered>>,
}

/// Priorities that messages of a queue may have; the default is none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Levels {
    /// The highest, 0 if there are none. One above it is the highest.
    max: u8,
    /// What a message has that does not say.
    base: u8,
}

impl Levels {
    /// Those of RabbitMQ's quorum queues: 0 to 31, 4 without one.
    pub(super) const QUORUM: Self = Self { max: 31, base: 4 };

    /// Those of `x-max-priority`.
    pub(super) fn up_to(max: u8) -> Self {
        Self { max, base: 0 }
    }

    fn are_none(self) -> bool {
        self.max == 0
    }

    /// The one for a message that asks for this.
    fn of(self, asked: Option<u8>) -> u8 {
        asked.unwrap_or(self.base).min(self.max)
    }

    fn of_message(self, message: &MessageRef<'_>) -> u8 {
        self.of(message.head.origin.priority(message))
    }
}

impl Ready {
    /// Messages that a restart found, in order, and whether some of them may expire.
    pub(super) fn restored(stretches: &[Stretch], expires: bool, levels: Levels) -> Self {
        let mut ready = Self::default();
        for stretch in stretches {
            let lane = if levels.are_none() {
                &mut ready.plain
            } else {
                ready.lane(levels.of(stretch.priority), levels)
            };
            lane.restore(stretch, expires);
        }
        ready
    }

    /// The list of a priority.
    fn lane(&mut self, level: u8, levels: Levels) -> &mut Backlog {
        if level == levels.base {
            return &mut self.plain;
        }
        self.base = levels.base;
        let place = self.lanes.partition_point(|(held, _)| *held > level);
        if self.lanes.get(place).is_none_or(|(held, _)| *held != level) {
            self.lanes.insert(place, (level, Backlog::default()));
        }
        &mut self.lanes[place].1
    }

    /// The list at whose head the queue's is.
    #[inline]
    fn first(&mut self) -> &mut Backlog {
        if self.lanes.is_empty() {
            return &mut self.plain;
        }
        match self.first_lane() {
            Some(place) => &mut self.lanes[place].1,
            None => &mut self.plain,
        }
    }

    #[inline]
    fn first_list(&self) -> &Backlog {
        if self.lanes.is_empty() {
            return &self.plain;
        }
        match self.first_lane() {
            Some(place) => &self.lanes[place].1,
            None => &self.plain,
        }
    }

    /// Which lane is the first with a message; `None` if the plain list is.
    fn first_lane(&self) -> Option<usize> {
        let place = self.lanes.iter().position(|(_, lane)| lane.len() > 0)?;
        let before = self.lanes[place].0 > self.base || self.plain.len() == 0;
        before.then_some(place)
    }

    fn each(&self) -> impl Iterator<Item = &Backlog> {
        self.lanes
            .iter()
            .map(|(_, lane)| lane)
            .chain(std::iter::once(&self.plain))
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut Backlog> {
        self.lanes
            .iter_mut()
            .map(|(_, lane)| lane)
            .chain(std::iter::once(&mut self.plain))
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        let lanes = self.lanes.iter().map(|(_, lane)| lane.len());
        self.plain.len() + lanes.sum::<usize>()
    }

    /// Bytes of all bodies.
    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        let lanes = self.lanes.iter().map(|(_, lane)| lane.bytes());
        self.plain.bytes() + lanes.sum::<u64>()
    }

    /// Messages on disk only.
    pub(super) fn paged(&self) -> usize {
        self.each().map(Backlog::paged).sum()
    }

    /// Messages in memory.
    pub(super) fn held(&self) -> impl Iterator<Item = &Entry> {
        self.each().flat_map(Backlog::held)
    }

    /// The first message, if it is in memory.
    #[inline]
    pub(super) fn head(&self) -> Option<&Entry> {
        self.first_list().head()
    }

    /// Whether the first message is on disk, and may have a time to live of its own.
    #[inline]
    pub(super) fn may_expire_on_disk(&self) -> bool {
        self.first_list().may_expire_on_disk()
    }

    /// Brings the first message into memory, if it is not there.
    pub(super) fn bring_head(&mut self, levels: Levels, pager: &dyn Pager, lost: &mut u64) {
        if self.head().is_none()
            && let Some(entry) = self.pop_front(pager, lost)
        {
            self.push_front(entry, levels);
        }
    }

    #[inline]
    pub(super) fn push_back(&mut self, entry: Entry, levels: Levels, pager: &dyn Pager) {
        if levels.are_none() {
            self.plain.push_back(entry);
            return self.plain.look(pager);
        }
        let level = levels.of_message(&entry.message.view());
        let lane = self.lane(level, levels);
        lane.push_back(entry);
        lane.look(pager);
    }

    /// Puts one back that was taken from the front.
    #[inline]
    pub(super) fn push_front(&mut self, entry: Entry, levels: Levels) {
        if levels.are_none() {
            return self.plain.push_front(entry);
        }
        let level = levels.of_message(&entry.message.view());
        self.lane(level, levels).push_front(entry);
    }

    /// Takes the first; reads it back if it must. `lost` counts what could not be read.
    pub(super) fn pop_front(&mut self, pager: &dyn Pager, lost: &mut u64) -> Option<Entry> {
        loop {
            let first = self.first();
            if first.len() == 0 {
                return None;
            }
            // Nothing of a list may be left that can be read: the next one's turn.
            if let Some(entry) = first.pop_front(pager, lost) {
                return Some(entry);
            }
        }
    }

    /// Takes the last of the list at whose head the queue's is, as [`Self::pop_front`].
    pub(super) fn pop_back(&mut self, pager: &dyn Pager, lost: &mut u64) -> Option<Entry> {
        loop {
            let first = self.first();
            if first.len() == 0 {
                return None;
            }
            if let Some(entry) = first.pop_back(pager, lost) {
                return Some(entry);
            }
        }
    }

    /// Drops the first without reading it.
    pub(super) fn drop_front(&mut self, pager: &dyn Pager) -> Option<Dropped> {
        self.first().drop_front(pager)
    }

    /// A message that is gone is not counted any more.
    #[inline]
    pub(super) fn forget_failures(&mut self, seq: u64) {
        if !self.failures.is_empty() {
            self.failures.remove(&seq);
        }
    }

    /// Empties it; gives the numbers of those that the journal has.
    pub(super) fn clear(&mut self, pager: &dyn Pager) -> Vec<u64> {
        let mut all = std::mem::take(self);
        // Those that are out for acknowledgement are not cleared.
        self.failures = std::mem::take(&mut all.failures);
        self.undelivered = std::mem::take(&mut all.undelivered);
        if !self.failures.is_empty() {
            let held = all.held().map(Entry::seq);
            held.for_each(|seq| self.forget_failures(seq));
        }
        let kept: Vec<u64> = all.each_mut().flat_map(|lane| lane.clear(pager)).collect();
        kept.iter().for_each(|seq| self.forget_failures(*seq));
        kept
    }

    /// Puts messages back where they were, sorted by number.
    pub(super) fn put_back(&mut self, entries: Vec<Entry>, levels: Levels) {
        if levels.are_none() {
            return self.plain.put_back(entries);
        }
        let mut lanes: Vec<(u8, Vec<Entry>)> = Vec::new();
        for entry in entries {
            let level = levels.of_message(&entry.message.view());
            match lanes.iter_mut().find(|(held, _)| *held == level) {
                Some((_, lane)) => lane.push(entry),
                None => lanes.push((level, vec![entry])),
            }
        }
        for (level, entries) in lanes {
            self.lane(level, levels).put_back(entries);
        }
    }

    /// Pages out some of what can be; says how many messages it has passed.
    pub(super) fn page_out(&mut self, pager: &dyn Pager, keep: Keep) -> usize {
        self.each_mut().map(|lane| lane.page_out(pager, keep)).sum()
    }
}
