//! One virtual host: a name space of exchanges, queues, retained messages and client ids, shut off
//! from all others.
//!
//! Nothing here asks for permissions: every client comes through a [`crate::link::Link`], which
//! does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};

use crate::claims::Claims;
use crate::exchange::{Binding, Destination, Exchange, ExchangeKind, ExchangeProperties};
use crate::field::Table;
use crate::limits;
use crate::queue::{Queue, Retired};
use crate::refusal::{Refusal, Resource};
use crate::retained::Retained;

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

/// A virtual host.
pub struct VHost {
    name: Box<str>,
    deleted: AtomicBool,
    topology: AtomicU64,
    exchanges: RwLock<HashMap<Box<str>, Arc<Exchange>>>,
    queues: DashMap<Box<str>, Arc<Queue>>,
    /// Held while a durable thing changes and its record is submitted, so that both happen in one
    /// order.
    pub(crate) recording: Mutex<()>,
    pub(crate) claims: Claims,
    pub(crate) retained: Retained,
}

impl VHost {
    pub(crate) fn new(name: &str, next_id: &AtomicU64) -> Self {
        let mut exchanges = HashMap::new();
        for (name, kind, internal) in BUILT_IN {
            let properties = ExchangeProperties {
                kind,
                durable: true,
                auto_delete: false,
                internal,
                arguments: Table::new(),
            };
            let id = next_id.fetch_add(1, Ordering::Relaxed);
            exchanges.insert(name.into(), Arc::new(Exchange::new(id, name, properties)));
        }
        Self {
            name: name.into(),
            deleted: AtomicBool::new(false),
            topology: AtomicU64::new(1),
            exchanges: RwLock::new(exchanges),
            queues: DashMap::new(),
            recording: Mutex::default(),
            claims: Claims::default(),
            retained: Retained::default(),
        }
    }

    /// The vhost's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many retained messages it holds.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.retained.count()
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Moves when anything changes that a route may depend on.
    pub(crate) fn topology(&self) -> u64 {
        self.topology.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.topology.fetch_add(1, Ordering::AcqRel);
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

    /// The queue with this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.queues.get(name).map(|entry| Arc::clone(&entry))
    }

    /// The queue with this name.
    ///
    /// # Errors
    /// 404.
    pub fn find_queue(&self, name: &str) -> Result<Arc<Queue>, Refusal> {
        self.queue(name)
            .ok_or_else(|| Refusal::not_found(Resource::Queue, name, &self.name))
    }

    /// Every queue, in name order.
    #[must_use]
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut all: Vec<_> = self.queues.iter().map(|entry| Arc::clone(&entry)).collect();
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
        exchanges.insert(exchange.name().into(), Arc::clone(&exchange));
        Ok(exchange)
    }

    /// Whether another exchange would be too many.
    pub(crate) fn exchanges_full(&self) -> bool {
        self.exchanges.read().len() >= limits::EXCHANGES_MAX
    }

    /// Whether another queue would be too many.
    pub(crate) fn queues_full(&self) -> bool {
        self.queues.len() >= limits::QUEUES_MAX
    }

    /// Removes an exchange with all bindings from and to it. Returns those for the definitions to
    /// forget, and the exchanges that go because they have no binding left.
    pub(crate) fn remove_exchange(
        &self,
        exchange: &Arc<Exchange>,
    ) -> Option<(Vec<Arc<Binding>>, Vec<Arc<Exchange>>)> {
        {
            let mut exchanges = self.exchanges.write();
            exchanges
                .get(exchange.name())
                .filter(|held| Arc::ptr_eq(held, exchange))?;
            exchanges.remove(exchange.name());
        }
        exchange.retire();
        let mut gone = exchange.bindings();
        for binding in &gone {
            match &binding.destination {
                Destination::Queue(queue) => {
                    if let Some(queue) = queue.upgrade() {
                        queue.remove_binding(binding);
                    }
                }
                Destination::Exchange(to) => {
                    if let Some(to) = to.upgrade() {
                        to.remove_incoming(binding);
                    }
                }
            }
        }
        let mut empty = Vec::new();
        for binding in exchange.incoming() {
            if let Some(source) = binding.source.upgrade()
                && !source.remove(&binding)
                && source.properties().auto_delete
            {
                empty.push(source);
            }
            gone.push(binding);
        }
        self.changed();
        Some((gone, empty))
    }

    /// Adds a queue; `Err` with the one that is there already.
    pub(crate) fn add_queue(&self, queue: Queue) -> Result<Arc<Queue>, Arc<Queue>> {
        let added = {
            let entry = self.queues.entry(queue.name().into());
            match entry {
                dashmap::Entry::Occupied(held) => return Err(Arc::clone(held.get())),
                dashmap::Entry::Vacant(free) => Arc::clone(&free.insert(Arc::new(queue))),
            }
        };
        self.changed();
        Ok(added)
    }

    /// Takes a retired queue out of the table and its bindings out of their exchanges. Returns the
    /// exchanges that have no binding left and go with their last one.
    pub(crate) fn remove_queue(&self, queue: &Arc<Queue>, retired: &Retired) -> Vec<Arc<Exchange>> {
        self.queues
            .remove_if(queue.name(), |_, held| Arc::ptr_eq(held, queue));
        let mut empty = Vec::new();
        for binding in &retired.bindings {
            let Some(source) = binding.source.upgrade() else {
                continue;
            };
            if !source.remove(binding) && source.properties().auto_delete {
                empty.push(source);
            }
        }
        self.changed();
        empty
    }

    /// Adds a binding unless an equal one is there; returns it if it is new. `None` as well if an
    /// end has gone.
    pub(crate) fn bind(&self, binding: Binding) -> Option<Arc<Binding>> {
        let source = binding.source.upgrade()?;
        let equal =
            |held: &Arc<Binding>| held.is(&source, &binding.key, binding.form, &binding.arguments);
        let known = match &binding.destination {
            Destination::Queue(queue) => queue.upgrade()?.has_binding(equal),
            Destination::Exchange(to) => to.upgrade()?.incoming().iter().any(equal),
        };
        if known {
            return None;
        }
        let binding = Arc::new(binding);
        source.insert(&binding);
        let held = match &binding.destination {
            Destination::Queue(queue) => queue
                .upgrade()
                .is_some_and(|queue| queue.add_binding(&binding)),
            Destination::Exchange(to) => to.upgrade().is_some_and(|to| {
                to.add_incoming(&binding);
                !to.is_deleted()
            }),
        };
        if !held || source.is_deleted() {
            // An end went meanwhile, and nobody else would take this binding out.
            self.unbind(&binding);
            return None;
        }
        self.changed();
        Some(binding)
    }

    /// Removes a binding. Says whether its source has any left.
    pub(crate) fn unbind(&self, binding: &Arc<Binding>) -> bool {
        match &binding.destination {
            Destination::Queue(queue) => {
                if let Some(queue) = queue.upgrade() {
                    queue.remove_binding(binding);
                }
            }
            Destination::Exchange(to) => {
                if let Some(to) = to.upgrade() {
                    to.remove_incoming(binding);
                }
            }
        }
        let left = binding
            .source
            .upgrade()
            .is_none_or(|source| source.remove(binding));
        self.changed();
        left
    }
}

impl std::fmt::Debug for VHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VHost")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
