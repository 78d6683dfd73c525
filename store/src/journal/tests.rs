//! The journal on a disk that loses, tears and fails.

mod damage;
mod disk;
mod told;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leveret_core::key::Form;
use leveret_core::message::{AmqpOrigin, Head};
use leveret_core::time::Time;
use leveret_core::watermark::Wake;

use super::*;
use disk::MemoryDisk;

const OPTIONS: Options = Options {
    segment_bytes: 16 * 1_024,
    interval: Duration::from_millis(200),
};

fn open(disk: &Arc<MemoryDisk>) -> JournalFile {
    try_open(disk).expect("it opens")
}

fn try_open(disk: &Arc<MemoryDisk>) -> Result<JournalFile, Fault> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    JournalFile::open(disk, &OPTIONS, &[&AmqpOrigin], Arc::default())
}

fn message(payload: &[u8]) -> MessageRef<'_> {
    MessageRef {
        head: Head {
            origin: &AmqpOrigin,
            form: Form::Slashed,
            persistent: true,
            exactly_once: true,
            retain: true,
            publisher: 7,
            received: Time(1_700_000_000_000),
            expires: Some(Time(1_700_000_001_000)),
        },
        exchange: "amq.topic",
        key: b"cities/london",
        properties: b"\x10\x00\x02",
        payload,
    }
}

fn slot(queue: u64, seq: u64) -> Slot {
    Slot {
        queue,
        seq,
        after: 0,
        durability: Durability::Group,
    }
}

/// Waits until everything up to this is durable; `false` if it never will be.
fn wait(journal: &JournalFile, number: u64) -> bool {
    reaches(journal.watermark(), number)
}

fn reaches(mark: &Watermark, number: u64) -> bool {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    struct Tell(std::sync::mpsc::SyncSender<()>);
    impl Wake for Tell {
        fn wake(&self) {
            let _ = self.0.try_send(());
        }
    }
    let tell: Arc<dyn Wake> = Arc::new(Tell(sender));
    while mark.wait(number, &tell) {
        // Who waits is woken when it rises, and when it never will.
        receiver.recv().expect("somebody wakes it");
        if mark.has_failed() {
            return false;
        }
    }
    true
}

fn recovered(journal: &JournalFile, queue: u64) -> Vec<(u64, Vec<u8>)> {
    let all = messages(journal, queue).into_iter();
    all.map(|(seq, message)| (seq, message.view().payload.to_vec()))
        .collect()
}

fn messages(journal: &JournalFile, queue: u64) -> Vec<(u64, Message)> {
    let stretches = journal.recovered(queue).into_iter();
    stretches
        .flat_map(|stretch| {
            let found = journal.fetch(queue, stretch.first..stretch.end());
            assert_eq!(found.len(), stretch.count as usize);
            found
        })
        .collect()
}

/// FEATURES D1, D2: what was confirmed and not settled is there again, as it was.
#[test]
fn what_is_wanted_comes_back() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let first = journal.publish(slot(1, 1), &message(b"one"), None);
    journal.publish(slot(2, 1), &message(b"one"), first.body);
    journal.publish(slot(1, 2), &message(b"two"), None);
    journal.publish(slot(3, 9), &message(b"nine"), None);
    journal.settle(1, &[1, 77], None);
    journal.forget(3);
    let last = journal.publish(slot(1, 3), &message(b""), None);
    assert!(wait(&journal, last.number));
    drop(journal);

    let journal = open(&disk);
    assert_eq!(journal.last_queue(), 3);
    assert_eq!(
        recovered(&journal, 1),
        [(2, b"two".to_vec()), (3, Vec::new())]
    );
    let again = messages(&journal, 2);
    assert_eq!(again.len(), 1);
    let view = again[0].1.view();
    assert_eq!(
        (view.exchange, view.key),
        ("amq.topic", &b"cities/london"[..])
    );
    assert_eq!(
        (view.properties, view.payload),
        (&b"\x10\x00\x02"[..], &b"one"[..])
    );
    let expected = message(b"").head;
    assert_eq!(
        (view.head.form, view.head.exactly_once, view.head.retain),
        (expected.form, expected.exactly_once, expected.retain)
    );
    assert_eq!(view.head.received, expected.received);
    assert_eq!(view.head.expires, expected.expires);
    assert!(recovered(&journal, 3).is_empty());
    assert!(recovered(&journal, 1).is_empty(), "once");
}

