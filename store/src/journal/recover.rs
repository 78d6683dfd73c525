//! Reading the journal back: what is still wanted, what was torn, what is damaged.
//!
//! ```text
//! bad bytes in batch k ── a later batch says that k was synced ──▶ damage: what can be read is
//!                     │                                             rescued, the file is set aside
//!                     └─ none does ──────────────────────────────▶ torn: nothing behind it was
//!                                                                   confirmed, it is cut
//! ```
//! Owns no thread; changes only what was torn. Reads every record's checksum, and keeps no message
//! in memory: only where each lies. Inspection is the same, on a disk that is not changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use foldhash::fast::RandomState;
use leveret_core::dead_letter::Death;
use leveret_core::message::Origin;

use super::ledger::{Known, Ledger};
use super::record::{self, BATCH_LENGTH, Encoded, Mark, Read, Record, Seal};
use super::segment::{self, Header};
use super::tail::{Place, Tail};
use crate::disk::{Disk, DiskFile};

/// A segment that is there.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) seal: Seal,
    /// Where what was written ends.
    pub(super) used: u64,
}

/// A file that cannot be read as a whole.
#[derive(Clone, Debug)]
pub(super) struct Damaged {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) why: &'static str,
}

/// What was found.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) ledger: Ledger,
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) damaged: Vec<Damaged>,
    /// The batch that was read last.
    pub(super) last: Mark,
    /// Where what was not confirmed was cut.
    pub(super) torn: Option<(u64, u64)>,
    /// The highest number of a queue that a record names.
    pub(super) last_queue: u64,
    /// Queues that have taken a message with a time to live.
    pub(super) expiring: HashSet<u64, RandomState>,
    /// Messages that queues have given up and still have, by queue.
    given_up: HashMap<u64, BTreeMap<u64, Death>, RandomState>,
    /// Of each segment that was read.
    pub(super) records: BTreeMap<u64, u64>,
    pub(super) bytes: u64,
    /// Batches that no later one says are synced, and where they begin.
    unproven: VecDeque<(u64, u64, u64)>,
    /// Files whose header cannot be read: nothing in them can.
    unreadable: BTreeMap<u64, Arc<dyn DiskFile>>,
    /// Segments that nothing came into: they are removed.
    bare: BTreeSet<u64>,
    /// A segment that ends early, where, and the batch that is not there.
    missed: Option<(u64, u64, u64)>,
}

/// The segment that is being read.
pub(super) struct Reading<'a> {
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
    pub(super) seal: Seal,
    /// The protocols that this program speaks.
    origins: &'a [&'static dyn Origin],
}

impl Reading<'_> {
    /// What a queue is told of a message; `None` if nobody can read it.
    fn know(&self, message: Encoded<'_>) -> Option<Known> {
        let message = message.message(self.origins)?;
        let before = message.exchange.len() + message.key.len() + message.properties.len();
        // A record's length has as many bits.
        let bytes = message.payload.len() as u32;
        Some(Known {
            bytes,
            part_bytes: bytes + before as u32,
            priority: message.head.origin.priority(&message),
        })
    }
}

/// Why a segment is damaged that ends where a batch does.
const MISSING: &str = "it ends before what the next segment knows to be on disk";

/// What is behind bytes that cannot be read.
enum Behind {
    /// It goes on here.
    Damage(Option<usize>),
    /// Nothing: the segment ends.
    End,
    Torn,
}

