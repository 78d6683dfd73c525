//! What consumers say of their deliveries: acknowledged, rejected, to be delivered again.
//!
//! Owns the refusal of unknown tags; the deliveries themselves wait in the outlet. AMQP 0-9-1,
//! class basic: ack, reject, recover; RabbitMQ's nack.

use leveret_core::queue::Settle;
use leveret_core::refusal::Refusal;
use leveret_core::turn::Turn;

use super::Channel;
use crate::method::{BasicAck, BasicNack, BasicRecover, BasicRecoverOk, BasicReject, ServerMethod};
use crate::session::Session;

impl Channel {
    #[inline]
    pub(super) fn basic_ack(
        &mut self,
        session: &mut Session,
        method: &BasicAck,
    ) -> Result<(), Refusal> {
        let (tag, multiple) = (method.delivery_tag, method.multiple);
        let known = if self.tx.is_none() {
            session.ack(self.id, tag, multiple)
        } else {
            self.tx_settle(session, tag, multiple, Settle::Ack)
        };
        known.then_some(()).ok_or_else(|| unknown_tag(tag))
    }

    pub(super) fn basic_nack(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicNack,
    ) -> Result<(), Refusal> {
        // RabbitMQ 4: what is given back this way was not tried.
        let how = if method.requeue {
            Settle::Requeue
        } else {
            Settle::Reject
        };
        self.give_back(session, turn, (method.delivery_tag, method.multiple), how)
    }

    pub(super) fn basic_reject(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: &BasicReject,
    ) -> Result<(), Refusal> {
        let how = if method.requeue {
            Settle::Failed
        } else {
            Settle::Reject
        };
        self.give_back(session, turn, (method.delivery_tag, false), how)
    }

    fn give_back(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        (tag, multiple): (u64, bool),
        how: Settle,
    ) -> Result<(), Refusal> {
        if self.tx.is_some() {
            let known = self.tx_settle(session, tag, multiple, how);
            return known.then_some(()).ok_or_else(|| unknown_tag(tag));
        }
        let mut held = Vec::new();
        if !session.outlet.take(self.id, tag, multiple, &mut held) {
            return Err(unknown_tag(tag));
        }
        session.credit(self.id);
        session.settle(turn, &mut held, how);
        Ok(())
    }

    pub(super) fn basic_recover(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        method: BasicRecover,
    ) -> Result<(), Refusal> {
        if method.requeue {
            // Before what comes again.
            session.reply(self.id, ServerMethod::BasicRecoverOk(BasicRecoverOk {}));
        }
        self.recover(session, turn, method.requeue)
    }

    /// Puts everything that waits for acknowledgement back into its queues.
    pub(super) fn recover(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        requeue: bool,
    ) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        let mut held = Vec::new();
        session.outlet.take(self.id, 0, true, &mut held);
        session.credit(self.id);
        session.settle(turn, &mut held, Settle::Requeue);
        Ok(())
    }
}

fn unknown_tag(tag: u64) -> Refusal {
    Refusal::precondition(format!("unknown delivery tag {tag}"))
}
