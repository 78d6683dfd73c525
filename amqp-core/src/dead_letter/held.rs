//! Dead letters for which there was no time in the turn in which they were given up.
//!
//! Each queue's wait in a line of their own, in order; the core's own turns publish one of each
//! line after the other. Whatever else such a queue gives up stands behind its line, or stays in
//! the queue as long as there is one. What the journal has of them it keeps until they are
//! published.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::Letter;
use crate::limits::{LETTERS_ADDED_MAX, LETTERS_REST_MS};
use crate::time::Time;
use crate::timers::{Due, Timers};
use crate::turn::Turn;

/// See the module.
#[derive(Default)]
pub(crate) struct Held {
    lines: Mutex<Lines>,
    /// How many lines there are, for those who have none.
    count: AtomicUsize,
    /// How many letters stand in them.
    letters: AtomicUsize,
    /// Messages that dead letters have added since they last rested for an alarm.
    added: AtomicUsize,
    /// Until when they rest, if one is set.
    rest: AtomicU64,
}

/// Nothing else is locked while it is.
#[derive(Default)]
struct Lines {
    /// By queue. One whose last letter is being published is still here.
    lines: HashMap<u64, VecDeque<Letter>, RandomState>,
    /// Whose turn it is: all but the one whose letter is being published.
    order: VecDeque<u64>,
    /// Somebody is to look at them.
    is_due: bool,
}

impl Held {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.letters.load(Ordering::Relaxed)
    }

    /// Whether this queue has any, or one that is being published.
    fn has(&self, queue: u64) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lines.lock().lines.contains_key(&queue)
    }

    /// Says whether somebody has to be told to look.
    fn push(&self, letter: Letter) -> bool {
        let mut held = self.lines.lock();
        let Lines { lines, order, .. } = &mut *held;
        let queue = letter.queue.id();
        let line = lines.entry(queue).or_insert_with(|| {
            order.push_back(queue);
            VecDeque::new()
        });
        line.push_back(letter);
        self.letters.fetch_add(1, Ordering::Relaxed);
        self.count.store(held.lines.len(), Ordering::Relaxed);
        !std::mem::replace(&mut held.is_due, true)
    }

    fn take(&self) -> Option<Taken<'_>> {
        let mut held = self.lines.lock();
        let queue = held.order.pop_front()?;
        let letter = held.lines.get_mut(&queue)?.pop_front()?;
        self.letters.fetch_sub(1, Ordering::Relaxed);
        Some(Taken {
            held: self,
            queue,
            letter: Some(letter),
        })
    }

    /// Says whether there are any left to look at.
    fn is_left(&self) -> bool {
        let mut held = self.lines.lock();
        held.is_due = !held.order.is_empty();
        held.is_due
    }

    /// Drops them: what the journal has of them is where it was.
    pub(crate) fn clear(&self) {
        let lines = {
            let mut held = self.lines.lock();
            self.letters.store(0, Ordering::Relaxed);
            self.count.store(0, Ordering::Relaxed);
            std::mem::take(&mut *held)
        };
        drop(lines);
    }
}

/// A letter on its way out; its queue's line goes on behind it, whatever happens to it.
struct Taken<'a> {
    held: &'a Held,
    queue: u64,
    letter: Option<Letter>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut held = self.held.lines.lock();
        let Lines { lines, order, .. } = &mut *held;
        match lines.get(&self.queue) {
            Some(line) if line.is_empty() => {
                lines.remove(&self.queue);
            }
            Some(_) => order.push_back(self.queue),
            None => {}
        }
        self.held.count.store(lines.len(), Ordering::Relaxed);
    }
}

impl Timers {
    /// Whether a dead letter of this queue may be published at once.
    pub(super) fn may_post(&self, now: Time, queue: u64) -> bool {
        self.rests_until(now).is_none() && !self.held.has(queue)
    }

    /// Until when no dead letters are published, if an alarm is set.
    fn rests_until(&self, now: Time) -> Option<Time> {
        let rest = Time(self.held.rest.load(Ordering::Relaxed));
        (rest > now && self.alarms.is_set()).then_some(rest)
    }

    /// When a queue should next try to give something up, if not in this turn.
    pub(crate) fn letters_wait(&self, turn: &Turn, queue: u64) -> Option<Time> {
        let soon = || {
            let wait = !turn.has_room_for_letters() || self.held.has(queue);
            wait.then(|| turn.now.after_ms(1))
        };
        self.rests_until(turn.now).or_else(soon)
    }

    /// A dead letter went to so many queues. It leaves one: while memory or disk are short, those
    /// that add messages are few.
    pub(super) fn note_copies(&self, now: Time, copies: usize) {
        if copies <= 1 || !self.alarms.is_set() {
            return;
        }
        let before = self.held.added.fetch_add(copies - 1, Ordering::Relaxed);
        if before + copies > LETTERS_ADDED_MAX {
            self.held.added.store(0, Ordering::Relaxed);
            let rest = now.after_ms(LETTERS_REST_MS);
            self.held.rest.store(rest.0, Ordering::Relaxed);
        }
    }

    /// Keeps a dead letter for the core's next turn.
    pub(super) fn hold(&self, now: Time, letter: Letter) {
        if self.held.push(letter) {
            self.add(now, Due::Letters);
        }
    }

    /// Publishes held dead letters, as many as a turn may; the rest some time later.
    pub(crate) fn post_held(&self, turn: &mut Turn) {
        while turn.may_post() && self.rests_until(turn.now).is_none() {
            let Some(mut taken) = self.held.take() else {
                break;
            };
            if let Some(letter) = taken.letter.take() {
                letter.post(turn, self);
                turn.count_letter(true);
            }
            drop(taken);
            turn.post();
        }
        if self.held.is_left() {
            let rest = self.rests_until(turn.now);
            self.add(rest.unwrap_or(turn.now.after_ms(1)), Due::Letters);
        }
    }
}