/// Reads all segments in order, and shows each record and where it begins.
///
/// # Errors
/// A file cannot be read, or is of another version.
pub(super) fn recover(
    disk: &dyn Disk,
    origins: &[&'static dyn Origin],
    mut show: impl FnMut(&Reading<'_>, usize, Record<'_>),
) -> io::Result<Recovered> {
    let found = recover_all(disk, origins, &mut show)?;
    let Some((last, ..)) = found.missed else {
        return Ok(found);
    };
    // A batch lost its beginning, and nothing says that it was on disk: its rest is torn as well.
    let before = numbers(disk)?;
    // The last first: a crash between them leaves the same to be done.
    for number in before.range(last + 1..).rev() {
        disk.remove(&segment::name(*number))?;
    }
    let torn = found
        .segments
        .get(&last)
        .map(|segment| (last, segment.used));
    if numbers(disk)? == before {
        // The disk is only looked at.
        return Ok(Recovered { torn, ..found });
    }
    let found = recover_all(disk, origins, &mut show)?;
    Ok(Recovered { torn, ..found })
}

fn recover_all(
    disk: &dyn Disk,
    origins: &[&'static dyn Origin],
    mut show: impl FnMut(&Reading<'_>, usize, Record<'_>),
) -> io::Result<Recovered> {
    let mut found = Recovered::default();
    let mut bytes = Vec::new();
    let mut numbers = numbers(disk)?;
    while let Some(number) = numbers.pop_first() {
        let file = disk.open(&segment::name(number))?;
        segment::read_into(&*file, &mut bytes)?;
        let header = segment::read_header(&bytes, number);
        let is_whole = matches!(header, Header::Ours { whole: true, .. } | Header::Other(_));
        if !is_whole && !has_more(&bytes) && !found.is_missed(number, disk, &numbers)? {
            // The crash came while it was made: the header is on disk before anything else.
            disk.remove(&segment::name(number))?;
            found.bare.insert(number);
            continue;
        }
        let nonce = match header {
            Header::Other(version) => return Err(other_version(disk, number, version)),
            Header::Empty => {
                found.note_damage(number, 0, "zeros where its header was");
                found.unreadable.insert(number, file);
                continue;
            }
            Header::Bad(why) => {
                found.note_damage(number, 0, why);
                found.unreadable.insert(number, file);
                continue;
            }
            Header::Ours { nonce, whole } => {
                if !whole {
                    found.note_damage(number, 0, "one of two copies of its header");
                }
                nonce
            }
        };
        let reading = Reading {
            number,
            bytes: &bytes,
            seal: Seal::new(nonce),
            origins,
        };
        let (used, torn) = found.read(&reading, disk, &numbers, &mut show)?;
        let seal = reading.seal;
        let is_bare = used <= segment::HEADER_BYTES;
        if is_bare && !torn && found.is_missed(number, disk, &numbers)? {
            found.note_damage(number, used, MISSING);
        }
        if is_bare && !found.is_damaged(number) {
            disk.remove(&segment::name(number))?;
            found.bare.insert(number);
        } else {
            if file.size()? > used {
                file.shorten(used)?;
            }
            found.segments.insert(number, Segment { file, seal, used });
        }
        if torn {
            found.torn = Some((number, used));
            // The same batch went on in them.
            for number in std::mem::take(&mut numbers).into_iter().rev() {
                disk.remove(&segment::name(number))?;
            }
        }
    }
    Ok(found)
}

/// Whether anything is behind the header.
fn has_more(bytes: &[u8]) -> bool {
    let mut behind = bytes.iter().skip(segment::HEADER_BYTES as usize);
    behind.any(|byte| *byte != 0)
}

/// The numbers of all segments.
pub(super) fn numbers(disk: &dyn Disk) -> io::Result<BTreeSet<u64>> {
    let names = disk.list()?;
    Ok(names
        .iter()
        .filter_map(|name| segment::number(name))
        .collect())
}

/// The number of a segment that was never there, as far as one can see: nor is one set aside.
pub(super) fn next_number(disk: &dyn Disk) -> io::Result<u64> {
    let names = disk.list()?;
    let number = |name: &String| segment::number(name).or_else(|| segment::number_aside(name));
    Ok(names.iter().filter_map(number).max().unwrap_or(0) + 1)
}

fn other_version(disk: &dyn Disk, number: u64, version: u32) -> io::Error {
    let path = disk.path(&segment::name(number));
    let ours = segment::FORMAT_VERSION;
    let mend = if version > ours {
        "use a newer program"
    } else {
        "it was never released: remove the directory, or use the program that wrote it"
    };
    let why = format!(
        "{} has format {version}, this version reads {ours}: {mend}",
        path.display()
    );
    io::Error::new(io::ErrorKind::Unsupported, why)
}

impl Recovered {
    /// Reads one segment, and on behind bytes that it cannot read. Says where it ends, and whether
    /// everything behind that was torn.
    fn read(
        &mut self,
        reading: &Reading<'_>,
        disk: &dyn Disk,
        later: &BTreeSet<u64>,
        show: &mut impl FnMut(&Reading<'_>, usize, Record<'_>),
    ) -> io::Result<(u64, bool)> {
        let bytes = reading.bytes;
        let mut at = segment::HEADER_BYTES as usize;
        let mut records = 0;
        let end = loop {
            let (why, is_end) = match record::read(bytes, at, reading.seal) {
                Read::Record(record, next) => {
                    records += 1;
                    show(reading, at, record);
                    self.bytes += (next - at) as u64;
                    self.apply(reading, at..next, record)?;
                    at = next;
                    continue;
                }
                Read::End => ("nothing where something was", true),
                Read::Bad(why) => (why, false),
            };
            match self.look_behind(reading, at, is_end, disk, later)? {
                Behind::End => break (at as u64, false),
                Behind::Torn => break (at as u64, true),
                Behind::Damage(next) => {
                    self.note_damage(reading.number, at as u64, why);
                    match next {
                        Some(next) => at = next,
                        None => break (bytes.len() as u64, false),
                    }
                }
            }
        };
        self.records.insert(reading.number, records);
        Ok(end)
    }

    /// Tells damage from what was torn, and finds where it goes on.
    fn look_behind(
        &self,
        reading: &Reading<'_>,
        at: usize,
        is_end: bool,
        disk: &dyn Disk,
        later: &BTreeSet<u64>,
    ) -> io::Result<Behind> {
        let bytes = reading.bytes;
        // A record that reads well may follow, as far as the length can be believed.
        let follows = |next: &usize| {
            let read = record::read(bytes, *next, reading.seal);
            !is_end && matches!(read, Read::Record(..))
        };
        let follower = record::end(bytes, at).filter(follows);
        let here = next_mark(bytes, at, reading.seal, |mark| {
            mark.number > self.last.number
        });
        if is_end && here.is_none() {
            // Or a whole batch was torn away: nothing of it was confirmed.
            return Ok(Behind::End);
        }
        let proof = next_mark(bytes, at, reading.seal, |mark| self.proves(mark, true));
        Ok(
            if proof.is_some() || self.is_missed(reading.number, disk, later)? {
                Behind::Damage(follower.or(here.map(|(place, _)| place)))
            } else {
                Behind::Torn
            },
        )
    }

    /// Whether a later segment proves that what cannot be read in this one was on disk.
    fn is_missed(&self, number: u64, disk: &dyn Disk, later: &BTreeSet<u64>) -> io::Result<bool> {
        for other in later {
            let file = disk.open(&segment::name(*other))?;
            let bytes = segment::read(&*file)?;
            let Header::Ours { nonce, .. } = segment::read_header(&bytes, *other) else {
                continue;
            };
            let from = segment::HEADER_BYTES as usize;
            let proves = |mark: Mark| self.proves(mark, mark.segment > number);
            if next_mark(&bytes, from, Seal::new(nonce), proves).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a later batch proves that what cannot be read was on disk. `begins_behind`: it
    /// begins behind those bytes, so that they are not its own.
    fn proves(&self, mark: Mark, begins_behind: bool) -> bool {
        let next = mark.number == self.last.number + 1;
        mark.synced > self.last.number || (next && begins_behind && mark.synced >= self.last.number)
    }

    /// Has the disk take again what it may never have taken: what was read is built on from now on,
    /// and a process that was killed after a failed sync leaves what only memory has.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn make_sure(&self) -> io::Result<()> {
        let Some(&(_, first, offset)) = self.unproven.front() else {
            return Ok(());
        };
        for (number, segment) in self.segments.range(first..) {
            let from = if *number == first { offset } else { 0 };
            let mut bytes = vec![0; segment.used.saturating_sub(from) as usize];
            segment.file.read_exact_at(&mut bytes, from)?;
            segment.file.write_all_at(&bytes, from)?;
            segment.file.sync()?;
        }
        Ok(())
    }

    /// A batch begins, or goes on, with this mark: what should be before it, and whether what was
    /// missed earlier was on disk.
    fn see(&mut self, mark: Mark, segment: u64, begins_file: bool) {
        let next = self.last.number + 1;
        let began_before = mark.segment < segment && mark.number == next;
        let mut before = segment.wrapping_sub(1);
        while self.bare.contains(&before) {
            before = before.wrapping_sub(1);
        }
        if begins_file
            && (mark.number > next || began_before)
            && let Some(segment) = self.segments.get(&before)
        {
            self.missed = Some((before, segment.used, next));
        }
        if let Some((segment, offset, batch)) = self.missed
            && mark.synced >= batch
        {
            self.missed = None;
            self.note_damage(segment, offset, MISSING);
        }
        self.last = mark;
    }

    fn note_damage(&mut self, segment: u64, offset: u64, why: &'static str) {
        if !self.is_damaged(segment) {
            let damaged = Damaged {
                segment,
                offset,
                why,
            };
            self.damaged.push(damaged);
        }
    }

    fn is_damaged(&self, segment: u64) -> bool {
        let mut damaged = self.damaged.iter();
        damaged.any(|damaged| damaged.segment == segment)
    }

    fn apply(
        &mut self,
        reading: &Reading<'_>,
        range: std::ops::Range<usize>,
        record: Record<'_>,
    ) -> io::Result<()> {
        let place = Place {
            segment: reading.number,
            offset: range.start as u32,
            bytes: range.len() as u32,
        };
        match record {
            Record::Publish {
                queue,
                seq,
                message,
            } => {
                let Some(known) = reading.know(message) else {
                    let why = "a message of a protocol that this version does not speak";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                };
                self.last_queue = self.last_queue.max(queue);
                if message.expires() {
                    self.expiring.insert(queue);
                }
                if let Some(why) = message.given_up() {
                    self.given_up.entry(queue).or_default().insert(seq, why);
                }
                self.ledger.restore(queue, seq, place, known);
            }
            Record::Again { queue, seq, offset } => {
                self.last_queue = self.last_queue.max(queue);
                let message = record::message_read(reading.bytes, offset as usize);
                if message.is_none_or(|message| message.expires()) {
                    self.expiring.insert(queue);
                }
                let known = message.and_then(|message| reading.know(message));
                self.ledger
                    .restore(queue, seq, place, known.unwrap_or_default());
            }
            Record::Settle { queue, seqs } => {
                self.last_queue = self.last_queue.max(queue);
                for seq in seqs.iter() {
                    self.ledger.settle(queue, seq);
                }
                if let Some(given_up) = self.given_up.get_mut(&queue) {
                    for seq in seqs.iter() {
                        given_up.remove(&seq);
                    }
                }
            }
            Record::Forget { queue } => {
                self.last_queue = self.last_queue.max(queue);
                self.ledger.forget(queue);
                self.given_up.remove(&queue);
            }
            Record::Batch(mark) => {
                let begins_file = u64::from(place.offset) == segment::HEADER_BYTES;
                self.see(mark, reading.number, begins_file);
                while self
                    .unproven
                    .pop_front_if(|(batch, ..)| *batch <= mark.synced)
                    .is_some()
                {}
                let place = (mark.number, reading.number, u64::from(place.offset));
                self.unproven.push_back(place);
            }
        }
        Ok(())
    }

    /// By queue and in order, what queues have given up and still have.
    pub(super) fn take_given_up(&mut self) -> HashMap<u64, Vec<(u64, Death)>, RandomState> {
        let mut found = HashMap::default();
        for (queue, given_up) in std::mem::take(&mut self.given_up) {
            let given_up = given_up.into_iter();
            let held = given_up.filter(|(seq, _)| self.ledger.find(queue, *seq).is_some());
            let held: Vec<(u64, Death)> = held.collect();
            if !held.is_empty() {
                found.insert(queue, held);
            }
        }
        found
    }

    /// Writes what could be read of damaged files anew: what they settle first, then what is wanted
    /// of them. Says how many messages could not be read.
    ///
    /// # Errors
    /// A file cannot be read any more.
    pub(super) fn rescue(&mut self, tail: &mut Tail) -> io::Result<u64> {
        let mut lost = 0;
        for damaged in self.damaged.clone() {
            let Some(segment) = self.segments.get(&damaged.segment) else {
                continue;
            };
            let bytes = segment::read(&*segment.file)?;
            let seal = segment.seal;
            let mut at = segment::HEADER_BYTES as usize;
            while let Some((record, from, next)) = next_readable(&bytes, at, seal) {
                let queue_and_seq = match record {
                    Record::Settle { queue, seqs } => {
                        // A number may stand for a later message by now: that one stays.
                        let seqs = seqs.iter();
                        let seqs = seqs.filter(|seq| self.ledger.find(queue, *seq).is_none());
                        let seqs: Vec<u64> = seqs.collect();
                        if !seqs.is_empty() {
                            tail.append(|out| record::settle(out, queue, &seqs));
                        }
                        None
                    }
                    Record::Forget { queue } => {
                        tail.append(|out| out.extend_from_slice(&bytes[from..next]));
                        self.write_anew(queue, damaged.segment, tail)?;
                        None
                    }
                    Record::Publish { queue, seq, .. } | Record::Again { queue, seq, .. } => {
                        Some((queue, seq))
                    }
                    Record::Batch(_) => None,
                };
                at = next;
                let here = Place {
                    segment: damaged.segment,
                    offset: from as u32,
                    bytes: (next - from) as u32,
                };
                let wanted =
                    |(queue, seq): &(u64, u64)| self.ledger.find(*queue, *seq) == Some(here);
                let Some((queue, seq)) = queue_and_seq.filter(wanted) else {
                    continue;
                };
                match record::message_at(&bytes, from, seal) {
                    Some(message) => {
                        let encode =
                            |out: &mut _| record::publish_encoded(out, queue, seq, message);
                        let place = tail.append(encode);
                        self.ledger.publish(queue, seq, place);
                    }
                    None => {
                        lost += 1;
                        self.ledger.settle(queue, seq);
                        tail.append(|out| record::settle(out, queue, &[seq]));
                    }
                }
            }
        }
        for damaged in &self.damaged {
            // It has nothing that is wanted, and stays until what was rescued is on disk.
            self.segments.remove(&damaged.segment);
            self.ledger.drop_segment(damaged.segment);
        }
        Ok(lost)
    }
}

impl Recovered {
    /// Writes what a queue has in other segments behind the record that forgets what it had before.
    fn write_anew(&mut self, queue: u64, but: u64, tail: &mut Tail) -> io::Result<()> {
        for stretch in self.ledger.stretches(queue) {
            for seq in stretch.first..stretch.end() {
                let place = self.ledger.find(queue, seq);
                let Some(place) = place.filter(|place| place.segment != but) else {
                    continue;
                };
                let Some(segment) = self.segments.get(&place.segment) else {
                    continue;
                };
                let bytes = segment::read(&*segment.file)?;
                let found = record::message_at(&bytes, place.offset as usize, segment.seal);
                if let Some(message) = found {
                    let encode = |out: &mut _| record::publish_encoded(out, queue, seq, message);
                    let place = tail.append(encode);
                    self.ledger.publish(queue, seq, place);
                }
            }
        }
        Ok(())
    }
}

/// The first record from here on that can be read, and where it begins and ends.
pub(super) fn next_readable(
    bytes: &[u8],
    at: usize,
    seal: Seal,
) -> Option<(Record<'_>, usize, usize)> {
    if let Read::Record(record, next) = record::read(bytes, at, seal) {
        return Some((record, at, next));
    }
    let follower = record::end(bytes, at);
    if let Some(follower) = follower
        && let Read::Record(record, next) = record::read(bytes, follower, seal)
    {
        return Some((record, follower, next));
    }
    let (at, _) = next_mark(bytes, at, seal, |_| true)?;
    match record::read(bytes, at, seal) {
        Read::Record(record, next) => Some((record, at, next)),
        _ => None,
    }
}

/// The first mark from here on that is wanted.
fn next_mark(
    bytes: &[u8],
    from: usize,
    seal: Seal,
    is_wanted: impl Fn(Mark) -> bool,
) -> Option<(usize, Mark)> {
    let mut at = from;
    while let Some(rest) = bytes.get(at..)
        && let Some(found) = rest.iter().position(|byte| *byte == BATCH_LENGTH[0])
    {
        at += found;
        if bytes[at..].starts_with(&BATCH_LENGTH)
            && let Read::Record(Record::Batch(mark), _) = record::read(bytes, at, seal)
            && is_wanted(mark)
        {
            return Some((at, mark));
        }
        at += 1;
    }
    None
}