/// What was asked of the journal, and what of that is durable.
#[derive(Default)]
struct Oracle {
    /// Of each queue: what is wanted, and whether it is surely on disk.
    wanted: BTreeMap<u64, BTreeMap<u64, bool>>,
    /// What is surely settled.
    gone: BTreeSet<(u64, u64)>,
    seqs: BTreeMap<u64, u64>,
}

impl Oracle {
    /// Nothing that was durable is lost, nothing that was settled is back.
    fn check(&mut self, journal: &JournalFile) {
        for (queue, held) in &mut self.wanted {
            let back = recovered(journal, *queue);
            let back: BTreeSet<u64> = back.iter().map(|(seq, _)| *seq).collect();
            for (seq, durable) in held.iter() {
                assert!(!durable || back.contains(seq), "{queue}/{seq} is lost");
            }
            for seq in &back {
                assert!(
                    !self.gone.contains(&(*queue, *seq)),
                    "{queue}/{seq} is back"
                );
            }
            held.retain(|seq, _| back.contains(seq));
            held.values_mut().for_each(|durable| *durable = true);
        }
    }

    fn next_seq(&mut self, queue: u64, step: u64) -> u64 {
        let seq = self.seqs.entry(queue).or_default();
        *seq += step;
        *seq
    }

    fn publish(&mut self, journal: &JournalFile, next: &mut impl FnMut() -> u64) {
        let queue = next() % 5 + 1;
        let seq = self.next_seq(queue, 1 + next() % 2);
        let payload = vec![b'x'; next() as usize % 3_000];
        let appended = journal.publish(slot(queue, seq), &message(&payload), None);
        let durable = next().is_multiple_of(4) && wait(journal, appended.number);
        self.wanted.entry(queue).or_default().insert(seq, durable);
    }

    fn settle(&mut self, journal: &JournalFile, next: &mut impl FnMut() -> u64) {
        let queue = next() % 5 + 1;
        let held = self.wanted.entry(queue).or_default();
        let settled: Vec<u64> = held
            .keys()
            .copied()
            .filter(|_| next().is_multiple_of(3))
            .collect();
        held.retain(|seq, _| !settled.contains(seq));
        journal.settle(queue, &settled, None);
        // Something behind it, to wait for.
        let seq = self.next_seq(99, 1);
        let behind = journal.publish(slot(99, seq), &message(b""), None);
        if next().is_multiple_of(2) && wait(journal, behind.number) {
            self.gone.extend(settled.iter().map(|seq| (queue, *seq)));
        }
    }
}

/// FEATURES D1: a power cut at any moment loses nothing that was durable and brings back nothing
/// whose settling was.
#[test]
fn d1_power_cuts_lose_nothing_that_was_confirmed() {
    let mut random = 42_u64;
    let mut next = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random >> 33
    };
    let mut disk = Arc::new(MemoryDisk::default());
    let mut oracle = Oracle::default();
    for _ in 0..200 {
        let journal = open(&disk);
        oracle.check(&journal);
        journal.settled_in();
        for _ in 0..next() % 60 {
            if next().is_multiple_of(2) {
                oracle.publish(&journal, &mut next);
            } else {
                oracle.settle(&journal, &mut next);
            }
        }
        disk = Arc::new(disk.after_power_cut(&mut next));
        drop(journal);
    }
    let names = disk.names();
    assert!(names.len() < 60, "what nobody wants is removed: {names:?}");
    let whole = names.iter().all(|name| name.ends_with(".log"));
    assert!(whole, "nothing is damaged: {names:?}");
}

