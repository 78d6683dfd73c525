//! The data directory: one process, one directory.
//!
//! Owns its creation and the lock file in it. It must never remove or change what it finds there:
//! the lock file stays behind, because removing it would race with the next process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::atomic_file;

/// The lock file's name in the data directory. It holds the process id as text.
pub const LOCK_FILE: &str = "leveret.lock";

/// Why the data directory cannot be used. Each is a reason not to start.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there and cannot be made.
    #[error("data directory {} cannot be created: {why}", path.display())]
    NotCreated {
        /// The data directory.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
    /// It is not there, or may not be read.
    #[error("data directory {} cannot be read: {why}", path.display())]
    NotThere {
        /// The data directory.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
    /// Something else has its name.
    #[error("data directory {} is not a directory", path.display())]
    NotADirectory {
        /// What should be the data directory.
        path: PathBuf,
    },
    /// No file can be created or written in it.
    #[error("data directory {} is not writable: {why}", path.display())]
    NotWritable {
        /// The data directory.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
    /// Another process holds the lock.
    #[error("data directory {} is in use by another process (pid {pid})", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The other's process id as the lock file tells it, else `unknown`.
        pid: String,
    },
    /// The file system cannot lock.
    #[error("data directory {} cannot be locked: {why}", path.display())]
    NotLocked {
        /// The data directory.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
}

/// The data directory, held for this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock lives as long as this open file.
    lock: File,
}

impl DataDir {
    /// Takes the directory, which is created with mode 0700 (its parents too) if it is not there.
    ///
    /// # Errors
    /// One per variant of [`DataDirError`], each a sentence with the path.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let path = path.to_path_buf();
        create(&path)?;
        let lock = match open_lock_file(&path) {
            Ok(lock) => lock,
            Err(why) => return Err(DataDirError::NotWritable { path, why }),
        };
        let held = take_lock(path, lock)?;
        match probe(&held.path).and_then(|()| write_pid(&held.lock)) {
            Ok(()) => Ok(held),
            Err(why) => Err(DataDirError::NotWritable {
                path: held.path,
                why,
            }),
        }
    }

    /// Takes a directory that is there, changing nothing in it: a broker's process id stays. One
    /// that no broker was ever started on has no lock to take.
    ///
    /// # Errors
    /// [`DataDirError::NotThere`], [`DataDirError::NotADirectory`], [`DataDirError::InUse`] and
    /// [`DataDirError::NotLocked`].
    pub fn look(path: &Path) -> Result<Self, DataDirError> {
        let path = path.to_path_buf();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(DataDirError::NotADirectory { path }),
            Err(why) => return Err(DataDirError::NotThere { path, why }),
        }
        let lock = match File::open(path.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(why) if why.kind() == io::ErrorKind::NotFound => match File::open(&path) {
                Ok(directory) => {
                    return Ok(Self {
                        path,
                        lock: directory,
                    });
                }
                Err(why) => return Err(DataDirError::NotThere { path, why }),
            },
            Err(why) => return Err(DataDirError::NotLocked { path, why }),
        };
        take_lock(path, lock)
    }

    /// The directory as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn take_lock(path: PathBuf, lock: File) -> Result<DataDir, DataDirError> {
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DataDir { path, lock }),
        Err(Errno::WOULDBLOCK) => Err(DataDirError::InUse {
            path,
            pid: read_pid(&lock),
        }),
        Err(errno) => Err(DataDirError::NotLocked {
            path,
            why: errno.into(),
        }),
    }
}

fn create(path: &Path) -> Result<(), DataDirError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => {
            return Err(DataDirError::NotADirectory {
                path: path.to_path_buf(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(why) => {
            return Err(DataDirError::NotCreated {
                path: path.to_path_buf(),
                why,
            });
        }
    }
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .and_then(|()| atomic_file::sync_directory(atomic_file::parent(path)))
        .map_err(|why| DataDirError::NotCreated {
            path: path.to_path_buf(),
            why,
        })
}

fn open_lock_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not truncated: it may hold the process id of the one who has the lock.
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE);
    options.open(directory.join(LOCK_FILE))
}

/// The lock file may be left from better days: only a new file tells whether one can be made.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE_FILE);
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE);
    let written = options.open(&path)?.write_all(b"probe");
    fs::remove_file(&path)?;
    written
}

fn write_pid(mut lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn read_pid(lock: &File) -> String {
    let mut text = String::new();
    match lock.take(PID_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

const PROBE_FILE: &str = ".leveret.probe";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Ten digits, a line end, and some to spare.
const PID_BYTES_MAX: u64 = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn creates_private_directories() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("a/b");
        let held = DataDir::open(&path).expect("opens");
        assert_eq!(held.path(), path);
        for made in [&path, &root.path().join("a")] {
            let mode = fs::metadata(made).expect("is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", made.display());
        }
        let names: Vec<_> = fs::read_dir(&path)
            .expect("lists")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(names, [LOCK_FILE], "the probe is gone");
    }

    #[test]
    fn a_second_open_fails_until_the_first_is_dropped() {
        let root = tempfile::tempdir().expect("directory");
        let held = DataDir::open(root.path()).expect("opens");
        let error = DataDir::open(root.path()).expect_err("locked").to_string();
        let expected = format!(
            "data directory {} is in use by another process (pid {})",
            root.path().display(),
            std::process::id()
        );
        assert_eq!(error, expected);
        drop(held);
        DataDir::open(root.path()).expect("opens again");
    }

    #[test]
    fn looking_changes_nothing() {
        let root = tempfile::tempdir().expect("directory");
        drop(DataDir::look(root.path()).expect("is there"));
        assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 0);
        let held = DataDir::open(root.path()).expect("opens");
        let error = DataDir::look(root.path()).expect_err("locked");
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        drop(held);
        fs::write(root.path().join(LOCK_FILE), "12\n").expect("writes");
        let looked = DataDir::look(root.path()).expect("is free");
        let error = DataDir::open(root.path()).expect_err("looked at");
        assert!(error.to_string().ends_with("(pid 12)"), "{error}");
        drop(looked);
        let missing = root.path().join("none");
        let error = DataDir::look(&missing).expect_err("is not there");
        assert!(matches!(error, DataDirError::NotThere { .. }), "{error}");
        assert!(!missing.exists());
    }

    #[test]
    fn a_lock_file_without_a_pid_is_no_hindrance() {
        let root = tempfile::tempdir().expect("directory");
        let lock = root.path().join(LOCK_FILE);
        fs::write(&lock, "x".repeat(1_000)).expect("writes");
        let held = DataDir::open(root.path()).expect("opens");
        let pid = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&lock).expect("reads"), pid);
        fs::write(&lock, "garbage").expect("writes");
        let error = DataDir::open(root.path()).expect_err("locked").to_string();
        assert!(error.ends_with("(pid unknown)"), "{error}");
        drop(held);
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let root = tempfile::tempdir().expect("directory");
        let file = root.path().join("file");
        fs::write(&file, "text").expect("writes");
        let table = [
            (file.clone(), "is not a directory"),
            (file.join("sub"), "cannot be created"),
            // Nobody can create files here, not even root.
            (PathBuf::from("/proc/self"), "is not writable"),
        ];
        for (path, text) in table {
            let error = DataDir::open(&path).expect_err("unusable").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).expect("reads"), "text");
    }
}
