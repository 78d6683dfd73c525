//! How messages enter a queue and leave it for consumers: on the publisher's thread, under the
//! queue's lock.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Entry, Queue, State};
use crate::journal::{Appended, Body, Slot};
use crate::message::{Message, MessageRef};
use crate::sink::{Delivery, Loss, Outcome};
use crate::turn::Turn;

/// A message being published to one or many queues: shared at most once.
pub(crate) struct Publication<'a> {
    pub(crate) message: MessageRef<'a>,
    pub(crate) held: Option<Message>,
    /// Where the message lies in the journal.
    pub(crate) body: Option<Body>,
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
        if state.waiting() == 0 {
            let message = what.message;
            let mut offer = Offer {
                seq,
                redelivered: false,
                message,
                held: &mut what.held,
            };
            match self.try_consumers(&mut state, turn, &mut offer) {
                Tried::Done => return,
                Tried::Out => return self.keep(seq, what),
                Tried::Nobody => {}
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
        self.keep(seq, what);
        let scratch = &mut turn.scratch;
        let message = what
            .held
            .get_or_insert_with(|| what.message.to_message(scratch))
            .clone();
        state.backlog().push_back(Entry::new(message, seq, false));
        self.enforce_length(&mut state);
        state.backlog().look(self.as_ref());
    }

    /// Writes a message to the journal, if it is one of those that are. With the lock held: nobody
    /// can have settled it yet.
    fn keep(&self, seq: u64, what: &mut Publication<'_>) {
        let Some(door) = self.door.as_ref().filter(|_| self.keeps(&what.message)) else {
            return;
        };
        let slot = Slot {
            queue: self.id,
            seq,
            after: self.record(),
            durability: door.durability,
        };
        let Appended { number, body } = door.journal.publish(slot, &what.message, what.body);
        what.body = body.or(what.body);
        what.journaled = what.journaled.max(number);
    }

    /// Gives one message to the first consumer that takes it, in turn.
    fn try_consumers(
        self: &Arc<Self>,
        state: &mut State,
        turn: &mut Turn,
        offer: &mut Offer<'_>,
    ) -> Tried {
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
                    let out = !settled && !consumer.no_ack;
                    state.unacked += u32::from(out);
                    state.delivered += 1;
                    return if out { Tried::Out } else { Tried::Done };
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
                        return Tried::Nobody;
                    }
                    state.losses.count(loss);
                    return Tried::Done;
                }
            }
        }
        Tried::Nobody
    }

    /// Hands ready messages on while anybody has credit.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State, turn: &mut Turn) {
        let mut gone = Gone::new();
        while let Some(entry) = self.next_ready(state) {
            if self.has_expired(state, &entry, turn) {
                state.losses.count(Loss::Expired);
                self.note(&mut gone, &entry);
                continue;
            }
            let mut held = Some(entry.message.clone());
            let mut offer = Offer {
                seq: entry.seq(),
                redelivered: entry.redelivered(),
                message: entry.message.view(),
                held: &mut held,
            };
            match self.try_consumers(state, turn, &mut offer) {
                Tried::Done => self.note(&mut gone, &entry),
                Tried::Out => {}
                Tried::Nobody => {
                    state.backlog().push_front(entry);
                    break;
                }
            }
        }
        self.forget(&gone);
    }

    /// Takes the first ready message; reads it back if it must.
    fn next_ready(&self, state: &mut State) -> Option<Entry> {
        let mut lost = 0;
        let entry = state.ready.as_mut()?.pop_front(self, &mut lost);
        for _ in 0..lost {
            state.losses.count(Loss::Unreadable);
        }
        entry
    }

    /// Notes a message that was kept and is not wanted any more.
    fn note(&self, gone: &mut Gone, entry: &Entry) {
        if self.keeps(&entry.message.view()) {
            gone.push(entry.seq());
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
        let mut gone = Gone::new();
        let mut taken = None;
        while let Some(entry) = self.next_ready(&mut state) {
            if self.has_expired(&state, &entry, turn) {
                state.losses.count(Loss::Expired);
                self.note(&mut gone, &entry);
                continue;
            }
            if no_ack {
                self.note(&mut gone, &entry);
            } else {
                state.unacked += 1;
            }
            state.delivered += 1;
            taken = Some(Taken {
                seq: entry.seq(),
                redelivered: entry.redelivered(),
                remaining: super::clamp(state.waiting()),
                message: entry.message,
            });
            break;
        }
        self.forget(&gone);
        taken
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
        let mut gone = Gone::new();
        while state.waiting() as u64 > max
            && let Some(dropped) = state.backlog().drop_front(self)
        {
            state.losses.count(Loss::Length);
            if dropped.kept {
                gone.push(dropped.seq);
            }
        }
        self.forget(&gone);
    }
}

/// What became of a message that consumers were tried for.
enum Tried {
    /// It is delivered and settled, or dropped.
    Done,
    /// It waits for its consumer's word.
    Out,
    /// Nobody has credit.
    Nobody,
}

/// Numbers of messages that the journal may forget.
type Gone = SmallVec<[u64; 16]>;

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
