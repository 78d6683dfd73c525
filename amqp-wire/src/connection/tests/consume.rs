//! Consuming: windows, acknowledgements, redelivery, fetching, fairness, back-pressure.

use leveret_core::exchange::Memo;
use leveret_core::field::{RawTable, Value};
use leveret_core::key::Form;
use leveret_core::message::{Head, MessageRef, Origin};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use super::client::*;
use crate::limits::{DELIVERY_BYTES_MAX, REPLY_BYTES_MAX};
use crate::method::*;

fn deliver(tag: u64, body: &str) -> String {
    format!("1 basic.deliver c {tag} '' q {body}")
}

fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> ClientMethod<'static> {
    ClientMethod::BasicNack(BasicNack {
        delivery_tag,
        multiple,
        requeue,
    })
}

fn get(no_ack: bool) -> ClientMethod<'static> {
    ClientMethod::BasicGet(BasicGet {
        ticket: 0,
        queue: "q",
        no_ack,
    })
}

/// A client with `count` messages in queue `q`, bodies "1", "2", ….
fn with_messages(count: usize) -> Client {
    let mut client = Client::open(&node());
    client.declare("q");
    for number in 1..=count {
        client.publish("", "q", &number.to_string());
    }
    client
}

fn counts(client: &Client) -> (u64, u64) {
    let vhost = client.node.broker.vhost("/").expect("the default");
    let view = vhost.queue("q").expect("declared").view();
    (view.ready, view.unacked)
}

#[test]
fn windows() {
    let mut client = with_messages(6);
    client.send(1, qos(2, false));
    let found = client.consume("q", false);
    assert_eq!(found[2..], [deliver(1, "1"), deliver(2, "2")]);
    assert_eq!(counts(&client), (4, 2));
    assert_eq!(client.ack(2, false), [deliver(3, "3")]);
    assert_eq!(client.ack(3, true), [deliver(4, "4"), deliver(5, "5")]);
    // Zero with multiple is everything.
    assert_eq!(client.ack(0, true), [deliver(6, "6")]);
    assert!(client.ack(6, false).is_empty());
    assert_eq!(counts(&client), (0, 0));
}

#[test]
fn windows_of_consumer_or_channel() {
    // (prefetch, global, deliveries to two consumers together)
    for (prefetch, global, expected) in [(1, false, 2), (3, true, 3), (0, false, 8), (0, true, 8)] {
        let mut client = with_messages(8);
        client.send(1, qos(prefetch, global));
        client.send(1, consume("q", "c", false));
        client.send(1, consume("q", "d", false));
        let found = client.lines();
        let deliveries = found.iter().filter(|line| line.contains("deliver")).count();
        assert_eq!(deliveries, expected, "{prefetch} {global}");
        assert_eq!(counts(&client), (8 - expected as u64, expected as u64));
    }
}

#[test]
fn a_wider_window_lets_more_through() {
    let mut client = with_messages(3);
    client.send(1, qos(1, true));
    client.consume("q", false);
    assert_eq!(
        client.ask(1, qos(2, true)),
        ["1 basic.qos-ok", &deliver(2, "2")]
    );
    assert_eq!(
        client.ask(1, qos(0, true)),
        ["1 basic.qos-ok", &deliver(3, "3")]
    );
}

#[test]
fn put_back_in_order_and_marked() {
    let mut client = with_messages(3);
    client.consume("q", false);
    client.send(
        1,
        ClientMethod::BasicCancel(BasicCancel {
            consumer_tag: "c",
            no_wait: true,
        }),
    );
    assert_eq!(counts(&client), (0, 3));
    assert!(client.ask(1, nack(3, true, true)).is_empty());
    assert_eq!(counts(&client), (3, 0));
    for (body, left) in [("1", 2), ("2", 1), ("3", 0)] {
        let tag = 6 - left;
        let expected = format!("1 basic.get-ok {tag} again '' q left={left} {body}");
        assert_eq!(client.ask(1, get(false)), [expected]);
    }
    assert_eq!(client.ask(1, get(false)), ["1 basic.get-empty"]);
    let recover = ClientMethod::BasicRecover(BasicRecover { requeue: true });
    assert_eq!(client.ask(1, recover), ["1 basic.recover-ok"]);
    assert_eq!(counts(&client), (3, 0));
}

