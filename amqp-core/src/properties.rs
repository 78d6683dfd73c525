//! The properties of class basic: what a content header says about a message.
//!
//! Owns the bytes after the body size of a content header frame; never the frame itself, and
//! never the meaning of a property. AMQP 0-9-1 §4.2.6.1 and the class basic:
//!
//! ```text
//! flags u16, bit 15 first          then the values whose bits are set, in this order
//! 15 content-type      shortstr    11 priority        octet       7 message-id  shortstr
//! 14 content-encoding  shortstr    10 correlation-id  shortstr    6 timestamp   u64, seconds
//! 13 headers           table        9 reply-to        shortstr    5 type        shortstr
//! 12 delivery-mode     octet        8 expiration      shortstr    4 user-id     shortstr
//! 3 app-id  shortstr    2 cluster-id  shortstr    1 reserved, 0    0 another flags word follows
//! ```
//!
//! | Deviation from the specification | Why | Test |
//! |---|---|---|
//! | flags with bit 1 or 0 are refused: there is no second word | RabbitMQ | `refused` |
//! | short strings are octets, UTF-8 or not | RabbitMQ | `round_trip` |

#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::field::{FieldError, RawTable};

/// The basic properties of one message, borrowed from the bytes of a content header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BasicProperties<'a> {
    /// MIME content type.
    pub content_type: Option<&'a [u8]>,
    /// MIME content encoding.
    pub content_encoding: Option<&'a [u8]>,
    /// The message's headers; as everywhere, without the table's length prefix.
    pub headers: Option<RawTable<'a>>,
    /// 1 is transient, 2 is persistent; nothing enforces that it is one of these.
    pub delivery_mode: Option<u8>,
    /// 0 to 9 by the specification, up to 255 in RabbitMQ.
    pub priority: Option<u8>,
    /// The request that this message answers.
    pub correlation_id: Option<&'a [u8]>,
    /// Where to answer to.
    pub reply_to: Option<&'a [u8]>,
    /// Time to live: milliseconds in decimal digits, by RabbitMQ's convention; unchecked.
    pub expiration: Option<&'a [u8]>,
    /// The application's identifier of the message.
    pub message_id: Option<&'a [u8]>,
    /// POSIX time in seconds.
    pub timestamp: Option<u64>,
    /// The application's name for the kind of message.
    pub type_: Option<&'a [u8]>,
    /// The user that published the message, if the publisher says so.
    pub user_id: Option<&'a [u8]>,
    /// The application that published the message.
    pub app_id: Option<&'a [u8]>,
    /// Deprecated by the specification, carried all the same.
    pub cluster_id: Option<&'a [u8]>,
}

impl<'a> BasicProperties<'a> {
    /// Reads flags and values, checks the headers throughout, and allocates nothing.
    ///
    /// # Errors
    ///
    /// [`PropertiesError::Truncated`] when a value reaches beyond the end,
    /// [`PropertiesError::ReservedFlags`] for a flag that class basic does not have,
    /// [`PropertiesError::Headers`] for illegal headers and
    /// [`PropertiesError::TrailingBytes`] for bytes after the last value.
    pub fn parse(raw: &'a [u8]) -> Result<Self, PropertiesError> {
        let rest = &mut { raw };
        let flags = u16::from_be_bytes(take(rest)?);
        if flags & RESERVED != 0 {
            return Err(PropertiesError::ReservedFlags { flags });
        }
        let properties = Self {
            content_type: when(flags, CONTENT_TYPE, rest, short_string)?,
            content_encoding: when(flags, CONTENT_ENCODING, rest, short_string)?,
            headers: when(flags, HEADERS, rest, table)?,
            delivery_mode: when(flags, DELIVERY_MODE, rest, octet)?,
            priority: when(flags, PRIORITY, rest, octet)?,
            correlation_id: when(flags, CORRELATION_ID, rest, short_string)?,
            reply_to: when(flags, REPLY_TO, rest, short_string)?,
            expiration: when(flags, EXPIRATION, rest, short_string)?,
            message_id: when(flags, MESSAGE_ID, rest, short_string)?,
            timestamp: when(flags, TIMESTAMP, rest, long_long)?,
            type_: when(flags, TYPE, rest, short_string)?,
            user_id: when(flags, USER_ID, rest, short_string)?,
            app_id: when(flags, APP_ID, rest, short_string)?,
            cluster_id: when(flags, CLUSTER_ID, rest, short_string)?,
        };
        if !rest.is_empty() {
            return Err(PropertiesError::TrailingBytes { bytes: rest.len() });
        }
        Ok(properties)
    }

