//! FEATURES A9: streams, as readers see them.

mod readers;
mod scans;

use std::sync::Arc;

use super::rig::{Reader, Rig, long, text};
use super::tape::Tape;
use crate::field::{RawTable, Table, Value};
use crate::properties::BasicProperties;
use crate::queue::{Queue, Settle, StreamReader};
use crate::refusal::Refusal;

const MANY: u64 = u64::MAX;

fn stream(rig: &mut Rig, more: &[(&str, Value)]) -> Arc<Queue> {
    let mut arguments = vec![("x-queue-type", text("stream"))];
    arguments.extend_from_slice(more);
    rig.declare("s", &arguments)
}

fn encoded(arguments: &[(&str, Value)]) -> Vec<u8> {
    let mut table = Table::new();
    for (name, value) in arguments {
        table.insert(name, value.clone()).expect("a short name");
    }
    let mut bytes = Vec::new();
    table.encode(&mut bytes).expect("it is short");
    bytes
}

fn try_read(
    rig: &mut Rig,
    credit: u64,
    arguments: &[(&str, Value)],
) -> Result<Arc<Reader>, Refusal> {
    let raw = encoded(arguments);
    let arguments = RawTable::parse(&raw).expect("it is a table");
    let asked = StreamReader::asked(arguments, "s", "/", rig.turn.now)?;
    rig.try_consume("s", credit, |consumer| {
        consumer.prefetch = 100;
        consumer.stream = asked;
    })
}

/// A reader from some place on, with credit for all.
fn read(rig: &mut Rig, offset: Value) -> Arc<Reader> {
    try_read(rig, MANY, &[("x-stream-offset", offset)]).expect("may read")
}

