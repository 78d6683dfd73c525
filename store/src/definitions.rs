//! Definitions on disk: one redb file, one table per kind, one thread that commits.
//!
//! Owns `definitions.redb` in the data directory. It must never let the core wait for the disk,
//! raise the watermark above what is synced, or commit anything after a commit has failed.
//!
//! ```text
//! submit ── changes ──► waiting ──► one transaction, synced ──► watermark ──► whoever waits
//!                          ▲                    │
//!                          └─ grows meanwhile ──┘
//! ```
//!
//! The commit in flight is the batch window: what is submitted meanwhile is the next transaction.
//! The record `format` of [`Kind::Node`] is this file's own and is not shown to the core.

pub mod inspect;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use leveret_core::definitions::{Change, Definitions, Fault, Kind};
use leveret_core::watermark::Watermark;
use parking_lot::{Condvar, Mutex};
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError, WriteTransaction,
};

use crate::atomic_file;
use crate::data_dir::DataDir;

/// The file's name in the data directory.
pub const DEFINITIONS_FILE: &str = "definitions.redb";

/// The version of the format that this program writes, and the newest that it opens.
pub const FORMAT_VERSION: u32 = 1;

/// Most bytes of changes that wait for the commit in flight to end. Above it, `submit` waits; one
/// submission alone may be larger. With the batch in flight, twice as much is held in memory.
pub const WAITING_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// The longest key, in bytes. The core keeps to it; it is asserted here.
pub const KEY_BYTES_MAX: usize = 256 * 1024;

/// The longest value, in bytes. The core keeps to it; it is asserted here.
pub const VALUE_BYTES_MAX: usize = 1_024 * 1_024;

/// Definitions in a redb file. Dropping it commits everything that was submitted.
pub struct DefinitionsFile {
    shared: Arc<Shared>,
    /// `None` once joined.
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    database: Opened,
    path: PathBuf,
    watermark: Arc<Watermark>,
    pending: Mutex<Pending>,
    /// There is something to commit, or it is time to close.
    work: Condvar,
    /// The waiting changes were taken, or never will be.
    room: Condvar,
    commits: AtomicU64,
}

/// A database that is open until this is dropped. redb panics when it closes some damaged files:
/// nobody hears of it, since what was committed is committed.
struct Opened(Option<Database>);

impl std::ops::Deref for Opened {
    type Target = Database;

    fn deref(&self) -> &Database {
        match &self.0 {
            Some(database) => database,
            None => unreachable!("it is taken only when it is dropped"),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let database = self.0.take();
        // What it says went to the panic hook.
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    bytes: usize,
    /// Number of the last submission.
    submitted: u64,
    /// Number of the last submission that the writer took.
    taken: u64,
    closing: bool,
    fault: Option<String>,
}

impl DefinitionsFile {
    /// Opens the file in the data directory, or makes it, and starts the writer's thread. After an
    /// unclean exit this takes as long as reading the file once.
    ///
    /// # Errors
    /// The file cannot be read or made, is no definitions file, is damaged, or is of a newer
    /// version; `what` has its path.
    pub fn open(directory: &DataDir) -> Result<Self, Fault> {
        let path = directory.path().join(DEFINITIONS_FILE);
        let database =
            guarded(|| open_or_make(&path)).map_err(|why| fault("opened", &path, &why))?;
        Self::start(database, path)
    }

    /// Why nothing is committed any more, if that is so. It stays so until the process ends: what
    /// a disk holds after a failed sync is known only by reading it again.
    pub fn fault(&self) -> Option<String> {
        self.shared.pending.lock().fault.clone()
    }

    /// Transactions since the file was opened: a number for metrics.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Commits everything that was submitted and ends the writer's thread.
    ///
    /// # Errors
    /// The [`Self::fault`], if there is one: what is above the watermark is lost.
    pub fn close(mut self) -> Result<(), Fault> {
        self.stop();
        match self.fault() {
            None => Ok(()),
            Some(why) => Err(fault("written", &self.shared.path, &why)),
        }
    }

    fn start(database: Database, path: PathBuf) -> Result<Self, Fault> {
        let database = Opened(Some(database));
        guarded(|| check_format(&database)).map_err(|why| fault("opened", &path, &why))?;
        let shared = Arc::new(Shared {
            database,
            path,
            watermark: Arc::default(),
            pending: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            commits: AtomicU64::new(0),
        });
        let writer = thread::Builder::new()
            .name("definitions".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || write_until_closed(&shared)
            });
        match writer {
            Ok(writer) => Ok(Self {
                shared,
                writer: Some(writer),
            }),
            Err(why) => Err(fault("written by a thread", &shared.path, &why)),
        }
    }

    fn stop(&mut self) {
        self.shared.pending.lock().closing = true;
        self.shared.work.notify_all();
        let Some(writer) = self.writer.take() else {
            return;
        };
        // A waiter woken by the writer may have held the last reference to this.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            // The panic set the fault on its way out; see `Panicking`.
            tracing::error!(path = %self.shared.path.display(), "the definitions thread panicked");
        }
    }
}

