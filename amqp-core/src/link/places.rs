//! The places that a connection and its channels take of what their vhost and user may have.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Link;
use crate::refusal::Refusal;

/// What one link has taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// It is one of its vhost's and its user's connections.
    connection: AtomicBool,
    channels: AtomicU64,
}

impl Link {
    /// It was counted when it was opened.
    pub(crate) fn set_counted(&self) {
        self.places.connection.store(true, Ordering::Release);
    }

    /// A channel is to be opened.
    ///
    /// # Errors
    /// 530 if the user has as many as its limit `max-channels` allows, over all connections.
    pub fn channel_open(&self) -> Result<(), Refusal> {
        if self.places.connection.load(Ordering::Acquire) {
            self.broker.admit_channel(&self.user)?;
            self.places.channels.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// A channel is closed for which [`Self::channel_open`] said yes.
    pub fn channel_close(&self) {
        let fewer = |open: u64| open.checked_sub(1);
        let held = &self.places.channels;
        let left = held.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        if left.is_ok() {
            self.broker.users.open.give_back(&self.user, 0, 1);
        }
    }

    /// The connection is over, with all its channels.
    pub(super) fn leave_places(&self) {
        if self.places.connection.swap(false, Ordering::AcqRel) {
            let channels = self.places.channels.swap(0, Ordering::AcqRel);
            self.broker.dismiss(&self.vhost, &self.user, channels);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.leave_places();
    }
}
