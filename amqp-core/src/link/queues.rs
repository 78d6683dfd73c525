//! Queue operations, with their permissions and RabbitMQ's refusals.

use std::sync::Arc;

use super::Link;
use crate::broker::Broker;
use crate::field::{Table, Value};
use crate::limits;
use crate::permission::Permission;
use crate::policy::Subject;
use crate::queue::{IdPlace, Queue, QueueArguments, QueueKind, QueueProperties, SessionTerms};
use crate::refusal::{Refusal, Resource};
use crate::turn::Turn;

/// The wish for a queue.
#[derive(Clone, Debug, Default)]
pub struct DeclareQueue<'a> {
    /// Its name; empty asks for a name of the broker's making.
    pub name: &'a str,
    /// Only ask whether it is there.
    pub passive: bool,
    /// For this connection only, and gone with it.
    pub exclusive: bool,
    /// Everything else. `exclusive` in it is not read.
    pub properties: QueueProperties,
    /// It is a part of a session of this user, and where in its name the client identifier stands.
    pub session: Option<IdPlace>,
}

/// What was declared.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The queue.
    pub queue: Arc<Queue>,
    /// It did not exist before.
    pub created: bool,
}

impl Link {
    /// Declares a queue, or checks that the one there is the same.
    ///
    /// # Errors
    /// 403, 404 (passive), 405 for another connection's, 406 for another declaration or a bad
    /// argument.
    pub fn queue_declare(
        &self,
        turn: &mut Turn,
        wish: &DeclareQueue<'_>,
    ) -> Result<Declared, Refusal> {
        if self.vhost.is_deleted() {
            return Err(self.vhost_gone());
        }
        if wish.passive {
            self.check_any(Resource::Queue, wish.name)?;
            let queue = self.usable_queue(wish.name)?;
            queue.touch(turn.now);
            Broker::note_idle(&self.vhost, &queue);
            self.recorded(queue.record());
            return Ok(Declared {
                queue,
                created: false,
            });
        }
        // Also of one that is there: a name of the server's making can only be asked for.
        if wish.name.starts_with("amq.") {
            return Err(Refusal::reserved_name(Resource::Queue, wish.name));
        }
        let made;
        let name = if wish.name.is_empty() {
            made = format!("amq.gen-{}", self.broker.unique_name());
            &made
        } else {
            wish.name
        };
        self.check(Permission::Configure, Resource::Queue, name)?;
        let kind = self.default_kind(wish);
        let with_kind;
        let wish = match kind {
            None => wish,
            Some(kind) => {
                with_kind = with_kind_of(wish, kind);
                &with_kind
            }
        };
        if let Some(held) = self.vhost.queue(name) {
            return self.declared_before(turn, held, wish);
        }
        crate::records::check_arguments(&wish.properties.arguments)?;
        let parsed = QueueArguments::parse(&wish.properties.arguments, name, self.vhost.name())?;
        self.check_dead_letters(name, &parsed)?;
        self.check_kind(name, wish, &parsed)?;
        self.tell_unserved(turn, wish, name);
        let full = self.vhost.queues_full();
        if name.len() > limits::OWN_NAME_BYTES_MAX || full.is_some() {
            let max = full.unwrap_or(limits::QUEUES_MAX as u64);
            let vhost = self.vhost.name();
            return Err(Refusal::precondition(format!(
                "cannot declare queue '{name}' in vhost '{vhost}': queue limit in vhost \
                 '{vhost}' ({max}) is reached"
            )));
        }
        self.make_queue(turn, wish, name, parsed)
    }

    /// Warns of an argument that is taken and changes nothing.
    fn tell_unserved(&self, turn: &Turn, wish: &DeclareQueue<'_>, queue: &str) {
        let argument = QueueArguments::unserved(&wish.properties.arguments);
        if let Some(argument) = argument.filter(|_| self.broker.unserved_told.is_due(turn.now)) {
            let vhost = self.vhost.name();
            tracing::warn!(queue, vhost, "{argument} is accepted and has no effect");
        }
    }

