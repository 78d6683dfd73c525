//! CONNACK. Owns its bytes; must never decide who is let in. OASIS MQTT 5.0 chapter 3.2.
//!
//! ```text
//! acknowledge flags (1) | return code (3.x) or reason code (5.0) (1) | 5.0: properties
//! ```

use super::ProtocolVersion;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, PropertySet};
use crate::reason_code::{ReasonCode, ReasonCodeSet};
use crate::violation::Violation;

/// A CONNACK packet as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Session Present; always false in MQTT 3.1.
    pub session_present: bool,
    /// Connect Return code (3.x) or Reason Code (5.0); 0 is success in all.
    pub code: u8,
    /// The block of a 5.0 CONNACK.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    /// Decodes a CONNACK.
    ///
    /// # Errors
    /// [`Violation::ConnAckReservedFlags`], [`Violation::ReasonCodeUnknown`],
    /// [`Violation::ReasonCodeNotAllowed`], [`Violation::Truncated`],
    /// [`Violation::TrailingBytes`] and those of properties.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::ConnAck;
        let flags = reader.u8("acknowledge flags")?;
        // [MQTT-3.2.2-1]
        if flags > 1 {
            return Err(Violation::ConnAckReservedFlags { flags });
        }
        let (code, properties) = if version.is_v5() {
            let reason = super::ack::read_reason(&mut reader, packet, ReasonCodeSet::ConnAck)?;
            let properties = Properties::decode(&mut reader, PropertySet::ConnAck, |_| ())?;
            (reason as u8, properties)
        } else {
            let code = reader.u8("return code")?;
            if code > 5 {
                return Err(Violation::ReasonCodeUnknown { packet, code });
            }
            (code, Properties::default())
        };
        reader.finish(packet)?;
        Ok(Self {
            session_present: flags == 1,
            code,
            properties,
        })
    }
}

/// Appends a CONNACK with an encoded property block, which 3.x leaves out. Session Present is
/// written only where it may be: on success, and not in MQTT 3.1.
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    session_present: bool,
    reason: ReasonCode,
    properties: &[u8],
) -> Result<(), TooLong> {
    // [MQTT-3.2.2-6], 3.1.1 [MQTT-3.2.2-4]
    let present =
        session_present && reason == ReasonCode::Success && version != ProtocolVersion::V3;
    let first = PacketType::ConnAck.first_byte();
    if !version.is_v5() {
        codec::put_header(out, first, 2)?;
        out.extend_from_slice(&[u8::from(present), reason.connack_return_code()]);
        return Ok(());
    }
    codec::put_header(out, first, 2 + property::block_len(properties))?;
    out.extend_from_slice(&[u8::from(present), reason as u8]);
    property::put_block(out, properties);
    Ok(())
}
