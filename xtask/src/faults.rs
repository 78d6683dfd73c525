//! `cargo xtask faults`: the tests of `tests/faults` on a small file system in memory.
//!
//! Owns the mount, which takes root: without it this fails, and nothing is skipped. It unmounts
//! what it mounted.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{leveret, process};

/// Room for two segments and what is beside them, until a filler takes it.
const SIZE: &str = "size=200m";

/// A mounted file system, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn make() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", SIZE, "leveret-faults"]);
        command.arg(directory.path());
        process::must(&mut command).context("mounting a tmpfs takes root")?;
        Ok(Self(directory))
    }

    fn remount(&self, how: &str) -> Result<()> {
        let mut command = Command::new("mount");
        command
            .args(["-o", &format!("remount,{how}")])
            .arg(self.0.path());
        process::must(&mut command)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = process::must(Command::new("umount").arg(self.path())) {
            eprintln!("{error:#}");
        }
    }
}

/// Runs the tests.
///
/// # Errors
/// Nothing can be mounted, or a test fails.
pub(crate) fn run() -> Result<ExitCode> {
    let mount = Mount::make()?;
    test(
        "d3_a_full_file_system_is_waited_for",
        "LEVERET_FAULTS",
        &mount,
    )?;
    mount.remount("ro")?;
    test(
        "d3_a_read_only_file_system_is_named",
        "LEVERET_FAULTS_READ_ONLY",
        &mount,
    )?;
    mount.remount("rw")?;
    test(
        "d3_a_store_that_may_be_written_again_starts",
        "LEVERET_FAULTS",
        &mount,
    )?;
    Ok(ExitCode::SUCCESS)
}

fn test(name: &str, variable: &str, mount: &Mount) -> Result<()> {
    let mut command = leveret::test("faults", name)?;
    command.arg("--nocapture").env(variable, mount.path());
    process::must(&mut command)
}
