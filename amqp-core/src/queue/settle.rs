//! What becomes of delivered messages: acknowledged, put back near where they were, or given up.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Entry, Queue};
use crate::message::Message;
use crate::turn::Turn;

/// A delivered message that its consumer has not settled. The sink holds it.
#[derive(Clone, Debug)]
pub struct Unacked {
    /// Where it came from.
    pub queue: Arc<Queue>,
    /// Its number there.
    pub seq: u64,
    /// The message, should it go back.
    pub message: Message,
}

/// The consumer's word on a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settle {
    /// Done: the queue forgets it.
    Ack,
    /// Back to its place in the queue, marked as redelivered.
    Requeue,
    /// Given up. (There is no dead-letter exchange yet: it is dropped.)
    Reject,
}

impl Queue {
    /// Settles deliveries of this queue, in any order.
    pub(crate) fn settle(
        self: &Arc<Self>,
        turn: &mut Turn,
        unacked: impl Iterator<Item = (u64, Message)>,
        how: Settle,
    ) {
        let mut state = self.state.lock();
        let mut back = Vec::new();
        let mut gone = SmallVec::<[u64; 16]>::new();
        for (seq, message) in unacked {
            state.unacked = state.unacked.saturating_sub(1);
            if how != Settle::Requeue {
                if self.keeps(&message.view()) {
                    gone.push(seq);
                }
            } else if !state.deleted {
                back.push(Entry::new(message, seq, true));
            }
        }
        self.forget(&gone);
        if back.is_empty() {
            return;
        }
        back.sort_by_key(Entry::seq);
        state.backlog().put_back(back);
        self.dispatch(&mut state, turn);
        self.enforce_length(&mut state);
    }
}
