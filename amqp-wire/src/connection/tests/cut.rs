//! A stream may be cut anywhere: what comes back is the same.

use leveret_core::properties::BasicProperties;

use super::client::*;
use crate::method::*;

/// A session with everything in it, and none of the server's random names.
fn session() -> Vec<u8> {
    let mut bytes = Vec::new();
    handshake(&mut bytes);
    let mut send = |method: ClientMethod<'_>| method.encode(1, &mut bytes);
    send(ClientMethod::ConfirmSelect(ConfirmSelect {
        no_wait: false,
    }));
    send(ClientMethod::QueueDeclare(QueueDeclare {
        queue: "q",
        ..QueueDeclare::default()
    }));
    send(qos(10, false));
    send(consume("q", "c", false));
    let properties = BasicProperties {
        delivery_mode: Some(2),
        ..BasicProperties::default()
    };
    for body in [&b""[..], b"hello", &[b'x'; 200], b"four"] {
        publish(&mut bytes, "", "q", &properties, body);
    }
    ClientMethod::BasicAck(BasicAck {
        delivery_tag: 2,
        multiple: true,
    })
    .encode(1, &mut bytes);
    bytes.extend_from_slice(b"\x08\0\0\0\0\0\0\xCE");
    let mandatory = BasicPublish {
        routing_key: "none",
        mandatory: true,
        ..BasicPublish::default()
    };
    publish_as(&mut bytes, mandatory, &properties, b"back");
    let nack = BasicNack {
        delivery_tag: 3,
        multiple: false,
        requeue: true,
    };
    ClientMethod::BasicNack(nack).encode(1, &mut bytes);
    publish(&mut bytes, "nowhere", "k", &properties, b"m");
    ClientMethod::ChannelCloseOk(ChannelCloseOk {}).encode(1, &mut bytes);
    ClientMethod::ChannelOpen(ChannelOpen::default()).encode(1, &mut bytes);
    let get = BasicGet {
        queue: "q",
        ..BasicGet::default()
    };
    ClientMethod::BasicGet(get).encode(1, &mut bytes);
    ClientMethod::ConnectionClose(ConnectionClose::default()).encode(0, &mut bytes);
    bytes
}

/// What came back, and up to where publications were confirmed: confirms are gathered as batches
/// have it, so they stand at other places.
fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
    let mut client = Client::accepted(&node());
    let mut lines = Vec::new();
    for piece in pieces {
        client.feed(piece);
        lines.append(&mut client.lines());
    }
    assert!(lines.iter().any(|line| line == "0 connection.close-ok"));
    let (acks, mut others): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|line| line.contains("basic.ack"));
    // So are deliveries and answers among each other, but each kind is in order.
    others.sort_by_key(|line| line.contains("basic.deliver"));
    let last = acks
        .last()
        .map(|line| line.trim_end_matches(" multiple").to_owned());
    (others, last)
}

#[test]
fn cut_at_every_byte() {
    let bytes = session();
    let expected = answers([&*bytes].into_iter());
    assert_eq!(expected.0.len(), 18, "{:#?}", expected.0);
    assert_eq!(expected.1.as_deref(), Some("1 basic.ack 5"));
    assert_eq!(answers(bytes.chunks(1)), expected);
    assert_eq!(answers(bytes.chunks(7)), expected);
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(
            answers([first, second].into_iter()),
            expected,
            "cut at {cut}"
        );
    }
}
