//! FEATURES A4, D1: what the journal tells of messages that it does not read, after a restart.

use leveret_core::broker::Broker;
use leveret_core::definitions::Definitions;
use leveret_core::exchange::Memo;
use leveret_core::field::{Table, Value};
use leveret_core::link::{DeclareQueue, Link};
use leveret_core::queue::{Queue, QueueProperties};
use leveret_core::turn::Turn;

use super::*;
use crate::data_dir::DataDir;
use crate::definitions::DefinitionsFile;

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

/// FEATURES A9: a restart finds a stream as large as it was, whatever its messages are made of and
/// in whose record they lie: it keeps as much as before.
#[test]
fn a9_a_stream_is_as_large_after_a_restart() {
    let directory = tempfile::tempdir().expect("made");
    let directory = DataDir::open(directory.path()).expect("opens");
    let disk = Arc::new(MemoryDisk::default());
    let size = |stream: &Queue| (stream.view().ready, stream.view().ready_bytes);
    let mut before = (0, 0);
    for life in 0..3 {
        let node = Node::start(&directory, &disk);
        if life == 0 {
            node.declare("s", &[("x-queue-type", "stream".into())]);
            let few = [
                ("x-queue-type", "stream".into()),
                ("x-max-length-bytes", Value::I64(100_000)),
                ("x-stream-max-segment-size-bytes", Value::I64(10_000)),
            ];
            node.declare("few", &few);
        }
        let [all, few] = ["s", "few"].map(|name| node.queue(name));
        assert_eq!(size(&all), before, "after {life} restarts");
        for _ in 0..800 {
            // Empty, but for a header.
            node.publish("few", b"\x20\0\0\0\0\x11\x06headerS\0\0\0\x05value", b"");
        }
        node.publish_to_both();
        for length in 0..300 {
            node.publish("s", b"\0\0", &vec![b'x'; length]);
        }
        before = size(&all);
        let (messages, bytes) = size(&few);
        assert!(bytes <= 110_000, "{bytes} bytes in {messages} messages");
        assert!(life == 0 || bytes > 80_000, "only {bytes} bytes are kept");
        node.stop();
    }
}

/// FEATURES A4, D1: messages with long headers are not read all at once, if their bodies are empty.
#[test]
fn a4_what_a_restart_finds_is_read_in_pieces_that_fit_memory() {
    let disk = Arc::new(MemoryDisk::default());
    let journal = open(&disk);
    let properties = vec![0; 100_000];
    let large = MessageRef {
        properties: &properties,
        ..message(b"")
    };
    let mut last = 0;
    for seq in 0..20 {
        let first = journal.publish(slot(1, seq), &large, None);
        last = journal.publish(slot(2, seq), &large, first.body).number;
    }
    assert!(wait(&journal, last));
    drop(journal);
    let journal = open(&disk);
    for queue in [1, 2] {
        let found = journal.recovered(queue);
        let one = large.exchange.len() + large.key.len() + properties.len();
        let all: u64 = found.iter().map(|stretch| stretch.part_bytes).sum();
        assert_eq!(all, 20 * one as u64);
        let most = found.iter().map(|stretch| stretch.part_bytes).max();
        assert!(most <= Some(Stretch::BYTES_MAX), "{most:?} at once");
    }
}

/// FEATURES D1: what queues leave behind that are gone costs a start no look at what others have
/// given up: with one this takes half a minute.
#[test]
fn d1_queues_that_are_gone_do_not_slow_down_a_start() {
    const MANY: u64 = 60_000;
    let disk = Arc::new(MemoryDisk::default());
    let options = Options {
        segment_bytes: 4 * 1_024 * 1_024,
        ..OPTIONS
    };
    let open = || {
        let disk = Arc::clone(&disk) as Arc<dyn Disk>;
        JournalFile::open(disk, &options, &[&AmqpOrigin], Arc::default()).expect("it opens")
    };
    let journal = open();
    for seq in 0..MANY {
        journal.publish(slot(1, seq), &message(b""), None);
        assert!(journal.give_up(slot(1, seq), &message(b""), Death::Rejected));
    }
    for queue in 2..MANY {
        journal.publish(slot(queue, 0), &message(b""), None);
        journal.give_up(slot(queue, 0), &message(b""), Death::Rejected);
        journal.forget(queue);
    }
    journal.publish(slot(2, 0), &message(b"a later one"), None);
    assert!(wait(&journal, journal.flush()));
    drop(journal);
    let journal = open();
    assert_eq!(journal.given_up(1).len(), MANY as usize);
    assert!(journal.given_up(2).is_empty());
    assert_eq!(recovered(&journal, 2), [(0, b"a later one".to_vec())]);
}

/// A broker over the real journal.
struct Node {
    link: Arc<Link>,
    broker: Arc<Broker>,
    journal: Arc<JournalFile>,
}

impl Node {
    fn start(directory: &DataDir, disk: &Arc<MemoryDisk>) -> Self {
        let definitions = Arc::new(DefinitionsFile::open(directory).expect("opens"));
        let journal = JournalFile::open(
            Arc::clone(disk) as Arc<dyn Disk>,
            &OPTIONS,
            &[&AmqpOrigin],
            Arc::clone(definitions.watermark()),
        );
        let journal = Arc::new(journal.expect("opens"));
        let broker = Broker::open(
            leveret_core::options::Options::default(),
            Arc::clone(&definitions) as Arc<dyn Definitions>,
            Arc::clone(&journal) as Arc<dyn Journal>,
            Time(1_000_000),
            || "hash".to_owned(),
        );
        let broker = broker.expect("opens");
        let vhost = broker.vhost("/").expect("the default");
        Self {
            link: broker.owner_link(&vhost),
            broker,
            journal,
        }
    }

    /// Everything is on disk, and nobody has it open any more.
    fn stop(self) {
        assert!(wait(&self.journal, self.journal.flush()));
        self.broker.stop();
    }

    fn declare(&self, name: &str, arguments: &[(&str, Value)]) {
        let mut table = Table::new();
        for (name, value) in arguments {
            table.insert(name, value.clone()).expect("a short name");
        }
        let wish = DeclareQueue {
            name,
            properties: QueueProperties {
                durable: true,
                journaled: true,
                arguments: table,
                ..QueueProperties::default()
            },
            ..DeclareQueue::default()
        };
        let mut turn = Turn::new();
        turn.begin(Time(1_000_000));
        self.link.queue_declare(&mut turn, &wish).expect("declared");
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.link.vhost().queue(name).expect("it is there")
    }

    fn publish(&self, queue: &str, properties: &[u8], body: &[u8]) {
        self.publish_under(queue, properties, body, &[]);
    }

    /// One record has the message, the other one refers to it.
    fn publish_to_both(&self) {
        self.publish_under("s", b"\0\0", &[b'b'; 2_000], &[b"few"]);
        self.publish_under("few", b"\0\0", &[b'b'; 2_000], &[b"s"]);
    }

    fn publish_under(&self, key: &str, properties: &[u8], body: &[u8], more: &[&[u8]]) {
        let mut turn = Turn::new();
        turn.begin(Time(1_000_000));
        let message = MessageRef {
            exchange: "",
            key: key.as_bytes(),
            properties,
            head: Head {
                form: Form::Dotted,
                retain: false,
                expires: None,
                ..message(body).head
            },
            payload: body,
        };
        let routed = self
            .link
            .route_keys(&mut turn, &mut Memo::default(), &message, more);
        self.link
            .publish_to(&mut turn, &message, &routed.expect("may be published"));
    }
}
