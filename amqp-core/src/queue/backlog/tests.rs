//! Messages that are paged out come back in their order, each once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::key::Form;
use crate::message::{AmqpOrigin, Head, MessageRef};
use crate::time::Time;

thread_local! {
    static MOVED: Cell<usize> = const { Cell::new(0) };
}

/// Entries were moved to make way for others.
pub(super) fn note_moved(entries: usize) {
    MOVED.set(MOVED.get() + entries);
}

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

    fn has(&self, seqs: Range<u64>) -> bool {
        seqs.end <= self.up_to
    }

    fn fetch(&self, piece: &Piece) -> Vec<(u64, Message)> {
        *self.fetched.borrow_mut() += 1;
        let messages = self.messages.borrow();
        piece
            .seqs()
            .filter_map(|seq| Some((seq, messages.get(&seq)?.clone())))
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
            exactly_once: false,
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
        part_bytes: u64::from(count) * 31,
        priority: None,
    };
    let mut backlog = Backlog::default();
    for stretch in [stretch(100, 400), stretch(600, 400)] {
        backlog.restore(&stretch, false);
    }
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

/// Small, repeatable, and enough to mix things.
fn shuffle<T>(list: &mut [T]) {
    let mut random = 42_u64;
    for place in (1..list.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        list.swap(place, (random >> 33) as usize % (place + 1));
    }
}

/// However many wait, whatever comes back finds its place without a walk over them: this would
/// never end.
#[test]
fn a4_putting_back_does_not_depend_on_the_length() {
    let (mut backlog, disk) = filled(300_000, 1, 0);
    let mut out: Vec<Entry> = (0..150_000)
        .filter_map(|_| backlog.pop_front(&disk, &mut 0))
        .collect();
    shuffle(&mut out);
    for entry in out {
        backlog.put_back(vec![entry]);
    }
    for _ in 0..3_000 {
        let out = (0..1_000).filter_map(|_| backlog.pop_front(&disk, &mut 0));
        let out = out.collect();
        backlog.put_back(out);
    }
    assert_eq!(backlog.head().map(Entry::seq), Some(0));
    assert_eq!(backlog.held().count(), 300_000);
    let dropped = backlog.drop_front(&disk).map(|dropped| dropped.seq);
    assert_eq!(dropped, Some(0));
    page_out_all(&mut backlog, &disk);
    let all: Vec<u64> = (1..300_000).collect();
    assert_eq!(drain(&mut backlog, &disk), all);
}

/// The same when much is paged out between them: they belong before, between and behind what is on
/// disk, and among those that are not there yet.
#[test]
fn a4_putting_back_among_paged_ones_does_not_depend_on_the_length() {
    const COUNT: u64 = 100_000;
    let (mut backlog, disk) = filled(COUNT, 1, 0);
    let out = (0..COUNT).filter_map(|_| backlog.pop_front(&disk, &mut 0));
    let (even, odd): (Vec<_>, Vec<_>) = out.partition(|entry| entry.seq() % 2 == 0);
    MOVED.set(0);
    backlog.put_back(even);
    assert!(backlog.page_out(&disk, Keep::LITTLE) > 0);
    assert!((1_000..COUNT as usize / 4).contains(&backlog.paged()));
    let mut odd = odd.into_iter();
    // Some come back one by one, in no order, with the rest behind them.
    let mut some: Vec<Entry> = odd.by_ref().take(10_000).collect();
    shuffle(&mut some);
    for entry in some {
        backlog.put_back(vec![entry]);
    }
    backlog.put_back(odd.collect());
    assert_eq!(backlog.len(), COUNT as usize);
    page_out_all(&mut backlog, &disk);
    let moved = MOVED.get();
    assert!(moved < 4 * COUNT as usize, "{moved} entries were moved");
    // What came back behind all that was paged out is paged out as well.
    assert!(backlog.paged() > COUNT as usize * 8 / 10);
    let dropped = backlog.drop_front(&disk).map(|dropped| dropped.seq);
    assert_eq!(dropped, Some(0));
    assert_eq!(drain(&mut backlog, &disk), (1..COUNT).collect::<Vec<u64>>());
}

/// What is read at once fits memory, also where most of it is no body, and also after a restart.
#[test]
fn d4_pieces_are_weighed_by_all_that_is_read() {
    let part_bytes = 100_000;
    let stretch = |first| Stretch {
        first,
        count: 1,
        bytes: 0,
        part_bytes,
        priority: None,
    };
    let mut restored = Backlog::default();
    (0..64).for_each(|first| restored.restore(&stretch(first), false));
    let disk = Disk {
        up_to: u64::MAX,
        ..Disk::default()
    };
    let mut since = Backlog::default();
    let key = vec![b'k'; part_bytes as usize];
    for seq in 0..64 {
        let message = message(seq, 0, true);
        let large = MessageRef {
            key: &key,
            ..message.view()
        };
        let message = large.to_message(&mut Vec::new());
        disk.messages.borrow_mut().insert(seq, message.clone());
        since.push_back(Entry::new(message, seq, false));
    }
    page_out_all(&mut since, &disk);
    for mut backlog in [restored, since] {
        let mut lost = 0;
        while backlog.pop_front(&disk, &mut lost).is_some() {
            let held: u64 = backlog.held().map(|held| held.message.part_bytes()).sum();
            assert!(held <= Stretch::BYTES_MAX, "{held} bytes at once");
        }
        assert_eq!(lost, 0);
    }
}

