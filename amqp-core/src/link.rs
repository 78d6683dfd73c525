//! A logged-in connection's place in one vhost, and the one point of enforcement: every operation
//! of either protocol passes through a `Link`, which asks for permission and only then touches the
//! vhost.
//!
//! Changes to durable things are recorded before they are answered: [`Link::uncommitted`] says what
//! the answer must wait for.

mod basic;
mod bindings;
mod exchanges;
mod places;
mod queues;
mod replies;
mod retained;
mod routed;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use crate::broker::Broker;
use crate::permission::{Grants, Pattern, Permission, Variables};
use crate::queue::Queue;
use crate::refusal::{Refusal, Resource};
use crate::reply_code::ReplyCode;
use crate::turn::Turn;
use crate::vhost::VHost;
use crate::watermark::Watermark;

pub use basic::{Got, Published};
pub use bindings::{BindQueue, BindingMade, ExchangesBound};
pub use exchanges::DeclareExchange;
pub use queues::{DeclareQueue, Declared};
pub use retained::{Reader, RetainedReplay};
pub use routed::Routed;

/// One connection's way into one vhost.
pub struct Link {
    broker: Arc<Broker>,
    vhost: Arc<VHost>,
    connection: u64,
    user: Box<str>,
    client_id: Option<Arc<str>>,
    /// The owner of the node: no permission is asked.
    owner: bool,
    known: Mutex<Known>,
    /// The number of the last record that an answer must wait for.
    submitted: AtomicU64,
    places: places::Places,
}

/// What a link remembers.
struct Known {
    /// The grants as they were at that epoch.
    epoch: u64,
    grants: Option<Arc<Grants>>,
    /// Topic patterns with this link's variables, compiled; none of them outlives the epoch.
    patterns: Option<Box<Patterns>>,
    /// Exclusive queues of this connection: they go with it.
    exclusive: Option<Box<Exclusive>>,
}

impl Known {
    const NOTHING: Self = Self {
        epoch: u64::MAX,
        grants: None,
        patterns: None,
        exclusive: None,
    };
}

/// Behind one pointer: most links compile none.
#[derive(Default)]
struct Patterns(Vec<CompiledTopic>);

/// A topic pattern of one exchange, ready to match.
struct CompiledTopic {
    permission: Permission,
    exchange: Box<str>,
    pattern: Option<Arc<Pattern>>,
}

/// Exchanges whose compiled patterns one link keeps.
const PATTERNS_KEPT_MAX: usize = 16;

/// The exclusive queues of a connection. Those deleted meanwhile are swept out as it grows.
#[derive(Default)]
struct Exclusive {
    queues: Vec<Weak<Queue>>,
    sweep_at: usize,
}

impl Exclusive {
    fn add(&mut self, queue: &Arc<Queue>) {
        if self.queues.len() >= self.sweep_at {
            self.queues.retain(|held| held.strong_count() > 0);
            self.sweep_at = (self.queues.len() * 2).max(16);
        }
        self.queues.push(Arc::downgrade(queue));
    }
}

