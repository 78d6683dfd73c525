//! How messages enter a queue and leave it for consumers: on the publisher's thread, under the
//! queue's lock.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Entry, Overflow, Queue, State};
use crate::dead_letter::{Death, Letter};
use crate::journal::{Appended, Body, Door, Slot};
use crate::limits::{LETTERS_HELD_MAX, LETTERS_MAX};
use crate::message::{Message, MessageRef};
use crate::sink::{Delivery, Loss, Outcome};
use crate::turn::Turn;

/// A message being published to one or many queues: shared at most once.
pub(crate) struct Publication<'a> {
    pub(crate) message: &'a MessageRef<'a>,
    pub(crate) held: Option<Message>,
    /// Where the message lies in the journal.
    pub(crate) body: Option<Body>,
    /// The highest number that an acknowledgement must wait for.
    pub(crate) journaled: u64,
    /// A full queue has refused it.
    pub(crate) rejected: bool,
}

impl<'a> Publication<'a> {
    pub(crate) fn new(message: &'a MessageRef<'a>) -> Self {
        Self {
            message,
            held: None,
            body: None,
            journaled: 0,
            rejected: false,
        }
    }

    /// The message as something to keep: made once for all who want it.
    pub(super) fn share(&mut self, turn: &mut Turn) -> Message {
        let message = self.message;
        self.held
            .get_or_insert_with(|| message.to_message(&mut turn.scratch))
            .clone()
    }
}

