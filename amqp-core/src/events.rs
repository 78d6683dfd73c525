//! What happens to clients, for whoever wants to know.
//!
//! Owns a bounded queue of events and the count of who listens: bindings under `$SYS`, and of the
//! exchange [`EVENT_EXCHANGE`]. Where nobody does, an event costs one relaxed load. Who tells an
//! event never waits: what does not fit is counted. Never says how an event is announced.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::limits::{EVENT_BYTES_WAITING_MAX, EVENTS_WAITING_MAX};
use crate::time::Time;
use crate::watermark::Wake;

/// The exchange that events are published to, in one virtual host.
pub const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";

/// The first level of the broker's own topics.
pub const SYS: &str = "$SYS";

/// Something happened to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// To whom.
    pub client: Client,
    /// What.
    pub what: What,
}

/// A client as events tell of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Its connection's number.
    pub connection: u64,
    /// `MQTT 3-1-1` and the like.
    pub protocol: &'static str,
    /// Its end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// When it was accepted.
    pub connected_at: Time,
    /// Its identifier.
    pub client_id: Arc<str>,
    /// Its user.
    pub user: Box<str>,
    /// Its virtual host.
    pub vhost: Box<str>,
    /// Keep alive in seconds.
    pub keep_alive_s: u16,
    /// Its session ends with the connection.
    pub clean: bool,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// It has logged in.
    Connected {
        /// A session was there.
        session_present: bool,
    },
    /// Its login was refused.
    Refused {
        /// The reason code.
        code: u8,
        /// In words.
        reason: Box<str>,
    },
    /// Its connection is over.
    Disconnected {
        /// The reason code: 0 where it has said goodbye.
        code: u8,
        /// In words.
        reason: Box<str>,
    },
    /// It has subscribed.
    Subscribed {
        /// To this filter.
        filter: Box<str>,
        /// With this QoS granted.
        qos: u8,
    },
    /// It has unsubscribed.
    Unsubscribed {
        /// From this filter.
        filter: Box<str>,
    },
    /// Another connection has come with its identifier.
    TakenOver,
}

impl Event {
    /// Memory that it takes, in bytes.
    fn bytes(&self) -> usize {
        let text = match &self.what {
            What::Refused { reason, .. } | What::Disconnected { reason, .. } => reason.len(),
            What::Subscribed { filter, .. } | What::Unsubscribed { filter } => filter.len(),
            What::Connected { .. } | What::TakenOver => 0,
        };
        let client = &self.client;
        let names = client.client_id.len() + client.user.len() + client.vhost.len();
        size_of::<Self>() + names + text
    }
}

/// How many listen: bindings that events may match.
#[derive(Debug, Default)]
pub(crate) struct Listeners(AtomicUsize);

impl Listeners {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn remove(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// The events of one broker.
#[derive(Default)]
pub struct Events {
    listeners: Arc<Listeners>,
    waiting: Mutex<Waiting>,
    missed: AtomicU64,
    driver: OnceLock<Arc<dyn Wake>>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Events {
    pub(crate) fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// Whether somebody listens: one relaxed load.
    #[inline]
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.listeners.any()
    }

    /// Tells an event; it is made only if somebody listens.
    #[inline]
    pub fn tell(&self, make: impl FnOnce() -> Event) {
        if self.are_wanted() {
            self.put(make());
        }
    }

    #[cold]
    fn put(&self, event: Event) {
        let bytes = event.bytes();
        {
            let mut waiting = self.waiting.lock();
            let full = waiting.events.len() >= EVENTS_WAITING_MAX
                || waiting.bytes + bytes > EVENT_BYTES_WAITING_MAX;
            if full {
                drop(waiting);
                self.count_missed(1);
                return;
            }
            waiting.bytes += bytes;
            waiting.events.push_back(event);
        }
        if let Some(driver) = self.driver.get() {
            driver.wake();
        }
    }

    /// Takes the oldest events, so many at most.
    #[must_use]
    pub fn take(&self, count_max: usize) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        let count = waiting.events.len().min(count_max);
        let taken: Vec<_> = waiting.events.drain(..count).collect();
        waiting.bytes -= taken.iter().map(Event::bytes).sum::<usize>();
        taken
    }

    /// Events that nobody was told of.
    pub fn count_missed(&self, events: u64) {
        self.missed.fetch_add(events, Ordering::Relaxed);
    }

    /// How many events nobody was told of.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Who announces them: it is woken when there are some.
    pub fn drive(&self, driver: Arc<dyn Wake>) {
        // The first stays: there is one who announces.
        let _ = self.driver.set(driver);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("listeners", &self.listeners)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// Whether events may match a binding of this exchange.
pub(crate) fn is_listener(exchange: &str, dotted: &[u8]) -> bool {
    let system = dotted
        .strip_prefix(SYS.as_bytes())
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'.');
    system || exchange == EVENT_EXCHANGE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str) -> Event {
        let address = "127.0.0.1:1".parse().expect("an address");
        Event {
            at: Time(1),
            client: Client {
                connection: 1,
                protocol: "MQTT 5-0",
                peer: address,
                local: address,
                connected_at: Time(1),
                client_id: "c".into(),
                user: "u".into(),
                vhost: "/".into(),
                keep_alive_s: 0,
                clean: true,
            },
            what: What::Disconnected {
                code: 0,
                reason: reason.into(),
            },
        }
    }

    /// FEATURES M15: nothing is made where nobody listens; what does not fit is counted.
    #[test]
    fn m15_events_are_bounded_and_counted() {
        let events = Events::default();
        events.tell(|| panic!("nobody listens"));
        events.listeners().add();
        for _ in 0..EVENTS_WAITING_MAX + 3 {
            events.tell(|| event("x"));
        }
        assert_eq!(events.missed(), 3);
        assert_eq!(events.take(10).len(), 10);
        assert_eq!(events.take(usize::MAX).len(), EVENTS_WAITING_MAX - 10);
        let long = "x".repeat(EVENT_BYTES_WAITING_MAX / 4);
        for _ in 0..4 {
            events.tell(|| event(&long));
        }
        assert_eq!((events.missed(), events.take(9).len()), (4, 3));
        events.tell(|| event(&long));
        assert_eq!(events.take(9).len(), 1, "what was taken takes no room");
        events.listeners().remove();
        events.tell(|| panic!("nobody listens any more"));
    }

    #[test]
    fn m15_who_listens() {
        let rows = [
            ("amq.topic", "$SYS.#", true),
            ("amq.topic", "$SYS", true),
            ("amq.topic", "$SYSTEM.a", false),
            ("amq.topic", "#", false),
            ("amq.topic", "a.$SYS", false),
            (EVENT_EXCHANGE, "a", true),
        ];
        for (exchange, key, listens) in rows {
            assert_eq!(is_listener(exchange, key.as_bytes()), listens, "{key}");
        }
    }
}
