//! The delaying exchange: what says `x-delay` waits, in memory and on a shelf, and then goes on as
//! the kind behind it has it.

use std::collections::{HashMap, VecDeque, hash_map};
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::Exchange;
use super::route::{MoreKeys, Search, Stop, borrowed};
use crate::field::{RawTable, Value, ValueRef};
use crate::limits::DELAYED_DROPPED_AT_ONCE;
use crate::message::{AmqpOrigin, Head, Message, MessageRef};
use crate::properties::BasicProperties;
use crate::queue::Publication;
use crate::shelf::{Later, Place};
use crate::time::Time;
use crate::timers::Due;
use crate::turn::Turn;
use crate::vhost::VHost;

/// The header that says how many milliseconds a message waits.
const DELAY: &str = "x-delay";

/// The longest delay, in milliseconds: the plugin's. What asks for more goes at once.
const DELAY_MS_MAX: i64 = u32::MAX as i64;

/// The messages of a vhost that wait at exchanges.
#[derive(Default)]
pub(crate) struct Delayed(Mutex<State>);

#[derive(Default)]
struct State {
    number: u64,
    /// By the number of their exchange.
    lots: HashMap<u64, Lot, RandomState>,
    /// Those of deleted exchanges, which are dropped a part at a time.
    dropped: VecDeque<hash_map::IntoValues<u64, Waiting>>,
}

/// What waits at one exchange.
type Lot = HashMap<u64, Waiting, RandomState>;

/// A message that waits at an exchange, and where it lies for a restart to find.
pub(crate) struct Waiting {
    pub(crate) message: Message,
    /// The routing keys that it has besides its own.
    pub(crate) more: MoreKeys,
    pub(crate) place: Place,
}

impl Delayed {
    /// `Err` if the exchange is gone: asked with the lock held, so that nothing is left at it.
    fn add(&self, exchange: &Exchange, waiting: Waiting) -> Result<u64, Waiting> {
        let mut state = self.0.lock();
        if exchange.is_deleted() {
            return Err(waiting);
        }
        state.number += 1;
        let number = state.number;
        let lot = state.lots.entry(exchange.id).or_default();
        lot.insert(number, waiting);
        Ok(number)
    }

    fn take(&self, exchange: &Exchange, number: u64) -> Option<Waiting> {
        let mut state = self.0.lock();
        let lot = state.lots.get_mut(&exchange.id)?;
        let waiting = lot.remove(&number);
        if lot.is_empty() {
            state.lots.remove(&exchange.id);
        }
        waiting
    }

    /// An exchange is gone: what waits at it is to be dropped. Says how much that is.
    fn give_up(&self, exchange: &Exchange) -> usize {
        let mut state = self.0.lock();
        let Some(lot) = state.lots.remove(&exchange.id) else {
            return 0;
        };
        let count = lot.len();
        state.dropped.push_back(lot.into_values());
        count
    }

    /// Takes some of what is to be dropped.
    fn take_dropped(&self, most: usize) -> Vec<Waiting> {
        let mut state = self.0.lock();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(lot) = state.dropped.front_mut()
        {
            taken.extend(lot.by_ref().take(most - taken.len()));
            if lot.len() == 0 {
                state.dropped.pop_front();
            }
        }
        taken
    }

    /// Drops all; says how many messages that were.
    fn clear(&self) -> usize {
        let state = std::mem::take(&mut *self.0.lock());
        let waiting: usize = state.lots.values().map(HashMap::len).sum();
        let dropped: usize = state.dropped.iter().map(ExactSizeIterator::len).sum();
        waiting + dropped
    }
}

/// How long a message is to wait; `None` if it is not.
pub(super) fn delay_ms(message: &MessageRef<'_>) -> Option<u64> {
    let mut raw = Vec::new();
    let origin = message.head.origin;
    origin.append_basic_properties(message, &mut raw);
    let headers = BasicProperties::parse(&raw).ok()?.headers?;
    let asked = asked_ms(headers)?;
    (1..=DELAY_MS_MAX)
        .contains(&asked)
        .then_some(asked.unsigned_abs())
}

/// What the header says: a number of whatever type, or one in decimal digits.
fn asked_ms(headers: RawTable<'_>) -> Option<i64> {
    match headers.lookup(DELAY)? {
        ValueRef::LongString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        ValueRef::F32(ms) => Some(ms as i64),
        ValueRef::F64(ms) => Some(ms as i64),
        other => other.to_value().as_integer(),
    }
}

