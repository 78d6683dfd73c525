//! FEATURES A9: many readers, slow readers, and what none of them may see yet.

use super::*;

/// Publishes messages of 1,000 bytes that begin with their number.
fn publish_large(rig: &mut Rig, count: u64) {
    for number in 0..count {
        let mut body = vec![b' '; 1_000];
        let digits = number.to_string();
        body[..digits.len()].copy_from_slice(digits.as_bytes());
        rig.publish("", "s", &body);
    }
}

fn read_numbers(reader: &Reader) -> Vec<u64> {
    let bodies = reader.bodies();
    let number = |body: &String| body.trim().parse().expect("a number");
    bodies.iter().map(number).collect()
}

/// FEATURES A9: what is behind the memory's tail is read a piece at a time, and others have their
/// turn in between.
#[test]
fn a9_who_is_far_behind_reads_pieces() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let queue = stream(&mut rig, &[]);
    publish_large(&mut rig, 6_000);
    let view = queue.view();
    assert!(view.paged > 3_000, "{} of {}", view.paged, view.ready);
    let reader = read(&mut rig, text("first"));
    let mut turns = 1;
    while rig.pull_again(&reader) {
        turns += 1;
    }
    assert_eq!(read_numbers(&reader), (0..6_000).collect::<Vec<_>>());
    assert!(turns > 1, "it is one turn after the other");
    let reads = tape.reads.lock();
    assert!(reads.iter().all(|seqs| seqs.end - seqs.start <= 100));
    let all: u64 = reads.iter().map(|seqs| seqs.end - seqs.start).sum();
    assert_eq!(all, view.paged, "each is read once");
}

/// FEATURES A9: a reader with little credit reads no message twice from the disk.
#[test]
fn a9_what_is_read_ahead_waits_for_credit() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    stream(&mut rig, &[]);
    publish_large(&mut rig, 3_000);
    let first = [("x-stream-offset", text("first"))];
    let reader = try_read(&mut rig, 1, &first).expect("may read");
    for _ in 1..250 {
        rig.credit(&reader, 1);
    }
    assert_eq!(read_numbers(&reader), (0..250).collect::<Vec<_>>());
    assert_eq!(*tape.reads.lock(), [0..100, 100..200, 200..300]);
}

/// FEATURES A9: a reader that wants next to nothing reads all, and lets others have their turn.
#[test]
fn a9_a_filter_that_nothing_passes_is_no_long_turn() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    stream(&mut rig, &[]);
    publish_large(&mut rig, 20_000);
    let raw = encoded(&[("x-stream-filter-value", text("rare"))]);
    rig.publish_raw("", "s", b"found", &raw);
    let wanted = [
        ("x-stream-offset", text("first")),
        ("x-stream-filter", text("rare")),
    ];
    let reader = try_read(&mut rig, 10, &wanted).expect("may read");
    let looked_at: u64 = tape
        .reads
        .lock()
        .iter()
        .map(|seqs| seqs.end - seqs.start)
        .sum();
    assert!(looked_at < 3_000, "a turn ends: {looked_at}");
    assert!(reader.bodies().is_empty());
    while rig.pull_again(&reader) {}
    assert_eq!(reader.bodies(), ["found"]);
    rig.publish("", "s", b"not this");
    rig.publish_raw("", "s", b"found again", &raw);
    assert_eq!(reader.bodies(), ["found", "found again"]);
}

/// FEATURES A9: nobody sees an offset that a crash could give to another message.
#[test]
fn a9_only_what_is_durable_is_read() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    stream(&mut rig, &[]);
    let before = read(&mut rig, text("first"));
    tape.slow_down();
    publish_all(&mut rig, 0..3);
    let after = read(&mut rig, text("first"));
    assert!(before.bodies().is_empty() && after.bodies().is_empty());
    tape.catch_up();
    publish_all(&mut rig, 3..5);
    for reader in [&before, &after] {
        assert!(rig.pull_again(reader), "it is told");
        assert_eq!(reader.bodies(), numbers(0..3));
    }
    tape.catch_up();
    assert!(rig.pull_again(&before));
    assert_eq!(before.bodies(), numbers(0..5));
    assert!(!rig.pull_again(&before), "there is nothing more");

    publish_all(&mut rig, 5..6);
    tape.mark.fail();
    rig.pull_again(&before);
    publish_all(&mut rig, 6..7);
    rig.pull_again(&before);
    assert_eq!(before.bodies(), numbers(0..5), "that is never durable");
}

