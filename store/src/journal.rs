//! The journal: one append-only log of segments for the messages of all queues.
//!
//! ```text
//! publish, settle ── records ──► tail ──► one write for a batch, one sync ──► watermark
//!                                 ▲                        │
//!                                 └──── grows meanwhile ───┘
//! oldest segment ── nothing wanted in it ──► removed
//!        └───────── little wanted in it ───► that is copied to the tail, then removed
//! ```
//! Segments are removed in order, oldest first: a message's settling lies behind the message, so it
//! is never forgotten before it. Owns the directory `journal`. It must never let a queue wait for
//! the disk, raise the watermark above what is synced, or write after a sync has failed.

mod copier;
pub mod inspect;
mod ledger;
mod reader;
mod record;
mod recover;
mod segment;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use foldhash::fast::RandomState;
use leveret_core::dead_letter::Death;
use leveret_core::definitions::Fault;
use leveret_core::journal::{Appended, Body, Condition, Durability, Journal, Slot, Stretch};
use leveret_core::message::{Message, MessageRef, Origin};
use leveret_core::watermark::Watermark;
use parking_lot::{Condvar, Mutex};

use crate::disk::Disk;
use ledger::Ledger;
use recover::{Recovered, Segment};
use tail::Tail;
use writer::Writer;

/// The directory's name in the data directory.
pub const JOURNAL_DIRECTORY: &str = "journal";

/// Messages that one record settles, with the journal's lock held.
const SETTLED_AT_ONCE: usize = 65_536;

/// What is settled is synced with what comes next, or after this time.
const SETTLED_SOON: Duration = Duration::from_secs(1);

/// How the journal keeps its files.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of one file; a longer record has a file of its own. At least 4,096.
    pub segment_bytes: u64,
    /// How long the disk may be behind with [`Durability::Interval`].
    pub interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1_024 * 1_024,
            interval: Duration::from_millis(200),
        }
    }
}

/// The journal on disk. Dropping it writes and syncs everything that was appended.
pub struct JournalFile {
    shared: Arc<Shared>,
    origins: Vec<&'static dyn Origin>,
    /// Queues that nobody has asked for since the journal was opened.
    unclaimed: Mutex<HashSet<u64, RandomState>>,
    /// Queues with messages that may have a time to live, until all have theirs.
    expiring: Mutex<HashSet<u64, RandomState>>,
    /// What queues have given up and still have, until all have theirs.
    given_up: Mutex<HashMap<u64, Vec<(u64, Death)>, RandomState>>,
    last_queue: u64,
    lost: u64,
    hand: Hand,
}

/// Who writes.
enum Hand {
    /// `None` once joined.
    Thread(Option<JoinHandle<()>>),
    /// Whoever calls [`JournalFile::step`].
    Caller(Box<Mutex<Writer>>),
}

struct Shared {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    interval: Duration,
    written: Arc<Watermark>,
    synced: Arc<Watermark>,
    /// Locked before the state, where both are.
    segments: Mutex<BTreeMap<u64, Segment>>,
    state: Mutex<State>,
    /// There is something to write, or it is time to close.
    work: Condvar,
    /// There is no thread that could wait for anything.
    by_hand: bool,
}

struct State {
    tail: Tail,
    ledger: Ledger,
    /// The definitions' number that what is appended depends on.
    after: u64,
    /// How soon what is appended is to be on disk.
    soon: Option<Duration>,
    /// Definitions have become durable.
    rung: bool,
    closing: bool,
    fault: Option<String>,
    /// What the writer waits for, while the disk is full.
    waiting: Option<String>,
}

impl State {
    fn new(tail: Tail, ledger: Ledger) -> Self {
        Self {
            tail,
            ledger,
            after: 0,
            soon: None,
            rung: false,
            closing: false,
            fault: None,
            waiting: None,
        }
    }
}

impl JournalFile {
    /// Opens the journal on this disk, or begins one, and starts the writer's thread. `definitions`
    /// says how far what queues are made of is durable: a message is not before its queue.
    ///
    /// # Errors
    /// A file cannot be read or written, or is of another version. What is damaged is no error: it
    /// is logged, what can be read of it is rescued, and its file is set aside.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: &Options,
        origins: &[&'static dyn Origin],
        definitions: Arc<Watermark>,
    ) -> Result<Self, Fault> {
        Self::open_with(disk, options, origins, definitions, false)
    }

    /// Opens the journal without a thread: it is written by [`Self::step`] alone.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        options: &Options,
        origins: &[&'static dyn Origin],
        definitions: Arc<Watermark>,
    ) -> Result<Self, Fault> {
        Self::open_with(disk, options, origins, definitions, true)
    }