impl Drop for DefinitionsFile {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for DefinitionsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DefinitionsFile")
            .field("path", &self.shared.path)
            .field("watermark", &self.shared.watermark)
            .finish_non_exhaustive()
    }
}

impl Definitions for DefinitionsFile {
    /// Shows what is committed; what waits is not seen.
    fn load(&self, kind: Kind, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        guarded(|| Ok(load(&self.shared.database, kind, visit)?))
            .map_err(|why| fault("read", &self.shared.path, &why))
    }

    fn submit(&self, changes: Vec<Change>) -> u64 {
        let bytes = changes.iter().map(checked_bytes).sum::<usize>();
        let mut pending = self.shared.pending.lock();
        while pending.bytes > 0
            && pending.bytes + bytes > WAITING_BYTES_MAX
            && pending.fault.is_none()
        {
            self.shared.room.wait(&mut pending);
        }
        pending.submitted += 1;
        // After a fault the number is never reached, so nothing needs to be kept for it.
        if pending.fault.is_none() {
            pending.changes.extend(changes);
            pending.bytes += bytes;
            self.shared.work.notify_one();
        }
        pending.submitted
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.shared.watermark
    }
}

fn write_until_closed(shared: &Shared) {
    let panicking = Panicking(shared);
    while let Some((changes, number)) = next_batch(shared) {
        if let Err(why) = commit(&shared.database, &changes) {
            fail(shared, why.to_string());
            break;
        }
        shared.commits.fetch_add(1, Ordering::Relaxed);
        shared.watermark.raise(number);
    }
    drop(panicking);
}

/// Waits for work. `None` when everything is committed and nothing more will come.
fn next_batch(shared: &Shared) -> Option<(Vec<Change>, u64)> {
    let mut pending = shared.pending.lock();
    while pending.taken == pending.submitted {
        if pending.closing {
            return None;
        }
        shared.work.wait(&mut pending);
    }
    pending.taken = pending.submitted;
    pending.bytes = 0;
    let changes = std::mem::take(&mut pending.changes);
    shared.room.notify_all();
    Some((changes, pending.taken))
}

/// One transaction, on disk when this returns.
fn commit(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut tables = Kind::ALL.map(|_| None);
        for change in changes {
            apply(&transaction, &mut tables, change)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

type Records<'t> = Table<'t, &'static [u8], &'static [u8]>;

fn apply<'t>(
    transaction: &'t WriteTransaction,
    tables: &mut [Option<Records<'t>>; Kind::ALL.len()],
    change: &Change,
) -> Result<(), redb::Error> {
    let (Change::Put { kind, .. } | Change::Delete { kind, .. }) = change;
    let table = match &mut tables[*kind as usize] {
        Some(table) => table,
        closed => closed.insert(transaction.open_table(table_of(*kind))?),
    };
    match change {
        Change::Put { key, value, .. } => drop(table.insert(&**key, &**value)?),
        Change::Delete { key, .. } => drop(table.remove(&**key)?),
    }
    Ok(())
}

fn load(
    database: &Database,
    kind: Kind,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), redb::Error> {
    let table = match database.begin_read()?.open_table(table_of(kind)) {
        Ok(table) => table,
        // A kind that nothing was put in yet.
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for record in table.iter()? {
        let (key, value) = record?;
        if !is_format(kind, key.value()) {
            visit(key.value(), value.value());
        }
    }
    Ok(())
}

/// Why a file is not usable as definitions, beyond what redb says.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("it is a redb file, but not one of definitions")]
    NotDefinitions,
    #[error("its format version is {0}, and this program knows {FORMAT_VERSION}: use a newer one")]
    Newer(u32),
}

/// redb 4.4 returns an error for most damage but panics on some: measured, 2 of 600 files with
/// random bytes changed. The panic's own text goes to the panic hook.
fn guarded<T>(work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    // What the closures borrow is given up when this fails.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(OpenError::Damaged))
}

/// A file is made under another name and renamed when its format is in it: whatever happens, a
/// file of the right name is a whole one. The data directory's lock keeps others away meanwhile.
fn open_or_make(path: &Path) -> Result<Database, OpenError> {
    let is_missing = match fs::metadata(path) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error.into()),
    };
    if is_missing {
        let new = path.with_extension("redb.new");
        let database = open_database(&new, true)?;
        write_format(&database)?;
        drop(database);
        fs::rename(&new, path)?;
        atomic_file::sync_directory(atomic_file::parent(path))?;
    }
    open_database(path, false)
}

