//! The journal's thread: writes and syncs a batch, raises the watermark, frees what is not wanted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use leveret_core::watermark::{Wake, Watermark};
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::Shared;
use super::ledger::Ledger;
use super::record::{self, Read, Record};
use super::segment;
use super::tail::{Batch, Chunk, Place, Tail};
use crate::disk::{Disk, DiskFile};

/// Segments from which on what is wanted in the oldest one is copied on, if little is wanted in
/// all of them.
const SEGMENTS_KEPT: usize = 4;

/// Bytes of messages that are copied in one batch.
const COPIED_BYTES: usize = 1_024 * 1_024;

/// How often a writer that waits for definitions looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) type Segments = BTreeMap<u64, Arc<dyn DiskFile>>;

/// What the thread has.
pub(super) struct Writer {
    shared: Arc<Shared>,
    definitions: Arc<Watermark>,
    segments: Segments,
    copying: Option<Copying>,
    /// Segments that are copied as a whole, and the number of the last copy.
    copied: BTreeMap<u64, u64>,
}

/// A segment, while what is wanted in it is copied to the tail.
struct Copying {
    segment: u64,
    bytes: Vec<u8>,
    /// What was wanted when it began, of each queue in order: its number, and where its record is.
    left: Vec<(u64, Vec<(u64, usize)>)>,
    /// Where messages were copied to, by where they were: others refer to them.
    copies: HashMap<usize, Place, RandomState>,
    /// The number of the last copy.
    number: u64,
}

/// Writes chunks to their files, which are made where they are not there, and syncs them.
pub(super) fn write(
    disk: &dyn Disk,
    segments: &mut Segments,
    segment_bytes: u64,
    chunks: &[Chunk],
) -> Result<(), Failure> {
    let mut written: Vec<(u64, Arc<dyn DiskFile>)> = Vec::new();
    for chunk in chunks {
        let file = match segments.get(&chunk.segment) {
            Some(file) => Arc::clone(file),
            None => {
                let end = chunk.offset + chunk.bytes.len() as u64;
                let file = segment::make(disk, chunk.segment, end.max(segment_bytes));
                let file = file.map_err(Failure::of)?;
                segments.insert(chunk.segment, Arc::clone(&file));
                file
            }
        };
        let wrote = file.write_all_at(&chunk.bytes, chunk.offset);
        wrote.map_err(Failure::of)?;
        if written
            .last()
            .is_none_or(|(last, _)| *last != chunk.segment)
        {
            written.push((chunk.segment, file));
        }
    }
    let synced = written.iter().try_for_each(|(_, file)| file.sync());
    synced.map_err(Failure::Lasting)
}

/// Why a batch is not on disk.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no room, or no file to spare: the same can be written again.
    Passing(io::Error),
    /// What is on disk is not known.
    Lasting(io::Error),
}

impl Failure {
    /// Of an error that came before any sync.
    fn of(why: io::Error) -> Self {
        let kinds = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::Interrupted,
        ];
        let spared = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        let passing = kinds.contains(&why.kind())
            || why
                .raw_os_error()
                .is_some_and(|code| spared.contains(&code));
        if passing {
            Self::Passing(why)
        } else {
            Self::Lasting(why)
        }
    }

    pub(super) fn into_error(self) -> io::Error {
        match self {
            Self::Passing(why) | Self::Lasting(why) => why,
        }
    }
}

