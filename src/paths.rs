//! Where the broker keeps what survives a restart when nobody said where.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The data directory of a node of this machine: of root, and of whoever may write there.
pub const SYSTEM_DATA_DIR: &str = "/var/lib/leveret";

/// The data directory of everybody else, below the directory that the program is started in.
pub const LOCAL_DATA_DIR: &str = "leveret-data";

/// The data directory: the one that is configured, else [`SYSTEM_DATA_DIR`] if that is ours to
/// write to, else [`LOCAL_DATA_DIR`].
#[must_use]
pub fn data_dir(configured: Option<&Path>) -> PathBuf {
    if let Some(configured) = configured {
        return configured.to_path_buf();
    }
    let is_writable = access(SYSTEM_DATA_DIR, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if is_writable || rustix::process::geteuid().is_root() {
        return SYSTEM_DATA_DIR.into();
    }
    LOCAL_DATA_DIR.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_wins() {
        assert_eq!(
            data_dir(Some(Path::new("/somewhere"))),
            Path::new("/somewhere")
        );
        assert!(
            [SYSTEM_DATA_DIR, LOCAL_DATA_DIR]
                .map(PathBuf::from)
                .contains(&data_dir(None))
        );
    }
}
