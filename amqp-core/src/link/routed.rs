//! Publishing in two steps: where a message goes, and that it goes there. For messages with more
//! than one routing key, and for those that a transaction keeps back in between.

use std::sync::Arc;

use super::{Link, Published};
use crate::exchange::Memo;
use crate::message::{Message, MessageRef};
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::turn::Turn;

/// The queues that a message was routed to, each once.
#[derive(Clone, Debug)]
pub struct Routed(Arc<[Arc<Queue>]>);

impl Routed {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nobody would get the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nobody would get the message any more: the queues were deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.iter().all(|queue| queue.is_deleted())
    }
}

impl Link {
    /// Asks for permission and finds the queues of a message under its own routing key and these;
    /// changes nothing. The message is not one that is to be retained.
    ///
    /// # Errors
    /// As [`Link::publish`], for the first key that is refused.
    pub fn route_keys(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
        more: &[&[u8]],
    ) -> Result<Routed, Refusal> {
        let queues = self.find_route(turn, memo, message)?;
        if more.is_empty() {
            return Ok(Routed(queues));
        }
        let mut all = queues.to_vec();
        for key in more {
            let under = MessageRef { key, ..*message };
            all.extend_from_slice(&self.find_route(turn, memo, &under)?);
        }
        all.sort_unstable_by_key(|queue| queue.id());
        all.dedup_by_key(|queue| queue.id());
        Ok(Routed(all.into()))
    }

    /// Gives a message to the queues that it was routed to.
    pub fn publish_to(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
        routed: &Routed,
    ) -> Published {
        self.offer(turn, message, &routed.0, Default::default())
    }

    /// Makes a message own its parts, to be published later.
    #[must_use]
    pub fn keep(&self, turn: &mut Turn, message: &MessageRef<'_>) -> Message {
        message.to_message(&mut turn.scratch)
    }
}
