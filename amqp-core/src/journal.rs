//! The door to the journal of messages. A persistent message in a journaled queue is acknowledged
//! to its publisher when the journal's watermark has passed the number of its record, and never
//! before.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::dead_letter::{Death, Held};
use crate::ledger::Ledger;
use crate::limits::LEAD_BYTES_MAX;
use crate::message::{Message, MessageRef};
use crate::queue::SessionCaps;
use crate::timers::Timers;
use crate::vhost::VHost;
use crate::watermark::Watermark;

/// Where a message is in its queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// The queue's number, which survives a restart.
    pub queue: u64,
    /// The message's number in it.
    pub seq: u64,
    /// The definitions' number that must be durable first: the queue's own.
    pub after: u64,
    /// When it is to be on disk.
    pub durability: Durability,
}

/// What an acknowledgement of a persistent message in a durable queue means.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The disk has it: no crash and no power cut loses it.
    #[default]
    Group,
    /// The operating system has it, and the disk some time later: a crash of the process loses
    /// nothing, a power cut what came in that time.
    Interval,
    /// The operating system has it: what a power cut loses, that decides.
    None,
}

/// Messages of a queue with numbers that follow each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stretch {
    /// The number of the first.
    pub first: u64,
    /// How many there are; at most [`Self::COUNT_MAX`].
    pub count: u32,
    /// Bytes of all their bodies: what queues count.
    pub bytes: u64,
    /// Bytes of all their parts: exchanges, routing keys and properties beside the bodies. What
    /// streams count, and about what it takes to read them.
    pub part_bytes: u64,
    /// The priority that all of them ask for; only of those that a restart found.
    pub priority: Option<u8>,
}

impl Stretch {
    /// Messages of one stretch at most: they are read at once.
    pub const COUNT_MAX: u32 = 512;
    /// Bytes of all parts of a stretch that is longer than one message.
    pub const BYTES_MAX: u64 = 256 * 1_024;

    /// One behind the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// Where a message lies in the journal, for the records of other queues that take it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Body {
    /// The file's number.
    pub segment: u64,
    /// Where its record begins.
    pub offset: u32,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Appended {
    /// It is durable when the watermark has reached this; 0 is at once.
    pub number: u64,
    /// Where the message lies.
    pub body: Option<Body>,
}

/// What is told of a journal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Condition {
    /// Messages in it that are wanted: those of queues, and what vhosts remember.
    pub messages: u64,
    /// Bytes that its files hold, wanted or not.
    pub bytes: u64,
    /// Its files.
    pub files: usize,
    /// Why nothing is written at the moment, or never will be again.
    pub stuck: Option<String>,
}

/// Keeps messages in order. Implementors: [`MemoryJournal`], and the store's journal on disk.
///
/// Called with a queue's lock held: none of these blocks on the disk. After a fault the watermark
/// stops, and numbers are given that it never reaches.
pub trait Journal: Send + Sync {
    /// A queue has taken a message. `body` is what the same message came to for another queue.
    fn publish(&self, slot: Slot, message: &MessageRef<'_>, body: Option<Body>) -> Appended;

    /// A queue has given up a message that it has taken, and waits for others to take it: a restart
    /// is told in [`Self::given_up`]. Says whether the message can be fetched, now or soon.
    fn give_up(&self, _slot: Slot, _message: &MessageRef<'_>, _why: Death) -> bool {
        false
    }

    /// Messages of a queue are not wanted any more. One that is not known is no error. `surely`:
    /// somebody waits for it to be on disk; else a power cut may bring them back. Returns the
    /// number to wait for.
    fn settle(&self, queue: u64, seqs: &[u64], surely: Option<Durability>) -> u64;

    /// A queue is gone with all its messages.
    fn forget(&self, queue: u64);

    /// How far records are durable.
    fn watermark(&self) -> &Arc<Watermark>;

    /// How far the operating system has them; it is never behind the other.
    fn written(&self) -> &Arc<Watermark>;

    /// The highest number of a queue that was ever recorded and may still be.
    fn last_queue(&self) -> u64;

    /// The messages of a queue that were there when the journal was opened, in order; once.
    fn recovered(&self, queue: u64) -> Vec<Stretch>;

    /// Whether one of those may have a time to live of its own.
    fn may_expire(&self, _queue: u64) -> bool {
        true
    }

    /// Those of them that were given up, in order; once.
    fn given_up(&self, _queue: u64) -> Vec<(u64, Death)> {
        Vec::new()
    }

    /// Whether all messages of a stretch are wanted and can be fetched.
    fn has(&self, queue: u64, seqs: Range<u64>) -> bool;

    /// Reads messages of a queue back, in order. Those that are not wanted any more are left out,
    /// and those that cannot be read, after a log line. Blocks on the disk.
    fn fetch(&self, queue: u64, seqs: Range<u64>) -> Vec<(u64, Message)>;

    /// The same for some numbers, in order.
    fn fetch_these(&self, queue: u64, seqs: &[u64]) -> Vec<(u64, Message)> {
        let follow = |one: &u64, next: &u64| *next == one + 1;
        let runs = seqs.chunk_by(follow);
        runs.flat_map(|run| self.fetch(queue, run[0]..run[run.len() - 1] + 1))
            .collect()
    }

    /// The same from the first on, until the messages have so many bytes; at least one is read.
    /// Also says up to which number it has looked.
    fn fetch_some(
        &self,
        queue: u64,
        seqs: Range<u64>,
        _bytes_max: u64,
    ) -> (Vec<(u64, Message)>, u64) {
        let end = seqs.end;
        (self.fetch(queue, seqs), end)
    }

    /// How it is, for people and alarms.
    fn condition(&self) -> Condition {
        Condition::default()
    }

    /// All queues are there again: messages that nobody asked for are forgotten.
    fn settled_in(&self);
}

/// How far a publisher is ahead of the disk; a number of the journal counts bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lead {
    last: u64,
    awaited: u64,
}

