//! One queue behind one lock: ready messages, consumers with credit, and what is out for
//! acknowledgement.
//!
//! A queue never waits for anybody: the publisher's thread pushes and, while a consumer has credit,
//! hands on at once. A *direct* queue is the same without a list: what no consumer takes is dropped
//! and counted.
//!
//! Invariant: while something is ready, every consumer is blocked. A blocked consumer's owner calls
//! [`Queue::pull`] when it has credit again.

mod arguments;
mod backlog;
mod caps;
mod consumers;
mod dispatch;
mod kept;
mod losses;
mod policies;
mod ready;
mod session;
mod settle;
mod stream;
mod undelivered;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::exchange::{Attached, Binding, BindingSet, Bound, End, Exchange, Terms};
use crate::field::Table;
use crate::journal::{Door, Slot, Stretch};
use crate::message::{Head, Message};
use crate::policy::Applied;
use crate::time::Time;
use crate::timers::Due;
use crate::turn::Turn;
use crate::vhost::VHost;

pub(crate) use arguments::{Alike, Given, RETRIES, age_ms};
pub use arguments::{Overflow, QueueArguments, QueueKind};
use backlog::Keep;
pub use caps::SessionCaps;
use consumers::Consumers;
pub use consumers::{Consumer, ConsumerView};
pub(crate) use dispatch::Publication;
pub use dispatch::Taken;
pub use kept::{ArgumentsBudget, KeptArguments};
pub use losses::Losses;
pub use ready::Levels;
use ready::Ready;
pub use session::{IdPlace, SessionTerms, SessionView};
pub use settle::{Settle, Unacked};
use stream::Stream;
pub use stream::StreamReader;
use undelivered::Undelivered;

/// What a declaration says about a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueProperties {
    /// Listed as durable. It survives a restart if it is journaled as well.
    pub durable: bool,
    /// Goes with its last consumer, once it had one.
    pub auto_delete: bool,
    /// The connection that alone may use it, and with which it goes.
    pub exclusive: Option<u64>,
    /// Keeps no list: what nobody takes at once is dropped and counted.
    pub direct: bool,
    /// Written to the definitions if durable. Off for queues that cannot outlive their connection.
    pub journaled: bool,
    /// The arguments as declared.
    pub arguments: Table,
}

/// A queue. Shared by the vhost's table, the routes and its consumers.
pub struct Queue {
    pub(crate) id: u64,
    name: Box<str>,
    auto_delete: bool,
    direct: bool,
    /// It keeps what it gives: see [`stream`].
    is_stream: bool,
    /// It keeps every message, whatever its publisher asked for.
    is_quorum: bool,
    exclusive: Option<NonZeroU64>,
    durable: bool,
    journaled: AtomicBool,
    /// Only queues of tests have none.
    door: Option<Arc<Door>>,
    record: AtomicU64,
    /// When the timer rings that will look whether messages or the queue have expired; 0 for none.
    /// Changed with the lock held.
    pub(crate) armed: AtomicU64,
    state: Mutex<State>,
}

/// What the queue's lock protects.
#[derive(Default)]
struct State {
    deleted: bool,
    had_consumer: bool,
    next_seq: u64,
    delivered: u64,
    losses: Losses,
    unacked: u32,
    unused_since: Time,
    consumers: Consumers,
    /// Taken from the first message on that had to wait.
    ready: Option<Box<Ready>>,
    /// What a stream has instead.
    stream: Option<Box<Stream>>,
    /// The bindings that lead here, without the default exchange's.
    bindings: BindingSet,
    /// Only queues with arguments pay for them, and only once if they are alike.
    given: Option<Arc<Given>>,
}

impl State {
    /// The arguments as declared.
    fn table(&self) -> Table {
        let table = self.given.as_ref().map(|given| given.table.clone());
        table.unwrap_or_default()
    }

    /// How many messages are there for who comes now.
    fn messages(&self) -> u64 {
        let stream = self.stream.as_ref();
        stream.map_or(self.waiting() as u64, |stream| stream.len())
    }

    /// How many messages are ready.
    fn waiting(&self) -> usize {
        self.ready.as_ref().map_or(0, |ready| ready.len())
    }