/// Some messages of some queues, each batch on its own: what the undamaged journal has.
fn filled(disk: &Arc<MemoryDisk>) -> BTreeMap<u64, Vec<(u64, Vec<u8>)>> {
    let journal = open(disk);
    for seq in 0..60 {
        let payload = vec![seq as u8; 100 + seq as usize * 7];
        let first = journal.publish(slot(1, seq), &message(&payload), None);
        let last = journal.publish(slot(2, seq), &message(&payload), first.body);
        assert!(wait(&journal, last.number));
        if seq % 3 == 0 {
            journal.settle(1, &[seq], None);
        }
    }
    drop(journal);
    let copy = Arc::new(disk.copy());
    let journal = open(&copy);
    (1..=2)
        .map(|queue| (queue, recovered(&journal, queue)))
        .collect()
}

/// FEATURES D2: a flipped bit anywhere costs at most the record that it is in; the rest boots, and
/// boots again.
#[test]
fn d2_a_flipped_bit_costs_one_record() {
    let disk = Arc::new(MemoryDisk::default());
    let whole = filled(&disk);
    let name = disk.names()[1].clone();
    let used = disk
        .bytes(&name)
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("it is used");
    for at in (0..=used).step_by(37) {
        let damaged = Arc::new(disk.copy());
        damaged.change(&name, |bytes| bytes[at] ^= 1 << (at % 8));
        for start in 0..2 {
            let journal = open(&damaged);
            let (mut missing, mut returned) = (0, 0);
            for (queue, messages) in &whole {
                let back = recovered(&journal, *queue);
                let lost = messages.iter().filter(|message| !back.contains(message));
                missing += lost.count();
                let settled = back.iter().filter(|message| !messages.contains(message));
                returned += settled.count();
            }
            let place = format!("bit in byte {at}, start {start}");
            assert!(missing <= 2, "{place}: {missing} are missing");
            assert!(returned <= 1, "{place}: {returned} were settled");
            drop(journal);
        }
        let aside = damaged
            .names()
            .iter()
            .filter(|name| name.ends_with(".damaged"))
            .count();
        assert!(aside <= 1, "byte {at}");
    }
}

/// FEATURES D2: a file cut anywhere leaves what was before the cut.
#[test]
fn d2_a_torn_tail_is_cut() {
    let disk = Arc::new(MemoryDisk::default());
    let whole = filled(&disk);
    let name = disk.names().pop().expect("there are files");
    let bytes = disk.bytes(&name).len();
    for at in (0..bytes).step_by(211) {
        let torn = Arc::new(disk.copy());
        torn.change(&name, |bytes| {
            if at % 2 == 0 {
                bytes.truncate(at);
            } else {
                bytes[at..].fill(0);
            }
        });
        let journal = open(&torn);
        for (queue, messages) in &whole {
            let back = recovered(&journal, *queue);
            let seqs = |all: &[(u64, Vec<u8>)]| all.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
            let expected: Vec<u64> = seqs(messages);
            let found: Vec<u64> = seqs(&back).into_iter().filter(|seq| seq % 3 != 0).collect();
            let kept: Vec<u64> = expected.into_iter().filter(|seq| seq % 3 != 0).collect();
            assert!(kept.starts_with(&found), "cut at {at}: {found:?}");
        }
    }
}

/// FEATURES D3: while the disk is full nothing is confirmed; when there is room it all is.
#[test]
fn d3_a_full_disk_is_waited_for() {
    let disk = Arc::new(MemoryDisk::default());
    disk.fate().room.store(0, Ordering::Relaxed);
    let journal = open(&disk);
    let appended = journal.publish(slot(1, 1), &message(b"patient"), None);
    assert!(journal.watermark().durable() < appended.number);
    disk.fate().room.store(i64::MAX, Ordering::Relaxed);
    assert!(wait(&journal, appended.number));
    assert_eq!(journal.fault(), None);
    drop(journal);
    assert_eq!(recovered(&open(&disk), 1), [(1, b"patient".to_vec())]);
}

