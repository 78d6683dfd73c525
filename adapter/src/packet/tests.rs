//! Round trips of every packet in every version, every cut of each, and seeded noise.

use std::num::{NonZeroU16, NonZeroU32};

use super::connect::{ConnectProperties, Will};
use super::publish::OutgoingPublish;
use super::subscribe::{RetainHandling, Subscription, SubscriptionOptions};
use super::*;
use crate::codec::{self, Reader};
use crate::property::{Properties, Property, PropertySet};
use crate::reason_code::ReasonCode;

const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V3,
    ProtocolVersion::V4,
    ProtocolVersion::V5,
];
const ID: NonZeroU16 = NonZeroU16::new(0x1234).unwrap();

fn block(properties: &[Property<'_>]) -> Vec<u8> {
    let mut raw = Vec::new();
    for property in properties {
        property.encode(&mut raw).unwrap();
    }
    raw
}

fn with_len(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec::put_variable_byte_integer(&mut out, raw.len() as u32);
    out.extend_from_slice(raw);
    out
}

fn split(bytes: &[u8]) -> (FixedHeader, &[u8]) {
    let (header, len) = codec::decode_header(bytes).unwrap().unwrap();
    let body = &bytes[len..];
    assert_eq!(body.len(), header.remaining_length as usize);
    (header, body)
}

fn client(version: ProtocolVersion, bytes: &[u8]) -> Result<ClientPacket<'_>, Violation> {
    let (header, body) = split(bytes);
    decode(version, header, body)
}

fn server(version: ProtocolVersion, bytes: &[u8]) -> Result<ServerPacket<'_>, Violation> {
    let (header, body) = split(bytes);
    decode_server(version, header, body)
}

/// Every kind of packet a side may send in a version, once or more, encoded.
fn samples(version: ProtocolVersion) -> Vec<Vec<u8>> {
    let mut all = vec![ping::PINGREQ.to_vec(), ping::PINGRESP.to_vec()];
    let reason = block(&[
        Property::ReasonString("why"),
        Property::UserProperty("k", "v"),
    ]);
    let users = block(&[Property::UserProperty("k", "v")]);
    let mut add = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        all.push(out);
    };
    for packet in [
        PacketType::PubAck,
        PacketType::PubRec,
        PacketType::PubRel,
        PacketType::PubComp,
    ] {
        let failure = match packet {
            PacketType::PubAck | PacketType::PubRec => ReasonCode::NotAuthorized,
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        for code in [ReasonCode::Success, failure] {
            add(&|out| ack::encode(out, version, packet, ID, code));
            add(&|out| {
                ack::encode_with_properties(out, version, packet, ID, code, &reason).unwrap();
            });
        }
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let packet_id = (qos != QoS::AtMostOnce).then_some(ID);
        let properties = &block(&[
            Property::MessageExpiryInterval(9),
            Property::UserProperty("k", "v"),
            Property::TopicAlias(ID),
        ]);
        let packet = OutgoingPublish {
            dup: packet_id.is_some(),
            qos,
            retain: true,
            topic: "a/b",
            packet_id,
            properties,
            payload: b"payload",
        };
        add(&|out| publish::encode(out, version, &packet).unwrap());
    }
    let filters = ["a/+", "$share/g/#"];
    let subscriptions = filters.map(|filter| Subscription {
        filter,
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    });
    add(&|out| subscribe::encode(out, version, ID, &users, &subscriptions).unwrap());
    add(&|out| unsubscribe::encode(out, version, ID, &users, &filters).unwrap());
    let granted = [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized];
    add(&|out| suback::encode(out, version, ID, &granted, &reason).unwrap());
    let gone = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    add(&|out| unsuback::encode(out, version, ID, &gone, &reason).unwrap());
    add(&|out| connack::encode(out, version, true, ReasonCode::Success, &reason).unwrap());
    for code in [ReasonCode::Success, ReasonCode::ProtocolError] {
        add(&|out| disconnect::encode(out, version, code, &[]).unwrap());
        add(&|out| disconnect::encode(out, version, code, &reason).unwrap());
    }
    if version.is_v5() {
        let method = block(&[Property::AuthenticationMethod("m")]);
        let code = ReasonCode::ContinueAuthentication;
        add(&|out| auth::encode(out, code, &method).unwrap());
    }
    all
}

