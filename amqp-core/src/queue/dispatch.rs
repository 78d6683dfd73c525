//! How messages enter a queue and leave it for consumers: on the publisher's thread, under the
//! queue's lock.

use std::sync::Arc;

use super::{Entry, Queue, State};
use crate::journal::{Journal, Record};
use crate::message::{Message, MessageRef};
use crate::sink::{Delivery, Loss, Outcome};
use crate::turn::Turn;

/// A message being published to one or many queues: shared at most once.
pub(crate) struct Publication<'a> {
    pub(crate) message: MessageRef<'a>,
    pub(crate) held: Option<Message>,
    pub(crate) journal: &'a dyn Journal,
    /// The highest number that an acknowledgement must wait for.
    pub(crate) journaled: u64,
}

impl Queue {
    /// Takes a message: to a consumer with credit if there is one, else to the end of the list.
    pub(crate) fn offer(self: &Arc<Self>, turn: &mut Turn, what: &mut Publication<'_>) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        if what.message.head.persistent && self.journaled() {
            let record = Record::Publish {
                queue: self.id,
                seq,
                message: &what.message,
            };
            what.journaled = what.journaled.max(what.journal.append(record));
        }
        if state.ready.is_empty() {
            let message = what.message;
            let mut offer = Offer {
                seq,
                redelivered: false,
                message,
                held: &mut what.held,
            };
            if self.try_consumers(&mut state, turn, &mut offer) {
                return;
            }
        }
        if self.direct {
            // R§2.4: QoS 0 is dropped where the client does not keep up or is not there.
            let offline = state.consumers.is_empty();
            state.losses.count(if offline {
                Loss::Offline
            } else {
                Loss::Overflow
            });
            return;
        }
        let scratch = &mut turn.scratch;
        let message = what
            .held
            .get_or_insert_with(|| what.message.to_message(scratch))
            .clone();
        state.ready.push_back(Entry::new(message, seq, false));
        self.enforce_length(&mut state);
    }

    /// Gives one message to the first consumer that takes it, in turn. `false` if nobody has
    /// credit.
    fn try_consumers(
        self: &Arc<Self>,
        state: &mut State,
        turn: &mut Turn,
        offer: &mut Offer<'_>,
    ) -> bool {
        let mut refusals = 0;
        while let Some(place) = state.consumers.next_open()
            && let Some(consumer) = state.consumers.at(place)
        {
            let mut delivery = Delivery {
                consumer: consumer.key,
                queue: self,
                seq: offer.seq,
                redelivered: offer.redelivered,
                now: turn.now,
                message: offer.message,
                held: offer.held,
                scratch: &mut turn.scratch,
            };
            match consumer.sink.deliver(&mut delivery) {
                Outcome::Taken { settled, wake } => {
                    if wake {
                        turn.owe(&consumer.sink);
                    }
                    if !settled && !consumer.no_ack {
                        state.unacked += 1;
                    }
                    state.delivered += 1;
                    return true;
                }
                Outcome::Full => state.consumers.block(place),
                Outcome::Discarded(loss) => {
                    // What one consumer cannot have, another may: it is dropped only if all of them
                    // refuse it, and waits while one has no credit.
                    refusals += 1;
                    let open = state.consumers.open();
                    if loss != Loss::Expired && refusals < open {
                        continue;
                    }
                    if loss != Loss::Expired && open < state.consumers.len() && !self.direct {
                        return false;
                    }
                    state.losses.count(loss);
                    return true;
                }
            }
        }
        false
    }

    /// Hands ready messages on while anybody has credit.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State, turn: &mut Turn) {
        while let Some(entry) = state.ready.pop_front() {
            if self.has_expired(state, &entry, turn) {
                state.losses.count(Loss::Expired);
                continue;
            }
            let mut held = Some(entry.message.clone());
            let mut offer = Offer {
                seq: entry.seq(),
                redelivered: entry.redelivered(),
                message: entry.message.view(),
                held: &mut held,
            };
            if !self.try_consumers(state, turn, &mut offer) {
                state.ready.push_front(entry);
                return;
            }
        }
    }

    /// The consumer has credit again, or is new: it gets what is ready.
    pub fn pull(self: &Arc<Self>, turn: &mut Turn, connection: u64, key: u64) {
        let mut state = self.state.lock();
        if state.consumers.unblock(connection, key) {
            self.dispatch(&mut state, turn);
        }
    }

    /// Takes the first ready message that has not expired, for basic.get.
    pub(crate) fn take_first(&self, turn: &Turn, no_ack: bool) -> Option<Taken> {
        let mut state = self.state.lock();
        state.unused_since = turn.now;
        while let Some(entry) = state.ready.pop_front() {
            if self.has_expired(&state, &entry, turn) {
                state.losses.count(Loss::Expired);
                continue;
            }
            if !no_ack {
                state.unacked += 1;
            }
            state.delivered += 1;
            return Some(Taken {
                seq: entry.seq(),
                redelivered: entry.redelivered(),
                remaining: super::clamp(state.ready.len()),
                message: entry.message,
            });
        }
        None
    }

    fn has_expired(&self, state: &State, entry: &Entry, turn: &Turn) -> bool {
        let message = entry.message.view();
        if message.expired(turn.now) {
            return true;
        }
        let ttl_ms = state
            .given
            .as_ref()
            .and_then(|given| given.parsed.message_ttl_ms);
        ttl_ms.is_some_and(|ttl_ms| message.head.received.after_ms(ttl_ms) <= turn.now)
    }

    /// Drops from the head what exceeds `x-max-length`.
    pub(super) fn enforce_length(&self, state: &mut State) {
        let Some(max) = state
            .given
            .as_ref()
            .and_then(|given| given.parsed.max_length)
        else {
            return;
        };
        while state.ready.len() as u64 > max {
            state.ready.pop_front();
            state.losses.count(Loss::Length);
        }
    }
}

struct Offer<'a> {
    seq: u64,
    redelivered: bool,
    message: MessageRef<'a>,
    held: &'a mut Option<Message>,
}

/// A message taken by basic.get.
#[derive(Debug)]
pub struct Taken {
    /// Its number in the queue.
    pub seq: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// Ready messages that remain.
    pub remaining: u32,
    /// The message.
    pub message: Message,
}
