//! What a worker thread lends to the connection that it polls: a turn and a buffer to read into.
//!
//! Must never be held across an await: a poll takes it and puts it back.

use std::cell::Cell;

use leveret_core::turn::Turn;

use super::ration::Ration;

/// The most that is read at once.
pub(super) const BUFFER_BYTES: usize = 64 * 1_024;

/// One worker's reusable state.
pub(super) struct Worker {
    pub(super) turn: Turn,
    pub(super) buffer: Vec<u8>,
    pub(super) ration: Ration,
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
            })
        })
    }

    /// Gives it back to the thread.
    pub(super) fn put_back(self: Box<Self>) {
        // A thread that is ending has no place for it any more.
        let _ = WORKER.try_with(|worker| worker.set(Some(self)));
    }
}
