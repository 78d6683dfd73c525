//! The way of a message: through exchanges that are bound to each other, to their alternates where
//! nothing matches, and to what delays it.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::delayed::delay_ms;
use super::epochs::Watch;
use super::{Destination, Exchange, ExchangeKind, Found, Route};
use crate::limits;
use crate::message::MessageRef;
use crate::queue::Queue;
use crate::vhost::VHost;

/// Why a message finds no way.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum NoWay {
    /// It would pass more exchanges than [`limits::EXCHANGE_HOPS_MAX`].
    #[error("more than {} exchanges lie on the way", limits::EXCHANGE_HOPS_MAX)]
    TooFar,
    /// More is scheduled than [`limits::SCHEDULED_MAX`].
    #[error("more than {} messages are delayed", limits::SCHEDULED_MAX)]
    TooManyDelayed,
}

/// A message is to wait at this exchange for so long, and goes on under this key.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) ms: u64,
    pub(crate) key: Box<[u8]>,
}

impl Exchange {
    /// Resolves a message to its queues, each once. `released`: it has waited here already.
    ///
    /// # Errors
    /// The message would pass too many exchanges, or too many are delayed.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        vhost: &VHost,
        message: &MessageRef<'_>,
        dotted: &[u8],
        released: bool,
    ) -> Result<Route, NoWay> {
        let mut queues: Vec<Arc<Queue>> = Vec::new();
        let mut stops = Vec::new();
        let mut exchanges: SmallVec<[Arc<Self>; 1]> = SmallVec::from_buf([Arc::clone(self)]);
        let mut seen = HashSet::new();
        let mut visited = 0;
        let mut cacheable = true;
        let mut watch = Watch::new(vhost.topology());
        while let Some(exchange) = exchanges.get(visited).cloned() {
            if visited == limits::EXCHANGE_HOPS_MAX {
                return Err(NoWay::TooFar);
            }
            let waited = released && visited == 0;
            visited += 1;
            cacheable &= exchange.is_cacheable();
            if exchange.properties.kind == ExchangeKind::Delayed
                && !waited
                && let Some(ms) = delay_ms(message)
            {
                let key = message.key.into();
                stops.push(Stop { exchange, ms, key });
                continue;
            }
            watch.exchange(exchange.rules.matching, exchange.id, dotted);
            let mut matched = false;
            let mut go_on = |next: Arc<Self>| {
                if next.id != self.id && seen.insert(next.id) {
                    exchanges.push(next);
                }
            };
            exchange.each_match(message, dotted, &mut |bound| match bound.destination() {
                Destination::Queue(queue) => {
                    if let Some(queue) = queue.upgrade() {
                        matched = true;
                        queues.push(queue);
                    }
                }
                Destination::Exchange(next) => {
                    if let Some(next) = next.upgrade() {
                        matched = true;
                        go_on(next);
                    }
                }
            });
            if !matched && let Some(name) = exchange.alternate() {
                // It may come and go: such a route is not remembered.
                cacheable = false;
                vhost.exchange(&name).into_iter().for_each(go_on);
            }
        }
        if queues.len() > 1 {
            queues.sort_unstable_by_key(|queue| queue.id());
            queues.dedup_by_key(|queue| queue.id());
        }
        if !stops.is_empty() && vhost.door().timers.scheduled() >= limits::SCHEDULED_MAX {
            return Err(NoWay::TooManyDelayed);
        }
        let queues = queues.into();
        Ok(Route {
            found: Found { queues, stops },
            stamp: cacheable.then(|| watch.stamp()),
        })
    }
}
