//! What is refused, and with which words: input on an open connection, and the close that comes.

use leveret_core::field::{Table, Value};
use leveret_core::properties::BasicProperties;

use super::client::*;
use crate::frame::{self, FrameKind};
use crate::method::*;

type Row = (&'static str, Vec<u8>, &'static str);

fn on(channel: u16, method: ClientMethod<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    method.encode(channel, &mut bytes);
    bytes
}

fn raw(kind: FrameKind, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::with_payload(&mut bytes, kind, channel, |out| {
        out.extend_from_slice(payload)
    });
    bytes
}

fn message(properties: &BasicProperties<'_>, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    publish(&mut bytes, "", "q", properties, body);
    bytes
}

/// A publish method, then these frames.
fn begun(frames: &[Vec<u8>]) -> Vec<u8> {
    let method = BasicPublish {
        routing_key: "q",
        ..BasicPublish::default()
    };
    [on(1, ClientMethod::BasicPublish(method)), frames.concat()].concat()
}

fn header(class: u8, weight: u8, size: u64) -> Vec<u8> {
    let fixed = [&[0, class, 0, weight][..], &size.to_be_bytes(), &[0, 0]].concat();
    raw(FrameKind::Header, 1, &fixed)
}

fn check(rows: Vec<Row>) {
    for (what, input, expected) in rows {
        let mut client = Client::open(&node());
        client.declare("held");
        client.feed(&input);
        let found = client.lines();
        assert_eq!(found.last().map(String::as_str), Some(expected), "{what}");
        // A channel that fails leaves the connection alone, one that fails ends all.
        let soft = expected.starts_with("1 ");
        let again = client.ask(2, ClientMethod::ChannelOpen(ChannelOpen::default()));
        assert_eq!(again.len(), usize::from(soft), "{what}: {again:?}");
        client.hang_up();
    }
}

#[test]
fn broken_frames() {
    check(vec![
        (
            "a frame larger than negotiated",
            b"\x01\0\x01\0\x02\0\x01".to_vec(),
            "0 connection.close 501 0.0 FRAME_ERROR - type 1, all octets = <<>>: \
             {frame_too_large,131073,131064}",
        ),
        (
            "a wrong frame end",
            b"\x01\0\x01\0\0\0\x05\0\x14\0\x0A\0\xCD".to_vec(),
            "0 connection.close 501 0.0 FRAME_ERROR - type 1, all octets = <<0,20,0,10,0>>: \
             {invalid_frame_end_marker,205}",
        ),
        (
            "bytes that are not AMQP",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            "0 connection.close 501 0.0 FRAME_ERROR - type 71, all octets = <<>>: unknown_frame",
        ),
        (
            "an unknown method",
            raw(FrameKind::Method, 1, &[0, 60, 0, 99]),
            "0 connection.close 503 60.99 COMMAND_INVALID - unimplemented method",
        ),
        (
            "a method of servers",
            raw(FrameKind::Method, 1, &[0, 60, 0, 21, 0]),
            "0 connection.close 503 60.21 COMMAND_INVALID - unimplemented method",
        ),
        (
            "arguments that end too early",
            raw(FrameKind::Method, 1, &[0, 50, 0, 10, 0]),
            "0 connection.close 501 50.10 FRAME_ERROR - cannot decode <<0>>",
        ),
        (
            "no method at all",
            raw(FrameKind::Method, 1, &[]),
            "0 connection.close 501 0.0 FRAME_ERROR - type 1, all octets = <<>>: unknown_frame",
        ),
    ]);
}

