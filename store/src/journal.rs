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

mod ledger;
mod record;
mod recover;
mod segment;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use foldhash::fast::RandomState;
use leveret_core::definitions::Fault;
use leveret_core::journal::{Appended, Body, Journal, Slot};
use leveret_core::message::{Message, MessageRef, Origin};
use leveret_core::watermark::Watermark;
use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, DiskFile};
use ledger::Ledger;
use recover::{Kept, Recovered};
use tail::Tail;
use writer::Writer;

/// The directory's name in the data directory.
pub const JOURNAL_DIRECTORY: &str = "journal";

/// Messages that one record settles, with the journal's lock held.
const SETTLED_AT_ONCE: usize = 65_536;

/// How the journal keeps its files.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of one file; a longer record has a file of its own. At least 4,096.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1_024 * 1_024,
        }
    }
}

/// The journal on disk. Dropping it writes and syncs everything that was appended.
pub struct JournalFile {
    shared: Arc<Shared>,
    recovered: Mutex<HashMap<u64, Vec<Kept>, RandomState>>,
    last_queue: u64,
    /// `None` once joined.
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    watermark: Arc<Watermark>,
    state: Mutex<State>,
    /// There is something to write, or it is time to close.
    work: Condvar,
}

struct State {
    tail: Tail,
    ledger: Ledger,
    /// The definitions' number that what is appended depends on.
    after: u64,
    closing: bool,
    fault: Option<String>,
}

