//! FEATURES A9: readers that look through much for little, and what they may cost others.

use super::*;

/// A stream of many messages that no filter passes, and a last one that this reader's does.
fn haystack(rig: &mut Rig, count: u64) -> Vec<(&'static str, Value)> {
    stream(rig, &[]);
    publish_all(rig, 0..count);
    let raw = encoded(&[("x-stream-filter-value", text("rare"))]);
    rig.publish_raw("", "s", b"needle", &raw);
    vec![
        ("x-stream-offset", text("first")),
        ("x-stream-filter", text("rare")),
    ]
}

/// How many turns of its own a reader takes until it has all.
fn turns(rig: &mut Rig, reader: &Reader) -> u32 {
    let mut turns = 0;
    while rig.pull_again(reader) {
        turns += 1;
    }
    turns
}

/// All readers of a turn share what one may look through; each of them gets on.
#[test]
fn a9_readers_of_one_turn_share_it() {
    let mut rig = Rig::new();
    let wanted = haystack(&mut rig, 10_000);
    rig.turn.begin(rig.turn.now);
    let readers: Vec<_> = (0..3)
        .map(|_| try_read(&mut rig, 10, &wanted).expect("may read"))
        .collect();
    assert!(readers.iter().all(|reader| reader.bodies().is_empty()));
    // A turn is 4,096 of them; the second and the third had none left in the first one.
    let found: Vec<_> = readers.iter().map(|held| turns(&mut rig, held)).collect();
    assert_eq!(found, [2, 3, 3]);
    assert!(readers.iter().all(|reader| reader.bodies() == ["needle"]));
}

/// The same from the disk, where a message costs twice.
#[test]
fn a9_a_turn_reads_a_part_of_the_disk() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let wanted = haystack(&mut rig, 10_000);
    rig.broker.page_out();
    rig.turn.begin(rig.turn.now);
    let reader = try_read(&mut rig, 10, &wanted).expect("may read");
    let read = |tape: &Tape| -> u64 {
        let reads = tape.reads.lock();
        reads.iter().map(|seqs| seqs.end - seqs.start).sum()
    };
    assert_eq!(read(&tape), 2_048);
    assert!((4..=5).contains(&turns(&mut rig, &reader)));
    assert_eq!(reader.bodies(), ["needle"]);
}

/// A publisher's turn ends as well, however many filters its messages meet: the readers go on in
/// their own.
#[test]
fn a9_publishers_do_not_look_through_everything() {
    let mut rig = Rig::new();
    stream(&mut rig, &[]);
    rig.turn.begin(rig.turn.now);
    let wanted = [("x-stream-filter", text("rare"))];
    let readers: Vec<_> = (0..10)
        .map(|_| try_read(&mut rig, 10, &wanted).expect("may read"))
        .collect();
    publish_all(&mut rig, 0..1_000);
    let raw = encoded(&[("x-stream-filter-value", text("rare"))]);
    rig.publish_raw("", "s", b"needle", &raw);
    for reader in &readers {
        assert!(reader.bodies().is_empty());
        assert_eq!(turns(&mut rig, reader), 1);
        assert_eq!(reader.bodies(), ["needle"]);
    }
}

/// Who has gone looks through nothing more.
#[test]
fn a9_readers_that_have_gone_are_passed_over() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let wanted = haystack(&mut rig, 10_000);
    rig.broker.page_out();
    let reader = try_read(&mut rig, 10, &wanted).expect("may read");
    rig.cancel(&reader);
    let before = tape.reads.lock().len();
    assert_eq!(turns(&mut rig, &reader), 1);
    assert_eq!(tape.reads.lock().len(), before);
    assert!(reader.bodies().is_empty());
}

/// Nothing goes back to a stream: what waits for acknowledgement does not hold its messages.
#[test]
fn a9_what_is_unacknowledged_holds_no_message() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    stream(&mut rig, &[]);
    let large = [b'x'; 10_000];
    for _ in 0..500 {
        rig.publish("", "s", &large);
    }
    let reader = read(&mut rig, text("first"));
    while rig.pull_again(&reader) {}
    let got = reader.got();
    assert_eq!(got.len(), 500);
    for got in got {
        assert_eq!(got.body.len(), large.len());
        let kept = got.message.view();
        assert_eq!(
            (kept.exchange, kept.key, kept.payload),
            ("", &[][..], &[][..])
        );
        assert!(kept.properties.is_empty());
    }
    rig.settle(&reader, Settle::Requeue);
    assert!(!rig.pull_again(&reader) && reader.bodies().is_empty());
}
