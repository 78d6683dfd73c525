//! Replacing a file as a whole: after a crash there is the old text or the new one, never a mix.
//!
//! Owns the order of write, sync and rename. It must never leave the target half-written.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces `path` with `bytes`; a new file gets `mode` (less the umask). A symbolic link stays,
/// and what it points at is replaced. Returns when the new text is on disk.
///
/// # Errors
/// What the system answered; the old file is then still there.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(error),
    };
    let temporary = beside(&target)?;
    let result = write_and_rename(&temporary, &target, bytes, mode);
    if result.is_err() {
        // The first error is the one to report; a leftover is replaced by the next write.
        drop(fs::remove_file(&temporary));
    }
    result
}

/// Syncs a directory, so that names created, renamed or removed in it survive a crash.
///
/// # Errors
/// What the system answered.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that holds `path`: `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_and_rename(temporary: &Path, target: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(temporary)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, target)?;
    sync_directory(parent(target))
}

/// A hidden name in the same directory: a rename is atomic within one file system only.
fn beside(target: &Path) -> io::Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file",
        ));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(parent(target).join(hidden))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn replaces_keeps_the_mode_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("file");
        write(&path, b"one", 0o600).expect("writes");
        assert_eq!(
            fs::metadata(&path).expect("is there").permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changes");
        write(&path, b"two", 0o600).expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"two");
        assert_eq!(
            fs::metadata(&path).expect("is there").permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_symbolic_link_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        write(&path, b"one", 0o600).expect("writes");
        symlink(&path, &link).expect("links");
        write(&link, b"two", 0o600).expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"two");
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
    }

    #[test]
    fn errors_leave_the_old_file() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("sub");
        fs::create_dir(&path).expect("creates");
        assert!(
            write(&path, b"text", 0o600).is_err(),
            "a directory is not replaced"
        );
        assert!(write(&path.join("missing/file"), b"text", 0o600).is_err());
        assert!(write(Path::new("/"), b"text", 0o600).is_err());
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 1);
    }
}
