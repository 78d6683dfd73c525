//! Where each message that is still wanted lies: the journal's index, in memory.
//!
//! For each queue a list of runs: messages that were taken one after the other and lie in one
//! segment, with the place of each. Runs of one queue never overlap, so that a message is found by
//! its number. Owns no file; must never be wrong in the direction of too few.

use std::collections::{BTreeMap, HashMap};

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
    /// What is known of each of them: from the restart that found them until their queue has
    /// asked.
    known: Option<Box<AllKnown>>,
}

/// Behind a pointer: most runs have none.
struct AllKnown(Vec<Known>);

/// What a restart finds of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// How long its body is.
    pub(super) bytes: u32,
    /// How long all its parts are, wherever they lie.
    pub(super) part_bytes: u32,
    pub(super) priority: Option<u8>,
}

impl Known {
    /// Where nothing is: by the record alone.
    fn guess(place: Place) -> Self {
        Self {
            bytes: place.bytes,
            part_bytes: place.bytes,
            priority: None,
        }
    }
}

/// A record's place, and what is known of the message.
type Item = (Place, Option<Known>);

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
    fn new(seq: u64, (place, known): Item) -> Self {
        Self {
            first: seq,
            segment: place.segment,
            live: 1,
            bytes: place.bytes.into(),
            spots: vec![spot(place)],
            known: known.map(|known| Box::new(AllKnown(vec![known]))),
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
    fn extend(&mut self, seq: u64, (place, known): Item) -> bool {
        let end = self.end();
        let fits = place.segment == self.segment
            && seq >= end
            && seq - end <= GAP_MAX
            && self.spots.len() + ((seq - end) as usize) < RUN_MAX;
        if fits {
            let gap = self.spots.len() + (seq - end) as usize;
            self.spots.resize(gap, GONE);
            self.spots.push(spot(place));
            if let Some(AllKnown(all)) = self.known.as_deref_mut() {
                all.resize(gap, Known::default());
                all.push(known.unwrap_or(Known::guess(place)));
            }
            self.live += 1;
            self.bytes += u64::from(place.bytes);
        }
        fits
    }

    fn known(&self, seq: u64) -> Option<Known> {
        let AllKnown(all) = self.known.as_deref()?;
        all.get((seq - self.first) as usize).copied()
    }

    fn live(&self) -> impl Iterator<Item = (u64, Item)> {
        let item = |seq| Some((seq, (self.find(seq)?, self.known(seq))));
        (self.first..self.end()).filter_map(item)
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

    fn push(&mut self, seq: u64, place: Item) {
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
            known: None,
        };
        Some(std::mem::replace(&mut self.open, rest))
    }

    /// Puts messages in order where they belong; nothing else is there.
    fn put(&mut self, messages: impl Iterator<Item = (u64, Item)>) {
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

    /// The same as a restart finds it: what is known of the message is kept until the queue asks.
    pub(super) fn restore(&mut self, queue: u64, seq: u64, place: Place, known: Known) {
        self.take(queue, seq, (place, Some(known)));
    }

    fn take(&mut self, queue: u64, seq: u64, place: Item) {
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
    fn insert(&mut self, queue: u64, seq: u64, place: Item) {
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
        // The same message, elsewhere.
        let place = (place.0, place.1.or_else(|| old.known(seq)));
        let mut fresh: Vec<(u64, Item)> = old.live().filter(|(held, _)| *held != seq).collect();
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
            let left: Vec<(u64, Item)> = run.live().collect();
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
            for (seq, (place, known)) in old.live() {
                match here.next_if(|(copied, _)| *copied == seq) {
                    Some((_, to)) => {
                        self.count_out(place.segment, 1, place.bytes.into());
                        self.count_in(to);
                        fresh.push((seq, (to, known)));
                    }
                    None => fresh.push((seq, (place, known))),
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

    /// The messages of a queue, as stretches of numbers without a gap, of one priority each.
    pub(super) fn stretches(&self, queue: u64) -> Vec<Stretch> {
        let mut found: Vec<Stretch> = Vec::new();
        let runs = self.queues.get(&queue);
        // Of the last one, what it takes to read it: records, and parts that lie elsewhere.
        let mut weight = 0;
        for (seq, (place, known)) in runs.iter().flat_map(|runs| runs.all()).flat_map(Run::live) {
            let known = known.unwrap_or_else(|| Known::guess(place));
            let heavy = u64::from(known.part_bytes.max(place.bytes));
            let one = Stretch {
                first: seq,
                count: 1,
                bytes: known.bytes.into(),
                part_bytes: known.part_bytes.into(),
                priority: known.priority,
            };
            match found.last_mut() {
                Some(last)
                    if last.end() == seq
                        && last.priority == one.priority
                        && last.count < Stretch::COUNT_MAX
                        && weight + heavy <= Stretch::BYTES_MAX =>
                {
                    last.count += 1;
                    last.bytes += one.bytes;
                    last.part_bytes += one.part_bytes;
                    weight += heavy;
                }
                _ => {
                    weight = heavy;
                    found.push(one);
                }
            }
        }
        found
    }

    /// The same, once: what else is known is forgotten.
    pub(super) fn take_stretches(&mut self, queue: u64) -> Vec<Stretch> {
        let found = self.stretches(queue);
        if let Some(runs) = self.queues.get_mut(&queue) {
            runs.open.known = None;
            runs.older.values_mut().for_each(|run| run.known = None);
        }
        found
    }

    /// Where the messages of a stretch lie that are wanted.
    pub(super) fn places(
        &self,
        queue: u64,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Vec<(u64, Place)> {
        let Some(runs) = self.queues.get(&queue) else {
            return Vec::new();
        };
        let seqs = seqs.into_iter();
        seqs.filter_map(|seq| Some((seq, runs.covering(seq)?.find(seq)?)))
            .collect()
    }
}
