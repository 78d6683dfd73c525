//! Ctrl-C and its kin, as a wish that waits look at.
//!
//! Owns the chore's signals once [`watch`] is called. Ends no process itself: whoever waits learns
//! of the wish as an error, and what was started ends on that error's way out.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody asked for the end. One flag for the process, as signals are.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Takes SIGINT, SIGTERM and SIGHUP from now on; without this call they end the chore at once.
///
/// # Errors
/// When the handlers cannot be set.
pub(crate) fn watch() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("taking SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("taking SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("taking SIGHUP")?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                ASKED.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(())
}

/// Whether to go on.
///
/// # Errors
/// When somebody asked for the end.
pub(crate) fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