#[test]
fn given_up() {
    let mut client = with_messages(3);
    client.consume("q", false);
    let reject = BasicReject {
        delivery_tag: 1,
        requeue: false,
    };
    assert!(client.ask(1, ClientMethod::BasicReject(reject)).is_empty());
    assert!(client.ask(1, nack(3, true, false)).is_empty());
    assert_eq!(counts(&client), (0, 0));
    client.publish("", "q", "4");
    assert_eq!(client.lines(), [deliver(4, "4")]);
    let reject = BasicReject {
        delivery_tag: 4,
        requeue: true,
    };
    let found = client.ask(1, ClientMethod::BasicReject(reject));
    assert_eq!(found, ["1 basic.deliver c 5 again '' q 4"]);
}

#[test]
fn tags_are_settled_once_in_any_order() {
    let mut client = with_messages(100);
    client.consume("q", false);
    for tag in (2..=100).rev() {
        assert!(client.ack(tag, false).is_empty(), "{tag}");
    }
    assert_eq!(counts(&client), (0, 1));
    let unknown = "1 channel.close 406 60.80 PRECONDITION_FAILED - unknown delivery tag 50";
    assert_eq!(client.ack(50, false), [unknown]);
    // The channel's end put the first back.
    assert_eq!(counts(&client), (1, 0));
}

#[test]
fn fetched() {
    let mut client = with_messages(2);
    assert_eq!(client.ask(1, get(true)), ["1 basic.get-ok 1 '' q left=1 1"]);
    assert_eq!(
        client.ask(1, get(false)),
        ["1 basic.get-ok 2 '' q left=0 2"]
    );
    assert_eq!(counts(&client), (0, 1));
    assert!(client.ack(2, false).is_empty());
    assert_eq!(counts(&client), (0, 0));
}

#[test]
fn acknowledged_before_whatever_comes_next_in_the_same_batch() {
    let mut client = with_messages(1);
    client.consume("q", false);
    let mut bytes = Vec::new();
    ClientMethod::BasicAck(BasicAck {
        delivery_tag: 1,
        multiple: false,
    })
    .encode(1, &mut bytes);
    ClientMethod::ChannelClose(ChannelClose::default()).encode(1, &mut bytes);
    client.feed(&bytes);
    assert_eq!(client.lines(), ["1 channel.close-ok"]);
    assert_eq!(counts(&client), (0, 0));
}

#[test]
fn two_connections_share_fairly() {
    let node = node();
    let mut sender = Client::open(&node);
    sender.declare("q");
    let mut receivers = [Client::open(&node), Client::open(&node)];
    for receiver in &mut receivers {
        receiver.consume("q", true);
    }
    for number in 0..10 {
        sender.publish("", "q", &number.to_string());
    }
    for receiver in &mut receivers {
        assert_eq!(receiver.lines().len(), 5);
    }
}

#[test]
fn one_wake_up_for_a_batch() {
    let node = node();
    let mut sender = Client::open(&node);
    sender.declare("q");
    let mut receiver = Client::open(&node);
    receiver.consume("q", true);
    let mut bytes = Vec::new();
    for _ in 0..50 {
        publish(&mut bytes, "", "q", &BasicProperties::default(), b"m");
    }
    let before = sender.turn.wakes_rung();
    sender.feed(&bytes);
    assert_eq!(sender.turn.wakes_rung() - before, 1);
    assert_eq!(receiver.lines().len(), 50);
}

#[test]
fn a_full_out_buffer_holds_deliveries_back() {
    let mut client = with_messages(0);
    let body = vec![b'x'; 300_000];
    let mut receiver = Client::open(&client.node);
    receiver.consume("q", true);
    for _ in 0..10 {
        client.publish("", "q", std::str::from_utf8(&body).expect("text"));
    }
    let waiting = DELIVERY_BYTES_MAX.div_ceil(body.len());
    assert_eq!(counts(&client), (10 - waiting as u64, 0));
    let mut found = 0;
    for _ in 0..10 {
        found += receiver.lines().len();
    }
    assert_eq!((found, counts(&client)), (10, (0, 0)));
}

#[test]
fn a_client_that_reads_no_answers_is_not_read() {
    let mut client = with_messages(0);
    let mut bytes = Vec::new();
    let mandatory = BasicPublish {
        routing_key: "x",
        mandatory: true,
        ..BasicPublish::default()
    };
    publish_as(
        &mut bytes,
        mandatory,
        &BasicProperties::default(),
        &[b'x'; 500_000],
    );
    let one = bytes.len();
    let bytes = bytes.repeat(5);
    let taken = client.machine.handle_input(&mut client.turn, &bytes);
    assert!(taken < bytes.len() && !client.machine.wants_input());
    assert!(taken / one * 500_000 >= REPLY_BYTES_MAX);
    client.machine.poll_output(&mut Vec::new());
    assert!(client.machine.wants_input());
}

