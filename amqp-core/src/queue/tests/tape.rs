//! A journal in memory that says when something is durable, and how it is read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::rig::Rig;
use crate::dead_letter::Death;
use crate::definitions::{Change, Definitions, Fault, Kind};
use crate::journal::{Appended, Body, Durability, Journal, Slot, Stretch};
use crate::message::{Message, MessageRef};
use crate::watermark::Watermark;

/// Definitions and a journal that a second broker can be opened over.
#[derive(Default)]
pub(super) struct Tape {
    records: Mutex<BTreeMap<(Kind, Box<[u8]>), Box<[u8]>>>,
    messages: Mutex<BTreeMap<(u64, u64), Message>>,
    given_up: Mutex<BTreeMap<(u64, u64), Death>>,
    definitions: Arc<Watermark>,
    /// Not 0: nothing is durable before it is said.
    pub(super) slow: AtomicU64,
    pub(super) mark: Arc<Watermark>,
    /// What was published and settled, in order, by queue.
    pub(super) story: Mutex<Vec<(&'static str, u64)>>,
    /// What was read, one after the other.
    pub(super) reads: Mutex<Vec<Range<u64>>>,
}

impl Tape {
    pub(super) fn rig(tape: &Arc<Self>) -> Rig {
        Rig::over(Arc::clone(tape) as _, Arc::clone(tape) as _)
    }

    /// The numbers of a queue's messages.
    pub(super) fn kept(&self, queue: u64) -> Vec<u64> {
        let messages = self.messages.lock();
        let kept = messages.range((queue, 0)..=(queue, u64::MAX));
        kept.map(|((_, seq), _)| *seq).collect()
    }

    /// How many records of a kind there are.
    pub(super) fn recorded(&self, kind: Kind) -> usize {
        let records = self.records.lock();
        records.keys().filter(|(of, _)| *of == kind).count()
    }

    /// Messages are durable some time after they are published from now on.
    pub(super) fn slow_down(&self) {
        self.slow.store(1, Ordering::Relaxed);
    }

    /// Everything is durable.
    pub(super) fn catch_up(&self) {
        self.mark.raise(self.slow.load(Ordering::Relaxed));
    }

    /// Gives an argument of every queue another name, as long as the old one.
    pub(super) fn rename_argument(&self, old: &[u8], new: &[u8]) {
        assert_eq!(old.len(), new.len());
        for ((kind, _), value) in self.records.lock().iter_mut() {
            let at = value.windows(old.len()).position(|window| window == old);
            if let Some(at) = at.filter(|_| *kind == Kind::Queue) {
                value[at..at + new.len()].copy_from_slice(new);
            }
        }
    }

    /// Nobody can read a message any more.
    pub(super) fn lose(&self, queue: u64, seq: u64) {
        self.messages.lock().remove(&(queue, seq));
    }
}

impl Definitions for Tape {
    fn load(&self, kind: Kind, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let records = self.records.lock().clone();
        for ((_, key), value) in records.iter().filter(|((of, _), _)| *of == kind) {
            visit(key, value);
        }
        Ok(())
    }

    fn submit(&self, changes: Vec<Change>) -> u64 {
        let mut records = self.records.lock();
        for change in changes {
            match change {
                Change::Put { kind, key, value } => records.insert((kind, key), value),
                Change::Delete { kind, key } => records.remove(&(kind, key)),
            };
        }
        0
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.definitions
    }
}

impl Journal for Tape {
    fn publish(&self, slot: Slot, message: &MessageRef<'_>, _: Option<Body>) -> Appended {
        let message = message.to_message(&mut Vec::new());
        self.messages.lock().insert((slot.queue, slot.seq), message);
        self.story.lock().push(("publish", slot.queue));
        let number = match self.slow.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.slow.fetch_add(1, Ordering::Relaxed) + 1,
        };
        Appended { number, body: None }
    }

    fn give_up(&self, slot: Slot, _: &MessageRef<'_>, why: Death) -> bool {
        self.given_up.lock().insert((slot.queue, slot.seq), why);
        true
    }

    fn given_up(&self, queue: u64) -> Vec<(u64, Death)> {
        let given_up = self.given_up.lock();
        let found = given_up.range((queue, 0)..=(queue, u64::MAX));
        found.map(|((_, seq), why)| (*seq, *why)).collect()
    }

    fn settle(&self, queue: u64, seqs: &[u64], _: Option<Durability>) -> u64 {
        let mut messages = self.messages.lock();
        for seq in seqs {
            messages.remove(&(queue, *seq));
            self.given_up.lock().remove(&(queue, *seq));
            self.story.lock().push(("settle", queue));
        }
        0
    }

    fn forget(&self, queue: u64) {
        self.messages.lock().retain(|(of, _), _| *of != queue);
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.mark
    }

    fn written(&self) -> &Arc<Watermark> {
        &self.mark
    }

    fn last_queue(&self) -> u64 {
        let messages = self.messages.lock();
        messages.keys().map(|(queue, _)| *queue).max().unwrap_or(0)
    }

    fn recovered(&self, queue: u64) -> Vec<Stretch> {
        let messages = self.messages.lock();
        let mut stretches: Vec<Stretch> = Vec::new();
        for ((_, seq), message) in messages.range((queue, 0)..=(queue, u64::MAX)) {
            let view = message.view();
            let bytes = view.payload.len() as u64;
            stretches.push(Stretch {
                first: *seq,
                count: 1,
                bytes,
                part_bytes: message.part_bytes(),
                priority: view.head.origin.priority(&view),
            });
        }
        stretches
    }

    fn may_expire(&self, queue: u64) -> bool {
        let messages = self.messages.lock();
        let mut held = messages.range((queue, 0)..=(queue, u64::MAX));
        held.any(|(_, message)| message.head().expires.is_some())
    }

    fn has(&self, _: u64, _: Range<u64>) -> bool {
        true
    }

    fn fetch(&self, queue: u64, seqs: Range<u64>) -> Vec<(u64, Message)> {
        self.reads.lock().push(seqs.clone());
        let messages = self.messages.lock();
        let found = messages.range((queue, seqs.start)..(queue, seqs.end));
        found
            .map(|((_, seq), message)| (*seq, message.clone()))
            .collect()
    }

    fn settled_in(&self) {}
}
