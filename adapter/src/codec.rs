//! Bytes of MQTT: the fixed header, the variable byte integer, strings and binary data, read and
//! written. Owns no packet's layout; must never allocate while reading, nor read past what it was
//! given. OASIS MQTT 5.0 chapters 1.5 and 2.1.
//!
//! ```text
//! byte 1     packet type (4 bits) | flags (4 bits)
//! byte 2..   remaining length: 1 to 4 bytes, 7 bits each, least significant first
//! ```

use std::fmt;
use std::num::NonZeroU16;

use crate::limits::{REMAINING_LENGTH_MAX, STRING_BYTES_MAX};
use crate::violation::Violation;

/// MQTT Control Packet type (MQTT 5.0 §2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "each variant is the specification's name of the packet"
)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    const fn from_nibble(nibble: u8) -> Option<Self> {
        Some(match nibble {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The flags every packet of this type but PUBLISH carries (MQTT 5.0 §2.1.3, table 2-2).
    #[must_use]
    pub const fn fixed_flags(self) -> u8 {
        match self {
            // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1]
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// First byte of a packet of this type that is not a PUBLISH.
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        ((self as u8) << 4) | self.fixed_flags()
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

/// Fixed header of a packet (MQTT 5.0 §2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// What the packet is.
    pub packet_type: PacketType,
    /// Low four bits of the first byte.
    pub flags: u8,
    /// Bytes that follow the header, at most [`REMAINING_LENGTH_MAX`].
    pub remaining_length: u32,
}

/// The `DUP` bit of a fixed header.
pub(crate) const FLAG_DUP: u8 = 0b1000;

/// Decodes the fixed header at the start of `buf`: the header and how many bytes it takes (2 to
/// 5), or `None` while `buf` is too short to tell. A first byte that no continuation can save is
/// refused at once.
///
/// Flags are checked for every type but PUBLISH, save one bit: MQTT 3.1 sets `DUP` on a repeated
/// PUBREL, SUBSCRIBE or UNSUBSCRIBE, and only [`crate::packet::decode`] knows the version.
///
/// # Errors
/// [`Violation::ReservedPacketType`], [`Violation::ReservedFlags`], and what
/// [`decode_variable_byte_integer`] reports.
pub fn decode_header(buf: &[u8]) -> Result<Option<(FixedHeader, usize)>, Violation> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(None);
    };
    let Some(packet_type) = PacketType::from_nibble(first >> 4) else {
        return Err(Violation::ReservedPacketType {
            packet_type: first >> 4,
        });
    };
    let flags = first & 0x0F;
    if packet_type != PacketType::Publish {
        let fixed = packet_type.fixed_flags();
        let repeated = fixed != 0 && flags == fixed | FLAG_DUP;
        // [MQTT-2.1.3-1]
        if flags != fixed && !repeated {
            return Err(Violation::ReservedFlags {
                packet: packet_type,
                flags,
            });
        }
    }
    let decoded = decode_variable_byte_integer(rest, "remaining length")?;
    Ok(decoded.map(|(remaining_length, bytes)| {
        (
            FixedHeader {
                packet_type,
                flags,
                remaining_length,
            },
            1 + bytes,
        )
    }))
}

/// Decodes a variable byte integer at the start of `buf`: its value and the bytes it takes (1 to
/// 4), or `None` while its last byte is not there.
///
/// # Errors
/// [`Violation::VariableByteIntegerTooLong`], [`Violation::VariableByteIntegerNotMinimal`].
pub fn decode_variable_byte_integer(
    buf: &[u8],
    field: &'static str,
) -> Result<Option<(u32, usize)>, Violation> {
    let mut value = 0_u32;
    for (index, &byte) in buf.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // [MQTT-1.5.5-1]
            if byte == 0 && index > 0 {
                return Err(Violation::VariableByteIntegerNotMinimal { field });
            }
            return Ok(Some((value, index + 1)));
        }
    }
    // MQTT 5.0 §1.5.5: the fourth byte says that a fifth follows.
    if buf.len() >= 4 {
        return Err(Violation::VariableByteIntegerTooLong { field });
    }
    Ok(None)
}

