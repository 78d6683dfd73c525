//! Running other programs: to the end, or until a deadline.
//!
//! Owns the children it starts and ends no other process.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// How often a wait looks again.
const POLL_MS: u64 = 20;

/// Runs a program with its output shown.
///
/// # Errors
/// When it cannot be started or ends with anything but 0.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Whether a program of this name is on the path.
pub(crate) fn exists(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file())
}

/// Waits for a child, at most `limit`; `None` when it had to be ended.
///
/// # Errors
/// When the system cannot say how the child is, or on an interruption; the child has ended then.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut status = None;
    let waited = until(limit, || {
        interrupt::check()?;
        status = child.try_wait()?;
        Ok(status.is_some())
    });
    if status.is_none() {
        child.kill().context("ending a child that overran")?;
        child.wait().context("waiting for an ended child")?;
    }
    waited?;
    Ok(status)
}

/// Asks `done` again and again until it says yes (true) or `limit` is over (false).
///
/// # Errors
/// The first error of `done`.
#[expect(
    clippy::disallowed_methods,
    reason = "waiting for other programs takes a wall clock"
)]
pub(crate) fn until(limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let began = Instant::now();
    loop {
        if done()? {
            return Ok(true);
        }
        if began.elapsed() >= limit {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
