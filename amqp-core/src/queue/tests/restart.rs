//! FEATURES A4, D1: what of a queue's life is in the journal, and what comes of it after a restart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::rig::{Rig, long, text};
use crate::definitions::{Change, Definitions, Fault, Kind};
use crate::journal::{Appended, Body, Durability, Journal, Slot, Stretch};
use crate::message::{Message, MessageRef};
use crate::queue::Settle;
use crate::watermark::Watermark;

/// Definitions and a journal in memory that a second broker can be opened over.
#[derive(Default)]
pub(super) struct Paper {
    records: Mutex<BTreeMap<(Kind, Box<[u8]>), Box<[u8]>>>,
    messages: Mutex<BTreeMap<(u64, u64), Message>>,
    /// What was done, in order.
    story: Mutex<Vec<(&'static str, u64)>>,
    watermark: Arc<Watermark>,
}

impl Definitions for Paper {
    fn load(&self, kind: Kind, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let records = self.records.lock().clone();
        for ((of, key), value) in records.iter().filter(|((of, _), _)| *of == kind) {
            assert_eq!(*of, kind);
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
        &self.watermark
    }
}

impl Journal for Paper {
    fn publish(&self, slot: Slot, message: &MessageRef<'_>, _: Option<Body>) -> Appended {
        let message = message.to_message(&mut Vec::new());
        self.messages.lock().insert((slot.queue, slot.seq), message);
        self.story.lock().push(("publish", slot.queue));
        Appended::default()
    }

    fn settle(&self, queue: u64, seqs: &[u64], _: Option<Durability>) -> u64 {
        let mut messages = self.messages.lock();
        for seq in seqs {
            messages.remove(&(queue, *seq));
            self.story.lock().push(("settle", queue));
        }
        0
    }

    fn forget(&self, queue: u64) {
        self.messages.lock().retain(|(of, _), _| *of != queue);
    }

    fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn written(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    fn last_queue(&self) -> u64 {
        let messages = self.messages.lock();
        messages.keys().map(|(queue, _)| *queue).max().unwrap_or(0)
    }

    fn recovered(&self, queue: u64) -> Vec<Stretch> {
        let messages = self.messages.lock();
        let mut stretches: Vec<Stretch> = Vec::new();
        for ((_, seq), message) in messages.range((queue, 0)..=(queue, u64::MAX)) {
            let bytes = message.view().payload.len() as u64;
            match stretches.last_mut().filter(|last| last.takes(*seq, bytes)) {
                Some(last) => {
                    last.count += 1;
                    last.bytes += bytes;
                }
                None => stretches.push(Stretch {
                    first: *seq,
                    count: 1,
                    bytes,
                }),
            }
        }
        stretches
    }

    fn has(&self, _: u64, _: Range<u64>) -> bool {
        true
    }

    fn fetch(&self, queue: u64, seqs: Range<u64>) -> Vec<(u64, Message)> {
        let messages = self.messages.lock();
        let found = messages.range((queue, seqs.start)..(queue, seqs.end));
        found
            .map(|((_, seq), message)| (*seq, message.clone()))
            .collect()
    }

    fn settled_in(&self) {}
}

fn rig(paper: &Arc<Paper>) -> Rig {
    Rig::over(Arc::clone(paper) as _, Arc::clone(paper) as _)
}

/// FEATURES D1: a crash at any moment repeats a dead letter at most.
#[test]
fn d1_dead_letters_enter_before_they_leave() {
    let paper = Arc::new(Paper::default());
    let mut rig = rig(&paper);
    let dead = rig.declare("dead", &[]).id();
    let to_dead = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    let queue = rig.declare("q", &to_dead).id();
    rig.publish("", "q", b"m");
    let reader = rig.consume("q", |_| {});
    rig.settle(&reader, Settle::Reject);
    let expected = [("publish", queue), ("publish", dead), ("settle", queue)];
    assert_eq!(*paper.story.lock(), expected);
}

/// FEATURES A4: priorities are found again.
#[test]
fn a4_priorities_survive_a_restart() {
    let paper = Arc::new(Paper::default());
    {
        let mut rig = rig(&paper);
        rig.declare("q", &[("x-max-priority", long(9))]);
        for priority in [1, 3, 3, 2, 1] {
            rig.publish_with("", "q", &[b'0' + priority], |properties| {
                properties.priority = Some(priority);
            });
        }
    }
    let mut rig = rig(&paper);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    assert_eq!((queue.view().ready, queue.view().ready_bytes), (5, 5));
    let seen: Vec<_> = std::iter::from_fn(|| rig.get("q")).collect();
    let bodies: String = seen.iter().map(|got| &*got.body).collect();
    assert_eq!(bodies, "33211");
    assert!(seen.iter().all(|got| got.redelivered));
}

/// FEATURES A4: nobody need touch a queue for its messages to expire.
#[test]
fn a4_messages_expire_after_a_restart() {
    let paper = Arc::new(Paper::default());
    {
        let mut rig = rig(&paper);
        rig.declare("q", &[("x-message-ttl", long(500))]);
        rig.publish("", "q", b"m");
    }
    let mut rig = rig(&paper);
    let queue = rig.link.vhost().queue("q").expect("it is durable");
    rig.pass(499);
    assert_eq!(queue.view().ready, 1);
    rig.pass(1);
    assert_eq!(queue.view().ready, 0);
    assert!(paper.messages.lock().is_empty());
}
