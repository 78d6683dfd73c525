//! Where each message that is still wanted lies: the journal's index, in memory.
//!
//! For each queue a list of runs: messages that were taken one after the other and lie in one
//! segment, with the place of each. Runs of one queue never overlap, so that a message is found by
//! its number. Owns no file; must never be wrong in the direction of too few.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use foldhash::fast::RandomState;
use leveret_core::journal::Stretch;

use super::tail::Place;

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    /// Queues that have a message.
    queues: HashMap<u64, Runs, RandomState>,
    segments: HashMap<u64, Count, RandomState>,
    /// Bytes of all records that are wanted.
    bytes: u64,
}

/// A queue's runs. Most queues have one.
struct Runs {
    /// The one behind all others.
    open: Run,
    /// By their first message.
    older: BTreeMap<u64, Run>,
}

/// Messages of a queue in one segment, from `first` on.
struct Run {
    first: u64,
    segment: u64,
    live: u32,
    /// Bytes of the records that are.
    bytes: u64,
    spots: Vec<Spot>,
    /// Of each of them how long the message's body is: from the restart that found them until
    /// their queue has asked.
    sizes: Option<Box<Sizes>>,
}

/// Lengths of bodies. Behind a pointer: most runs have none.
struct Sizes(Vec<u32>);

/// A record's place, and how long the message's body is, while that is known.
type Sized = (Place, Option<u32>);

/// Where a record lies in its segment. One that is settled, or was never here, has no bytes.
#[derive(Clone, Copy)]
struct Spot {
    offset: u32,
    bytes: u32,
}

const GONE: Spot = Spot {
    offset: 0,
    bytes: 0,
};

/// What is wanted in a segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Count {
    /// Messages.
    pub(super) live: u64,
    /// Bytes of their records.
    pub(super) bytes: u64,
}

/// Messages of one run at most, wanted or not.
const RUN_MAX: usize = 1_024;

/// A run from this length on is made anew when little of it is left.
const SPARSE_FROM: usize = 256;

/// A gap up to this belongs to a run; a longer one begins another.
const GAP_MAX: u64 = 64;

impl Run {
    fn new(seq: u64, (place, size): Sized) -> Self {
        Self {
            first: seq,
            segment: place.segment,
            live: 1,
            bytes: place.bytes.into(),
            spots: vec![spot(place)],
            sizes: size.map(|size| Box::new(Sizes(vec![size]))),
        }
    }

    /// One behind the last.
    fn end(&self) -> u64 {
        self.first + self.spots.len() as u64
    }

    fn find(&self, seq: u64) -> Option<Place> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let spot = self.spots.get(index).filter(|spot| spot.bytes > 0)?;
        Some(Place {
            segment: self.segment,
            offset: spot.offset,
            bytes: spot.bytes,
        })
    }

    /// Takes a message behind its end, if it belongs there.
    fn extend(&mut self, seq: u64, (place, size): Sized) -> bool {
        let end = self.end();
        let fits = place.segment == self.segment
            && seq >= end
            && seq - end <= GAP_MAX
            && self.spots.len() + ((seq - end) as usize) < RUN_MAX;
        if fits {
            let gap = self.spots.len() + (seq - end) as usize;
            self.spots.resize(gap, GONE);
            self.spots.push(spot(place));
            if let Some(Sizes(sizes)) = self.sizes.as_deref_mut() {
                sizes.resize(gap, 0);
                sizes.push(size.unwrap_or(place.bytes));
            }
            self.live += 1;
            self.bytes += u64::from(place.bytes);
        }
        fits
    }

    fn live(&self) -> impl Iterator<Item = (u64, Sized)> {
        let size = |seq: u64| {
            let Sizes(sizes) = self.sizes.as_deref()?;
            sizes.get((seq - self.first) as usize).copied()
        };
        (self.first..self.end()).filter_map(move |seq| Some((seq, (self.find(seq)?, size(seq)))))
    }
}

fn spot(place: Place) -> Spot {
    Spot {
        offset: place.offset,
        bytes: place.bytes,
    }
}

impl Runs {
    /// The run that a message would be in.
    fn covering(&self, seq: u64) -> Option<&Run> {
        if seq >= self.open.first {
            return Some(&self.open);
        }
        self.older.range(..=seq).next_back().map(|(_, run)| run)
    }

    fn covering_mut(&mut self, seq: u64) -> Option<&mut Run> {
        if seq >= self.open.first {
            return Some(&mut self.open);
        }
        self.older.range_mut(..=seq).next_back().map(|(_, run)| run)
    }