/// Nothing is confirmed any more when the thread has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if !state.closing || !state.tail.is_empty() {
            let why = || "the journal's thread has ended".to_owned();
            state.fault.get_or_insert_with(why);
        }
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        definitions: Arc<Watermark>,
        segments: Segments,
    ) -> Self {
        Self {
            shared,
            definitions,
            segments,
            copying: None,
            copied: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        while let Some((batch, after)) = self.next() {
            if let Err(why) = self.write(&batch.chunks) {
                tracing::error!(
                    %why,
                    "the journal cannot be written: nothing is confirmed from now on"
                );
                self.shared.state.lock().fault = Some(why.to_string());
                return;
            }
            if !self.wait_for_definitions(after) {
                return;
            }
            self.shared.watermark.raise(batch.number);
            self.reclaim(batch.number);
        }
    }

    /// Writes chunks, however long the disk is full or the process has no file to spare: nothing is
    /// confirmed meanwhile. Ends with an error if it is time to end, or what is on disk is not
    /// known.
    fn write(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let disk = Arc::clone(&self.shared.disk);
        let mut told = false;
        loop {
            let why = match write(
                &*disk,
                &mut self.segments,
                self.shared.segment_bytes,
                chunks,
            ) {
                Ok(()) => break,
                Err(Failure::Lasting(why)) => return Err(why),
                Err(Failure::Passing(why)) => why,
            };
            if !std::mem::replace(&mut told, true) {
                tracing::error!(%why, "the journal waits for the disk: nothing is confirmed");
            }
            let mut state = self.shared.state.lock();
            if state.closing {
                return Err(why);
            }
            self.shared.work.wait_for(&mut state, LOOK_EVERY);
        }
        if told {
            tracing::info!("the journal goes on");
        }
        Ok(())
    }

    /// What was appended since; `None` when it is time to end.
    fn next(&self) -> Option<(Batch, u64)> {
        let mut state = self.shared.state.lock();
        while state.tail.is_empty() {
            if state.closing {
                return None;
            }
            self.shared.work.wait(&mut state);
        }
        Some((state.tail.take(), state.after))
    }

    /// Waits until the queues that messages were taken by are on disk; `false` if they never will
    /// be.
    fn wait_for_definitions(&self, after: u64) -> bool {
        if self.definitions.durable() >= after {
            return true;
        }
        let bell = Arc::new(Bell::default());
        let wake: Arc<dyn Wake> = Arc::clone(&bell) as Arc<dyn Wake>;
        while self.definitions.wait(after, &wake) {
            let mut rung = bell.rung.lock();
            while !*rung {
                let late = bell.ringing.wait_for(&mut rung, LOOK_EVERY).timed_out();
                if late && self.shared.state.lock().closing {
                    return false;
                }
            }
        }
        true
    }

    /// Removes segments that nobody wants anything of, oldest first, and copies a little of the
    /// next ones on where that pays.
    fn reclaim(&mut self, durable: u64) {
        while let Some((&oldest, _)) = self.segments.first_key_value() {
            let copied = self
                .copied
                .get(&oldest)
                .is_none_or(|number| *number <= durable);
            let mut state = self.shared.state.lock();
            let unwanted = oldest < state.tail.oldest() && state.ledger.count(oldest).live == 0;
            if !unwanted || !copied {
                break;
            }
            state.ledger.drop_segment(oldest);
            drop(state);
            self.copied.remove(&oldest);
            if self
                .copying
                .as_ref()
                .is_some_and(|copying| copying.segment == oldest)
            {
                self.copying = None;
            }
            let name = segment::name(oldest);
            if let Err(why) = self.shared.disk.remove(&name) {
                // Those behind it must stay as well: what is settled in it is settled there.
                let path = self.shared.disk.path(&name);
                tracing::warn!(path = %path.display(), %why, "a segment cannot be removed");
                break;
            }
            self.segments.remove(&oldest);
        }
        // Reading a segment takes a while: one at a time, others wait for their sync.
        if self.copying.is_some() || self.begin_copying() {
            self.copy();
        }
    }

    /// Less than half of what the segments hold is wanted.
    fn is_wasteful(&self) -> bool {
        if self.segments.len() <= SEGMENTS_KEPT + self.copied.len() {
            return false;
        }
        let state = self.shared.state.lock();
        let (mut live, mut taken) = (0, 0);
        for segment in self.segments.keys() {
            if !self.copied.contains_key(segment) {
                let count = state.ledger.count(*segment);
                live += count.live;
                taken += count.taken;
            }
        }
        live * 2 < taken
    }

    /// Takes the oldest segment that was not copied yet, if that pays.
    fn begin_copying(&mut self) -> bool {
        if !self.is_wasteful() {
            return false;
        }
        let state = self.shared.state.lock();
        let mut fresh = self.segments.range(..state.tail.oldest());
        let wanted = |segment: &u64| {
            !self.copied.contains_key(segment) && state.ledger.count(*segment).live > 0
        };
        let Some((&number, file)) = fresh.find(|(segment, _)| wanted(segment)) else {
            return false;
        };
        drop(state);
        match segment::read(&**file) {
            Ok(bytes) => {
                self.copying = Some(Copying::new(number, bytes));
                true
            }
            Err(why) => {
                let path = self.shared.disk.path(&segment::name(number));
                tracing::warn!(path = %path.display(), %why, "a segment cannot be read");
                false
            }
        }
    }

    /// Copies some of what is wanted in a segment.
    fn copy(&mut self) {
        let Some(copying) = &mut self.copying else {
            return;
        };
        let mut budget = COPIED_BYTES;
        while let Some((queue, places)) = copying.left.last_mut() {
            if budget == 0 {
                return;
            }
            let queue = *queue;
            let rest = places.split_off(places.len().min(COPIED_PLACES));
            let chunk = std::mem::replace(places, rest);
            if places.is_empty() {
                copying.left.pop();
            }
            let mut from = From {
                segment: copying.segment,
                bytes: &copying.bytes,
                copies: &mut copying.copies,
            };
            copying.number = self.shared.append(0, |tail, ledger| {
                let copied = from.copy(tail, ledger, queue, &chunk);
                budget = budget.saturating_sub(copied);
            });
        }
        self.copied.insert(copying.segment, copying.number);
        self.copying = None;
    }
}

