//! Packets of a server, owned: what the reading thread hands over.
//!
//! Owns the step from the codec's borrowed packets, and the words for reason codes.

use std::num::NonZeroU16;

use leveret_management::protocol::Failure;
use leveret_mqtt::codec;
use leveret_mqtt::packet::connack::ConnAck;
use leveret_mqtt::packet::publish::Publish;
use leveret_mqtt::packet::{ProtocolVersion, ServerPacket, decode_server};
use leveret_mqtt::property::{Properties, Property};
use leveret_mqtt::reason_code::ReasonCode;

use super::super::reader::Buffered;
use super::super::{Extras, Message, broken};

/// One packet.
#[derive(Debug)]
pub(super) enum Packet {
    ConnAck(Welcome),
    Publish(Message),
    /// The last answer to a message, and why it was refused if it was.
    Settled(&'static str, NonZeroU16, Option<String>),
    /// A PUBREC that goes on.
    PubRec(NonZeroU16),
    PubRel(NonZeroU16),
    SubAck(NonZeroU16, Vec<Granted>),
    UnsubAck(NonZeroU16),
    PingResp,
    /// With the reason.
    Disconnect(String),
    Auth,
}

/// What CONNACK says.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) code: u8,
    /// Why nobody is welcome.
    pub(super) refusal: Option<String>,
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) qos_max: u8,
    pub(super) keep_alive_s: Option<u16>,
}

/// The answer for one filter.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Granted {
    pub(in crate::cli) code: u8,
    /// Why it was not granted.
    pub(in crate::cli) refusal: Option<String>,
}

impl Packet {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::Settled(name, ..) => name,
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::SubAck(..) => "SUBACK",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

/// Waits for the next packet.
pub(super) fn next(buffer: &mut Buffered, version: ProtocolVersion) -> Result<Packet, Failure> {
    loop {
        let bytes = buffer.unread();
        let header = codec::decode_header(bytes).map_err(|why| broken(why.to_string()))?;
        if let Some((header, at)) = header {
            let end = at + header.remaining_length as usize;
            if let Some(body) = bytes.get(at..end) {
                let packet = decode_server(version, header, body)
                    .map_err(|why| broken(format!("the broker sent: {why}")))?;
                let packet = owned(version, &packet);
                buffer.take(end);
                return Ok(packet);
            }
        }
        buffer.more()?;
    }
}

fn owned(version: ProtocolVersion, packet: &ServerPacket<'_>) -> Packet {
    match packet {
        ServerPacket::ConnAck(connack) => Packet::ConnAck(welcome(version, connack)),
        ServerPacket::Publish(publish) => Packet::Publish(message(publish)),
        ServerPacket::PubAck(ack) => {
            Packet::Settled("PUBACK", ack.packet_id, refusal(ack.reason, ack.properties))
        }
        ServerPacket::PubComp(ack) => Packet::Settled(
            "PUBCOMP",
            ack.packet_id,
            refusal(ack.reason, ack.properties),
        ),
        ServerPacket::PubRec(ack) => match refusal(ack.reason, ack.properties) {
            None => Packet::PubRec(ack.packet_id),
            refused => Packet::Settled("PUBREC", ack.packet_id, refused),
        },
        ServerPacket::PubRel(ack) => Packet::PubRel(ack.packet_id),
        ServerPacket::SubAck(suback) => {
            let granted = suback.codes.iter().map(|&code| Granted {
                code,
                refusal: ReasonCode::from_u8(code)
                    .and_then(|reason| refusal(reason, suback.properties)),
            });
            Packet::SubAck(suback.packet_id, granted.collect())
        }
        ServerPacket::UnsubAck(unsuback) => Packet::UnsubAck(unsuback.packet_id),
        ServerPacket::PingResp => Packet::PingResp,
        ServerPacket::Disconnect(disconnect) => {
            Packet::Disconnect(said(disconnect.reason, disconnect.properties))
        }
        ServerPacket::Auth(_) => Packet::Auth,
    }
}

fn welcome(version: ProtocolVersion, connack: &ConnAck<'_>) -> Welcome {
    let mut welcome = Welcome {
        code: connack.code,
        refusal: None,
        receive_maximum: u16::MAX,
        packet_bytes_max: None,
        qos_max: 2,
        keep_alive_s: None,
    };
    for property in connack.properties {
        match property {
            Property::ReceiveMaximum(most) => welcome.receive_maximum = most.get(),
            Property::MaximumPacketSize(most) => welcome.packet_bytes_max = Some(most.get()),
            Property::MaximumQoS(one) => welcome.qos_max = u8::from(one),
            Property::ServerKeepAlive(seconds) => welcome.keep_alive_s = Some(seconds),
            _ => {}
        }
    }
    if connack.code != 0 {
        welcome.refusal = Some(match version {
            ProtocolVersion::V5 => ReasonCode::from_u8(connack.code)
                .map_or_else(String::new, |reason| said(reason, connack.properties)),
            _ => RETURN_CODES
                .get(usize::from(connack.code))
                .map_or_else(String::new, |text| (*text).to_owned()),
        });
    }
    welcome
}

fn message(publish: &Publish<'_>) -> Message {
    let mut extras = Extras {
        topic_alias: publish.topic_alias.map(NonZeroU16::get),
        expiry_s: publish.message_expiry_interval,
        ..Extras::default()
    };
    for property in publish.properties() {
        match property {
            Property::PayloadFormatIndicator(utf8) => extras.payload_format = Some(utf8),
            Property::ContentType(text) => extras.content_type = Some(text.to_owned()),
            Property::ResponseTopic(text) => extras.response_topic = Some(text.to_owned()),
            Property::CorrelationData(data) => extras.correlation_data = Some(data.to_vec()),
            Property::SubscriptionIdentifier(id) => extras.subscription_ids.push(id.get()),
            Property::UserProperty(name, value) => {
                extras.user.push((name.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }
    Message {
        topic: publish.topic.to_owned(),
        payload: publish.payload.to_vec(),
        qos: publish.qos as u8,
        retain: publish.retain,
        id: publish.packet_id.map_or(0, |id| id.get().into()),
        extras,
    }
}

/// The words for a failure; `None` for success.
fn refusal(reason: ReasonCode, properties: Properties<'_>) -> Option<String> {
    reason.is_failure().then(|| said(reason, properties))
}

/// `not authorized (0x87): write access to topic 'a' refused`.
fn said(reason: ReasonCode, properties: Properties<'_>) -> String {
    let mut out = String::new();
    for letter in format!("{reason:?}").replace("QoS", "Qos").chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(letter.to_lowercase());
    }
    out = format!("{out} ({:#04x})", reason as u8);
    for property in properties {
        if let Property::ReasonString(text) = property {
            out = format!("{out}: {text}");
        }
    }
    out
}

/// The return codes of CONNACK before 5.0.
const RETURN_CODES: [&str; 6] = [
    "accepted",
    "unacceptable protocol version (1)",
    "identifier rejected (2)",
    "server unavailable (3)",
    "bad user name or password (4)",
    "not authorized (5)",
];