fn connect(version: ProtocolVersion) -> Vec<u8> {
    let delay = with_len(&block(&[Property::WillDelayInterval(7)]));
    let receive = with_len(&block(&[Property::ReceiveMaximum(ID)]));
    let ignore = |_: Property<'_>| ();
    let v5 = version.is_v5();
    let mut will = Will {
        topic: "will/topic",
        payload: b"gone",
        qos: QoS::ExactlyOnce,
        retain: true,
        delay_interval_s: 0,
        properties: Properties::default(),
    };
    let mut properties = ConnectProperties::default();
    if v5 {
        will.delay_interval_s = 7;
        will.properties =
            Properties::decode(&mut Reader::new(&delay), PropertySet::Will, ignore).unwrap();
        properties.receive_maximum = ID;
        properties.all =
            Properties::decode(&mut Reader::new(&receive), PropertySet::Connect, ignore).unwrap();
    }
    let connect = Connect {
        version,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "client",
        will: Some(will),
        user_name: Some("user"),
        password: Some(b"\0\xFF"),
        properties,
    };
    let mut out = Vec::new();
    connect.encode(&mut out).unwrap();
    let (header, body) = split(&out);
    assert_eq!(decode_first(header, body), Ok(connect));
    assert_eq!(connect::protocol_version(body), Ok(version));
    assert_eq!(decode(version, header, body), Err(Violation::SecondConnect));
    out
}

#[test]
fn connect_round_trip() {
    for version in VERSIONS {
        connect(version);
    }
}

#[test]
fn every_packet_decodes_in_its_direction_only() {
    for version in VERSIONS {
        for bytes in samples(version) {
            let (header, _) = split(&bytes);
            let (from_client, from_server) = (client(version, &bytes), server(version, &bytes));
            let wrong = Violation::WrongDirection {
                packet: header.packet_type,
            };
            match header.packet_type {
                PacketType::PingReq | PacketType::Subscribe | PacketType::Unsubscribe => {
                    assert!(from_client.is_ok(), "{version:?} {from_client:?}");
                    assert_eq!(from_server, Err(wrong));
                }
                PacketType::PingResp
                | PacketType::ConnAck
                | PacketType::SubAck
                | PacketType::UnsubAck => {
                    assert_eq!(from_client, Err(wrong));
                    assert!(from_server.is_ok(), "{version:?} {from_server:?}");
                }
                PacketType::Disconnect if !version.is_v5() => {
                    assert!(from_client.is_ok());
                    assert_eq!(from_server, Err(wrong));
                }
                _ => {
                    assert!(from_client.is_ok(), "{version:?} {from_client:?}");
                    assert!(from_server.is_ok(), "{version:?} {from_server:?}");
                }
            }
        }
    }
}

#[test]
fn publish_round_trip() {
    // [MQTT-2.2.1-2], [MQTT-2.2.1-4]: an identifier with QoS 1 and 2 and never with QoS 0.
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let properties = block(&[
                Property::PayloadFormatIndicator(true),
                Property::MessageExpiryInterval(5),
                Property::TopicAlias(ID),
            ]);
            let packet_id = (qos != QoS::AtMostOnce).then_some(ID);
            let sent = OutgoingPublish {
                dup: false,
                qos,
                retain: true,
                topic: "a/\u{e9}",
                packet_id,
                properties: &properties,
                payload: b"\xFF",
            };
            let mut bytes = Vec::new();
            publish::encode(&mut bytes, version, &sent).unwrap();
            let (header, body) = split(&bytes);
            assert_eq!(body.len(), publish::encoded_len(version, &sent));
            let got = Publish::decode(version, header.flags, body).unwrap();
            assert_eq!((got.dup, got.qos, got.retain), (false, qos, true));
            assert_eq!(
                (got.topic, got.packet_id, got.payload),
                ("a/\u{e9}", packet_id, sent.payload)
            );
            if version.is_v5() {
                assert_eq!(got.raw_properties, properties);
                assert_eq!(
                    (got.topic_alias, got.message_expiry_interval),
                    (Some(ID), Some(5))
                );
                assert_eq!(got.properties().iter().count(), 3);
                assert_eq!(got.check_payload_format(), Err(Violation::PayloadNotUtf8));
            } else {
                assert!(got.raw_properties.is_empty() && got.topic_alias.is_none());
                assert_eq!(got.check_payload_format(), Ok(()));
            }
        }
    }
}

