//! UNSUBACK. Owns its bytes; must never remove anything. OASIS MQTT 5.0 chapter 3.11.
//!
//! ```text
//! packet identifier (2) | 5.0: properties, one code (1) for each filter of the UNSUBSCRIBE
//! ```

use std::num::NonZeroU16;

use super::ProtocolVersion;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, PropertySet};
use crate::reason_code::{ReasonCode, ReasonCodeSet};
use crate::violation::Violation;

/// An UNSUBACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// Packet Identifier of the UNSUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// The whole block.
    pub properties: Properties<'a>,
    /// One Reason Code for each filter; empty before 5.0.
    pub codes: &'a [u8],
}

impl<'a> UnsubAck<'a> {
    /// Decodes an UNSUBACK.
    ///
    /// # Errors
    /// [`Violation::PacketIdentifierZero`], [`Violation::ReasonCodeUnknown`],
    /// [`Violation::ReasonCodeNotAllowed`], [`Violation::TrailingBytes`],
    /// [`Violation::Truncated`] and those of properties.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::UnsubAck;
        let packet_id = reader.packet_identifier(packet)?;
        if !version.is_v5() {
            reader.finish(packet)?;
            return Ok(Self {
                packet_id,
                properties: Properties::default(),
                codes: &[],
            });
        }
        let properties = Properties::decode(&mut reader, PropertySet::UnsubAck, |_| ())?;
        let codes = reader.rest();
        while !reader.is_empty() {
            super::ack::read_reason(&mut reader, packet, ReasonCodeSet::UnsubAck)?;
        }
        Ok(Self {
            packet_id,
            properties,
            codes,
        })
    }
}

/// Appends an UNSUBACK with one reason for each filter ([MQTT-3.11.3-1]) and an encoded property
/// block; before 5.0 it is the packet identifier alone.
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet_id: NonZeroU16,
    reasons: &[ReasonCode],
    properties: &[u8],
) -> Result<(), TooLong> {
    let first = PacketType::UnsubAck.first_byte();
    if !version.is_v5() {
        codec::put_header(out, first, 2)?;
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        return Ok(());
    }
    codec::put_header(
        out,
        first,
        2 + property::block_len(properties) + reasons.len(),
    )?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    property::put_block(out, properties);
    out.extend(reasons.iter().map(|reason| *reason as u8));
    Ok(())
}
