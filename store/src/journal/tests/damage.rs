//! Journals that were cut or changed anywhere, and journals that are only looked at.

use super::super::inspect::{self, Report, State};
use super::super::{record, segment};
use super::*;

/// Files of a few records, so that every byte can be tried.
const SMALL: Options = Options {
    segment_bytes: 4_096,
    interval: Duration::from_millis(200),
};

fn open_small(disk: &Arc<MemoryDisk>) -> Result<JournalFile, Fault> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    JournalFile::open_by_hand(disk, &SMALL, &[&AmqpOrigin], Arc::default())
}

/// What the undamaged journal has: of each message where it lies, and what it says.
type Known = BTreeMap<(u64, u64), (tail::Place, Vec<u8>)>;

/// Three files of batches with up to three records: a message, the same for another queue, a
/// settling. `stopped`: in order, so that the end is marked.
fn small(stopped: bool) -> (Arc<MemoryDisk>, Known) {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open_small(&disk).expect("it opens");
    for seq in 0..36 {
        let payload = vec![seq as u8; 140 + seq as usize];
        let first = journal.publish(slot(1, seq), &message(&payload), None);
        if seq % 3 == 0 {
            journal.publish(slot(2, seq), &message(&payload), first.body);
        }
        if seq % 4 == 1 {
            journal.settle(1, &[seq], None);
        }
        journal.step().expect("it is written");
    }
    if stopped {
        journal.shared.state.lock().closing = true;
        journal.step().expect("it is written");
    }
    drop(journal);
    let copy = Arc::new(disk.copy());
    let journal = open_small(&copy).expect("it opens");
    let mut known = Known::new();
    for queue in 1..=2 {
        for (seq, payload) in recovered(&journal, queue) {
            let place = journal.shared.state.lock().ledger.find(queue, seq);
            known.insert((queue, seq), (place.expect("it is there"), payload));
        }
    }
    drop(journal);
    assert_eq!(copy.names().len(), 3, "{:?}", copy.names());
    (copy, known)
}

fn held(journal: &JournalFile) -> BTreeMap<(u64, u64), Vec<u8>> {
    let mut held = BTreeMap::new();
    for queue in 1..=2 {
        for (seq, payload) in recovered(journal, queue) {
            held.insert((queue, seq), payload);
        }
    }
    held
}

fn look(disk: &Arc<MemoryDisk>) -> Result<Report, Fault> {
    inspect::inspect(&**disk, &[&AmqpOrigin], |_| ())
}

/// Opens a changed copy: it does what looking at it said, and a second start, which is made for
/// some, finds what the first did. Gives what was there, and how many files were set aside.
fn opened(
    disk: &Arc<MemoryDisk>,
    place: &str,
    again: bool,
) -> (BTreeMap<(u64, u64), Vec<u8>>, usize) {
    let before = disk.contents();
    let report = look(disk).expect("it can be looked at");
    assert!(
        disk.contents() == before,
        "{place}: looking changes nothing"
    );
    let journal = open_small(disk).unwrap_or_else(|why| panic!("{place}: {why}"));
    let first = held(&journal);
    let expected = report.messages();
    assert_eq!(expected, first.len() as u64 + journal.lost(), "{place}");
    drop(journal);
    let aside = |name: &String| name.ends_with(".damaged");
    let aside = disk.names().iter().filter(|name| aside(name)).count();
    assert_eq!(report.damaged().count(), aside, "{place}");
    if again {
        let again = open_small(disk).unwrap_or_else(|why| panic!("{place}, again: {why}"));
        assert!(held(&again) == first, "{place}: the second start differs");
    }
    (first, aside)
}

