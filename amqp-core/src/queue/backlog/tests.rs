//! Messages that are paged out come back in their order, each once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::key::Form;
use crate::message::{AmqpOrigin, Head, MessageRef};
use crate::time::Time;

/// A journal that has every persistent message up to a number.
#[derive(Default)]
struct Disk {
    messages: RefCell<BTreeMap<u64, Message>>,
    up_to: u64,
    fetched: RefCell<usize>,
}

impl Pager for Disk {
    fn keeps(&self, entry: &Entry) -> bool {
        entry.message.view().head.persistent
    }

    fn has(&self, stretch: &Stretch) -> bool {
        stretch.end() <= self.up_to
    }

    fn fetch(&self, stretch: &Stretch) -> Vec<(u64, Message)> {
        *self.fetched.borrow_mut() += 1;
        let messages = self.messages.borrow();
        let found = messages.range(stretch.first..stretch.end());
        found
            .map(|(seq, message)| (*seq, message.clone()))
            .collect()
    }
}

fn message(seq: u64, bytes: usize, persistent: bool) -> Message {
    let payload = vec![seq as u8; bytes];
    let message = MessageRef {
        head: Head {
            origin: &AmqpOrigin,
            form: Form::Dotted,
            persistent,
            retain: false,
            publisher: 0,
            received: Time(1),
            expires: None,
        },
        exchange: "",
        key: b"q",
        properties: &[],
        payload: &payload,
    };
    message.to_message(&mut Vec::new())
}

/// Messages 0 to `count`, one in `transient` of which the journal does not have.
fn filled(count: u64, bytes: usize, transient: u64) -> (Backlog, Disk) {
    let mut backlog = Backlog::default();
    let disk = Disk {
        up_to: count,
        ..Disk::default()
    };
    for seq in 0..count {
        let persistent = transient == 0 || seq % transient > 0;
        let message = message(seq, bytes, persistent);
        if persistent {
            disk.messages.borrow_mut().insert(seq, message.clone());
        }
        backlog.push_back(Entry::new(message, seq, false));
    }
    (backlog, disk)
}

fn page_out_all(backlog: &mut Backlog, disk: &Disk) {
    while backlog.page_out(disk, Keep::LITTLE) > 0 {}
}

fn drain(backlog: &mut Backlog, disk: &Disk) -> Vec<u64> {
    let mut lost = 0;
    let popped = std::iter::from_fn(|| backlog.pop_front(disk, &mut lost));
    let seqs = popped.map(|entry| entry.seq()).collect();
    assert_eq!(lost, 0);
    assert_eq!((backlog.len(), backlog.bytes()), (0, 0));
    seqs
}

/// FEATURES D4: what was paged out comes back in order, with transient messages in their places.
#[test]
fn d4_paged_messages_come_back_in_order() {
    for (bytes, transient) in [(10, 0), (10, 3), (10, 600), (5_000, 0), (300_000, 0)] {
        let (mut backlog, disk) = filled(2_000.min(60_000_000 / bytes as u64), bytes, transient);
        let (count, all_bytes) = (backlog.len(), backlog.bytes());
        page_out_all(&mut backlog, &disk);
        assert_eq!((backlog.len(), backlog.bytes()), (count, all_bytes));
        let held = backlog.held_bytes();
        if transient == 0 {
            assert!(
                backlog.paged() >= count - 16,
                "{} of {count}",
                backlog.paged()
            );
            assert!(held < 16 * (bytes as u64 + ENTRY_BYTES) + 8_192, "{held}");
        }
        // New ones come behind the cold ones.
        let next = count as u64;
        backlog.push_back(Entry::new(message(next, bytes, false), next, false));
        assert_eq!(drain(&mut backlog, &disk), (0..=next).collect::<Vec<u64>>());
    }
}

/// What is not on disk yet stays in memory, and is paged out when it is.
#[test]
fn only_what_is_on_disk_is_paged_out() {
    let (mut backlog, mut disk) = filled(3_000, 10, 0);
    disk.up_to = 1_100;
    page_out_all(&mut backlog, &disk);
    assert!(
        (500..=1_100).contains(&backlog.paged()),
        "{}",
        backlog.paged()
    );
    disk.up_to = 3_000;
    page_out_all(&mut backlog, &disk);
    assert!(backlog.paged() >= 2_984);
    assert_eq!(drain(&mut backlog, &disk), (0..3_000).collect::<Vec<u64>>());
}

/// Messages that come back from consumers find their places, also between cold ones.
#[test]
fn messages_are_put_back_where_they_were() {
    let (mut backlog, disk) = filled(2_000, 10, 0);
    let mut out = Vec::new();
    for _ in 0..100 {
        out.extend(backlog.pop_front(&disk, &mut 0));
    }
    // Half of them come back before the rest is paged out, half of them after.
    let (even, odd): (Vec<_>, Vec<_>) = out.into_iter().partition(|entry| entry.seq() % 2 == 0);
    backlog.put_back(even);
    page_out_all(&mut backlog, &disk);
    backlog.put_back(odd);
    assert_eq!(drain(&mut backlog, &disk), (0..2_000).collect::<Vec<u64>>());
}

/// A limit drops from the head without reading it, and a purge names what the journal has.
#[test]
fn dropped_messages_are_not_read() {
    let (mut backlog, disk) = filled(2_000, 10, 7);
    page_out_all(&mut backlog, &disk);
    for seq in 0..1_000 {
        let dropped = backlog.drop_front(&disk).expect("there are more");
        assert_eq!((dropped.seq, dropped.kept), (seq, seq % 7 > 0));
    }
    assert_eq!(*disk.fetched.borrow(), 0);
    let kept = backlog.clear(&disk);
    let expected: Vec<u64> = (1_000..2_000).filter(|seq| seq % 7 > 0).collect();
    assert_eq!(kept, expected);
    assert_eq!((backlog.len(), backlog.bytes()), (0, 0));
    assert_eq!(*disk.fetched.borrow(), 0);
}

/// What a restart found counts as delivered before; what cannot be read is counted as lost.
#[test]
fn what_a_restart_found() {
    let (_, disk) = filled(1_000, 10, 0);
    disk.messages.borrow_mut().remove(&600);
    let stretch = |first, count| Stretch {
        first,
        count,
        bytes: u64::from(count) * 30,
    };
    let mut backlog = Backlog::restored(vec![stretch(100, 400), stretch(600, 400)], false);
    assert_eq!((backlog.len(), backlog.paged()), (800, 800));
    let mut lost = 0;
    let mut seqs = Vec::new();
    while let Some(entry) = backlog.pop_front(&disk, &mut lost) {
        assert!(entry.redelivered());
        seqs.push(entry.seq());
    }
    let expected: Vec<u64> = (100..500).chain(601..1_000).collect();
    assert_eq!((seqs, lost, backlog.bytes()), (expected, 1, 0));
}

/// A queue pages out by itself when it holds so much.
#[test]
fn a_long_queue_pages_out() {
    let mut backlog = Backlog::default();
    let disk = Disk {
        up_to: u64::MAX,
        ..Disk::default()
    };
    for seq in 0..150_000 {
        let message = message(seq, 100, true);
        disk.messages.borrow_mut().insert(seq, message.clone());
        backlog.push_back(Entry::new(message, seq, false));
        backlog.look(&disk);
        assert!(backlog.held_bytes() <= HELD_BYTES + HELD_BYTES / 8);
    }
    assert_eq!(
        drain(&mut backlog, &disk),
        (0..150_000).collect::<Vec<u64>>()
    );
}