#[test]
fn queues_that_go_cancel_their_consumers() {
    let node = node();
    let mut client = Client::open(&node);
    client.declare("q");
    client.consume("q", true);
    let mut other = Client::open(&node);
    let delete = QueueDelete {
        queue: "q",
        ..QueueDelete::default()
    };
    assert_eq!(
        other.ask(1, ClientMethod::QueueDelete(delete)),
        ["1 queue.delete-ok 0"]
    );
    assert_eq!(client.lines(), ["1 basic.cancel c"]);
    // The tag is free again.
    client.declare("q");
    assert_eq!(client.consume("q", true), ["1 basic.consume-ok c"]);
}

#[test]
fn cancelled() {
    let mut client = with_messages(0);
    let queue = QueueDeclare {
        queue: "auto",
        auto_delete: true,
        ..QueueDeclare::default()
    };
    client.send(1, ClientMethod::QueueDeclare(queue));
    client.lines();
    client.consume("auto", true);
    let cancel = BasicCancel {
        consumer_tag: "c",
        no_wait: false,
    };
    assert_eq!(
        client.ask(1, ClientMethod::BasicCancel(cancel)),
        ["1 basic.cancel-ok c"]
    );
    let vhost = client.node.broker.vhost("/").expect("the default");
    assert!(vhost.queue("auto").is_none());
    assert_eq!(
        client.ask(1, ClientMethod::BasicCancel(cancel)),
        ["1 basic.cancel-ok c"]
    );
}

#[test]
fn purged() {
    let mut client = with_messages(3);
    let purge = QueuePurge {
        queue: "q",
        ..QueuePurge::default()
    };
    assert_eq!(
        client.ask(1, ClientMethod::QueuePurge(purge)),
        ["1 queue.purge-ok 3"]
    );
}

#[test]
fn expired_messages_are_not_delivered() {
    let mut client = with_messages(0);
    let expiring = BasicProperties {
        expiration: Some(b"10"),
        ..BasicProperties::default()
    };
    let mut bytes = Vec::new();
    publish(&mut bytes, "", "q", &expiring, b"old");
    publish(&mut bytes, "", "q", &BasicProperties::default(), b"new");
    client.feed(&bytes);
    client.turn.now = Time(1_010);
    assert_eq!(client.consume("q", true)[1..], [deliver(1, "new")]);
}

/// A publisher of the other protocol: slashed keys, properties that must be made.
struct Slashed;

impl Origin for Slashed {
    fn tag(&self) -> u8 {
        1
    }

    fn append_basic_properties(&self, _message: &MessageRef<'_>, out: &mut Vec<u8>) {
        let properties = BasicProperties {
            delivery_mode: Some(1),
            ..BasicProperties::default()
        };
        properties.encode(out).expect("short");
    }
}

#[test]
fn long_keys_hurt_nobody() {
    let mut client = with_messages(0);
    client.bind("q", "amq.topic", "#");
    client.consume("q", false);
    let vhost = client.node.broker.vhost("/").expect("the default");
    let link = client.node.broker.owner_link(&vhost);
    // (topic, key, headers)
    let long = "é".repeat(30_000);
    for (topic, key, headers) in [
        ("a/b".to_owned(), "a.b".to_owned(), ""),
        (
            format!("{}/y", "x".repeat(253)),
            format!("{}.y", "x".repeat(253)),
            "",
        ),
        (
            format!("{}/y", "x".repeat(254)),
            format!("{}.", "x".repeat(254)),
            " headers=1",
        ),
        (long, "é".repeat(127), " headers=1"),
    ] {
        let message = MessageRef {
            head: Head {
                origin: &Slashed,
                form: Form::Slashed,
                persistent: false,
                retain: false,
                exactly_once: false,
                publisher: 0,
                received: Time(1_000),
                expires: None,
            },
            exchange: "amq.topic",
            key: topic.as_bytes(),
            properties: b"",
            payload: b"m",
        };
        link.publish(&mut client.turn, &mut Memo::default(), &message)
            .expect("routed");
        let found = client.lines();
        let expected = format!("'amq.topic' {key} mode=1{headers} m");
        assert!(
            found.len() == 1 && found[0].ends_with(&expected),
            "{found:?} {expected}"
        );
    }
    // Fetched messages go the same way.
    client.send(1, nack(0, true, true));
    client.send(
        1,
        ClientMethod::BasicCancel(BasicCancel {
            consumer_tag: "c",
            no_wait: true,
        }),
    );
    client.send(1, nack(0, true, true));
    client.lines();
    assert_eq!(
        client.ask(1, get(true)),
        ["1 basic.get-ok 9 again 'amq.topic' a.b left=3 mode=1 m"]
    );
}

