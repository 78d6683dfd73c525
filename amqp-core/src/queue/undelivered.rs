//! Dead letters of a queue that is to lose none, while somebody whom they are for has not taken
//! them.
//!
//! They wait in the order in which they were refused, are tried again some at a time, and count
//! towards the queue's length. The journal has them under their old numbers: a message is held in
//! memory only until it can be read there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Overflow, Queue, State};
use crate::dead_letter::{Death, Letter, Takers};
use crate::journal::{Slot, Stretch};
use crate::limits::{RETRIED_BYTES_MAX, RETRIED_MAX, TAKERS_MAX, UNDELIVERED_AGAIN_MS};
use crate::message::Message;
use crate::sink::Loss;
use crate::time::Time;
use crate::turn::Turn;

/// See the module.
#[derive(Default)]
pub(super) struct Undelivered {
    waiting: VecDeque<Waiting>,
    /// Bytes of their bodies.
    bytes: u64,
    /// When some are tried again.
    retry_at: Option<Time>,
}

/// A dead letter that waits for somebody to take it.
struct Waiting {
    /// Its number in the queue.
    seq: u64,
    /// Unless the journal has it.
    message: Option<Message>,
    /// Who has it already, if anybody does.
    takers: Option<Arc<Takers>>,
    bytes: u32,
    why: Death,
}

const _: () = assert!(size_of::<Waiting>() == 32);

impl Undelivered {
    /// Takes those out of what a restart found that were given up before it.
    pub(super) fn restored(
        stretches: Vec<Stretch>,
        given_up: &[(u64, Death)],
    ) -> (Vec<Stretch>, Option<Box<Self>>) {
        if given_up.is_empty() {
            return (stretches, None);
        }
        let (mut ready, mut found) = (Vec::new(), Self::default());
        for stretch in stretches {
            // How long each is, is not known before it is read.
            let bytes = stretch.bytes / u64::from(stretch.count.max(1));
            let mut first = stretch.first;
            let mut rest = |until: u64| {
                let count = (until - first) as u32;
                let of_these = Stretch {
                    first,
                    count,
                    bytes: bytes * u64::from(count),
                    part_bytes: stretch.part_bytes / u64::from(stretch.count) * u64::from(count),
                    priority: stretch.priority,
                };
                ready.extend((count > 0).then_some(of_these));
                first = until + 1;
            };
            let from = given_up.partition_point(|(seq, _)| *seq < stretch.first);
            let given_up = given_up[from..].iter();
            for (seq, why) in given_up.take_while(|(seq, _)| *seq < stretch.end()) {
                rest(*seq);
                found.push(Waiting {
                    seq: *seq,
                    message: None,
                    takers: None,
                    bytes: clamp(bytes),
                    why: *why,
                });
            }
            rest(stretch.end());
        }
        found.retry_at = Some(Time::default());
        (ready, Some(Box::new(found)))
    }

    /// How many there are, and the bytes of their bodies.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.waiting.len() as u64, self.bytes)
    }

    fn push(&mut self, mut waiting: Waiting) {
        self.bytes += u64::from(waiting.bytes);
        // Those of one time mostly are with the same queues.
        let last = self.waiting.back();
        if let Some(last) = last.filter(|last| last.takers == waiting.takers) {
            waiting.takers.clone_from(&last.takers);
        }
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= u64::from(waiting.bytes);
        if self.waiting.is_empty() {
            *self = Self::default();
        }
        Some(waiting)
    }

    /// They are tried again then, if not before; says when that is.
    fn retry(&mut self, at: Time) -> Option<Time> {
        if self.waiting.is_empty() {
            return None;
        }
        let at = self.retry_at.map_or(at, |before| before.min(at));
        self.retry_at = Some(at);
        Some(at)
    }
}

