//! Methods: bytes in, methods out, and back; and bytes that must be refused.

use leveret_core::field::RawTable;

use super::*;
use crate::frame::{self, FrameKind};

/// Frames of clients, on channel 1 unless of class connection.
fn client_frames() -> Vec<(&'static [u8], ClientMethod<'static>)> {
    [client_connection_frames(), client_channel_frames()].concat()
}

fn client_connection_frames() -> Vec<(&'static [u8], ClientMethod<'static>)> {
    let properties = RawTable::parse(b"\x07productS\0\0\0\x01x").expect("legal");
    vec![
        (
            b"\x01\0\0\0\0\0\x2A\0\x0A\0\x0B\0\0\0\x0E\x07productS\0\0\0\x01x\
              \x05PLAIN\0\0\0\x04\0u\0p\x05en_US\xCE",
            ClientMethod::ConnectionStartOk(ConnectionStartOk {
                client_properties: properties,
                mechanism: "PLAIN",
                response: LongString(b"\0u\0p"),
                locale: "en_US",
            }),
        ),
        (
            b"\x01\0\0\0\0\0\x0C\0\x0A\0\x1F\x07\xFF\0\x02\0\0\0\x3C\xCE",
            ClientMethod::ConnectionTuneOk(ConnectionTuneOk {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 60,
            }),
        ),
        (
            b"\x01\0\0\0\0\0\x08\0\x0A\0\x28\x01/\0\x01\xCE",
            ClientMethod::ConnectionOpen(ConnectionOpen {
                virtual_host: "/",
                capabilities: "",
                insist: true,
            }),
        ),
    ]
}