    fn open_with(
        disk: Arc<dyn Disk>,
        options: &Options,
        origins: &[&'static dyn Origin],
        definitions: Arc<Watermark>,
        by_hand: bool,
    ) -> Result<Self, Fault> {
        let fault = |why: io::Error| Fault {
            what: format!(
                "the journal in {} cannot be opened",
                disk.path("").display()
            ),
            why: why.to_string(),
        };
        let mut found = recover::recover(&*disk, origins, |_, _, _| ()).map_err(fault)?;
        found.make_sure().map_err(fault)?;
        found.tell(&*disk);
        let next = recover::next_number(&*disk).map_err(fault)?;
        let mut tail = Tail::new(next, found.last.number, options.segment_bytes);
        let lost = found.rescue(&mut tail).map_err(fault)?;
        if lost > 0 {
            tracing::error!(messages = lost, "could not be read and are lost");
        }
        let last_queue = found.last_queue;
        let given_up = found.take_given_up();
        let last_batch = found.last.number;
        let shared = Arc::new(Shared {
            disk: Arc::clone(&disk),
            segment_bytes: options.segment_bytes,
            interval: options.interval,
            written: Arc::default(),
            synced: Arc::default(),
            segments: Mutex::new(std::mem::take(&mut found.segments)),
            state: Mutex::new(State::new(tail, std::mem::take(&mut found.ledger))),
            work: Condvar::new(),
            by_hand,
        });
        let mut writer = Writer::new(Arc::clone(&shared), definitions, last_batch);
        // What the disk has no room for now, it may have when what nobody wants is gone.
        writer.remove_unwanted();
        writer.step().map_err(fault)?;
        found.set_aside(&*disk).map_err(fault)?;
        writer.patient = true;
        let hand = if by_hand {
            Hand::Caller(Box::new(Mutex::new(writer)))
        } else {
            let spawned = thread::Builder::new()
                .name("journal".to_owned())
                .spawn(move || writer.run());
            Hand::Thread(Some(spawned.map_err(fault)?))
        };
        let queues = shared.state.lock().ledger.queues().collect();
        Ok(Self {
            shared,
            origins: origins.to_vec(),
            unclaimed: Mutex::new(queues),
            expiring: Mutex::new(found.expiring),
            given_up: Mutex::new(given_up),
            last_queue,
            lost,
            hand,
        })
    }

    /// Writes and syncs what was appended, if nobody else does; `false` if there was nothing.
    ///
    /// # Errors
    /// What is on disk is not known: nothing is written any more.
    pub fn step(&self) -> io::Result<bool> {
        let Hand::Caller(writer) = &self.hand else {
            return Ok(false);
        };
        if self.fault().is_some() {
            return Ok(false);
        }
        let stepped = writer.lock().step();
        if let Err(why) = &stepped {
            self.shared.fail(&why.to_string());
        }
        stepped
    }

    /// Why nothing is written any more, if that is so. It stays so until the process ends: what a
    /// disk holds after a failed sync is known only by reading it again.
    pub fn fault(&self) -> Option<String> {
        self.shared.state.lock().fault.clone()
    }

    /// Has everything that was appended synced at once; gives the number to wait for.
    pub fn flush(&self) -> u64 {
        let number = self.shared.append(0, Some(Duration::ZERO), |_, _| {});
        self.shared.state.lock().rung = true;
        self.shared.work.notify_one();
        number
    }

    /// Messages of damaged segments that were wanted and could not be read when it was opened.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn stop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        let Hand::Thread(writer) = &mut self.hand else {
            return;
        };
        let Some(writer) = writer.take() else {
            return;
        };
        // A waiter woken by the writer may have held the last reference to this.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the journal's thread panicked");
        }
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for JournalFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalFile")
            .field("written", &self.shared.written)
            .field("synced", &self.shared.synced)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Appends with the state's lock held; wakes the writer if it has nothing to do, or is to be
    /// quicker.
    fn append(
        &self,
        after: u64,
        soon: Option<Duration>,
        change: impl FnOnce(&mut Tail, &mut Ledger),
    ) -> u64 {
        let mut state = self.state.lock();
        if state.fault.is_some() {
            // A number that is never reached.
            return state.tail.number() + 1;
        }
        state.after = state.after.max(after);
        state.soon = state.soon.into_iter().chain(soon).min();
        let idle = state.tail.is_empty();
        let State { tail, ledger, .. } = &mut *state;
        change(tail, ledger);
        let number = tail.number();
        let wakes = idle && !tail.is_empty();
        drop(state);
        if wakes {
            self.work.notify_one();
        }
        number
    }

    /// How soon something is to be on disk.
    fn soon(&self, durability: Durability) -> Option<Duration> {
        match durability {
            Durability::Group => Some(Duration::ZERO),
            Durability::Interval => Some(self.interval),
            Durability::None => None,
        }
    }

    /// Nothing is written any more.
    fn fail(&self, why: &str) {
        self.state
            .lock()
            .fault
            .get_or_insert_with(|| why.to_owned());
        self.written.fail();
        self.synced.fail();
    }
}

impl Journal for JournalFile {
    fn publish(&self, slot: Slot, message: &MessageRef<'_>, body: Option<Body>) -> Appended {
        let Slot { queue, seq, .. } = slot;
        let mut at = None;
        let soon = self.shared.soon(slot.durability);
        let number = self.shared.append(slot.after, soon, |tail, ledger| {
            let near = body.filter(|body| body.segment == tail.segment() && tail.has_room());
            let place = tail.append(|out| match near {
                Some(body) => record::again(out, queue, seq, body.offset),
                None => record::publish(out, queue, seq, message),
            });
            ledger.publish(queue, seq, place);
            let here = Body {
                segment: place.segment,
                offset: place.offset,
            };
            at = Some(near.unwrap_or(here));
        });
        Appended { number, body: at }
    }

