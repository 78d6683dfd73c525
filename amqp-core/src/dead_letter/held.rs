//! Dead letters of a vhost for which there was no time in the turn in which they were given up, or
//! which rest while memory or disk are short.
//!
//! Each queue's wait in a line of their own, in order; the core's own turns publish one of each
//! line after the other. Whatever else such a queue gives up stands behind its line, or stays in
//! the queue as long as there is one. What the journal has of them it keeps until they are
//! published, and where they are many, nobody else holds it.
//!
//! Only letters that would add messages rest: a line whose first is one stands aside.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::Letter;
use crate::journal::Door;
use crate::limits::{
    LETTERS_ADDED_MANY_MAX, LETTERS_ADDED_MAX, LETTERS_HELD_BYTES_MAX, LETTERS_HELD_MAX,
    LETTERS_REST_MS,
};
use crate::time::Time;
use crate::timers::Due;
use crate::turn::Turn;
use crate::vhost::VHost;

/// See the module.
#[derive(Default)]
pub(crate) struct Held {
    lines: Mutex<Lines>,
    /// How many lines there are, for those who have none.
    count: AtomicUsize,
}

/// Nothing else is locked while it is.
#[derive(Default)]
struct Lines {
    /// By queue. One whose last letter is being published is still here.
    lines: HashMap<u64, Line, RandomState>,
    /// Whose turn it is: all but the one whose letter is being published, and those that rest.
    order: VecDeque<u64>,
    /// Those that rest, likewise.
    resting: VecDeque<u64>,
    /// How many letters there are.
    letters: usize,
    /// What they take in memory, about.
    bytes: u64,
    /// There was no room for one of a refused message: no other is taken before all are gone, so
    /// that those which full queues make of each other's come to an end.
    is_full: bool,
    /// Messages that dead letters have added since they last rested for an alarm.
    added: usize,
    /// Until when those that would add some rest, if one is set.
    rest: Time,
    /// When somebody is to look at them: a timer that rings before is for nothing.
    due: Option<Time>,
}

#[derive(Default)]
struct Line {
    letters: VecDeque<Letter>,
    rests: bool,
}

/// What a letter takes beside its message, about.
const LETTER_BYTES: u64 = 256;

fn bytes(letter: &Letter) -> u64 {
    let message = letter.message.as_ref();
    message.map_or(0, |message| message.bytes() + LETTER_BYTES)
}

impl Held {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().letters
    }

    /// What they take in memory, about.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.lines.lock().bytes
    }

    /// What is asked of a queue's line, if it has one.
    fn line<T>(&self, queue: u64, ask: impl FnOnce(&Lines, &Line) -> T) -> Option<T> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let held = self.lines.lock();
        held.lines.get(&queue).map(|line| ask(&held, line))
    }

    /// Whether this queue has any, or one that is being published.
    pub(super) fn has(&self, queue: u64) -> bool {
        self.line(queue, |_, _| ()).is_some()
    }

    /// Whether this queue has so many that it should make no more.
    pub(crate) fn is_long(&self, queue: u64) -> bool {
        let is_long = |_: &Lines, line: &Line| line.letters.len() >= LETTERS_HELD_MAX;
        self.line(queue, is_long).unwrap_or(false)
    }

    /// Whether there is room in memory for one more.
    fn has_room(&self, letter: &Letter) -> bool {
        let mut held = self.lines.lock();
        let has_room = held.bytes + bytes(letter) <= LETTERS_HELD_BYTES_MAX;
        held.is_full |= letter.refused && !has_room;
        has_room && !(letter.refused && held.is_full)
    }

    fn push(&self, letter: Letter, rests: bool) {
        let mut held = self.lines.lock();
        let Lines {
            lines,
            order,
            resting,
            ..
        } = &mut *held;
        let queue = letter.queue.id();
        let bytes = bytes(&letter);
        let line = lines.entry(queue).or_insert_with(|| {
            let waiting = if rests { resting } else { order };
            waiting.push_back(queue);
            Line {
                rests,
                ..Line::default()
            }
        });
        line.letters.push_back(letter);
        held.letters += 1;
        held.bytes += bytes;
        self.count.store(held.lines.len(), Ordering::Relaxed);
    }

    /// Takes the next one; of those that rest, if they may go on.
    fn take(&self, go_on: bool) -> Option<Taken<'_>> {
        let mut held = self.lines.lock();
        let rested = go_on.then(|| held.resting.pop_front()).flatten();
        let queue = rested.or_else(|| held.order.pop_front())?;
        let line = held.lines.get_mut(&queue)?;
        line.rests = false;
        let letter = line.letters.pop_front()?;
        held.letters -= 1;
        held.bytes -= bytes(&letter);
        Some(Taken {
            held: self,
            queue,
            letter: Some(letter),
        })
    }

    /// Drops them: what the journal has of them is where it was.
    pub(crate) fn clear(&self) {
        let lines = {
            let mut held = self.lines.lock();
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
    /// Given back, it rests, and its line with it.
    letter: Option<Letter>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut held = self.held.lines.lock();
        let Some(line) = held.lines.get_mut(&self.queue) else {
            return;
        };
        if let Some(letter) = self.letter.take() {
            let bytes = bytes(&letter);
            line.letters.push_front(letter);
            line.rests = true;
            held.letters += 1;
            held.bytes += bytes;
            held.resting.push_back(self.queue);
        } else if line.letters.is_empty() {
            held.lines.remove(&self.queue);
        } else {
            held.order.push_back(self.queue);
        }
        held.is_full &= !held.lines.is_empty();
        self.held.count.store(held.lines.len(), Ordering::Relaxed);
    }
}