/// A message is confirmed when its queue's definition is on disk, also if nothing is written to the
/// journal after that.
#[test]
fn d1_what_waits_for_its_queue_is_confirmed_with_it() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let definitions = Arc::new(Watermark::default());
    let after = Arc::clone(&definitions);
    let journal = JournalFile::open_by_hand(disk, &OPTIONS, &[&AmqpOrigin], after);
    let journal = journal.expect("it opens");
    let waits = Slot {
        after: 1,
        ..slot(1, 1)
    };
    let appended = journal.publish(waits, &message(b"early"), None);
    assert!(journal.step().expect("is written"));
    assert!(journal.watermark().durable() < appended.number);
    definitions.raise(1);
    assert!(!journal.step().expect("there is nothing to write"));
    assert!(journal.watermark().durable() >= appended.number);
}

/// An orderly stop waits for no interval, whether what is appended is written already or not.
#[test]
fn what_could_wait_can_be_hurried() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let patient = Options {
        interval: Duration::from_secs(100_000),
        ..OPTIONS
    };
    let journal = JournalFile::open(disk, &patient, &[&AmqpOrigin], Arc::default());
    let journal = journal.expect("it opens");
    for seq in 0..2 {
        let slot = Slot {
            durability: Durability::Interval,
            ..slot(1, seq)
        };
        let number = journal.publish(slot, &message(b"x"), None).number;
        while seq == 0 && journal.written().durable() < number {
            thread::yield_now();
        }
        assert_eq!(journal.flush(), number);
        assert!(wait(&journal, number));
    }
}

/// FEATURES D1, D3: after a failed sync nothing is confirmed, and what was before is there.
#[test]
fn d3_a_failed_sync_confirms_nothing() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let before = journal.publish(slot(1, 1), &message(b"before"), None);
    assert!(wait(&journal, before.number));
    disk.fate().syncs.store(0, Ordering::Relaxed);
    let after = journal.publish(slot(1, 2), &message(b"after"), None);
    assert!(!wait(&journal, after.number), "it is not durable");
    let later = journal.publish(slot(1, 3), &message(b"later"), None);
    assert!(!wait(&journal, later.number));
    assert!(journal.fault().is_some());
    drop(journal);
    let again = Arc::new(disk.copy());
    assert!(recovered(&open(&again), 1).contains(&(1, b"before".to_vec())));
}

/// What is not wanted goes, what is wanted among it is copied on, and comes back all the same.
#[test]
fn segments_that_nobody_wants_are_removed() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let payload = [7; 500];
    let mut last = 0;
    for seq in 0..2_000 {
        // One in a hundred stays, and so does one message of a queue that nobody reads.
        last = journal
            .publish(slot(1, seq), &message(&payload), None)
            .number;
        if seq == 0 {
            journal.publish(slot(2, 0), &message(b"old"), None);
        }
        if seq % 100 != 0 {
            journal.settle(1, &[seq], None);
        }
        if seq % 20 == 0 {
            assert!(wait(&journal, last));
        }
    }
    assert!(wait(&journal, last));
    drop(journal);
    let names = disk.names();
    assert!(names.len() <= 12, "{names:?}");
    let journal = open(&disk);
    let back: Vec<u64> = recovered(&journal, 1)
        .into_iter()
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(back, (0..2_000).step_by(100).collect::<Vec<u64>>());
    assert_eq!(recovered(&journal, 2), [(0, b"old".to_vec())]);
}

/// FEATURES D2: whatever a publisher puts into a message, no start takes it for a record.
#[test]
fn d2_a_payload_is_never_read_as_a_record() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let mut forged = Vec::new();
    let mark = record::Mark {
        number: 9_000,
        synced: 8_999,
        segment: 1,
    };
    for seal in [record::Seal::new(0), record::Seal::new(1)] {
        let at = forged.len();
        record::batch(&mut forged, mark);
        record::seal(&mut forged[at..], seal);
        let at = forged.len();
        record::settle(&mut forged, 2, &[1]);
        record::seal(&mut forged[at..], seal);
    }
    journal.publish(slot(2, 1), &message(b"wanted"), None);
    let last = journal.publish(slot(1, 1), &message(&forged), None);
    assert!(wait(&journal, last.number));
    let name = disk.names()[0].clone();
    drop(journal);
    let bytes = disk.bytes(&name);
    let at = bytes.windows(forged.len()).position(|part| part == forged);
    let at = at.expect("it is there");
    // With the end that a clean stop marks this is damage, without it a torn end.
    for end in [bytes.len(), at + forged.len()] {
        let damaged = Arc::new(disk.copy());
        damaged.change(&name, |bytes| {
            bytes[at - 1] ^= 1;
            bytes.truncate(end);
        });
        let journal = open(&damaged);
        assert_eq!(recovered(&journal, 2), [(1, b"wanted".to_vec())], "{end}");
        assert!(recovered(&journal, 1).is_empty());
    }
}