impl JournalFile {
    /// Opens the journal on this disk, or begins one, and starts the writer's thread. `definitions`
    /// says how far what queues are made of is durable: a message is not before its queue.
    ///
    /// # Errors
    /// A file cannot be read or written, or is of a newer version. What is damaged is no error: it
    /// is logged, what can be read of it is rescued, and its file is set aside.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: &Options,
        origins: &[&'static dyn Origin],
        definitions: Arc<Watermark>,
    ) -> Result<Self, Fault> {
        let segment_bytes = options.segment_bytes;
        let fault = |why: io::Error| Fault {
            what: format!(
                "the journal in {} cannot be opened",
                disk.path("").display()
            ),
            why: why.to_string(),
        };
        let mut found = recover::recover(&*disk, origins).map_err(fault)?;
        found.tell(&*disk);
        let next = found
            .segments
            .last_key_value()
            .map_or(1, |(last, _)| last + 1);
        let mut tail = Tail::new(next, found.last_batch, segment_bytes);
        found.rescue(&mut tail);
        found.drop_settled();
        let mut files = found.segments.clone();
        let batch = tail.take();
        writer::write(&*disk, &mut files, segment_bytes, &batch.chunks)
            .map_err(|failure| fault(failure.into_error()))?;
        found.set_aside(&*disk, &mut files).map_err(fault)?;
        let shared = Arc::new(Shared {
            disk: Arc::clone(&disk),
            segment_bytes,
            watermark: Arc::default(),
            state: Mutex::new(State {
                tail,
                ledger: found.ledger(),
                after: 0,
                closing: false,
                fault: None,
            }),
            work: Condvar::new(),
        });
        shared.watermark.raise(batch.number);
        let writer = Writer::new(Arc::clone(&shared), definitions, files);
        let spawned = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run());
        Ok(Self {
            shared,
            last_queue: found.last_queue,
            recovered: Mutex::new(found.queues),
            writer: Some(spawned.map_err(fault)?),
        })
    }

    /// Why nothing is written any more, if that is so. It stays so until the process ends: what a
    /// disk holds after a failed sync is known only by reading it again.
    pub fn fault(&self) -> Option<String> {
        self.shared.state.lock().fault.clone()
    }

    /// The number of the last record.
    pub fn appended(&self) -> u64 {
        self.shared.state.lock().tail.number()
    }

    fn stop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        let Some(writer) = self.writer.take() else {
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
            .field("watermark", &self.shared.watermark)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Appends with the state's lock held; wakes the writer if it has nothing to do.
    fn append(&self, after: u64, change: impl FnOnce(&mut Tail, &mut Ledger)) -> u64 {
        let mut state = self.state.lock();
        if state.fault.is_some() {
            // A number that is never reached.
            return state.tail.number() + 1;
        }
        state.after = state.after.max(after);
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
}

impl Journal for JournalFile {
    fn publish(&self, slot: Slot, message: &MessageRef<'_>, body: Option<Body>) -> Appended {
        let Slot { queue, seq, after } = slot;
        let mut at = None;
        let number = self.shared.append(after, |tail, ledger| {
            let near = body.filter(|body| body.segment == tail.segment() && tail.has_room());
            let place = tail.append(|out| match near {
                Some(body) => record::again(out, queue, seq, body.offset),
                None => record::publish(out, queue, seq, message),
            });
            ledger.publish(queue, seq, place.segment);
            let here = Body {
                segment: place.segment,
                offset: place.offset as u32,
            };
            at = Some(near.unwrap_or(here));
        });
        Appended { number, body: at }
    }

    fn settle(&self, queue: u64, seqs: &[u64]) {
        for seqs in seqs.chunks(SETTLED_AT_ONCE) {
            self.shared.append(0, |tail, ledger| {
                let live = seqs.iter().copied();
                let live: Vec<u64> = live.filter(|seq| ledger.settle(queue, *seq)).collect();
                if !live.is_empty() {
                    tail.append(|out| record::settle(out, queue, &live));
                }
            });
        }
    }

    fn forget(&self, queue: u64) {
        self.shared.append(0, |tail, ledger| {
            if ledger.forget(queue) {
                tail.append(|out| record::forget(out, queue));
            }
        });
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.shared.watermark
    }

    fn last_queue(&self) -> u64 {
        self.last_queue
    }

    fn recovered(&self, queue: u64) -> Vec<(u64, Message)> {
        let kept = self.recovered.lock().remove(&queue).unwrap_or_default();
        let message = |kept: Kept| (kept.seq, kept.into_message());
        kept.into_iter()
            .map(message)
            .filter_map(|(seq, message)| Some((seq, message?)))
            .collect()
    }

    fn settled_in(&self) {
        let gone = std::mem::take(&mut *self.recovered.lock());
        for queue in gone.keys() {
            self.forget(*queue);
        }
    }
}

impl Recovered {
    fn tell(&self, disk: &dyn Disk) {
        let messages: usize = self.queues.values().map(Vec::len).sum();
        if self.records > 0 {
            let (records, bytes) = (self.records, self.bytes);
            tracing::info!(records, bytes, messages, "read the journal");
        }
        if let Some((segment, offset)) = self.torn {
            let path = disk.path(&segment::name(segment));
            tracing::warn!(path = %path.display(), offset, "cut what a crash left unfinished; \
                nothing behind it was confirmed");
        }
        for damaged in &self.damaged {
            let path = disk.path(&segment::name(damaged.segment));
            let (offset, why) = (damaged.offset, damaged.why);
            tracing::error!(path = %path.display(), offset, why, "a segment is damaged: what can \
                be read of it is written anew, the file is set aside as .damaged");
        }
    }

    /// Writes what could be read of damaged files anew.
    fn rescue(&mut self, tail: &mut Tail) {
        let damaged: Vec<u64> = self.damaged.iter().map(|damaged| damaged.segment).collect();
        for (queue, kept) in &mut self.queues {
            if !damaged.is_empty() {
                // Their settling may lie in what is set aside.
                let settled = kept.iter().filter(|kept| kept.message().is_none());
                let settled = settled.filter(|kept| !damaged.contains(&kept.segment));
                let settled: Vec<u64> = settled.map(|kept| kept.seq).collect();
                for seqs in settled.chunks(SETTLED_AT_ONCE) {
                    tail.append(|out| record::settle(out, *queue, seqs));
                }
            }
            for kept in kept
                .iter_mut()
                .filter(|kept| damaged.contains(&kept.segment))
            {
                let Some(message) = kept.message() else {
                    continue;
                };
                let place = tail.append(|out| {
                    record::publish(out, *queue, kept.seq, &message.view());
                });
                kept.segment = place.segment;
            }
        }
    }

    fn set_aside(
        &self,
        disk: &dyn Disk,
        files: &mut BTreeMap<u64, Arc<dyn DiskFile>>,
    ) -> io::Result<()> {
        for damaged in &self.damaged {
            files.remove(&damaged.segment);
            let name = segment::name(damaged.segment);
            disk.rename(&name, &format!("{name}.damaged"))?;
        }
        Ok(())
    }
}