    /// Bytes of the ready messages' bodies.
    fn ready_bytes(&self) -> u64 {
        self.ready.as_ref().map_or(0, |ready| ready.bytes())
    }

    /// The ready messages, to change them.
    fn ready(&mut self) -> &mut Ready {
        self.ready.get_or_insert_default()
    }

    /// What arguments and policies ask for.
    #[inline]
    fn terms(&self) -> &QueueArguments {
        self.given
            .as_ref()
            .map_or(&NOTHING_ASKED, |given| &given.effective)
    }

    /// Whose session it is a part of.
    fn session(&self) -> Option<&Arc<SessionTerms>> {
        self.given.as_ref()?.session.as_ref()
    }

    /// The policies that apply.
    fn applied(&self) -> Applied {
        let applied = self.given.as_ref().map(|given| given.applied.clone());
        applied.unwrap_or_default()
    }

    /// How often a message's delivery has failed.
    fn failures(&self, entry: &Entry) -> u32 {
        let ready = self.ready.as_ref().filter(|_| entry.redelivered());
        let failures = ready.and_then(|ready| ready.failures.get(&entry.seq()));
        failures.copied().unwrap_or_default()
    }
}

/// What a queue without arguments is asked for.
static NOTHING_ASKED: QueueArguments = QueueArguments::NOTHING;

/// An idle queue; with two reference counts it fills an allocation of 192 bytes.
const _: () = assert!(size_of::<Queue>() <= 176);

/// One ready message: 16 bytes.
struct Entry {
    message: Message,
    /// The number in the queue, and in the lowest bit whether it was delivered before.
    seq_and_flag: u64,
}

impl Entry {
    fn new(message: Message, seq: u64, redelivered: bool) -> Self {
        Self {
            message,
            seq_and_flag: seq << 1 | u64::from(redelivered),
        }
    }

    fn seq(&self) -> u64 {
        self.seq_and_flag >> 1
    }

    fn redelivered(&self) -> bool {
        self.seq_and_flag & 1 == 1
    }
}

const _: () = assert!(size_of::<Entry>() == 16);

/// What is told of a queue.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Listed as durable.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that owns it.
    pub exclusive: Option<u64>,
    /// `classic`, `quorum` or `stream`; `MQTT QoS 0` for a direct queue.
    pub kind: &'static str,
    /// As declared.
    pub arguments: Table,
    /// Messages waiting.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unacked: u64,
    /// Bytes of the bodies waiting.
    pub ready_bytes: u64,
    /// Messages waiting that are on disk only.
    pub paged: u64,
    /// Consumers attached.
    pub consumers: u64,
    /// Messages dropped.
    pub losses: Losses,
    /// Messages handed to consumers so far.
    pub delivered: u64,
    /// The policies that apply.
    pub applied: Applied,
    /// Connection and tag of the consumer that alone gets deliveries, of those that there are.
    pub single: Option<(u64, String)>,
    /// Connection and tag of the consumer that lets nobody else consume.
    pub exclusive_consumer: Option<(u64, String)>,
}

