//! Transactions: publications and acknowledgements that a channel keeps back until it commits.
//!
//! Owns what is kept back. A publication is checked and routed when it comes, and goes to its
//! queues at `tx.commit`; a delivery that is acknowledged is out of the window at once, and back
//! in it after `tx.rollback`. What is delivered meanwhile is seen by nobody but this channel's
//! client. AMQP 0-9-1, class tx; atomic for one queue only, as in RabbitMQ.
//!
//! ```text
//! tx.select ──▶ open ──tx.commit──▶ committing ──on disk──▶ commit-ok, open again
//!                 ▲                     └──a queue or the disk refused──▶ channel.close
//!                 └──tx.rollback: nothing was published, deliveries wait again
//! ```

use leveret_core::link::Routed;
use leveret_core::message::{Message, MessageRef};
use leveret_core::queue::Settle;
use leveret_core::refusal::Refusal;
use leveret_core::turn::Turn;

use super::Channel;
use super::publish::Returned;
use crate::failure::Failure;
use crate::limits::{TX_BYTES_MAX, TX_MESSAGES_MAX};
use crate::method::{ServerMethod, TxCommit, TxCommitOk, TxRollbackOk, TxSelectOk};
use crate::outlet::overdue::Patience;
use crate::outlet::window::Slot;
use crate::session::{Commit, Session};

/// What a channel keeps back.
#[derive(Default)]
pub(super) struct Tx {
    publications: Vec<Kept>,
    bytes: usize,
    /// In the order of the client's words on them.
    settled: Vec<(Settle, Vec<Slot>)>,
    /// How many deliveries that are.
    slots: usize,
}

/// A publication that was checked and routed.
struct Kept {
    message: Message,
    routed: Routed,
    mandatory: bool,
}

impl Tx {
    /// How many publications and words on deliveries are kept back.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.publications.len(), self.slots)
    }

    /// Gives everything back that is kept.
    fn empty(&mut self, session: &mut Session) -> Self {
        session.tx_messages -= self.publications.len();
        session.tx_bytes -= self.bytes;
        std::mem::take(self)
    }

    /// The deliveries that the client has spoken of.
    fn into_slots(self) -> Vec<Slot> {
        let runs = self.settled.into_iter().map(|(_, slots)| slots);
        runs.reduce(|mut all, mut more| {
            all.append(&mut more);
            all
        })
        .unwrap_or_default()
    }
}

impl Channel {
    pub(super) fn tx_select(&mut self, session: &mut Session) -> Result<(), Refusal> {
        if self.confirms.is_some() {
            let text = "cannot switch from confirm to tx mode";
            return Err(Refusal::precondition(text));
        }
        self.tx.get_or_insert_default();
        session
            .outlet
            .tell_of(self.id, |listed| listed.transactional = true);
        session.reply(self.id, ServerMethod::TxSelectOk(TxSelectOk {}));
        Ok(())
    }

    /// Keeps a publication back.
    pub(super) fn tx_publish(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        message: &MessageRef<'_>,
        routed: Routed,
        mandatory: bool,
    ) -> Result<(), Refusal> {
        let Some(tx) = &mut self.tx else {
            return Ok(());
        };
        let bytes = message.payload.len()
            + message.properties.len()
            + message.key.len()
            + routed.len() * size_of::<usize>()
            + KEPT_OVERHEAD_BYTES;
        if session.tx_messages >= TX_MESSAGES_MAX
            || (session.tx_bytes > 0 && session.tx_bytes + bytes > TX_BYTES_MAX)
        {
            return Err(Refusal::precondition(format!(
                "transactions of this connection exceed {TX_MESSAGES_MAX} messages or \
                 {TX_BYTES_MAX} bytes"
            )));
        }
        session.tx_messages += 1;
        session.tx_bytes += bytes;
        tx.bytes += bytes;
        tx.publications.push(Kept {
            message: session.link.keep(turn, message),
            routed,
            mandatory,
        });
        session.change(self.id);
        Ok(())
    }

