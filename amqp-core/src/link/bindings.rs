//! Bindings of queues and exchanges, with their permissions.

use std::sync::Arc;

use super::{Link, RetainedReplay};
use crate::exchange::kind;
use crate::exchange::{Attached, Bound, Destination, End, Exchange, ExchangeKind, Terms};
use crate::exchange::{Noted, Search, borrowed};
use crate::field::{Table, Value};
use crate::key::{self, Form};
use crate::limits;
use crate::message::Message;
use crate::permission::Permission;
use crate::queue::{Publication, Queue, QueueKind};
use crate::refusal::{Refusal, Resource};
use crate::turn::Turn;

/// Which binding of a queue is meant.
#[derive(Clone, Debug)]
pub struct BindQueue<'a> {
    /// The queue's name.
    pub queue: &'a str,
    /// The exchange's name.
    pub exchange: &'a str,
    /// The binding key.
    pub key: &'a [u8],
    /// How the key is written.
    pub form: Form,
    /// The arguments.
    pub arguments: Table,
}

/// The argument that asks for what is retained.
const RETAINED: &str = "x-mqtt-retained";

/// What a bind found.
#[derive(Clone, Debug)]
pub struct BindingMade {
    /// The queue.
    pub queue: Arc<Queue>,
    /// There was no such binding before.
    pub created: bool,
    /// What the queue is to get of what was published before: see [`Link::replay`].
    pub(crate) history: Vec<Noted>,
    /// The retained messages that the queue is to get: see [`Link::replay_retained`].
    pub retained: Option<RetainedReplay>,
}

impl BindingMade {
    /// Messages come with it: it is a publication as well.
    #[must_use]
    pub fn has_history(&self) -> bool {
        !self.history.is_empty() || self.retained.is_some()
    }
}

/// What a bind of exchanges found.
#[derive(Debug)]
pub struct ExchangesBound {
    to: Arc<Exchange>,
    history: Vec<Noted>,
}

impl ExchangesBound {
    /// Messages come with it: it is a publication as well.
    #[must_use]
    pub fn has_history(&self) -> bool {
        !self.history.is_empty()
    }
}

impl Link {
    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// 403, 404, 405, and 406 for a key with more wildcards or words than can be matched.
    pub fn queue_bind(&self, wish: &BindQueue<'_>) -> Result<BindingMade, Refusal> {
        self.check_ends(Resource::Queue, wish.queue, wish.exchange)?;
        let source = self.vhost.find_exchange(wish.exchange)?;
        self.check_key_topic(&source, wish.key, wish.form)?;
        let queue = self.usable_queue(wish.queue)?;
        check_terms(&source, wish.key, wish.form, &wish.arguments)?;
        check_destination(&source, wish.key, Some(&queue))?;
        crate::records::check_arguments(&wish.arguments)?;
        let wants_retained = wants_retained(&source, &wish.arguments)?;
        let arguments = encoded(&wish.arguments)?;
        let terms = Terms {
            key: wish.key,
            form: wish.form,
            arguments: &arguments,
        };
        let mut history = Vec::new();
        let _recording = queue.journaled().then(|| self.vhost.recording.lock());
        let (topology, end) = (self.vhost.topology(), End::Queue(&queue));
        let created = match source.attach(topology, end, &terms, &mut history) {
            Attached::Made(bound) => {
                self.record(&bound);
                true
            }
            Attached::Known | Attached::Gone => false,
            Attached::Full => return Err(too_many("queue", wish.queue)),
            Attached::SourceFull => return Err(too_many_hashed(wish.exchange)),
        };
        self.recorded(queue.record());
        let retained = if created && wants_retained {
            self.retained_for(&queue, &source, wish)
        } else {
            None
        };
        Ok(BindingMade {
            queue,
            created,
            history,
            retained,
        })
    }

    /// Gives a queue that was bound what its exchange has kept for it.
    pub fn replay(&self, turn: &mut Turn, made: &BindingMade) {
        for noted in &made.history {
            deliver(turn, std::slice::from_ref(&made.queue), &noted.message);
        }
    }

    /// Publishes to an exchange that was bound what its source has kept for it.
    pub fn replay_through(&self, turn: &mut Turn, made: &ExchangesBound) {
        for noted in &made.history {
            let view = noted.message.view();
            let mut dotted = Vec::new();
            view.append_routing_key(&mut dotted);
            let search = Search {
                more: &borrowed(&noted.more),
                ..Search::by(&dotted)
            };
            match self.vhost.resolve(&made.to, &view, &search) {
                Ok(route) => {
                    deliver(turn, &route.found.queues, &noted.message);
                    for stop in &route.found.stops {
                        self.vhost.hold_back(stop, &view);
                    }
                }
                Err(why) => tracing::warn!(%why, exchange = made.to.name(), "not replayed"),
            }
        }
    }