#[test]
fn frames_out_of_place() {
    let open = ClientMethod::ChannelOpen(ChannelOpen::default());
    check(vec![
        (
            "a heartbeat on a channel",
            raw(FrameKind::Heartbeat, 1, &[]),
            "0 connection.close 505 0.0 UNEXPECTED_FRAME - type 8, all octets = <<>>",
        ),
        (
            "a body on channel 0",
            raw(FrameKind::Body, 0, &[7; 20]),
            "0 connection.close 505 0.0 UNEXPECTED_FRAME - type 3, first 16 octets = \
             <<7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7>>",
        ),
        (
            "a channel that is not open",
            on(7, ClientMethod::BasicGet(BasicGet::default())),
            "0 connection.close 504 60.70 CHANNEL_ERROR - expected 'channel.open'",
        ),
        (
            "a channel that is open",
            on(1, open),
            "0 connection.close 504 20.10 CHANNEL_ERROR - second 'channel.open' seen",
        ),
        (
            "a channel's method on channel 0",
            on(0, open),
            "0 connection.close 504 20.10 CHANNEL_ERROR - unexpected method in connection state \
             running",
        ),
        (
            "the connection's method on a channel",
            on(1, ClientMethod::ConnectionClose(ConnectionClose::default())),
            "0 connection.close 503 10.50 COMMAND_INVALID - unimplemented method",
        ),
    ]);
}

#[test]
fn tables_nested_deeply() {
    // Each level is a field without a name in the table around it.
    let mut table: Vec<u8> = Vec::new();
    for level in 0..100_000_u32 {
        let length = level * 6;
        table.extend_from_slice(&[0, b'F']);
        table.extend_from_slice(&(600_000 - length - 6).to_be_bytes());
    }
    for levels in [100_usize, 20_000] {
        let inner = levels * 6;
        let mut bytes = Vec::new();
        for level in 1..=levels {
            bytes.extend_from_slice(&[0, b'F']);
            bytes.extend_from_slice(&((inner - level * 6) as u32).to_be_bytes());
        }
        let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
        payload.extend_from_slice(&(inner as u32).to_be_bytes());
        payload.extend_from_slice(&bytes);
        check(vec![(
            "nested",
            raw(FrameKind::Method, 1, &payload),
            "0 connection.close 502 50.10 SYNTAX_ERROR - method 50.10: field table nested deeper \
             than 32 levels",
        )]);
    }
    // A hundred thousand levels do not fit a frame of the negotiated size.
    check(vec![(
        "nested in a frame that is too large",
        raw(FrameKind::Method, 1, &table),
        "0 connection.close 501 0.0 FRAME_ERROR - type 1, all octets = <<>>: \
         {frame_too_large,600000,131064}",
    )]);
}

#[test]
fn broken_contents() {
    let body = |bytes: usize| raw(FrameKind::Body, 1, &vec![b'x'; bytes]);
    check(vec![
        (
            "a body longer than declared",
            begun(&[header(60, 0, 4), body(5)]),
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content body of 4 more \
             bytes, got 5 bytes instead",
        ),
        (
            "a second body longer than declared",
            begun(&[header(60, 0, 4), body(3), body(2)]),
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content body of 1 more \
             bytes, got 2 bytes instead",
        ),
        (
            "a body without a header",
            begun(&[body(1)]),
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content header for class \
             60, got non content header frame instead",
        ),
        (
            "a method in a body's place",
            begun(&[header(60, 0, 4), on(1, ClientMethod::TxSelect(TxSelect {}))]),
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content body, got non \
             content body frame instead",
        ),
        (
            "a body without a method",
            body(1),
            "0 connection.close 505 0.0 UNEXPECTED_FRAME - expected method frame, got non \
             method frame instead",
        ),
    ]);
}

