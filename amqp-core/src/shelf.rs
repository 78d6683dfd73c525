//! What a vhost must remember beside its queues' messages: retained messages, scheduled
//! publications, packet identifiers, and since when queues are unused. Each shelf is a list in the
//! journal with a number of its own, as a queue has; what lies on it are messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::journal::{Appended, Body, Door, Slot};
use crate::key::Form;
use crate::message::{AmqpOrigin, Head, Message, MessageRef};
use crate::queue::Queue;
use crate::schedule::Scheduled;
use crate::time::Time;

/// A list in the journal.
pub(crate) struct Shelf {
    door: Arc<Door>,
    number: u64,
    /// The definitions' record that names the number.
    after: AtomicU64,
    next: Mutex<u64>,
    /// The number at which all that was taken is gone.
    taken: Mutex<u64>,
}

/// Where something lies on a shelf.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place(u64);

impl Place {
    /// What lies on the same shelf and was laid down later has a higher one.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn at(number: u64) -> Self {
        Self(number)
    }
}

impl Shelf {
    fn new(door: &Arc<Door>, number: u64) -> Self {
        Self {
            door: Arc::clone(door),
            number,
            after: AtomicU64::new(0),
            next: Mutex::new(0),
            taken: Mutex::new(0),
        }
    }

    /// Lays a message down. `body` is what the same message came to elsewhere.
    pub(crate) fn put(&self, message: &MessageRef<'_>, body: Option<Body>) -> (Place, Appended) {
        // Held until it is appended, so that the journal sees the numbers in order.
        let mut next = self.next.lock();
        let seq = *next;
        *next += 1;
        let slot = Slot {
            queue: self.number,
            seq,
            after: self.after.load(Ordering::Relaxed),
            durability: self.door.durability,
        };
        (Place(seq), self.door.journal.publish(slot, message, body))
    }

    /// The number of the place that is taken next.
    pub(crate) fn next(&self) -> u64 {
        *self.next.lock()
    }

    /// Takes things away. At the number that is returned they are surely gone, and so is all that
    /// was taken before.
    pub(crate) fn take(&self, places: &[Place]) -> u64 {
        // One lock for both: whoever asks after a settle knows of it.
        let mut taken = self.taken.lock();
        if places.is_empty() {
            return *taken;
        }
        let seqs: Vec<u64> = places.iter().map(|place| place.0).collect();
        let durability = Some(self.door.durability);
        let number = self.door.journal.settle(self.number, &seqs, durability);
        *taken = number.max(*taken);
        number
    }

    /// Takes one away; a power cut may bring it back.
    pub(crate) fn drop(&self, place: Place) {
        self.door.journal.settle(self.number, &[place.0], None);
    }

    /// The same for many.
    pub(crate) fn drop_all(&self, places: &[Place]) {
        if places.is_empty() {
            return;
        }
        let seqs: SmallVec<[u64; 1]> = places.iter().map(|place| place.0).collect();
        self.door.journal.settle(self.number, &seqs, None);
    }

    /// What lay there when the broker started, in order; once.
    fn restore(&self) -> Vec<(Place, Message)> {
        let stretches = self.door.journal.recovered(self.number);
        *self.next.lock() = stretches.last().map_or(0, |last| last.end());
        let fetch = |seqs| self.door.journal.fetch(self.number, seqs);
        let messages = stretches
            .iter()
            .flat_map(|stretch| fetch(stretch.first..stretch.end()));
        messages
            .map(|(seq, message)| (Place(seq), message))
            .collect()
    }
}

/// All shelves of a vhost.
pub(crate) struct Shelves {
    pub(crate) retained: Shelf,
    received: Shelf,
    scheduled: Shelf,
    unused: Shelf,
    /// The first of their numbers.
    number: u64,
    /// Packet identifiers that a restart found, of clients who have not come back yet.
    orphans: Mutex<HashMap<Box<str>, Orphan, RandomState>>,
    /// Scheduled publications that a restart found, of clients who have not come back yet.
    pub(crate) testaments: Mutex<HashMap<Box<str>, Arc<Scheduled>, RandomState>>,
    /// Since when queues are unused, and where that is noted.
    idle: Mutex<HashMap<u64, (Place, Time), RandomState>>,
}

