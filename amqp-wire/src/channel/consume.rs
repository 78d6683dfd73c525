//! Consumers of a channel, and fetching without one.
//!
//! Owns consumer tags and the windows that new consumers get; deliveries are the outlet's. AMQP
//! 0-9-1, class basic: qos, consume, cancel, get.

use std::sync::Arc;

use leveret_core::queue::{Consumer, Queue, StreamReader};
use leveret_core::refusal::Refusal;
use leveret_core::sink::Sink;
use leveret_core::turn::Turn;

use super::Channel;
use super::reply::{is_reply_to, refuse_get};
use crate::limits::CONSUMERS_PER_CHANNEL_MAX;
use crate::method::{
    BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicGet, BasicGetEmpty, BasicQos,
    BasicQosOk, ServerMethod,
};
use crate::outlet;
use crate::outlet::window::{FETCHED, OWN_TIMEOUT};
use crate::outlet::write::Kept;
use crate::session::Session;

/// A consumer, by its tag.
pub(super) struct Consuming {
    pub(super) key: u64,
    pub(super) queue: Arc<Queue>,
}

impl Channel {
    pub(super) fn basic_qos(
        &mut self,
        session: &mut Session,
        method: BasicQos,
    ) -> Result<(), Refusal> {
        if method.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", method.prefetch_size);
            return Err(Refusal::not_implemented(text));
        }
        if method.global {
            // RabbitMQ's reading of global: all consumers of the channel together.
            session
                .outlet
                .set_limit(self.id, method.prefetch_count.into());
            session.credit(self.id);
        } else {
            self.prefetch = method.prefetch_count;
            session
                .outlet
                .tell_of(self.id, |listed| listed.prefetch = method.prefetch_count);
            // RabbitMQ: it replaces a limit of all of them together.
            session.outlet.set_limit(self.id, 0);
            session.credit(self.id);
        }
        session.reply(self.id, ServerMethod::BasicQosOk(BasicQosOk {}));
        Ok(())
    }

    pub(super) fn basic_consume(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicConsume<'_>,
    ) -> Result<(), Refusal> {
        let name: Box<str> = self.queue_or_last(method.queue)?.into();
        if is_reply_to(&name) {
            return self.reply_consume(session, turn, &name, method);
        }
        let tag = self.new_tag(session, method.consumer_tag)?;
        let asked = Asked::of(session, &name, method)?;
        let vhost = session.link.vhost().name();
        let stream = StreamReader::asked(method.arguments, &name, vhost, turn.now)?;
        let (key, mut consumer) = self.new_consumer(session, &tag, method, asked.timeout_ms);
        consumer.priority = asked.priority;
        consumer.stream = stream;
        consumer.arguments = session.kept_arguments.keep(method.arguments);
        let queue = match session.link.consume(turn, &name, consumer) {
            Ok(queue) => queue,
            Err(refusal) => {
                session.outlet.remove_consumer(key);
                return Err(refusal);
            }
        };
        let of_queue = queue.consumer_timeout_ms();
        session.outlet.set_queue(key, &queue, of_queue);
        if !method.no_wait {
            let answer = BasicConsumeOk { consumer_tag: &tag };
            session.reply(self.id, ServerMethod::BasicConsumeOk(answer));
        }
        // Only now: no delivery may come before consume-ok.
        queue.pull(turn, session.link.connection(), key);
        self.consumers
            .insert((&*tag).into(), Consuming { key, queue });
        Ok(())
    }

    /// A consumer that the outlet knows, and its key there.
    pub(super) fn new_consumer(
        &self,
        session: &mut Session,
        tag: &Arc<str>,
        method: &BasicConsume<'_>,
        timeout_ms: Option<u32>,
    ) -> (u64, Consumer) {
        // Unique on the connection: a channel that is opened again does not meet old news.
        let own_timeout = timeout_ms.map_or(0, |_| OWN_TIMEOUT);
        let key = outlet::consumer_key(self.id, session.next_consumer | own_timeout);
        session.next_consumer = (session.next_consumer + 1) % LAST_NUMBER;
        let prefetch = if method.no_ack { 0 } else { self.prefetch };
        let state = outlet::Consumer {
            tag: Arc::clone(tag),
            channel: self.id,
            no_ack: method.no_ack,
            prefetch,
            queue: None,
            unacked: 0,
            starved: false,
            replies: false,
            timeout_ms: timeout_ms.unwrap_or(session.consumer_timeout_ms),
        };
        session.outlet.add_consumer(key, state);
        let sink: Arc<dyn Sink> = Arc::clone(&session.outlet) as _;
        let mut consumer = Consumer::new(key, session.link.connection(), Arc::clone(tag), sink);
        consumer.no_ack = method.no_ack;
        consumer.exclusive = method.exclusive;
        consumer.prefetch = self.prefetch.into();
        consumer.limited = session.outlet.has_limit(self.id);
        (key, consumer)
    }

    /// The tag of a new consumer: the client's, or one that the server makes.
    pub(super) fn new_tag(&self, session: &Session, wanted: &str) -> Result<Arc<str>, Refusal> {
        if self.consumers.contains_key(wanted) {
            let text = format!("attempt to reuse consumer tag '{wanted}'");
            return Err(Refusal::not_allowed(text));
        }
        if self.consumers.len() >= CONSUMERS_PER_CHANNEL_MAX {
            return Err(Refusal::not_allowed(format!(
                "reached maximum ({CONSUMERS_PER_CHANNEL_MAX}) of consumers per channel"
            )));
        }
        if wanted.is_empty() {
            return Ok(format!("amq.ctag-{}", session.link.broker().unique_name()).into());
        }
        Ok(wanted.into())
    }

    pub(super) fn basic_cancel(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicCancel<'_>,
    ) -> Result<(), Refusal> {
        // Deliveries that wait for acknowledgement stay; an unknown tag is no error.
        let is_reply = self.reply_cancel(session, Some(method.consumer_tag));
        if !is_reply && let Some(consuming) = self.consumers.remove(method.consumer_tag) {
            session.link.cancel(turn, &consuming.queue, consuming.key);
            session.outlet.remove_consumer(consuming.key);
        }
        if !method.no_wait {
            let consumer_tag = method.consumer_tag;
            let answer = BasicCancelOk { consumer_tag };
            session.reply(self.id, ServerMethod::BasicCancelOk(answer));
        }
        Ok(())
    }

    /// A consumer's queue is gone: RabbitMQ's consumer cancel notification, if it is wanted.
    pub(crate) fn cancelled(&mut self, session: &mut Session, key: u64, notify: bool) {
        let Some(consumer) = session.outlet.remove_consumer(key) else {
            return;
        };
        self.consumers.remove(&*consumer.tag);
        if notify {
            let method = BasicCancel {
                consumer_tag: &consumer.tag,
                no_wait: true,
            };
            session.reply(self.id, ServerMethod::BasicCancel(method));
        }
    }

    /// The user's permissions have changed: consumers whose queues it may not read any more are
    /// cancelled as if the queues were gone. What they have stays theirs until it is acknowledged.
    pub(crate) fn reauthorise(&mut self, session: &mut Session, turn: &mut Turn, notify: bool) {
        let denied = |held: &&Consuming| session.link.may_consume(held.queue.name()).is_err();
        let gone = self.consumers.values().filter(denied);
        let gone: Vec<_> = gone
            .map(|held| (held.key, Arc::clone(&held.queue)))
            .collect();
        for (key, queue) in gone {
            let (user, queue_name) = (session.link.user(), queue.name());
            tracing::info!(
                user,
                queue = queue_name,
                "consumer cancelled: it may not read any more"
            );
            session.link.cancel(turn, &queue, key);
            self.cancelled(session, key, notify);
        }
    }

    pub(super) fn basic_get(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicGet<'_>,
    ) -> Result<(), Refusal> {
        let name = self.queue_or_last(method.queue)?;
        if is_reply_to(name) {
            return Err(refuse_get(session, name));
        }
        match session.link.get(turn, name, method.no_ack)? {
            Some(got) => {
                let kept = (!method.no_ack).then(|| self.kept(session, turn, &got.queue));
                let bytes = session.outlet.get_ok(self.id, got, kept);
                session.replied_bytes += bytes;
            }
            None => {
                let answer = BasicGetEmpty::default();
                session.reply(self.id, ServerMethod::BasicGetEmpty(answer));
            }
        }
        Ok(())
    }
}