impl Queue {
    pub(crate) fn new(
        id: u64,
        name: &str,
        properties: &QueueProperties,
        given: Option<Arc<Given>>,
        door: Option<&Arc<Door>>,
        now: Time,
    ) -> Self {
        let kind = given.as_ref().map(|given| given.effective.kind);
        let is_stream = kind == Some(QueueKind::Stream);
        Self {
            id,
            name: name.into(),
            auto_delete: properties.auto_delete,
            direct: properties.direct,
            is_stream,
            is_quorum: kind == Some(QueueKind::Quorum),
            // The first connection has number 1.
            exclusive: properties.exclusive.and_then(NonZeroU64::new),
            durable: properties.durable,
            journaled: AtomicBool::new(properties.journaled && properties.durable),
            door: door.cloned(),
            record: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            state: Mutex::new(State {
                unused_since: now,
                given,
                stream: is_stream.then(Box::default),
                ..State::default()
            }),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that no other queue of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it keeps no list.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// How it keeps and gives its messages.
    #[must_use]
    pub fn kind(&self) -> QueueKind {
        self.state.lock().terms().kind
    }

    /// It is a quorum queue with a single active consumer: RabbitMQ lets nobody fetch from it.
    pub(crate) fn has_single_active_quorum(&self) -> bool {
        let state = self.state.lock();
        let terms = state.terms();
        terms.kind == QueueKind::Quorum && terms.single_active_consumer
    }

    /// Whether it keeps what it gives.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Listed as durable.
    #[must_use]
    pub fn durable(&self) -> bool {
        self.durable
    }

    /// Whether its definition, and later its messages, are written to disk.
    #[must_use]
    pub fn journaled(&self) -> bool {
        self.journaled.load(Ordering::Relaxed)
    }

    /// It outlives the process from now on, with the messages that it has. `false`: it did already.
    pub(crate) fn set_journaled(&self) -> bool {
        let state = self.state.lock();
        if self.journaled.swap(true, Ordering::AcqRel) {
            return false;
        }
        if let (Some(door), Some(ready)) = (&self.door, &state.ready) {
            let waiting = ready
                .held()
                .filter(|entry| self.keeps(entry.message.head()));
            for entry in waiting {
                let slot = Slot {
                    queue: self.id,
                    seq: entry.seq(),
                    after: self.record(),
                    durability: door.durability,
                };
                door.journal.publish(slot, &entry.message.view(), None);
            }
        }
        true
    }

    /// The connection that alone may use it.
    #[must_use]
    pub fn exclusive_owner(&self) -> Option<u64> {
        self.exclusive.map(NonZeroU64::get)
    }

    pub(crate) fn properties(&self) -> QueueProperties {
        QueueProperties {
            durable: self.durable,
            auto_delete: self.auto_delete,
            exclusive: self.exclusive_owner(),
            direct: self.direct,
            journaled: self.journaled(),
            arguments: self.arguments(),
        }
    }

    /// The arguments as declared.
    #[must_use]
    pub fn arguments(&self) -> Table {
        self.state.lock().table()
    }

    /// How long a delivery may wait for its acknowledgement, in milliseconds, if the queue says so
    /// (`x-consumer-timeout`).
    #[must_use]
    pub fn consumer_timeout_ms(&self) -> Option<u32> {
        let asked = self.state.lock().terms().consumer_timeout_ms;
        let asked = asked.filter(|ms| *ms > 0);
        // Seven weeks are the longest.
        asked.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX))
    }