#[test]
fn subscribe_round_trip() {
    let id = NonZeroU32::new(77).unwrap();
    let raw = block(&[Property::SubscriptionIdentifier(id)]);
    let options = |version: ProtocolVersion| {
        let mut options = SubscriptionOptions::new(QoS::ExactlyOnce);
        if version.is_v5() {
            options.no_local = true;
            options.retain_as_published = true;
            options.retain_handling = RetainHandling::DoNotSend;
        }
        options
    };
    for version in VERSIONS {
        let sent = [
            Subscription {
                filter: "a/#/z",
                options: options(version),
            },
            Subscription {
                filter: "",
                options: SubscriptionOptions::new(QoS::AtMostOnce),
            },
        ];
        let mut bytes = Vec::new();
        subscribe::encode(&mut bytes, version, ID, &raw, &sent).unwrap();
        let Ok(ClientPacket::Subscribe(got)) = client(version, &bytes) else {
            panic!("{bytes:02x?}");
        };
        assert_eq!((got.packet_id, got.filter_count), (ID, 2));
        assert_eq!(got.filters().collect::<Vec<_>>(), sent);
        assert_eq!(got.subscription_identifier, version.is_v5().then_some(id));
        bytes.clear();
        unsubscribe::encode(&mut bytes, version, ID, &[], &["a", "b/#"]).unwrap();
        let Ok(ClientPacket::Unsubscribe(got)) = client(version, &bytes) else {
            panic!("{bytes:02x?}");
        };
        assert_eq!(got.filters().collect::<Vec<_>>(), ["a", "b/#"]);
    }
}

#[test]
fn answers_by_version() {
    // [MQTT-3.9.3-1], [MQTT-3.11.3-1]: one code for each filter; 3.1.1 [MQTT-3.2.2-4].
    use ProtocolVersion::{V3, V4, V5};
    let codes = [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized];
    type Row<'a> = (ProtocolVersion, &'a [u8], &'a [u8], &'a [u8]);
    let rows: [Row<'_>; 3] = [
        (
            V3,
            &[0x90, 4, 0x12, 0x34, 1, 0],
            &[0x20, 2, 0, 5],
            &[0xB0, 2, 0x12, 0x34],
        ),
        (
            V4,
            &[0x90, 4, 0x12, 0x34, 1, 0x80],
            &[0x20, 2, 0, 5],
            &[0xB0, 2, 0x12, 0x34],
        ),
        (
            V5,
            &[0x90, 5, 0x12, 0x34, 0, 1, 0x87],
            &[0x20, 3, 0, 0x87, 0],
            &[0xB0, 4, 0x12, 0x34, 0, 0x11],
        ),
    ];
    for (version, suback, connack, unsuback) in rows {
        let mut out = Vec::new();
        suback::encode(&mut out, version, ID, &codes, &[]).unwrap();
        assert_eq!(out, suback);
        out.clear();
        // [MQTT-3.2.2-6]: no session present on a failure.
        connack::encode(&mut out, version, true, ReasonCode::NotAuthorized, &[]).unwrap();
        assert_eq!(out, connack);
        out.clear();
        let none = [ReasonCode::NoSubscriptionExisted];
        unsuback::encode(&mut out, version, ID, &none, &[]).unwrap();
        assert_eq!(out, unsuback);
        out.clear();
        connack::encode(&mut out, version, true, ReasonCode::Success, &[]).unwrap();
        assert_eq!(out[2], u8::from(version != V3));
    }
}

