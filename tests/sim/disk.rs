//! The faulty disk: it tears writes, loses and reorders what was not synced, fails, is full for a
//! while, and ends the process or the power before, in the middle of, or after any operation.
//!
//! A sector is written as a whole or not at all, by a write that is cut short as well. What was
//! written to it since the last sync is a list of states; a power cut leaves any of them, of each
//! sector on its own. Removals of files become durable in their order, with the next file that is
//! made or renamed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use leveret_store::disk::{Disk, DiskFile};
use parking_lot::Mutex;

use crate::random::Random;

const SECTOR_BYTES: usize = 512;

/// How a life of the broker ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Crash {
    /// `kill -9`: what was written stays, synced or not.
    Kill,
    /// What was not synced may be there or not.
    Power,
}

/// When, in an operation, the end comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Before,
    Middle,
    After,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    Make,
    Write,
    Sync,
    Shorten,
    Remove,
    Rename,
}

/// What the disk did, for the statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) torn: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) full: u64,
    pub(crate) lost_sectors: u64,
    pub(crate) undone_removals: u64,
}

/// See the module.
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Clone)]
struct State {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// Files whose removal is not durable.
    removed: VecDeque<(String, u64)>,
    random: Random,
    /// Operations before the one that is the last, and where in it the end comes.
    plan: Option<(u64, Stage)>,
    /// The operation in which the end came.
    died: Option<Operation>,
    /// Syncs that go well before one fails.
    sync_fails: Option<u64>,
    full: bool,
    counts: Counts,
}

#[derive(Clone, Default)]
struct File {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What is surely on disk.
    synced: Vec<u8>,
    /// Sectors written since, each as it was after that.
    unsynced: Vec<(usize, Box<[u8]>)>,
}

/// What becomes of an operation.
enum Course {
    Whole,
    Half,
    Last,
}

impl State {
    /// An operation begins.
    fn begin(&mut self, operation: Operation) -> io::Result<Course> {
        if self.died.is_some() {
            return Err(ended());
        }
        self.counts.operations += 1;
        let Some((left, stage)) = &mut self.plan else {
            return Ok(Course::Whole);
        };
        if *left > 0 {
            *left -= 1;
            return Ok(Course::Whole);
        }
        self.died = Some(operation);
        match stage {
            Stage::Before => Err(ended()),
            Stage::Middle => {
                self.counts.torn += 1;
                Ok(Course::Half)
            }
            Stage::After => Ok(Course::Last),
        }
    }

    fn file(&mut self, file: u64) -> &mut File {
        self.files.entry(file).or_default()
    }
}

/// Nothing is heard of the disk after the end.
fn ended() -> io::Error {
    io::Error::other("simulated: the process has ended")
}