/// FEATURES D2: a bit that is flipped anywhere costs at most the rest of its batch, whether the
/// broker was stopped in order or not.
#[test]
fn d2_a_bit_flipped_at_every_offset() {
    for stopped in [true, false] {
        let (whole, known) = small(stopped);
        for name in whole.names() {
            // After a crash some of them will do.
            let step = if stopped { 1 } else { 7 };
            for at in (0..whole.bytes(&name).len()).step_by(step) {
                let disk = Arc::new(whole.copy());
                disk.change(&name, |bytes| bytes[at] ^= 1 << (at % 8));
                let place = format!("stopped {stopped}, {name}, byte {at}");
                let (held, aside) = opened(&disk, &place, at % 5 == 0);
                let is_there = |(key, (_, payload)): &(&_, &(_, Vec<u8>))| {
                    held.get(*key).is_some_and(|found| found == payload)
                };
                let missing = known.iter().filter(|entry| !is_there(entry)).count();
                let back = held.keys().filter(|key| !known.contains_key(key)).count();
                assert!(
                    missing <= 2 && back <= 1,
                    "{place}: {missing} lost, {back} back"
                );
                assert!(aside <= 1, "{place}");
            }
        }
    }
}

/// Where a segment can be cut unseen: between two records of its last batch.
fn last_batch(disk: &MemoryDisk, number: u64) -> Vec<usize> {
    let mut offsets = Vec::new();
    let looked = inspect::inspect(disk, &[&AmqpOrigin], |entry| {
        if entry.segment == number {
            if matches!(entry.what, inspect::What::Batch { .. }) {
                offsets.clear();
            } else {
                offsets.push(entry.offset as usize);
            }
        }
    });
    looked.expect("it can be looked at");
    offsets
}

/// FEATURES D2: a file that is cut anywhere costs what was behind the cut in that file, and that
/// is told unless nothing proves that there was more.
#[test]
fn d2_files_cut_at_every_offset() {
    for stopped in [true, false] {
        let (whole, known) = small(stopped);
        let names = whole.names();
        for name in &names {
            let number = segment::number(name).expect("a segment");
            let bytes = whole.bytes(name).len();
            let unseen = last_batch(&whole, number);
            let step = if stopped { 1 } else { 7 };
            for at in (0..bytes).step_by(step) {
                let disk = Arc::new(whole.copy());
                disk.change(name, |bytes| bytes.truncate(at));
                let place = format!("stopped {stopped}, {name}, cut at {at} of {bytes}");
                let (held, aside) = opened(&disk, &place, at % 5 == 0);
                for (key, (lies, payload)) in &known {
                    let end = lies.offset as usize + lies.bytes as usize;
                    let is_before = lies.segment != number || end <= at;
                    let is_there = held.get(key).is_some_and(|found| found == payload);
                    // Without a copy of the header nothing of a file can be read.
                    assert!(
                        is_there || !is_before || at < 64,
                        "{place}: {key:?} is lost"
                    );
                }
                let told = Some(name) != names.last() && !unseen.contains(&at);
                assert_eq!(aside, usize::from(told), "{place}");
            }
        }
    }
}

/// What a later version wrote is refused by name, and stays as it is.
#[test]
fn d2_a_newer_journal_is_refused() {
    let (disk, _) = small(true);
    let name = disk.names().pop().expect("there are files");
    disk.change(&name, |bytes| {
        for copy in [0, 32] {
            bytes[copy + 8] = 3;
            let sum = crc32c::crc32c(&bytes[copy..copy + 28]);
            bytes[copy + 28..copy + 32].copy_from_slice(&sum.to_le_bytes());
        }
    });
    let before = disk.bytes(&name);
    let text = "has format 3, this version reads 2: use a newer program";
    for error in [
        look(&disk).expect_err("is newer"),
        open_small(&disk).expect_err("is newer"),
    ] {
        let error = error.to_string();
        assert!(error.contains(&name) && error.contains(text), "{error}");
    }
    assert!(disk.bytes(&name) == before, "it is not changed");
}

/// A file that was set aside keeps its name for ever: no later one takes it.
#[test]
fn d2_what_was_set_aside_is_not_overwritten() {
    let (disk, _) = small(true);
    let names = disk.names();
    for name in &names {
        disk.change(name, |bytes| bytes[..64].fill(1));
    }
    for start in 1..4 {
        let journal = open_small(&disk).expect("it opens");
        journal.publish(slot(1, 100 + start), &message(b"x"), None);
        journal.step().expect("it is written");
        drop(journal);
        let fresh = disk.names();
        let fresh = fresh.iter().find(|name| !name.ends_with(".damaged"));
        disk.change(fresh.expect("a file"), |bytes| bytes[..64].fill(1));
        let aside = disk.names();
        let aside = aside.iter().filter(|name| name.ends_with(".damaged"));
        assert_eq!(aside.count() as u64, names.len() as u64 + start - 1);
    }
}