    /// Makes a queue that was not there a moment ago.
    fn make_queue(
        &self,
        turn: &mut Turn,
        wish: &DeclareQueue<'_>,
        name: &str,
        parsed: QueueArguments,
    ) -> Result<Declared, Refusal> {
        let kind = parsed.kind;
        let exclusive = wish.exclusive.then_some(self.connection);
        let properties = QueueProperties {
            // Exclusive queues go with their connection: never durable, whatever was asked.
            durable: wish.properties.durable && !wish.exclusive,
            exclusive,
            ..wish.properties.clone()
        };
        let version = self.vhost.policies.version();
        let subject = Subject {
            name,
            kind,
            direct: properties.direct,
        };
        let applied = self.vhost.policies.of_queue(&subject);
        let (table, direct) = (&properties.arguments, properties.direct);
        let session = wish.session.map(|place| self.session_terms(place));
        let alike = &self.vhost.alike;
        let given = alike.share(table, parsed, applied, direct, session.as_ref());
        let queue = Queue::new(
            self.broker.next_queue(),
            name,
            &properties,
            given,
            Some(self.vhost.door()),
            turn.now,
        );
        let recording = self.vhost.recording.lock();
        if self.vhost.is_deleted() {
            return Err(self.vhost_gone());
        }
        // Queues are added with the lock held: nobody comes in between.
        if let Some(held) = self.vhost.queue(name) {
            drop(recording);
            return self.declared_before(turn, held, wish);
        }
        if queue.journaled() {
            // Before anybody finds it: what is published to it waits for this record.
            self.recorded(self.broker.record_queue(&self.vhost, &queue));
        }
        match self.vhost.add_queue(queue) {
            Err(held) => {
                drop(recording);
                self.declared_before(turn, held, wish)
            }
            Ok(queue) => {
                drop(recording);
                if wish.exclusive {
                    self.own_exclusively(&queue);
                }
                if self.vhost.policies.version() != version {
                    // Whoever changed them may not have found it yet.
                    self.broker.apply_to_queue(turn, &self.vhost, &queue);
                }
                self.broker.arm_expiry(&self.vhost, &queue);
                Ok(Declared {
                    queue,
                    created: true,
                })
            }
        }
    }

    /// The kind of queue that the vhost has for AMQP clients who do not say which, if there can be
    /// such a queue.
    fn default_kind(&self, wish: &DeclareQueue<'_>) -> Option<QueueKind> {
        let arguments = &wish.properties.arguments;
        if self.client_id.is_some() || arguments.lookup("x-queue-type").is_some() {
            return None;
        }
        let kind = self.vhost.facts.read().metadata.default_queue_type?;
        let properties = &wish.properties;
        let classic_only = wish.exclusive || properties.auto_delete || !properties.durable;
        Some(if classic_only {
            QueueKind::Classic
        } else {
            kind
        })
    }

    /// A queue's dead letters go where the user may publish, and come from where it may read.
    fn check_dead_letters(&self, name: &str, asked: &QueueArguments) -> Result<(), Refusal> {
        let Some(exchange) = &asked.dead_letter_exchange else {
            return Ok(());
        };
        self.check(Permission::Read, Resource::Queue, name)?;
        self.check(Permission::Write, Resource::Exchange, exchange)
    }

