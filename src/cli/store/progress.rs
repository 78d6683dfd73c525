//! How far reading a journal has come, on standard error: for people at a terminal, and for logs if
//! it takes long.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// A journal of so many bytes takes long to read.
const LONG_BYTES: u64 = 1024 * 1024 * 1024;

/// See the module.
pub(super) struct Progress {
    told: bool,
    at_terminal: bool,
    files: u64,
    seen: u64,
    segment: u64,
}

impl Progress {
    pub(super) fn new(journal: &Path) -> Self {
        let (mut files, mut bytes) = (0, 0);
        for entry in std::fs::read_dir(journal).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "log") {
                files += 1;
                bytes += entry.metadata().map_or(0, |found| found.len());
            }
        }
        let at_terminal = std::io::stderr().is_terminal();
        Self {
            told: at_terminal || bytes >= LONG_BYTES,
            at_terminal,
            files,
            seen: 0,
            segment: 0,
        }
    }

    /// A record of this segment was read.
    pub(super) fn see(&mut self, segment: u64) {
        if std::mem::replace(&mut self.segment, segment) == segment {
            return;
        }
        self.seen += 1;
        if self.told {
            let end = if self.at_terminal { "\r" } else { "\n" };
            // Nobody may be reading.
            let _ = write!(
                std::io::stderr(),
                "reading file {} of {}{end}",
                self.seen,
                self.files
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told && self.at_terminal && self.seen > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
