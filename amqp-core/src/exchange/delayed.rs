//! The delaying exchange: what says `x-delay` waits, in memory and on a shelf, and then goes on as
//! the kind behind it has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::route::Stop;
use crate::field::{RawTable, Value, ValueRef};
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
    waiting: HashMap<u64, Waiting, RandomState>,
}

/// A message, where it waits, and where it lies for a restart to find.
pub(crate) struct Waiting {
    exchange: Box<str>,
    message: Message,
    place: Place,
}

impl Delayed {
    fn add(&self, waiting: Waiting) -> u64 {
        let mut state = self.0.lock();
        state.number += 1;
        let number = state.number;
        state.waiting.insert(number, waiting);
        number
    }

    fn take(&self, number: u64) -> Option<Waiting> {
        self.0.lock().waiting.remove(&number)
    }

    /// The process ends, or the vhost is gone: nothing goes on any more.
    pub(crate) fn clear(&self) {
        self.0.lock().waiting = HashMap::default();
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
        let key = &stop.key[..];
        let message = MessageRef { key, ..*message };
        let at = message.head.received.after_ms(stop.ms);
        let exchange = stop.exchange.name();
        let later = Later::at_exchange(at, exchange, message.payload).encode();
        let (place, appended) = self.shelves.hold_back(&MessageRef {
            payload: &later,
            ..message
        });
        let message = message.to_message(&mut Vec::new());
        self.wait(at, exchange, message, place);
        appended.number
    }

    /// A message waits until then.
    pub(crate) fn wait(&self, at: Time, exchange: &str, message: Message, place: Place) {
        let door = self.door();
        let number = self.delayed.add(Waiting {
            exchange: exchange.into(),
            message,
            place,
        });
        let due = Due::Delayed(Weak::clone(&door.vhost), number);
        door.timers.add(at, due);
    }

    /// A message has waited long enough. It is taken off the shelf after the queues have it: a
    /// crash in between repeats it, none loses it.
    pub(crate) fn let_go(&self, turn: &mut Turn, number: u64) {
        let Some(waiting) = self.delayed.take(number) else {
            return;
        };
        let exchange = self.exchange(&waiting.exchange);
        if let Some(exchange) = exchange.filter(|_| !self.is_deleted()) {
            self.go_on(turn, &exchange, &waiting.message.view());
        }
        self.shelves.unschedule(waiting.place);
    }

    fn go_on(&self, turn: &mut Turn, exchange: &Arc<super::Exchange>, message: &MessageRef<'_>) {
        let Some(properties) = released(message) else {
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
            ..*message
        };
        let mut dotted = Vec::new();
        due.append_routing_key(&mut dotted);
        match self.resolve_from(exchange, &due, &dotted, true) {
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
