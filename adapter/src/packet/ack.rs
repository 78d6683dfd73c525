//! PUBACK, PUBREC, PUBREL and PUBCOMP, which share one shape. Owns their bytes; must never know
//! what is in flight. OASIS MQTT 5.0 chapters 3.4 to 3.7.
//!
//! ```text
//! packet identifier (2) | 5.0: reason code (1, if any follows or it is not 0) | properties
//! ```

use std::num::NonZeroU16;

use super::ProtocolVersion;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, PropertySet};
use crate::reason_code::{ReasonCode, ReasonCodeSet};
use crate::violation::Violation;

/// A PUBACK, PUBREC, PUBREL or PUBCOMP. Before 5.0 the reason is always Success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Packet Identifier of the PUBLISH it answers.
    pub packet_id: NonZeroU16,
    /// One the specification allows in this packet.
    pub reason: ReasonCode,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

const fn sets(packet: PacketType) -> (ReasonCodeSet, PropertySet) {
    match packet {
        PacketType::PubRec => (ReasonCodeSet::PubAckOrPubRec, PropertySet::PubRec),
        PacketType::PubRel => (ReasonCodeSet::PubRelOrPubComp, PropertySet::PubRel),
        PacketType::PubComp => (ReasonCodeSet::PubRelOrPubComp, PropertySet::PubComp),
        _ => (ReasonCodeSet::PubAckOrPubRec, PropertySet::PubAck),
    }
}

impl<'a> Ack<'a> {
    /// Decodes the body of one of the four; `packet` says which.
    ///
    /// # Errors
    /// [`Violation::PacketIdentifierZero`], [`Violation::ReasonCodeUnknown`],
    /// [`Violation::ReasonCodeNotAllowed`], [`Violation::Truncated`],
    /// [`Violation::TrailingBytes`] and those of properties.
    pub fn decode(
        version: ProtocolVersion,
        packet: PacketType,
        body: &'a [u8],
    ) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_identifier(packet)?;
        let mut ack = Self {
            packet_id,
            reason: ReasonCode::Success,
            properties: Properties::default(),
        };
        let (reasons, set) = sets(packet);
        // MQTT 5.0 §3.4.2.1: a Remaining Length of 2 means Success, below 4 no properties.
        if version.is_v5() && !reader.is_empty() {
            ack.reason = read_reason(&mut reader, packet, reasons)?;
            if !reader.is_empty() {
                ack.properties = Properties::decode(&mut reader, set, |_| ())?;
            }
        }
        reader.finish(packet)?;
        Ok(ack)
    }
}

/// Reads a Reason Code and checks that this packet may carry it.
pub(super) fn read_reason(
    reader: &mut Reader<'_>,
    packet: PacketType,
    set: ReasonCodeSet,
) -> Result<ReasonCode, Violation> {
    let code = reader.u8("reason code")?;
    let reason = ReasonCode::from_u8(code).ok_or(Violation::ReasonCodeUnknown { packet, code })?;
    if !reason.allowed_in(set) {
        return Err(Violation::ReasonCodeNotAllowed { packet, code });
    }
    Ok(reason)
}

/// Appends one of the four without properties. Before 5.0 there is no way to say a failure, and
/// the packet is the same whatever `reason` is.
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet: PacketType,
    packet_id: NonZeroU16,
    reason: ReasonCode,
) {
    let [high, low] = packet_id.get().to_be_bytes();
    let first = packet.first_byte();
    if version.is_v5() && reason != ReasonCode::Success {
        out.extend_from_slice(&[first, 3, high, low, reason as u8]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

/// Appends one of the four with an encoded property block (5.0 only; before, the block is left
/// out, since there is no room for it).
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode_with_properties(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet: PacketType,
    packet_id: NonZeroU16,
    reason: ReasonCode,
    properties: &[u8],
) -> Result<(), TooLong> {
    if !version.is_v5() || properties.is_empty() {
        encode(out, version, packet, packet_id, reason);
        return Ok(());
    }
    codec::put_header(
        out,
        packet.first_byte(),
        3 + property::block_len(properties),
    )?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    out.push(reason as u8);
    property::put_block(out, properties);
    Ok(())
}
