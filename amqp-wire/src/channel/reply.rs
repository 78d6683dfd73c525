//! Direct reply-to: a channel's pseudo queue, under the name that requests carry.
//!
//! Owns the refusals; the queue is the core's. Replies are deliveries without acknowledgement that
//! nobody keeps. RabbitMQ's `amq.rabbitmq.reply-to`.

use std::sync::Arc;

use leveret_core::permission::Permission;
use leveret_core::queue::Queue;
use leveret_core::refusal::{Refusal, Resource};
use leveret_core::replies::REPLY_TO;
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::Channel;
use crate::method::{
    BasicConsume, BasicConsumeOk, QueueDeclare, QueueDeclareOk, QueuePurgeOk, ServerMethod,
};
use crate::session::Session;

/// A channel's consumer of replies.
pub(super) struct Replying {
    pub(super) tag: Arc<str>,
    pub(super) key: u64,
    pub(super) queue: Arc<Queue>,
}

/// Whether a name is that of direct reply-to, or of one channel's pseudo queue.
pub(super) fn is_reply_to(name: &str) -> bool {
    name.starts_with(REPLY_TO)
}

/// A pseudo queue is bound to nothing.
pub(super) fn check_binding(queue: &str) -> Result<(), Refusal> {
    if is_reply_to(queue) {
        let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
        return Err(Refusal::new(ReplyCode::AccessRefused, text));
    }
    Ok(())
}

impl Channel {
    /// `basic.consume` from [`REPLY_TO`] or a name below it.
    pub(super) fn reply_consume(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        name: &str,
        method: &BasicConsume<'_>,
    ) -> Result<(), Refusal> {
        if name != REPLY_TO {
            session.link.reply_declare(name)?;
            return Err(Refusal::precondition(format!(
                "only creator channel may consume from queue '{name}' in vhost '{}'",
                session.link.vhost().name()
            )));
        }
        let tag = self.new_tag(session, method.consumer_tag)?;
        if !method.no_ack {
            return Err(Refusal::precondition("reply consumer cannot acknowledge"));
        }
        if self.reply.is_some() {
            return Err(Refusal::precondition("reply consumer already set"));
        }
        let (key, consumer) = self.new_consumer(session, &tag, method, None);
        session.outlet.expect_replies(key);
        let queue = match session.link.reply_consume(turn, consumer) {
            Ok(queue) => queue,
            Err(refusal) => {
                session.outlet.remove_consumer(key);
                return Err(refusal);
            }
        };
        session.outlet.set_queue(key, &queue, None);
        if !method.no_wait {
            let answer = BasicConsumeOk { consumer_tag: &tag };
            session.reply(self.id, ServerMethod::BasicConsumeOk(answer));
        }
        queue.pull(turn, session.link.connection(), key);
        self.reply = Some(Box::new(Replying { tag, key, queue }));
        Ok(())
    }

    /// Ends the pseudo queue if `wanted` is its consumer's tag, or in any case; says whether there
    /// was one.
    pub(super) fn reply_cancel(&mut self, session: &Session, wanted: Option<&str>) -> bool {
        let replying = self
            .reply
            .take_if(|held| wanted.is_none_or(|tag| *held.tag == *tag));
        if let Some(replying) = &replying {
            session.link.reply_end(&replying.queue);
            session.outlet.remove_consumer(replying.key);
        }
        replying.is_some()
    }

    /// `queue.declare`, which only looks whether replies can be sent to the name.
    pub(super) fn reply_declare(
        &mut self,
        session: &mut Session,
        name: &str,
        method: &QueueDeclare<'_>,
    ) -> Result<(), Refusal> {
        session.link.reply_declare(name)?;
        self.last_queue = name.into();
        if !method.no_wait {
            let answer = ServerMethod::QueueDeclareOk(QueueDeclareOk {
                queue: name,
                message_count: 0,
                consumer_count: 1,
            });
            session.reply(self.id, answer);
        }
        Ok(())
    }

    /// `queue.purge`: there is never anything to drop.
    pub(super) fn reply_purge(
        &self,
        session: &mut Session,
        name: &str,
        no_wait: bool,
    ) -> Result<(), Refusal> {
        session
            .link
            .check(Permission::Read, Resource::Queue, name)?;
        session.link.reply_declare(name)?;
        if !no_wait {
            let answer = QueuePurgeOk { message_count: 0 };
            session.reply(self.id, ServerMethod::QueuePurgeOk(answer));
        }
        Ok(())
    }

    /// The name that stands for [`REPLY_TO`] in a request.
    pub(super) fn reply_name(&self) -> Result<&str, Refusal> {
        let replying = self
            .reply
            .as_deref()
            .ok_or_else(|| Refusal::precondition("fast reply consumer does not exist"))?;
        Ok(replying.queue.name())
    }
}

/// `basic.get`, which no pseudo queue has anything for.
pub(super) fn refuse_get(session: &Session, name: &str) -> Refusal {
    let looked = session
        .link
        .check(Permission::Read, Resource::Queue, name)
        .and_then(|()| session.link.reply_declare(name));
    looked.err().unwrap_or_else(|| {
        Refusal::not_implemented(format!(
            "basic.get not supported by volatile queue '{name}' in vhost '{}'",
            session.link.vhost().name()
        ))
    })
}
