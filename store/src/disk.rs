//! The one door to files of the journal: what it asks of a file system, and no more.
//!
//! Implementors: [`Files`], a directory of the operating system, and the tests' faulty disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::atomic_file;

/// A directory of files that are made, grown into, read and removed.
pub trait Disk: Send + Sync {
    /// The names of all files.
    ///
    /// # Errors
    /// What the system answered.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file that begins with `head` and has room for so many bytes, which read as zero
    /// until they are written. Its name and its beginning are on disk when this returns.
    ///
    /// # Errors
    /// What the system answered; no file is left behind.
    fn make(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// What the system answered.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system answered.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, which is on disk when this returns.
    ///
    /// # Errors
    /// What the system answered.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Where it is, for people.
    fn path(&self, name: &str) -> PathBuf;
}

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Writes all bytes at this place.
    ///
    /// # Errors
    /// What the system answered; some may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills the buffer from this place.
    ///
    /// # Errors
    /// What the system answered, and `UnexpectedEof` behind the end.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Gives back what is behind so many bytes; on disk when this returns.
    ///
    /// # Errors
    /// What the system answered.
    fn shorten(&self, bytes: u64) -> io::Result<()>;

    /// Bytes that it has room for.
    ///
    /// # Errors
    /// What the system answered.
    fn size(&self) -> io::Result<u64>;

    /// Returns when everything that was written is on disk.
    ///
    /// # Errors
    /// What the system answered. What is on disk is not known then, and asking again tells nothing.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// Whether its files may be changed.
    writes: bool,
}

impl Files {
    /// The directory, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// What the system answered.
    pub fn open(directory: &Path) -> io::Result<Self> {
        match fs::create_dir(directory) {
            Ok(()) => atomic_file::sync_directory(atomic_file::parent(directory))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            directory: directory.to_path_buf(),
            writes: true,
        })
    }

    /// The directory, whose files are only read.
    #[must_use]
    pub fn to_read(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            writes: false,
        }
    }
}

impl Disk for Files {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn make(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let made = reserve(&file, bytes)
            .and_then(|()| FileExt::write_all_at(&file, head, 0))
            .and_then(|()| file.sync_all())
            .and_then(|()| atomic_file::sync_directory(&self.directory));
        match made {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                // The first error is the one to report.
                drop(fs::remove_file(&path));
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(self.writes)
            .open(self.path(name))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))?;
        atomic_file::sync_directory(&self.directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Has the file system set the bytes aside, so that a full disk shows here and not in the middle of
/// a batch; where it cannot, the file is only as long.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        other => Ok(other?),
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn shorten(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
