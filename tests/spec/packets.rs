//! Packets as text: what a client sends is written by these words, what a server sends is read as
//! them. Owns no flow; must never judge a packet. OASIS MQTT 5.0 chapter 3.
//!
//! | sent | |
//! |---|---|
//! | `CONNECT v5 id=a clean keepalive=9 user=u pass=p will=T:P:q1:retain sei=9 w.wdi=9` | |
//! | `PUBLISH q1 id=7 dup retain PROPERTIES topic payload` | `''` is an empty topic |
//! | `SUBSCRIBE 1 sid=3 filter:1,nl,rap,rh=2 filter:0` | |
//! | `UNSUBSCRIBE 2 filter`, `PUBACK 7 0x80`, `PINGREQ`, `DISCONNECT 4 sei=1`, `AUTH 0x18 am=m` | |
//! | `hex 30 00` | any bytes |
//!
//! What a server sends is shown in the same words, each field and property of it.

use std::fmt::Write as _;
use std::num::NonZeroU16;

use leveret_mqtt::codec::{PacketType, decode_header, put_header, put_variable_byte_integer};
use leveret_mqtt::packet::publish::{self, OutgoingPublish};
use leveret_mqtt::packet::subscribe::{self, RetainHandling, Subscription, SubscriptionOptions};
use leveret_mqtt::packet::{
    ProtocolVersion, QoS, ServerPacket, ack, auth, decode_server, disconnect, unsubscribe,
};
use leveret_mqtt::property::Properties;
use leveret_mqtt::reason_code::ReasonCode;

use crate::text::{bytes, code, encode_property, hex, number, show_property, string, word};

/// The version that a CONNECT asks for.
pub(crate) fn connect_version(text: &str) -> ProtocolVersion {
    match text.split_whitespace().nth(1) {
        Some("v3") => ProtocolVersion::V3,
        Some("v5") => ProtocolVersion::V5,
        _ => ProtocolVersion::V4,
    }
}

/// The bytes of one packet of a client.
pub(crate) fn encode(version: ProtocolVersion, text: &str) -> Vec<u8> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut properties = Vec::new();
    let mut words = Vec::new();
    for each in rest.split_whitespace() {
        let plain = matches!(name, "CONNECT" | "PUBLISH" | "hex");
        if plain || !encode_property(each, &mut properties) {
            words.push(each);
        }
    }
    let mut out = Vec::new();
    let written = match name {
        "hex" => {
            out = hex(rest);
            Ok(())
        }
        "CONNECT" => {
            connect(version, &words, &mut out);
            Ok(())
        }
        "PUBLISH" => {
            encode_publish(version, &words, &mut out);
            Ok(())
        }
        "SUBSCRIBE" => encode_subscribe(version, &words, &properties, &mut out),
        "UNSUBSCRIBE" => {
            let filters: Vec<String> = words[1..].iter().map(|filter| string(filter)).collect();
            let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
            unsubscribe::encode(
                &mut out,
                version,
                packet_id(words[0]),
                &properties,
                &filters,
            )
        }
        "PINGREQ" => put_header(&mut out, PacketType::PingReq.first_byte(), 0),
        "DISCONNECT" => disconnect::encode(&mut out, version, reason(&words, 0), &properties),
        "AUTH" => auth::encode(&mut out, reason(&words, 0), &properties),
        _ => {
            let packet = match name {
                "PUBACK" => PacketType::PubAck,
                "PUBREC" => PacketType::PubRec,
                "PUBREL" => PacketType::PubRel,
                "PUBCOMP" => PacketType::PubComp,
                other => panic!("{other:?} is no packet of a client"),
            };
            let (id, reason) = (packet_id(words[0]), reason(&words, 1));
            ack::encode_with_properties(&mut out, version, packet, id, reason, &properties)
        }
    };
    written.expect("the packet can be written");
    out
}

fn packet_id(word: &str) -> NonZeroU16 {
    NonZeroU16::new(number(word)).expect("packet identifiers are not 0")
}

fn reason(words: &[&str], at: usize) -> ReasonCode {
    let code = words.get(at).map_or(0, |word| number(word));
    ReasonCode::from_u8(code).expect("a reason code of the specification")
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    let len = u16::try_from(text.len()).expect("a string of MQTT");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text);
}

