//! AUTH. Owns its bytes; must never know a mechanism. OASIS MQTT 5.0 chapter 3.15.
//!
//! ```text
//! reason code (1) | properties; nothing at all means Success
//! ```

use super::ack::read_reason;
use crate::codec::{self, PacketType, Reader, TooLong};
use crate::property::{self, Properties, Property, PropertySet};
use crate::reason_code::{ReasonCode, ReasonCodeSet};
use crate::violation::Violation;

/// An AUTH packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Continue authentication or Re-authenticate from a client, Success or Continue from a server.
    pub reason: ReasonCode,
    /// Authentication Method; empty only in a Success that carries nothing.
    pub method: &'a str,
    /// Authentication Data, if any.
    pub data: Option<&'a [u8]>,
    /// The whole block.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Decodes an AUTH of a client.
    ///
    /// # Errors
    /// [`Violation::ReasonCodeNotAllowed`], [`Violation::AuthenticationMethodMissing`],
    /// [`Violation::Truncated`], [`Violation::TrailingBytes`] and those of properties.
    pub fn decode(body: &'a [u8]) -> Result<Self, Violation> {
        Self::decode_set(body, ReasonCodeSet::ClientAuth)
    }

    /// Decodes an AUTH of a server.
    ///
    /// # Errors
    /// As [`Auth::decode`].
    pub fn decode_server(body: &'a [u8]) -> Result<Self, Violation> {
        Self::decode_set(body, ReasonCodeSet::ServerAuth)
    }

    fn decode_set(body: &'a [u8], set: ReasonCodeSet) -> Result<Self, Violation> {
        let mut reader = Reader::new(body);
        let packet = PacketType::Auth;
        let reason = ReasonCode::Success;
        let mut auth = Self {
            reason,
            method: "",
            data: None,
            properties: Properties::default(),
        };
        if reader.is_empty() {
            // [MQTT-3.15.2-1]: an empty AUTH is a Success, which only a server may say.
            if !reason.allowed_in(set) {
                return Err(Violation::ReasonCodeNotAllowed {
                    packet,
                    code: reason as u8,
                });
            }
            return Ok(auth);
        }
        auth.reason = read_reason(&mut reader, packet, set)?;
        let mut method = None;
        let properties =
            Properties::decode(&mut reader, PropertySet::Auth, |property| match property {
                Property::AuthenticationMethod(name) => method = Some(name),
                Property::AuthenticationData(data) => auth.data = Some(data),
                _ => {}
            })?;
        reader.finish(packet)?;
        auth.properties = properties;
        // MQTT 5.0 §3.15.2.2.2
        auth.method = method.ok_or(Violation::AuthenticationMethodMissing)?;
        Ok(auth)
    }
}

/// Appends an AUTH with an encoded property block.
///
/// # Errors
/// [`TooLong`], and nothing is written then.
pub fn encode(out: &mut Vec<u8>, reason: ReasonCode, properties: &[u8]) -> Result<(), TooLong> {
    let first = PacketType::Auth.first_byte();
    codec::put_header(out, first, 1 + property::block_len(properties))?;
    out.push(reason as u8);
    property::put_block(out, properties);
    Ok(())
}
