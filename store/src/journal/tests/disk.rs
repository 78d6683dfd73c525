//! A disk in memory that loses, tears and reorders what was not synced when the power goes, and
//! fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};

/// What is written at once, whatever happens.
const SECTOR_BYTES: usize = 512;

#[derive(Default)]
pub(super) struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    fate: Arc<Fate>,
}

/// When things begin to fail.
pub(super) struct Fate {
    /// Syncs that go well before one fails; negative: all do.
    pub(super) syncs: AtomicI64,
    /// Bytes that may still be reserved.
    pub(super) room: AtomicI64,
    pub(super) written: AtomicU64,
    /// The process may open no file more.
    pub(super) no_files: AtomicBool,
}

impl Default for Fate {
    fn default() -> Self {
        Self {
            syncs: AtomicI64::new(-1),
            room: AtomicI64::new(i64::MAX),
            written: AtomicU64::new(0),
            no_files: AtomicBool::new(false),
        }
    }
}

struct MemoryFile {
    fate: Arc<Fate>,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What is surely on disk.
    synced: Vec<u8>,
    /// Writes since.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl MemoryDisk {
    pub(super) fn fate(&self) -> &Fate {
        &self.fate
    }

    /// What is there after the power went: of what was not synced, any sector or none.
    pub(super) fn after_power_cut(&self, mut random: impl FnMut() -> u64) -> Self {
        let mut files = BTreeMap::new();
        let fate = Arc::new(Fate::default());
        for (name, file) in &*self.files.lock() {
            let state = file.state.lock();
            let mut bytes = state.synced.clone();
            for (offset, written) in &state.unsynced {
                let mut at = *offset;
                let end = offset + written.len();
                while at < end {
                    let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                    if random().is_multiple_of(2) {
                        bytes[at..next].copy_from_slice(&written[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
            files.insert(name.clone(), MemoryFile::holding(&fate, bytes));
        }
        Self {
            files: Mutex::new(files),
            fate,
        }
    }

    /// The bytes of a file, changed by hand.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let files = self.files.lock();
        let mut state = files[name].state.lock();
        let state = &mut *state;
        change(&mut state.seen);
        state.synced.clone_from(&state.seen);
        state.unsynced.clear();
    }

    pub(super) fn copy(&self) -> Self {
        let fate = Arc::new(Fate::default());
        let files = self.files.lock();
        let copy =
            |file: &Arc<MemoryFile>| MemoryFile::holding(&fate, file.state.lock().seen.clone());
        let files = files
            .iter()
            .map(|(name, file)| (name.clone(), copy(file)))
            .collect();
        Self {
            files: Mutex::new(files),
            fate,
        }
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.files.lock()[name].state.lock().seen.clone()
    }

    /// All files.
    pub(super) fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.names().into_iter();
        names
            .map(|name| (name.clone(), self.bytes(&name)))
            .collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.files.lock().keys().cloned().collect()
    }
}

impl MemoryFile {
    fn holding(fate: &Arc<Fate>, bytes: Vec<u8>) -> Arc<Self> {
        let state = State {
            synced: bytes.clone(),
            seen: bytes,
            unsynced: Vec::new(),
        };
        Arc::new(Self {
            fate: Arc::clone(fate),
            state: Mutex::new(state),
        })
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn make(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        if self.fate.no_files.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        if self.fate.room.fetch_sub(bytes as i64, Ordering::Relaxed) < bytes as i64 {
            self.fate.room.fetch_add(bytes as i64, Ordering::Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut all = vec![0; bytes as usize];
        all[..head.len()].copy_from_slice(head);
        let file = MemoryFile::holding(&self.fate, all);
        self.files.lock().insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let files = self.files.lock();
        let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file) as Arc<dyn DiskFile>)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let gone = self.files.lock().remove(name);
        gone.map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

impl DiskFile for MemoryFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = offset as usize;
        let mut state = self.state.lock();
        state.seen[offset..offset + bytes.len()].copy_from_slice(bytes);
        state.unsynced.push((offset, bytes.to_vec()));
        self.fate
            .written
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock();
        let from = offset as usize;
        let found = state.seen.get(from..from + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn shorten(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.seen.truncate(bytes as usize);
        state.synced.clone_from(&state.seen);
        state.unsynced.clear();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.state.lock().seen.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let left = self.fate.syncs.load(Ordering::Relaxed);
        if left >= 0 && self.fate.syncs.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("injected: the sync failed"));
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        state.synced.clone_from(&state.seen);
        state.unsynced.clear();
        Ok(())
    }
}
