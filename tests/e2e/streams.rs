//! FEATURES A9: streams over real sockets: many readers, every kind of offset, filters, retention,
//! restarts and kills.

use std::net::SocketAddr;
use std::path::Path;

use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use rustix::process::Signal;
use serde_json::json;

use crate::amqp::{channel, connect, declare, next, reply_code, text, try_connect};
use crate::broker::{TestBroker, eventually, within};
use crate::program::{Program, code, run, stderr, stdout};

fn string(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Declares the stream `s`; says how many messages it has.
async fn stream(channel: &Channel, more: &[(&str, AMQPValue)]) -> u32 {
    let mut arguments = table(more);
    arguments.insert("x-queue-type".into(), string("stream"));
    let options = QueueDeclareOptions::durable();
    let declared = channel.queue_declare("s".into(), options, arguments);
    let declared = within(declared).await.expect("may be declared");
    declared.message_count()
}

async fn confirming(connection: &Connection) -> Channel {
    let channel = channel(connection).await;
    let selected = channel.confirm_select(ConfirmSelectOptions::default());
    within(selected).await.expect("confirm.select-ok");
    channel
}

/// Publishes numbers, and waits until all are confirmed.
async fn publish_all(channel: &Channel, numbers: std::ops::Range<u64>, padding: usize) {
    let mut waiting = Vec::new();
    for number in numbers {
        let body = format!("{number:>padding$}");
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent =
            channel.basic_publish("".into(), "s".into(), options, body.as_bytes(), properties);
        waiting.push(within(sent).await.expect("may be sent"));
    }
    for confirm in waiting {
        let confirmation = within(confirm).await.expect("a confirm");
        assert_eq!(confirmation, Confirmation::Ack(None));
    }
}

async fn try_read(
    channel: &Channel,
    prefetch: u16,
    no_ack: bool,
    arguments: &[(&str, AMQPValue)],
) -> lapin::Result<Consumer> {
    let options = BasicQosOptions::default();
    within(channel.basic_qos(prefetch, options)).await?;
    let options = BasicConsumeOptions {
        no_ack,
        ..BasicConsumeOptions::default()
    };
    within(channel.basic_consume("s".into(), "".into(), options, table(arguments))).await
}

/// A reader on a channel of its own.
async fn read(connection: &Connection, prefetch: u16, offset: AMQPValue) -> Consumer {
    let channel = channel(connection).await;
    let arguments = [("x-stream-offset", offset)];
    let reader = try_read(&channel, prefetch, false, &arguments).await;
    reader.expect("may read")
}

fn number(delivery: &Delivery) -> u64 {
    text(delivery).trim().parse().expect("a number")
}

fn offset(delivery: &Delivery) -> i64 {
    let headers = delivery.properties.headers().as_ref().expect("headers");
    match headers.inner().get("x-stream-offset") {
        Some(AMQPValue::LongLongInt(offset)) => *offset,
        other => panic!("no offset: {other:?}"),
    }
}

/// Expects these numbers next, and acknowledges each.
async fn expect(reader: &mut Consumer, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        let delivery = next(reader).await;
        assert_eq!(number(&delivery), expected);
        assert_eq!(offset(&delivery), expected as i64);
        assert!(!delivery.redelivered);
        let acked = delivery.ack(BasicAckOptions::default());
        within(acked).await.expect("the channel lives");
    }
}

