//! What a worker thread lends to the connection that it polls: a turn and a buffer to read into.
//!
//! Must never be held across an await: a poll takes it and puts it back.

use std::cell::Cell;

use leveret_core::turn::Turn;

use super::ration::Ration;
use crate::clock::Clock;

/// The most that is read at once.
pub(super) const BUFFER_BYTES: usize = 64 * 1_024;

/// One worker's reusable state.
pub(super) struct Worker {
    pub(super) turn: Turn,
    pub(super) buffer: Vec<u8>,
    pub(super) ration: Ration,
    /// What the turn has been given.
    clock: Option<Clock>,
}

thread_local! {
    static WORKER: Cell<Option<Box<Worker>>> = const { Cell::new(None) };
}

impl Worker {
    /// Takes this thread's, or makes one where it has none.
    pub(super) fn take() -> Box<Self> {
        let taken = WORKER.try_with(Cell::take).ok().flatten();
        taken.unwrap_or_else(|| {
            Box::new(Self {
                turn: Turn::new(),
                buffer: vec![0; BUFFER_BYTES],
                ration: Ration::default(),
                clock: None,
            })
        })
    }

    /// The turn of one of its connections begins.
    pub(super) fn begin(&mut self, clock: Clock) {
        if self.clock != Some(clock) {
            self.turn.set_clock(move || clock.now());
            self.clock = Some(clock);
        }
        self.turn.begin(clock.now());
    }

    /// Nothing is known of the turn any more: the next one begins with a new one.
    pub(super) fn forget_turn(&mut self) {
        self.turn = Turn::new();
        self.clock = None;
    }

    /// Gives it back to the thread.
    pub(super) fn put_back(self: Box<Self>) {
        // A thread that is ending has no place for it any more.
        let _ = WORKER.try_with(|worker| worker.set(Some(self)));
    }
}
