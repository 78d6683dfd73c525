//! Numbers at their ends, wherever a client may send one; and as many of everything as there may
//! be.

use leveret_core::field::{RawTable, Table, Value};

use super::client::*;
use crate::limits::CONSUMERS_PER_CHANNEL_MAX;
use crate::method::*;
use crate::node::Node;
use crate::options::Options;

fn table(name: &str, value: Value) -> Vec<u8> {
    let mut table = Table::new();
    table.insert(name, value).expect("short");
    let mut bytes = Vec::new();
    table.encode(&mut bytes).expect("short");
    bytes
}

/// Says what a client with an empty queue `q` is answered last.
fn answer(method: ClientMethod<'_>) -> String {
    let mut client = Client::open(&node());
    client.declare("q");
    client.ask(1, method).last().cloned().unwrap_or_default()
}

/// FEATURES A5: `x-priority` is any integer, and no other thing.
#[test]
fn a5_priorities_of_consumers() {
    let refused = |kind: &str| {
        format!(
            "1 channel.close 406 60.20 PRECONDITION_FAILED - invalid arg 'x-priority' for queue \
             'q' in vhost '/': \"expected integer, got {kind}\""
        )
    };
    let fine = || "1 basic.consume-ok c".to_owned();
    let rows = [
        (Value::I32(0), fine()),
        (Value::I8(-1), fine()),
        (Value::U32(1 << 31), fine()),
        (Value::I64(i64::MAX), fine()),
        (Value::I64(i64::MIN), fine()),
        (Value::from("1"), refused("longstr")),
        (Value::Bool(true), refused("bool")),
        (Value::F64(1.0), refused("double")),
        (Value::Timestamp(1), refused("timestamp")),
        (Value::Void, refused("void")),
    ];
    for (value, expected) in rows {
        let arguments = table("x-priority", value.clone());
        let method = ClientMethod::BasicConsume(BasicConsume {
            queue: "q",
            consumer_tag: "c",
            arguments: RawTable::parse(&arguments).expect("legal"),
            ..BasicConsume::default()
        });
        assert_eq!(answer(method), expected, "{value:?}");
    }
}

/// FEATURES A5: who has the higher priority is served first.
#[test]
fn a5_a_higher_priority_comes_first() {
    let mut client = Client::open(&node());
    client.declare("q");
    client.send(1, qos(1, false));
    for (tag, priority) in [("low", -1), ("high", 5), ("none", 0)] {
        let arguments = table("x-priority", Value::I32(priority));
        let method = ClientMethod::BasicConsume(BasicConsume {
            queue: "q",
            consumer_tag: tag,
            arguments: RawTable::parse(&arguments).expect("legal"),
            ..BasicConsume::default()
        });
        client.send(1, method);
    }
    client.lines();
    ["1", "2", "3"]
        .iter()
        .for_each(|body| client.publish("", "q", body));
    let expected = [
        "1 basic.deliver high 1 '' q 1",
        "1 basic.deliver none 2 '' q 2",
        "1 basic.deliver low 3 '' q 3",
    ];
    assert_eq!(client.lines(), expected);
}

#[test]
fn a2_numbers_at_their_ends() {
    for tag in [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        let refused = |id: MethodId| {
            format!("1 channel.close 406 {id} PRECONDITION_FAILED - unknown delivery tag {tag}")
        };
        for multiple in [false, true] {
            let all = tag == 0 && multiple;
            let ack = BasicAck {
                delivery_tag: tag,
                multiple,
            };
            let expected = if all {
                String::new()
            } else {
                refused(BasicAck::ID)
            };
            assert_eq!(answer(ClientMethod::BasicAck(ack)), expected);
            let nack = BasicNack {
                delivery_tag: tag,
                multiple,
                requeue: true,
            };
            let expected = if all {
                String::new()
            } else {
                refused(BasicNack::ID)
            };
            assert_eq!(answer(ClientMethod::BasicNack(nack)), expected);
        }
        let reject = BasicReject {
            delivery_tag: tag,
            requeue: true,
        };
        assert_eq!(
            answer(ClientMethod::BasicReject(reject)),
            refused(BasicReject::ID)
        );
    }
    for prefetch_size in [1, 1 << 31, u32::MAX] {
        let qos = BasicQos {
            prefetch_size,
            prefetch_count: u16::MAX,
            global: false,
        };
        let expected = format!(
            "0 connection.close 540 60.10 NOT_IMPLEMENTED - prefetch_size!=0 ({prefetch_size})"
        );
        assert_eq!(answer(ClientMethod::BasicQos(qos)), expected);
    }
    for global in [false, true] {
        assert_eq!(answer(qos(u16::MAX, global)), "1 basic.qos-ok");
        assert_eq!(answer(qos(0, global)), "1 basic.qos-ok");
    }
}

