//! What becomes of delivered messages: acknowledged, put back near where they were, or given up.

use std::sync::Arc;

use super::dispatch::Gone;
use super::{Entry, Overflow, Queue, State};
use crate::dead_letter::Death;
use crate::message::Message;
use crate::turn::Turn;

/// A delivered message that its consumer has not settled. The sink holds it.
#[derive(Clone, Debug)]
pub struct Unacked {
    /// Where it came from.
    pub queue: Arc<Queue>,
    /// Its number there.
    pub seq: u64,
    /// The message, should it go back.
    pub message: Message,
}

/// The consumer's word on a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settle {
    /// Done: the queue forgets it.
    Ack,
    /// Back to its place in the queue, marked as redelivered. It was not tried.
    Requeue,
    /// The same, but it was tried: a quorum queue counts it, and gives the message up when that
    /// was too often.
    Failed,
    /// Given up: dead-lettered, or dropped.
    Reject,
}

impl Queue {
    /// Settles deliveries of this queue, in any order.
    pub(crate) fn settle(
        self: &Arc<Self>,
        turn: &mut Turn,
        unacked: impl Iterator<Item = (u64, Message)>,
        how: Settle,
    ) {
        if self.is_stream {
            // All that follows is credit, which is the sink's.
            return unacked.for_each(drop);
        }
        let mut state = self.state.lock();
        let mut back = Vec::new();
        let mut gone = Gone::new();
        for (seq, message) in unacked {
            state.unacked = state.unacked.saturating_sub(1);
            match self.verdict(&mut state, seq, how) {
                Verdict::Back => back.push(Entry::new(message, seq, true)),
                Verdict::Dead(why) if state.terms().dead_letter_exchange.is_some() => {
                    let kept = self.keeps(message.head()).then_some(seq);
                    self.bury(&state, turn, message, kept, why);
                }
                verdict => {
                    if let Verdict::Dead(why) = verdict
                        && let Some(loss) = why.loss()
                    {
                        self.count_loss(&mut state, loss, &message.view());
                    }
                    if self.keeps(message.head()) {
                        gone.push(seq);
                    }
                }
            }
        }
        self.forget(&gone);
        let taken_over = state.unacked == 0 && state.consumers.has_rival();
        if taken_over {
            state.consumers.take_over();
        }
        if back.is_empty() && !taken_over {
            return;
        }
        back.sort_by_key(Entry::seq);
        let max = state.terms().max_priority.unwrap_or_default();
        state.ready().put_back(back, max);
        self.dispatch(&mut state, turn);
        if state.given.is_some() && state.terms().overflow == Overflow::DropHead {
            self.enforce_length(&mut state, turn);
        }
    }

    /// What follows from a consumer's word.
    #[inline]
    fn verdict(&self, state: &mut State, seq: u64, how: Settle) -> Verdict {
        if state.deleted {
            return Verdict::Gone;
        }
        match how {
            Settle::Requeue => return Verdict::Back,
            Settle::Failed => {
                let Some(max) = state.terms().failures_max() else {
                    return Verdict::Back;
                };
                let failures = state.ready().failures.entry(seq).or_default();
                *failures = failures.saturating_add(1);
                if u64::from(*failures) <= max {
                    return Verdict::Back;
                }
            }
            Settle::Ack | Settle::Reject => {}
        }
        if let Some(ready) = &mut state.ready {
            ready.forget_failures(seq);
        }
        match how {
            Settle::Ack => Verdict::Gone,
            Settle::Reject => Verdict::Dead(Death::Rejected),
            Settle::Requeue | Settle::Failed => Verdict::Dead(Death::DeliveryLimit),
        }
    }
}

enum Verdict {
    /// It is ready again.
    Back,
    /// It is settled.
    Gone,
    /// It is given up.
    Dead(Death),
}
