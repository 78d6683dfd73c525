//! Publications that are due later (delayed wills): held in memory, published once, unless
//! cancelled.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::link::Link;
use crate::message::Message;

/// A publication that waits for its time. It keeps its link, and with it the broker, only until it
/// is taken or cancelled.
pub struct Scheduled(Mutex<Option<(Arc<Link>, Message)>>);

impl Scheduled {
    pub(crate) fn new(link: Arc<Link>, message: Message) -> Self {
        Self(Mutex::new(Some((link, message))))
    }

    /// Takes what is to be published: something for exactly one caller, and nothing after
    /// [`Self::cancel`].
    pub(crate) fn take(&self) -> Option<(Arc<Link>, Message)> {
        self.0.lock().take()
    }

    /// It will not be published. `false` if it has been already.
    pub fn cancel(&self) -> bool {
        self.take().is_some()
    }
}

impl std::fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduled")
            .field("waits", &self.0.lock().is_some())
            .finish()
    }
}