/// What a client left that was not released.
#[derive(Clone, Debug, Default)]
pub struct Orphan {
    /// Packet identifiers, and where they lie.
    pub ids: Vec<(u16, Place)>,
    /// Its session had queues: without them it has expired.
    pub has_queues: bool,
    /// How long its session outlives the connection, in milliseconds; `u64::MAX` is for ever.
    session_ms: u64,
    /// Whose session it is; nobody's if it is from before sessions had owners.
    user: Box<str>,
}

impl Shelves {
    /// How many numbers a vhost takes.
    pub(crate) const COUNT: u64 = 4;

    pub(crate) fn new(door: &Arc<Door>, number: u64) -> Self {
        Self {
            retained: Shelf::new(door, number),
            received: Shelf::new(door, number + 1),
            scheduled: Shelf::new(door, number + 2),
            unused: Shelf::new(door, number + 3),
            number,
            orphans: Mutex::default(),
            testaments: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn all(&self) -> [&Shelf; Self::COUNT as usize] {
        [
            &self.retained,
            &self.received,
            &self.scheduled,
            &self.unused,
        ]
    }

    /// The definitions' record that names their number.
    pub(crate) fn set_record(&self, record: u64) {
        for shelf in self.all() {
            shelf.after.fetch_max(record, Ordering::Relaxed);
        }
    }

    /// The vhost is gone.
    pub(crate) fn forget(&self) {
        for shelf in self.all() {
            shelf.door.journal.forget(shelf.number);
        }
    }

    /// Brings identifiers and idle times back; gives retained messages and scheduled publications
    /// to who knows what they are.
    pub(crate) fn restore(&self) -> Restored {
        let mut orphans = self.orphans.lock();
        for (place, message) in self.received.restore() {
            let view = message.view();
            let (Ok(client_id), Some(note)) = (
                std::str::from_utf8(view.key),
                Received::decode(view.payload),
            ) else {
                self.received.drop(place);
                continue;
            };
            let orphan = orphans.entry(client_id.into()).or_default();
            let former = orphan.ids.iter().position(|(id, _)| *id == note.packet_id);
            if let Some(former) = former {
                let (_, former) = orphan.ids.swap_remove(former);
                self.received.drop(former);
            }
            orphan.ids.push((note.packet_id, place));
            orphan.session_ms = note.session_ms;
            orphan.has_queues = note.has_queues;
            orphan.user = view.exchange.into();
        }
        let sessions = orphans
            .iter()
            .map(|(client_id, orphan)| (client_id.clone(), orphan.session_ms))
            .collect();
        drop(orphans);
        let mut idle = self.idle.lock();
        for (place, message) in self.unused.restore() {
            let view = message.view();
            if let Ok(queue) = view.key.try_into().map(u64::from_le_bytes) {
                let known = idle.insert(queue, (place, view.head.received));
                known.iter().for_each(|(place, _)| self.unused.drop(*place));
            }
        }
        Restored {
            retained: self.retained.restore(),
            scheduled: self.scheduled.restore(),
            sessions,
        }
    }

    /// A publish of this client and user with this identifier was routed, and is not to be routed
    /// again.
    pub(crate) fn receive(
        &self,
        (client_id, user): (&str, &str),
        received: Received,
        now: Time,
    ) -> (Place, u64) {
        let payload = received.encode();
        let note = MessageRef {
            exchange: user,
            ..note(client_id.as_bytes(), &payload, now)
        };
        let (place, appended) = self.received.put(&note, None);
        (place, appended.number)
    }

    /// Identifiers are released. At the number that is returned they are surely gone, and so is
    /// what queues that are used again were unused for.
    pub(crate) fn release(&self, places: &[Place]) -> u64 {
        self.received.take(places).max(self.unused.take(&[]))
    }

    /// What a restart found of this client; once.
    pub(crate) fn recall(&self, client_id: &str) -> Orphan {
        self.orphans.lock().remove(client_id).unwrap_or_default()
    }

    /// Whose session it is that a restart found something of.
    pub(crate) fn owner(&self, client_id: &str) -> Option<Box<str>> {
        let orphans = self.orphans.lock();
        let orphan = orphans.get(client_id).map(|orphan| orphan.user.clone());
        drop(orphans);
        let known = orphan.filter(|user| !user.is_empty());
        known.or_else(|| self.testaments.lock().get(client_id)?.user())
    }

    /// Who has left identifiers before the restart and has not come back, and which.
    pub(crate) fn unreleased(&self) -> Vec<(String, Vec<u16>)> {
        let orphans = self.orphans.lock();
        let ids = |orphan: &Orphan| orphan.ids.iter().map(|(id, _)| *id).collect();
        orphans
            .iter()
            .map(|(client_id, orphan)| (client_id.to_string(), ids(orphan)))
            .collect()
    }

    /// A client's session has ended: what a restart found of it goes.
    pub(crate) fn forget_client(&self, client_id: &str) {
        let orphan = self.recall(client_id);
        let places: Vec<Place> = orphan.ids.iter().map(|(_, place)| *place).collect();
        self.release(&places);
    }

    /// A publication is scheduled: the message is one that [`Later`] has wrapped.
    pub(crate) fn schedule(&self, message: &MessageRef<'_>) -> Place {
        self.scheduled.put(message, None).0
    }

    /// A message waits at an exchange: it is one that [`Later`] has wrapped.
    pub(crate) fn hold_back(&self, message: &MessageRef<'_>) -> (Place, Appended) {
        self.scheduled.put(message, None)
    }

    /// They are published, or called off.
    pub(crate) fn unschedule(&self, places: &[Place]) {
        self.scheduled.drop_all(places);
    }

    /// Notes since when a queue is unused, if that is news for its time to live.
    pub(crate) fn note_unused(&self, queue: &Queue) {
        let mut idle = self.idle.lock();
        // Asked with the lock held: whoever uses it from now on takes the note away again.
        let Some((since, ttl_ms)) = queue.idle() else {
            return;
        };
        let queue = queue.id();
        let known = idle.get(&queue).copied();
        let grain_ms = grain_ms(ttl_ms);
        if known.is_some_and(|(_, noted)| since.since_ms(noted) < grain_ms && since >= noted) {
            return;
        }
        let (place, _) = self
            .unused
            .put(&note(&queue.to_le_bytes(), &[], since), None);
        idle.insert(queue, (place, since));
        drop(idle);
        if let Some((place, _)) = known {
            self.unused.drop(place);
        }
    }

    /// A queue is used again. A note that a power cut brings back would cost it what it was unused
    /// for: where that counts, answers wait until it is gone ([`Self::release`]).
    pub(crate) fn note_used(&self, queue: u64, now: Time, ttl_ms: Option<u64>) {
        let known = self.idle.lock().remove(&queue);
        let Some((place, since)) = known else {
            return;
        };
        if ttl_ms.is_some_and(|ttl_ms| now.since_ms(since) >= grain_ms(ttl_ms)) {
            self.unused.take(&[place]);
        } else {
            self.unused.drop(place);
        }
    }

    /// A queue is gone.
    pub(crate) fn note_gone(&self, queue: u64) {
        let known = self.idle.lock().remove(&queue);
        if let Some((place, _)) = known {
            self.unused.drop(place);
        }
    }

    /// Since when a queue was unused when the broker stopped. A clock that was set back since
    /// counts as no time.
    pub(crate) fn unused_since(&self, queue: u64, now: Time) -> Time {
        let idle = self.idle.lock();
        idle.get(&queue).map_or(now, |(_, since)| (*since).min(now))
    }

    /// Notes of queues that are not there.
    pub(crate) fn sweep(&self, is_there: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = {
            let idle = self.idle.lock();
            idle.keys()
                .copied()
                .filter(|queue| !is_there(*queue))
                .collect()
        };
        gone.into_iter().for_each(|queue| self.note_gone(queue));
    }
}

/// What a queue's time to live may be wrong by after a crash.
fn grain_ms(ttl_ms: u64) -> u64 {
    (ttl_ms / 16).max(1_000)
}

/// What a restart found for others to bring back.
pub(crate) struct Restored {
    pub(crate) retained: Vec<(Place, Message)>,
    pub(crate) scheduled: Vec<(Place, Message)>,
    /// Clients with identifiers, and how long their sessions live.
    pub(crate) sessions: Vec<(Box<str>, u64)>,
}

fn note<'a>(key: &'a [u8], payload: &'a [u8], now: Time) -> MessageRef<'a> {
    MessageRef {
        head: Head {
            origin: &AmqpOrigin,
            form: Form::Dotted,
            persistent: true,
            retain: false,
            exactly_once: false,
            publisher: 0,
            received: now,
            expires: None,
        },
        exchange: "",
        key,
        properties: &[],
        payload,
    }
}

/// A QoS 2 publish that was routed, as it is noted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Received {
    /// The packet identifier.
    pub packet_id: u16,
    /// How long the session outlives its connection, in milliseconds; `u64::MAX` is for ever.
    pub session_ms: u64,
    /// The session has queues of its own.
    pub has_queues: bool,
}

impl Received {
    fn encode(self) -> [u8; 11] {
        let mut out = [0; 11];
        out[..2].copy_from_slice(&self.packet_id.to_le_bytes());
        out[2..10].copy_from_slice(&self.session_ms.to_le_bytes());
        out[10] = self.has_queues.into();
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (packet_id, rest) = bytes.split_first_chunk::<2>()?;
        let (session_ms, rest) = rest.split_first_chunk::<8>()?;
        let [has_queues] = rest else { return None };
        Some(Self {
            packet_id: u16::from_le_bytes(*packet_id),
            session_ms: u64::from_le_bytes(*session_ms),
            has_queues: *has_queues == 1,
        })
    }
}

/// A publication that is due later, as it lies on its shelf: before the body are the time (8),
/// the user's name and the client's identifier, each with its length (2) before it. If the time's
/// highest bit is set, routing keys follow: their number (2), and each with its length (2).
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Later<'a> {
    pub(crate) at: Time,
    pub(crate) user: &'a str,
    pub(crate) client_id: &'a str,
    /// The routing keys that the message has besides its own.
    pub(crate) more: Vec<&'a [u8]>,
    pub(crate) payload: &'a [u8],
}