    /// Removes a queue's binding. One that is not there is no error, nor is an end that is not.
    /// Says how many bindings the queue has left.
    ///
    /// # Errors
    /// 403, 405.
    pub fn queue_unbind(&self, wish: &BindQueue<'_>) -> Result<usize, Refusal> {
        self.check_ends(Resource::Queue, wish.queue, wish.exchange)?;
        let source = self.vhost.exchange(wish.exchange);
        if let Some(source) = &source {
            self.check_key_topic(source, wish.key, wish.form)?;
        }
        if self.vhost.queue(wish.queue).is_none() {
            return Ok(0);
        }
        let queue = self.usable_queue(wish.queue)?;
        if let Some(source) = source {
            self.unbind(&queue, &source, wish);
        }
        Ok(queue.binding_count())
    }

    /// Removes a binding that the connection itself made, whatever its user may do by now.
    pub fn queue_unbind_own(&self, wish: &BindQueue<'_>) {
        if let (Some(queue), Some(source)) = (
            self.vhost.queue(wish.queue),
            self.vhost.exchange(wish.exchange),
        ) {
            self.unbind(&queue, &source, wish);
        }
    }

    fn unbind(&self, queue: &Arc<Queue>, source: &Arc<Exchange>, wish: &BindQueue<'_>) {
        // What cannot be encoded was never bound.
        let Ok(arguments) = encoded(&wish.arguments) else {
            return;
        };
        let terms = Terms {
            key: wish.key,
            form: wish.form,
            arguments: &arguments,
        };
        if let Some(bound) = queue.find_binding(source, &terms) {
            self.remove(&bound, source);
        }
        // Somebody else may have unbound it a moment ago.
        self.recorded(queue.record());
    }

    /// Whether the user may connect two ends.
    fn check_ends(&self, what: Resource, destination: &str, source: &str) -> Result<(), Refusal> {
        self.check(Permission::Write, what, destination)?;
        let is_default = what == Resource::Exchange && destination.is_empty();
        if is_default || source.is_empty() {
            return Err(Refusal::default_exchange());
        }
        self.check(Permission::Read, Resource::Exchange, source)
    }

    /// Binds an exchange to another.
    ///
    /// # Errors
    /// As [`Self::queue_bind`].
    pub fn exchange_bind(
        &self,
        destination: &str,
        source: &str,
        key: &[u8],
        arguments: Table,
    ) -> Result<ExchangesBound, Refusal> {
        self.check_ends(Resource::Exchange, destination, source)?;
        let from = self.vhost.find_exchange(source)?;
        self.check_key_topic(&from, key, Form::Dotted)?;
        let to = self.vhost.find_exchange(destination)?;
        check_terms(&from, key, Form::Dotted, &arguments)?;
        check_destination(&from, key, None)?;
        crate::records::check_arguments(&arguments)?;
        if wants_retained(&from, &arguments)? {
            return Err(Refusal::precondition(format!(
                "argument '{RETAINED}' is for bindings of queues, not of exchanges"
            )));
        }
        let arguments = encoded(&arguments)?;
        let terms = Terms {
            key,
            form: Form::Dotted,
            arguments: &arguments,
        };
        let mut history = Vec::new();
        let recording = to.properties().durable.then(|| self.vhost.recording.lock());
        let (topology, end) = (self.vhost.topology(), End::Exchange(&to));
        match from.attach(topology, end, &terms, &mut history) {
            Attached::Made(bound) => self.record(&bound),
            Attached::Known | Attached::Gone => {}
            Attached::Full => return Err(too_many("exchange", destination)),
            Attached::SourceFull => return Err(too_many_hashed(source)),
        }
        drop(recording);
        Ok(ExchangesBound { to, history })
    }

    /// Removes a binding between exchanges. One that is not there is no error, nor is an end that
    /// is not.
    ///
    /// # Errors
    /// 403.
    pub fn exchange_unbind(
        &self,
        destination: &str,
        source: &str,
        key: &[u8],
        arguments: &Table,
    ) -> Result<(), Refusal> {
        self.check_ends(Resource::Exchange, destination, source)?;
        let Some(from) = self.vhost.exchange(source) else {
            return Ok(());
        };
        self.check_key_topic(&from, key, Form::Dotted)?;
        let Some(to) = self.vhost.exchange(destination) else {
            return Ok(());
        };
        // What cannot be encoded was never bound.
        let Ok(arguments) = encoded(arguments) else {
            return Ok(());
        };
        let terms = Terms {
            key,
            form: Form::Dotted,
            arguments: &arguments,
        };
        if let Some(bound) = to.find_incoming(&from, &terms) {
            self.remove(&bound, &from);
        }
        Ok(())
    }

    fn check_key_topic(&self, source: &Exchange, key: &[u8], form: Form) -> Result<(), Refusal> {
        if source.properties().kind != ExchangeKind::Topic {
            return Ok(());
        }
        self.check_topic(
            Permission::Read,
            source.name(),
            &key::dotted_text(key, form),
        )
    }