    /// Keeps a word on deliveries back; `false` for an unknown tag.
    pub(super) fn tx_settle(
        &mut self,
        session: &mut Session,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> bool {
        let Some(tx) = &mut self.tx else {
            return false;
        };
        let mut slots = Vec::new();
        let known = session.outlet.park(self.id, tag, multiple, &mut slots);
        tx.slots += slots.len();
        match tx.settled.last_mut() {
            Some((last, held)) if *last == how => held.append(&mut slots),
            // Nothing is kept of a word on nothing.
            _ if slots.is_empty() => {}
            _ => tx.settled.push((how, slots)),
        }
        session.change(self.id);
        known
    }

    /// `tx.commit`: publishes, then settles, both in the client's order. The answer waits for the
    /// disk.
    pub(super) fn tx_commit(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let Some(tx) = &mut self.tx else {
            return Err(not_transactional());
        };
        let Tx {
            publications,
            settled,
            ..
        } = tx.empty(session);
        session.change(self.id);
        let (mut number, mut rejected) = (0, false);
        for kept in publications {
            let published = self.tx_release(session, turn, &kept);
            session.lead.note(published.0);
            number = number.max(published.0);
            rejected |= published.1;
        }
        for (how, slots) in settled {
            session.outlet.forget(self.id, &slots);
            let mut held: Vec<_> = slots.into_iter().filter_map(Slot::into_held).collect();
            session.credit(self.id);
            session.settle(turn, &mut held, how);
        }
        if rejected {
            return Err(partial_completion());
        }
        session.commit = Some(Commit {
            channel: self.id,
            number,
            is_watched: false,
        });
        match look_at_commit(session) {
            Some((_, failure)) => Err(failure.refusal),
            None => Ok(()),
        }
    }

    /// Publishes what was kept back: the journal's number, and whether a queue has refused it.
    fn tx_release(&self, session: &mut Session, turn: &mut Turn, kept: &Kept) -> (u64, bool) {
        let view = kept.message.view();
        let mut head = view.head;
        // It is in its queues from now on: there its time begins.
        head.expires = head
            .expires
            .map(|at| turn.now.after_ms(at.since_ms(head.received)));
        head.received = turn.now;
        if kept.mandatory && kept.routed.is_gone() {
            let returned = Returned {
                exchange: view.exchange,
                routing_key: std::str::from_utf8(view.key).unwrap_or_default(),
                properties: view.properties,
                body: view.payload,
            };
            self.basic_return(session, &returned);
        }
        let message = MessageRef { head, ..view };
        let published = session.link.publish_to(turn, &message, &kept.routed);
        (published.journaled, published.rejected)
    }

    /// `tx.rollback`: as if nothing had been said since the last commit.
    pub(super) fn tx_rollback(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let Some(tx) = &mut self.tx else {
            return Err(not_transactional());
        };
        let slots = tx.empty(session).into_slots();
        turn.count_offered(slots.len());
        session.outlet.put_back(self.id, slots);
        session.change(self.id);
        session.reply(self.id, ServerMethod::TxRollbackOk(TxRollbackOk {}));
        Ok(())
    }

    /// Queues say something else about how long deliveries may wait; says whether that is so for
    /// one that is kept back.
    pub(crate) fn tx_retime(&mut self, patience: &mut Patience) -> bool {
        let mut changed = false;
        let runs = self.tx.iter_mut().flat_map(|tx| &mut tx.settled);
        for slot in runs.flat_map(|(_, slots)| slots) {
            changed |= slot.retime(&mut |held| patience.of(&held.queue));
        }
        changed
    }

    /// How many runs of words on deliveries are kept back.
    #[cfg(test)]
    pub(crate) fn tx_words(&self) -> usize {
        self.tx.as_ref().map_or(0, |tx| tx.settled.len())
    }

    /// The channel ends with a transaction open: its deliveries go back to their queues.
    pub(super) fn tx_end(&mut self, session: &mut Session) {
        if session
            .commit
            .as_ref()
            .is_some_and(|commit| commit.channel == self.id)
        {
            session.commit = None;
        }
        if let Some(mut tx) = self.tx.take() {
            let slots = tx.empty(session).into_slots();
            session.outlet.put_back(self.id, slots);
        }
    }
}

/// Answers the commit that waits, if the disk has all of it; what the channel fails with if the
/// disk never will.
pub(crate) fn look_at_commit(session: &mut Session) -> Option<(u16, Failure)> {
    let commit = session.commit.as_mut()?;
    let (channel, number) = (commit.channel, commit.number);
    let watermark = session.link.journal_mark();
    if watermark.durable() < number {
        if watermark.has_failed() {
            session.commit = None;
            return Some((channel, Failure::of(TxCommit::ID, partial_completion())));
        }
        if commit.is_watched || watermark.wait(number, &session.bell) {
            commit.is_watched = true;
            return None;
        }
    }
    session.commit = None;
    session.reply(channel, ServerMethod::TxCommitOk(TxCommitOk {}));
    None
}

fn not_transactional() -> Refusal {
    Refusal::precondition("channel is not transactional")
}

/// A queue or the disk has refused something; what else there was is done.
fn partial_completion() -> Refusal {
    Refusal::precondition("partial tx completion")
}

/// What a publication that is kept takes beside its parts.
const KEPT_OVERHEAD_BYTES: usize = 256;
