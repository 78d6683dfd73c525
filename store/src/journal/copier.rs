//! Copying what is still wanted of a segment to the tail, so that the segment can go.
//!
//! A little at a time: between two batches, with the journal's lock held for each few messages
//! only. A message counts as copied when its copy is written: until then it is read where it was.
//! Must never copy what is settled, or forget what is not.

use std::collections::{BTreeMap, HashMap};
use std::io;

use foldhash::fast::RandomState;

use super::ledger::Ledger;
use super::record::{self, Read, Record, Seal};
use super::recover::Segment;
use super::tail::{Place, Tail};
use super::{Shared, recover, segment};

/// Bytes of messages that are copied in one batch.
const COPIED_BYTES: usize = 1_024 * 1_024;

/// Messages that are copied with the journal's lock held at once.
const COPIED_AT_ONCE: usize = 256;

/// Bytes that are copied with the journal's lock held at once, but for the last message.
const COPIED_BYTES_AT_ONCE: usize = 64 * 1_024;

/// A segment, while what is wanted in it is copied to the tail.
pub(super) struct Copying {
    pub(super) segment: u64,
    bytes: Vec<u8>,
    seal: Seal,
    /// What may be wanted, of each queue: number and place, the last first.
    left: Vec<(u64, Vec<(u64, Place)>)>,
    /// Where messages were copied to, by where they were: others refer to them.
    copies: HashMap<u32, Place, RandomState>,
    /// What was copied and is not written yet.
    moved: Vec<Moved>,
}

/// Messages of a queue: from where, and to where.
struct Moved {
    queue: u64,
    messages: Vec<(u64, Place, Place)>,
}

impl Copying {
    /// Reads the segment.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn begin(number: u64, segment: &Segment) -> io::Result<Self> {
        let mut bytes = segment::read(&*segment.file)?;
        bytes.truncate(usize::try_from(segment.used).unwrap_or(usize::MAX));
        let seal = segment.seal;
        let mut wanted: BTreeMap<u64, Vec<(u64, Place)>> = BTreeMap::new();
        let mut at = segment::HEADER_BYTES as usize;
        // What cannot be read any more stays where it is, and is told when somebody asks for it.
        while let Some((record, from, next)) = recover::next_readable(&bytes, at, seal) {
            let place = Place {
                segment: number,
                offset: from as u32,
                bytes: (next - from) as u32,
            };
            at = next;
            if let Record::Publish { queue, seq, .. } | Record::Again { queue, seq, .. } = record {
                wanted.entry(queue).or_default().push((seq, place));
            }
        }
        for places in wanted.values_mut() {
            // A message that was copied into this segment comes before those that follow it.
            places.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        }
        Ok(Self {
            segment: number,
            bytes,
            seal,
            left: wanted.into_iter().collect(),
            copies: HashMap::default(),
            moved: Vec::new(),
        })
    }

    /// What was copied is written: it is read there from now on. `true` when nothing is left.
    pub(super) fn written(&mut self, shared: &Shared) -> bool {
        for Moved { queue, messages } in self.moved.drain(..) {
            let ledger = &mut shared.state.lock().ledger;
            let still = |(seq, from, to): (u64, Place, Place)| {
                (ledger.find(queue, seq) == Some(from)).then_some((seq, to))
            };
            let moved: Vec<_> = messages.into_iter().filter_map(still).collect();
            ledger.relocate(queue, &moved);
        }
        self.left.is_empty()
    }

    /// Copies some of it.
    pub(super) fn copy(&mut self, shared: &Shared) {
        let mut budget = COPIED_BYTES;
        while let Some((queue, places)) = self.left.last_mut() {
            if budget == 0 {
                break;
            }
            let queue = *queue;
            let keep = places.len().saturating_sub(COPIED_AT_ONCE);
            let mut few = places.split_off(keep);
            let mut from = From {
                bytes: &self.bytes,
                seal: self.seal,
                copies: &mut self.copies,
            };
            shared.append(0, None, |tail, ledger| {
                let (messages, copied) = from.copy(tail, ledger, queue, &mut few);
                budget = budget.saturating_sub(copied);
                self.moved.push(Moved { queue, messages });
            });
            places.append(&mut few);
            if places.is_empty() {
                self.left.pop();
            }
        }
    }
}

/// A segment that is copied from.
struct From<'a> {
    bytes: &'a [u8],
    seal: Seal,
    copies: &'a mut HashMap<u32, Place, RandomState>,
}

impl From<'_> {
    /// Copies what is wanted of a queue's messages to the tail, from the end of the list, and takes
    /// them off it; says which, and how many bytes that were.
    fn copy(
        &mut self,
        tail: &mut Tail,
        ledger: &Ledger,
        queue: u64,
        places: &mut Vec<(u64, Place)>,
    ) -> (Vec<(u64, Place, Place)>, usize) {
        let mut copied = 0;
        let mut moved = Vec::new();
        while copied < COPIED_BYTES_AT_ONCE
            && let Some((seq, at)) = places.pop()
        {
            if ledger.find(queue, seq) != Some(at) {
                continue;
            }
            if let Some(place) = self.copy_one(tail, queue, seq, at.offset) {
                copied += place.bytes as usize;
                moved.push((seq, at, place));
            }
        }
        (moved, copied)
    }

    /// Copies one message, or refers to the copy that another queue has.
    fn copy_one(&mut self, tail: &mut Tail, queue: u64, seq: u64, at: u32) -> Option<Place> {
        let body = match record::read(self.bytes, at as usize, self.seal) {
            Read::Record(Record::Again { offset, .. }, _) => offset,
            _ => at,
        };
        let near = self.copies.get(&body);
        let near = near.filter(|copy| copy.segment == tail.segment() && tail.has_room());
        if let Some(copy) = near {
            let offset = copy.offset;
            return Some(tail.append(|out| record::again(out, queue, seq, offset)));
        }
        let message = record::message_at(self.bytes, body as usize, self.seal)?;
        let place = tail.append(|out| record::publish_encoded(out, queue, seq, message));
        self.copies.insert(body, place);
        Some(place)
    }
}
