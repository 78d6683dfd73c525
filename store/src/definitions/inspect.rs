//! Looking at a definitions file without changing it, and having redb repair one.
//!
//! redb writes to a file that it opens after an unclean exit: what is looked at is a copy of it, in
//! memory.

use std::fs;
use std::path::Path;

use leveret_core::definitions::{Fault, Kind};
use redb::backends::InMemoryBackend;
use redb::{Builder, StorageBackend};

use super::{CACHE_BYTES, DEFINITIONS_FILE, OpenError, Opened};
use super::{check_format, fault, guarded, load, open_database};
use crate::data_dir::DataDir;

/// A definitions file as the next start would find it.
pub struct Snapshot {
    database: Opened,
    path: std::path::PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Whether every page could be read and is as it was written.
    pub sound: bool,
}

/// Reads the definitions of a data directory; `None` if there are none.
///
/// # Errors
/// The file cannot be read, is no definitions file, is damaged, or is of a newer version.
pub fn inspect(directory: &Path) -> Result<Option<Snapshot>, Fault> {
    let path = directory.join(DEFINITIONS_FILE);
    let opened = guarded(|| {
        let bytes = match fs::read(&path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        if bytes.is_empty() {
            return Err(OpenError::NotDefinitions);
        }
        let memory = InMemoryBackend::new();
        memory.set_len(bytes.len() as u64)?;
        memory.write(0, &bytes)?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let opened = builder.create_with_backend(memory);
        let mut database = opened.map_err(redb::Error::from)?;
        check_format(&database)?;
        let sound = database.check_integrity().map_err(redb::Error::from)?;
        Ok(Some((database, bytes.len() as u64, sound)))
    });
    let opened = opened.map_err(|why| fault("read", &path, &why))?;
    Ok(opened.map(|(database, bytes, sound)| Snapshot {
        database: Opened(Some(database)),
        path,
        bytes,
        sound,
    }))
}

impl Snapshot {
    /// Calls `visit(key, value)` for every record of `kind`, in key order.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn load(&self, kind: Kind, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        guarded(|| Ok(load(&self.database, kind, visit)?))
            .map_err(|why| fault("read", &self.path, &why))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("path", &self.path)
            .field("sound", &self.sound)
            .finish_non_exhaustive()
    }
}

/// Has redb check every page of the file, and mend what it can; `true` if there was nothing to
/// mend.
///
/// # Errors
/// The file cannot be read or written, or cannot be mended.
pub fn repair(directory: &DataDir) -> Result<bool, Fault> {
    let path = directory.path().join(DEFINITIONS_FILE);
    let repaired = guarded(|| {
        let mut database = open_database(&path, false)?;
        check_format(&database)?;
        Ok(database.check_integrity().map_err(redb::Error::from)?)
    });
    repaired.map_err(|why| fault("repaired", &path, &why))
}
