//! How far something is durable, and who waits for it to get further.
//!
//! Acknowledgements leave when the watermark has passed the number that they stand for. The one who
//! raises it (the store's thread) wakes every waiter once for a whole batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Somebody who can be told that there is something to do. Implementors: connections' out-buffers,
/// timers, tests.
pub trait Wake: Send + Sync {
    /// Never blocks; calling it too often does no harm.
    fn wake(&self);
}

/// A number that only grows, with a list of who waits for which value.
#[derive(Default)]
pub struct Watermark {
    durable: AtomicU64,
    failed: AtomicBool,
    waiters: Mutex<Vec<(u64, Arc<dyn Wake>)>>,
}

impl Watermark {
    /// Everything up to and including this number is durable.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Raises the mark to `number` and wakes those who waited for that or less. A lower number
    /// changes nothing.
    pub fn raise(&self, number: u64) {
        let mut due = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            if self.durable.fetch_max(number, Ordering::AcqRel) >= number {
                return;
            }
            waiters.retain(|(wanted, who)| {
                let wait_on = *wanted > number;
                if !wait_on {
                    due.push(Arc::clone(who));
                }
                wait_on
            });
        }
        for who in due {
            who.wake();
        }
    }

    /// It will never rise again: everybody who waits is woken, and [`Self::has_failed`] tells why.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for (_, who) in waiters {
            who.wake();
        }
    }

    /// What is above the mark will never be durable.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Wakes `who` once when `number` is durable, or never will be. Returns `false`, and remembers
    /// nothing, if it is already; whoever asks after a failure looks at [`Self::has_failed`].
    pub fn wait(&self, number: u64, who: &Arc<dyn Wake>) -> bool {
        let mut waiters = self.waiters.lock();
        if self.durable() >= number {
            return false;
        }
        if self.has_failed() {
            // Nobody else ever would.
            drop(waiters);
            who.wake();
            return true;
        }
        waiters.push((number, Arc::clone(who)));
        true
    }
}

impl std::fmt::Debug for Watermark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watermark")
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}