impl Lead {
    /// The publisher has caused this record.
    pub fn note(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// Nothing more may be read from it: [`LEAD_BYTES_MAX`].
    #[must_use]
    pub fn is_too_long(&self, durable: u64) -> bool {
        self.last.saturating_sub(durable) > LEAD_BYTES_MAX
    }

    /// The number at which the publisher is to be woken, if it waits and was not told yet.
    pub fn next_wait(&mut self, durable: u64) -> Option<u64> {
        if !self.is_too_long(durable) || self.awaited > durable {
            return None;
        }
        self.awaited = self.last - LEAD_BYTES_MAX / 2;
        Some(self.awaited)
    }
}

/// What a queue has of the world: one pointer, shared by all queues of a vhost.
pub(crate) struct Door {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) durability: Durability,
    /// Where a queue says when it is to be looked at.
    pub(crate) timers: Arc<Timers>,
    /// Where dead letters find their exchange.
    pub(crate) vhost: Weak<VHost>,
    /// Where they wait until there is time.
    pub(crate) letters: Held,
    /// What queues of sessions hold.
    pub(crate) caps: SessionCaps,
    /// What is dropped is counted here as well.
    pub(crate) ledger: Ledger,
}

impl Door {
    /// The mark that acknowledgements of what is written to the journal wait for.
    pub(crate) fn mark(&self) -> &Arc<Watermark> {
        match self.durability {
            Durability::Group => self.journal.watermark(),
            Durability::Interval | Durability::None => self.journal.written(),
        }
    }
}

/// A journal for a broker whose messages live as long as its process: everything is as durable as
/// it will ever be, so that every number is 0 and acknowledgements leave in the same turn.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    watermark: Arc<Watermark>,
}

impl Journal for MemoryJournal {
    fn publish(&self, _: Slot, _: &MessageRef<'_>, _: Option<Body>) -> Appended {
        Appended::default()
    }

    fn settle(&self, _queue: u64, _seqs: &[u64], _surely: Option<Durability>) -> u64 {
        0
    }

    fn forget(&self, _queue: u64) {}

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn written(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn last_queue(&self) -> u64 {
        0
    }

    fn recovered(&self, _queue: u64) -> Vec<Stretch> {
        Vec::new()
    }

    fn has(&self, _queue: u64, _seqs: Range<u64>) -> bool {
        false
    }

    fn fetch(&self, _queue: u64, _seqs: Range<u64>) -> Vec<(u64, Message)> {
        Vec::new()
    }

    fn settled_in(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_far_ahead_waits_for_half_of_it() {
        let mut lead = Lead::default();
        lead.note(LEAD_BYTES_MAX + 10);
        assert!(lead.is_too_long(0) && lead.is_too_long(9) && !lead.is_too_long(10));
        let half = LEAD_BYTES_MAX / 2 + 10;
        assert_eq!(lead.next_wait(0), Some(half));
        assert_eq!(lead.next_wait(9), None, "it was told");
        assert_eq!(lead.next_wait(10), None, "it need not wait");
        lead.note(3 * LEAD_BYTES_MAX);
        lead.note(5);
        assert_eq!(lead.next_wait(half), Some(5 * LEAD_BYTES_MAX / 2));
    }
}