    fn push(&mut self, seq: u64, place: Sized) {
        if !self.open.extend(seq, place) {
            let full = std::mem::replace(&mut self.open, Run::new(seq, place));
            if full.live > 0 {
                self.older.insert(full.first, full);
            }
        }
    }

    /// All runs, in order.
    fn all(&self) -> impl Iterator<Item = &Run> {
        self.older.values().chain([&self.open])
    }

    fn is_empty(&self) -> bool {
        self.older.is_empty() && self.open.live == 0
    }

    /// Takes the run out that a message would be in, to put others in its place.
    fn take(&mut self, seq: u64) -> Option<Run> {
        if seq < self.open.first {
            let first = *self.older.range(..=seq).next_back()?.0;
            return self.older.remove(&first);
        }
        let rest = Run {
            first: self.open.end(),
            segment: self.open.segment,
            live: 0,
            bytes: 0,
            spots: Vec::new(),
            sizes: None,
        };
        Some(std::mem::replace(&mut self.open, rest))
    }

    /// Puts messages in order where they belong; nothing else is there.
    fn put(&mut self, messages: impl Iterator<Item = (u64, Sized)>) {
        let mut run: Option<Run> = None;
        for (seq, place) in messages {
            let extended = run.as_mut().is_some_and(|run| run.extend(seq, place));
            if !extended {
                let full = run.replace(Run::new(seq, place));
                self.older.extend(full.map(|full| (full.first, full)));
            }
        }
        let Some(last) = run else { return };
        if self.open.live == 0 && last.end() >= self.open.end() {
            self.open = last;
        } else {
            self.older.insert(last.first, last);
        }
    }
}

impl Ledger {
    /// A queue has taken a message. One that it has already is in another place now.
    pub(super) fn publish(&mut self, queue: u64, seq: u64, place: Place) {
        self.take(queue, seq, (place, None));
    }

    /// The same as a restart finds it: how long the message's body is, is kept until the queue asks.
    pub(super) fn restore(&mut self, queue: u64, seq: u64, place: Place, size: u32) {
        self.take(queue, seq, (place, Some(size)));
    }

    fn take(&mut self, queue: u64, seq: u64, place: Sized) {
        self.count_in(place.0);
        let Some(runs) = self.queues.get_mut(&queue) else {
            let runs = Runs {
                open: Run::new(seq, place),
                older: BTreeMap::new(),
            };
            self.queues.insert(queue, runs);
            return;
        };
        if seq >= runs.open.end() {
            runs.push(seq, place);
        } else {
            self.insert(queue, seq, place);
        }
    }

    /// A message before the last of its queue.
    fn insert(&mut self, queue: u64, seq: u64, place: Sized) {
        let Some(runs) = self.queues.get_mut(&queue) else {
            return;
        };
        let before = runs.covering_mut(seq);
        if before.as_ref().is_none_or(|run| seq >= run.end()) {
            let extended = before.is_some_and(|run| run.extend(seq, place));
            if !extended {
                runs.older.insert(seq, Run::new(seq, place));
            }
            return;
        }
        let Some(old) = runs.take(seq) else {
            return;
        };
        let before = old.find(seq);
        let mut fresh: Vec<(u64, Sized)> = old.live().filter(|(held, _)| *held != seq).collect();
        let at = fresh.partition_point(|(held, _)| *held < seq);
        fresh.insert(at, (seq, place));
        runs.put(fresh.into_iter());
        if let Some(before) = before {
            self.count_out(before.segment, 1, before.bytes.into());
        }
    }

    fn count_in(&mut self, place: Place) {
        let count = self.segments.entry(place.segment).or_default();
        count.live += 1;
        count.bytes += u64::from(place.bytes);
        self.bytes += u64::from(place.bytes);
    }

    fn count_out(&mut self, segment: u64, messages: u64, bytes: u64) {
        if let Some(count) = self.segments.get_mut(&segment) {
            count.live -= messages;
            count.bytes -= bytes;
            self.bytes -= bytes;
        }
    }

    /// A message is not wanted any more; `true` if it was until now.
    pub(super) fn settle(&mut self, queue: u64, seq: u64) -> bool {
        let Some(runs) = self.queues.get_mut(&queue) else {
            return false;
        };
        let Some(run) = runs.covering_mut(seq) else {
            return false;
        };
        let Some(place) = run.find(seq) else {
            return false;
        };
        let index = (seq - run.first) as usize;
        run.spots[index] = GONE;
        run.live -= 1;
        run.bytes -= u64::from(place.bytes);
        let sparse = run.spots.len() >= SPARSE_FROM && run.live as usize * 16 < run.spots.len();
        if run.live == 0 {
            let first = run.first;
            if first < runs.open.first {
                runs.older.remove(&first);
            }
            if runs.is_empty() {
                self.queues.remove(&queue);
            }
        } else if sparse && let Some(run) = runs.take(seq) {
            // The few that are left need not keep the places of all the others.
            let left: Vec<(u64, Sized)> = run.live().collect();
            runs.put(left.into_iter());
        }
        self.count_out(place.segment, 1, place.bytes.into());
        true
    }