    /// Appends flags and values to `out`. On an error `out` is as it was.
    ///
    /// # Errors
    ///
    /// [`PropertiesError::TooLong`] for a string above 255 bytes or headers of 4 GiB or more.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), PropertiesError> {
        let start = out.len();
        self.put(out).inspect_err(|_| out.truncate(start))
    }

    fn put(&self, out: &mut Vec<u8>) -> Result<(), PropertiesError> {
        out.extend_from_slice(&self.flags().to_be_bytes());
        put_string(out, self.content_type)?;
        put_string(out, self.content_encoding)?;
        if let Some(headers) = self.headers {
            let bytes = headers.as_bytes();
            let too_long = PropertiesError::TooLong { bytes: bytes.len() };
            let length = u32::try_from(bytes.len()).map_err(|_| too_long)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        put_string(out, self.correlation_id)?;
        put_string(out, self.reply_to)?;
        put_string(out, self.expiration)?;
        put_string(out, self.message_id)?;
        if let Some(seconds) = self.timestamp {
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        put_string(out, self.type_)?;
        put_string(out, self.user_id)?;
        put_string(out, self.app_id)?;
        put_string(out, self.cluster_id)
    }

    fn flags(&self) -> u16 {
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        flag(self.content_type.is_some(), CONTENT_TYPE)
            | flag(self.content_encoding.is_some(), CONTENT_ENCODING)
            | flag(self.headers.is_some(), HEADERS)
            | flag(self.delivery_mode.is_some(), DELIVERY_MODE)
            | flag(self.priority.is_some(), PRIORITY)
            | flag(self.correlation_id.is_some(), CORRELATION_ID)
            | flag(self.reply_to.is_some(), REPLY_TO)
            | flag(self.expiration.is_some(), EXPIRATION)
            | flag(self.message_id.is_some(), MESSAGE_ID)
            | flag(self.timestamp.is_some(), TIMESTAMP)
            | flag(self.type_.is_some(), TYPE)
            | flag(self.user_id.is_some(), USER_ID)
            | flag(self.app_id.is_some(), APP_ID)
            | flag(self.cluster_id.is_some(), CLUSTER_ID)
    }
}

/// Why bytes are no basic properties, or properties cannot be put into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PropertiesError {
    /// A value reaches beyond the end.
    #[error("basic properties end inside a value")]
    Truncated,
    /// Bit 1 or 0 of the flags is set.
    #[error("basic properties have unknown flags {flags:#06x}")]
    ReservedFlags {
        /// All the flags.
        flags: u16,
    },
    /// The headers are no legal field table.
    #[error("headers: {0}")]
    Headers(#[from] FieldError),
    /// Bytes are left after the last value.
    #[error("{bytes} bytes after the last of the basic properties")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A value does not fit its length prefix, to be encoded.
    #[error("basic property of {bytes} bytes is too long")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

fn when<'a, T>(
    flags: u16,
    bit: u16,
    rest: &mut &'a [u8],
    read: impl FnOnce(&mut &'a [u8]) -> Result<T, PropertiesError>,
) -> Result<Option<T>, PropertiesError> {
    if flags & bit == 0 {
        Ok(None)
    } else {
        read(rest).map(Some)
    }
}

fn short_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PropertiesError> {
    let [length] = take(rest)?;
    take_slice(rest, length.into())
}

fn table<'a>(rest: &mut &'a [u8]) -> Result<RawTable<'a>, PropertiesError> {
    let length = u32::from_be_bytes(take(rest)?);
    let length = usize::try_from(length).map_err(|_| PropertiesError::Truncated)?;
    Ok(RawTable::parse(take_slice(rest, length)?)?)
}

fn octet(rest: &mut &[u8]) -> Result<u8, PropertiesError> {
    take(rest).map(u8::from_be_bytes)
}

fn long_long(rest: &mut &[u8]) -> Result<u64, PropertiesError> {
    take(rest).map(u64::from_be_bytes)
}

fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], PropertiesError> {
    let (taken, after) = rest
        .split_at_checked(length)
        .ok_or(PropertiesError::Truncated)?;
    *rest = after;
    Ok(taken)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PropertiesError> {
    let (taken, after) = rest
        .split_first_chunk::<N>()
        .ok_or(PropertiesError::Truncated)?;
    *rest = after;
    Ok(*taken)
}

fn put_string(out: &mut Vec<u8>, string: Option<&[u8]>) -> Result<(), PropertiesError> {
    let Some(bytes) = string else { return Ok(()) };
    let too_long = PropertiesError::TooLong { bytes: bytes.len() };
    out.push(u8::try_from(bytes.len()).map_err(|_| too_long)?);
    out.extend_from_slice(bytes);
    Ok(())
}

// AMQP 0-9-1 §4.2.6.1: the first property of the class has the highest bit.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const RESERVED: u16 = 0b11;