    /// Ready messages and consumers: what declare-ok tells.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        let state = self.state.lock();
        let messages = u32::try_from(state.messages()).unwrap_or(u32::MAX);
        (messages, clamp(state.consumers.len()))
    }

    /// Everything that listings tell.
    #[must_use]
    pub fn view(&self) -> QueueView {
        let state = self.state.lock();
        QueueView {
            name: self.name.to_string(),
            durable: self.durable,
            auto_delete: self.auto_delete,
            exclusive: self.exclusive_owner(),
            kind: if self.direct {
                "MQTT QoS 0"
            } else {
                state.terms().kind.name()
            },
            arguments: state.table(),
            ready: state.messages(),
            unacked: u64::from(state.unacked),
            ready_bytes: match &state.stream {
                Some(stream) => stream.bytes(),
                None => state.ready_bytes(),
            },
            paged: match &state.stream {
                Some(stream) => stream.paged(),
                None => state.ready.as_ref().map_or(0, |ready| ready.paged()) as u64,
            },
            consumers: state.consumers.len() as u64,
            losses: state.losses.clone(),
            delivered: state.delivered,
            applied: state.applied(),
            single: state.consumers.single_tag(),
            exclusive_consumer: (!self.is_stream)
                .then(|| state.consumers.exclusive_tag())
                .flatten(),
        }
    }

    /// What it has dropped so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.state.lock().losses.clone()
    }

    /// Drops the ready messages and says how many there were.
    pub(crate) fn purge(&self) -> u32 {
        let mut state = self.state.lock();
        let dropped = clamp(state.waiting());
        let seqs = state.ready().clear(self);
        self.forget(&seqs);
        dropped
    }

    /// Leaves what the journal has there, but for the first few; says how many messages it has
    /// passed.
    pub(crate) fn page_out(&self) -> usize {
        let mut state = self.state.lock();
        if self.is_stream {
            return self.page_out_stream(&mut state);
        }
        let ready = state.ready.as_mut();
        ready.map_or(0, |ready| ready.page_out(self, Keep::LITTLE))
    }

    /// Whether a message is written to the journal.
    #[inline]
    fn keeps(&self, head: &Head) -> bool {
        (head.persistent || self.is_quorum) && !self.direct && self.journaled()
    }

    /// Messages that were kept are not wanted any more. With the lock held, so that none is
    /// forgotten before it is kept.
    fn forget(&self, seqs: &[u64]) {
        if let Some(door) = self.door.as_ref().filter(|_| !seqs.is_empty()) {
            door.journal.settle(self.id, seqs, None);
        }
    }

    /// Where it is, unless that was deleted.
    pub(crate) fn vhost(&self) -> Option<Arc<VHost>> {
        self.door.as_ref()?.vhost.upgrade()
    }

    /// What the journal had when the broker started: each counts as delivered before.
    pub(crate) fn restore(&self, messages: Vec<Stretch>) {
        let mut state = self.state.lock();
        if self.is_stream {
            return Self::restore_stream(&mut state, &messages);
        }
        state.next_seq = messages.last().map_or(0, Stretch::end);
        if let Some(door) = self.door.as_ref().filter(|_| !messages.is_empty()) {
            let levels = state.terms().max_priority.unwrap_or_default();
            let given_up = door.journal.given_up(self.id);
            let (messages, undelivered) = Undelivered::restored(messages, &given_up);
            let expires = door.journal.may_expire(self.id);
            let mut ready = Ready::restored(&messages, expires, levels);
            ready.undelivered = undelivered;
            state.ready = Some(Box::new(ready));
        }
    }

    /// Remembers the binding that `make` makes, unless an equal one leads here.
    pub(crate) fn add_binding(
        &self,
        identity: u32,
        same: impl Fn(&Bound) -> bool,
        make: impl FnOnce() -> Bound,
    ) -> Attached {
        let mut state = self.state.lock();
        if state.deleted {
            return Attached::Gone;
        }
        state.bindings.admit(identity, same, make)
    }

    pub(crate) fn remove_binding(&self, bound: &Bound) {
        self.state.lock().bindings.remove(bound);
    }

    /// It takes and gives nothing any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.state.lock().deleted
    }

    /// The binding with these terms that leads here from `source`.
    pub(crate) fn find_binding(
        self: &Arc<Self>,
        source: &Exchange,
        terms: &Terms<'_>,
    ) -> Option<Bound> {
        let end = End::Queue(self);
        let identity = source.identity(end, terms);
        let same = |held: &Bound| held.is(source, end.address(), terms);
        self.state.lock().bindings.find(identity, same).cloned()
    }

    /// How many bindings lead here.
    #[must_use]
    pub fn binding_count(&self) -> usize {
        self.state.lock().bindings.len()
    }

    /// The number of the last record about it: whoever says that the queue is there waits for it.
    pub(crate) fn record(&self) -> u64 {
        self.record.load(Ordering::Acquire)
    }

    pub(crate) fn set_record(&self, number: u64) {
        self.record.fetch_max(number, Ordering::AcqRel);
    }

    pub(crate) fn bound(&self) -> Vec<Bound> {
        self.state.lock().bindings.all()
    }

    /// Copies of the bindings that lead here, without the default exchange's: in no order, made as
    /// they are asked for.
    pub fn bindings(&self) -> impl ExactSizeIterator<Item = Binding> + use<> {
        self.bound().into_iter().map(|bound| bound.copy())
    }

    /// Ends the queue: it takes and gives nothing any more. Returns what the vhost must undo, or
    /// `None` if a condition does not hold or somebody else was first.
    pub(crate) fn retire(&self, when: impl FnOnce(&Conditions) -> bool) -> Option<Retired> {
        let mut state = self.state.lock();
        let conditions = Conditions {
            ready: usize::try_from(state.messages()).unwrap_or(usize::MAX),
            consumers: state.consumers.len(),
            unused_since: state.unused_since,
            bindings: state.bindings.len(),
            expires_ms: state.terms().expires_ms,
        };
        if state.deleted || !when(&conditions) {
            return None;
        }
        state.deleted = true;
        Some(Retired {
            armed: self.looked_at().is_some(),
            ready: {
                let messages = u32::try_from(state.messages()).unwrap_or(u32::MAX);
                (state.ready, state.stream) = (None, None);
                messages
            },
            consumers: std::mem::take(&mut state.consumers).into_list(),
            bindings: std::mem::take(&mut state.bindings),
        })
    }

    /// Sets the timer for when the queue expires, if nobody uses it from now on.
    pub(crate) fn arm_expiry(self: &Arc<Self>) {
        let state = self.state.lock();
        if state.deleted || !state.consumers.is_empty() {
            return;
        }
        if let Some(expires_ms) = state.terms().expires_ms {
            let at = state.unused_since.after_ms(expires_ms);
            self.arm(&state, at);
        }
    }

    /// Sees to it that the queue is looked at then, if not before.
    fn arm(self: &Arc<Self>, _locked: &State, at: Time) {
        let armed = self.looked_at();
        if armed.is_some_and(|armed| armed <= at) {
            return;
        }
        if let Some(door) = &self.door {
            self.armed.store(at.0, Ordering::Relaxed);
            let due = Due::Queue(Weak::clone(&door.vhost), Arc::downgrade(self));
            door.timers.add(at, due);
            if armed.is_some() {
                door.timers.lose();
            }
        }
    }

    /// When it is to be looked at: a timer that is for any other time points to it for nothing.
    pub(crate) fn looked_at(&self) -> Option<Time> {
        let armed = self.armed.load(Ordering::Relaxed);
        (armed > 0).then_some(Time(armed))
    }

    /// A timer has rung: messages that have expired go.
    pub(crate) fn ring(self: &Arc<Self>, turn: &mut Turn) {
        let mut state = self.state.lock();
        if self.looked_at().is_some_and(|armed| armed <= turn.now) {
            self.armed.store(0, Ordering::Relaxed);
        }
        if self.is_stream {
            return self.ring_stream(&mut state, turn.now);
        }
        self.retry_undelivered(&mut state, turn);
        self.watch_head(&mut state, turn);
        if state.given.is_some() && state.terms().overflow == Overflow::DropHead {
            self.enforce_length(&mut state, turn);
        }
        if state.consumers.is_open() {
            self.dispatch(&mut state, turn);
        }
    }

    /// Messages that a restart found are looked at soon, if they have a time to live or are dead
    /// letters.
    pub(crate) fn watch_restored(self: &Arc<Self>, now: Time) {
        let state = self.state.lock();
        let Some(ready) = &state.ready else {
            return;
        };
        let by_queue = ready.len() > 0 && state.terms().message_ttl_ms.is_some();
        if by_queue || ready.may_expire_on_disk() || ready.undelivered.is_some() {
            self.arm(&state, now);
        }
    }

    /// Since when nobody uses it, and for how long it stays then, if it outlives the process.
    pub(crate) fn idle(&self) -> Option<(Time, u64)> {
        let state = self.state.lock();
        let idle = self.journaled() && !state.deleted && state.consumers.is_empty();
        let ttl_ms = state.terms().expires_ms.filter(|_| idle)?;
        Some((state.unused_since, ttl_ms))
    }

    /// Its `x-expires`.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.state.lock().terms().expires_ms
    }

    /// Counts as a use for `x-expires`.
    pub(crate) fn touch(&self, now: Time) {
        self.state.lock().unused_since = now;
    }
}

/// What a deletion may depend on.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) ready: usize,
    pub(crate) consumers: usize,
    pub(crate) unused_since: Time,
    pub(crate) bindings: usize,
    pub(crate) expires_ms: Option<u64>,
}

/// What a retired queue leaves behind.
pub(crate) struct Retired {
    /// A timer still points to it.
    pub(crate) armed: bool,
    pub(crate) ready: u32,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) bindings: BindingSet,
}

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