fn put_properties(version: ProtocolVersion, out: &mut Vec<u8>, properties: &[u8]) {
    if version.is_v5() {
        put_variable_byte_integer(out, u32::try_from(properties.len()).expect("they fit"));
        out.extend_from_slice(properties);
    }
}

fn connect(version: ProtocolVersion, words: &[&str], out: &mut Vec<u8>) {
    let (mut flags, mut keep_alive, mut id) = (0_u8, 0_u16, Vec::new());
    let (mut user, mut pass) = (None, None);
    let (mut properties, mut will_properties) = (Vec::new(), Vec::new());
    let mut will = None;
    for each in &words[1..] {
        match each.split_once('=') {
            None if *each == "clean" => flags |= 2,
            Some(("id", value)) => id = bytes(value),
            Some(("keepalive", value)) => keep_alive = number(value),
            Some(("user", value)) => user = Some(bytes(value)),
            Some(("pass", value)) => pass = Some(bytes(value)),
            Some(("will", value)) => {
                let mut parts = value.split(':');
                let mut next = || parts.next().unwrap_or_default();
                will = Some((bytes(next()), bytes(next())));
                let qos: u8 = number(next().strip_prefix('q').unwrap_or("0"));
                let retain = u8::from(next() == "retain") << 5;
                flags |= 4 | qos << 3 | retain;
            }
            _ => {
                let found = match each.strip_prefix("w.") {
                    Some(each) => encode_property(each, &mut will_properties),
                    None => encode_property(each, &mut properties),
                };
                assert!(found, "{each:?} is nothing of a CONNECT");
            }
        }
    }
    flags |= u8::from(user.is_some()) << 7 | u8::from(pass.is_some()) << 6;
    let name: &[u8] = match version {
        ProtocolVersion::V3 => b"MQIsdp",
        _ => b"MQTT",
    };
    let mut body = Vec::new();
    put_string(&mut body, name);
    body.extend_from_slice(&[version as u8, flags]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    put_properties(version, &mut body, &properties);
    put_string(&mut body, &id);
    if let Some((topic, payload)) = will {
        put_properties(version, &mut body, &will_properties);
        put_string(&mut body, &topic);
        put_string(&mut body, &payload);
    }
    for text in [user, pass].into_iter().flatten() {
        put_string(&mut body, &text);
    }
    put_header(out, PacketType::Connect.first_byte(), body.len()).expect("it fits");
    out.extend_from_slice(&body);
}

/// The words in front of the topic: flags, id, properties.
fn encode_publish(version: ProtocolVersion, words: &[&str], out: &mut Vec<u8>) {
    let mut properties = Vec::new();
    let mut outgoing = OutgoingPublish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "",
        packet_id: None,
        properties: &[],
        payload: &[],
    };
    let mut rest = words;
    while let Some((first, behind)) = rest.split_first() {
        match *first {
            "q0" => {}
            "q1" => outgoing.qos = QoS::AtLeastOnce,
            "q2" => outgoing.qos = QoS::ExactlyOnce,
            "dup" => outgoing.dup = true,
            "retain" => outgoing.retain = true,
            other => match other.strip_prefix("id=") {
                Some(id) => outgoing.packet_id = Some(packet_id(id)),
                None if encode_property(other, &mut properties) => {}
                None => break,
            },
        }
        rest = behind;
    }
    let topic = rest.first().map(|topic| topic.trim_matches('\''));
    let topic = string(topic.expect("a topic"));
    let payload = rest
        .get(1)
        .map(|payload| bytes(payload))
        .unwrap_or_default();
    assert!(rest.len() <= 2, "one topic, one payload");
    outgoing.topic = &topic;
    outgoing.payload = &payload;
    outgoing.properties = &properties;
    publish::encode(out, version, &outgoing).expect("it fits");
}

fn encode_subscribe(
    version: ProtocolVersion,
    words: &[&str],
    properties: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), leveret_mqtt::codec::TooLong> {
    let parsed: Vec<(String, SubscriptionOptions)> =
        words[1..].iter().map(|each| filter(each)).collect();
    let wanted: Vec<Subscription<'_>> = parsed
        .iter()
        .map(|(filter, options)| Subscription {
            filter,
            options: *options,
        })
        .collect();
    subscribe::encode(out, version, packet_id(words[0]), properties, &wanted)
}

