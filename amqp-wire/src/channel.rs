//! One channel: its state, and the dispatch of methods to those who handle them.
//!
//! Owns the assembly of one message, the consumers' tags, confirms and the last queue's name;
//! deliveries and their tags live in the outlet. AMQP 0-9-1 §2.1.2 and class channel:
//!
//! ```text
//! channel = open-channel *use-channel close-channel
//! Open ── channel.close sent ──▶ Closing: discards all but channel.close-ok
//! ```

mod assembly;
mod confirm;
mod consume;
mod declare;
mod publish;
mod reply;
mod rewrite;
mod settle;
mod tx;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use leveret_core::exchange::Memo;
use leveret_core::queue::{Queue, Settle};
use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use self::assembly::Assembly;
use self::confirm::Confirms;
use self::consume::Consuming;
use self::reply::Replying;
use self::tx::Tx;
use crate::failure::Failure;
use crate::frame::{Frame, FrameKind};
use crate::method::{
    AccessRequestOk, ChannelFlow, ChannelFlowOk, ClientMethod, MethodError, MethodId, ServerMethod,
};
use crate::outlet::window::Counts;
use crate::session::Session;

/// One channel of an open connection.
#[derive(Default)]
pub(crate) struct Channel {
    id: u16,
    /// `channel.close` was sent: everything is discarded until `channel.close-ok`.
    pub(crate) closing: bool,
    /// The queue that an empty name stands for.
    last_queue: Box<str>,
    /// `basic.qos` without global: for consumers started from now on.
    prefetch: u16,
    consumers: HashMap<Box<str>, Consuming, RandomState>,
    memo: Memo,
    assembly: Option<Box<Assembly>>,
    confirms: Option<Box<Confirms>>,
    tx: Option<Box<Tx>>,
    reply: Option<Box<Replying>>,
}

impl Channel {
    pub(crate) fn new(id: u16) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// Handles a frame. `rest` is the input behind it; says how many bytes of that were taken
    /// too: a message that is there as a whole is published in one go, without a copy.
    pub(crate) fn handle_frame(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        frame: &Frame<'_>,
        rest: &[u8],
    ) -> Result<usize, Failure> {
        if self.assembly.is_some() {
            self.assemble(session, turn, frame)?;
            return Ok(0);
        }
        if frame.kind == FrameKind::Heartbeat {
            return Err(Failure::unexpected_frame(frame));
        }
        if frame.kind != FrameKind::Method {
            return Err(Failure::no_method());
        }
        match decode_method(frame)? {
            ClientMethod::BasicPublish(method) => self.basic_publish(session, turn, &method, rest),
            method => {
                let done = self.handle_method(session, turn, method);
                done.map_err(|refusal| Failure::of(method.id(), refusal))?;
                Ok(0)
            }
        }
    }

    fn handle_method(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: ClientMethod<'_>,
    ) -> Result<(), Refusal> {
        use ClientMethod as M;
        match method {
            M::BasicAck(method) => return self.basic_ack(session, &method),
            // Whatever else is asked for must find the queues as the acknowledgements left them.
            _ => session.settle_acked(turn),
        }
        if let M::ExchangeBind(_) | M::ExchangeUnbind(_) | M::QueueBind(_) | M::QueueUnbind(_) =
            &method
        {
            turn.count_rebound(1);
        }
        match method {
            M::ChannelFlow(method) => self.channel_flow(session, method),
            M::AccessRequest(_) => {
                // AMQP 0-8's tickets: any number will do, and none is ever asked for.
                let method = ServerMethod::AccessRequestOk(AccessRequestOk { ticket: 1 });
                session.reply(self.id, method);
                Ok(())
            }
            M::ExchangeDeclare(method) => self.exchange_declare(session, &method),
            M::ExchangeDelete(method) => self.exchange_delete(session, &method),
            M::ExchangeBind(method) => self.exchange_bind(session, turn, &method),
            M::ExchangeUnbind(method) => self.exchange_unbind(session, &method),
            M::QueueDeclare(method) => self.queue_declare(session, turn, &method),
            M::QueueBind(method) => self.queue_bind(session, turn, &method),
            M::QueueUnbind(method) => self.queue_unbind(session, &method),
            M::QueuePurge(method) => self.queue_purge(session, &method),
            M::QueueDelete(method) => self.queue_delete(session, &method),
            M::BasicQos(method) => self.basic_qos(session, method),
            M::BasicConsume(method) => self.basic_consume(session, turn, &method),
            M::BasicCancel(method) => self.basic_cancel(session, turn, &method),
            M::BasicGet(method) => self.basic_get(session, turn, &method),
            M::BasicNack(method) => self.basic_nack(session, turn, &method),
            M::BasicReject(method) => self.basic_reject(session, turn, &method),
            M::BasicRecover(method) => self.basic_recover(session, turn, method),
            M::BasicRecoverAsync(method) => self.recover(session, turn, method.requeue),
            M::ConfirmSelect(method) => self.confirm_select(session, method),
            M::TxSelect(_) => self.tx_select(session),
            M::TxCommit(_) => self.tx_commit(session, turn),
            M::TxRollback(_) => self.tx_rollback(session, turn),
            other => Err(Failure::unimplemented(other.id()).refusal),
        }
    }