#[test]
fn what_a_server_may_not_send() {
    use ProtocolVersion::{V3, V4, V5};
    let (connack, suback) = (PacketType::ConnAck, PacketType::SubAck);
    let not_allowed = |packet, code| Violation::ReasonCodeNotAllowed { packet, code };
    let unknown = |packet, code| Violation::ReasonCodeUnknown { packet, code };
    let rows: [(ProtocolVersion, &[u8], Violation); 8] = [
        // [MQTT-3.2.2-1]
        (
            V4,
            &[0x20, 2, 2, 0],
            Violation::ConnAckReservedFlags { flags: 2 },
        ),
        (V4, &[0x20, 2, 0, 6], unknown(connack, 6)),
        // [MQTT-3.2.2-8]
        (V5, &[0x20, 3, 0, 0x8E, 0], not_allowed(connack, 0x8E)),
        // [MQTT-3.9.3-2]
        (V3, &[0x90, 3, 0, 1, 0x80], not_allowed(suback, 0x80)),
        (V4, &[0x90, 3, 0, 1, 0x87], not_allowed(suback, 0x87)),
        (V5, &[0x90, 4, 0, 1, 0, 3], unknown(suback, 3)),
        // [MQTT-3.11.3-2]
        (
            V5,
            &[0xB0, 4, 0, 1, 0, 0x97],
            not_allowed(PacketType::UnsubAck, 0x97),
        ),
        (V5, &[0xE0, 1, 4], not_allowed(PacketType::Disconnect, 4)),
    ];
    for (version, bytes, expect) in rows {
        assert_eq!(server(version, bytes), Err(expect), "{bytes:02x?}");
    }
}

#[test]
fn mqtt_3_1_repeats_with_dup() {
    // [MQTT-2.1.3-1]
    for (bytes, packet) in [
        (&[0x6A, 2, 0, 1][..], PacketType::PubRel),
        (&[0x8A, 6, 0, 1, 0, 1, b'a', 0], PacketType::Subscribe),
        (&[0xAA, 5, 0, 1, 0, 1, b'a'], PacketType::Unsubscribe),
    ] {
        assert!(client(ProtocolVersion::V3, bytes).is_ok());
        let got = client(ProtocolVersion::V4, bytes);
        assert_eq!(
            got,
            Err(Violation::ReservedFlags {
                packet,
                flags: 0b1010
            })
        );
    }
}

#[test]
fn every_cut_is_incomplete_or_a_violation() {
    for version in VERSIONS {
        let mut all = samples(version);
        all.push(connect(version));
        for bytes in all {
            for cut in 0..bytes.len() {
                // As it would arrive: the header counts more than there is.
                let decoded = codec::decode_header(&bytes[..cut]).unwrap();
                assert!(
                    decoded.is_none_or(|(header, len)| {
                        len + header.remaining_length as usize > cut
                    })
                );
            }
            let (header, body) = split(&bytes);
            for cut in 0..body.len() {
                // As a peer could lie: the header counts no more than there is.
                let body = &body[..cut];
                let _ = (
                    decode(version, header, body),
                    decode_server(version, header, body),
                );
                if header.packet_type == PacketType::Connect {
                    assert!(decode_first(header, body).is_err(), "{cut}");
                }
            }
        }
    }
}

#[test]
fn noise_never_panics() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let corpus: Vec<Vec<u8>> = VERSIONS
        .iter()
        .flat_map(|v| samples(*v).into_iter().chain([connect(*v)]))
        .collect();
    for round in 0..200_000 {
        let mut body: Vec<u8> = if round % 2 == 0 {
            (0..random() % 64).map(|_| random() as u8).collect()
        } else {
            let mut body = split(&corpus[random() as usize % corpus.len()]).1.to_vec();
            if !body.is_empty() {
                let at = random() as usize % body.len();
                body[at] = random() as u8;
            }
            body
        };
        body.truncate(64);
        let _ = codec::decode_header(&body);
        let nibble = (random() % 15 + 1) as u8;
        let first = if nibble == 3 {
            0x30 | (random() as u8 & 0x0F)
        } else {
            nibble << 4
        };
        let first = if matches!(nibble, 6 | 8 | 10) {
            first | 2
        } else {
            first
        };
        let (mut header, _) = codec::decode_header(&[first, 0]).unwrap().unwrap();
        header.remaining_length = body.len() as u32;
        let _ = decode_first(header, &body);
        for version in VERSIONS {
            if let Ok(ClientPacket::Subscribe(got)) = decode(version, header, &body) {
                assert_eq!(got.filters().count(), got.filter_count);
            }
            let _ = decode_server(version, header, &body);
        }
    }
}