#[test]
fn broken_headers() {
    let properties = |bytes: &[u8]| {
        let fixed = [&[0, 60, 0, 0][..], &0_u64.to_be_bytes(), bytes].concat();
        raw(FrameKind::Header, 1, &fixed)
    };
    check(vec![
        (
            "a header of another class",
            begun(&[header(50, 0, 0)]),
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content header for class \
             60, got one for class 50 instead",
        ),
        (
            "a header with a weight",
            begun(&[header(60, 1, 0)]),
            "0 connection.close 505 60.40 UNEXPECTED_FRAME - expected content header for class \
             60, got non content header frame instead",
        ),
        (
            "a header that ends too early",
            begun(&[raw(FrameKind::Header, 1, &[0, 60])]),
            "0 connection.close 501 0.0 FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame",
        ),
        (
            "properties that end too early",
            begun(&[properties(&[0x80, 0, 5, b'a'])]),
            "0 connection.close 502 60.40 SYNTAX_ERROR - basic properties end inside a value",
        ),
        (
            "properties that do not exist",
            begun(&[properties(&[0, 3])]),
            "0 connection.close 502 60.40 SYNTAX_ERROR - basic properties have unknown flags \
             0x0003",
        ),
        (
            "a message that is too large, before any of it is there",
            begun(&[header(60, 0, u64::MAX)]),
            "1 channel.close 406 60.40 PRECONDITION_FAILED - message size 18446744073709551615 \
             is larger than configured max size 1000000",
        ),
    ]);
}

#[test]
fn publications() {
    let with = |properties: BasicProperties<'_>| message(&properties, b"m");
    let none = BasicProperties::default();
    let immediate = BasicPublish {
        routing_key: "q",
        immediate: true,
        ..BasicPublish::default()
    };
    let mut at_once = Vec::new();
    publish_as(&mut at_once, immediate, &none, b"m");
    let mut nowhere = Vec::new();
    publish(&mut nowhere, "x", "k", &none, b"m");
    check(vec![
        (
            "an exchange that is not there",
            nowhere,
            "1 channel.close 404 60.40 NOT_FOUND - no exchange 'x' in vhost '/'",
        ),
        (
            "immediate",
            at_once,
            "0 connection.close 540 60.40 NOT_IMPLEMENTED - immediate=true",
        ),
        (
            "an expiration",
            with(BasicProperties {
                expiration: Some(b"abc"),
                ..none
            }),
            "1 channel.close 406 60.40 PRECONDITION_FAILED - invalid expiration 'abc': no_integer",
        ),
        (
            "another's name",
            with(BasicProperties {
                user_id: Some(b"eve"),
                ..none
            }),
            "1 channel.close 406 60.40 PRECONDITION_FAILED - user_id property set to 'eve' but \
             authenticated user was 'guest'",
        ),
    ]);
}

#[test]
fn declarations() {
    let queue = |queue, durable| QueueDeclare {
        queue,
        durable,
        ..QueueDeclare::default()
    };
    let passive = QueueDeclare {
        passive: true,
        ..queue("q", false)
    };
    let delete = |queue| QueueDelete {
        queue,
        ..QueueDelete::default()
    };
    let bind = QueueBind {
        queue: "held",
        exchange: "",
        ..QueueBind::default()
    };
    let mut in_use = on(1, consume("held", "c", false));
    let unused = QueueDelete {
        if_unused: true,
        ..delete("held")
    };
    in_use.extend(on(1, ClientMethod::QueueDelete(unused)));
    check(vec![
        (
            "a queue that is not there",
            on(1, ClientMethod::QueueDeclare(passive)),
            "1 channel.close 404 50.10 NOT_FOUND - no queue 'q' in vhost '/'",
        ),
        (
            "a reserved name",
            on(1, ClientMethod::QueueDeclare(queue("amq.q", false))),
            "1 channel.close 403 50.10 ACCESS_REFUSED - queue name 'amq.q' contains reserved \
             prefix 'amq.*'",
        ),
        (
            "another declaration",
            on(1, ClientMethod::QueueDeclare(queue("held", true))),
            "1 channel.close 406 50.10 PRECONDITION_FAILED - inequivalent arg 'durable' for \
             queue 'held' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            "the default exchange",
            on(1, ClientMethod::QueueBind(bind)),
            "1 channel.close 403 50.20 ACCESS_REFUSED - operation not permitted on the default \
             exchange",
        ),
        ("a queue in use", in_use, {
            "1 channel.close 406 50.40 PRECONDITION_FAILED - queue 'held' in vhost '/' in use"
        }),
    ]);
}