/// FEATURES A9: what becomes durable while a reader is served is not overlooked: nothing more may
/// come that would call it.
#[test]
fn a9_a_mark_that_rises_meanwhile_is_seen() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    stream(&mut rig, &[]);
    tape.slow_down();
    publish_all(&mut rig, 0..1);
    tape.catch_up();
    publish_all(&mut rig, 1..3);
    let first = [("x-stream-offset", text("first"))];
    let reader = try_read(&mut rig, 0, &first).expect("may read");
    let disk = Arc::clone(&tape);
    reader.meanwhile(move || disk.catch_up());
    rig.credit(&reader, 10);
    while rig.pull_again(&reader) {}
    assert_eq!(reader.bodies(), numbers(0..3));
}

/// FEATURES A9: what is written and not durable yet stays in memory, and out of readers' sight.
#[test]
fn a9_a_tail_that_is_not_durable_stays() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let queue = stream(&mut rig, &[]);
    publish_large(&mut rig, 10);
    tape.slow_down();
    publish_large(&mut rig, 5_000);
    rig.broker.page_out();
    let reader = read(&mut rig, text("first"));
    assert_eq!(read_numbers(&reader), (0..10).collect::<Vec<_>>());
    assert!(queue.view().paged <= 10);
    tape.catch_up();
    rig.broker.page_out();
    assert!(queue.view().paged > 4_000);
    while rig.pull_again(&reader) {}
    assert_eq!(reader.bodies().len(), 5_010);
}

/// FEATURES A9: a thousand readers share one message.
#[test]
fn a9_readers_share_messages() {
    let mut rig = Rig::new();
    let queue = stream(&mut rig, &[]);
    let readers: Vec<_> = (0..1_000).map(|_| read(&mut rig, text("next"))).collect();
    publish_all(&mut rig, 0..3);
    let place = |reader: &Reader| {
        let got = reader.got();
        let places: Vec<usize> = got
            .iter()
            .map(|got| got.message.view().payload.as_ptr() as usize)
            .collect();
        places
    };
    let one = place(&readers[0]);
    assert_eq!(one.len(), 3);
    assert!(readers.iter().all(|reader| place(reader) == one));
    for reader in &readers[..500] {
        rig.cancel(reader);
    }
    publish_all(&mut rig, 3..4);
    assert_eq!(queue.counts(), (4, 500));
    assert_eq!(readers[0].bodies(), numbers(0..3));
    assert_eq!(readers[999].bodies(), numbers(0..4));
}

/// FEATURES A9: who is overtaken by retention goes on with what is left, and who meets a message
/// that cannot be read, behind it.
#[test]
fn a9_readers_go_on_behind_a_gap() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let arguments = [
        ("x-max-length-bytes", long(3_000_000)),
        ("x-stream-max-segment-size-bytes", long(100_000)),
    ];
    let queue = stream(&mut rig, &arguments);
    publish_large(&mut rig, 2_000);
    let first = [("x-stream-offset", text("first"))];
    let slow = try_read(&mut rig, 5, &first).expect("may read");
    publish_large(&mut rig, 4_000);
    rig.pass(100);
    let kept = tape.kept(queue.id());
    assert!(kept[0] > 2_000, "much is gone");
    let hole = kept[0] + 2;
    tape.lose(queue.id(), hole);
    rig.credit(&slow, 5);
    let first = kept[0];
    let expected = [
        0,
        1,
        2,
        3,
        4,
        first,
        first + 1,
        first + 3,
        first + 4,
        first + 5,
    ];
    assert_eq!(offsets(&slow), expected);
}

/// FEATURES A9: a search by time reads a few messages, not all.
#[test]
fn a9_times_are_searched_for() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    stream(&mut rig, &[]);
    for _ in 0..5_000 {
        rig.publish("", "s", &[0; 1_000]);
        rig.pass(1_000);
    }
    let at = Value::Timestamp(1_000 + 1_234);
    let arguments = [("x-stream-offset", at)];
    let reader = try_read(&mut rig, 3, &arguments).expect("may read");
    assert_eq!(offsets(&reader), [1_234, 1_235, 1_236]);
    assert!(tape.reads.lock().len() <= 15);
}