    /// A queue is gone with all its messages; `true` if it had any.
    pub(super) fn forget(&mut self, queue: u64) -> bool {
        let Some(runs) = self.queues.remove(&queue) else {
            return false;
        };
        for run in runs.all() {
            self.count_out(run.segment, run.live.into(), run.bytes);
        }
        true
    }

    /// Where a message lies that is wanted.
    pub(super) fn find(&self, queue: u64, seq: u64) -> Option<Place> {
        self.queues.get(&queue)?.covering(seq)?.find(seq)
    }

    /// Messages of a queue that are wanted have been copied: each in order, with where it lies now.
    pub(super) fn relocate(&mut self, queue: u64, mut moved: &[(u64, Place)]) {
        while let Some(&(first, _)) = moved.first() {
            let Some(old) = self
                .queues
                .get_mut(&queue)
                .and_then(|runs| runs.take(first))
            else {
                return;
            };
            let of_this = moved.partition_point(|(seq, _)| *seq < old.end()).max(1);
            let (here, rest) = moved.split_at(of_this);
            let mut here = here.iter().copied().peekable();
            let mut fresh = Vec::with_capacity(old.live as usize);
            for (seq, (place, size)) in old.live() {
                match here.next_if(|(copied, _)| *copied == seq) {
                    Some((_, to)) => {
                        self.count_out(place.segment, 1, place.bytes.into());
                        self.count_in(to);
                        fresh.push((seq, (to, size)));
                    }
                    None => fresh.push((seq, (place, size))),
                }
            }
            if let Some(runs) = self.queues.get_mut(&queue) {
                runs.put(fresh.into_iter());
            }
            moved = rest;
        }
    }

    pub(super) fn count(&self, segment: u64) -> Count {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    /// Bytes of all records that are wanted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The segment is no more; nothing in it was wanted.
    pub(super) fn drop_segment(&mut self, segment: u64) {
        if let Some(count) = self.segments.remove(&segment) {
            self.bytes -= count.bytes;
        }
    }

    /// Queues that have messages.
    pub(super) fn queues(&self) -> impl Iterator<Item = u64> {
        self.queues.keys().copied()
    }

    /// Messages that are wanted, of all queues.
    pub(super) fn messages(&self) -> u64 {
        self.segments.values().map(|count| count.live).sum()
    }

    /// The messages of a queue, as stretches of numbers without a gap.
    pub(super) fn stretches(&self, queue: u64) -> Vec<Stretch> {
        let mut found: Vec<Stretch> = Vec::new();
        let runs = self.queues.get(&queue);
        // Of the last one, what it takes to read it: records beside bodies, and bodies elsewhere.
        let mut weight = 0;
        for (seq, (place, size)) in runs.iter().flat_map(|runs| runs.all()).flat_map(Run::live) {
            let bytes = u64::from(size.unwrap_or(place.bytes));
            let heavy = bytes.max(place.bytes.into());
            match found.last_mut() {
                Some(last)
                    if last.end() == seq
                        && last.count < Stretch::COUNT_MAX
                        && weight + heavy <= Stretch::BYTES_MAX =>
                {
                    last.count += 1;
                    last.bytes += bytes;
                    weight += heavy;
                }
                _ => {
                    weight = heavy;
                    found.push(Stretch {
                        first: seq,
                        count: 1,
                        bytes,
                    });
                }
            }
        }
        found
    }

    /// The same, once: how long bodies are is forgotten.
    pub(super) fn take_stretches(&mut self, queue: u64) -> Vec<Stretch> {
        let found = self.stretches(queue);
        if let Some(runs) = self.queues.get_mut(&queue) {
            runs.open.sizes = None;
            runs.older.values_mut().for_each(|run| run.sizes = None);
        }
        found
    }

    /// Where the messages of a stretch lie that are wanted.
    pub(super) fn places(&self, queue: u64, seqs: Range<u64>) -> Vec<(u64, Place)> {
        let Some(runs) = self.queues.get(&queue) else {
            return Vec::new();
        };
        seqs.filter_map(|seq| Some((seq, runs.covering(seq)?.find(seq)?)))
            .collect()
    }
}
