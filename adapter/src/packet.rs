//! The MQTT Control Packets: which there are, and which side may send them. Owns the dispatch by
//! packet type; must never know a packet's layout, which is its own file's. OASIS MQTT 5.0
//! chapter 3.

use crate::codec::{FLAG_DUP, FixedHeader, PacketType};
use crate::violation::Violation;

pub mod ack;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod ping;
pub mod publish;
pub mod suback;
pub mod subscribe;
pub mod unsuback;
pub mod unsubscribe;

use ack::Ack;
use auth::Auth;
use connack::ConnAck;
use connect::Connect;
use disconnect::Disconnect;
use publish::Publish;
use suback::SubAck;
use subscribe::Subscribe;
use unsuback::UnsubAck;
use unsubscribe::Unsubscribe;

/// Version of MQTT a connection speaks, by its protocol level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1, `MQIsdp` level 3.
    V3 = 3,
    /// MQTT 3.1.1, `MQTT` level 4.
    V4 = 4,
    /// MQTT 5.0, `MQTT` level 5.
    V5 = 5,
}

impl ProtocolVersion {
    /// Whether packets carry properties and reason codes.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

/// Quality of Service (MQTT 5.0 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of these two bits, or `None` for 3 and above.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet a client may send once its CONNECT was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the specification's name of the packet"
)]
pub enum ClientPacket<'a> {
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    PingReq,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl ClientPacket<'_> {
    /// How many Topic Filters it has: 0 but in SUBSCRIBE and UNSUBSCRIBE.
    #[must_use]
    pub const fn filter_count(&self) -> usize {
        match self {
            Self::Subscribe(subscribe) => subscribe.filter_count,
            Self::Unsubscribe(unsubscribe) => unsubscribe.filter_count,
            _ => 0,
        }
    }
}

/// A packet a server may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the specification's name of the packet"
)]
pub enum ServerPacket<'a> {
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    SubAck(SubAck<'a>),
    UnsubAck(UnsubAck<'a>),
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Decodes the first packet of a connection, which must be CONNECT. On an error
/// [`connect::protocol_version`] tells in which version to answer.
///
/// # Errors
/// [`Violation::FirstPacketNotConnect`] and what [`Connect::decode`] reports.
pub fn decode_first(header: FixedHeader, body: &[u8]) -> Result<Connect<'_>, Violation> {
    // [MQTT-3.1.0-1]
    match header.packet_type {
        PacketType::Connect => Connect::decode(body),
        packet => Err(Violation::FirstPacketNotConnect { packet }),
    }
}

/// Decodes a packet of a client after its CONNECT. `body` is the `remaining_length` bytes behind
/// the header; nothing is copied and nothing allocated.
///
/// # Errors
/// [`Violation::SecondConnect`], [`Violation::WrongDirection`], [`Violation::ReservedPacketType`]
/// for AUTH before 5.0, [`Violation::ReservedFlags`], and what the packet's decoder reports.
#[inline]
pub fn decode(
    version: ProtocolVersion,
    header: FixedHeader,
    body: &[u8],
) -> Result<ClientPacket<'_>, Violation> {
    let packet = header.packet_type;
    check_flags(version, header)?;
    Ok(match packet {
        PacketType::Publish => ClientPacket::Publish(Publish::decode(version, header.flags, body)?),
        PacketType::PubAck => ClientPacket::PubAck(Ack::decode(version, packet, body)?),
        PacketType::PubRec => ClientPacket::PubRec(Ack::decode(version, packet, body)?),
        PacketType::PubRel => ClientPacket::PubRel(Ack::decode(version, packet, body)?),
        PacketType::PubComp => ClientPacket::PubComp(Ack::decode(version, packet, body)?),
        PacketType::Subscribe => ClientPacket::Subscribe(Subscribe::decode(version, body)?),
        PacketType::Unsubscribe => ClientPacket::Unsubscribe(Unsubscribe::decode(version, body)?),
        PacketType::PingReq => {
            ping::decode(packet, body)?;
            ClientPacket::PingReq
        }
        PacketType::Disconnect => ClientPacket::Disconnect(Disconnect::decode(version, body)?),
        PacketType::Auth if version.is_v5() => ClientPacket::Auth(Auth::decode(body)?),
        PacketType::Auth => return Err(Violation::ReservedPacketType { packet_type: 15 }),
        // [MQTT-3.1.0-2]
        PacketType::Connect => return Err(Violation::SecondConnect),
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            return Err(Violation::WrongDirection { packet });
        }
    })
}

/// Decodes a packet of a server: what test clients and tools read.
///
/// # Errors
/// As [`decode`], for the other direction.
pub fn decode_server(
    version: ProtocolVersion,
    header: FixedHeader,
    body: &[u8],
) -> Result<ServerPacket<'_>, Violation> {
    let packet = header.packet_type;
    check_flags(version, header)?;
    Ok(match packet {
        PacketType::ConnAck => ServerPacket::ConnAck(ConnAck::decode(version, body)?),
        PacketType::Publish => {
            ServerPacket::Publish(Publish::decode_server(version, header.flags, body)?)
        }
        PacketType::PubAck => ServerPacket::PubAck(Ack::decode(version, packet, body)?),
        PacketType::PubRec => ServerPacket::PubRec(Ack::decode(version, packet, body)?),
        PacketType::PubRel => ServerPacket::PubRel(Ack::decode(version, packet, body)?),
        PacketType::PubComp => ServerPacket::PubComp(Ack::decode(version, packet, body)?),
        PacketType::SubAck => ServerPacket::SubAck(SubAck::decode(version, body)?),
        PacketType::UnsubAck => ServerPacket::UnsubAck(UnsubAck::decode(version, body)?),
        PacketType::PingResp => {
            ping::decode(packet, body)?;
            ServerPacket::PingResp
        }
        PacketType::Disconnect if version.is_v5() => {
            ServerPacket::Disconnect(Disconnect::decode_server(body)?)
        }
        PacketType::Auth if version.is_v5() => ServerPacket::Auth(Auth::decode_server(body)?),
        PacketType::Auth => return Err(Violation::ReservedPacketType { packet_type: 15 }),
        PacketType::Connect
        | PacketType::Subscribe
        | PacketType::Unsubscribe
        | PacketType::PingReq
        | PacketType::Disconnect => return Err(Violation::WrongDirection { packet }),
    })
}

/// MQTT 3.1 §2.1 sets DUP on a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE; later versions reserve
/// it, and [`crate::codec::decode_header`] cannot tell.
fn check_flags(version: ProtocolVersion, header: FixedHeader) -> Result<(), Violation> {
    let FixedHeader {
        packet_type: packet,
        flags,
        ..
    } = header;
    if packet == PacketType::Publish || flags == packet.fixed_flags() {
        return Ok(());
    }
    let repeated = packet.fixed_flags() != 0 && flags == packet.fixed_flags() | FLAG_DUP;
    if version == ProtocolVersion::V3 && repeated {
        return Ok(());
    }
    // [MQTT-2.1.3-1]
    Err(Violation::ReservedFlags { packet, flags })
}

#[cfg(test)]
mod tests;
