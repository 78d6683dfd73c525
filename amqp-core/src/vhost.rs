//! One virtual host: a name space of exchanges, queues, retained messages and client ids, shut off
//! from all others.
//!
//! Nothing here asks for permissions: every client comes through a [`crate::link::Link`], which
//! does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::claims::Claims;
use crate::events::EVENT_EXCHANGE;
use crate::exchange::epochs::{Epochs, Part, Topology, Watch};
use crate::exchange::{
    Bound, Delayed, Exchange, ExchangeKind, ExchangeProperties, NoWay, Route, Search, each_once,
};
use crate::field::Table;
use crate::journal::Door;
use crate::ledger::{LossReport, Whose};
use crate::limits;
use crate::message::MessageRef;
use crate::names::Queues;
use crate::policy::{Applied, Policies, Policy, Scope};
use crate::queue::{Alike, Losses, Queue, QueueKind};
use crate::quota::{Limits, Used};
use crate::refusal::{Refusal, Resource};
use crate::replies::Replies;
use crate::retained::Retained;
use crate::shelf::Shelves;
use crate::sink::Loss;
use crate::timers::{Room, Scheduled};
use crate::watermark::Watermark;

/// The exchanges that every vhost has.
const BUILT_IN: [(&str, ExchangeKind, bool); 7] = [
    ("", ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
    ("amq.topic", ExchangeKind::Topic, false),
];

/// What an administrator says about a vhost.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata {
    /// For people.
    pub description: Box<str>,
    /// For tools.
    pub tags: Vec<Box<str>>,
    /// The kind of queue that AMQP clients get who do not say which.
    pub default_queue_type: Option<QueueKind>,
    /// It cannot be deleted.
    pub protected: bool,
}

/// What can be said anew at any time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) metadata: Metadata,
    /// `max-connections` and `max-queues`.
    pub(crate) limits: Limits,
}

/// A virtual host.
pub struct VHost {
    name: Box<str>,
    deleted: AtomicBool,
    topology: Topology,
    door: Arc<Door>,
    pub(crate) shelves: Shelves,
    exchanges: RwLock<HashMap<Box<str>, Arc<Exchange>>>,
    queues: Queues,
    pub(crate) alike: Alike,
    pub(crate) policies: Policies,
    pub(crate) facts: RwLock<Facts>,
    /// Connections that have opened it.
    pub(crate) connections: Used,
    /// Held while a durable thing changes and its record is submitted, so that both happen in one
    /// order.
    pub(crate) recording: Mutex<()>,
    /// The record of the last durable queue that went.
    pub(crate) gone_record: AtomicU64,
    pub(crate) claims: Claims,
    pub(crate) delayed: Delayed,
    /// Wills and delayed messages.
    pub(crate) scheduled: Arc<Scheduled>,
    pub(crate) retained: Retained,
    pub(crate) replies: Replies,
}

impl VHost {
    pub(crate) fn new(
        name: &str,
        next_id: &AtomicU64,
        epochs: &Arc<Epochs>,
        door: impl FnOnce(&Weak<Self>) -> Arc<Door>,
        (shelves, events): (u64, bool),
    ) -> Arc<Self> {
        let mut exchanges = HashMap::new();
        let events = events.then_some((EVENT_EXCHANGE, ExchangeKind::Topic, true));
        for (name, kind, internal) in BUILT_IN.into_iter().chain(events) {
            let properties = ExchangeProperties {
                kind,
                durable: true,
                auto_delete: false,
                internal,
                arguments: Table::new(),
            };
            exchanges.insert(name.into(), Arc::new(Exchange::new(name, properties)));
        }
        Arc::new_cyclic(|me| {
            let door = door(me);
            Self {
                name: name.into(),
                deleted: AtomicBool::new(false),
                topology: Topology::new(epochs, next_id.fetch_add(1, Ordering::Relaxed)),
                shelves: Shelves::new(&door, shelves),
                alike: Alike::new(door.caps),
                door,
                exchanges: RwLock::new(exchanges),
                queues: Queues::default(),
                policies: Policies::default(),
                facts: RwLock::default(),
                connections: Used::default(),
                recording: Mutex::default(),
                gone_record: AtomicU64::new(0),
                claims: Claims::default(),
                delayed: Delayed::default(),
                scheduled: Arc::default(),
                retained: Retained::default(),
                replies: Replies::default(),
            }
        })
    }

    /// The journal, as this vhost uses it.
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// The mark that acknowledgements of this vhost wait for.
    pub(crate) fn mark(&self) -> &Arc<Watermark> {
        self.door.mark()
    }

