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
use crate::properties::BasicProperties;

/// See the module.
#[derive(Default)]
pub(super) struct Ready {
    /// Messages without a priority: all of them, in most queues.
    plain: Backlog,
    /// The rest, highest priority first; none of them is 0.
    lanes: Vec<(u8, Backlog)>,
    /// Messages whose delivery has failed, ready or not, and how often.
    pub(super) failures: HashMap<u64, u32, RandomState>,
    /// Dead letters that somebody has not taken yet.
    pub(super) undelivered: Option<Box<Undelivered>>,
}

/// Priorities that messages of a queue may have: its `x-max-priority`, 0 for none.
pub(super) type MaxPriority = u8;

/// The priority of a message in a queue that has some.
fn priority(message: &MessageRef<'_>, max: MaxPriority) -> u8 {
    let mut raw = Vec::new();
    message
        .head
        .origin
        .append_basic_properties(message, &mut raw);
    let parsed = BasicProperties::parse(&raw).ok();
    let priority = parsed.and_then(|properties| properties.priority);
    priority.unwrap_or_default().min(max)
}

impl Ready {
    /// Messages that a restart found, in order, and whether some may expire. Where there are
    /// priorities, each is read for its own.
    pub(super) fn restored(
        stretches: Vec<Stretch>,
        expires: bool,
        max: MaxPriority,
        pager: &dyn Pager,
    ) -> Self {
        let mut ready = Self::default();
        if max == 0 {
            ready.plain = Backlog::restored(stretches, expires);
            return ready;
        }
        let mut found: Vec<(u8, Vec<Stretch>)> = Vec::new();
        for stretch in &stretches {
            for (seq, message) in pager.fetch(stretch) {
                let message = message.view();
                let bytes = message.payload.len() as u64;
                let level = priority(&message, max);
                let lane = match found.iter_mut().find(|(held, _)| *held == level) {
                    Some((_, lane)) => lane,
                    None => {
                        found.push((level, Vec::new()));
                        let last = found.len() - 1;
                        &mut found[last].1
                    }
                };
                match lane.last_mut().filter(|last| last.takes(seq, bytes)) {
                    Some(last) => {
                        last.count += 1;
                        last.bytes += bytes;
                    }
                    None => lane.push(Stretch {
                        first: seq,
                        count: 1,
                        bytes,
                    }),
                }
            }
        }
        for (level, lane) in found {
            *ready.lane(level) = Backlog::restored(lane, expires);
        }
        ready
    }

    /// The list of a priority.
    fn lane(&mut self, level: u8) -> &mut Backlog {
        if level == 0 {
            return &mut self.plain;
        }
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
        let place = self.lanes.iter().position(|(_, lane)| lane.len() > 0);
        match place {
            Some(place) => &mut self.lanes[place].1,
            None => &mut self.plain,
        }
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

    /// Bytes of all bodies; of those that a restart found, with their properties.
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
        if self.lanes.is_empty() {
            return self.plain.head();
        }
        self.each()
            .find(|lane| lane.len() > 0)
            .and_then(Backlog::head)
    }

    /// Whether the first message is on disk, and may have a time to live of its own.
    #[inline]
    pub(super) fn may_expire_on_disk(&self) -> bool {
        let mut lanes = self.each().filter(|lane| lane.len() > 0);
        lanes.next().is_some_and(Backlog::may_expire_on_disk)
    }

    /// Brings the first message into memory, if it is not there.
    pub(super) fn bring_head(&mut self, max: MaxPriority, pager: &dyn Pager, lost: &mut u64) {
        if self.head().is_none()
            && let Some(entry) = self.pop_front(pager, lost)
        {
            self.push_front(entry, max);
        }
    }

    #[inline]
    pub(super) fn push_back(&mut self, entry: Entry, max: MaxPriority, pager: &dyn Pager) {
        if max == 0 {
            self.plain.push_back(entry);
            return self.plain.look(pager);
        }
        let level = priority(&entry.message.view(), max);
        let lane = self.lane(level);
        lane.push_back(entry);
        lane.look(pager);
    }

    /// Puts one back that was taken from the front.
    #[inline]
    pub(super) fn push_front(&mut self, entry: Entry, max: MaxPriority) {
        if max == 0 {
            return self.plain.push_front(entry);
        }
        let level = priority(&entry.message.view(), max);
        self.lane(level).push_front(entry);
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
    pub(super) fn put_back(&mut self, entries: Vec<Entry>, max: MaxPriority) {
        if max == 0 {
            return self.plain.put_back(entries);
        }
        let mut lanes: Vec<(u8, Vec<Entry>)> = Vec::new();
        for entry in entries {
            let level = priority(&entry.message.view(), max);
            match lanes.iter_mut().find(|(held, _)| *held == level) {
                Some((_, lane)) => lane.push(entry),
                None => lanes.push((level, vec![entry])),
            }
        }
        for (level, entries) in lanes {
            self.lane(level).put_back(entries);
        }
    }

    /// Pages out some of what can be; says how many messages.
    pub(super) fn page_out(&mut self, pager: &dyn Pager, keep: Keep) -> usize {
        self.each_mut().map(|lane| lane.page_out(pager, keep)).sum()
    }
}