/// FEATURES A5: basic.qos without global replaces the limit of all consumers together.
#[test]
fn a5_a_window_for_each_replaces_the_common_one() {
    let mut client = Client::open(&node());
    client.declare("q");
    ["1", "2", "3"]
        .iter()
        .for_each(|body| client.publish("", "q", body));
    client.send(1, qos(1, true));
    assert_eq!(client.consume("q", false).len(), 3);
    // Both answers, the consumer's first delivery; then the others.
    assert_eq!(client.ask(1, qos(0, false)).len(), 3);
}

/// FEATURES A2: every channel that may be negotiated can be opened; one more may not.
#[test]
fn a2_as_many_channels_as_there_are_numbers() {
    let options = Options {
        channel_max: u16::MAX,
        ..Options::default()
    };
    let node = Node::new(node().broker.clone(), options);
    let mut client = Client::accepted(&node);
    let mut bytes = HEADER.to_vec();
    start_ok(&mut bytes, "PLAIN", b"\0guest\0guest");
    let tune = ConnectionTuneOk {
        channel_max: u16::MAX,
        frame_max: FRAME_MAX,
        heartbeat: 0,
    };
    ClientMethod::ConnectionTuneOk(tune).encode(0, &mut bytes);
    let open = ConnectionOpen {
        virtual_host: "/",
        ..ConnectionOpen::default()
    };
    ClientMethod::ConnectionOpen(open).encode(0, &mut bytes);
    for channel in 1..=u16::MAX {
        ClientMethod::ChannelOpen(ChannelOpen::default()).encode(channel, &mut bytes);
    }
    client.feed(&bytes);
    let lines = client.lines();
    assert_eq!(lines.len(), 3 + usize::from(u16::MAX));
    assert!(
        lines[3..]
            .iter()
            .all(|line| line.ends_with(" channel.open-ok"))
    );
    client.hang_up();
}

/// FEATURES A2: numbers and counts above what was negotiated.
#[test]
fn a2_channels_beyond_what_was_negotiated() {
    let open = ClientMethod::ChannelOpen(ChannelOpen::default());
    let mut client = Client::open(&node());
    // RabbitMQ: how many there are counts, not which number one has.
    assert_eq!(client.ask(2048, open), ["2048 channel.open-ok"]);
    (2..2047).for_each(|channel| client.send(channel, open));
    assert_eq!(client.lines().len(), 2045);
    let why = "0 connection.close 530 20.10 NOT_ALLOWED - number of channels opened (2047) has \
         reached the negotiated channel_max (2047)";
    assert_eq!(client.ask(u16::MAX, open), [why]);
}

/// FEATURES A2: as many consumers as there may be on a channel, and one more.
#[test]
fn a2_consumers_beyond_the_limit() {
    let mut client = Client::open(&node());
    client.declare("q");
    let mut bytes = Vec::new();
    for number in 0..CONSUMERS_PER_CHANNEL_MAX {
        let tag = number.to_string();
        let method = BasicConsume {
            queue: "q",
            consumer_tag: &tag,
            no_wait: true,
            ..BasicConsume::default()
        };
        ClientMethod::BasicConsume(method).encode(1, &mut bytes);
    }
    client.feed(&bytes);
    assert!(client.lines().is_empty());
    let expected = format!(
        "0 connection.close 530 60.20 NOT_ALLOWED - reached maximum \
         ({CONSUMERS_PER_CHANNEL_MAX}) of consumers per channel"
    );
    assert_eq!(client.ask(1, consume("q", "more", false)), [expected]);
}