/// Routing keys follow the names. No time comes near it.
const WITH_KEYS: u64 = 1 << 63;

impl<'a> Later<'a> {
    /// A message that waits at an exchange: it is nobody's, and where others have a client
    /// identifier it has the exchange.
    pub(crate) fn at_exchange(
        at: Time,
        exchange: &'a str,
        more: &[&'a [u8]],
        payload: &'a [u8],
    ) -> Self {
        Self {
            at,
            user: "",
            client_id: exchange,
            more: more.to_vec(),
            payload,
        }
    }

    /// The exchange at which it waits, if it does.
    pub(crate) fn exchange(&self) -> Option<&'a str> {
        (self.user.is_empty() && !self.client_id.is_empty()).then_some(self.client_id)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len() + 64);
        let mut at = self.at.0.min(WITH_KEYS - 1);
        if !self.more.is_empty() {
            at |= WITH_KEYS;
        }
        out.extend_from_slice(&at.to_le_bytes());
        for text in [self.user, self.client_id] {
            // Names have 255 bytes at most, client identifiers 65,535.
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        if !self.more.is_empty() {
            // Neither can be more: see MORE_KEYS_MAX of AMQP's publishers, and KEY_BYTES_MAX.
            out.extend_from_slice(&(self.more.len() as u16).to_le_bytes());
            for key in &self.more {
                out.extend_from_slice(&(key.len() as u16).to_le_bytes());
                out.extend_from_slice(key);
            }
        }
        out.extend_from_slice(self.payload);
        out
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let at = u64::from_le_bytes(*at);
        let (user, rest) = text(rest)?;
        let (client_id, mut payload) = text(rest)?;
        let mut more = Vec::new();
        if at & WITH_KEYS != 0 {
            let (count, mut rest) = payload.split_first_chunk::<2>()?;
            for _ in 0..u16::from_le_bytes(*count) {
                let key;
                (key, rest) = counted(rest)?;
                more.push(key);
            }
            payload = rest;
        }
        Some(Self {
            at: Time(at & !WITH_KEYS),
            user,
            client_id,
            more,
            payload,
        })
    }
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = counted(bytes)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_later_is_read_as_it_was_written() {
        let later = Later {
            at: Time(77),
            user: "guest",
            client_id: "dév",
            more: Vec::new(),
            payload: b"gone",
        };
        let bytes = later.encode();
        assert_eq!(Later::decode(&bytes), Some(later));
        assert_eq!(Later::decode(&bytes[..12]), None);
        let later = Later::at_exchange(Time(7), "x", &[b"one", b"\xff"], b"body");
        let bytes = later.encode();
        assert_eq!(Later::decode(&bytes), Some(later));
        assert_eq!(Later::decode(&bytes[..16]), None);
    }
}