#[test]
fn declarations_of_exchanges() {
    let exchange = |exchange, type_| {
        let method = ExchangeDeclare {
            exchange,
            type_,
            ..ExchangeDeclare::default()
        };
        on(1, ClientMethod::ExchangeDeclare(method))
    };
    check(vec![
        (
            "an unknown type of exchange",
            exchange("x", "x-what"),
            "1 channel.close 406 40.10 PRECONDITION_FAILED - unknown exchange type 'x-what'",
        ),
        (
            "another type of exchange",
            exchange("amq.direct", "topic"),
            "1 channel.close 406 40.10 PRECONDITION_FAILED - inequivalent arg 'type' for \
             exchange 'amq.direct' in vhost '/': received 'topic' but current is 'direct'",
        ),
    ]);
}

#[test]
fn consumers() {
    let twice = [
        on(1, consume("held", "c", false)),
        on(1, consume("held", "c", false)),
    ]
    .concat();
    let bytes_qos = BasicQos {
        prefetch_size: 9,
        ..BasicQos::default()
    };
    check(vec![
        (
            "a tag in use",
            twice,
            "0 connection.close 530 60.20 NOT_ALLOWED - attempt to reuse consumer tag 'c'",
        ),
        (
            "a window in bytes",
            on(1, ClientMethod::BasicQos(bytes_qos)),
            "0 connection.close 540 60.10 NOT_IMPLEMENTED - prefetch_size!=0 (9)",
        ),
        (
            "an unknown tag",
            on(
                1,
                ClientMethod::BasicAck(BasicAck {
                    delivery_tag: 1,
                    multiple: false,
                }),
            ),
            "1 channel.close 406 60.80 PRECONDITION_FAILED - unknown delivery tag 1",
        ),
    ]);
}

#[test]
fn no_queue_was_declared_on_this_channel() {
    let other = [
        on(2, ClientMethod::ChannelOpen(ChannelOpen::default())),
        on(2, ClientMethod::BasicGet(BasicGet::default())),
        on(2, ClientMethod::ChannelCloseOk(ChannelCloseOk {})),
    ]
    .concat();
    let mut client = Client::open(&node());
    client.feed(&other);
    let none = "2 channel.close 404 60.70 NOT_FOUND - no previously declared queue";
    assert_eq!(client.lines(), ["2 channel.open-ok", none]);
}

#[test]
fn what_is_not_served() {
    check(vec![
        (
            "recovery without requeue",
            on(
                1,
                ClientMethod::BasicRecover(BasicRecover { requeue: false }),
            ),
            "0 connection.close 540 60.110 NOT_IMPLEMENTED - requeue=false",
        ),
        (
            "flow",
            on(1, ClientMethod::ChannelFlow(ChannelFlow { active: false })),
            "0 connection.close 540 20.20 NOT_IMPLEMENTED - active=false",
        ),
    ]);
}

#[test]
fn a_closed_channel_hears_nothing_until_it_is_agreed() {
    let mut client = Client::open(&node());
    client.declare("q");
    client.publish("nowhere", "k", "m");
    assert_eq!(client.lines().len(), 1);
    // What was on its way is discarded, the middle of a message as well.
    client.publish("", "q", "late");
    client.feed(&raw(FrameKind::Body, 1, b"x"));
    assert!(client.lines().is_empty());
    let close = ClientMethod::ChannelClose(ChannelClose::default());
    assert_eq!(client.ask(1, close), ["1 channel.close-ok"]);
    client.send(1, ClientMethod::ChannelCloseOk(ChannelCloseOk {}));
    let open = ClientMethod::ChannelOpen(ChannelOpen::default());
    assert_eq!(client.ask(1, open), ["1 channel.open-ok"]);
    let get = ClientMethod::BasicGet(BasicGet {
        queue: "q",
        ..BasicGet::default()
    });
    assert_eq!(client.ask(1, get), ["1 basic.get-empty"]);
}