/// FEATURES D3: while the process has no file to spare nothing is confirmed; then it all is.
#[test]
fn d3_a_file_to_spare_is_waited_for() {
    let disk = Arc::new(MemoryDisk::default());
    disk.fate().no_files.store(true, Ordering::Relaxed);
    let journal = open(&disk);
    let appended = journal.publish(slot(1, 1), &message(b"patient"), None);
    while journal.condition().stuck.is_none() {
        thread::yield_now();
    }
    assert!(journal.watermark().durable() < appended.number);
    disk.fate().no_files.store(false, Ordering::Relaxed);
    assert!(wait(&journal, appended.number));
    assert_eq!((journal.fault(), journal.condition().stuck), (None, None));
}

/// What looking at a journal tells of each file.
#[test]
fn d2_looking_tells_records_and_states() {
    let (disk, known) = small(true);
    let mut kinds = BTreeMap::new();
    let report = inspect::inspect(&*disk, &[&AmqpOrigin], |entry| {
        let word = match entry.what {
            inspect::What::Message { again, message, .. } => {
                let view = message.expect("it can be read");
                assert_eq!(view.key, b"cities/london");
                if again.is_some() { "again" } else { "publish" }
            }
            inspect::What::Settle { seqs, .. } => {
                assert_eq!(seqs.iter().count(), 1);
                "settle"
            }
            inspect::What::Forget { .. } => "forget",
            inspect::What::Batch { .. } => "batch",
        };
        *kinds.entry(word).or_insert(0) += 1;
    });
    let report = report.expect("it can be looked at");
    let counts = [("again", 11), ("batch", 38), ("publish", 37), ("settle", 9)];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), counts);
    assert_eq!(report.messages(), known.len() as u64);
    let records: u64 = report.files.iter().map(|file| file.records).sum();
    assert_eq!(records, 95);
    let states = report.files.iter().map(|file| file.state);
    assert!(states.into_iter().all(|state| state == State::Whole));
    assert_eq!(report.queues, [(1, 27), (2, 12)]);

    let last = disk.names().pop().expect("a file");
    disk.change(&last, |bytes| bytes.truncate(bytes.len() - 3));
    let mark = record::BATCH_BYTES as u64;
    let report = look(&disk).expect("it can be looked at");
    let file = report.files.last().expect("a file");
    assert_eq!(file.state, State::Torn(file.bytes + 3 - mark));
}

/// FEATURES D2: what cannot be read is damage if any later batch proves it, not only the next: that
/// one may have been written before the disk had what is damaged.
#[test]
fn d2_a_batch_that_was_not_synced_at_once_can_be_damaged() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let publish = |seq| {
        journal
            .publish(slot(1, seq), &message(b"kept"), None)
            .number
    };
    publish(0);
    assert!(wait(&journal, publish(1)));
    let settled = journal.settle(1, &[0], None);
    while journal.written().durable() < settled {
        thread::yield_now();
    }
    for seq in 2..6 {
        assert!(wait(&journal, publish(seq)));
    }
    drop(journal);
    let mut place = None;
    let report = inspect::inspect(&*disk, &[&AmqpOrigin], |entry| {
        if matches!(entry.what, inspect::What::Settle { .. }) {
            place = Some((entry.segment, entry.offset as usize));
        }
    });
    assert_eq!(report.expect("it can be looked at").messages(), 5);
    let (segment, offset) = place.expect("it was settled");
    // The mark before it: then it is not known which batch is damaged.
    let mark = offset - record::BATCH_BYTES;
    disk.change(&segment::name(segment), |bytes| bytes[mark + 9] ^= 1);
    let journal = open(&disk);
    let back: Vec<u64> = recovered(&journal, 1).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(back[back.len() - 5..], [1, 2, 3, 4, 5]);
    drop(journal);
    assert!(disk.names().iter().any(|name| name.ends_with(".damaged")));
}
