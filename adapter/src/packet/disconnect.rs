//! DISCONNECT. Owns its bytes; must never close anything. OASIS MQTT 5.0 chapter 3.14.
//!
//! ```text
//! 3.x: nothing; 5.0: nothing | reason code (1) | reason code (1), properties
//! ```

use super::ProtocolVersion;
use super::ack::read_reason;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, Property, PropertySet};
use crate::reason_code::{ReasonCode, ReasonCodeSet};
use crate::violation::Violation;

/// A DISCONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Success (Normal disconnection) before 5.0.
    pub reason: ReasonCode,
    /// New Session Expiry Interval in seconds, if the client sets one.
    pub session_expiry_interval: Option<u32>,
    /// The whole block.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Decodes a DISCONNECT of a client.
    ///
    /// # Errors
    /// [`Violation::ReasonCodeUnknown`], [`Violation::ReasonCodeNotAllowed`],
    /// [`Violation::TrailingBytes`] and those of properties.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Violation> {
        if !version.is_v5() {
            Reader::new(body).finish(PacketType::Disconnect)?;
        }
        Self::decode_set(
            body,
            ReasonCodeSet::ClientDisconnect,
            PropertySet::ClientDisconnect,
        )
    }

    /// Decodes a DISCONNECT of a server, which 5.0 alone has.
    ///
    /// # Errors
    /// As [`Disconnect::decode`].
    pub fn decode_server(body: &'a [u8]) -> Result<Self, Violation> {
        Self::decode_set(
            body,
            ReasonCodeSet::ServerDisconnect,
            PropertySet::ServerDisconnect,
        )
    }

    fn decode_set(
        body: &'a [u8],
        reasons: ReasonCodeSet,
        set: PropertySet,
    ) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::Disconnect;
        let mut disconnect = Self {
            reason: ReasonCode::Success,
            session_expiry_interval: None,
            properties: Properties::default(),
        };
        // MQTT 5.0 §3.14.2.1: no byte means Normal disconnection, one means no properties.
        if !reader.is_empty() {
            disconnect.reason = read_reason(&mut reader, packet, reasons)?;
        }
        if !reader.is_empty() {
            let interval = &mut disconnect.session_expiry_interval;
            disconnect.properties = Properties::decode(&mut reader, set, |property| {
                if let Property::SessionExpiryInterval(seconds) = property {
                    *interval = Some(seconds);
                }
            })?;
        }
        reader.finish(packet)?;
        Ok(disconnect)
    }
}

/// Appends a DISCONNECT with an encoded property block. Before 5.0 only clients send one, and it
/// is empty.
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    reason: ReasonCode,
    properties: &[u8],
) -> Result<(), TooLong> {
    let first = PacketType::Disconnect.first_byte();
    if !version.is_v5() || (reason == ReasonCode::Success && properties.is_empty()) {
        return codec::put_header(out, first, 0);
    }
    // §3.14.2.2.1 lets the length of no properties be left out; it is written all the same, because
    // clients exist that wait for it, and never learn the reason.
    codec::put_header(out, first, 1 + property::block_len(properties))?;
    out.push(reason as u8);
    property::put_block(out, properties);
    Ok(())
}