#[test]
fn bodies_are_cut_by_frame_max() {
    let mut client = Client::accepted(&node());
    let mut bytes = HEADER.to_vec();
    start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
    tune_ok(&mut bytes, 4_096);
    let open = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
    ClientMethod::ChannelOpen(ChannelOpen::default()).encode(1, &mut bytes);
    client.feed(&bytes);
    client.lines();
    client.declare("q");
    client.consume("q", true);
    let mut other = Client::open(&client.node);
    other.publish("", "q", &"x".repeat(10_000));
    let mut out = Vec::new();
    client.machine.poll_output(&mut out);
    let mut rest = &*out;
    let mut sizes = Vec::new();
    while let Some((frame, taken)) = crate::frame::decode(rest, 4_096 - 8).expect("legal") {
        sizes.push(frame.payload.len());
        rest = &rest[taken..];
    }
    assert_eq!(sizes[2..], [4_088, 4_088, 1_824]);
}

/// FEATURES D5: a consumer that was cancelled while it had no credit leaves nothing behind.
#[test]
fn d5_consumers_that_come_and_go_are_forgotten() {
    let mut client = Client::open(&node());
    client.declare("q");
    for body in ["one", "two"] {
        client.publish("", "q", body);
    }
    client.send(1, qos(1, true));
    client.send(1, consume("q", "first", false));
    client.lines();
    for _ in 0..200 {
        client.send(1, consume("q", "c", false));
        let cancel = BasicCancel {
            consumer_tag: "c",
            no_wait: true,
        };
        client.send(1, ClientMethod::BasicCancel(cancel));
        assert_eq!(client.lines(), ["1 basic.consume-ok c"]);
    }
    assert!(client.machine.outlet.starved() < 50);
    // Who waited all the time is still served.
    let found = client.ack(1, false);
    assert_eq!(found, ["1 basic.deliver first 2 '' q two"]);
}

/// `x-holes` with an array of nothing, which decoded takes 32 times as much.
fn holes(bytes: usize) -> Vec<u8> {
    let mut encoded = b"\x07x-holesA".to_vec();
    let inside = bytes - encoded.len() - 4;
    encoded.extend_from_slice(&u32::try_from(inside).expect("short").to_be_bytes());
    encoded.resize(bytes, b'V');
    encoded
}

/// FEATURES O2: listings have the arguments of `basic.consume`, of one connection's consumers 1 MiB
/// of them; what a consumer had goes to others when it is gone.
#[test]
fn o2_arguments_of_consumers_are_kept_up_to_a_bound() {
    let mut client = Client::open(&node());
    client.declare("q");
    client.send(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
    client.lines();
    let consume = |client: &mut Client, channel, tag: &str, bytes| {
        let encoded = holes(bytes);
        let method = BasicConsume {
            queue: "q",
            consumer_tag: tag,
            arguments: RawTable::parse(&encoded).expect("legal"),
            ..BasicConsume::default()
        };
        client.ask(channel, ClientMethod::BasicConsume(method));
    };
    let kept = |client: &Client| {
        let vhost = client.node.broker.vhost("/").expect("the default");
        let consumers = vhost.queue("q").expect("declared").consumers();
        let mut listed = 0;
        for consumer in consumers {
            let Some(arguments) = consumer.arguments else {
                continue;
            };
            let found = arguments.to_table();
            let Some(Value::Array(values)) = found.lookup("x-holes") else {
                panic!("{found:?}");
            };
            assert_eq!(values.len(), 4_096 - 13);
            listed += 1;
        }
        listed
    };
    consume(&mut client, 1, "too long", 4_097);
    assert_eq!(kept(&client), 0);
    for number in 0..300 {
        consume(&mut client, 1 + number % 2, &number.to_string(), 4_096);
    }
    // 1 MiB of 4 KiB each.
    assert_eq!(kept(&client), 256);
    let cancel = BasicCancel {
        consumer_tag: "0",
        ..BasicCancel::default()
    };
    client.ask(1, ClientMethod::BasicCancel(cancel));
    assert_eq!(kept(&client), 255);
    consume(&mut client, 1, "next", 4_096);
    consume(&mut client, 1, "too many", 4_096);
    assert_eq!(kept(&client), 256);
    // Another connection has its own.
    let mut other = Client::open(&client.node);
    consume(&mut other, 1, "c", 4_096);
    assert_eq!(kept(&client), 257);
    client.ask(2, ClientMethod::ChannelClose(ChannelClose::default()));
    assert_eq!(kept(&client), 257 - 128);
}
