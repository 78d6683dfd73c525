//! Publications that are due later (delayed wills): held in memory and on a shelf, published once,
//! unless cancelled.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::link::Link;
use crate::message::Message;
use crate::shelf::Place;
use crate::turn::Turn;

/// A publication that waits for its time. It keeps its link, and with it the broker, only until it
/// is taken or cancelled.
pub struct Scheduled {
    waits: Mutex<Option<(Arc<Link>, Message)>>,
    /// Where it lies for a restart to find.
    place: Place,
}

impl Scheduled {
    pub(crate) fn new(link: Arc<Link>, message: Message, place: Place) -> Self {
        Self {
            waits: Mutex::new(Some((link, message))),
            place,
        }
    }

    /// Takes what is to be published: something for exactly one caller, and nothing after
    /// [`Self::cancel`].
    pub(crate) fn take(&self) -> Option<(Arc<Link>, Message)> {
        self.waits.lock().take()
    }

    /// Whose it is, while it is still to be published.
    pub(crate) fn user(&self) -> Option<Box<str>> {
        let waits = self.waits.lock();
        waits.as_ref().map(|(link, _)| link.user().into())
    }

    /// Whether it is still to be published.
    pub(crate) fn waits(&self) -> bool {
        self.waits.lock().is_some()
    }

    /// It will not be published. `false` if it has been already.
    pub fn cancel(&self) -> bool {
        let taken = self.take();
        if let Some((link, _)) = &taken {
            self.done(link);
            link.vhost().door().timers.call_off(1);
        }
        taken.is_some()
    }

    /// It is published, or never will be: a restart need not find it.
    pub(crate) fn done(&self, link: &Link) {
        link.vhost().shelves.unschedule(&[self.place]);
        link.vhost().release_scheduled(1);
    }

    /// Publishes it now, if nobody has.
    pub fn publish(&self, turn: &mut Turn) {
        if let Some((link, message)) = self.take() {
            link.publish_scheduled(turn, &message);
            self.done(&link);
        }
    }

    /// The process ends: a restart finds it.
    pub(crate) fn leave(&self) {
        self.take();
    }
}

impl std::fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduled")
            .field("waits", &self.waits.lock().is_some())
            .finish()
    }
}