impl Door {
    /// Whether dead letters that would add messages rest.
    pub(super) fn letters_rest(&self, now: Time) -> bool {
        self.timers.alarms.is_set() && self.letters.lines.lock().rest > now
    }

    /// When a queue should next try to give something up, if not in this turn.
    pub(crate) fn letters_wait(&self, turn: &Turn, queue: u64) -> Option<Time> {
        let soon = turn.now.after_ms(1);
        let wait = |held: &Lines, line: &Line| match line.rests {
            true => held.rest.max(soon),
            false => soon,
        };
        let is_full = !turn.has_room_for_letters();
        self.letters
            .line(queue, wait)
            .or_else(|| is_full.then_some(soon))
    }

    /// A dead letter has left one message and added so many: while memory or disk are short, these
    /// are few.
    pub(super) fn note_added(&self, now: Time, added: usize) {
        if added == 0 || !self.timers.alarms.is_set() {
            return;
        }
        let mut held = self.letters.lines.lock();
        held.added += added;
        // Those that wait are room as well.
        let many = held.letters / (LETTERS_HELD_MAX / LETTERS_ADDED_MANY_MAX);
        if held.added >= many.clamp(LETTERS_ADDED_MAX, LETTERS_ADDED_MANY_MAX) {
            held.added = 0;
            held.rest = now.after_ms(LETTERS_REST_MS);
        }
    }

    /// Keeps a dead letter for the core's next turn, or, if it rests, for a later one.
    pub(super) fn hold(&self, now: Time, mut letter: Letter, rests: bool) {
        if !self.letters.has_room(&letter) {
            let queue = letter.queue.id();
            if letter.refused {
                return letter.queue.lose(None, letter.message.as_ref());
            }
            if let Some(seq) = letter.kept
                && self.journal.has(queue, seq..seq + 1)
            {
                letter.message = None;
            }
        }
        self.letters.push(letter, rests);
        self.see_to_letters(now, now);
    }

    /// Sees to it that somebody looks at held dead letters: at those that do not rest then.
    fn see_to_letters(&self, now: Time, at: Time) {
        let mut held = self.letters.lines.lock();
        let rest = held.rest.max(now.after_ms(1));
        let resting = (!held.resting.is_empty()).then_some(rest);
        let others = (!held.order.is_empty()).then_some(at);
        let Some(at) = resting.into_iter().chain(others).min() else {
            return;
        };
        if held.due.is_none_or(|due| at < due) {
            held.due = Some(at);
            drop(held);
            self.timers.add(at, Due::Letters(self.vhost.clone()));
        }
    }

    /// A timer has rung: whether it is for this.
    fn letters_are_due(&self, now: Time) -> bool {
        let mut held = self.letters.lines.lock();
        let due = held.due.take_if(|due| *due <= now);
        due.is_some()
    }
}

impl VHost {
    /// Publishes held dead letters, as many as a turn may; the rest some time later.
    pub(crate) fn post_held(&self, turn: &mut Turn) {
        let door = self.door();
        if !door.letters_are_due(turn.now) {
            return;
        }
        while turn.may_post()
            && let Some(mut taken) = door.letters.take(!door.letters_rest(turn.now))
        {
            if let Some(letter) = taken.letter.take() {
                taken.letter = letter.post(turn, self);
                turn.count_letter(true);
            }
            // Those that come of it wait while this one's line is there.
            turn.hold_letters();
            drop(taken);
        }
        door.see_to_letters(turn.now, turn.now.after_ms(1));
    }
}