/// FEATURES A9: readers at the end and readers far behind, at once, each with its own window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_many_readers_read_all() {
    const MESSAGES: u64 = 6_000;
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let publisher = confirming(&connection).await;
    assert_eq!(stream(&publisher, &[]).await, 0);
    let other = connect(&broker).await;
    let mut readers = Vec::new();
    for prefetch in [1, 7, 100, 1_000] {
        readers.push(read(&other, prefetch, string("next")).await);
    }
    publish_all(&publisher, 0..MESSAGES / 2, 1_000).await;
    for prefetch in [3, 500] {
        readers.push(read(&other, prefetch, string("first")).await);
    }
    publish_all(&publisher, MESSAGES / 2..MESSAGES, 1_000).await;
    let queue = broker.queue("s").expect("it is there");
    eventually("most are on disk only", || {
        // The disk may have had the last of them when nobody was there to look.
        broker.core().page_out();
        queue.view().paged > MESSAGES / 2
    })
    .await;
    readers.push(read(&other, 200, string("first")).await);
    let mut all = Vec::new();
    for mut reader in readers {
        all.push(tokio::spawn(async move {
            expect(&mut reader, 0..MESSAGES).await;
        }));
    }
    for one in all {
        one.await.expect("it reads all");
    }
    assert_eq!(stream(&publisher, &[]).await, MESSAGES as u32);
    let rows = broker.ctl("list_queues", json!({ "vhost": "/" })).await;
    let row = &rows.as_array().expect("rows")[0];
    assert_eq!(row["messages"], MESSAGES, "{row}");
    assert_eq!(row["messages_unacknowledged"], 0, "{row}");
}

/// FEATURES A9: `x-stream-offset` in all its forms, and a refusal of what is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_readers_begin_where_they_ask() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let publisher = confirming(&connection).await;
    stream(&publisher, &[]).await;
    publish_all(&publisher, 0..10, 0).await;
    let cases = [
        (string("first"), 0),
        (string("last"), 9),
        (AMQPValue::LongInt(4), 4),
        (AMQPValue::LongLongInt(-1), 0),
        (AMQPValue::Timestamp(1), 0),
        (string("1h"), 0),
    ];
    for (asked, first) in cases {
        let mut reader = read(&connection, 100, asked).await;
        expect(&mut reader, first..10).await;
    }
    let mut waiting = Vec::new();
    for (asked, first) in [
        (string("next"), 10),
        (AMQPValue::LongLongInt(12), 12),
        (AMQPValue::Timestamp(32_000_000_000), 10),
    ] {
        waiting.push((read(&connection, 100, asked).await, first));
    }
    publish_all(&publisher, 10..15, 0).await;
    for (mut reader, first) in waiting {
        expect(&mut reader, first..15).await;
    }
    for bad in [string("soon"), string("0s"), AMQPValue::Boolean(true)] {
        let refused = channel(&connection).await;
        let reader = try_read(&refused, 1, false, &[("x-stream-offset", bad)]).await;
        assert_eq!(reply_code(&reader.expect_err("no offset")), 406);
    }
}

/// FEATURES A9: filters by the publisher's header, next to the broker's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_filters() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let publisher = confirming(&connection).await;
    stream(&publisher, &[]).await;
    for number in 0..300_u64 {
        let value = ["red", "green", "blue"][number as usize % 3];
        let mut properties = BasicProperties::default().with_delivery_mode(1);
        if value != "blue" {
            let headers = table(&[("x-stream-filter-value", string(value))]);
            properties = properties.with_headers(headers);
        }
        let body = number.to_string();
        let options = BasicPublishOptions::default();
        let sent =
            publisher.basic_publish("".into(), "s".into(), options, body.as_bytes(), properties);
        let confirm = within(sent).await.expect("may be sent");
        within(confirm).await.expect("a confirm");
    }
    let both = FieldArray::from(vec![string("red"), string("none")]);
    let cases: [(&[(&str, AMQPValue)], &[u64]); 3] = [
        (&[("x-stream-filter", string("green"))], &[1]),
        (
            &[
                ("x-stream-filter", AMQPValue::FieldArray(both)),
                ("x-stream-match-unfiltered", AMQPValue::Boolean(true)),
            ],
            &[0, 2],
        ),
        (&[], &[0, 1, 2]),
    ];
    for (filter, remainders) in cases {
        let channel = channel(&connection).await;
        let mut arguments = filter.to_vec();
        arguments.push(("x-stream-offset", string("first")));
        let mut reader = try_read(&channel, 10, false, &arguments)
            .await
            .expect("may read");
        for expected in (0..300).filter(|number| remainders.contains(&(number % 3))) {
            let delivery = next(&mut reader).await;
            assert_eq!(
                (number(&delivery), offset(&delivery)),
                (expected, expected as i64)
            );
            let headers = delivery.properties.headers().clone().expect("headers");
            let kept = headers.inner().contains_key("x-stream-filter-value");
            assert_eq!(
                kept,
                expected % 3 != 2,
                "the publisher's header is still there"
            );
            let acked = delivery.ack(BasicAckOptions::default());
            within(acked).await.expect("the channel lives");
        }
    }
}

