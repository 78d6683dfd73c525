//! The quick encoders write what the table of methods would.

use super::*;
use crate::frame::decode;
use crate::method::ServerMethod;

const DELIVER: Deliver<'static> = Deliver {
    channel: 1,
    consumer_tag: "ctag",
    delivery_tag: 7,
    redelivered: true,
    exchange: "amq.topic",
    routing_key: b"a.b",
    properties: b"\x10\0\x02",
    body: b"hello",
};

#[test]
fn known_deliver() {
    let mut out = Vec::new();
    DELIVER.encode(&mut out, 131_072);
    let expected: &[u8] = b"\x01\0\x01\0\0\0\x20\0\x3C\0\x3C\x04ctag\0\0\0\0\0\0\0\x07\x01\
        \x09amq.topic\x03a.b\xCE\
        \x02\0\x01\0\0\0\x0F\0\x3C\0\0\0\0\0\0\0\0\0\x05\x10\0\x02\xCE\
        \x03\0\x01\0\0\0\x05hello\xCE";
    assert_eq!(out, expected);
}

#[test]
fn same_as_the_table() {
    for redelivered in [false, true] {
        for (body, frame_max) in [(&b""[..], 0), (b"hello", 4096), (&[7; 10_000], 4096)] {
            let deliver = Deliver {
                redelivered,
                body,
                ..DELIVER
            };
            let mut quick = b"before".to_vec();
            deliver.encode(&mut quick, frame_max);
            let mut slow = b"before".to_vec();
            ServerMethod::BasicDeliver(BasicDeliver {
                consumer_tag: "ctag",
                delivery_tag: 7,
                redelivered,
                exchange: "amq.topic",
                routing_key: "a.b",
            })
            .encode(1, &mut slow);
            content::encode(&mut slow, 1, deliver.properties, body, frame_max);
            assert_eq!(quick, slow);
        }
    }
    for multiple in [false, true] {
        let mut quick = Vec::new();
        ack(&mut quick, 0x1234, u64::MAX - 1, multiple);
        let mut slow = Vec::new();
        let method = BasicAck {
            delivery_tag: u64::MAX - 1,
            multiple,
        };
        ServerMethod::BasicAck(method).encode(0x1234, &mut slow);
        assert_eq!(quick, slow);
    }
}

#[test]
fn long_keys() {
    // What is cut must stay UTF-8: of an `é` that would be torn apart, nothing is left.
    let cases = [
        ("k".repeat(255), 255),
        ("k".repeat(256), 255),
        ("é".repeat(128), 254),
        ("€".repeat(21_845), 255),
        ("k€".repeat(100), 253),
    ];
    for (key, expected_bytes) in cases {
        let mut out = Vec::new();
        Deliver {
            routing_key: key.as_bytes(),
            ..DELIVER
        }
        .encode(&mut out, 4096);
        let (frame, _) = decode(&out, 4096).expect("legal").expect("whole");
        let Ok(ServerMethod::BasicDeliver(found)) = ServerMethod::decode(frame.payload) else {
            panic!("no deliver in {out:02x?}");
        };
        assert_eq!(found.routing_key, &key[..expected_bytes]);
    }
}
