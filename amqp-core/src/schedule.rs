//! Publications that are due later (delayed wills): held in memory, published once, unless
//! cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::link::Link;
use crate::message::Message;

/// A publication that waits for its time.
pub struct Scheduled {
    pub(crate) link: Arc<Link>,
    pub(crate) message: Message,
    done: AtomicBool,
}

impl Scheduled {
    pub(crate) fn new(link: Arc<Link>, message: Message) -> Self {
        Self {
            link,
            message,
            done: AtomicBool::new(false),
        }
    }

    /// Takes the right to publish it: `true` for exactly one caller, and none after
    /// [`Self::cancel`].
    pub(crate) fn claim(&self) -> bool {
        !self.done.swap(true, Ordering::AcqRel)
    }

    /// It will not be published. `false` if it has been already.
    pub fn cancel(&self) -> bool {
        self.claim()
    }
}

impl std::fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduled")
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}