    /// Whether there can be such a queue: what is replicated in RabbitMQ is durable and nobody's
    /// own.
    fn check_kind(
        &self,
        name: &str,
        wish: &DeclareQueue<'_>,
        asked: &QueueArguments,
    ) -> Result<(), Refusal> {
        let kind = asked.kind;
        if kind == QueueKind::Classic {
            return Ok(());
        }
        if wish.name.is_empty() {
            return Err(Refusal::precondition(format!(
                "Cannot declare a server-named queue for type {}",
                kind.module()
            )));
        }
        let wrong = [
            (wish.properties.auto_delete, "auto-delete"),
            (wish.exclusive, "exclusive-owner"),
            (!wish.properties.durable, "non-durable"),
        ];
        let segment_bytes = asked.segment_bytes.unwrap_or_default();
        match wrong.into_iter().find(|(is_so, _)| *is_so) {
            None if segment_bytes > limits::STREAM_SEGMENT_BYTES_MAX => Err(Refusal::precondition(
                "Exceeded max value for x-stream-max-segment-size-bytes",
            )),
            None => Ok(()),
            Some((_, property)) => Err(Refusal::precondition(format!(
                "invalid property '{property}' for queue '{name}' in vhost '{}'",
                self.vhost.name()
            ))),
        }
    }

    fn declared_before(
        &self,
        turn: &Turn,
        queue: Arc<Queue>,
        wish: &DeclareQueue<'_>,
    ) -> Result<Declared, Refusal> {
        let (name, vhost) = (queue.name(), self.vhost.name());
        let mine = queue.exclusive_owner() == Some(self.connection);
        if queue.exclusive_owner().is_some() != wish.exclusive || (wish.exclusive && !mine) {
            return Err(Refusal::locked(name, vhost));
        }
        let current = queue.properties();
        let differs = |key, received: String, current: String| {
            Refusal::inequivalent(key, Resource::Queue, name, vhost, &received, &current)
        };
        let quoted = |value: bool| format!("'{value}'");
        let wanted = &wish.properties;
        if wanted.durable != current.durable && !wish.exclusive {
            return Err(differs(
                "durable",
                quoted(wanted.durable),
                quoted(current.durable),
            ));
        }
        if wanted.auto_delete != current.auto_delete {
            let (received, current) = (quoted(wanted.auto_delete), quoted(current.auto_delete));
            return Err(differs("auto_delete", received, current));
        }
        let held_kind = queue.kind();
        let kind = QueueArguments::kind_asked(&wanted.arguments);
        for key in QueueArguments::compared(held_kind) {
            let (wanted, held) = (wanted.arguments.lookup(key), current.arguments.lookup(key));
            // Who does not say which kind means any classic one.
            let same = match key {
                "x-queue-type" => kind == Some(held_kind),
                _ => same(wanted, held),
            };
            if !same {
                return Err(differs(key, describe(wanted, held), describe(held, wanted)));
            }
        }
        queue.touch(turn.now);
        Broker::note_idle(&self.vhost, &queue);
        self.recorded(queue.record());
        Ok(Declared {
            queue,
            created: false,
        })
    }

