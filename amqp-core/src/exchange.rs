//! Exchanges: how a message finds its queues.
//!
//! Each kind has its own file with its own matching. An exchange's bindings stand behind a
//! read-write lock that publishers seldom touch: what a key resolved to is remembered by publisher
//! and worker while the vhost's topology epoch stands ([`RouteCache`], [`Memo`]).

mod binding;
mod cache;
mod direct;
mod headers;
mod topic;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::field::Table;
use crate::message::MessageRef;
use crate::queue::Queue;

pub use binding::{Binding, BindingView, Destination};
pub use cache::Memo;
pub(crate) use cache::{Known, Route, RouteCache};

/// The kinds of exchange that this version serves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExchangeKind {
    /// The binding key is the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Words with wildcards.
    Topic,
    /// The message's headers.
    Headers,
}

impl ExchangeKind {
    /// The kind's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Direct, Self::Fanout, Self::Topic, Self::Headers]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What a declaration says about an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeProperties {
    /// How it matches.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding, once it had one.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// The arguments as declared.
    pub arguments: Table,
}

/// An exchange with its bindings.
pub struct Exchange {
    pub(crate) id: u64,
    name: Arc<str>,
    properties: ExchangeProperties,
    router: RwLock<Router>,
    /// Bindings from other exchanges that lead here.
    incoming: Mutex<Vec<Arc<Binding>>>,
    deleted: AtomicBool,
    /// The number of its record: whoever says that the exchange is there waits for it.
    pub(crate) record: AtomicU64,
}

enum Router {
    Direct(direct::Bindings),
    Fanout(Vec<Arc<Binding>>),
    Topic(topic::Bindings),
    Headers(headers::Bindings),
}

impl Exchange {
    pub(crate) fn new(id: u64, name: &str, properties: ExchangeProperties) -> Self {
        let router = match properties.kind {
            ExchangeKind::Direct => Router::Direct(direct::Bindings::default()),
            ExchangeKind::Fanout => Router::Fanout(Vec::new()),
            ExchangeKind::Topic => Router::Topic(topic::Bindings::default()),
            ExchangeKind::Headers => Router::Headers(headers::Bindings::default()),
        };
        Self {
            id,
            name: name.into(),
            properties,
            router: RwLock::new(router),
            incoming: Mutex::default(),
            deleted: AtomicBool::new(false),
            record: AtomicU64::new(0),
        }
    }

    /// The exchange's name; the default exchange's is empty.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The declaration.
    #[must_use]
    pub fn properties(&self) -> &ExchangeProperties {
        &self.properties
    }

    /// The one without a name, to which every queue is bound under its own.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.is_empty()
    }

    pub(crate) fn insert(&self, binding: &Arc<Binding>) {
        match &mut *self.router.write() {
            Router::Direct(bindings) => bindings.insert(binding),
            Router::Fanout(bindings) => bindings.push(Arc::clone(binding)),
            Router::Topic(bindings) => bindings.insert(binding),
            Router::Headers(bindings) => bindings.insert(binding),
        }
    }

    /// Removes a binding; says whether any is left.
    pub(crate) fn remove(&self, binding: &Arc<Binding>) -> bool {
        match &mut *self.router.write() {
            Router::Direct(bindings) => {
                bindings.remove(binding);
                !bindings.is_empty()
            }
            Router::Fanout(bindings) => {
                bindings.retain(|held| !Arc::ptr_eq(held, binding));
                !bindings.is_empty()
            }
            Router::Topic(bindings) => {
                bindings.remove(binding);
                !bindings.is_empty()
            }
            Router::Headers(bindings) => {
                bindings.remove(binding);
                !bindings.is_empty()
            }
        }
    }

    /// Nothing is bound to it or from it any more.
    pub(crate) fn retire(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn incoming(&self) -> Vec<Arc<Binding>> {
        self.incoming.lock().clone()
    }

    pub(crate) fn add_incoming(&self, binding: &Arc<Binding>) {
        self.incoming.lock().push(Arc::clone(binding));
    }

    pub(crate) fn remove_incoming(&self, binding: &Arc<Binding>) {
        self.incoming
            .lock()
            .retain(|held| !Arc::ptr_eq(held, binding));
    }

    /// Every binding, for listings and deletion.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        match &*self.router.read() {
            Router::Direct(bindings) => bindings.all(),
            Router::Fanout(bindings) => bindings.clone(),
            Router::Topic(bindings) => bindings.all(),
            Router::Headers(bindings) => bindings.all(),
        }
    }

    /// Whether anything is bound.
    #[must_use]
    pub fn in_use(&self) -> bool {
        match &*self.router.read() {
            Router::Direct(bindings) => !bindings.is_empty(),
            Router::Fanout(bindings) => !bindings.is_empty(),
            Router::Topic(bindings) => !bindings.is_empty(),
            Router::Headers(bindings) => !bindings.is_empty(),
        }
    }

    /// Calls `found` for every binding that the message matches.
    fn each_match(
        &self,
        message: &MessageRef<'_>,
        dotted: &[u8],
        found: &mut dyn FnMut(&Arc<Binding>),
    ) {
        match &*self.router.read() {
            Router::Direct(bindings) => bindings.each_match(dotted, found),
            Router::Fanout(bindings) => bindings.iter().for_each(found),
            Router::Topic(bindings) => {
                bindings.each_match(message.head.form, message.key, dotted, found);
            }
            Router::Headers(bindings) => bindings.each_match(message, found),
        }
    }

    /// Resolves a message to its queues, through exchange-to-exchange bindings; each queue once.
    pub(crate) fn resolve(self: &Arc<Self>, message: &MessageRef<'_>, dotted: &[u8]) -> Route {
        let mut queues: Vec<Arc<Queue>> = Vec::new();
        let mut exchanges = vec![Arc::clone(self)];
        let mut seen = HashSet::from([self.id]);
        let mut visited = 0;
        let mut cacheable = true;
        while let Some(exchange) = exchanges.get(visited).cloned() {
            visited += 1;
            cacheable &= exchange.properties.kind != ExchangeKind::Headers;
            exchange.each_match(message, dotted, &mut |binding| match &binding.destination {
                Destination::Queue(queue) => queues.extend(queue.upgrade()),
                Destination::Exchange(next) => {
                    let Some(next) = next.upgrade() else { return };
                    let room = exchanges.len() < crate::limits::EXCHANGE_HOPS_MAX;
                    if room && seen.insert(next.id) {
                        exchanges.push(next);
                    }
                }
            });
        }
        if queues.len() > 1 {
            queues.sort_unstable_by_key(|queue| queue.id());
            queues.dedup_by_key(|queue| queue.id());
        }
        Route {
            queues: queues.into(),
            cacheable,
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