    fn give_up(&self, slot: Slot, message: &MessageRef<'_>, why: Death) -> bool {
        let Slot { queue, seq, .. } = slot;
        let mut is_there = false;
        // The record that the queue has is replaced: a copy of the message with one more fact.
        let soon = Some(SETTLED_SOON);
        self.shared.append(slot.after, soon, |tail, ledger| {
            is_there = ledger.find(queue, seq).is_some();
            if is_there {
                let place = tail.append(|out| record::give_up(out, queue, seq, message, why));
                ledger.publish(queue, seq, place);
            }
        });
        is_there
    }

    fn settle(&self, queue: u64, seqs: &[u64], surely: Option<Durability>) -> u64 {
        let soon = surely.map_or(Some(SETTLED_SOON), |surely| self.shared.soon(surely));
        let mut number = 0;
        for seqs in seqs.chunks(SETTLED_AT_ONCE) {
            number = self.shared.append(0, soon, |tail, ledger| {
                let live = seqs.iter().copied();
                let mut live: Vec<u64> = live.filter(|seq| ledger.settle(queue, *seq)).collect();
                if !live.is_empty() {
                    live.sort_unstable();
                    tail.append(|out| record::settle(out, queue, &live));
                }
            });
        }
        number
    }

    fn forget(&self, queue: u64) {
        self.shared.append(0, Some(SETTLED_SOON), |tail, ledger| {
            if ledger.forget(queue) {
                tail.append(|out| record::forget(out, queue));
            }
        });
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.shared.synced
    }

    fn written(&self) -> &Arc<Watermark> {
        &self.shared.written
    }

    fn last_queue(&self) -> u64 {
        self.last_queue
    }

    fn recovered(&self, queue: u64) -> Vec<Stretch> {
        if self.unclaimed.lock().remove(&queue) {
            self.shared.state.lock().ledger.stretches(queue)
        } else {
            Vec::new()
        }
    }

    fn may_expire(&self, queue: u64) -> bool {
        self.expiring.lock().contains(&queue)
    }

    fn given_up(&self, queue: u64) -> Vec<(u64, Death)> {
        self.given_up.lock().remove(&queue).unwrap_or_default()
    }

    fn has(&self, queue: u64, seqs: Range<u64>) -> bool {
        reader::has(&self.shared, queue, seqs)
    }

    fn fetch(&self, queue: u64, seqs: Range<u64>) -> Vec<(u64, Message)> {
        reader::fetch(&self.shared, &self.origins, queue, seqs)
    }

    fn fetch_some(
        &self,
        queue: u64,
        seqs: Range<u64>,
        bytes_max: u64,
    ) -> (Vec<(u64, Message)>, u64) {
        reader::fetch_some(&self.shared, &self.origins, queue, seqs, bytes_max)
    }

    fn condition(&self) -> Condition {
        let (bytes, files) = {
            let segments = self.shared.segments.lock();
            let bytes = segments.values().map(|segment| segment.used).sum();
            (bytes, segments.len())
        };
        let state = self.shared.state.lock();
        let failed = state.fault.as_ref().map(|why| format!("failed: {why}"));
        let waiting = || Some(format!("waits for the disk: {}", state.waiting.as_ref()?));
        Condition {
            messages: state.ledger.messages(),
            bytes,
            files,
            stuck: failed.or_else(waiting),
        }
    }

    fn settled_in(&self) {
        drop(std::mem::take(&mut *self.expiring.lock()));
        drop(std::mem::take(&mut *self.given_up.lock()));
        let gone = std::mem::take(&mut *self.unclaimed.lock());
        for queue in gone {
            self.forget(queue);
        }
    }
}

impl Recovered {
    fn tell(&self, disk: &dyn Disk) {
        if !self.records.is_empty() {
            let records: u64 = self.records.values().sum();
            let bytes = self.bytes;
            let messages = self.ledger.messages();
            tracing::info!(records, bytes, messages, "read the journal");
        }
        if let Some((segment, offset)) = self.torn {
            let path = disk.path(&segment::name(segment));
            tracing::warn!(path = %path.display(), offset, "cut what a crash left unfinished; \
                nothing behind it was confirmed as durable");
        }
        for damaged in &self.damaged {
            let path = disk.path(&segment::name(damaged.segment));
            let (offset, why) = (damaged.offset, damaged.why);
            tracing::error!(path = %path.display(), offset, why, "a segment is damaged: what can \
                be read of it is written anew, the file is set aside as .damaged");
        }
    }

    /// Gives damaged files another name: what could be read of them is elsewhere.
    fn set_aside(&self, disk: &dyn Disk) -> io::Result<()> {
        for damaged in &self.damaged {
            let name = segment::name(damaged.segment);
            disk.rename(&name, &format!("{name}{}", segment::DAMAGED))?;
        }
        Ok(())
    }
}