/// One list of several, each of which has some of the numbers: those of the others do not make it
/// many small pieces.
#[test]
fn d4_lists_with_gaps_page_out_at_once() {
    let mut backlog = Backlog::default();
    let disk = Disk {
        up_to: u64::MAX,
        ..Disk::default()
    };
    let seqs: Vec<u64> = (0..30_000)
        .filter(|seq| seq % 3 == 1 || seq % 7 == 0)
        .collect();
    for seq in 0..30_000 {
        disk.messages
            .borrow_mut()
            .insert(seq, message(seq, 10, true));
    }
    for seq in &seqs {
        backlog.push_back(Entry::new(message(*seq, 10, true), *seq, false));
    }
    assert!(backlog.page_out(&disk, Keep::LITTLE) > 8_000);
    page_out_all(&mut backlog, &disk);
    assert_eq!(backlog.paged(), seqs.len() - 16);
    // Some are dropped, some come back between the others.
    let dropped = (0..1_000).filter_map(|_| backlog.drop_front(&disk));
    let dropped: Vec<u64> = dropped.map(|dropped| dropped.seq).collect();
    assert_eq!(dropped, seqs[..1_000]);
    let back = [2_900, 6_005, 6_008, 29_000];
    assert!(back.iter().all(|seq| !seqs.contains(seq)));
    let entries = back.map(|seq| Entry::new(message(seq, 10, true), seq, true));
    backlog.put_back(entries.into());
    let mut expected: Vec<u64> = seqs[1_000..].iter().chain(&back).copied().collect();
    expected.sort_unstable();
    assert_eq!(drain(&mut backlog, &disk), expected);
    let reads = *disk.fetched.borrow();
    assert!(reads < seqs.len() / 512 + 8, "{reads} reads");
}

/// Messages that the journal does not have are passed, however many there are.
#[test]
fn d4_what_cannot_be_paged_is_passed() {
    let mut backlog = Backlog::default();
    let disk = Disk {
        up_to: u64::MAX,
        ..Disk::default()
    };
    for seq in 0..3_000 {
        let persistent = !(100..1_100).contains(&seq);
        let message = message(seq, 10, persistent);
        if persistent {
            disk.messages.borrow_mut().insert(seq, message.clone());
        }
        backlog.push_back(Entry::new(message, seq, false));
    }
    page_out_all(&mut backlog, &disk);
    assert_eq!(backlog.paged(), 2_000 - 16);
    assert_eq!(drain(&mut backlog, &disk), (0..3_000).collect::<Vec<u64>>());
}

/// FEATURES M16: taken from either end, whatever is paged out, comes back or is dropped, a list is
/// what a sorted list is.
#[test]
fn m16_a_list_has_two_ends() {
    for seed in 1..60_u64 {
        let (mut backlog, disk) = filled(400, 10, [0, 3, 60][seed as usize % 3]);
        let mut model: BTreeSet<u64> = (0..400).collect();
        let (mut out, mut state) = (Vec::new(), seed);
        for _ in 0..1_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let mut lost = 0;
            match (state >> 33) % 9 {
                0..=2 => {
                    let last = backlog.pop_back(&disk, &mut lost);
                    assert_eq!(last.as_ref().map(Entry::seq), model.pop_last());
                    out.extend(last);
                }
                3..=4 => {
                    let first = backlog.pop_front(&disk, &mut lost);
                    assert_eq!(first.as_ref().map(Entry::seq), model.pop_first());
                    out.extend(first);
                }
                5 => {
                    let dropped = backlog.drop_front(&disk).map(|dropped| dropped.seq);
                    assert_eq!(dropped, model.pop_first());
                }
                6 => {
                    backlog.page_out(&disk, Keep::LITTLE);
                }
                // Some come back, or all.
                other => {
                    let some = if other == 7 { out.len() } else { out.len() / 2 };
                    let mut back: Vec<Entry> = out.drain(..some).collect();
                    back.sort_by_key(Entry::seq);
                    model.extend(back.iter().map(Entry::seq));
                    backlog.put_back(back);
                }
            }
            assert_eq!((backlog.len(), lost), (model.len(), 0), "seed {seed}");
        }
        let bytes = model.len() as u64 * 10;
        assert_eq!(backlog.bytes(), bytes, "seed {seed}");
    }
}