    /// The vhost's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What an administrator says about it.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.facts.read().metadata.clone()
    }

    /// `max-connections` and `max-queues`.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.facts.read().limits.clone()
    }

    /// Its policies, those that win first.
    #[must_use]
    pub fn policies(&self, scope: Scope) -> Vec<Arc<Policy>> {
        self.policies.list(scope)
    }

    /// The policies of an exchange.
    #[must_use]
    pub fn policies_of_exchange(&self, name: &str) -> Applied {
        self.policies.of_exchange(name)
    }

    /// An exchange does what its policies say.
    pub(crate) fn apply_to_exchange(&self, exchange: &Exchange) {
        let settings = self.policies.of_exchange(exchange.name()).settings();
        self.set_alternate(exchange, settings.alternate_exchange.as_deref());
    }

    /// How many retained messages it holds.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.retained.count()
    }

    /// Bytes of the retained messages, with topics and properties.
    #[must_use]
    pub fn retained_bytes(&self) -> u64 {
        self.retained.bytes()
    }

    /// Packet identifiers of QoS 2 that a restart found and nobody has come back for, by client.
    #[must_use]
    pub fn unreleased(&self) -> Vec<(String, Vec<u16>)> {
        self.shelves.unreleased()
    }

    /// What was dropped here: by its queues, also those that are gone, and before any queue had it.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.door.ledger.losses()
    }

    /// What was dropped since this was last asked, one report for each reason.
    #[must_use]
    pub fn take_loss_reports(&self) -> Vec<LossReport> {
        self.door.ledger.take_reports()
    }

    /// A message of this QoS is dropped outside of queues.
    pub(crate) fn count_loss(&self, loss: Loss, qos: u8, whose: Whose<'_>, key: &[u8]) {
        self.door.ledger.count((loss, qos), 1, whose, key);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// What durable changes were begun before are submitted when it returns, and no other begins.
    pub(crate) fn set_deleted(&self) {
        let changing = self.policies.change();
        let recording = self.recording.lock();
        self.deleted.store(true, Ordering::Release);
        drop((recording, changing));
        self.clear_delayed();
    }

    /// Schedules so many more publications here, unless that leaves less free than they take: all
    /// or none, whoever tries at the same time.
    pub(crate) fn try_hold_scheduled(&self, more: usize) -> bool {
        // Counted first: of those who take the last at the same time, one sees the other.
        self.hold_scheduled(more);
        let taken = self.door.timers.scheduled().count() + self.scheduled.count();
        let fits = taken.saturating_sub(more) <= limits::SCHEDULED_MAX;
        if !fits {
            self.release_scheduled(more);
        }
        fits
    }

    /// Takes room for so many that are scheduled later, if at all.
    pub(crate) fn take_room(&self, more: usize) -> Option<Room> {
        let taken_of = || {
            let node = self.door.timers.scheduled();
            [Arc::clone(node), Arc::clone(&self.scheduled)]
        };
        self.try_hold_scheduled(more)
            .then(|| Room::new(taken_of(), more))
    }

    /// More are scheduled.
    pub(crate) fn hold_scheduled(&self, more: usize) {
        self.scheduled.add(more);
        self.door.timers.scheduled().add(more);
    }

    /// They are published, or called off.
    pub(crate) fn release_scheduled(&self, gone: usize) {
        self.scheduled.remove(gone);
        self.door.timers.scheduled().remove(gone);
    }

    /// To be held while something durable is changed and its record submitted; `None` if the vhost
    /// is gone.
    pub(crate) fn record(&self) -> Option<MutexGuard<'_, ()>> {
        let recording = self.recording.lock();
        (!self.is_deleted()).then_some(recording)
    }

    /// Whether some binding here is for events, or for the broker's own topics.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.topology.listeners().any()
    }

    /// What routes of this vhost depend on.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The exchange with this name.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<Arc<Exchange>> {
        self.exchanges.read().get(name).cloned()
    }

    /// The exchange with this name.
    ///
    /// # Errors
    /// 404.
    pub fn find_exchange(&self, name: &str) -> Result<Arc<Exchange>, Refusal> {
        self.exchange(name)
            .ok_or_else(|| Refusal::not_found(Resource::Exchange, name, &self.name))
    }

    /// Every exchange, in name order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        let mut all: Vec<_> = self.exchanges.read().values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// The queues that a message finds through an exchange, each once.
    pub(crate) fn resolve(
        &self,
        exchange: &Arc<Exchange>,
        message: &MessageRef<'_>,
        search: &Search<'_>,
    ) -> Result<Route, NoWay> {
        if !exchange.is_default() {
            return exchange.resolve(self, message, search);
        }
        let mut watch = Watch::new(self.topology());
        watch.key(search.dotted);
        if search.more.is_empty() {
            let queues = self.addressee(search.dotted).into_iter().collect();
            return Ok(Route::new(queues, Some(watch.stamp())));
        }
        let mut queues: Vec<_> = search
            .keys()
            .filter_map(|key| self.addressee(key))
            .collect();
        each_once(&mut queues);
        Ok(Route::new(queues.into(), None))
    }

    /// The queue that a key names at the default exchange.
    fn addressee(&self, dotted: &[u8]) -> Option<Arc<Queue>> {
        let name = std::str::from_utf8(dotted).ok()?;
        self.queue(name).or_else(|| self.replies.find(name))
    }

    /// A policy says, or no longer says, where an exchange sends messages that match nothing.
    pub fn set_alternate(&self, exchange: &Exchange, alternate: Option<&str>) {
        exchange.set_alternate(&self.topology, alternate);
    }

    /// The queue with this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.queues.find(name)
    }

    /// The queue with this name.
    ///
    /// # Errors
    /// 404.
    pub fn find_queue(&self, name: &str) -> Result<Arc<Queue>, Refusal> {
        self.queue(name)
            .ok_or_else(|| Refusal::not_found(Resource::Queue, name, &self.name))
    }

    /// Every queue, in no order.
    pub(crate) fn unsorted_queues(&self) -> Vec<Arc<Queue>> {
        self.queues.all()
    }

    /// Every queue, in name order.
    #[must_use]
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut all = self.queues.all();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Adds an exchange; `Err` with the one that is there already.
    pub(crate) fn add_exchange(&self, exchange: Exchange) -> Result<Arc<Exchange>, Arc<Exchange>> {
        let mut exchanges = self.exchanges.write();
        if let Some(held) = exchanges.get(exchange.name()) {
            return Err(Arc::clone(held));
        }
        let exchange = Arc::new(exchange);
        // With the lock held: whoever changes policies finds it, and comes later.
        self.apply_to_exchange(&exchange);
        exchanges.insert(exchange.name().into(), Arc::clone(&exchange));
        Ok(exchange)
    }

    /// Whether another exchange would be too many.
    pub(crate) fn exchanges_full(&self) -> bool {
        self.exchanges.read().len() >= limits::EXCHANGES_MAX
    }

    /// The limit that another queue would exceed.
    pub(crate) fn queues_full(&self) -> Option<u64> {
        let own = self.facts.read().limits.max_queues();
        let max = own.map_or(limits::QUEUES_MAX as u64, |own| {
            own.min(limits::QUEUES_MAX as u64)
        });
        (self.queues.len() as u64 >= max).then_some(max)
    }

    /// Takes an exchange out of the table: nothing is bound to it or from it any more. Returns its
    /// own bindings and those that lead to it, which still stand at their other ends.
    pub(crate) fn retire_exchange(
        &self,
        exchange: &Arc<Exchange>,
    ) -> Option<(Vec<Bound>, Vec<Bound>)> {
        {
            let mut exchanges = self.exchanges.write();
            exchanges
                .get(exchange.name())
                .filter(|held| Arc::ptr_eq(held, exchange))?;
            exchanges.remove(exchange.name());
        }
        exchange.retire();
        // Who remembers a route that begins here asks whether it is deleted.
        self.topology.changed(&[]);
        Some((
            exchange.take_bindings(&self.topology),
            exchange.take_incoming(),
        ))
    }

    /// Takes bindings out of their sources. Returns the exchanges that have none left and go with
    /// their last one.
    pub(crate) fn detach_all(&self, bindings: &[Bound]) -> Vec<Arc<Exchange>> {
        let mut empty = Vec::new();
        for bound in bindings {
            if let Some(source) = bound.source()
                && source.detach(&self.topology, bound) == Some(false)
                && source.properties().auto_delete
            {
                empty.push(source);
            }
        }
        empty
    }

    /// Adds a queue; `Err` with the one that is there already.
    pub(crate) fn add_queue(&self, queue: Queue) -> Result<Arc<Queue>, Arc<Queue>> {
        // Before the table lets go: who finds the queue there must reach it too.
        self.queues.add(queue, |added| {
            self.topology.changed(&[Part::Key(added.name().as_bytes())]);
        })
    }

    /// Takes a retired queue out of the table.
    pub(crate) fn remove_queue(&self, queue: &Arc<Queue>) {
        self.queues.remove(queue);
        self.topology.changed(&[Part::Key(queue.name().as_bytes())]);
    }
}

impl Drop for VHost {
    /// Dead letters hold their queue, and with it the door where they wait.
    fn drop(&mut self) {
        self.door.letters.clear();
    }
}

impl std::fmt::Debug for VHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VHost")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