    fn record(&self, bound: &Bound) {
        if let Some(number) = self.broker.record_binding(&self.vhost, bound) {
            self.changed(bound, number);
        }
    }

    /// Whoever hears next of the queue or its bindings waits for this record as well.
    fn changed(&self, bound: &Bound, number: u64) {
        self.recorded(number);
        if let Destination::Queue(queue) = bound.destination()
            && let Some(queue) = queue.upgrade()
        {
            queue.set_record(number);
        }
    }

    fn remove(&self, bound: &Bound, source: &Arc<Exchange>) {
        let recording = self.vhost.recording.lock();
        // Somebody else may have unbound it meanwhile, and bound an equal one that stays.
        let Some(left) = source.detach(self.vhost.topology(), bound) else {
            return;
        };
        if let Some(number) = self.broker.forget_binding(&self.vhost, bound) {
            self.changed(bound, number);
        }
        drop(recording);
        if !left && source.properties().auto_delete {
            self.delete_exchange(source);
        }
    }
}

/// Arguments as a binding keeps them.
// RabbitMQ sorts them by name: the order in which they are written tells no bindings apart.
fn encoded(arguments: &Table) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    arguments
        .sorted()
        .encode(&mut out)
        .map_err(|why| Refusal::precondition(format!("arguments cannot be kept: {why}")))?;
    Ok(out)
}

fn too_many(what: &str, name: &str) -> Refusal {
    Refusal::precondition(format!(
        "{what} '{name}' has {} bindings already",
        limits::BINDINGS_PER_DESTINATION_MAX
    ))
}

fn too_many_hashed(name: &str) -> Refusal {
    Refusal::precondition(format!(
        "exchange '{name}' has {} bindings already",
        limits::HASHED_BINDINGS_MAX
    ))
}

/// Offers a message that was kept to queues.
pub(super) fn deliver(turn: &mut Turn, queues: &[Arc<Queue>], message: &Message) {
    let view = message.view();
    if view.expired(turn.now) {
        return;
    }
    // Queues share what is kept: a replay costs them a place for each message.
    let mut publication = Publication {
        held: Some(message.clone()),
        ..Publication::new(&view)
    };
    turn.count_offered(queues.len());
    for queue in queues {
        queue.offer(turn, &mut publication);
    }
    turn.post();
}

/// Refuses a key or arguments that the source cannot match, or that would make matching expensive.
fn check_terms(
    source: &Exchange,
    key: &[u8],
    form: Form,
    arguments: &Table,
) -> Result<(), Refusal> {
    match source.matching() {
        ExchangeKind::Headers => return kind::check_match(arguments),
        ExchangeKind::ConsistentHash => return kind::weight(key).map(|_| ()),
        ExchangeKind::Topic => {}
        _ => return Ok(()),
    }
    let multi = form.words(key).filter(|word| *word == b"#").count();
    kind::check_wildcards(key, multi)?;
    // Both separators count: a slashed key stands under its dotted form as well.
    let separators = key
        .iter()
        .filter(|byte| matches!(byte, b'.' | b'/'))
        .count();
    if separators >= limits::BINDING_WORDS_MAX {
        return Err(Refusal::precondition(format!(
            "Topic binding key has more than {} words",
            limits::BINDING_WORDS_MAX
        )));
    }
    Ok(())
}

/// Whether a binding asks for what is retained.
fn wants_retained(source: &Exchange, arguments: &Table) -> Result<bool, Refusal> {
    let why = match arguments.lookup(RETAINED) {
        None | Some(Value::Bool(false)) => return Ok(false),
        Some(Value::Bool(true)) if source.properties().kind == ExchangeKind::Topic => {
            return Ok(true);
        }
        Some(Value::Bool(true)) => "needs a topic exchange".to_owned(),
        Some(other) => format!("must be a boolean, not {}", other.type_name()),
    };
    Err(Refusal::precondition(format!(
        "argument '{RETAINED}' {why}, in a binding of exchange '{}'",
        source.name()
    )))
}

/// A local random exchange chooses among classic queues, whatever the key: it has none.
fn check_destination(source: &Exchange, key: &[u8], queue: Option<&Queue>) -> Result<(), Refusal> {
    if source.matching() != ExchangeKind::LocalRandom {
        return Ok(());
    }
    let why = match queue.map(Queue::kind) {
        _ if !key.is_empty() => format!(
            "Non empty binding '{}' key not permitted",
            String::from_utf8_lossy(key)
        ),
        None => "Destination not found".to_owned(),
        Some(QueueKind::Classic) => return Ok(()),
        Some(other) => format!(
            "Queue type {} not valid for this exchange type",
            other.module()
        ),
    };
    Err(Refusal::precondition(why))
}
