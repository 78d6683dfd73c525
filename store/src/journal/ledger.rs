//! Which messages of which segment are still wanted.
//!
//! For each queue a list of runs: messages that were taken one after the other and lie in one
//! segment, with a bit for each that is settled. Runs of one queue never overlap, so that a message
//! is found by its number. Owns no file; must never be wrong in the direction of too few.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    /// Queues that have a message.
    queues: HashMap<u64, Vec<Run>, RandomState>,
    segments: HashMap<u64, Count, RandomState>,
}

/// Messages of a queue in one segment, from `first` on.
struct Run {
    first: u64,
    /// One behind the last.
    end: u64,
    segment: u64,
    live: u64,
    /// A bit for each from `first` on that is settled or was never here; none is set beyond it.
    gone: Vec<u64>,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Count {
    /// Messages that are still wanted.
    pub(super) live: u64,
    /// Messages that were ever written to it.
    pub(super) taken: u64,
}

impl Run {
    fn new(seq: u64, segment: u64) -> Self {
        Self {
            first: seq,
            end: seq + 1,
            segment,
            live: 1,
            gone: Vec::new(),
        }
    }

    fn place(&self, seq: u64) -> (usize, u64) {
        let place = seq - self.first;
        ((place / 64) as usize, 1 << (place % 64))
    }

    fn is_live(&self, seq: u64) -> bool {
        let (word, bit) = self.place(seq);
        (self.first..self.end).contains(&seq)
            && self.gone.get(word).is_none_or(|gone| gone & bit == 0)
    }

    /// `true` if it was live until now.
    fn settle(&mut self, seq: u64) -> bool {
        if !self.is_live(seq) {
            return false;
        }
        let (word, bit) = self.place(seq);
        if self.gone.len() <= word {
            self.gone.resize(word + 1, 0);
        }
        self.gone[word] |= bit;
        self.live -= 1;
        true
    }

    /// Takes one behind its end, with a gap of messages that are not here.
    fn extend(&mut self, seq: u64) {
        for missing in self.end..seq {
            let (word, bit) = self.place(missing);
            if self.gone.len() <= word {
                self.gone.resize(word + 1, 0);
            }
            self.gone[word] |= bit;
        }
        self.end = seq + 1;
        self.live += 1;
    }
}

/// A gap up to this belongs to a run; a longer one begins another.
const GAP_MAX: u64 = 256;

/// Adds a message behind all others of the queue.
fn push(runs: &mut Vec<Run>, seq: u64, segment: u64) {
    match runs.last_mut() {
        Some(run) if run.segment == segment && seq >= run.end && seq - run.end <= GAP_MAX => {
            run.extend(seq);
        }
        _ => runs.push(Run::new(seq, segment)),
    }
}

impl Ledger {
    /// A queue has taken a message that lies in this segment: behind all that it took before.
    pub(super) fn publish(&mut self, queue: u64, seq: u64, segment: u64) {
        let count = self.segments.entry(segment).or_default();
        count.live += 1;
        count.taken += 1;
        let runs = self.queues.entry(queue).or_default();
        push(runs, seq, segment);
    }

    /// So many messages were written to the segment, wanted or not.
    pub(super) fn remember_taken(&mut self, segment: u64, taken: u64) {
        let count = self.segments.entry(segment).or_default();
        count.taken = count.taken.max(taken);
    }

    fn find(runs: &[Run], seq: u64) -> Option<usize> {
        let behind = runs.partition_point(|run| run.first <= seq);
        behind.checked_sub(1)
    }

    /// A message is not wanted any more; `true` if it was until now.
    pub(super) fn settle(&mut self, queue: u64, seq: u64) -> bool {
        let Some(runs) = self.queues.get_mut(&queue) else {
            return false;
        };
        let Some(place) = Self::find(runs, seq) else {
            return false;
        };
        let run = &mut runs[place];
        if !run.settle(seq) {
            return false;
        }
        let (segment, empty) = (run.segment, run.live == 0);
        if empty {
            runs.remove(place);
            if runs.is_empty() {
                self.queues.remove(&queue);
            }
        }
        self.release(segment, 1);
        true
    }

    /// A queue is gone with all its messages; `true` if it had any.
    pub(super) fn forget(&mut self, queue: u64) -> bool {
        let Some(runs) = self.queues.remove(&queue) else {
            return false;
        };
        for run in runs {
            self.release(run.segment, run.live);
        }
        true
    }

    fn release(&mut self, segment: u64, messages: u64) {
        if let Some(count) = self.segments.get_mut(&segment) {
            count.live -= messages;
        }
    }

    /// Whether a message is wanted and lies in this segment.
    pub(super) fn is_live(&self, queue: u64, seq: u64, segment: u64) -> bool {
        let Some(runs) = self.queues.get(&queue) else {
            return false;
        };
        Self::find(runs, seq)
            .map(|place| &runs[place])
            .is_some_and(|run| run.segment == segment && run.is_live(seq))
    }

    /// Messages of a queue that are wanted have been copied to another segment: `seqs` in order,
    /// all that are live of those in the same segment between the first and the last of them.
    pub(super) fn moved(&mut self, queue: u64, mut seqs: &[u64], to: u64) {
        while let Some(&first) = seqs.first() {
            let Some(runs) = self.queues.get_mut(&queue) else {
                return;
            };
            let Some(place) = Self::find(runs, first) else {
                return;
            };
            let old = runs.remove(place);
            let of_this = seqs.partition_point(|seq| *seq < old.end).max(1);
            let (moved, rest) = seqs.split_at(of_this);
            let last = moved[moved.len() - 1];
            let mut fresh = Vec::new();
            moved.iter().for_each(|seq| push(&mut fresh, *seq, to));
            let behind = (last + 1..old.end).filter(|seq| old.is_live(*seq));
            behind.for_each(|seq| push(&mut fresh, seq, old.segment));
            runs.splice(place..place, fresh);
            let count = moved.len() as u64;
            self.release(old.segment, count);
            let target = self.segments.entry(to).or_default();
            target.live += count;
            target.taken += count;
            seqs = rest;
        }
    }

    pub(super) fn count(&self, segment: u64) -> Count {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    /// The segment is no more; nothing in it was wanted.
    pub(super) fn drop_segment(&mut self, segment: u64) {
        self.segments.remove(&segment);
    }
}
