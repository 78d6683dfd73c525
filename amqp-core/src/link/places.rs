//! The places that a connection and its channels take of what their vhost and user may have.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Link;
use crate::refusal::Refusal;

/// What one link has taken: 0 is nothing, 1 a connection's place, and what is more those of its
/// channels.
#[derive(Debug, Default)]
pub(super) struct Places(AtomicU32);

impl Link {
    /// It was counted when it was opened.
    pub(crate) fn set_counted(&self) {
        self.places.0.store(1, Ordering::Release);
    }

    /// A channel is to be opened.
    ///
    /// # Errors
    /// 530 if the user has as many as its limit `max-channels` allows, over all connections.
    pub fn channel_open(&self) -> Result<(), Refusal> {
        if self.places.0.load(Ordering::Acquire) > 0 {
            self.broker.admit_channel(&self.user)?;
            self.places.0.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// A channel is closed for which [`Self::channel_open`] said yes.
    pub fn channel_close(&self) {
        let fewer = |taken: u32| (taken > 1).then(|| taken - 1);
        let left = self
            .places
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        if left.is_ok() {
            self.broker.users.open.give_back(&self.user, 0, 1);
        }
    }

    /// The connection is over, with all its channels.
    pub(super) fn leave_places(&self) {
        if let Some(channels) = self.places.0.swap(0, Ordering::AcqRel).checked_sub(1) {
            let channels = u64::from(channels);
            self.broker.dismiss(&self.vhost, &self.user, channels);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.leave_places();
    }
}