/// A segment that is copied from.
struct From<'a> {
    segment: u64,
    bytes: &'a [u8],
    copies: &'a mut HashMap<usize, Place, RandomState>,
}

impl From<'_> {
    /// Copies what is wanted of a queue's messages to the tail; says how many bytes that were.
    fn copy(
        &mut self,
        tail: &mut Tail,
        ledger: &mut Ledger,
        queue: u64,
        places: &[(u64, usize)],
    ) -> usize {
        let mut copied = 0;
        let mut seqs: Vec<u64> = Vec::new();
        let mut to = tail.segment();
        for &(seq, at) in places {
            if !ledger.is_live(queue, seq, self.segment) {
                continue;
            }
            let Some((place, bytes)) = self.copy_one(tail, queue, seq, at) else {
                continue;
            };
            copied += bytes;
            if place.segment != to {
                ledger.moved(queue, &seqs, to);
                seqs.clear();
                to = place.segment;
            }
            seqs.push(seq);
        }
        ledger.moved(queue, &seqs, to);
        copied
    }

    /// Copies one message, or refers to the copy that another queue has.
    fn copy_one(
        &mut self,
        tail: &mut Tail,
        queue: u64,
        seq: u64,
        at: usize,
    ) -> Option<(Place, usize)> {
        let near = self.copies.get(&at);
        let near = near.filter(|copy| copy.segment == tail.segment() && tail.has_room());
        if let Some(copy) = near {
            let offset = copy.offset as u32;
            return Some((
                tail.append(|out| record::again(out, queue, seq, offset)),
                AGAIN_BYTES,
            ));
        }
        let Read::Record(Record::Publish { message, .. }, _) = record::read(self.bytes, at) else {
            return None;
        };
        let place = tail.append(|out| record::publish_encoded(out, queue, seq, message));
        self.copies.insert(at, place);
        Some((place, message.0.len()))
    }
}

/// A record that refers to another.
const AGAIN_BYTES: usize = 29;

impl Copying {
    fn new(segment: u64, bytes: Vec<u8>) -> Self {
        let mut wanted: BTreeMap<u64, Vec<(u64, usize)>> = BTreeMap::new();
        let mut at = segment::HEADER_BYTES as usize;
        while let Read::Record(record, next) = record::read(&bytes, at) {
            let (queue, seq, place) = match record {
                Record::Publish { queue, seq, .. } => (queue, seq, at),
                Record::Again { queue, seq, offset } => (queue, seq, offset as usize),
                _ => {
                    at = next;
                    continue;
                }
            };
            wanted.entry(queue).or_default().push((seq, place));
            at = next;
        }
        for places in wanted.values_mut() {
            // A message that was copied into this segment comes before those that follow it.
            places.sort_by_key(|(seq, _)| *seq);
        }
        Self {
            segment,
            bytes,
            left: wanted.into_iter().collect(),
            copies: HashMap::default(),
            number: 0,
        }
    }
}

/// Messages that are copied with the journal's lock held at once.
const COPIED_PLACES: usize = 256;

/// Wakes a thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock() = true;
        self.ringing.notify_all();
    }
}