/// FEATURES A9: what streams refuse, with RabbitMQ's codes; and what a nack does not do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_refusals() {
    let broker = TestBroker::start().await;
    let connection = connect(&broker).await;
    let publisher = confirming(&connection).await;
    stream(&publisher, &[]).await;
    publish_all(&publisher, 0..3, 0).await;

    let refused = channel(&connection).await;
    let reader = try_read(&refused, 0, false, &[]).await;
    assert_eq!(reply_code(&reader.expect_err("no prefetch")), 406);
    let gone = connect(&broker).await;
    let reader = try_read(&channel(&gone).await, 1, true, &[]).await;
    assert_eq!(reply_code(&reader.expect_err("no ack")), 540);
    let gone = connect(&broker).await;
    let got = channel(&gone).await;
    let got = within(got.basic_get("s".into(), BasicGetOptions::default())).await;
    assert_eq!(reply_code(&got.expect_err("no get")), 540);
    let gone = connect(&broker).await;
    let purged = channel(&gone).await;
    let purged = within(purged.queue_purge("s".into(), QueuePurgeOptions::default())).await;
    assert_eq!(reply_code(&purged.expect_err("no purge")), 540);
    for options in [
        QueueDeclareOptions::default(),
        QueueDeclareOptions::exclusive(),
    ] {
        let refused = channel(&connection).await;
        let arguments = table(&[("x-queue-type", string("stream"))]);
        let declared = within(refused.queue_declare("t".into(), options, arguments)).await;
        assert_eq!(reply_code(&declared.expect_err("not durable")), 406);
    }
    let refused = channel(&connection).await;
    declare(&refused, "classic", QueueDeclareOptions::durable()).await;
    let arguments = table(&[("x-stream-offset", string("first"))]);
    let options = BasicConsumeOptions::default();
    let consumed = refused.basic_consume("classic".into(), "".into(), options, arguments);
    assert_eq!(
        reply_code(&within(consumed).await.expect_err("no stream")),
        406
    );

    let mut reader = read(&connection, 1, string("first")).await;
    for expected in 0..3 {
        let delivery = next(&mut reader).await;
        assert_eq!((number(&delivery), delivery.redelivered), (expected, false));
        let options = BasicNackOptions {
            requeue: expected == 0,
            ..BasicNackOptions::default()
        };
        within(delivery.nack(options)).await.expect("gives credit");
    }
    // RabbitMQ asks nobody before it deletes one.
    let options = QueueDeleteOptions {
        if_empty: true,
        ..QueueDeleteOptions::default()
    };
    let deleted = publisher.queue_delete("s".into(), options);
    assert_eq!(within(deleted).await.expect("may be deleted"), 3);
}

