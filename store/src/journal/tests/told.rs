//! FEATURES A4, D1: what the journal tells of messages that it does not read, after a restart.

use super::*;

/// Whoever has messages with a time to live is known, also where another queue's record has them.
#[test]
fn what_may_expire_is_known() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let mut lasting = message(b"one");
    lasting.head.expires = None;
    for (queue, message) in [(1, lasting), (3, message(b"one"))] {
        let first = journal.publish(slot(queue, 1), &message, None);
        let again = journal.publish(slot(queue + 1, 1), &message, first.body);
        assert_eq!(again.body, first.body);
    }
    drop(journal);

    let journal = open(&disk);
    let known = [1, 2, 3, 4].map(|queue| journal.may_expire(queue));
    assert_eq!(known, [false, false, true, true]);
    journal.settled_in();
    assert!(!journal.may_expire(3), "nobody asks any more");
}

/// What queues have given up and still have is known, wherever it was copied to meanwhile.
#[test]
fn what_was_given_up_is_known() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    for seq in 1..=6 {
        journal.publish(slot(1, seq), &message(b"again"), None);
        journal.publish(slot(2, seq), &message(b"again"), None);
    }
    for seq in [2, 3, 5] {
        assert!(journal.give_up(slot(1, seq), &message(b"again"), Death::Rejected));
    }
    assert!(journal.give_up(slot(1, 6), &message(b"again"), Death::DeliveryLimit));
    assert!(journal.give_up(slot(2, 1), &message(b"again"), Death::Rejected));
    journal.settle(1, &[3], None);
    assert!(!journal.give_up(slot(1, 3), &message(b"again"), Death::Rejected));
    journal.forget(2);
    // Segment after segment, most of which nobody wants.
    for seq in 7..200 {
        journal.publish(slot(1, seq), &message(&[0; 4_096]), None);
        journal.settle(1, &[seq], None);
        wait(&journal, journal.flush());
    }
    drop(journal);

    let journal = open(&disk);
    let given_up = journal.given_up(1);
    let known = [2, 5].map(|seq| (seq, Death::Rejected));
    assert_eq!(
        given_up,
        [&known[..], &[(6, Death::DeliveryLimit)]].concat()
    );
    assert!(journal.given_up(2).is_empty());
    let all: Vec<u64> = recovered(&journal, 1)
        .into_iter()
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(all, [1, 2, 4, 5, 6]);
    let first = segment::name(1);
    assert!(
        !disk.list().expect("it has a list").contains(&first),
        "all was copied"
    );
}

/// FEATURES A4, D1: what a restart finds counts the bodies, and is read in pieces that fit memory,
/// whatever else lies in a record, and in whose record the body lies.
#[test]
fn a4_bodies_are_counted_after_a_restart() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let large = vec![b'x'; 100 * 1_024];
    let mut last = 0;
    for seq in 0..10 {
        let first = journal.publish(slot(1, seq), &message(&large), None);
        journal.publish(slot(2, seq), &message(&large), first.body);
    }
    for seq in 0..300 {
        last = journal
            .publish(slot(3, seq), &message(b"12345"), None)
            .number;
    }
    // Some are settled, and one number comes again.
    let settled: Vec<u64> = (0..300).filter(|seq| seq % 16 != 3).collect();
    journal.settle(3, &settled, None);
    last = last.max(
        journal
            .publish(slot(3, 19), &message(b"1234567"), None)
            .number,
    );
    assert!(wait(&journal, last));
    drop(journal);

    let journal = open(&disk);
    for queue in [1, 2] {
        let stretches = journal.recovered(queue);
        let bytes: u64 = stretches.iter().map(|stretch| stretch.bytes).sum();
        assert_eq!(bytes, 10 * large.len() as u64, "of queue {queue}");
        let most = stretches.iter().map(|stretch| stretch.bytes).max();
        assert!(
            most <= Some(Stretch::BYTES_MAX),
            "{most:?} of queue {queue}"
        );
    }
    let stretches = journal.recovered(3);
    let (count, bytes) = stretches.iter().fold((0, 0), |(count, bytes), stretch| {
        (count + stretch.count, bytes + stretch.bytes)
    });
    assert_eq!((count, bytes), (19, 18 * 5 + 7));
}

/// FEATURES A4, D1: queues are told which priorities a restart found, without reading a message.
#[test]
fn a4_priorities_are_told_after_a_restart() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let mut last = 0;
    for (seq, properties) in [
        &b"\x08\x00\x05"[..],
        b"\x08\x00\x05",
        b"\x10\x00\x02",
        b"\x08\x00\x00",
    ]
    .into_iter()
    .enumerate()
    {
        let message = MessageRef {
            properties,
            ..message(b"m")
        };
        let first = journal.publish(slot(1, seq as u64), &message, None);
        last = journal
            .publish(slot(2, seq as u64), &message, first.body)
            .number;
    }
    assert!(wait(&journal, last));
    drop(journal);
    let journal = open(&disk);
    for queue in [1, 2] {
        let found = journal.recovered(queue).into_iter();
        let found: Vec<_> = found
            .map(|found| (found.first, found.count, found.priority))
            .collect();
        let expected = [(0, 2, Some(5)), (2, 1, None), (3, 1, Some(0))];
        assert_eq!(found, expected, "queue {queue}");
        let seqs = [0, 2, 3];
        let read = journal.fetch_these(queue, &seqs);
        assert!(read.iter().map(|(seq, _)| *seq).eq(seqs));
    }
}
