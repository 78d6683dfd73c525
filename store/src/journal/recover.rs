//! Reading the journal back: what is still wanted, what was torn, what is damaged.
//!
//! ```text
//! bad bytes in batch k ── a batch after k is there ──▶ damage: what can be read is rescued, the
//!                     │                                file is set aside
//!                     └─ none is ───────────────────▶ torn: nothing behind it was confirmed, cut
//! ```
//! A batch is written only when the one before it is synced, so bytes that a crash tore are of the
//! last batch. Owns no thread; changes only what was torn.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use foldhash::fast::RandomState;
use leveret_core::message::{Message, Origin};

use super::ledger::Ledger;
use super::record::{self, Read, Record};
use super::segment::{self, Header};
use crate::disk::{Disk, DiskFile};

/// A message that is still wanted.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) segment: u64,
    /// `None` once it is settled.
    message: Option<Message>,
}

impl Kept {
    pub(super) fn into_message(self) -> Option<Message> {
        self.message
    }

    pub(super) fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }
}

/// A file that cannot be read as a whole.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) why: &'static str,
}

/// What was found.
#[derive(Default)]
pub(super) struct Recovered {
    /// In the order in which queues took them.
    pub(super) queues: HashMap<u64, Vec<Kept>, RandomState>,
    pub(super) segments: BTreeMap<u64, Arc<dyn DiskFile>>,
    pub(super) damaged: Vec<Damaged>,
    pub(super) last_batch: u64,
    /// Where the last batch was torn, and its file cut.
    pub(super) torn: Option<(u64, u64)>,
    /// The highest number of a queue that a record names.
    pub(super) last_queue: u64,
    /// Messages that segments have or had.
    taken: HashMap<u64, u64, RandomState>,
    /// Where segments end that can be read as a whole.
    ends: HashMap<u64, u64, RandomState>,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// Where a file could not be read on.
struct Bad {
    segment: u64,
    offset: u64,
    batch: u64,
    why: &'static str,
}

/// Reads all segments in order.
///
/// # Errors
/// A file cannot be read, or is of a newer version.
pub(super) fn recover(disk: &dyn Disk, origins: &[&'static dyn Origin]) -> io::Result<Recovered> {
    let mut found = Recovered::default();
    let mut scratch = Vec::new();
    let mut bad = Vec::new();
    let names = disk.list()?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::number(name))
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        let file = disk.open(&segment::name(number))?;
        let bytes = segment::read(&*file)?;
        match segment::read_header(&bytes, number) {
            Header::Newer(version) => {
                let ours = segment::FORMAT_VERSION;
                let why = format!(
                    "{} has format {version}, this version reads {ours} at most",
                    disk.path(&segment::name(number)).display()
                );
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            // The crash came before the first batch in it was written.
            Header::Empty => {}
            Header::Bad(why) => {
                let offset = 0;
                bad.push(Bad {
                    segment: number,
                    offset,
                    batch: found.last_batch,
                    why,
                });
            }
            Header::Ours => {}
        }
        found.segments.insert(number, file);
        found.read(number, &bytes, origins, &mut scratch, &mut bad)?;
    }
    found.judge(bad)?;
    found.trim(disk)?;
    Ok(found)
}

impl Recovered {
    /// Reads one segment, and on behind bytes that it cannot read.
    fn read(
        &mut self,
        segment: u64,
        bytes: &[u8],
        origins: &[&'static dyn Origin],
        scratch: &mut Vec<u8>,
        bad: &mut Vec<Bad>,
    ) -> io::Result<()> {
        let mut at = segment::HEADER_BYTES as usize;
        // The message that was read last: the one that is mostly referred to.
        let mut last = None;
        let mut shared = HashMap::default();
        loop {
            let why = match record::read(bytes, at) {
                Read::Record(record, next) => {
                    self.records += 1;
                    self.bytes += (next - at) as u64;
                    let mut reading = Reading {
                        segment,
                        bytes,
                        origins,
                        scratch,
                        last: &mut last,
                        shared: &mut shared,
                    };
                    self.apply(&mut reading, at, record)?;
                    at = next;
                    continue;
                }
                Read::End => "nothing where something was",
                Read::Bad(why) => why,
            };
            let is_end = matches!(record::read(bytes, at), Read::End);
            let next = next_batch(bytes, at, self.last_batch);
            if next.is_none() && is_end {
                self.ends.insert(segment, at as u64);
                return Ok(());
            }
            bad.push(Bad {
                segment,
                offset: at as u64,
                batch: self.last_batch,
                why,
            });
            match next {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    fn apply(
        &mut self,
        reading: &mut Reading<'_>,
        at: usize,
        record: Record<'_>,
    ) -> io::Result<()> {
        let segment = reading.segment;
        match record {
            Record::Publish { queue, seq, .. } => {
                self.last_queue = self.last_queue.max(queue);
                let message = reading.message(at)?;
                self.keep(
                    queue,
                    Kept {
                        seq,
                        segment,
                        message,
                    },
                );
            }
            Record::Again { queue, seq, offset } => {
                self.last_queue = self.last_queue.max(queue);
                let message = reading.message(offset as usize)?;
                if let Some(message) = &message {
                    let shared = reading.shared.entry(offset as usize);
                    shared.or_insert_with(|| message.clone());
                }
                self.keep(
                    queue,
                    Kept {
                        seq,
                        segment,
                        message,
                    },
                );
            }
            Record::Settle { queue, seqs } => {
                if let Some(kept) = self.queues.get_mut(&queue) {
                    seqs.iter().for_each(|seq| settle(kept, seq));
                }
            }
            Record::Forget { queue } => {
                self.last_queue = self.last_queue.max(queue);
                let kept = self.queues.get_mut(&queue);
                kept.into_iter()
                    .flatten()
                    .for_each(|kept| kept.message = None);
            }
            Record::Batch { number } => self.last_batch = self.last_batch.max(number),
        }
        Ok(())
    }

    /// Gives back what the last segments had reserved and did not use, and removes empty ones.
    fn trim(&mut self, disk: &dyn Disk) -> io::Result<()> {
        for (segment, end) in &self.ends {
            if self
                .damaged
                .iter()
                .any(|damaged| damaged.segment == *segment)
            {
                continue;
            }
            let file = &self.segments[segment];
            if *end <= segment::HEADER_BYTES {
                self.segments.remove(segment);
                disk.remove(&segment::name(*segment))?;
            } else if file.size()? > *end {
                file.shorten(*end)?;
            }
        }
        Ok(())
    }

    /// A message behind all others, or in the place of the same one that was copied.
    fn keep(&mut self, queue: u64, kept: Kept) {
        *self.taken.entry(kept.segment).or_default() += 1;
        let held = self.queues.entry(queue).or_default();
        if held.last().is_none_or(|last| last.seq < kept.seq) {
            held.push(kept);
            return;
        }
        match held.binary_search_by_key(&kept.seq, |held| held.seq) {
            Ok(place) => held[place] = kept,
            Err(place) => held.insert(place, kept),
        }
    }

    /// Tells damage from what the last crash tore, and cuts that.
    fn judge(&mut self, bad: Vec<Bad>) -> io::Result<()> {
        for bad in bad {
            if bad.batch < self.last_batch || bad.offset == 0 {
                let Bad {
                    segment,
                    offset,
                    why,
                    ..
                } = bad;
                if self
                    .damaged
                    .last()
                    .is_none_or(|last| last.segment != segment)
                {
                    self.damaged.push(Damaged {
                        segment,
                        offset,
                        why,
                    });
                }
            } else {
                let file = &self.segments[&bad.segment];
                file.shorten(bad.offset)?;
                self.torn = Some((bad.segment, bad.offset));
            }
        }
        Ok(())
    }

    /// Drops what is settled.
    pub(super) fn drop_settled(&mut self) {
        for kept in self.queues.values_mut() {
            kept.retain(|kept| kept.message.is_some());
        }
        self.queues.retain(|_, kept| !kept.is_empty());
    }

    /// Who is wanted where; without those in damaged files, which are to be written again.
    pub(super) fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for (queue, kept) in &self.queues {
            for one in kept {
                if !self.is_damaged(one.segment) {
                    ledger.publish(*queue, one.seq, one.segment);
                }
            }
        }
        for (segment, taken) in &self.taken {
            if self.segments.contains_key(segment) {
                ledger.remember_taken(*segment, *taken);
            }
        }
        ledger
    }

    pub(super) fn is_damaged(&self, segment: u64) -> bool {
        self.damaged
            .iter()
            .any(|damaged| damaged.segment == segment)
    }
}

fn settle(kept: &mut [Kept], seq: u64) {
    if let Ok(place) = kept.binary_search_by_key(&seq, |held| held.seq) {
        kept[place].message = None;
    }
}

/// The segment that is being read.
struct Reading<'a> {
    segment: u64,
    bytes: &'a [u8],
    origins: &'a [&'static dyn Origin],
    scratch: &'a mut Vec<u8>,
    last: &'a mut Option<(usize, Message)>,
    /// Others that were referred to.
    shared: &'a mut HashMap<usize, Message, RandomState>,
}

impl Reading<'_> {
    /// The message in the record that begins there; `None` if that cannot be read.
    ///
    /// # Errors
    /// A protocol wrote it that this program does not speak.
    fn message(&mut self, at: usize) -> io::Result<Option<Message>> {
        if let Some((_, message)) = self.last.as_ref().filter(|(last, _)| *last == at) {
            return Ok(Some(message.clone()));
        }
        if let Some(message) = self.shared.get(&at) {
            return Ok(Some(message.clone()));
        }
        let Read::Record(Record::Publish { message, .. }, _) = record::read(self.bytes, at) else {
            return Ok(None);
        };
        let Some(view) = message.message(self.origins) else {
            let why = "a message of a protocol that this version does not speak";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        let message = view.to_message(self.scratch);
        *self.last = Some((at, message.clone()));
        Ok(Some(message))
    }
}

/// Where behind bytes that cannot be read a batch begins that is later than this one.
fn next_batch(bytes: &[u8], from: usize, batch: u64) -> Option<usize> {
    let mut at = from;
    while let Some(rest) = bytes.get(at..)
        && let Some(found) = rest.iter().position(|byte| *byte == BATCH_LENGTH[0])
    {
        at += found;
        if bytes[at..].starts_with(&BATCH_LENGTH)
            && let Read::Record(Record::Batch { number }, _) = record::read(bytes, at)
            && number > batch
        {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// What a record that names a batch begins with: the length of its body.
const BATCH_LENGTH: [u8; 4] = [9, 0, 0, 0];
