//! The way of a message: through exchanges that are bound to each other, to their alternates where
//! nothing matches, and to what delays it.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::delayed::delay_ms;
use super::epochs::Watch;
use super::{Bound, Destination, Exchange, ExchangeKind, Found, Route};
use crate::limits;
use crate::message::MessageRef;
use crate::queue::Queue;
use crate::vhost::VHost;

/// Why a message finds no way.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum NoWay {
    /// It would pass more exchanges than [`limits::EXCHANGE_HOPS_MAX`].
    #[error("more than {} exchanges lie on the way", limits::EXCHANGE_HOPS_MAX)]
    Far,
    /// Finding it would take more than [`limits::TOPIC_STEPS_MAX`].
    #[error(
        "matching the bindings takes more than {} steps: too many of them have several '#' and \
         '*'",
        limits::TOPIC_STEPS_MAX
    )]
    Steps,
    /// The vhost has as much scheduled as [`limits::SCHEDULED_MAX`] leaves it.
    #[error(
        "too many messages are delayed: of {} for the node, a vhost has no more than are free",
        limits::SCHEDULED_MAX
    )]
    Delayed,
}

/// What queues are sought by, beside the message itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Search<'a> {
    /// The message's own routing key in dotted form.
    pub(crate) dotted: &'a [u8],
    /// The dotted keys that it has besides, as from the headers CC and BCC.
    pub(crate) more: &'a [&'a [u8]],
    /// It has waited at the first exchange already.
    pub(crate) released: bool,
    /// It is published later, if at all: what takes note of messages is to do so then.
    pub(crate) kept_back: bool,
    /// It waits already where it is to wait.
    pub(crate) waits: bool,
    /// Only bindings in the message's own form count, and no alternate exchange: what the broker
    /// itself says is for those who ask for it.
    pub(crate) own_form: bool,
}

impl<'a> Search<'a> {
    /// A message with one key goes on its way.
    pub(crate) fn by(dotted: &'a [u8]) -> Self {
        Self {
            dotted,
            ..Self::default()
        }
    }

    /// All its keys, its own first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.dotted).chain(self.more.iter().copied())
    }

    fn own_more(&self) -> MoreKeys {
        self.more.iter().map(|key| Box::from(*key)).collect()
    }
}

/// The keys that a message has besides its own, for later.
pub(crate) type MoreKeys = Box<[Box<[u8]>]>;

/// Borrows them again.
pub(crate) fn borrowed(more: &[Box<[u8]>]) -> SmallVec<[&[u8]; 4]> {
    more.iter().map(|key| &**key).collect()
}

/// A message is to wait at this exchange for so long, and goes on under all its keys.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) ms: u64,
    pub(crate) more: MoreKeys,
}

/// This exchange is to take note of a message when it is published.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) more: MoreKeys,
}

/// Leaves each queue once.
pub(crate) fn each_once(queues: &mut Vec<Arc<Queue>>) {
    if queues.len() > 1 {
        queues.sort_unstable_by_key(|queue| queue.id());
        queues.dedup_by_key(|queue| queue.id());
    }
}

impl Exchange {
    /// What a message is to wait for here.
    fn stop(self: &Arc<Self>, message: &MessageRef<'_>, search: &Search<'_>) -> Option<Stop> {
        if self.properties.kind != ExchangeKind::Delayed {
            return None;
        }
        Some(Stop {
            exchange: Arc::clone(self),
            ms: delay_ms(message)?,
            more: search.own_more(),
        })
    }

    /// Calls `found` for every binding that the message matches and is for.
    fn each_wanted(
        &self,
        message: &MessageRef<'_>,
        search: &Search<'_>,
        steps: &mut u32,
        found: &mut dyn FnMut(&Bound),
    ) {
        if !search.own_form {
            return self.each_match(message, search, steps, found);
        }
        self.each_match(message, search, steps, &mut |bound| {
            if bound.form() == message.head.form {
                found(bound);
            }
        });
    }

    /// Where a message goes that matches nothing.
    fn alternate_of(&self, search: &Search<'_>) -> Option<Arc<str>> {
        (!search.own_form).then(|| self.alternate()).flatten()
    }

    /// What is to be noted here of a message that is kept back.
    fn later_note(self: &Arc<Self>, search: &Search<'_>) -> Option<Note> {
        let noted = search.kept_back && self.rules.matching == ExchangeKind::RecentHistory;
        noted.then(|| Note {
            exchange: Arc::clone(self),
            more: search.own_more(),
        })
    }

    /// Resolves a message to its queues, each once, and to where it is to wait, each once: with
    /// all its keys at a time.
    ///
    /// # Errors
    /// The message would pass too many exchanges, matching takes too long, or too many are delayed.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        vhost: &VHost,
        message: &MessageRef<'_>,
        search: &Search<'_>,
    ) -> Result<Route, NoWay> {
        let mut queues: Vec<Arc<Queue>> = Vec::new();
        let (mut stops, mut notes) = (Vec::new(), Vec::new());
        let mut exchanges: SmallVec<[Arc<Self>; 1]> = SmallVec::from_buf([Arc::clone(self)]);
        let mut seen = HashSet::new();
        let mut visited = 0;
        // Routes are remembered by one key.
        let mut cacheable = search.more.is_empty();
        let mut watch = Watch::new(vhost.topology());
        let mut steps = limits::TOPIC_STEPS_MAX;
        while let Some(exchange) = exchanges.get(visited).cloned() {
            if visited == limits::EXCHANGE_HOPS_MAX {
                return Err(NoWay::Far);
            }
            let waited = search.released && visited == 0;
            visited += 1;
            cacheable &= exchange.is_cacheable();
            if let Some(stop) = exchange.stop(message, search).filter(|_| !waited) {
                stops.push(stop);
                continue;
            }
            watch.exchange(exchange.rules.matching, exchange.id, search.dotted);
            let mut matched = false;
            let mut go_on = |next: Arc<Self>| {
                if next.id != self.id && seen.insert(next.id) {
                    exchanges.push(next);
                }
            };
            exchange.each_wanted(message, search, &mut steps, &mut |bound| {
                matched |= match bound.destination() {
                    Destination::Queue(queue) => {
                        queue.upgrade().map(|queue| queues.push(queue)).is_some()
                    }
                    Destination::Exchange(next) => next.upgrade().map(&mut go_on).is_some(),
                };
            });
            if steps == 0 {
                return Err(NoWay::Steps);
            }
            if !matched && let Some(name) = exchange.alternate_of(search) {
                // It may come and go: such a route is not remembered.
                cacheable = false;
                vhost.exchange(&name).into_iter().for_each(go_on);
            }
            notes.extend(exchange.later_note(search));
        }
        each_once(&mut queues);
        let room = if stops.is_empty() || search.waits {
            None
        } else {
            Some(vhost.take_room(stops.len()).ok_or(NoWay::Delayed)?.into())
        };
        let queues = queues.into();
        Ok(Route {
            found: Found {
                queues,
                stops,
                notes,
                _room: room,
            },
            stamp: cacheable.then(|| watch.stamp()),
        })
    }
}
