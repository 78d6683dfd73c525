//! The client's side of MQTT: the packets it sends, and how it answers what it receives.

use std::num::NonZeroU16;

use allocation_counter::opt_out;
use leveret_mqtt::codec::{self, PacketType};
use leveret_mqtt::packet::connect::{Connect, ConnectProperties};
use leveret_mqtt::packet::publish::{self, OutgoingPublish};
use leveret_mqtt::packet::subscribe::{self, SubscriptionOptions};
use leveret_mqtt::packet::{ProtocolVersion, QoS, ServerPacket, ack, decode_server};
use leveret_mqtt::property::Property;
use leveret_mqtt::reason_code::ReasonCode;

use crate::rig::{Client, Rig};

/// What a client has seen.
#[derive(Default)]
pub(crate) struct Agent {
    /// It speaks 5.0, not 3.1.1.
    pub(crate) is_v5: bool,
    pub(crate) delivered: u64,
    pub(crate) confirmed: u64,
}

const VERSION: ProtocolVersion = ProtocolVersion::V4;

fn version(is_v5: bool) -> ProtocolVersion {
    match is_v5 {
        true => ProtocolVersion::V5,
        false => VERSION,
    }
}

impl Agent {
    /// Reads whole packets and appends the answers that the protocol asks for.
    pub(crate) fn read(&mut self, mut input: &[u8], answers: &mut Vec<u8>) {
        let version = version(self.is_v5);
        let mut answer =
            |packet, id| ack::encode(answers, version, packet, id, ReasonCode::Success);
        while !input.is_empty() {
            let (header, header_bytes) = codec::decode_header(input)
                .expect("a header")
                .expect("whole packets");
            let (packet, rest) = input.split_at(header_bytes + header.remaining_length as usize);
            input = rest;
            match decode_server(version, header, &packet[header_bytes..]).expect("a packet") {
                ServerPacket::Publish(publish) => {
                    self.delivered += 1;
                    if let Some(id) = publish.packet_id {
                        answer(PacketType::PubAck, id);
                    }
                }
                ServerPacket::PubRec(rec) => answer(PacketType::PubRel, rec.packet_id),
                ServerPacket::PubAck(_) | ServerPacket::PubComp(_) => self.confirmed += 1,
                ServerPacket::ConnAck(answer) => assert_eq!(answer.code, 0),
                ServerPacket::SubAck(_) => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }
}

/// A client that is logged in; a session that is not clean outlives it.
pub(crate) fn connect(rig: &Rig, client_id: &str, keep_alive_s: u16, clean: bool) -> Client {
    connect_as(rig, client_id, keep_alive_s, clean, false)
}

/// The same of 5.0, with topic aliases.
pub(crate) fn connect5(rig: &Rig, client_id: &str) -> Client {
    connect_as(rig, client_id, 0, true, true)
}

fn connect_as(rig: &Rig, client_id: &str, keep_alive_s: u16, clean: bool, is_v5: bool) -> Client {
    let mut client = rig.mqtt(Agent {
        is_v5,
        ..Agent::default()
    });
    opt_out(|| {
        let mut packet = Vec::new();
        Connect {
            version: version(is_v5),
            clean_start: clean,
            keep_alive_s,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                topic_alias_maximum: 16,
                ..ConnectProperties::default()
            },
        }
        .encode(&mut packet)
        .expect("CONNECT fits");
        client.write(&packet);
    });
    client.settle();
    client
}

/// Subscribes to all filters with one packet.
pub(crate) fn subscribe(client: &mut Client, filters: &[&str], qos: QoS) {
    subscribe_as(client, filters, qos, false);
}

/// The same of 5.0.
pub(crate) fn subscribe5(client: &mut Client, filters: &[&str], qos: QoS) {
    subscribe_as(client, filters, qos, true);
}

fn subscribe_as(client: &mut Client, filters: &[&str], qos: QoS, is_v5: bool) {
    opt_out(|| {
        let mut packet = Vec::new();
        let options = SubscriptionOptions::new(qos);
        let all: Vec<_> = filters
            .iter()
            .map(|filter| subscribe::Subscription { filter, options })
            .collect();
        subscribe::encode(&mut packet, version(is_v5), NonZeroU16::MIN, &[], &all)
            .expect("SUBSCRIBE fits");
        client.write(&packet);
    });
    client.settle();
}

/// DISCONNECT, and the end of the stream.
pub(crate) fn disconnect(client: Client) {
    client.write(&[PacketType::Disconnect.first_byte(), 0]);
    client.hang_up();
}

/// Publications to `topic`, as one segment; packet ids from 1 where there are any.
pub(crate) fn batch(topic: &str, qos: QoS, messages: u16, payload_bytes: usize) -> Vec<u8> {
    let payload = vec![7; payload_bytes];
    let mut packets = Vec::new();
    for message in 0..messages {
        let packet_id = NonZeroU16::MIN.saturating_add(message);
        let outgoing = OutgoingPublish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
            properties: &[],
            payload: &payload,
        };
        publish::encode(&mut packets, VERSION, &outgoing).expect("PUBLISH fits");
    }
    packets
}

/// Publications of 5.0 with QoS 0 and five User Properties each; with `aliases`, all but the first
/// name their topic by one.
pub(crate) fn batch5(topic: &str, messages: u16, aliases: bool) -> Vec<u8> {
    let mut packets = Vec::new();
    for message in 0..messages {
        let mut properties = Vec::new();
        for name in ["unit", "place", "sensor", "firmware", "operator"] {
            let property = Property::UserProperty(name, "a value of some length");
            property.encode(&mut properties).expect("it fits");
        }
        if aliases {
            let alias = Property::TopicAlias(NonZeroU16::MIN);
            alias.encode(&mut properties).expect("it fits");
        }
        let outgoing = OutgoingPublish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: if aliases && message > 0 { "" } else { topic },
            packet_id: None,
            properties: &properties,
            payload: &[7; 64],
        };
        publish::encode(&mut packets, ProtocolVersion::V5, &outgoing).expect("PUBLISH fits");
    }
    packets
}