/// FEATURES D2: either copy of a segment's header is enough.
#[test]
fn d2_half_a_header_is_enough() {
    let disk = Arc::new(MemoryDisk::default());
    let whole = filled(&disk);
    let name = disk.names()[0].clone();
    for half in [0..32, 32..64] {
        let damaged = Arc::new(disk.copy());
        damaged.change(&name, |bytes| bytes[half].fill(0xa5));
        for start in 0..2 {
            let journal = open(&damaged);
            for (queue, messages) in &whole {
                assert_eq!(&recovered(&journal, *queue), messages, "start {start}");
            }
        }
    }
}

/// FEATURES D1: with durability none and interval the operating system has what is acknowledged;
/// with interval the disk has it some time later, with none it is asked for nothing.
#[test]
fn d1_what_is_written_and_what_is_synced() {
    for (durability, is_synced) in [(Durability::Interval, true), (Durability::None, false)] {
        let disk = Arc::new(MemoryDisk::default());
        let journal = open(&disk);
        let slot = Slot {
            durability,
            ..slot(1, 1)
        };
        let appended = journal.publish(slot, &message(b"written"), None);
        assert!(reaches(journal.written(), appended.number));
        if is_synced {
            assert!(wait(&journal, appended.number));
        }
        let synced = journal.watermark().durable() >= appended.number;
        assert_eq!(synced, is_synced, "{durability:?}");
        let cut = Arc::new(disk.after_power_cut(|| 1));
        let killed = Arc::new(disk.copy());
        assert_eq!(recovered(&open(&killed), 1).len(), 1, "{durability:?}");
        let back = recovered(&open(&cut), 1).len();
        assert_eq!(back, usize::from(is_synced), "{durability:?}");
    }
}

/// Messages are fetched from wherever they lie, also while they are copied.
#[test]
fn messages_are_fetched_while_they_are_copied() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let mut last = 0;
    for seq in 0..400 {
        let payload = vec![seq as u8; 200];
        let first = journal.publish(slot(1, seq), &message(&payload), None);
        last = journal
            .publish(slot(2, seq), &message(&payload), first.body)
            .number;
        journal.publish(slot(3, seq), &message(&[0; 700]), None);
        journal.settle(3, &[seq], None);
        if seq % 10 == 0 {
            assert!(wait(&journal, last));
            for queue in [1, 2] {
                assert!(journal.has(queue, 0..seq));
                assert!(
                    !journal.has(queue, 0..seq + 2),
                    "it does not know all of these"
                );
                let found = journal.fetch(queue, 0..seq);
                let seqs: Vec<u64> = found.iter().map(|(seq, _)| *seq).collect();
                assert_eq!(seqs, (0..seq).collect::<Vec<u64>>());
                for (seq, message) in found {
                    assert_eq!(message.view().payload, vec![seq as u8; 200]);
                }
            }
        }
    }
    assert!(wait(&journal, last));
    let copied = disk.names()[0] > segment::name(2);
    assert!(copied, "the first ones are gone: {:?}", disk.names());
}

