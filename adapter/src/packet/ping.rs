//! PINGREQ and PINGRESP. Owns their bytes; must never carry anything. OASIS MQTT 5.0 chapters
//! 3.12 and 3.13.

use crate::codec::{PacketType, Reader};
use crate::violation::Violation;

/// The whole PINGREQ.
pub const PINGREQ: [u8; 2] = [PacketType::PingReq.first_byte(), 0];

/// The whole PINGRESP.
pub const PINGRESP: [u8; 2] = [PacketType::PingResp.first_byte(), 0];

/// Checks that the packet is empty.
///
/// # Errors
/// [`Violation::TrailingBytes`].
pub const fn decode(packet: PacketType, body: &[u8]) -> Result<(), Violation> {
    Reader::new(body).finish(packet)
}

/// Appends a PINGRESP.
// [MQTT-3.12.4-1]
pub fn encode_response(out: &mut Vec<u8>) {
    out.extend_from_slice(&PINGRESP);
}
