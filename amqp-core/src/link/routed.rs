//! Publishing in two steps: where a message goes, and that it goes there. For messages with more
//! than one routing key, and for those that a transaction keeps back in between.

use super::{Link, Published};
use crate::exchange::{Found, Memo, Search, borrowed};
use crate::message::{Message, MessageRef};
use crate::permission::Permission;
use crate::refusal::{Refusal, Resource};
use crate::turn::Turn;

/// The queues that a message was routed to, each once, and the exchanges at which it is to wait:
/// as long as this is there, it has room at them.
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
    /// Asks for permission and finds the queues of a message under its own routing key and these
    /// dotted ones, with all of them at a time; it is published at once. The message is not one
    /// that is to be retained.
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
        self.find_routed(turn, memo, message, (more, false))
    }

    /// The same for a message that is published later, if at all: nothing shows that it was asked
    /// for.
    ///
    /// # Errors
    /// As [`Link::route_keys`].
    pub fn route_kept_back(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
        more: &[&[u8]],
    ) -> Result<Routed, Refusal> {
        self.find_routed(turn, memo, message, (more, true))
    }

    fn find_routed(
        &self,
        turn: &mut Turn,
        memo: &mut Memo,
        message: &MessageRef<'_>,
        (more, kept_back): (&[&[u8]], bool),
    ) -> Result<Routed, Refusal> {
        if more.is_empty() {
            return self.find_route(turn, memo, message, kept_back).map(Routed);
        }
        self.check(Permission::Write, Resource::Exchange, message.exchange)?;
        let exchange = self.vhost.find_exchange(message.exchange)?;
        let mut dotted = Vec::new();
        message.append_routing_key(&mut dotted);
        let search = Search {
            more,
            kept_back,
            ..Search::by(&dotted)
        };
        search
            .keys()
            .try_for_each(|key| self.check_publish(&exchange, key))?;
        let route = self.resolve(&exchange, message, &search);
        turn.check_time();
        let route = route?;
        if exchange.is_deleted() {
            return Err(self.no_exchange(message.exchange));
        }
        Ok(Routed(route.found))
    }

    /// Gives a message to the queues that it was routed to.
    pub fn publish_to(
        &self,
        turn: &mut Turn,
        message: &MessageRef<'_>,
        routed: &Routed,
    ) -> Published {
        let Found {
            queues,
            stops,
            notes,
            ..
        } = &routed.0;
        for note in notes {
            note.exchange.note(message, &borrowed(&note.more));
        }
        self.offer(turn, message, (queues, stops), Default::default())
    }

    /// Makes a message own its parts, to be published later.
    #[must_use]
    pub fn keep(&self, turn: &mut Turn, message: &MessageRef<'_>) -> Message {
        message.to_message(&mut turn.scratch)
    }
}