/// FEATURES D1: a file goes only when what has taken the place of its last message is on disk.
#[test]
fn d1_what_replaces_a_message_is_on_disk_before_its_file_goes() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let first = journal.publish(slot(1, 1), &message(b"first"), None);
    assert!(wait(&journal, first.number));
    let unsynced = |queue, seq| Slot {
        durability: Durability::None,
        ..slot(queue, seq)
    };
    // The first file is full: it is synced then, and another is begun.
    let mut seq = 0;
    while disk.names().len() < 2 {
        let appended = journal.publish(unsynced(9, seq), &message(&[0; 700]), None);
        journal.settle(9, &[seq], Some(Durability::None));
        assert!(reaches(journal.written(), appended.number));
        seq += 1;
    }
    let second = journal.publish(unsynced(1, 2), &message(b"second"), None);
    journal.settle(1, &[1], Some(Durability::None));
    let behind = journal.publish(unsynced(9, seq), &message(b""), None);
    assert!(reaches(journal.written(), behind.number));
    let cut = Arc::new(disk.after_power_cut(|| 1));
    let synced = journal.watermark().durable() >= second.number;
    let back = recovered(&open(&cut), 1);
    let expected = if synced {
        (2, b"second".to_vec())
    } else {
        (1, b"first".to_vec())
    };
    assert_eq!(back, [expected]);
}

/// FEATURES D3: a message is never confirmed whose queue the disk did not take, and that is told.
#[test]
fn d3_failed_definitions_fail_what_waits_for_them() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let definitions = Arc::new(Watermark::default());
    let after = Arc::clone(&definitions);
    let journal = JournalFile::open(disk, &OPTIONS, &[&AmqpOrigin], after).expect("it opens");
    let known = journal.publish(slot(1, 1), &message(b"known"), None);
    assert!(wait(&journal, known.number));
    let waits = Slot {
        after: 1,
        ..slot(2, 1)
    };
    let appended = journal.publish(waits, &message(b"unknown"), None);
    definitions.fail();
    assert!(!wait(&journal, appended.number));
    assert!(journal.fault().is_some());
}

/// FEATURES A9: a piece of a stream ends with its bytes, whatever the messages' sizes, and says
/// where the next one begins.
#[test]
fn a9_a_piece_ends_with_its_bytes() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let mut last = 0;
    for seq in 0..40 {
        let size = if seq == 20 { 40_000 } else { 500 };
        last = journal
            .publish(slot(1, seq), &message(&vec![7; size]), None)
            .number;
        journal.publish(slot(2, seq), &message(b"between"), None);
    }
    assert!(wait(&journal, last));
    journal.settle(1, &[3, 4, 5], None);
    let (mut at, mut seen, mut pieces) = (0, Vec::new(), 0);
    while at < 40 {
        let (found, end) = journal.fetch_some(1, at..40, 2_000);
        assert!(end > at && (found.len() <= 4 || end == 40), "{at} to {end}");
        seen.extend(found.into_iter().map(|(seq, _)| seq));
        (at, pieces) = (end, pieces + 1);
    }
    let expected: Vec<u64> = (0..40).filter(|seq| !(3..=5).contains(seq)).collect();
    assert_eq!(seen, expected);
    assert!((8..=16).contains(&pieces), "{pieces} pieces");
}

/// FEATURES A9: what a stream keeps is no waste: it lies where it was written, however much of it
/// there is, and only what others leave behind is cleared away.
#[test]
fn a9_a_stream_is_not_copied() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let mut last = 0;
    for seq in 0..1_000 {
        last = journal
            .publish(slot(1, seq), &message(&[1; 500]), None)
            .number;
        if seq % 4 == 0 {
            journal.publish(slot(2, seq), &message(&[2; 500]), None);
            journal.settle(2, &[seq], None);
        }
    }
    assert!(wait(&journal, last));
    let (first, _) = journal.fetch_some(1, 0..1, 1);
    assert_eq!(first.len(), 1);
    let bytes = journal.condition().bytes;
    assert!(
        bytes < 1_000 * 600 + 250 * 700,
        "{bytes} bytes: nothing was copied"
    );
    assert!(last < 1_000 * 600 + 250 * 700, "{last} bytes were written");
    // The oldest go, and their files with them.
    journal.settle(1, &(0..900).collect::<Vec<_>>(), Some(Durability::Group));
    let more = journal.publish(slot(1, 1_000), &message(b"more"), None);
    assert!(wait(&journal, more.number));
    drop(journal);
    let journal = open(&disk);
    let stretches = journal.recovered(1);
    assert_eq!(stretches.first().map(|first| first.first), Some(900));
    assert_eq!(stretches.last().map(|last| last.end()), Some(1_001));
}
