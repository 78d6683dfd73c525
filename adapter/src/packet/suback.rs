//! SUBACK. Owns its bytes; must never grant anything. OASIS MQTT 5.0 chapter 3.9.
//!
//! ```text
//! packet identifier (2) | 5.0: properties | one code (1) for each filter of the SUBSCRIBE
//! ```

use std::num::NonZeroU16;

use super::ProtocolVersion;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, PropertySet};
use crate::reason_code::{ReasonCode, ReasonCodeSet};
use crate::violation::Violation;

/// A SUBACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Packet Identifier of the SUBSCRIBE.
    pub packet_id: NonZeroU16,
    /// The whole block.
    pub properties: Properties<'a>,
    /// One code for each filter, legal for the version.
    pub codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// Decodes a SUBACK.
    ///
    /// # Errors
    /// [`Violation::PacketIdentifierZero`], [`Violation::ReasonCodeUnknown`],
    /// [`Violation::ReasonCodeNotAllowed`], [`Violation::Truncated`] and those of properties.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::SubAck;
        let packet_id = reader.packet_identifier(packet)?;
        let mut properties = Properties::default();
        if version.is_v5() {
            properties = Properties::decode(&mut reader, PropertySet::SubAck, |_| ())?;
        }
        let codes = reader.rest();
        for &code in codes {
            let known = ReasonCode::from_u8(code);
            let reason = known.ok_or(Violation::ReasonCodeUnknown { packet, code })?;
            let legal = match version {
                ProtocolVersion::V5 => reason.allowed_in(ReasonCodeSet::SubAck),
                // 3.1.1 [MQTT-3.9.3-2]
                ProtocolVersion::V4 => matches!(code, 0..=2 | 0x80),
                ProtocolVersion::V3 => code <= 2,
            };
            if !legal {
                return Err(Violation::ReasonCodeNotAllowed { packet, code });
            }
        }
        Ok(Self {
            packet_id,
            properties,
            codes,
        })
    }
}

/// Appends a SUBACK with one reason for each filter ([MQTT-3.9.3-1]) and an encoded property
/// block, which 3.x leaves out. In 3.1.1 every failure is 0x80; 3.1 has no failure and its code is
/// masked to two bits, as RabbitMQ does.
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
    let block = if version.is_v5() {
        property::block_len(properties)
    } else {
        0
    };
    codec::put_header(
        out,
        PacketType::SubAck.first_byte(),
        2 + block + reasons.len(),
    )?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if version.is_v5() {
        property::put_block(out, properties);
    }
    out.extend(
        reasons
            .iter()
            .map(|reason| match (version, reason.is_failure()) {
                (ProtocolVersion::V3, true) => 0,
                (ProtocolVersion::V4, true) => ReasonCode::UnspecifiedError as u8,
                _ => *reason as u8,
            }),
    );
    Ok(())
}