fn clamp(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl State {
    /// Dead letters that wait, and the bytes of their bodies.
    pub(super) fn undelivered(&self) -> (u64, u64) {
        let ready = self.ready.as_ref();
        let undelivered = ready.and_then(|ready| ready.undelivered.as_ref());
        undelivered.map_or((0, 0), |undelivered| undelivered.size())
    }
}

/// What was found of a message that only the journal has.
enum Found {
    Message(Message),
    /// It is not written yet.
    Later,
    Unreadable,
}

impl Queue {
    /// Somebody has not taken a dead letter, or nobody is there. One of a queue that is to lose
    /// none waits, and is tried again; all others are dropped.
    pub(crate) fn keep_undelivered(
        self: &Arc<Self>,
        turn: &Turn,
        letter: &Letter,
        message: Message,
        takers: Takers,
    ) {
        let mut state = self.state.lock();
        let terms = state.terms();
        let waits = terms.at_least_once && terms.overflow != Overflow::DropHead && !state.deleted;
        let Some(seq) = letter.kept.filter(|_| waits) else {
            if takers.is_empty() {
                self.count_loss(&mut state, Loss::DeadLetter, &message.view());
            }
            return self.forget(letter.kept.as_slice());
        };
        let on_disk = self.is_given_up(seq, letter, &message);
        let known = !takers.is_empty() && takers.len() <= TAKERS_MAX;
        let waiting = Waiting {
            seq,
            bytes: clamp(message.payload_bytes()),
            message: (!on_disk).then_some(message),
            takers: known.then(|| Arc::new(takers)),
            why: letter.why,
        };
        let undelivered = state.ready().undelivered.get_or_insert_default();
        undelivered.push(waiting);
        let at = undelivered.retry(turn.now.after_ms(UNDELIVERED_AGAIN_MS));
        at.into_iter().for_each(|at| self.arm(&state, at));
    }

    /// Has a restart know that a message was given up; says whether the journal will have it when
    /// it is tried again.
    fn is_given_up(&self, seq: u64, letter: &Letter, message: &Message) -> bool {
        let Some(door) = &self.door else {
            return false;
        };
        // What has expired will have expired then.
        if letter.retried || letter.why == Death::Expired {
            return door.journal.has(self.id, seq..seq + 1);
        }
        let slot = Slot {
            queue: self.id,
            seq,
            after: self.record(),
            durability: door.durability,
        };
        door.journal.give_up(slot, &message.view(), letter.why)
    }

    /// All who were to have a dead letter have it: this queue's journal need not keep it any more.
    pub(crate) fn leave(self: &Arc<Self>, turn: &Turn, seq: u64, retried: bool) {
        let mut state = self.state.lock();
        self.forget(&[seq]);
        // There may be room for more.
        if retried
            && let Some(ready) = &mut state.ready
            && let Some(undelivered) = &mut ready.undelivered
            && let Some(at) = undelivered.retry(turn.now.after_ms(1))
        {
            self.arm(&state, at);
        }
    }

    /// A dead letter is dropped.
    pub(crate) fn lose(&self, kept: Option<u64>, message: Option<&Message>) {
        let mut state = self.state.lock();
        match message {
            Some(message) => self.count_loss(&mut state, Loss::DeadLetter, &message.view()),
            None => self.count_unread(&mut state, Loss::DeadLetter, 1),
        }
        self.forget(kept.as_slice());
    }

    /// Tries some dead letters again that somebody has not taken, if it is time.
    pub(super) fn retry_undelivered(self: &Arc<Self>, state: &mut State, turn: &mut Turn) {
        let Some(mut undelivered) = state.ready.as_mut().and_then(|it| it.undelivered.take())
        else {
            return;
        };
        if state.terms().dead_letter_exchange.is_none() {
            let seqs = undelivered.waiting.iter().map(|waiting| waiting.seq);
            let waiting = undelivered.waiting.iter();
            let lost = waiting.filter(|waiting| waiting.takers.is_none()).count();
            self.count_unread(state, Loss::DeadLetter, lost as u64);
            return self.forget(&seqs.collect::<Vec<_>>());
        }
        if undelivered.retry_at.is_some_and(|at| at <= turn.now) {
            let door = self.door.as_ref();
            let wait = door.and_then(|door| door.letters_wait(turn, self.id));
            undelivered.retry_at = wait;
            if wait.is_none() {
                self.retry_some(state, turn, &mut undelivered);
            }
        }
        if let Some(at) = undelivered.retry(turn.now.after_ms(UNDELIVERED_AGAIN_MS)) {
            self.arm(state, at);
            state.ready().undelivered = Some(undelivered);
        }
    }

    fn retry_some(
        self: &Arc<Self>,
        state: &mut State,
        turn: &mut Turn,
        undelivered: &mut Undelivered,
    ) {
        let (mut bytes, mut later) = (0, Vec::new());
        for _ in 0..RETRIED_MAX {
            if bytes >= RETRIED_BYTES_MAX {
                break;
            }
            let Some(waiting) = undelivered.pop() else {
                break;
            };
            let found = waiting
                .message
                .clone()
                .map_or_else(|| self.find(waiting.seq), Found::Message);
            match found {
                Found::Message(message) => {
                    bytes += message.payload_bytes();
                    let letter = self.letter(state, message, Some(waiting.seq), waiting.why);
                    turn.letters.extend(letter.map(|letter| Letter {
                        takers: waiting.takers,
                        retried: true,
                        ..letter
                    }));
                }
                Found::Later => later.push(waiting),
                Found::Unreadable => {
                    self.count_unread(state, Loss::Unreadable, 1);
                    self.forget(&[waiting.seq]);
                }
            }
        }
        later
            .into_iter()
            .for_each(|waiting| undelivered.push(waiting));
    }

    /// Reads a message back that only the journal has.
    fn find(&self, seq: u64) -> Found {
        let Some(door) = &self.door else {
            return Found::Unreadable;
        };
        if !door.journal.has(self.id, seq..seq + 1) {
            return Found::Later;
        }
        let found = self.fetch_one(seq);
        found.map_or(Found::Unreadable, Found::Message)
    }

    /// The same for a dead letter whose turn it is; one that cannot be read is lost.
    pub(crate) fn read_back(&self, seq: u64) -> Option<Message> {
        let found = self.fetch_one(seq);
        if found.is_none() {
            self.count_unread(&mut self.state.lock(), Loss::Unreadable, 1);
            self.forget(&[seq]);
        }
        found
    }
}