impl Link {
    pub(crate) fn new(
        broker: Arc<Broker>,
        vhost: Arc<VHost>,
        connection: u64,
        user: &str,
        client_id: Option<&Arc<str>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            broker,
            vhost,
            connection,
            user: user.into(),
            client_id: client_id.cloned(),
            owner: false,
            known: Mutex::new(Known::NOTHING),
            submitted: AtomicU64::new(0),
            places: places::Places::default(),
        })
    }

    pub(crate) fn for_owner(broker: Arc<Broker>, vhost: Arc<VHost>) -> Arc<Self> {
        Arc::new(Self {
            broker,
            vhost,
            connection: 0,
            user: "".into(),
            client_id: None,
            owner: true,
            known: Mutex::new(Known::NOTHING),
            submitted: AtomicU64::new(0),
            places: places::Places::default(),
        })
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The vhost.
    #[must_use]
    pub fn vhost(&self) -> &Arc<VHost> {
        &self.vhost
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The connection's number.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The mark that acknowledgements of persistent messages wait for.
    #[must_use]
    pub fn journal_mark(&self) -> &Arc<Watermark> {
        self.vhost.mark()
    }

    /// The record that the next answer must wait for, if it is not durable yet.
    #[must_use]
    pub fn uncommitted(&self) -> Option<u64> {
        let submitted = self.submitted.load(Ordering::Acquire);
        (submitted > self.broker.definitions().watermark().durable()).then_some(submitted)
    }

    fn recorded(&self, number: u64) {
        self.submitted.fetch_max(number, Ordering::AcqRel);
    }

    /// What is remembered, with the grants of today.
    fn known(&self) -> MutexGuard<'_, Known> {
        let epoch = self.broker.users.epoch();
        let mut known = self.known.lock();
        if known.epoch != epoch {
            known.epoch = epoch;
            known.grants = self.broker.users.grants(&self.user, self.vhost.name());
            known.patterns = None;
        }
        known
    }

    /// The queue goes with this connection.
    fn own_exclusively(&self, queue: &Arc<Queue>) {
        let mut known = self.known.lock();
        known.exclusive.get_or_insert_default().add(queue);
    }

    /// Asks whether the user may do this to that.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text.
    pub fn check(&self, permission: Permission, what: Resource, name: &str) -> Result<(), Refusal> {
        let checked = if name.is_empty() { "amq.default" } else { name };
        let granted = self.owner
            || self
                .known()
                .grants
                .as_ref()
                .is_some_and(|held| held.pattern(permission).matches(checked));
        if granted && !self.vhost.is_deleted() {
            return Ok(());
        }
        Err(Refusal::no_access(
            permission.word(),
            what,
            name,
            self.vhost.name(),
            &self.user,
        ))
    }

    /// Asks whether the user may publish (write) or bind (read) under a dotted key of a topic
    /// exchange.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text.
    pub fn check_topic(
        &self,
        permission: Permission,
        exchange: &str,
        key: &str,
    ) -> Result<(), Refusal> {
        if self.owner {
            return Ok(());
        }
        let pattern = self.topic_pattern(permission, exchange);
        let allowed = pattern.is_some_and(|held| held.matches(key));
        if allowed {
            return Ok(());
        }
        let vhost = self.vhost.name();
        Err(Refusal::no_topic(
            permission.word(),
            key,
            exchange,
            vhost,
            &self.user,
        ))
    }

    /// What the user may do under the keys of an exchange; `None`: nothing.
    fn topic_pattern(&self, permission: Permission, exchange: &str) -> Option<Arc<Pattern>> {
        let mut known = self.known();
        let Known {
            grants, patterns, ..
        } = &mut *known;
        let patterns = &mut patterns.get_or_insert_default().0;
        if patterns.len() > PATTERNS_KEPT_MAX {
            patterns.clear();
        }
        let same =
            |held: &CompiledTopic| held.permission == permission && *held.exchange == *exchange;
        let place = match patterns.iter().position(same) {
            Some(place) => place,
            None => {
                patterns.push(self.compile_topic(grants.as_deref(), permission, exchange));
                patterns.len() - 1
            }
        };
        patterns[place].pattern.clone()
    }

    fn compile_topic(
        &self,
        grants: Option<&Grants>,
        permission: Permission,
        exchange: &str,
    ) -> CompiledTopic {
        let topics = grants.and_then(|held| held.topics.get(exchange));
        let text = match (topics, permission) {
            // Without any grant there is nothing to be had; an exchange without patterns is open.
            (None, _) => grants.map(|_| ".*"),
            (Some(topics), Permission::Read) => Some(&*topics.read),
            (Some(topics), Permission::Write | Permission::Configure) => Some(&*topics.write),
        };
        let variables = Variables {
            username: &self.user,
            vhost: self.vhost.name(),
            client_id: self.client_id.as_deref().unwrap_or_default(),
        };
        let pattern = text.and_then(|text| Pattern::new(&variables.expand(text)).ok());
        let pattern = pattern.map(Arc::new);
        CompiledTopic {
            permission,
            exchange: exchange.into(),
            pattern,
        }
    }

    /// The queue with this name, unless it belongs to another connection alone.
    ///
    /// # Errors
    /// 404, 405.
    pub fn usable_queue(&self, name: &str) -> Result<Arc<Queue>, Refusal> {
        let queue = self.vhost.find_queue(name)?;
        let locked = queue
            .exclusive_owner()
            .is_some_and(|owner| owner != self.connection);
        if locked && !self.owner {
            return Err(Refusal::locked(name, self.vhost.name()));
        }
        Ok(queue)
    }

    /// Ends the connection's part in the vhost: its exclusive queues go. Consumers were cancelled
    /// before.
    pub fn close(&self, _turn: &mut Turn) {
        self.leave_places();
        let exclusive = self.known.lock().exclusive.take();
        let queues = exclusive.iter().flat_map(|held| &held.queues);
        for queue in queues.filter_map(Weak::upgrade) {
            self.broker.delete_queue_when(&self.vhost, &queue, |_| true);
        }
    }

    fn vhost_gone(&self) -> Refusal {
        Refusal::new(
            ReplyCode::ConnectionForced,
            format!("vhost '{}' is deleted", self.vhost.name()),
        )
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("connection", &self.connection)
            .field("user", &self.user)
            .field("vhost", &self.vhost.name())
            .finish_non_exhaustive()
    }
}
