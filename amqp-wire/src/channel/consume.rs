//! Consumers of a channel, and fetching without one.
//!
//! Owns consumer tags and the windows that new consumers get; deliveries are the outlet's. AMQP
//! 0-9-1, class basic: qos, consume, cancel, get.

use std::sync::Arc;

use leveret_core::queue::{Consumer, Queue};
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::sink::Sink;
use leveret_core::turn::Turn;

use super::Channel;
use crate::limits::CONSUMERS_PER_CHANNEL_MAX;
use crate::method::{
    BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicGet, BasicGetEmpty, BasicQos,
    BasicQosOk, ServerMethod,
};
use crate::outlet;
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
        check_reply_to(&name)?;
        check_arguments(method)?;
        let tag = self.new_tag(session, method.consumer_tag)?;
        // Unique on the connection: a channel that is opened again does not meet old news.
        let key = u64::from(self.id) << 32 | u64::from(session.next_consumer);
        session.next_consumer = session.next_consumer.wrapping_add(1);
        let prefetch = if method.no_ack { 0 } else { self.prefetch };
        let state = outlet::Consumer {
            tag: Arc::clone(&tag),
            channel: self.id,
            no_ack: method.no_ack,
            prefetch,
            queue: None,
            unacked: 0,
            starved: false,
        };
        session.outlet.add_consumer(key, state);
        let sink: Arc<dyn Sink> = Arc::clone(&session.outlet) as _;
        let mut consumer = Consumer::new(key, session.link.connection(), Arc::clone(&tag), sink);
        consumer.no_ack = method.no_ack;
        consumer.exclusive = method.exclusive;
        consumer.prefetch = prefetch.into();
        let queue = match session.link.consume(turn, &name, consumer) {
            Ok(queue) => queue,
            Err(refusal) => {
                session.outlet.remove_consumer(key);
                return Err(refusal);
            }
        };
        session.outlet.set_queue(key, &queue);
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

    /// The tag of a new consumer: the client's, or one that the server makes.
    fn new_tag(&self, session: &Session, wanted: &str) -> Result<Arc<str>, Refusal> {
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
        if let Some(consuming) = self.consumers.remove(method.consumer_tag) {
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

    pub(super) fn basic_get(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicGet<'_>,
    ) -> Result<(), Refusal> {
        let name = self.queue_or_last(method.queue)?;
        check_reply_to(name)?;
        match session.link.get(turn, name, method.no_ack)? {
            Some(got) => {
                let bytes = session.outlet.get_ok(self.id, got, method.no_ack);
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

/// Arguments that ask for what is not done are refused; unknown ones mean nothing.
fn check_arguments(method: &BasicConsume<'_>) -> Result<(), Refusal> {
    for (name, _) in method.arguments.entries() {
        if let Some(known) = NOT_SERVED.iter().find(|known| known.as_bytes() == name) {
            return Err(Refusal::not_implemented(format!(
                "consumer argument '{known}' is not served by this version"
            )));
        }
    }
    Ok(())
}

/// RabbitMQ's pseudo queue is no queue here.
fn check_reply_to(queue: &str) -> Result<(), Refusal> {
    if queue.starts_with("amq.rabbitmq.reply-to") {
        return Err(Refusal::new(
            ReplyCode::NotImplemented,
            "direct reply-to is not served by this version",
        ));
    }
    Ok(())
}

/// Arguments of `basic.consume` that RabbitMQ serves and this version does not.
const NOT_SERVED: [&str; 5] = [
    "x-priority",
    "x-stream-offset",
    "x-stream-filter",
    "x-stream-match-unfiltered",
    "x-consumer-timeout",
];