impl Channel {
    /// How long a fetched message may wait for acknowledgement.
    fn kept(&self, session: &Session, turn: &Turn, queue: &Queue) -> Kept {
        let own = queue.consumer_timeout_ms();
        if own.is_some() {
            session.outlet.watch_all(self.id);
        }
        Kept {
            now: turn.now,
            timeout_ms: own.unwrap_or(session.consumer_timeout_ms),
        }
    }
}

/// Consumers have numbers below this, with or without a timeout of their own.
const LAST_NUMBER: u32 = FETCHED & !OWN_TIMEOUT;

/// What the arguments of `basic.consume` ask for; unknown ones mean nothing.
struct Asked {
    priority: i32,
    timeout_ms: Option<u32>,
}

impl Asked {
    fn of(session: &Session, queue: &str, method: &BasicConsume<'_>) -> Result<Self, Refusal> {
        let mut asked = Self {
            priority: 0,
            timeout_ms: None,
        };
        for (name, value) in method.arguments.entries() {
            let refuse = |name: &str, why: &str| {
                let vhost = session.link.vhost().name();
                Err(Refusal::precondition(format!(
                    "invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': \"{why}\""
                )))
            };
            let known = match name {
                b"x-priority" => "x-priority",
                b"x-consumer-timeout" => "x-consumer-timeout",
                _ => continue,
            };
            let value = value.to_value();
            let Some(number) = value.as_integer() else {
                let why = format!("expected integer, got {}", value.type_name());
                return refuse(known, &why);
            };
            if known == "x-priority" {
                // What is beyond keeps its place in the order.
                asked.priority = number.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            } else if number < 1 {
                let why = format!("expected a positive integer, got {number}");
                return refuse(known, &why);
            } else {
                // Seven weeks are the longest.
                asked.timeout_ms = Some(u32::try_from(number).unwrap_or(u32::MAX));
            }
        }
        Ok(asked)
    }
}
