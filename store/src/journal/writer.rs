//! The journal's hand: writes and syncs a batch, raises the watermarks, frees what is not wanted.
//!
//! ```text
//! batch ──► written ──► written mark ──► synced, at once or by its time ──► synced mark
//! ```
//! Both marks wait for the definitions that the batch depends on; writing does not.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret_core::watermark::{Wake, Watermark};
use rustix::io::Errno;

use super::copier::Copying;
use super::record::Seal;
use super::recover::Segment;
use super::segment;
use super::tail::{Batch, Chunk};
use super::{SETTLED_SOON, Shared};

/// Segments from which on what is wanted in the oldest one is copied on, if little is wanted in
/// all of them.
const SEGMENTS_KEPT: usize = 4;

/// How long a full disk is waited for before the same is written again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Marks that wait for definitions, each on its own; more are merged.
const HELD_MAX: usize = 64;

/// What writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    definitions: Arc<Watermark>,
    bell: Arc<dyn Wake>,
    /// Batches that are written and wait for their definitions.
    written: Held,
    /// The same of those that are synced.
    synced: Held,
    /// The last batch and number that are written.
    last: (u64, u64),
    /// The last batch that is synced.
    synced_batch: u64,
    /// The last number that is, whatever it waits for.
    durable: u64,
    /// Segments that were written to since the last sync.
    dirty: BTreeSet<u64>,
    /// When what is written is to be synced.
    due: Option<Instant>,
    copying: Option<Copying>,
    /// Segments that were copied from, or cannot be.
    copied: BTreeSet<u64>,
    /// The oldest segment, since nothing in it is wanted, and the number of the last record then.
    emptied: Option<(u64, u64)>,
    /// The end was marked: the broker stops.
    ended: bool,
    /// A full disk is waited for; not while the journal is opened.
    pub(super) patient: bool,
}

/// Numbers that a mark may rise to, and the definitions' number that each waits for.
#[derive(Default)]
struct Held(VecDeque<(u64, u64)>);

impl Held {
    fn push(&mut self, after: u64, number: u64) {
        let full = self.0.len() >= HELD_MAX;
        match self.0.back_mut() {
            Some(last) if last.0 >= after || full => {
                last.0 = last.0.max(after);
                last.1 = number;
            }
            _ => self.0.push_back((after, number)),
        }
    }

    /// Raises the mark as far as definitions are durable; says which of them it waits for.
    fn raise(&mut self, durable: u64, mark: &Watermark) -> Option<u64> {
        while let Some(&(after, number)) = self.0.front() {
            if after > durable {
                // Somebody may raise it between two looks.
                return Some(after);
            }
            mark.raise(number);
            self.0.pop_front();
        }
        None
    }
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
}

/// Not the time of any message: when the disk is to have what is written.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread waits by it, and nothing is decided"
)]
fn now() -> Instant {
    Instant::now()
}

/// Wakes the writer.
struct Bell(Arc<Shared>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.state.lock().rung = true;
        self.0.work.notify_one();
    }
}

/// Nothing is confirmed any more when the thread has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let state = self.0.state.lock();
        let unfinished = !state.closing || !state.tail.is_empty();
        drop(state);
        if unfinished {
            self.0.fail("the journal's thread has ended");
        }
    }
}