fn filter(word: &str) -> (String, SubscriptionOptions) {
    let (filter, options) = word.rsplit_once(':').expect("filter:qos");
    let mut flags = options.split(',');
    let qos: u8 = number(flags.next().unwrap_or_default());
    let mut options = SubscriptionOptions::new(QoS::from_bits(qos).expect("a QoS"));
    for flag in flags {
        match flag {
            "nl" => options.no_local = true,
            "rap" => options.retain_as_published = true,
            "rh=1" => options.retain_handling = RetainHandling::SendIfNew,
            "rh=2" => options.retain_handling = RetainHandling::DoNotSend,
            other => panic!("{other:?} is no subscription option"),
        }
    }
    (string(filter), options)
}

/// The first packet of a server's bytes: its own bytes and its words.
pub(crate) fn show(version: ProtocolVersion, received: &[u8]) -> Option<(Vec<u8>, String)> {
    if received.is_empty() {
        return None;
    }
    let broken = |why: String| Some((received.to_vec(), format!("broken packet: {why}")));
    let (header, len) = match decode_header(received) {
        Ok(Some(found)) => found,
        Ok(None) => return broken("its header is not whole".to_owned()),
        Err(violation) => return broken(violation.to_string()),
    };
    let whole = len + header.remaining_length as usize;
    let Some(body) = received.get(len..whole) else {
        return broken("its body is not whole".to_owned());
    };
    let text = match decode_server(version, header, body) {
        Ok(packet) => describe(&packet),
        Err(violation) => format!("broken packet: {violation}"),
    };
    Some((received[..whole].to_vec(), text))
}

fn describe(packet: &ServerPacket<'_>) -> String {
    match packet {
        ServerPacket::ConnAck(connack) => {
            let present = u8::from(connack.session_present);
            let shown = format!("CONNACK {} present={present}", code(connack.code));
            with(shown, connack.properties)
        }
        ServerPacket::Publish(publish) => describe_publish(publish),
        ServerPacket::PubAck(ack) => describe_ack("PUBACK", ack),
        ServerPacket::PubRec(ack) => describe_ack("PUBREC", ack),
        ServerPacket::PubRel(ack) => describe_ack("PUBREL", ack),
        ServerPacket::PubComp(ack) => describe_ack("PUBCOMP", ack),
        ServerPacket::SubAck(suback) => {
            let shown = format!("SUBACK {}{}", suback.packet_id, codes(suback.codes));
            with(shown, suback.properties)
        }
        ServerPacket::UnsubAck(unsuback) => {
            let shown = format!("UNSUBACK {}{}", unsuback.packet_id, codes(unsuback.codes));
            with(shown, unsuback.properties)
        }
        ServerPacket::PingResp => "PINGRESP".to_owned(),
        ServerPacket::Disconnect(disconnect) => {
            let shown = format!("DISCONNECT {}", code(disconnect.reason as u8));
            with(shown, disconnect.properties)
        }
        ServerPacket::Auth(auth) => {
            with(format!("AUTH {}", code(auth.reason as u8)), auth.properties)
        }
    }
}

fn codes(codes: &[u8]) -> String {
    codes
        .iter()
        .map(|each| format!(" {}", code(*each)))
        .collect()
}

fn with(mut shown: String, properties: Properties<'_>) -> String {
    for property in properties.iter() {
        let _ = write!(shown, " {}", show_property(&property));
    }
    shown
}

fn describe_ack(name: &str, ack: &ack::Ack<'_>) -> String {
    let mut shown = format!("{name} {}", ack.packet_id);
    if ack.reason != ReasonCode::Success {
        let _ = write!(shown, " {}", code(ack.reason as u8));
    }
    with(shown, ack.properties)
}

fn describe_publish(publish: &publish::Publish<'_>) -> String {
    let mut shown = format!("PUBLISH q{}", publish.qos as u8);
    if let Some(id) = publish.packet_id {
        let _ = write!(shown, " id={id}");
    }
    for (flag, name) in [(publish.dup, " dup"), (publish.retain, " retain")] {
        if flag {
            shown.push_str(name);
        }
    }
    shown = with(shown, publish.properties());
    let topic = match publish.topic {
        "" => "''".to_owned(),
        topic => word(topic.as_bytes()),
    };
    let _ = write!(shown, " {topic} {}", word(publish.payload));
    shown.trim_end().to_owned()
}
