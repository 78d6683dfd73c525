//! A stream's messages by their offsets: the newest in memory, shared by all who read them, the
//! rest in the journal.
//!
//! ```text
//! first ── in the journal ── tail, in memory ── committed ── not on disk yet ── next
//! ```
//! Never drops a message from memory that the journal cannot give back.

use std::collections::VecDeque;

use super::super::backlog::Pager;
use super::segments::{Retention, Segments};
use crate::journal::Stretch;
use crate::limits::STREAM_TAIL_BYTES;
use crate::message::Message;
use crate::time::Time;

/// See the module.
#[derive(Default)]
pub(super) struct Log {
    /// The offset of the oldest message that is kept.
    first: u64,
    /// What is below this is settled in the journal.
    settled: u64,
    /// The offset that the next message gets.
    next: u64,
    /// The newest messages.
    tail: VecDeque<Recent>,
    tail_bytes: u64,
    /// Bytes in memory from which on leaving the oldest to the journal is tried again.
    look_at: u64,
    segments: Segments,
}

/// A message in memory.
struct Recent {
    message: Message,
    /// The journal's number of its record: it is committed when the mark has reached that.
    number: u64,
}

/// What a message takes in the journal beside its parts, about.
const RECORD_BYTES: u64 = 40;

/// What a message takes in memory beside its parts, about.
const ENTRY_BYTES: u64 = 112;

/// Bytes that a message counts for retention: about those of its record in the journal.
pub(super) fn bytes(message: &Message) -> u64 {
    RECORD_BYTES + message.part_bytes()
}

impl Log {
    /// What a restart found.
    pub(super) fn restored(stretches: &[Stretch], segment_bytes: u64) -> Self {
        let mut log = Self::default();
        log.first = stretches.first().map_or(0, |first| first.first);
        log.settled = log.first;
        log.next = stretches.last().map_or(0, Stretch::end);
        for stretch in stretches {
            let count = u64::from(stretch.count);
            // One by one, each an equal share: segments are as long as if they had just come.
            let until = |place: u64| stretch.part_bytes * place / count;
            for place in 0..count {
                let bytes = RECORD_BYTES + until(place + 1) - until(place);
                let offset = stretch.first + place;
                log.segments.push(offset, bytes, None, segment_bytes);
            }
        }
        log
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many messages are kept.
    pub(super) fn len(&self) -> u64 {
        self.next - self.first
    }

    /// How many of them are in memory.
    pub(super) fn held(&self) -> usize {
        self.tail.len()
    }

    /// Their bytes, as retention counts them.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// The offset of the first message in memory; the next one's if there is none.
    pub(super) fn tail_first(&self) -> u64 {
        self.next - self.tail.len() as u64
    }

    /// A message that is in memory.
    pub(super) fn recent(&self, offset: u64) -> Option<&Message> {
        let place = usize::try_from(offset.checked_sub(self.tail_first())?).ok()?;
        self.tail.get(place).map(|recent| &recent.message)
    }

    /// One behind the last offset that is committed, with the journal's mark at `durable`.
    pub(super) fn committed(&self, durable: u64) -> u64 {
        // The newest is, wherever the journal is not behind.
        if self.tail.back().is_none_or(|last| last.number <= durable) {
            return self.next;
        }
        let place = self.tail.partition_point(|held| held.number <= durable);
        self.tail_first() + place as u64
    }

    /// The journal's number that the message with this offset waits for.
    pub(super) fn number(&self, offset: u64) -> Option<u64> {
        let place = usize::try_from(offset.checked_sub(self.tail_first())?).ok()?;
        self.tail.get(place).map(|recent| recent.number)
    }

    /// Takes the next message; says whether it began a segment.
    pub(super) fn push(&mut self, message: Message, number: u64, segment_bytes: u64) -> bool {
        let bytes = bytes(&message);
        let received = message.head().received;
        self.tail.push_back(Recent { message, number });
        self.tail_bytes += bytes + ENTRY_BYTES;
        let offset = self.next;
        self.next += 1;
        self.segments
            .push(offset, bytes, Some(received), segment_bytes)
    }

    /// Leaves the oldest in memory to the journal, if it is time.
    pub(super) fn look(&mut self, pager: &dyn Pager, durable: u64) {
        if self.tail_bytes >= self.look_at.max(2 * STREAM_TAIL_BYTES) {
            self.leave(pager, durable, STREAM_TAIL_BYTES);
            self.look_at = self.tail_bytes + STREAM_TAIL_BYTES / 4;
        }
    }

    /// Leaves the oldest in memory to the journal, as far as that has them and they are committed,
    /// until so many bytes remain; says how many messages that were.
    pub(super) fn leave(&mut self, pager: &dyn Pager, durable: u64, keep: u64) -> usize {
        let before = self.tail.len();
        while self.tail_bytes > keep && !self.tail.is_empty() {
            let mut stretch = Stretch {
                first: self.tail_first(),
                count: 0,
                bytes: 0,
                part_bytes: 0,
                priority: None,
            };
            for recent in self.tail.iter().take(Stretch::COUNT_MAX as usize) {
                if self.tail_bytes - stretch.bytes <= keep || recent.number > durable {
                    break;
                }
                stretch.count += 1;
                stretch.bytes += bytes(&recent.message) + ENTRY_BYTES;
            }
            if stretch.count == 0 || !pager.has(stretch.first..stretch.end()) {
                break;
            }
            self.tail.drain(..stretch.count as usize);
            self.tail_bytes -= stretch.bytes;
        }
        if self.tail.len() < self.tail.capacity() / 4 {
            self.tail.shrink_to(self.tail.len() * 2);
        }
        before - self.tail.len()
    }

    /// Gives up what is not to be kept any more.
    pub(super) fn retain(
        &mut self,
        keep: Retention,
        now: Time,
        received: impl Fn(u64) -> Option<Time>,
    ) {
        let Some(first) = self.segments.retain(keep, now, received) else {
            return;
        };
        self.first = first;
        while self.tail_first() < first
            && let Some(gone) = self.tail.pop_front()
        {
            self.tail_bytes -= bytes(&gone.message) + ENTRY_BYTES;
        }
    }

    /// Offsets that were given up and that the journal was not told of, a few at once.
    pub(super) fn sweep(&mut self, most: u64) -> std::ops::Range<u64> {
        let from = self.settled;
        self.settled = self.first.min(from + most);
        from..self.settled
    }

    /// Whether more are to be swept.
    pub(super) fn is_swept(&self) -> bool {
        self.settled == self.first
    }

    /// The first message in memory that came at this time or later, unless it may be one before
    /// those in memory.
    pub(super) fn seek(&self, at: Time) -> Option<u64> {
        let received = |recent: &Recent| recent.message.head().received;
        let is_older = |recent: &Recent| received(recent) < at;
        let known = self.first == self.tail_first() || self.tail.front().is_some_and(is_older);
        known.then(|| self.tail_first() + self.tail.partition_point(is_older) as u64)
    }
}
