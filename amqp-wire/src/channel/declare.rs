//! Exchanges, queues and bindings: what clients declare, bind and delete.
//!
//! Owns the names that an empty one stands for; everything else is the core's. Answers wait until
//! durable things are on disk. AMQP 0-9-1, classes exchange and queue; RabbitMQ's exchange.bind.

use std::borrow::Cow;

use leveret_core::key::Form;
use leveret_core::link::{BindQueue, DeclareExchange, DeclareQueue};
use leveret_core::queue::QueueProperties;
use leveret_core::refusal::Refusal;
use leveret_core::turn::Turn;

use super::Channel;
use super::reply::{check_binding, is_reply_to};
use crate::method::{
    ExchangeBind, ExchangeBindOk, ExchangeDeclare, ExchangeDeclareOk, ExchangeDelete,
    ExchangeDeleteOk, ExchangeUnbind, ExchangeUnbindOk, QueueBind, QueueBindOk, QueueDeclare,
    QueueDeclareOk, QueueDelete, QueueDeleteOk, QueuePurge, QueuePurgeOk, QueueUnbind,
    QueueUnbindOk, ServerMethod,
};
use crate::session::Session;

impl Channel {
    fn done(&self, session: &mut Session, no_wait: bool, answer: ServerMethod<'_>) {
        if !no_wait {
            session.reply_committed(self.id, answer);
        }
    }

    pub(super) fn exchange_declare(
        &mut self,
        session: &mut Session,
        method: &ExchangeDeclare<'_>,
    ) -> Result<(), Refusal> {
        session.link.exchange_declare(&DeclareExchange {
            name: &one_line(method.exchange),
            kind: method.type_,
            passive: method.passive,
            durable: method.durable,
            auto_delete: method.auto_delete,
            internal: method.internal,
            arguments: method.arguments.to_table(),
        })?;
        let answer = ServerMethod::ExchangeDeclareOk(ExchangeDeclareOk {});
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    pub(super) fn exchange_delete(
        &mut self,
        session: &mut Session,
        method: &ExchangeDelete<'_>,
    ) -> Result<(), Refusal> {
        session
            .link
            .exchange_delete(&one_line(method.exchange), method.if_unused)?;
        let answer = ServerMethod::ExchangeDeleteOk(ExchangeDeleteOk {});
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    pub(super) fn exchange_bind(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &ExchangeBind<'_>,
    ) -> Result<(), Refusal> {
        let made = session.link.exchange_bind(
            &one_line(method.destination),
            &one_line(method.source),
            method.routing_key.as_bytes(),
            method.arguments.to_table(),
        )?;
        session.link.replay_through(turn, &made);
        session.met_alarm |= made.has_history() && session.has_alarm();
        let answer = ServerMethod::ExchangeBindOk(ExchangeBindOk {});
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    pub(super) fn exchange_unbind(
        &mut self,
        session: &mut Session,
        method: &ExchangeUnbind<'_>,
    ) -> Result<(), Refusal> {
        session.link.exchange_unbind(
            &one_line(method.destination),
            &one_line(method.source),
            method.routing_key.as_bytes(),
            &method.arguments.to_table(),
        )?;
        let answer = ServerMethod::ExchangeUnbindOk(ExchangeUnbindOk {});
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    pub(super) fn queue_declare(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &QueueDeclare<'_>,
    ) -> Result<(), Refusal> {
        let name = one_line(method.queue);
        if is_reply_to(&name) {
            return self.reply_declare(session, &name, method);
        }
        let declared = session.link.queue_declare(
            turn,
            &DeclareQueue {
                name: &name,
                passive: method.passive,
                exclusive: method.exclusive,
                properties: QueueProperties {
                    durable: method.durable,
                    auto_delete: method.auto_delete,
                    exclusive: None,
                    direct: false,
                    journaled: method.durable,
                    arguments: method.arguments.to_table(),
                },
                session: None,
            },
        )?;
        self.last_queue = declared.queue.name().into();
        let (message_count, consumer_count) = declared.queue.counts();
        let answer = ServerMethod::QueueDeclareOk(QueueDeclareOk {
            queue: declared.queue.name(),
            message_count,
            consumer_count,
        });
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    pub(super) fn queue_bind(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &QueueBind<'_>,
    ) -> Result<(), Refusal> {
        let (queue, key) = self.queue_and_key(method.queue, method.routing_key)?;
        check_binding(&queue)?;
        let made = session.link.queue_bind(&BindQueue {
            queue: &queue,
            exchange: &one_line(method.exchange),
            key: key.as_bytes(),
            form: Form::Dotted,
            arguments: method.arguments.to_table(),
        })?;
        session.link.replay(turn, &made);
        session.met_alarm |= made.has_history() && session.has_alarm();
        self.done(
            session,
            method.no_wait,
            ServerMethod::QueueBindOk(QueueBindOk {}),
        );
        session.replay = made.retained.map(Box::new);
        Ok(())
    }

    pub(super) fn queue_unbind(
        &mut self,
        session: &mut Session,
        method: &QueueUnbind<'_>,
    ) -> Result<(), Refusal> {
        let (queue, key) = self.queue_and_key(method.queue, method.routing_key)?;
        check_binding(&queue)?;
        session.link.queue_unbind(&BindQueue {
            queue: &queue,
            exchange: &one_line(method.exchange),
            key: key.as_bytes(),
            form: Form::Dotted,
            arguments: method.arguments.to_table(),
        })?;
        self.done(
            session,
            false,
            ServerMethod::QueueUnbindOk(QueueUnbindOk {}),
        );
        Ok(())
    }

    pub(super) fn queue_purge(
        &mut self,
        session: &mut Session,
        method: &QueuePurge<'_>,
    ) -> Result<(), Refusal> {
        let name = one_line(self.queue_or_last(method.queue)?);
        if is_reply_to(&name) {
            return self.reply_purge(session, &name, method.no_wait);
        }
        let message_count = session.link.queue_purge(&name)?;
        let answer = ServerMethod::QueuePurgeOk(QueuePurgeOk { message_count });
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    pub(super) fn queue_delete(
        &mut self,
        session: &mut Session,
        method: &QueueDelete<'_>,
    ) -> Result<(), Refusal> {
        let name = one_line(self.queue_or_last(method.queue)?);
        let (if_unused, if_empty) = (method.if_unused, method.if_empty);
        let message_count = session.link.queue_delete(&name, if_unused, if_empty)?;
        let answer = ServerMethod::QueueDeleteOk(QueueDeleteOk { message_count });
        self.done(session, method.no_wait, answer);
        Ok(())
    }

    /// The queue and key of a binding.
    // AMQP 0-9-1, queue.bind: an empty queue name is the last declared queue; with an empty key
    // too, the key is that name.
    fn queue_and_key<'a>(
        &'a self,
        queue: &'a str,
        key: &'a str,
    ) -> Result<(Cow<'a, str>, Cow<'a, str>), Refusal> {
        let name = one_line(self.queue_or_last(queue)?);
        let key = if queue.is_empty() && key.is_empty() {
            name.clone()
        } else {
            Cow::Borrowed(key)
        };
        Ok((name, key))
    }
}

/// A name without CR and LF, which RabbitMQ removes.
fn one_line(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        Cow::Owned(name.replace(['\r', '\n'], ""))
    } else {
        Cow::Borrowed(name)
    }
}