impl Queue {
    /// Takes a message: to a consumer with credit if there is one, else to the end of the list.
    #[inline(always)]
    pub(crate) fn offer(self: &Arc<Self>, turn: &mut Turn, what: &mut Publication<'_>) {
        if self.is_stream {
            return self.append(turn, what);
        }
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let asked = state.given.as_ref().is_some_and(|given| given.asks);
        if asked && self.refuses(&mut state, turn, what) {
            return;
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        if state.waiting() == 0 && !(asked && self.is_clogged(&state, turn)) {
            let mut offer = Offer {
                seq,
                redelivered: false,
                failures: 0,
                message: what.message,
                held: &mut what.held,
            };
            match self.try_consumers(&mut state, turn, &mut offer) {
                Tried::Done => return,
                Tried::Out => return self.keep(seq, what),
                Tried::Nobody => {}
            }
        }
        self.line_up(&mut state, turn, what, seq);
    }

    /// Nobody takes a message now: it goes to the end of the list, if there is one.
    #[inline(never)]
    fn line_up(
        self: &Arc<Self>,
        state: &mut State,
        turn: &mut Turn,
        what: &mut Publication<'_>,
        seq: u64,
    ) {
        if self.direct {
            // R§2.4: QoS 0 is dropped where the client does not keep up or is not there.
            let offline = state.consumers.is_empty();
            let loss = if offline {
                Loss::Offline
            } else {
                Loss::Overflow
            };
            return self.count_loss(state, loss, what.message);
        }
        self.keep(seq, what);
        let entry = Entry::new(what.share(turn), seq, false);
        let max = state.terms().max_priority.unwrap_or_default();
        state.ready().push_back(entry, max, self.as_ref());
        if state.given.is_some() {
            self.enforce_length(state, turn);
            self.watch_head(state, turn);
        } else if state.waiting() == 1 {
            // Else the head is who it was.
            self.watch_head(state, turn);
        }
    }

    /// Whether the queue is full and refuses what is published (`x-overflow`).
    fn refuses(
        self: &Arc<Self>,
        state: &mut State,
        turn: &mut Turn,
        what: &mut Publication<'_>,
    ) -> bool {
        if self.is_capped(state, what) {
            return true;
        }
        let terms = state.terms();
        if terms.overflow == Overflow::DropHead {
            return false;
        }
        // RabbitMQ: with the dead letters that nobody has taken yet.
        let (waiting, waiting_bytes) = state.undelivered();
        let messages = state.waiting() as u64 + waiting;
        let bytes = state.ready_bytes() + waiting_bytes + what.message.payload.len() as u64;
        let too_many = terms.max_length.is_some_and(|max| messages >= max);
        let too_much = terms.max_length_bytes.is_some_and(|max| bytes > max);
        if !too_many && !too_much {
            return false;
        }
        what.rejected = true;
        if terms.overflow == Overflow::RejectPublishDlx {
            if turn.letters.len() >= LETTERS_HELD_MAX {
                self.count_loss(state, Loss::DeadLetter, what.message);
                return true;
            }
            let message = what.share(turn);
            let letter = self.letter(state, message, None, Death::MaxLen);
            turn.letters.extend(letter.map(|letter| Letter {
                refused: true,
                ..letter
            }));
        }
        true
    }

    /// Writes a message to the journal, if it is one of those that are. With the lock held: nobody
    /// can have settled it yet.
    fn keep(&self, seq: u64, what: &mut Publication<'_>) {
        let Some(door) = self
            .door
            .as_ref()
            .filter(|_| self.keeps(&what.message.head))
        else {
            return;
        };
        let slot = Slot {
            queue: self.id,
            seq,
            after: self.record(),
            durability: door.durability,
        };
        let Appended { number, body } = door.journal.publish(slot, what.message, what.body);
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
                failures: offer.failures,
                offset: None,
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
                    self.count_loss(state, loss, offer.message);
                    return Tried::Done;
                }
            }
        }
        Tried::Nobody
    }

    /// Hands ready messages on while anybody has credit.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State, turn: &mut Turn) {
        let mut gone = Gone::new();
        while state.consumers.is_open()
            && !self.is_clogged(state, turn)
            && let Some(entry) = self.next_to_give(state)
        {
            if self.has_expired(state, &entry, turn) {
                self.give_up(state, turn, entry, Death::Expired, &mut gone);
                continue;
            }
            let mut held = Some(entry.message.clone());
            let view = entry.message.view();
            let mut offer = Offer {
                seq: entry.seq(),
                redelivered: entry.redelivered(),
                failures: state.failures(&entry),
                message: &view,
                held: &mut held,
            };
            match self.try_consumers(state, turn, &mut offer) {
                Tried::Done => self.leave_for_good(state, &entry, &mut gone),
                Tried::Out => {}
                Tried::Nobody => {
                    self.keep_to_give(state, entry);
                    break;
                }
            }
        }
        self.forget(&gone);
        if state.waiting() > 0 {
            self.watch_head(state, turn);
        }
    }

    /// Takes the first ready message; reads it back if it must.
    pub(super) fn next_ready(&self, state: &mut State) -> Option<Entry> {
        let mut lost = 0;
        let entry = state.ready.as_mut()?.pop_front(self, &mut lost);
        self.count_unread(state, Loss::Unreadable, lost);
        entry
    }

    /// Notes a message that was kept and is not wanted any more.
    fn note(&self, gone: &mut Gone, entry: &Entry) {
        if self.keeps(entry.message.head()) {
            gone.push(entry.seq());
        }
    }

    /// The same of one that nobody acknowledges.
    #[inline]
    fn leave_for_good(&self, state: &mut State, entry: &Entry, gone: &mut Gone) {
        if entry.redelivered()
            && let Some(ready) = &mut state.ready
        {
            ready.forget_failures(entry.seq());
        }
        self.note(gone, entry);
    }

    /// The consumer has credit again, or is new: it gets what is ready.
    pub fn pull(self: &Arc<Self>, turn: &mut Turn, connection: u64, key: u64) {
        if self.is_stream {
            return self.pull_reader(turn, connection, key);
        }
        let mut state = self.state.lock();
        if state.consumers.unblock(connection, key) || Self::contest(&mut state, connection, key) {
            self.dispatch(&mut state, turn);
        }
        drop(state);
        turn.post();
    }

    /// Takes the first ready message that has not expired, for basic.get.
    /// With no lock held: of many that have expired it hands on some at a time, and finds nothing
    /// behind those for which there is no room.
    pub(crate) fn take_first(self: &Arc<Self>, turn: &mut Turn, no_ack: bool) -> Option<Taken> {
        loop {
            let taken = self.take_now(turn, no_ack);
            if taken.is_some() || turn.letters.len() < LETTERS_MAX {
                return taken;
            }
            turn.post();
        }
    }

    /// Gives up looking when no more dead letters can wait.
    fn take_now(self: &Arc<Self>, turn: &mut Turn, no_ack: bool) -> Option<Taken> {
        let mut state = self.state.lock();
        state.unused_since = turn.now;
        let mut gone = Gone::new();
        let mut taken = None;
        while !self.is_clogged(&state, turn)
            && let Some(entry) = self.next_to_give(&mut state)
        {
            if self.has_expired(&state, &entry, turn) {
                self.give_up(&mut state, turn, entry, Death::Expired, &mut gone);
                continue;
            }
            let failures = state.failures(&entry);
            if no_ack {
                self.leave_for_good(&mut state, &entry, &mut gone);
            } else {
                state.unacked += 1;
            }
            state.delivered += 1;
            taken = Some(Taken {
                seq: entry.seq(),
                redelivered: entry.redelivered(),
                failures,
                remaining: 0,
                message: entry.message,
            });
            break;
        }
        self.forget(&gone);
        self.watch_head(&mut state, turn);
        if let Some(taken) = &mut taken {
            taken.remaining = super::clamp(state.waiting());
        }
        taken
    }

    /// When a ready message is worth nothing any more.
    #[inline]
    pub(super) fn deadline(state: &State, entry: &Entry) -> Option<crate::time::Time> {
        let head = entry.message.head();
        let ttl_ms = state.terms().message_ttl_ms;
        let by_queue = ttl_ms.map(|ttl_ms| head.received.after_ms(ttl_ms));
        match (head.expires, by_queue) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    #[inline]
    fn has_expired(&self, state: &State, entry: &Entry, turn: &Turn) -> bool {
        Self::deadline(state, entry).is_some_and(|at| at <= turn.now)
    }

    /// Drops from the head what has expired, and sees to it that somebody looks when the next one
    /// does. RabbitMQ: messages expire at the head of the queue only.
    pub(super) fn watch_head(self: &Arc<Self>, state: &mut State, turn: &mut Turn) {
        let mut gone = Gone::new();
        while let Some(at) = self.next_deadline(state) {
            if at > turn.now {
                self.arm(state, at);
                break;
            }
            if self.put_off(state, turn) {
                break;
            }
            let Some(entry) = self.next_ready(state) else {
                break;
            };
            self.give_up(state, turn, entry, Death::Expired, &mut gone);
        }
        self.forget(&gone);
    }

    /// When the first ready message expires, if it does; reads it back if it may.
    #[inline]
    fn next_deadline(&self, state: &mut State) -> Option<crate::time::Time> {
        let ready = state.ready.as_ref()?;
        if let Some(head) = ready.head() {
            return Self::deadline(state, head);
        }
        if state.terms().message_ttl_ms.is_none() && !ready.may_expire_on_disk() {
            return None;
        }
        self.bring_head(state);
        let head = state.ready.as_ref()?.head()?;
        Self::deadline(state, head)
    }

    /// Brings the first ready message into memory.
    fn bring_head(&self, state: &mut State) {
        let max = state.terms().max_priority.unwrap_or_default();
        let mut lost = 0;
        if let Some(ready) = &mut state.ready {
            ready.bring_head(max, self, &mut lost);
        }
        self.count_unread(state, Loss::Unreadable, lost);
    }

    /// Drops from the head what exceeds `x-max-length` or `x-max-length-bytes`.
    pub(super) fn enforce_length(self: &Arc<Self>, state: &mut State, turn: &mut Turn) {
        let terms = state.terms();
        let (length, bytes) = (terms.max_length, terms.max_length_bytes);
        if length.is_none() && bytes.is_none() {
            return;
        }
        let read = terms.dead_letter_exchange.is_some();
        let mut gone = Gone::new();
        while state.waiting() > 0
            && (length.is_some_and(|max| state.waiting() as u64 > max)
                || bytes.is_some_and(|max| state.ready_bytes() > max))
        {
            if read {
                if self.put_off(state, turn) {
                    break;
                }
                let Some(entry) = self.next_ready(state) else {
                    break;
                };
                self.give_up(state, turn, entry, Death::MaxLen, &mut gone);
            } else if let Some(dropped) = state.ready().drop_front(self.as_ref()) {
                self.count_losses(state, Loss::Length, dropped.qos, 1, &[]);
                state.ready().forget_failures(dropped.seq);
                if dropped.kept {
                    gone.push(dropped.seq);
                }
            }
        }
        self.forget(&gone);
    }

    /// The turn has published so many dead letters, or this queue has others that wait, that no
    /// more are taken up now: what is left to do is done when the timer rings.
    pub(super) fn put_off(self: &Arc<Self>, state: &State, turn: &Turn) -> bool {
        let Some(door) = self.where_letters_wait(state) else {
            return false;
        };
        let until = door.letters_wait(turn, self.id);
        if let Some(at) = until {
            self.arm(state, at);
        }
        until.is_some()
    }

    /// So many dead letters of this queue wait that it gives no messages that would make more: it
    /// goes on when the timer rings.
    #[inline]
    fn is_clogged(self: &Arc<Self>, state: &State, turn: &Turn) -> bool {
        let Some(door) = self.where_letters_wait(state) else {
            return false;
        };
        let is_clogged = turn.letters.len() >= LETTERS_MAX || door.letters.is_long(self.id);
        if is_clogged {
            let soon = turn.now.after_ms(1);
            self.arm(state, door.letters_wait(turn, self.id).unwrap_or(soon));
        }
        is_clogged
    }

    /// Nowhere, if it makes none.
    #[inline]
    fn where_letters_wait(&self, state: &State) -> Option<&Door> {
        state.terms().dead_letter_exchange.as_ref()?;
        self.door.as_deref()
    }

    /// A message of this queue is given up: dropped and counted, or dead-lettered.
    fn give_up(
        self: &Arc<Self>,
        state: &mut State,
        turn: &mut Turn,
        entry: Entry,
        why: Death,
        gone: &mut Gone,
    ) {
        if let Some(ready) = &mut state.ready {
            ready.forget_failures(entry.seq());
        }
        if state.terms().dead_letter_exchange.is_none() {
            if let Some(loss) = why.loss() {
                self.count_loss(state, loss, &entry.message.view());
            }
            return self.note(gone, &entry);
        }
        let kept = self.keeps(entry.message.head()).then(|| entry.seq());
        self.bury(state, turn, entry.message, kept, why);
    }

    /// Hands a message on to be dead-lettered once no lock is held.
    pub(super) fn bury(
        self: &Arc<Self>,
        state: &State,
        turn: &mut Turn,
        message: Message,
        kept: Option<u64>,
        why: Death,
    ) {
        let letter = self.letter(state, message, kept, why);
        turn.letters.extend(letter);
    }

    /// A message for the queue's dead-letter exchange, if it has one.
    pub(super) fn letter(
        self: &Arc<Self>,
        state: &State,
        message: Message,
        kept: Option<u64>,
        why: Death,
    ) -> Option<Letter> {
        let terms = state.terms();
        Some(Letter {
            queue: Arc::clone(self),
            message: Some(message),
            kept,
            why,
            exchange: terms.dead_letter_exchange.clone()?,
            key: terms.dead_letter_routing_key.clone(),
            takers: None,
            retried: false,
            refused: false,
        })
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
pub(super) type Gone = SmallVec<[u64; 16]>;

struct Offer<'a> {
    seq: u64,
    redelivered: bool,
    failures: u32,
    message: &'a MessageRef<'a>,
    held: &'a mut Option<Message>,
}

/// A message taken by basic.get.
#[derive(Debug)]
pub struct Taken {
    /// Its number in the queue.
    pub seq: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// How many deliveries of it have failed; only quorum queues count.
    pub failures: u32,
    /// Ready messages that remain.
    pub remaining: u32,
    /// The message.
    pub message: Message,
}
