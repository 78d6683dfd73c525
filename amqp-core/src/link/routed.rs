//! Publishing in two steps: where a message goes, and that it goes there. For messages with more
//! than one routing key, and for those that a transaction keeps back in between.

use super::{Link, Published};
use crate::exchange::{Found, Memo};
use crate::message::{Message, MessageRef};
use crate::refusal::Refusal;
use crate::turn::Turn;

/// The queues that a message was routed to, each once, and the exchanges at which it is to wait.
#[derive(Clone, Debug)]
pub struct Routed(Found);

impl Routed {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.queues.len() + self.0.stops.len()
    }

    /// Nobody would get the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nobody would get the message any more: the queues were deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.stops.is_empty() && self.0.queues.iter().all(|queue| queue.is_deleted())
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
        let Found { queues, mut stops } = self.find_route(turn, memo, message)?;
        if more.is_empty() {
            return Ok(Routed(Found { queues, stops }));
        }
        let mut all = queues.to_vec();
        for key in more {
            let under = MessageRef { key, ..*message };
            let found = self.find_route(turn, memo, &under)?;
            all.extend_from_slice(&found.queues);
            stops.extend(found.stops);
        }
        all.sort_unstable_by_key(|queue| queue.id());
        all.dedup_by_key(|queue| queue.id());
        let queues = all.into();
        Ok(Routed(Found { queues, stops }))
    }

    /// Gives a message to the queues that it was routed to.
    pub fn publish_to(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
        routed: &Routed,
    ) -> Published {
        let Found { queues, stops } = &routed.0;
        self.offer(turn, message, (queues, stops), Default::default())
    }

    /// Makes a message own its parts, to be published later.
    #[must_use]
    pub fn keep(&self, turn: &mut Turn, message: &MessageRef<'_>) -> Message {
        message.to_message(&mut turn.scratch)
    }
}