    /// Deletes a queue; returns how many messages it had. A name that is not there is no error.
    ///
    /// # Errors
    /// 403, 405, 406 if it is to be unused or empty and is not.
    pub fn queue_delete(
        &self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u32, Refusal> {
        self.check(Permission::Configure, Resource::Queue, name)?;
        if self.vhost.queue(name).is_none() {
            return Ok(0);
        }
        let queue = self.usable_queue(name)?;
        self.check_conditions(&queue, if_unused, if_empty)?;
        let mut refused = None;
        // A stream is never empty and asks for nobody's leave, as in RabbitMQ.
        let asks = !queue.is_stream();
        let deleted = self.broker.delete_queue_when(&self.vhost, &queue, |held| {
            if !asks {
                return true;
            }
            if if_empty && held.ready > 0 {
                refused = Some("not empty");
            } else if if_unused && held.consumers > 0 {
                refused = Some("in use");
            }
            refused.is_none()
        });
        if let Some(why) = refused {
            return Err(Refusal::precondition(format!(
                "queue '{name}' in vhost '{}' {why}",
                self.vhost.name()
            )));
        }
        let (messages, number) = deleted.unwrap_or_default();
        self.recorded(number);
        Ok(messages)
    }

    /// RabbitMQ deletes a quorum queue without asking what is in it or who uses it.
    fn check_conditions(
        &self,
        queue: &Queue,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(), Refusal> {
        let flag = match (if_unused, if_empty) {
            (true, _) => "if-unused",
            (false, true) => "if-empty",
            (false, false) => return Ok(()),
        };
        if queue.kind() != QueueKind::Quorum {
            return Ok(());
        }
        Err(Refusal::not_implemented(format!(
            "cannot delete queue '{}' in vhost '{}'. queue.delete operations with {flag} flag \
             set are not supported by quorum queues",
            queue.name(),
            self.vhost.name()
        )))
    }

    /// Deletes exactly this queue, if it is still there: for those who made it themselves.
    pub fn queue_drop(&self, queue: &Arc<Queue>) {
        self.broker.delete_queue_when(&self.vhost, queue, |_| true);
    }

    /// Deletes exactly this queue if no binding leads to it any more.
    pub fn queue_drop_unbound(&self, queue: &Arc<Queue>) {
        self.broker
            .delete_queue_when(&self.vhost, queue, |held| held.bindings == 0);
    }

    /// Drops a queue's ready messages; returns how many there were.
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn queue_purge(&self, name: &str) -> Result<u32, Refusal> {
        self.check(Permission::Read, Resource::Queue, name)?;
        let queue = self.usable_queue(name)?;
        if queue.is_stream() {
            return Err(Refusal::not_implemented(format!(
                "queue.purge not supported by stream queues queue '{name}' in vhost '{}'",
                self.vhost.name()
            )));
        }
        Ok(queue.purge())
    }

    /// Sets or clears a queue's `x-expires`, as the session that owns it demands; it counts from
    /// the last use.
    ///
    /// # Errors
    /// 406 for a value above the limit.
    pub fn queue_set_expires(
        &self,
        queue: &Arc<Queue>,
        expires_ms: Option<u64>,
    ) -> Result<(), Refusal> {
        let mut arguments = queue.arguments();
        let current = arguments.lookup("x-expires").and_then(Value::as_integer);
        let wanted = expires_ms.map(|ms| ms.min(limits::TTL_MS_MAX) as i64);
        if current == wanted {
            return Ok(());
        }
        match wanted {
            Some(ms) => {
                // Our own name is far below the limit of 255 bytes.
                let _ = arguments.insert("x-expires", Value::I64(ms));
            }
            None => {
                arguments.remove("x-expires");
            }
        }
        queue.replace_arguments(&self.vhost, &arguments)?;
        let recording = self.vhost.recording.lock();
        if queue.journaled() && !queue.is_deleted() {
            self.recorded(self.broker.record_queue(&self.vhost, queue));
        }
        drop(recording);
        self.broker.arm_expiry(&self.vhost, queue);
        Ok(())
    }

    /// The queue is a part of a session of this user from now on.
    pub fn queue_set_session(&self, queue: &Arc<Queue>, place: IdPlace) {
        if !queue.set_session(&self.vhost, &self.session_terms(place)) {
            return;
        }
        let _recording = self.vhost.recording.lock();
        if queue.journaled() && !queue.is_deleted() {
            self.recorded(self.broker.record_queue(&self.vhost, queue));
        }
    }

    fn session_terms(&self, place: IdPlace) -> Arc<SessionTerms> {
        Arc::new(SessionTerms {
            user: self.user.clone(),
            place,
        })
    }

    /// From now on the queue's definition is kept on disk: a session that outlives its connection
    /// uses it.
    pub fn queue_set_journaled(&self, queue: &Arc<Queue>) {
        let _recording = self.vhost.recording.lock();
        if queue.durable() && !queue.is_deleted() && queue.set_journaled() {
            self.recorded(self.broker.record_queue(&self.vhost, queue));
            for bound in queue.bound() {
                if let Some(number) = self.broker.record_binding(&self.vhost, &bound) {
                    self.recorded(number);
                }
            }
        }
    }

    /// Makes a table of a queue's arguments with only `x-expires` in it, or an empty one.
    #[must_use]
    pub fn expires_argument(expires_ms: Option<u64>) -> Table {
        let mut arguments = Table::new();
        if let Some(ms) = expires_ms {
            // Our own name is far below the limit of 255 bytes.
            let _ = arguments.insert("x-expires", Value::I64(ms.min(limits::TTL_MS_MAX) as i64));
        }
        arguments
    }
}

/// The same wish for a queue of this kind.
fn with_kind_of<'a>(wish: &DeclareQueue<'a>, kind: QueueKind) -> DeclareQueue<'a> {
    let mut wish = wish.clone();
    // Our own name is far below the limit of 255 bytes.
    let _ = wish
        .properties
        .arguments
        .insert("x-queue-type", Value::from(kind.name()));
    wish
}