/// The properties of a message that has waited: the delay is below zero, so that consumers see it
/// and no other exchange waits again.
fn released(message: &MessageRef<'_>) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    let origin = message.head.origin;
    origin.append_basic_properties(message, &mut raw);
    let properties = BasicProperties::parse(&raw).ok()?;
    let headers = properties.headers?;
    let ms = asked_ms(headers)?.checked_neg()?;
    let mut table = headers.to_table();
    table.remove(DELAY);
    let value = i32::try_from(ms).map_or(Value::I64(ms), Value::I32);
    // Our own name is far below the limit of 255 bytes.
    let _ = table.insert(DELAY, value);
    let mut encoded = Vec::new();
    table.encode(&mut encoded).ok()?;
    let properties = BasicProperties {
        headers: Some(RawTable::parse(&encoded).ok()?),
        ..properties
    };
    let mut out = Vec::new();
    properties.encode(&mut out).ok()?;
    Some(out)
}

impl VHost {
    /// Has a message wait. Gives the journal's number to wait for: from then on a restart finds it.
    pub(crate) fn hold_back(&self, stop: &Stop, message: &MessageRef<'_>) -> u64 {
        let at = message.head.received.after_ms(stop.ms);
        let exchange = stop.exchange.name();
        let more = borrowed(&stop.more);
        let later = Later::at_exchange(at, exchange, &more, message.payload).encode();
        let (place, appended) = self.shelves.hold_back(&MessageRef {
            payload: &later,
            ..*message
        });
        let waiting = Waiting {
            message: message.to_message(&mut Vec::new()),
            more: stop.more.clone(),
            place,
        };
        if self.wait(at, &stop.exchange, waiting).is_none() {
            self.shelves.unschedule(&[place]);
        }
        appended.number
    }

    /// A message waits until then; `None` if its exchange is gone.
    pub(crate) fn wait(&self, at: Time, exchange: &Arc<Exchange>, waiting: Waiting) -> Option<()> {
        let door = self.door();
        // Before it can be taken.
        self.hold_scheduled(1);
        let Ok(number) = self.delayed.add(exchange, waiting) else {
            self.release_scheduled(1);
            return None;
        };
        let due = Due::Delayed(door.vhost.clone(), Arc::downgrade(exchange), number);
        door.timers.add(at, due);
        Some(())
    }

    /// A message has waited long enough. It is taken off the shelf after the queues have it: a
    /// crash in between repeats it, none loses it.
    pub(crate) fn let_go(&self, turn: &mut Turn, exchange: &Arc<Exchange>, number: u64) {
        let Some(waiting) = self.delayed.take(exchange, number) else {
            return;
        };
        self.release_scheduled(1);
        if !self.is_deleted() && !exchange.is_deleted() {
            self.go_on(turn, exchange, &waiting);
        }
        self.shelves.unschedule(&[waiting.place]);
    }

    /// An exchange is gone, and what waits at it goes too: many a part at a time.
    pub(crate) fn drop_delayed(&self, exchange: &Exchange) {
        let count = self.delayed.give_up(exchange);
        if count > 0 {
            self.door().timers.call_off(count);
            self.drop_some_delayed(Time(0));
        }
    }

    /// Drops some of what is to be dropped; a timer goes on.
    pub(crate) fn drop_some_delayed(&self, now: Time) {
        let dropped = self.delayed.take_dropped(DELAYED_DROPPED_AT_ONCE);
        let places: Vec<Place> = dropped.iter().map(|waiting| waiting.place).collect();
        self.shelves.unschedule(&places);
        self.release_scheduled(dropped.len());
        if dropped.len() == DELAYED_DROPPED_AT_ONCE {
            let door = self.door();
            let due = Due::DropDelayed(door.vhost.clone());
            door.timers.add(now.after_ms(1), due);
        }
    }

    /// The process ends, or the vhost is gone: nothing goes on any more.
    pub(crate) fn clear_delayed(&self) {
        self.release_scheduled(self.delayed.clear());
    }

    fn go_on(&self, turn: &mut Turn, exchange: &Arc<Exchange>, waiting: &Waiting) {
        let message = waiting.message.view();
        let Some(properties) = released(&message) else {
            return;
        };
        let Head {
            received, expires, ..
        } = message.head;
        let due = MessageRef {
            head: Head {
                origin: &AmqpOrigin,
                received: turn.now,
                // Its life starts now.
                expires: expires.map(|at| turn.now.after_ms(at.since_ms(received))),
                ..message.head
            },
            properties: &properties,
            ..message
        };
        let mut dotted = Vec::new();
        due.append_routing_key(&mut dotted);
        let search = Search {
            more: &borrowed(&waiting.more),
            released: true,
            ..Search::by(&dotted)
        };
        match self.resolve(exchange, &due, &search) {
            Ok(route) => {
                let mut publication = Publication::new(&due);
                turn.count_offered(route.found.queues.len());
                for queue in route.found.queues.iter() {
                    queue.offer(turn, &mut publication);
                }
                // Others on the way may delay it as well, if the header was not below zero.
                for stop in &route.found.stops {
                    self.hold_back(stop, &due);
                }
                turn.post();
            }
            Err(why) => tracing::warn!(%why, exchange = exchange.name(), "delayed message lost"),
        }
    }
}