/// FEATURES A9: the oldest segments go, on disk as well, and offsets go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_retention_survives_a_restart() {
    let directory = tempfile::tempdir().expect("a data directory");
    let arguments = [
        ("x-max-length-bytes", AMQPValue::LongInt(1_000_000)),
        (
            "x-stream-max-segment-size-bytes",
            AMQPValue::LongInt(100_000),
        ),
    ];
    let program = Program::start(directory.path());
    let connection = connect_to(&program).await;
    let publisher = confirming(&connection).await;
    stream(&publisher, &arguments).await;
    publish_all(&publisher, 0..3_000, 1_000).await;
    let kept = u64::from(stream(&publisher, &arguments).await);
    assert!((800..1_100).contains(&kept), "{kept} are kept");
    program.stop(Signal::TERM);

    let program = Program::start(directory.path());
    let connection = connect_to(&program).await;
    let publisher = confirming(&connection).await;
    assert_eq!(u64::from(stream(&publisher, &arguments).await), kept);
    let mut reader = read(&connection, 100, string("first")).await;
    expect(&mut reader, 3_000 - kept..3_000).await;
    publish_all(&publisher, 3_000..3_010, 1_000).await;
    expect(&mut reader, 3_000..3_010).await;
    let mut from_the_middle = read(&connection, 100, AMQPValue::LongInt(2_900)).await;
    expect(&mut from_the_middle, 2_900..3_010).await;
}

fn address(program: &Program) -> SocketAddr {
    program.address("AMQP 0-9-1").parse().expect("an address")
}

async fn connect_to(program: &Program) -> Connection {
    let connection = try_connect(address(program), "guest:guest", "%2f").await;
    connection.expect("connects")
}

/// What one life of the broker shows: publishes until it is killed, while a reader reads.
async fn live_and_be_killed(directory: &Path, seen: &mut Vec<u64>, sent: &mut u64, enough: usize) {
    let program = Program::start(directory);
    let connection = connect_to(&program).await;
    let publisher = confirming(&connection).await;
    stream(&publisher, &[]).await;
    let resumed = AMQPValue::LongLongInt(seen.len() as i64);
    let mut reader = read(&connection, 50, resumed).await;
    let mut unconfirmed = Vec::new();
    let wanted = seen.len() + enough;
    while seen.len() < wanted {
        for _ in 0..20 {
            let body = sent.to_string();
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            let sending = publisher.basic_publish(
                "".into(),
                "s".into(),
                options,
                body.as_bytes(),
                properties,
            );
            unconfirmed.push(within(sending).await.expect("may be sent"));
            *sent += 1;
        }
        for _ in 0..10 {
            let delivery = next(&mut reader).await;
            assert_eq!(
                offset(&delivery),
                seen.len() as i64,
                "no gap, nothing twice"
            );
            seen.push(number(&delivery));
            let acked = delivery.ack(BasicAckOptions::default());
            within(acked).await.expect("the channel lives");
        }
    }
    program.stop(Signal::KILL);
}

/// FEATURES A9, D1: an offset that a reader has seen is that message for ever, whenever the broker
/// is killed; and nothing is missing that was confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_offsets_are_stable_across_kills() {
    let directory = tempfile::tempdir().expect("a data directory");
    let (mut seen, mut sent) = (Vec::new(), 0);
    for life in 0..5 {
        live_and_be_killed(directory.path(), &mut seen, &mut sent, 37 * life + 20).await;
    }
    let program = Program::start(directory.path());
    let connection = connect_to(&program).await;
    let publisher = confirming(&connection).await;
    let held = u64::from(stream(&publisher, &[]).await);
    assert!(held >= seen.len() as u64);
    publish_all(&publisher, 1_000_000..1_000_001, 0).await;
    let mut reader = read(&connection, 100, string("first")).await;
    let mut all = Vec::new();
    for expected in 0..=held {
        let delivery = next(&mut reader).await;
        assert_eq!(offset(&delivery), expected as i64);
        all.push(number(&delivery));
        let acked = delivery.ack(BasicAckOptions::default());
        within(acked).await.expect("the channel lives");
    }
    assert_eq!(all[..seen.len()], seen[..]);
    assert!(all.is_sorted(), "in the order that they were published in");
    assert_eq!(all.last(), Some(&1_000_000));
    within(connection.close(200, "".into()))
        .await
        .expect("closes");
    program.stop(Signal::TERM);

    let dumped = run(&["store", "dump"], directory.path());
    assert_eq!(code(&dumped), Some(0), "{}", stderr(&dumped));
    let dump = stdout(&dumped);
    assert!(dump.contains("1000000"), "the last message is in it");
}
