//! A logged-in connection's place in one vhost, and the one point of enforcement: every operation
//! of either protocol passes through a `Link`, which asks for permission and only then touches the
//! vhost.
//!
//! Changes to durable things are recorded before they are answered: [`Link::uncommitted`] says what
//! the answer must wait for.

mod basic;
mod bindings;
mod exchanges;
mod queues;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::permission::{Grants, Pattern, Permission, Variables};
use crate::queue::Queue;
use crate::refusal::{Refusal, Resource};
use crate::reply_code::ReplyCode;
use crate::turn::Turn;
use crate::vhost::VHost;

pub use basic::{Got, Published};
pub use bindings::{BindQueue, BindingMade};
pub use exchanges::DeclareExchange;
pub use queues::{DeclareQueue, Declared};

/// One connection's way into one vhost.
pub struct Link {
    broker: Arc<Broker>,
    vhost: Arc<VHost>,
    connection: u64,
    user: Box<str>,
    client_id: Option<Box<str>>,
    /// The owner of the node: no permission is asked.
    owner: bool,
    /// The grants as they were at that epoch.
    grants: Mutex<(u64, Option<Arc<Grants>>)>,
    /// The number of the last record that an answer must wait for.
    submitted: AtomicU64,
    /// Exclusive queues of this connection: they go with it.
    exclusive: Mutex<Exclusive>,
    /// Topic patterns with this link's variables, compiled; emptied when grants change.
    patterns: Mutex<(u64, Vec<CompiledTopic>)>,
}

/// A topic pattern of one exchange, ready to match.
struct CompiledTopic {
    permission: Permission,
    exchange: Box<str>,
    pattern: Option<Pattern>,
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
        client_id: Option<&str>,
    ) -> Arc<Self> {
        Arc::new(Self {
            broker,
            vhost,
            connection,
            user: user.into(),
            client_id: client_id.map(Into::into),
            owner: false,
            grants: Mutex::new((u64::MAX, None)),
            submitted: AtomicU64::new(0),
            exclusive: Mutex::default(),
            patterns: Mutex::new((u64::MAX, Vec::new())),
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
            grants: Mutex::new((u64::MAX, None)),
            submitted: AtomicU64::new(0),
            exclusive: Mutex::default(),
            patterns: Mutex::new((u64::MAX, Vec::new())),
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

    /// The record that the next answer must wait for, if it is not durable yet.
    #[must_use]
    pub fn uncommitted(&self) -> Option<u64> {
        let submitted = self.submitted.load(Ordering::Acquire);
        (submitted > self.broker.definitions().watermark().durable()).then_some(submitted)
    }

    fn recorded(&self, number: u64) {
        self.submitted.fetch_max(number, Ordering::AcqRel);
    }

    fn grants(&self) -> Option<Arc<Grants>> {
        let epoch = self.broker.users.epoch();
        let mut known = self.grants.lock();
        if known.0 != epoch {
            *known = (
                epoch,
                self.broker.users.grants(&self.user, self.vhost.name()),
            );
        }
        known.1.clone()
    }

    /// Asks whether the user may do this to that.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text.
    pub fn check(&self, permission: Permission, what: Resource, name: &str) -> Result<(), Refusal> {
        let checked = if name.is_empty() { "amq.default" } else { name };
        let granted = self.owner
            || self
                .grants()
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
        let epoch = self.broker.users.epoch();
        let mut known = self.patterns.lock();
        if known.0 != epoch || known.1.len() > PATTERNS_KEPT_MAX {
            *known = (epoch, Vec::new());
        }
        let same =
            |held: &CompiledTopic| held.permission == permission && *held.exchange == *exchange;
        let place = match known.1.iter().position(same) {
            Some(place) => place,
            None => {
                known.1.push(self.compile_topic(permission, exchange));
                known.1.len() - 1
            }
        };
        let allowed = known.1[place]
            .pattern
            .as_ref()
            .is_some_and(|held| held.matches(key));
        drop(known);
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

    fn compile_topic(&self, permission: Permission, exchange: &str) -> CompiledTopic {
        let grants = self.grants();
        let topics = grants.as_ref().and_then(|held| held.topics.get(exchange));
        let text = match (topics, permission) {
            // Without any grant there is nothing to be had; an exchange without patterns is open.
            (None, _) => grants.as_ref().map(|_| ".*"),
            (Some(topics), Permission::Read) => Some(&*topics.read),
            (Some(topics), Permission::Write | Permission::Configure) => Some(&*topics.write),
        };
        let variables = Variables {
            username: &self.user,
            vhost: self.vhost.name(),
            client_id: self.client_id.as_deref().unwrap_or_default(),
        };
        let pattern = text.and_then(|text| Pattern::new(&variables.expand(text)).ok());
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
        let exclusive = std::mem::take(&mut *self.exclusive.lock());
        for queue in exclusive.queues.iter().filter_map(Weak::upgrade) {
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
