//! Looking at a journal without changing it: what each file holds, what the next start would do.
//!
//! The same reading as the start's, on a disk that says yes to every change and makes none. It must
//! never be run beside a broker.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use leveret_core::definitions::Fault;
use leveret_core::message::{MessageRef, Origin};

use super::record::{self, Record};
use super::recover::{self, Reading, Recovered};
use super::segment;
use crate::disk::{Disk, DiskFile};

/// What became, or would become, of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It can be read to its end.
    Whole,
    /// Nothing was written to it: the start removes it.
    Empty,
    /// A crash tore its end, from this offset on: the start cuts it there.
    Torn(u64),
    /// It goes on what was torn: the start removes it.
    Behind,
    /// It is damaged at this offset: the start rescues what can be read, and sets it aside.
    Damaged(u64, &'static str),
}

/// One file of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes, used or not.
    pub bytes: u64,
    /// Records that can be read.
    pub records: u64,
    /// Messages in it that are wanted.
    pub messages: u64,
    /// How it is.
    pub state: State,
}

/// What there is.
pub struct Report {
    /// The segments, in order.
    pub files: Vec<FileReport>,
    /// Segments that an earlier start set aside.
    pub aside: Vec<PathBuf>,
    /// Wanted messages of each queue's number, in order of the numbers.
    pub queues: Vec<(u64, u64)>,
    found: Recovered,
}

/// One record, as it lies there.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The file's number.
    pub segment: u64,
    /// Where it begins.
    pub offset: u64,
    /// What it says.
    pub what: What<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A queue has taken a message.
    Message {
        /// The queue's number.
        queue: u64,
        /// The message's number in it.
        seq: u64,
        /// The record that has the message, if it is another one.
        again: Option<u64>,
        /// The message, unless it cannot be read.
        message: Option<MessageRef<'a>>,
    },
    /// These messages are settled.
    Settle {
        /// The queue's number.
        queue: u64,
        /// Their numbers.
        seqs: Seqs<'a>,
    },
    /// A queue is gone.
    Forget {
        /// Its number.
        queue: u64,
    },
    /// A batch begins.
    Batch {
        /// Its number.
        number: u64,
        /// The last batch that was on disk when this one was written.
        synced: u64,
        /// The file in which it begins.
        segment: u64,
    },
}

/// Numbers of messages.
#[derive(Clone, Copy, Debug)]
pub struct Seqs<'a>(record::Seqs<'a>);

impl Seqs<'_> {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter()
    }
}

impl Report {
    /// Whether a message is wanted, and this is the record that it is read from.
    #[must_use]
    pub fn is_wanted(&self, entry: &Entry<'_>) -> bool {
        let What::Message { queue, seq, .. } = entry.what else {
            return false;
        };
        let place = self.found.ledger.find(queue, seq);
        place.is_some_and(|place| {
            place.segment == entry.segment && u64::from(place.offset) == entry.offset
        })
    }

    /// Messages that are wanted.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.found.ledger.messages()
    }

    /// Files that are damaged.
    pub fn damaged(&self) -> impl Iterator<Item = &FileReport> {
        let files = self.files.iter();
        files.filter(|file| matches!(file.state, State::Damaged(..)))
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Report");
        shown.field("files", &self.files).finish_non_exhaustive()
    }
}

/// Reads a journal as the start does, changes nothing, and shows each record.
///
/// # Errors
/// A file cannot be read, or is of another version.
pub fn inspect(
    disk: &dyn Disk,
    origins: &[&'static dyn Origin],
    mut show: impl FnMut(&Entry<'_>),
) -> Result<Report, Fault> {
    let fault = |why: io::Error| Fault {
        what: format!("the journal in {} cannot be read", disk.path("").display()),
        why: why.to_string(),
    };
    let disk = Untouched(disk);
    let found = recover::recover(&disk, origins, |reading, at, record| {
        show(&entry(reading, at, record, origins));
    });
    report(&disk, found.map_err(fault)?).map_err(fault)
}

fn entry<'a>(
    reading: &Reading<'a>,
    at: usize,
    record: Record<'a>,
    origins: &[&'static dyn Origin],
) -> Entry<'a> {
    let message = || {
        let encoded = record::message_at(reading.bytes, at, reading.seal)?;
        encoded.message(origins)
    };
    let what = match record {
        Record::Publish { queue, seq, .. } => What::Message {
            queue,
            seq,
            again: None,
            message: message(),
        },
        Record::Again { queue, seq, offset } => What::Message {
            queue,
            seq,
            again: Some(offset.into()),
            message: message(),
        },
        Record::Settle { queue, seqs } => What::Settle {
            queue,
            seqs: Seqs(seqs),
        },
        Record::Forget { queue } => What::Forget { queue },
        Record::Batch(mark) => What::Batch {
            number: mark.number,
            synced: mark.synced,
            segment: mark.segment,
        },
    };
    Entry {
        segment: reading.number,
        offset: at as u64,
        what,
    }
}

fn report(disk: &Untouched<'_>, found: Recovered) -> io::Result<Report> {
    let mut files = Vec::new();
    for number in recover::numbers(disk)? {
        let name = segment::name(number);
        files.push(FileReport {
            path: disk.path(&name),
            bytes: disk.open(&name)?.size()?,
            records: found.records.get(&number).copied().unwrap_or_default(),
            messages: found.ledger.count(number).live,
            state: state(&found, number),
        });
    }
    let mut aside = disk.list()?;
    aside.retain(|name| segment::number_aside(name).is_some());
    aside.sort();
    let mut queues: Vec<u64> = found.ledger.queues().collect();
    queues.sort_unstable();
    let messages = |queue: u64| {
        let stretches = found.ledger.stretches(queue).into_iter();
        (
            queue,
            stretches.map(|stretch| u64::from(stretch.count)).sum(),
        )
    };
    Ok(Report {
        files,
        aside: aside.iter().map(|name| disk.path(name)).collect(),
        queues: queues.into_iter().map(messages).collect(),
        found,
    })
}

fn state(found: &Recovered, number: u64) -> State {
    let mut damaged = found.damaged.iter();
    if let Some(damaged) = damaged.find(|damaged| damaged.segment == number) {
        return State::Damaged(damaged.offset, damaged.why);
    }
    match found.torn {
        Some((torn, offset)) if torn == number => State::Torn(offset),
        Some((torn, _)) if torn < number => State::Behind,
        _ if found.segments.contains_key(&number) => State::Whole,
        _ => State::Empty,
    }
}

/// A disk whose changes are not made.
struct Untouched<'a>(&'a dyn Disk);

impl Disk for Untouched<'_> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn make(&self, _: &str, _: u64, _: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UntouchedFile(self.0.open(name)?)))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

/// A file whose changes are not made.
struct UntouchedFile(Arc<dyn DiskFile>);

impl DiskFile for UntouchedFile {
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn shorten(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
