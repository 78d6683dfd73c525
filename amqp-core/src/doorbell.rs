//! How a connection's owner is woken by those who filled its out-buffer: at most once until it has
//! looked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use atomic_waker::AtomicWaker;

/// One connection's waker, with a flag that coalesces.
///
/// Fillers put something under the out-buffer's lock and then [`Self::press`]; the owner first
/// [`Self::answer`]s and then looks under the lock. So nothing that was put before a press is
/// overlooked.
#[derive(Debug, Default)]
pub struct Doorbell {
    pressed: AtomicBool,
    waker: AtomicWaker,
}

impl Doorbell {
    /// Says that there is something. `true` for the first since the owner looked: only then must
    /// somebody [`Self::ring`].
    #[must_use]
    pub fn press(&self) -> bool {
        !self.pressed.load(Ordering::Relaxed) && !self.pressed.swap(true, Ordering::AcqRel)
    }

    /// Wakes the owner if it has not looked meanwhile.
    pub fn ring(&self) {
        if self.pressed.load(Ordering::Acquire) {
            self.waker.wake();
        }
    }

    /// Presses, and wakes at once: for those who have no batch to wait for.
    pub fn press_and_ring(&self) {
        if self.press() {
            self.waker.wake();
        }
    }

    /// Who is to be woken. The owner calls it before it looks.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The owner is about to look: `true` if there is something.
    pub fn answer(&self) -> bool {
        self.pressed.load(Ordering::Relaxed) && self.pressed.swap(false, Ordering::AcqRel)
    }
}
