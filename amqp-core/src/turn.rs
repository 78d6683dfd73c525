//! One turn of a worker: what it may reuse, and whom it owes a wake-up.
//!
//! A worker has one `Turn` for all its connections. Everything that happens on behalf of one read
//! batch shares it, so that each connection that got something is woken once per batch.

use std::sync::Arc;

use crate::exchange::RouteCache;
use crate::sink::Sink;
use crate::time::Time;

/// A worker's reusable state. Not shared between threads.
#[derive(Default)]
pub struct Turn {
    /// The time of this turn; whoever starts the turn sets it.
    pub now: Time,
    pub(crate) routes: RouteCache,
    pub(crate) scratch: Vec<u8>,
    pub(crate) dotted: Vec<u8>,
    wakes: Vec<Arc<dyn Sink>>,
    wakes_rung: u64,
}

/// Scratch space above this is given back after a turn, so that one large message does not stay for
/// ever.
const SCRATCH_KEPT_BYTES_MAX: usize = 256 * 1024;

impl Turn {
    /// A turn at time zero with nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn owe(&mut self, sink: &Arc<dyn Sink>) {
        self.wakes.push(Arc::clone(sink));
    }

    /// Wakes everybody who got something. Call it once, at the end of a read batch.
    pub fn ring(&mut self) {
        self.wakes_rung += self.wakes.len() as u64;
        for sink in self.wakes.drain(..) {
            sink.wake();
        }
        if self.scratch.capacity() > SCRATCH_KEPT_BYTES_MAX {
            self.scratch = Vec::new();
        }
    }

    /// How many wake-ups this worker has sent: the budget tests count them.
    #[must_use]
    pub fn wakes_rung(&self) -> u64 {
        self.wakes_rung
    }
}
