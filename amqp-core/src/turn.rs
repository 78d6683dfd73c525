//! One turn of a worker: what it may reuse, and whom it owes a wake-up.
//!
//! A worker has one `Turn` for all its connections. Everything that happens on behalf of one read
//! batch shares it, so that each connection that got something is woken once per batch.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dead_letter::Letter;
use crate::exchange::RouteCache;
use crate::limits::{LETTERS_MAX, STREAM_SCAN_PER_TURN};
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
    /// What queues have given up, to be published when no lock is held.
    pub(crate) letters: VecDeque<Letter>,
    wakes: Vec<Arc<dyn Sink>>,
    wakes_rung: u64,
    /// Deliveries offered or taken back since the turn began.
    offered: usize,
    /// Bindings changed and not asked about yet.
    rebound: usize,
    /// Dead letters published since the turn began.
    posted: usize,
    /// It has lasted longer than [`TURN_MS_MAX`].
    late: bool,
    /// What time it is meanwhile; without one no turn is ever late.
    clock: Option<Box<dyn Fn() -> Time + Send>>,
    /// What readers of streams were looked through for, see [`STREAM_SCAN_PER_TURN`].
    scanned: u64,
}

/// Deliveries of one connection's messages that a turn may offer before others have theirs; the
/// message that reaches the bound is finished. Some ten milliseconds.
pub const DELIVERIES_PER_TURN_MAX: usize = 32 * 1024;

/// What a turn may last before others have theirs, in milliseconds; the frame that reaches the
/// bound is finished.
pub const TURN_MS_MAX: u64 = 5;

/// Scratch space above this is given back after a turn, so that one large message does not stay for
/// ever.
const SCRATCH_KEPT_BYTES_MAX: usize = 256 * 1024;

impl Turn {
    /// A turn at time zero with nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the turn a clock, so that it sees when what is slow has taken too long.
    pub fn set_clock(&mut self, clock: impl Fn() -> Time + Send + 'static) {
        self.clock = Some(Box::new(clock));
    }

    /// The turn of another connection begins.
    pub fn begin(&mut self, now: Time) {
        self.now = now;
        self.offered = 0;
        self.rebound = 0;
        self.posted = 0;
        self.late = false;
        self.scanned = 0;
    }

    /// Something was done that may have taken long, as little does: the clock is looked at.
    pub(crate) fn check_time(&mut self) {
        if let Some(clock) = &self.clock {
            self.late |= clock().since_ms(self.now) >= TURN_MS_MAX;
        }
    }

    /// The turn has lasted too long already: others should come at once.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// A dead letter was published, or has to wait for a later turn.
    pub(crate) fn count_letter(&mut self, is_posted: bool) {
        if is_posted {
            self.posted += 1;
            self.check_time();
        } else {
            self.posted = self.posted.max(LETTERS_MAX);
        }
    }

    /// Whether one more dead letter may be published in this turn.
    pub(crate) fn may_post(&self) -> bool {
        self.posted < LETTERS_MAX && !self.late
    }

    /// The same, behind those that are in the turn already.
    pub(crate) fn has_room_for_letters(&self) -> bool {
        self.posted + self.letters.len() < LETTERS_MAX && !self.late
    }

    /// Deliveries are offered, or taken back by who has them.
    pub fn count_offered(&mut self, deliveries: usize) {
        self.offered += deliveries;
    }

    /// Bindings are made or removed, or tried to be.
    pub fn count_rebound(&mut self, bindings: usize) {
        if bindings > 0 {
            self.rebound += bindings;
            self.check_time();
        }
    }

    /// What was counted since the turn began or this was last asked.
    pub fn take_rebound(&mut self) -> usize {
        std::mem::take(&mut self.rebound)
    }

    /// Deliveries offered or taken back since the turn began.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.offered
    }

    /// Whether this turn has done enough: the rest of the input waits for the next one.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.offered >= DELIVERIES_PER_TURN_MAX || self.posted >= LETTERS_MAX || self.late
    }

    /// Messages of a stream are read, or looked at and left out.
    pub(crate) fn count_scanned(&mut self, units: u64) {
        self.scanned += units;
    }

    /// Whether the readers of streams were served enough in this turn: they go on in a later one.
    #[must_use]
    pub fn has_scanned(&self) -> bool {
        self.scanned >= STREAM_SCAN_PER_TURN
    }

    pub(crate) fn owe(&mut self, sink: &Arc<dyn Sink>) {
        self.wakes.push(Arc::clone(sink));
    }

    /// Wakes everybody who got something. Call it once, at the end of a read batch.
    pub fn ring(&mut self) {
        self.post();
        self.scanned = 0;
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