fn open_database(path: &Path, is_new: bool) -> Result<Database, OpenError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(is_new)
        .truncate(is_new)
        .mode(FILE_MODE);
    let file = options.open(path)?;
    // redb would make an empty file a database; here it is a damaged one.
    if !is_new && file.metadata()?.len() == 0 {
        return Err(OpenError::NotDefinitions);
    }
    let opened = Builder::new().set_cache_size(CACHE_BYTES).create_file(file);
    Ok(opened.map_err(redb::Error::from)?)
}

fn write_format(database: &Database) -> Result<(), redb::Error> {
    let change = Change::Put {
        kind: Kind::Node,
        key: FORMAT_KEY.into(),
        value: FORMAT_VERSION.to_be_bytes().into(),
    };
    commit(database, &[change])
}

fn check_format(database: &Database) -> Result<(), OpenError> {
    match read_format(database)? {
        Some(1..=FORMAT_VERSION) => Ok(()),
        Some(newer @ FORMAT_VERSION..) => Err(OpenError::Newer(newer)),
        Some(0) | None => Err(OpenError::NotDefinitions),
    }
}

fn read_format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(table_of(Kind::Node)) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let version = table.get(FORMAT_KEY)?;
    Ok(version.and_then(|version| Some(u32::from_be_bytes(version.value().try_into().ok()?))))
}

fn fail(shared: &Shared, why: String) {
    tracing::error!(
        path = %shared.path.display(),
        error = why,
        "definitions are no longer written: changes are not confirmed until a restart"
    );
    let mut pending = shared.pending.lock();
    pending.changes = Vec::new();
    pending.bytes = 0;
    pending.fault = Some(why);
    shared.room.notify_all();
    drop(pending);
    shared.watermark.fail();
}

/// Turns a panic of the writer's thread into a fault, so that nobody waits for room for ever.
struct Panicking<'a>(&'a Shared);

impl Drop for Panicking<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            fail(self.0, "the writer's thread panicked".to_owned());
        }
    }
}

/// What a change counts against [`WAITING_BYTES_MAX`].
fn checked_bytes(change: &Change) -> usize {
    let (kind, key, value) = match change {
        Change::Put { kind, key, value } => (kind, key, value.len()),
        Change::Delete { kind, key } => (kind, key, 0),
    };
    assert!(
        key.len() <= KEY_BYTES_MAX && value <= VALUE_BYTES_MAX,
        "the core bounds its records"
    );
    assert!(
        !is_format(*kind, key),
        "the format is not the core's to change"
    );
    size_of::<Change>() + key.len() + value
}

fn is_format(kind: Kind, key: &[u8]) -> bool {
    kind == Kind::Node && key == FORMAT_KEY
}

/// The tables' names are part of the format: they stay when a kind is renamed.
const fn table_of(kind: Kind) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match kind {
        Kind::Node => "node",
        Kind::VHost => "vhost",
        Kind::User => "user",
        Kind::Permission => "permission",
        Kind::TopicPermission => "topic_permission",
        Kind::GlobalParameter => "global_parameter",
        Kind::Exchange => "exchange",
        Kind::Queue => "queue",
        Kind::Binding => "binding",
        Kind::Policy => "policy",
        Kind::OperatorPolicy => "operator_policy",
    })
}

fn fault(verb: &str, path: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault {
        what: format!("definitions file {} cannot be {verb}", path.display()),
        why: why.to_string(),
    }
}

const FORMAT_KEY: &[u8] = b"format";
/// It holds password hashes.
const FILE_MODE: u32 = 0o600;
/// redb's default is 1 GiB. Definitions are read once at the start and seldom written.
const CACHE_BYTES: usize = 8 * 1_024 * 1_024;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < WAITING_BYTES_MAX);

#[cfg(test)]
mod tests;