/// What there is to do.
struct Work {
    batch: Option<Batch>,
    after: u64,
    /// How soon the batch is to be synced, if anybody asks for it.
    soon: Option<Duration>,
    closing: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, definitions: Arc<Watermark>, last_batch: u64) -> Self {
        Self {
            bell: Arc::new(Bell(Arc::clone(&shared))),
            shared,
            definitions,
            written: Held::default(),
            synced: Held::default(),
            last: (last_batch, 0),
            synced_batch: last_batch,
            durable: 0,
            dirty: BTreeSet::new(),
            due: None,
            copying: None,
            copied: BTreeSet::new(),
            emptied: None,
            ended: false,
            patient: false,
        }
    }

    /// Works until it is time to end, or the disk fails.
    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        loop {
            self.wait();
            let work = self.take();
            let closing = work.closing && work.batch.is_none();
            if let Err(why) = self.work(work) {
                tracing::error!(
                    %why,
                    "the journal cannot be written: nothing is confirmed from now on"
                );
                self.shared.fail(&why.to_string());
                return;
            }
            if closing {
                return;
            }
        }
    }

    /// Does what there is to do, without waiting for more; `false` if there was nothing.
    ///
    /// # Errors
    /// What is on disk is not known.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        let mut work = self.take();
        let some = work.batch.is_some() || !self.dirty.is_empty();
        // There is no clock here: what is to be synced some time is synced now.
        work.closing = true;
        self.work(work)?;
        Ok(some)
    }

    /// Waits for something to do.
    fn wait(&self) {
        let mut state = self.shared.state.lock();
        while state.tail.is_empty() && !state.closing && !state.rung && state.soon.is_none() {
            match self.due {
                None => self.shared.work.wait(&mut state),
                Some(due) => {
                    if self.shared.work.wait_until(&mut state, due).timed_out() {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Work {
        let mut state = self.shared.state.lock();
        state.rung = false;
        if state.closing && state.tail.is_empty() && !self.ended && self.last.1 > 0 {
            self.ended = true;
            state.tail.end();
        }
        let batch = (!state.tail.is_empty()).then(|| state.tail.take());
        Work {
            batch,
            after: state.after,
            soon: state.soon.take(),
            closing: state.closing,
        }
    }

    fn work(&mut self, work: Work) -> io::Result<()> {
        if let Some(mut batch) = work.batch {
            batch.mark(self.synced_batch);
            self.write(&batch.chunks)?;
            self.last = (batch.batch, batch.number);
            let copying = self.copying.as_mut();
            if copying.is_some_and(|copying| copying.written(&self.shared)) {
                self.copying = None;
            }
            self.written.push(work.after, batch.number);
            self.raise()?;
        }
        let due = work.soon.map(|soon| now() + soon);
        self.due = self.due.into_iter().chain(due).min();
        let is_due = self.due.is_some_and(|due| due <= now());
        let is_full = self.dirty.len() > 1;
        if (is_due || is_full || work.closing) && !self.dirty.is_empty() {
            self.sync()?;
            self.synced.push(work.after, self.last.1);
        }
        // Also with nothing to write: definitions may be durable that a mark has waited for.
        self.raise()?;
        self.reclaim();
        Ok(())
    }

    /// Raises both marks as far as definitions are durable.
    ///
    /// # Errors
    /// They never will be: nothing behind them can be confirmed.
    fn raise(&mut self) -> io::Result<()> {
        let shared = &self.shared;
        loop {
            let durable = self.definitions.durable();
            let written = self.written.raise(durable, &shared.written);
            let synced = self.synced.raise(durable, &shared.synced);
            let Some(after) = written.into_iter().chain(synced).min() else {
                return Ok(());
            };
            if self.definitions.has_failed() {
                return Err(io::Error::other("definitions cannot be written any more"));
            }
            if self.definitions.wait(after, &self.bell) {
                return Ok(());
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        for number in &self.dirty {
            let file = self.shared.segments.lock().get(number).cloned();
            if let Some(segment) = file {
                segment.file.sync()?;
            }
        }
        self.dirty.clear();
        self.due = None;
        self.synced_batch = self.last.0;
        self.durable = self.last.1;
        Ok(())
    }

    /// Writes chunks, however long the disk is full or the process has no file to spare: nothing is
    /// confirmed meanwhile. Ends with an error if it is time to end, or what is on disk is not
    /// known.
    fn write(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let mut told = false;
        loop {
            let why = match self.try_write(chunks) {
                Ok(()) => break,
                Err(Failure::Lasting(why)) => return Err(why),
                Err(Failure::Passing(why)) => why,
            };
            if !std::mem::replace(&mut told, true) {
                tracing::error!(%why, "the journal waits for the disk: nothing is confirmed");
            }
            let mut state = self.shared.state.lock();
            state.waiting = Some(why.to_string());
            if state.closing || self.shared.by_hand || !self.patient {
                return Err(why);
            }
            self.shared.work.wait_for(&mut state, LOOK_EVERY);
        }
        if told {
            self.shared.state.lock().waiting = None;
            tracing::info!("the journal goes on");
        }
        Ok(())
    }

    /// Writes chunks to their files, which are made where they are not there.
    fn try_write(&mut self, chunks: &[Chunk]) -> Result<(), Failure> {
        for chunk in chunks {
            let end = chunk.offset + chunk.bytes.len() as u64;
            let found = self.shared.segments.lock().get(&chunk.segment).cloned();
            let file = match found {
                Some(segment) => segment.file,
                None => self.make(chunk, end)?,
            };
            let wrote = file.write_all_at(&chunk.bytes, chunk.offset);
            wrote.map_err(Failure::of)?;
            self.dirty.insert(chunk.segment);
            if let Some(segment) = self.shared.segments.lock().get_mut(&chunk.segment) {
                segment.used = segment.used.max(end);
            }
        }
        Ok(())
    }

    fn make(&self, chunk: &Chunk, end: u64) -> Result<Arc<dyn crate::disk::DiskFile>, Failure> {
        let shared = &self.shared;
        let bytes = end.max(shared.segment_bytes);
        let file = segment::make(&*shared.disk, chunk.segment, chunk.nonce, bytes, end);
        let file = file.map_err(Failure::of)?;
        let segment = Segment {
            file: Arc::clone(&file),
            seal: Seal::new(chunk.nonce),
            used: segment::HEADER_BYTES,
        };
        shared.segments.lock().insert(chunk.segment, segment);
        Ok(file)
    }

    /// Removes segments that nobody wants anything of, oldest first, and copies a little of the
    /// next one on where that pays.
    fn reclaim(&mut self) {
        self.remove_unwanted();
        // Reading a segment takes a while: one at a time, others wait for their sync.
        if self.copying.is_none() {
            self.copying = self.oldest_that_wastes();
        }
        if let Some(copying) = &mut self.copying {
            self.copied.insert(copying.segment);
            copying.copy(&self.shared);
        }
    }

    /// A segment goes when nothing in it is wanted, and what says so is on disk.
    pub(super) fn remove_unwanted(&mut self) {
        loop {
            let first = self.shared.segments.lock().keys().next().copied();
            let Some(oldest) = first else { return };
            let mut state = self.shared.state.lock();
            if oldest >= state.tail.oldest() || state.ledger.count(oldest).live > 0 {
                return;
            }
            // What has taken the place of its messages must be on disk first: copies, a retained
            // message that replaced another, what a delayed will was published to.
            let number = match self.emptied {
                Some((segment, number)) if segment == oldest => number,
                _ => state.tail.number(),
            };
            self.emptied = Some((oldest, number));
            if self.durable < number {
                let soon = state.soon.into_iter().chain([SETTLED_SOON]).min();
                state.soon = soon;
                return;
            }
            state.ledger.drop_segment(oldest);
            drop(state);
            self.dirty.remove(&oldest);
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
                return;
            }
            self.shared.segments.lock().remove(&oldest);
        }
    }

    /// The oldest segment, if less than half of what all of them hold is wanted.
    fn oldest_that_wastes(&mut self) -> Option<Copying> {
        let segments = self.shared.segments.lock();
        if segments.len() <= SEGMENTS_KEPT {
            return None;
        }
        let state = self.shared.state.lock();
        let live = state.ledger.bytes();
        let used: u64 = segments.values().map(|segment| segment.used).sum();
        let tail = state.tail.segment();
        let wanted = |number: &u64| {
            let fresh = *number < tail && !self.copied.contains(number);
            fresh && state.ledger.count(*number).live > 0
        };
        let (&number, segment) = segments.iter().find(|(number, _)| wanted(number))?;
        if live * 2 >= used {
            return None;
        }
        let segment = segment.clone();
        drop(state);
        drop(segments);
        match Copying::begin(number, &segment) {
            Ok(copying) => Some(copying),
            Err(why) => {
                let path = self.shared.disk.path(&segment::name(number));
                tracing::error!(path = %path.display(), %why, "a segment cannot be read: it and \
                    those behind it stay until it can");
                self.copied.insert(number);
                None
            }
        }
    }
}