fn client_channel_frames() -> Vec<(&'static [u8], ClientMethod<'static>)> {
    let arguments = RawTable::parse(b"\x0Dx-message-ttlI\0\0\xEA\x60").expect("legal");
    vec![
        (
            b"\x01\0\x01\0\0\0\x05\0\x14\0\x0A\0\xCE",
            ClientMethod::ChannelOpen(ChannelOpen::default()),
        ),
        (
            // Bits: exclusive, active and read of five.
            b"\x01\0\x01\0\0\0\x0B\0\x1E\0\x0A\x05/data\x15\xCE",
            ClientMethod::AccessRequest(AccessRequest {
                realm: "/data",
                exclusive: true,
                active: true,
                read: true,
                ..AccessRequest::default()
            }),
        ),
        (
            // Bits: durable and auto-delete of five, then a table.
            b"\x01\0\x01\0\0\0\x20\0\x32\0\x0A\0\0\x01q\x0A\0\0\0\x13\
              \x0Dx-message-ttlI\0\0\xEA\x60\xCE",
            ClientMethod::QueueDeclare(QueueDeclare {
                queue: "q",
                durable: true,
                auto_delete: true,
                arguments,
                ..QueueDeclare::default()
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x0C\0\x3C\0\x28\0\0\x01x\x02ke\x01\xCE",
            ClientMethod::BasicPublish(BasicPublish {
                ticket: 0,
                exchange: "x",
                routing_key: "ke",
                mandatory: true,
                immediate: false,
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x0D\0\x3C\0\x78\0\0\0\0\0\0\0\x05\x02\xCE",
            ClientMethod::BasicNack(BasicNack {
                delivery_tag: 5,
                multiple: false,
                requeue: true,
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x0D\0\x3C\0\x50\0\0\0\0\0\0\x01\0\x01\xCE",
            ClientMethod::BasicAck(BasicAck {
                delivery_tag: 256,
                multiple: true,
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x04\0\x5A\0\x14\xCE",
            ClientMethod::TxCommit(TxCommit {}),
        ),
    ]
}

/// Frames of servers, on channel 1 unless of class connection.
fn server_frames() -> Vec<(&'static [u8], ServerMethod<'static>)> {
    [server_connection_frames(), server_content_frames()].concat()
}

fn server_connection_frames() -> Vec<(&'static [u8], ServerMethod<'static>)> {
    vec![
        (
            b"\x01\0\0\0\0\0\x1C\0\x0A\0\x0A\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US\xCE",
            ServerMethod::ConnectionStart(ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: RawTable::default(),
                mechanisms: LongString(b"PLAIN"),
                locales: LongString(b"en_US"),
            }),
        ),
        (
            b"\x01\0\0\0\0\0\x0C\0\x0A\0\x1E\x07\xFF\0\x02\0\0\0\x3C\xCE",
            ServerMethod::ConnectionTune(ConnectionTune {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 60,
            }),
        ),
        (
            b"\x01\0\0\0\0\0\x05\0\x0A\0\x29\0\xCE",
            ServerMethod::ConnectionOpenOk(ConnectionOpenOk::default()),
        ),
        (
            b"\x01\0\x01\0\0\0\x08\0\x14\0\x0B\0\0\0\0\xCE",
            ServerMethod::ChannelOpenOk(ChannelOpenOk::default()),
        ),
        (
            b"\x01\0\x01\0\0\0\x13\0\x14\0\x28\x01\x94\x08NOT_FOUN\0\x32\0\x0A\xCE",
            ServerMethod::ChannelClose(ChannelClose {
                reply_code: 404,
                reply_text: "NOT_FOUN",
                class_id: 50,
                method_id: 10,
            }),
        ),
    ]
}

fn server_content_frames() -> Vec<(&'static [u8], ServerMethod<'static>)> {
    vec![
        // 40.51, not 40.41.
        (
            b"\x01\0\x01\0\0\0\x04\0\x28\0\x33\xCE",
            ServerMethod::ExchangeUnbindOk(ExchangeUnbindOk {}),
        ),
        (
            b"\x01\0\x01\0\0\0\x0E\0\x32\0\x0B\x01q\0\0\0\x02\0\0\0\x01\xCE",
            ServerMethod::QueueDeclareOk(QueueDeclareOk {
                queue: "q",
                message_count: 2,
                consumer_count: 1,
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x14\0\x3C\0\x3C\x01c\0\0\0\0\0\0\0\x07\x01\x01x\x02ke\xCE",
            ServerMethod::BasicDeliver(BasicDeliver {
                consumer_tag: "c",
                delivery_tag: 7,
                redelivered: true,
                exchange: "x",
                routing_key: "ke",
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x15\0\x3C\0\x32\x01\x38\x08NO_ROUTE\x01x\x03key\xCE",
            ServerMethod::BasicReturn(BasicReturn {
                reply_code: 312,
                reply_text: "NO_ROUTE",
                exchange: "x",
                routing_key: "key",
            }),
        ),
        (
            b"\x01\0\x01\0\0\0\x07\0\x3C\0\x1E\x01c\x01\xCE",
            ServerMethod::BasicCancel(BasicCancel {
                consumer_tag: "c",
                no_wait: true,
            }),
        ),
    ]
}

/// The channel and payload of a whole method frame.
fn open(bytes: &[u8]) -> (u16, &[u8]) {
    let (frame, taken) = frame::decode(bytes, 4096).expect("legal").expect("whole");
    assert_eq!((frame.kind, taken), (FrameKind::Method, bytes.len()));
    (frame.channel, frame.payload)
}

#[test]
fn known_frames() {
    for (bytes, method) in client_frames() {
        let (channel, payload) = open(bytes);
        assert_eq!(ClientMethod::decode(payload), Ok(method));
        let mut out = Vec::new();
        method.encode(channel, &mut out);
        assert_eq!(out, bytes, "{}", method.name());
    }
    for (bytes, method) in server_frames() {
        let (channel, payload) = open(bytes);
        assert_eq!(ServerMethod::decode(payload), Ok(method));
        let mut out = Vec::new();
        method.encode(channel, &mut out);
        assert_eq!(out, bytes, "{}", method.name());
    }
}

/// Finds legal payloads of the method by growing them byte by byte until `decode` is content,
/// and checks each: it encodes to the same method, and neither less nor more is taken.
macro_rules! check_every_method {
    ($direction:ident) => {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for &id in $direction::IDS {
            let mut found = 0;
            for _ in 0..40_000 {
                if found == 6 {
                    break;
                }
                let mut payload = id.to_be_bytes().to_vec();
                let truncated = Err(MethodError::Malformed {
                    id,
                    reason: Malformation::Truncated,
                });
                while payload.len() < 200 && $direction::decode(&payload) == truncated {
                    payload.push(random.octet());
                }
                let Ok(method) = $direction::decode(&payload) else {
                    continue;
                };
                found += 1;
                assert_eq!(method.id(), id);
                let mut out = Vec::new();
                method.encode(3, &mut out);
                let (channel, encoded) = open(&out);
                assert_eq!((channel, encoded.len()), (3, payload.len()));
                assert_eq!($direction::decode(encoded), Ok(method));
                for end in 4..payload.len() {
                    assert_eq!($direction::decode(&payload[..end]), truncated);
                }
                payload.push(0);
                let reason = Malformation::TrailingBytes;
                let trailing = Err(MethodError::Malformed { id, reason });
                assert_eq!($direction::decode(&payload), trailing);
            }
            assert_eq!(found, 6, "too few legal payloads of {id}");
        }
    };
}

#[test]
fn every_client_method() {
    check_every_method!(ClientMethod);
}

#[test]
fn every_server_method() {
    check_every_method!(ServerMethod);
}

/// Xorshift; the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly zero, so that lengths of four octets stay small; else ASCII or anything.
    fn octet(&mut self) -> u8 {
        match self.next() % 8 {
            0..4 => 0,
            4..7 => (self.next() % 128) as u8,
            _ => (self.next() % 256) as u8,
        }
    }
}

#[test]
fn ids_are_unique_and_as_many_as_the_protocol_has() {
    let directions = [(ClientMethod::IDS, 27 + 10), (ServerMethod::IDS, 29 + 10)];
    for (ids, count) in directions {
        assert_eq!(ids.len(), count);
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{id}");
        }
    }
}

#[test]
fn wrong_side_and_unknown() {
    let id = |class, method| MethodId { class, method };
    let cases = [
        (id(10, 10), MethodError::WrongDirection { id: id(10, 10) }),
        (id(60, 60), MethodError::WrongDirection { id: id(60, 60) }),
        (id(40, 41), MethodError::Unknown { id: id(40, 41) }),
        (id(60, 0), MethodError::Unknown { id: id(60, 0) }),
        (id(0, 0), MethodError::Unknown { id: id(0, 0) }),
        (
            id(0xFFFF, 0xFFFF),
            MethodError::Unknown {
                id: id(0xFFFF, 0xFFFF),
            },
        ),
    ];
    for (id, error) in cases {
        assert_eq!(ClientMethod::decode(&id.to_be_bytes()), Err(error));
        assert_eq!(
            (error.id(), error.reply_code()),
            (id, ReplyCode::CommandInvalid)
        );
    }
    let publish = BasicPublish::ID;
    let error = MethodError::WrongDirection { id: publish };
    assert_eq!(ServerMethod::decode(&publish.to_be_bytes()), Err(error));
}

#[test]
fn malformed() {
    use leveret_core::field::FieldError;
    let cases: &[(&[u8], Malformation)] = &[
        (b"\0\x3C\0\x28\0\0\x01\xFF\0\0", Malformation::NotUtf8),
        (b"\0\x3C\0\x28\0\0\0\x02\xC3\x28\0", Malformation::NotUtf8),
        (b"\0\x3C\0\x28\0\0\0\xFFkey\0", Malformation::Truncated),
        (b"\0\x3C\0\x28\0\0\0\0", Malformation::Truncated),
        (b"\0\x3C\0\x28\0\0\0\0\0\0", Malformation::TrailingBytes),
        (b"\0\x3C\0\x50\0\0\0\0\0\0\0\x01", Malformation::Truncated),
        (
            b"\0\x3C\0\x50\0\0\0\0\0\0\0\x01\0\0",
            Malformation::TrailingBytes,
        ),
        (
            b"\0\x0A\0\x15\xFF\xFF\xFF\xFFsecret",
            Malformation::Truncated,
        ),
        (
            b"\0\x32\0\x32\0\0\0\0\0\0\0\0\x03\0t",
            Malformation::Truncated,
        ),
        (
            b"\0\x32\0\x32\0\0\0\0\0\0\0\0\x02\0t",
            Malformation::Table(FieldError::Truncated),
        ),
        (
            b"\0\x32\0\x32\0\0\0\0\0\0\0\0\x02\0?",
            Malformation::Table(FieldError::UnknownType { letter: b'?' }),
        ),
    ];
    for (payload, expected) in cases {
        match ClientMethod::decode(payload) {
            Err(error @ MethodError::Malformed { id, reason }) => {
                assert_eq!(reason, *expected, "{payload:02x?}");
                assert_eq!(id.to_be_bytes(), payload[..4]);
                let code = match reason {
                    Malformation::Truncated | Malformation::TrailingBytes => ReplyCode::FrameError,
                    _ => ReplyCode::SyntaxError,
                };
                assert_eq!(error.reply_code(), code);
            }
            other => panic!("{payload:02x?} gave {other:?}"),
        }
    }
    for end in 0..4 {
        let (id, reason) = (MethodId::default(), Malformation::Truncated);
        let error = MethodError::Malformed { id, reason };
        assert_eq!(ClientMethod::decode(&b"\0\x5A\0\x0A"[..end]), Err(error));
    }
}

#[test]
fn long_texts_are_cut_when_encoded() {
    let reply_text = "é".repeat(200);
    let close = ConnectionClose {
        reply_text: &reply_text,
        ..ConnectionClose::default()
    };
    let mut out = Vec::new();
    ServerMethod::ConnectionClose(close).encode(0, &mut out);
    let Ok(ServerMethod::ConnectionClose(found)) = ServerMethod::decode(open(&out).1) else {
        panic!("no close in {out:02x?}");
    };
    assert_eq!(found.reply_text, "é".repeat(127));
}

#[test]
fn secrets_are_not_printed() {
    let response = ConnectionSecureOk {
        response: LongString(b"hunter2"),
    };
    let printed = format!("{response:?}");
    assert_eq!(
        printed,
        "ConnectionSecureOk { response: LongString(7 bytes) }"
    );
}