/// A cursor over the bytes of one packet. Every read is bounded by them and borrows from them.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// All of it, if that is UTF-8 as a whole: strings in it need no other look. Else empty.
    text: &'a str,
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            text: "",
        }
    }

    /// The same for what has many strings: they are checked in one pass.
    #[must_use]
    pub(crate) fn of_strings(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            text: std::str::from_utf8(bytes).unwrap_or_default(),
        }
    }

    /// The string of so many bytes that was just read, if the whole is UTF-8 and it is of whole
    /// characters.
    #[inline]
    fn known_text(&self, bytes: usize) -> Option<&'a str> {
        let end = self.text.len().checked_sub(self.rest.len())?;
        self.text.get(end.checked_sub(bytes)?..end)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`Violation::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Violation> {
        let (&byte, rest) = self
            .rest
            .split_first()
            .ok_or(Violation::Truncated { field })?;
        self.rest = rest;
        Ok(byte)
    }

    /// Reads a Two Byte Integer (§1.5.2).
    ///
    /// # Errors
    /// [`Violation::Truncated`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Violation> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Violation::Truncated { field })?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// Reads a Four Byte Integer (§1.5.3).
    ///
    /// # Errors
    /// [`Violation::Truncated`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Violation> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Violation::Truncated { field })?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// Reads a Variable Byte Integer (§1.5.5).
    ///
    /// # Errors
    /// [`Violation::Truncated`] and what [`decode_variable_byte_integer`] reports.
    pub fn variable_byte_integer(&mut self, field: &'static str) -> Result<u32, Violation> {
        let decoded = decode_variable_byte_integer(self.rest, field)?;
        let (value, bytes) = decoded.ok_or(Violation::Truncated { field })?;
        self.bytes(bytes, field)?;
        Ok(value)
    }

    /// Reads exactly `len` bytes.
    ///
    /// # Errors
    /// [`Violation::Truncated`].
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Violation> {
        let split = self.rest.split_at_checked(len);
        let (bytes, rest) = split.ok_or(Violation::Truncated { field })?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads Binary Data (§1.5.6): two bytes of length, then as many bytes.
    ///
    /// # Errors
    /// [`Violation::Truncated`].
    pub fn binary(&mut self, field: &'static str) -> Result<&'a [u8], Violation> {
        let len = self.u16(field)?;
        self.bytes(usize::from(len), field)
    }

    /// Reads a UTF-8 Encoded String (§1.5.4).
    ///
    /// # Errors
    /// [`Violation::Truncated`], [`Violation::StringNotUtf8`], [`Violation::StringHasNul`].
    pub fn string(&mut self, field: &'static str) -> Result<&'a str, Violation> {
        let bytes = self.binary(field)?;
        // [MQTT-1.5.4-3]: U+FEFF is a character like others.
        // [MQTT-1.5.4-1]: surrogates are not UTF-8 either.
        let text = match self.known_text(bytes.len()) {
            Some(text) => text,
            None => std::str::from_utf8(bytes).map_err(|_| Violation::StringNotUtf8 { field })?,
        };
        // [MQTT-1.5.4-2]
        if bytes.contains(&0) {
            return Err(Violation::StringHasNul { field });
        }
        Ok(text)
    }

    /// Reads a Packet Identifier (§2.2.1).
    ///
    /// # Errors
    /// [`Violation::Truncated`], [`Violation::PacketIdentifierZero`].
    pub fn packet_identifier(&mut self, packet: PacketType) -> Result<NonZeroU16, Violation> {
        let id = self.u16("packet identifier")?;
        // [MQTT-2.2.1-3]
        NonZeroU16::new(id).ok_or(Violation::PacketIdentifierZero { packet })
    }

    /// Ends a packet whose layout leaves nothing over.
    ///
    /// # Errors
    /// [`Violation::TrailingBytes`].
    pub const fn finish(self, packet: PacketType) -> Result<(), Violation> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Violation::TrailingBytes { packet, bytes }),
        }
    }
}

/// What MQTT cannot carry: a string above [`STRING_BYTES_MAX`] or a packet above
/// [`REMAINING_LENGTH_MAX`]. The encoder that reports it has written nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes, at most {bytes_max} fit")]
pub struct TooLong {
    /// Bytes there are.
    pub bytes: usize,
    /// Bytes there may be.
    pub bytes_max: usize,
}

/// Checks that `bytes` can be written as a string or binary data.
///
/// # Errors
/// [`TooLong`] above [`STRING_BYTES_MAX`].
pub const fn check_string(bytes: &[u8]) -> Result<(), TooLong> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(TooLong {
            bytes: bytes.len(),
            bytes_max: STRING_BYTES_MAX,
        });
    }
    Ok(())
}

/// Appends Binary Data, or the bytes of a string, which passed [`check_string`].
pub(crate) fn put_checked(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= STRING_BYTES_MAX, "callers check first");
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a fixed header and makes room for what follows.
///
/// # Errors
/// [`TooLong`] above [`REMAINING_LENGTH_MAX`].
pub fn put_header(
    out: &mut Vec<u8>,
    first_byte: u8,
    remaining_length: usize,
) -> Result<(), TooLong> {
    let bytes_max = REMAINING_LENGTH_MAX as usize;
    if remaining_length > bytes_max {
        return Err(TooLong {
            bytes: remaining_length,
            bytes_max,
        });
    }
    out.reserve(remaining_length + 5);
    out.push(first_byte);
    put_variable_byte_integer(out, remaining_length as u32);
    Ok(())
}

/// Appends a Variable Byte Integer of at most [`REMAINING_LENGTH_MAX`] (§1.5.5).
pub fn put_variable_byte_integer(out: &mut Vec<u8>, value: u32) {
    debug_assert!(value <= REMAINING_LENGTH_MAX, "callers check first");
    let mut rest = value;
    // [MQTT-1.5.5-1]: stops at the highest group that is not zero.
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put_variable_byte_integer`] writes for a length, 1 to 4.
#[must_use]
pub const fn variable_byte_integer_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_1_5_5_1_variable_byte_integers() {
        let rows: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (REMAINING_LENGTH_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, bytes) in rows {
            let mut out = Vec::new();
            put_variable_byte_integer(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(variable_byte_integer_len(value as usize), bytes.len());
            let got = decode_variable_byte_integer(bytes, "x");
            assert_eq!(got, Ok(Some((value, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(decode_variable_byte_integer(&bytes[..cut], "x"), Ok(None));
            }
        }
    }

    #[test]
    fn mqtt_1_5_5_1_longer_than_needed() {
        for bytes in [
            &[0x80, 0][..],
            &[0xFF, 0],
            &[0x80, 0x80, 0],
            &[0x80, 0x80, 0x80, 0],
        ] {
            let got = decode_variable_byte_integer(bytes, "x");
            assert_eq!(
                got,
                Err(Violation::VariableByteIntegerNotMinimal { field: "x" })
            );
        }
        for bytes in [&[0x80; 4][..], &[0xFF; 5], &[0x80, 0x80, 0x80, 0x80, 1]] {
            let got = decode_variable_byte_integer(bytes, "x");
            assert_eq!(
                got,
                Err(Violation::VariableByteIntegerTooLong { field: "x" })
            );
        }
    }

    #[test]
    fn mqtt_2_1_3_1_every_first_byte() {
        // 3.1.1 [MQTT-2.2.2-2].
        for first in 0..=u8::MAX {
            let (nibble, flags) = (first >> 4, first & 0x0F);
            let expect = match nibble {
                0 => false,
                3 => true,
                6 | 8 | 10 => flags & 0b0111 == 2,
                _ => flags == 0,
            };
            assert_eq!(decode_header(&[first]).is_ok(), expect, "{first:#04x}");
            if expect {
                assert_eq!(decode_header(&[first]), Ok(None));
                let (header, bytes) = decode_header(&[first, 0x05]).unwrap().unwrap();
                assert_eq!((header.packet_type as u8, header.flags), (nibble, flags));
                assert_eq!((header.remaining_length, bytes), (5, 2));
            }
        }
        assert_eq!(decode_header(&[]), Ok(None));
    }

    #[test]
    fn mqtt_1_5_4_strings() {
        // [MQTT-1.5.4-1], [MQTT-1.5.4-2]; 3.1.1 [MQTT-1.5.3-1], [MQTT-1.5.3-2].
        let rows: [(&[u8], Result<&str, Violation>); 8] = [
            (b"\0\0", Ok("")),
            (b"\0\x03a/b", Ok("a/b")),
            (b"\0\x03\xEF\xBB\xBF", Ok("\u{FEFF}")), // [MQTT-1.5.4-3]
            (b"\0\x01\0", Err(Violation::StringHasNul { field: "x" })),
            (b"\0\x01\xFF", Err(Violation::StringNotUtf8 { field: "x" })),
            (
                b"\0\x03\xED\xA0\x80",
                Err(Violation::StringNotUtf8 { field: "x" }),
            ),
            (b"\0\x02a", Err(Violation::Truncated { field: "x" })),
            (b"\0", Err(Violation::Truncated { field: "x" })),
        ];
        for (bytes, expect) in rows {
            assert_eq!(Reader::new(bytes).string("x"), expect);
        }
    }

    #[test]
    fn an_oversized_packet_is_not_begun() {
        let mut out = Vec::new();
        assert!(put_header(&mut out, 0x30, REMAINING_LENGTH_MAX as usize + 1).is_err());
        assert!(out.is_empty());
        assert!(check_string(&[0; STRING_BYTES_MAX]).is_ok());
        assert!(check_string(&[0; STRING_BYTES_MAX + 1]).is_err());
    }
}
