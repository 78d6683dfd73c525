//! How much the queues of MQTT sessions hold beside what is in flight, and what happens then.
//!
//! Off unless the operator sets it: a cap that drops is the one exception to "what is acknowledged
//! is not dropped". Only what is published anew meets a cap. What a session has when its client
//! comes, goes or is replaced stays, and so does what comes back from flight.

use super::dispatch::Publication;
use super::{Entry, Queue, State};
use crate::sink::Loss;

/// What an operator may say about the queues of all sessions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionCaps {
    /// Messages that wait while the client is connected; 0: it gets nothing at all.
    pub online_max: Option<u64>,
    /// Messages that wait while it is not.
    pub offline_max: Option<u64>,
    /// The newest is given first, and the oldest makes room.
    pub lifo: bool,
    /// What has no room is refused, not dropped: its publisher is not told that it was taken.
    pub reject: bool,
}

impl SessionCaps {
    /// Whether queues are as without it.
    pub(super) fn is_nothing(&self) -> bool {
        self.online_max.is_none() && self.offline_max.is_none() && !self.lifo
    }
}

impl State {
    #[inline]
    fn caps(&self) -> Option<&SessionCaps> {
        self.given.as_ref()?.caps.as_ref()
    }

    /// The newest message is given first.
    #[inline]
    fn is_lifo(&self) -> bool {
        self.caps().is_some_and(|caps| caps.lifo)
    }
}

impl Queue {
    /// Whether a session has as much as it may, so that this message is not for its queue.
    #[inline]
    pub(super) fn is_capped(&self, state: &mut State, what: &mut Publication<'_>) -> bool {
        match state.caps() {
            None => false,
            Some(caps) => self.has_no_room(*caps, state, what),
        }
    }

    #[cold]
    fn has_no_room(
        &self,
        caps: SessionCaps,
        state: &mut State,
        what: &mut Publication<'_>,
    ) -> bool {
        let offline = state.consumers.is_empty();
        if offline && self.direct {
            // It is dropped in any case, and was of QoS 0.
            return false;
        }
        let (max, loss) = match offline {
            true => (caps.offline_max, Loss::OfflineLimit),
            false => (caps.online_max, Loss::OnlineLimit),
        };
        let Some(max) = max.filter(|max| state.waiting() as u64 >= *max) else {
            return false;
        };
        if caps.reject {
            what.rejected = true;
            return true;
        }
        if !caps.lifo || max == 0 {
            self.count_loss(state, loss, what.message);
            return true;
        }
        if let Some(dropped) = state.ready().drop_front(self) {
            self.count_losses(state, loss, dropped.qos, 1, &[]);
            state.ready().forget_failures(dropped.seq);
            if dropped.kept {
                self.forget(&[dropped.seq]);
            }
        }
        false
    }

    /// Takes the message whose turn it is to be given; reads it back if it must.
    #[inline]
    pub(super) fn next_to_give(&self, state: &mut State) -> Option<Entry> {
        if !state.is_lifo() {
            return self.next_ready(state);
        }
        let mut lost = 0;
        let entry = state.ready.as_mut()?.pop_back(self, &mut lost);
        self.count_unread(state, Loss::Unreadable, lost);
        entry
    }

    /// Puts one back that was taken so and that nobody has taken.
    #[inline]
    pub(super) fn keep_to_give(&self, state: &mut State, entry: Entry) {
        let levels = state.terms().max_priority.unwrap_or_default();
        if state.is_lifo() {
            state.ready().push_back(entry, levels, self);
        } else {
            state.ready().push_front(entry, levels);
        }
    }
}