impl Course {
    /// The result of an operation that is done as far as it is done.
    fn result(&self) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::Half | Self::Last => Err(ended()),
        }
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.seen.len() {
            self.seen.resize(end, 0);
            self.synced.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        if bytes.is_empty() {
            return;
        }
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.seen.len());
            self.unsynced.push((sector, self.seen[from..to].into()));
        }
    }

    fn sync(&mut self) {
        for (sector, bytes) in std::mem::take(&mut self.unsynced) {
            let from = sector * SECTOR_BYTES;
            self.synced[from..from + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// Of each sector any state is on disk; says how many sectors lost something.
    fn sync_in_part(&mut self, random: &mut Random) -> u64 {
        let mut states: BTreeMap<usize, Vec<Box<[u8]>>> = BTreeMap::new();
        for (sector, bytes) in std::mem::take(&mut self.unsynced) {
            states.entry(sector).or_default().push(bytes);
        }
        // Often all or nothing of it: orders that chance alone would hardly meet.
        let mood = random.below(4);
        let mut lost = 0;
        for (sector, mut states) in states {
            let kept = match mood {
                0 => states.len(),
                1 => 0,
                _ => random.below(states.len() + 1),
            };
            lost += u64::from(kept < states.len());
            states.truncate(kept);
            if let Some(bytes) = states.pop() {
                let from = sector * SECTOR_BYTES;
                self.synced[from..from + bytes.len()].copy_from_slice(&bytes);
            }
        }
        lost
    }

    fn shorten(&mut self, bytes: usize) {
        self.sync();
        self.seen.truncate(bytes);
        self.synced.truncate(bytes);
    }
}

impl SimDisk {
    pub(crate) fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State {
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            next_file: 0,
            removed: VecDeque::new(),
            random,
            plan: None,
            died: None,
            sync_fails: None,
            full: false,
            counts: Counts::default(),
        })))
    }

    /// The same disk, for the journal to hold.
    pub(crate) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// The end comes in the operation after so many others.
    pub(crate) fn plan(&self, operations: u64, stage: Stage) {
        self.0.lock().plan = Some((operations, stage));
    }

    /// A sync fails after so many others.
    pub(crate) fn fail_sync(&self, after: u64) {
        self.0.lock().sync_fails = Some(after);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// Nothing happens to it any more.
    pub(crate) fn calm(&self) {
        let mut state = self.0.lock();
        (state.plan, state.sync_fails) = (None, None);
        state.full = false;
    }

    /// The operation in which the end came.
    pub(crate) fn died(&self) -> Option<Operation> {
        self.0.lock().died
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// A disk with the same files that nothing happens to.
    pub(crate) fn copy(&self) -> Self {
        let mut state = self.0.lock().clone();
        (state.plan, state.died, state.sync_fails) = (None, None, None);
        state.full = false;
        Self(Arc::new(Mutex::new(state)))
    }

    /// What the next process finds.
    pub(crate) fn after(&self, crash: Crash) -> Self {
        let disk = self.copy();
        if crash == Crash::Kill {
            return disk;
        }
        let state = &mut *disk.0.lock();
        let durable = state.random.below(state.removed.len() + 1);
        for (name, file) in state.removed.drain(durable..) {
            state.counts.undone_removals += 1;
            state.names.insert(name, file);
        }
        state.removed.clear();
        for file in state.files.values_mut() {
            state.counts.lost_sectors += file.sync_in_part(&mut state.random);
            file.seen.clone_from(&file.synced);
        }
        Self(Arc::clone(&disk.0))
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn make(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        if state.full {
            state.counts.full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let course = state.begin(Operation::Make)?;
        let (mut size, mut begun) = (bytes as usize, head.len());
        if matches!(course, Course::Half) {
            if state.random.percent(30) {
                return Err(ended());
            }
            size = state.random.below(size + 1);
            begun = state.random.below(begun.min(size) + 1);
        }
        state.removed.clear();
        let file = state.next_file;
        state.next_file += 1;
        let mut all = vec![0; size];
        all[..begun].copy_from_slice(&head[..begun]);
        let held = state.file(file);
        (held.seen, held.synced) = (all.clone(), all);
        state.names.insert(name.to_owned(), file);
        course.result()?;
        let disk = Arc::clone(&self.0);
        Ok(Arc::new(SimFile { disk, file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.0.lock();
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let disk = Arc::clone(&self.0);
        Ok(Arc::new(SimFile { disk, file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let course = state.begin(Operation::Remove)?;
        if !matches!(course, Course::Half) || state.random.percent(50) {
            let file = state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.removed.push_back((name.to_owned(), file));
        }
        course.result()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let course = state.begin(Operation::Rename)?;
        if !matches!(course, Course::Half) || state.random.percent(50) {
            let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), file);
            state.removed.clear();
        }
        course.result()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }
}

struct SimFile {
    disk: Arc<Mutex<State>>,
    file: u64,
}

impl DiskFile for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let course = state.begin(Operation::Write)?;
        let mut length = bytes.len();
        if matches!(course, Course::Half) {
            // Whole sectors of it.
            let end = offset as usize + state.random.below(length + 1);
            let end = end / SECTOR_BYTES * SECTOR_BYTES;
            length = end.saturating_sub(offset as usize);
        }
        let file = state.file(self.file);
        file.write(&bytes[..length], offset as usize);
        course.result()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let from = offset as usize;
        let seen = &state.file(self.file).seen;
        let found = seen.get(from..from + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn shorten(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let course = state.begin(Operation::Shorten)?;
        if !matches!(course, Course::Half) || state.random.percent(50) {
            state.file(self.file).shorten(bytes as usize);
        }
        course.result()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().file(self.file).seen.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.disk.lock();
        let state = &mut *guard;
        let course = state.begin(Operation::Sync)?;
        let file = state.files.entry(self.file).or_default();
        if matches!(course, Course::Whole)
            && let Some(left) = &mut state.sync_fails
        {
            if *left == 0 {
                // The system forgets which pages were not written: later syncs do not bring them.
                state.sync_fails = None;
                state.counts.failed_syncs += 1;
                state.counts.lost_sectors += file.sync_in_part(&mut state.random);
                return Err(io::Error::other("simulated: the sync failed"));
            }
            *left -= 1;
        }
        if !matches!(course, Course::Half) {
            file.sync();
        }
        course.result()
    }
}