    fn channel_flow(&mut self, session: &mut Session, method: ChannelFlow) -> Result<(), Refusal> {
        if !method.active {
            return Err(Refusal::not_implemented("active=false"));
        }
        let answer = ChannelFlowOk { active: true };
        session.reply(self.id, ServerMethod::ChannelFlowOk(answer));
        Ok(())
    }

    /// Ends the channel's part in the vhost: confirms that are due leave, consumers are
    /// cancelled, unacknowledged deliveries go back to their queues.
    pub(crate) fn end(&mut self, session: &mut Session, turn: &mut Turn) {
        let successors = self.stop_consuming(session, turn);
        self.give_all_back(session, turn);
        pull_for(turn, successors);
    }

    /// Confirms that are due leave, and consumers are cancelled. Returns who is the single active
    /// consumer of a queue now: it is pulled for when what waited for acknowledgement is back.
    pub(crate) fn stop_consuming(&mut self, session: &mut Session, turn: &mut Turn) -> Successors {
        self.flush_confirms(session);
        session.confirming.retain(|id| *id != self.id);
        session.settle_acked(turn);
        let mut successors = Vec::new();
        for (_, Consuming { key, queue }) in std::mem::take(&mut self.consumers) {
            if let Some((connection, key)) = session.link.leave(turn, &queue, key) {
                successors.push((queue, connection, key));
            }
        }
        successors
    }

    /// Unacknowledged deliveries go back to their queues, and nothing is left.
    pub(crate) fn give_all_back(&mut self, session: &mut Session, turn: &mut Turn) {
        self.reply_cancel(session, None);
        self.tx_end(session);
        session.drop_reply(self.id);
        let mut held = Vec::new();
        session.outlet.remove_channel(self.id, &mut held);
        // Whoever leaves has tried them.
        session.settle(turn, &mut held, Settle::Failed);
        if let Some(assembly) = self.assembly.take() {
            session.assembling_bytes -= assembly.kept_bytes();
        }
        *self = Self {
            closing: self.closing,
            ..Self::new(self.id)
        };
    }

    /// What listings tell of what it keeps to itself.
    pub(crate) fn counts(&self) -> Counts {
        let few = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let of_tx = self.tx.as_ref().map(|tx| tx.counts());
        let (publications, words) = of_tx.unwrap_or_default();
        let confirms = self.confirms.as_ref();
        Counts {
            unconfirmed: confirms.map_or(0, |confirms| confirms.unanswered()),
            uncommitted: few(publications),
            acks_uncommitted: few(words),
        }
    }

    /// Whether a message has begun and is not whole yet.
    pub(crate) fn is_assembling(&self) -> bool {
        self.assembly.is_some()
    }

    /// The name that an empty one stands for.
    fn queue_or_last<'a>(&'a self, name: &'a str) -> Result<&'a str, Refusal> {
        if !name.is_empty() {
            return Ok(name);
        }
        if self.last_queue.is_empty() {
            return Err(Refusal::new(
                ReplyCode::NotFound,
                "no previously declared queue",
            ));
        }
        Ok(&self.last_queue)
    }
}

pub(crate) use tx::look_at_commit;

/// The method in a frame of that kind.
#[inline]
pub(crate) fn decode_method<'a>(frame: &Frame<'a>) -> Result<ClientMethod<'a>, Failure> {
    match ClientMethod::decode(frame.payload) {
        Ok(method) => Ok(method),
        Err(error) => Err(bad_method(error, frame)),
    }
}

#[cold]
fn bad_method(error: MethodError, frame: &Frame<'_>) -> Failure {
    match frame.payload.len() {
        0..4 => Failure::unknown_frame(frame),
        _ => Failure::bad_method(error, frame),
    }
}

/// Consumers that have credit from now on: queue, connection and key.
pub(crate) type Successors = Vec<(Arc<Queue>, u64, u64)>;

/// Gives them what is ready.
pub(crate) fn pull_for(turn: &mut Turn, successors: Successors) {
    for (queue, connection, key) in successors {
        queue.pull(turn, connection, key);
    }
}

/// What a method frame on a channel that is not open fails with.
pub(crate) fn not_open(method: MethodId) -> Failure {
    Failure::new(ReplyCode::ChannelError, "expected 'channel.open'", method)
}

/// An idle channel, beside its place in two tables.
const _: () = assert!(size_of::<Channel>() <= 128);