/// FEATURES A1: whatever they are made of, and beside a message of the largest size.
#[test]
fn a1_unfinished_messages_are_bounded_together() {
    let body = vec![b'x'; 100_000];
    // Nothing but headers, of 100,000 bytes.
    let mut long = vec![0x20, 0, 0, 1, 0x86, 0xA0];
    long.extend(table_of(100_000));
    let rows: &[(&[u8], usize)] = &[(&[0, 0], 9), (&long, 0)];
    for (properties, bodies) in rows {
        let begin = |channel: u16| {
            let mut bytes = Vec::new();
            ClientMethod::ChannelOpen(ChannelOpen::default()).encode(channel, &mut bytes);
            let method = BasicPublish {
                routing_key: "q",
                ..BasicPublish::default()
            };
            ClientMethod::BasicPublish(method).encode(channel, &mut bytes);
            let size = 1_000_000_u64.to_be_bytes();
            let header = [&[0, 60, 0, 0][..], &size, properties].concat();
            bytes.extend(raw(FrameKind::Header, channel, &header));
            for _ in 0..*bodies {
                bytes.extend(raw(FrameKind::Body, channel, &body));
            }
            bytes
        };
        let each = properties.len() + bodies * 100_000;
        let most = (67_108_864 + 1_000_000) / each;
        let mut client = Client::open(&node());
        for channel in 2..2 + most as u16 {
            client.feed(&begin(channel));
            assert_eq!(client.lines(), [format!("{channel} channel.open-ok")]);
        }
        client.feed(&begin(2 + most as u16));
        let expected = "0 connection.close 506 60.40 RESOURCE_ERROR - unfinished messages on this \
             connection exceed 68108864 bytes";
        assert_eq!(client.lines().last().map(String::as_str), Some(expected));
    }
}

/// The content of a table with so many bytes.
fn table_of(bytes: usize) -> Vec<u8> {
    let text = bytes - 7;
    let mut table = b"\x01kS".to_vec();
    table.extend((text as u32).to_be_bytes());
    table.resize(bytes, b'x');
    table
}

/// FEATURES A2: tables and arrays in each other, in arguments and in headers: one limit.
#[test]
fn a2_nesting_has_one_limit() {
    // What lies in a table that is the first level.
    let nested = |levels: usize| {
        let mut value = Value::Void;
        for level in 1..levels {
            value = if level % 2 == 0 {
                Value::Array(vec![value])
            } else {
                let mut table = Table::new();
                table.insert("a", value).expect("short");
                Value::Table(table)
            };
        }
        let mut table = Table::new();
        table.insert("deep", value).expect("short");
        let mut bytes = Vec::new();
        table.encode(&mut bytes).expect("short");
        bytes
    };
    let declared = |arguments: &[u8]| {
        let mut payload = [0, 50, 0, 10, 0, 0, 4].to_vec();
        payload.extend_from_slice(b"deep\x02");
        payload.extend_from_slice(&(arguments.len() as u32).to_be_bytes());
        payload.extend_from_slice(arguments);
        raw(FrameKind::Method, 1, &payload)
    };
    let published = |headers: &[u8]| {
        let mut payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0].to_vec();
        payload.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        payload.extend_from_slice(headers);
        let get = BasicGet {
            queue: "q",
            no_ack: true,
            ..BasicGet::default()
        };
        let sent = begun(&[raw(FrameKind::Header, 1, &payload)]);
        [sent, on(1, ClientMethod::BasicGet(get))].concat()
    };
    for (levels, fits) in [(31, true), (32, true), (33, false)] {
        for input in [declared(&nested(levels)), published(&nested(levels))] {
            let mut client = Client::open(&node());
            client.declare("q");
            client.feed(&input);
            let found = client.lines().pop().expect("an answer");
            let closed = found.starts_with("0 connection.close 502 ");
            assert_eq!(closed, !fits, "{levels}: {found}");
            let taken = ["1 queue.declare-ok deep", "1 basic.get-ok"];
            let taken = taken.iter().any(|begin| found.starts_with(begin));
            assert_eq!(taken, fits, "{levels}: {found}");
        }
    }
}