fn publish_all(rig: &mut Rig, bodies: std::ops::Range<u64>) {
    for body in bodies {
        rig.publish("", "s", body.to_string().as_bytes());
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn offsets(reader: &Reader) -> Vec<u64> {
    let got = reader.got();
    got.iter()
        .map(|got| got.offset.expect("an offset"))
        .collect()
}

/// FEATURES A9: every reader gets everything, from its own place on, and nothing goes.
#[test]
fn a9_every_reader_has_its_own_place() {
    let mut rig = Rig::new();
    let queue = stream(&mut rig, &[]);
    publish_all(&mut rig, 0..5);
    let early = read(&mut rig, text("first"));
    let late = rig.try_consume("s", MANY, |consumer| consumer.prefetch = 1);
    let late = late.expect("may read");
    publish_all(&mut rig, 5..8);
    assert_eq!(early.bodies(), numbers(0..8));
    assert_eq!(offsets(&early), (0..8).collect::<Vec<_>>());
    assert!(early.got().iter().all(|got| !got.redelivered));
    assert_eq!(late.bodies(), numbers(5..8));
    let view = queue.view();
    assert_eq!((view.kind, view.ready, view.unacked), ("stream", 8, 0));
    assert_eq!(queue.counts(), (8, 2));
}

/// FEATURES A9: `x-stream-offset` in all its forms.
#[test]
fn a9_readers_begin_where_they_ask() {
    let mut rig = Rig::new();
    stream(&mut rig, &[]);
    let began = rig.turn.now;
    for body in 0..6 {
        rig.pass(60_000);
        publish_all(&mut rig, body..body + 1);
    }
    let after_s = |seconds: u64| Value::Timestamp(began.seconds() + seconds);
    let cases = [
        (text("first"), 0),
        (text("last"), 5),
        (text("next"), 6),
        (long(0), 0),
        (long(4), 4),
        (Value::U8(2), 2),
        (long(-7), 0),
        (Value::Timestamp(0), 0),
        (after_s(60), 0),
        (after_s(61), 1),
        (after_s(360), 5),
        (after_s(99_999), 6),
        (text("1h"), 0),
        (text("2m"), 3),
        (text("1s"), 5),
        (text("99999999Y"), 0),
    ];
    for (offset, first) in cases {
        let reader = read(&mut rig, offset.clone());
        assert_eq!(reader.bodies(), numbers(first..6), "from {offset:?}");
        rig.cancel(&reader);
    }
    let beyond = read(&mut rig, long(8));
    publish_all(&mut rig, 6..10);
    assert_eq!(beyond.bodies(), numbers(8..10), "it waits for its offset");
}

/// FEATURES A9: whatever is said of a delivery gives credit, and nothing comes again.
#[test]
fn a9_settling_gives_credit_only() {
    let mut rig = Rig::new();
    let queue = stream(&mut rig, &[]);
    publish_all(&mut rig, 0..8);
    let reader = try_read(&mut rig, 2, &[("x-stream-offset", text("first"))]).expect("may read");
    let mut seen = reader.bodies();
    assert_eq!(seen, numbers(0..2));
    for how in [Settle::Ack, Settle::Requeue, Settle::Reject] {
        rig.settle(&reader, how);
        rig.credit(&reader, 2);
        seen.extend(reader.bodies());
    }
    assert_eq!(seen, numbers(0..8));
    assert_eq!(queue.view().ready, 8);
    rig.cancel(&reader);
    rig.settle(&reader, Settle::Requeue);
    assert_eq!(read(&mut rig, text("first")).bodies(), numbers(0..8));
}

fn valued(rig: &mut Rig, value: Option<&str>, body: &str) {
    let raw = encoded(&[("x-stream-filter-value", text(value.unwrap_or_default()))]);
    let set = |properties: &mut BasicProperties<'_>| {
        properties.content_type = Some(b"text/plain");
    };
    match value {
        None => rig.publish_with("", "s", body.as_bytes(), set),
        Some(_) => rig.publish_raw("", "s", body.as_bytes(), &raw),
    };
}

/// FEATURES A9: filters by the header `x-stream-filter-value`, exactly.
#[test]
fn a9_filters_choose_by_header() {
    let mut rig = Rig::new();
    stream(&mut rig, &[]);
    let all = [
        (Some("red"), "r1"),
        (Some("blue"), "b1"),
        (None, "n1"),
        (Some("green"), "g1"),
        (Some("red"), "r2"),
    ];
    for (value, body) in all {
        valued(&mut rig, value, body);
    }
    let several = Value::Array(vec![text("red"), Value::I8(1), text("blue")]);
    let cases: [(&[(&str, Value)], &[&str]); 6] = [
        (&[("x-stream-filter", text("red"))], &["r1", "r2"]),
        (&[("x-stream-filter", several)], &["r1", "b1", "r2"]),
        (
            &[
                ("x-stream-filter", text("green")),
                ("x-stream-match-unfiltered", Value::Bool(true)),
            ],
            &["n1", "g1"],
        ),
        (&[("x-stream-filter", text("none"))], &[]),
        (&[("x-stream-filter", Value::Array(vec![]))], &[]),
        (
            &[("x-stream-match-unfiltered", Value::Bool(true))],
            &["r1", "b1", "n1", "g1", "r2"],
        ),
    ];
    for (arguments, expected) in cases {
        let mut arguments = arguments.to_vec();
        arguments.push(("x-stream-offset", text("first")));
        let reader = try_read(&mut rig, MANY, &arguments).expect("may read");
        assert_eq!(reader.bodies(), expected, "{arguments:?}");
    }
}

/// FEATURES A9: what streams refuse, in RabbitMQ's words.
#[test]
fn a9_refusals() {
    let mut rig = Rig::new();
    stream(&mut rig, &[]);
    rig.declare("classic", &[]);
    let mut refused = |prefetch, set: fn(&mut crate::queue::Consumer)| {
        let consumer = rig.try_consume("s", MANY, |consumer| {
            consumer.prefetch = prefetch;
            set(consumer);
        });
        let refusal = consumer.err().expect("it is refused");
        (refusal.code.number(), refusal.text.into_string())
    };
    let text_of = |code: u16, text: &str| (code, text.to_owned());
    assert_eq!(
        refused(0, |consumer| consumer.no_ack = true),
        text_of(
            406,
            "consumer prefetch count is not set for stream queue 's' in vhost '/'"
        )
    );
    assert_eq!(
        refused(1, |consumer| consumer.no_ack = true),
        text_of(
            540,
            "automatic acknowledgement not supported by stream queue 's' in vhost '/'"
        )
    );
    assert_eq!(
        refused(1, |consumer| consumer.limited = true),
        text_of(540, "queue 's' in vhost '/' does not support global qos")
    );
    assert_eq!(
        refused(1, |consumer| consumer.priority = 3),
        text_of(
            406,
            "invalid arg 'x-priority' for queue 's' in vhost '/' of queue type \
             rabbit_stream_queue"
        )
    );
    let got = rig.link.get(&mut rig.turn, "s", false).expect_err("no get");
    assert_eq!(
        (got.code.number(), &*got.text),
        (
            540,
            "basic.get not supported by stream queues queue 's' in vhost '/'"
        )
    );
    let purged = rig.link.queue_purge("s").expect_err("no purge");
    assert_eq!(
        (purged.code.number(), &*purged.text),
        (
            540,
            "queue.purge not supported by stream queues queue 's' in vhost '/'"
        )
    );
    let large = [
        ("x-queue-type", text("stream")),
        ("x-stream-max-segment-size-bytes", long(3_000_000_001)),
    ];
    let large = rig.try_declare("large", &large).expect_err("too large");
    assert_eq!(
        &*large.text,
        "Exceeded max value for x-stream-max-segment-size-bytes"
    );
}

/// FEATURES A9: arguments of streams on other queues, and values that are none.
#[test]
fn a9_bad_arguments_are_refused() {
    let mut rig = Rig::new();
    stream(&mut rig, &[]);
    let values = [
        text(""),
        text("FIRST"),
        text("0s"),
        text("-1h"),
        text("1"),
        text("h"),
        text("1 h"),
        text("9999999999999999999999h"),
        text("18446744073709551615Y"),
        text("99999999999Y"),
        Value::Bool(true),
        Value::Void,
        Value::F64(1.5),
        Value::Array(vec![long(1)]),
        Value::Table(Table::new()),
        Value::Bytes(Box::from(&b"first"[..])),
        Value::LongString(vec![0xff; 60_000].into()),
    ];
    for value in values {
        let refused = try_read(&mut rig, MANY, &[("x-stream-offset", value.clone())]);
        let refused = refused.err().expect("it is refused");
        let begins = "invalid arg 'x-stream-offset' for queue 's' in vhost '/': \
                      {invalid_stream_offset_arg,{";
        assert_eq!(refused.code.number(), 406);
        assert!(
            refused.text.starts_with(begins),
            "{value:?}: {}",
            refused.text
        );
    }
    let zero = try_read(&mut rig, MANY, &[("x-stream-offset", text("0s"))]);
    let zero = zero.err().expect("it is refused");
    assert!(
        zero.text.ends_with("{longstr,<<\"0s\">>}}"),
        "{}",
        zero.text
    );

    let many = Value::Array(vec![text("x"); 1_025]);
    let many = try_read(&mut rig, MANY, &[("x-stream-filter", many)]);
    assert_eq!(many.err().expect("too many").code.number(), 406);
    for odd in [Value::Void, long(1), Value::Array(vec![Value::Void; 9])] {
        let both = [
            ("x-stream-filter", odd.clone()),
            ("x-stream-match-unfiltered", odd),
        ];
        try_read(&mut rig, MANY, &both).expect("other types mean nothing");
    }

    rig.declare("classic", &[]);
    let raw = encoded(&[("x-stream-filter", text("x"))]);
    let arguments = RawTable::parse(&raw).expect("it is a table");
    let asked = StreamReader::asked(arguments, "classic", "/", rig.turn.now);
    let asked = asked.expect("it can be read");
    let refused = rig.try_consume("classic", 1, |consumer| consumer.stream = asked);
    assert_eq!(
        &*refused.err().expect("it is refused").text,
        "invalid arg 'x-stream-filter' for queue 'classic' in vhost '/' of queue type \
         rabbit_classic_queue"
    );
}

/// FEATURES A9: `x-max-length-bytes` gives up whole segments, the oldest first, and the newest
/// stays.
#[test]
fn a9_retention_by_bytes() {
    let tape = Arc::new(Tape::default());
    let mut rig = Tape::rig(&tape);
    let queue = stream(
        &mut rig,
        &[
            ("x-max-length-bytes", long(5_000)),
            ("x-stream-max-segment-size-bytes", long(1_000)),
        ],
    );
    for _ in 0..100 {
        rig.publish("", "s", &[0; 500]);
    }
    rig.pass(10);
    // A message counts its parts and 40 bytes: two are a segment.
    let view = queue.view();
    assert!((8..=12).contains(&view.ready), "{} are kept", view.ready);
    assert!(view.ready_bytes <= 6_500, "{} bytes", view.ready_bytes);
    let reader = read(&mut rig, text("first"));
    let first = 100 - view.ready;
    assert_eq!(offsets(&reader), (first..100).collect::<Vec<_>>());
    assert_eq!(tape.kept(queue.id()), (first..100).collect::<Vec<_>>());

    let queue = rig.declare(
        "tiny",
        &[
            ("x-queue-type", text("stream")),
            ("x-max-length-bytes", long(0)),
            ("x-stream-max-segment-size-bytes", long(0)),
        ],
    );
    for _ in 0..10 {
        rig.publish("", "tiny", b"large");
    }
    assert_eq!(queue.view().ready, 1, "the newest stays");
}

/// FEATURES A9: `x-max-age`, by the time of the newest message of a segment.
#[test]
fn a9_retention_by_age() {
    let tape = Arc::new(Tape::default());
    let arguments = [
        ("x-max-age", text("60s")),
        ("x-stream-max-segment-size-bytes", long(1)),
    ];
    let mut rig = Tape::rig(&tape);
    let queue = stream(&mut rig, &arguments);
    publish_all(&mut rig, 0..3);
    rig.pass(30_000);
    publish_all(&mut rig, 3..6);
    rig.pass(30_001);
    assert_eq!(queue.view().ready, 6, "as RabbitMQ, when a segment begins");
    publish_all(&mut rig, 6..7);
    let reader = read(&mut rig, text("first"));
    assert_eq!(reader.bodies(), numbers(3..7));

    // The same with messages that a restart found: their times are read from the journal.
    drop(rig);
    let mut rig = Tape::rig(&tape);
    rig.pass(61_000);
    publish_all(&mut rig, 7..8);
    rig.pass(30_000);
    publish_all(&mut rig, 8..9);
    let reader = read(&mut rig, text("first"));
    assert_eq!(reader.bodies(), numbers(6..9));
}

/// FEATURES A9: offsets go on after a restart, also of what retention has given up.
#[test]
fn a9_offsets_never_start_anew() {
    let tape = Arc::new(Tape::default());
    let arguments = [
        ("x-max-length-bytes", long(1)),
        ("x-stream-max-segment-size-bytes", long(1)),
    ];
    for start in 0..4 {
        let mut rig = Tape::rig(&tape);
        let queue = stream(&mut rig, &arguments);
        let reader = read(&mut rig, text("next"));
        for body in start * 10..start * 10 + 10 {
            // Also what is transient is kept.
            rig.publish_with("", "s", body.to_string().as_bytes(), |properties| {
                properties.delivery_mode = Some(1);
            });
        }
        rig.pass(10);
        assert_eq!(
            offsets(&reader),
            (start * 10..start * 10 + 10).collect::<Vec<_>>()
        );
        assert_eq!(queue.view().ready, 1);
        assert_eq!(tape.kept(queue.id()), [start * 10 + 9]);
    }
}