/// Integers compare by value, whatever their type.
pub(super) fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => match (one.as_integer(), other.as_integer()) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        (None, None) => true,
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    match (value, value.as_integer(), value.as_str()) {
        (Value::Bool(flag), ..) => format!("'{flag}'"),
        (_, Some(number), _) => format!("'{number}'"),
        (_, None, Some(text)) => format!("'{text}'"),
        _ => format!("'{value:?}'"),
    }
}

/// RabbitMQ names the type only where the other side has no value.
pub(super) fn describe(value: Option<&Value>, other: Option<&Value>) -> String {
    match (value, other) {
        (None, _) => "none".to_owned(),
        (Some(value), None) => {
            format!("the value {} of type '{}'", plain(value), value.type_name())
        }
        (Some(value), Some(_)) => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{OnceLock, Weak};

    use super::*;
    use crate::broker::Broker;
    use crate::definitions::{Change, Definitions, Fault, Kind};
    use crate::journal::MemoryJournal;
    use crate::options::Options;
    use crate::time::Time;
    use crate::watermark::Watermark;

    /// Looks whether the queue can be found when its record is submitted.
    #[derive(Default)]
    struct Witness {
        broker: OnceLock<Weak<Broker>>,
        found: OnceLock<bool>,
        watermark: Arc<Watermark>,
    }

    impl Definitions for Witness {
        fn load(&self, _: Kind, _: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
            Ok(())
        }

        fn submit(&self, changes: Vec<Change>) -> u64 {
            let kind = Kind::Queue;
            let is_queue =
                |change: &Change| matches!(change, Change::Put { kind: of, .. } if *of == kind);
            if changes.iter().any(is_queue) {
                let broker = self.broker.get().and_then(Weak::upgrade).expect("it runs");
                let vhost = broker.vhost("/").expect("the default vhost");
                self.found
                    .set(vhost.queue("q").is_some())
                    .expect("one queue");
            }
            7
        }

        fn watermark(&self) -> &Arc<Watermark> {
            &self.watermark
        }
    }

    /// FEATURES D1: whoever publishes to a queue that is just being made waits for its record.
    #[test]
    fn d1_a_queue_is_recorded_before_it_is_found() {
        let witness = Arc::new(Witness::default());
        let broker = Broker::open(
            Options::default(),
            Arc::clone(&witness) as _,
            Arc::new(MemoryJournal::default()),
            Time(1),
            || "hash".to_owned(),
        );
        let broker = broker.expect("opens");
        witness.broker.set(Arc::downgrade(&broker)).expect("once");
        let vhost = broker.vhost("/").expect("the default vhost");
        let properties = QueueProperties {
            durable: true,
            journaled: true,
            ..QueueProperties::default()
        };
        let wish = DeclareQueue {
            name: "q",
            properties,
            ..DeclareQueue::default()
        };
        let link = broker.owner_link(&vhost);
        let declared = link
            .queue_declare(&mut Turn::new(), &wish)
            .expect("declares");
        assert_eq!(witness.found.get(), Some(&false));
        assert_eq!(declared.queue.record(), 7);
    }
}
