//! Methods: what client and server say to each other, split by who may say it.
//!
//! Owns ids, arguments and their encoding, in one table ([`table`]); never the order in which
//! methods may come, nor their effects. AMQP 0-9-1 §4.2.4 and the classes of the specification,
//! with RabbitMQ's extensions (confirm, `exchange.bind`, `basic.nack`, `connection.blocked`).
//!
//! A decoded method is legal for its direction: strings are UTF-8, tables are checked
//! throughout, no byte is left over. Names above 255 bytes are cut on a character when encoded;
//! only texts and keys made by the server itself can be that long.

mod table;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;

use leveret_core::field::FieldError;
use leveret_core::reply_code::ReplyCode;
use thiserror::Error;

pub use self::table::*;
pub use self::wire::LongString;
pub(crate) use self::wire::short_string;
use self::wire::{Field, Reader};

impl<'a> ClientMethod<'a> {
    /// Reads the payload of a method frame that a client sent. Takes no memory.
    ///
    /// # Errors
    ///
    /// Any [`MethodError`]; the connection ends with [`MethodError::reply_code`].
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
        // These two come once per message, all others once per connection or consumer.
        if let Some(arguments) = payload.strip_prefix(&BasicPublish::ID.to_be_bytes()) {
            let publish = basic_publish(arguments);
            return publish
                .map(Self::BasicPublish)
                .map_err(|reason| MethodError::Malformed {
                    id: BasicPublish::ID,
                    reason,
                });
        }
        if let Some(&[t0, t1, t2, t3, t4, t5, t6, t7, bits]) =
            payload.strip_prefix(&BasicAck::ID.to_be_bytes())
        {
            let delivery_tag = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
            return Ok(Self::BasicAck(BasicAck {
                delivery_tag,
                multiple: bits & 1 != 0,
            }));
        }
        Self::decode_any(payload)
    }
}

impl<'a> ServerMethod<'a> {
    /// Reads the payload of a method frame that a server sent. Takes no memory.
    ///
    /// # Errors
    ///
    /// Any [`MethodError`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
        Self::decode_any(payload)
    }
}

#[inline]
fn basic_publish(arguments: &[u8]) -> Result<BasicPublish<'_>, Malformation> {
    let mut reader = Reader::new(arguments);
    let publish = BasicPublish {
        ticket: Field::read(&mut reader)?,
        exchange: Field::read(&mut reader)?,
        routing_key: Field::read(&mut reader)?,
        mandatory: Field::read(&mut reader)?,
        immediate: Field::read(&mut reader)?,
    };
    reader.finish()?;
    Ok(publish)
}

/// Which method it is. 0.0 is none, as in the close of a connection that no method caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MethodId {
    /// The class-id.
    pub class: u16,
    /// The method-id within the class.
    pub method: u16,
}

impl MethodId {
    /// The four octets that open the payload of a method frame.
    #[inline]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        ((self.class as u32) << 16 | self.method as u32).to_be_bytes()
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class, self.method)
    }
}

/// Why a method frame is refused. Ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MethodError {
    /// There is no such method.
    #[error("unknown method {id}")]
    Unknown {
        /// What was asked for.
        id: MethodId,
    },
    /// There is, but only the other side may send it.
    #[error("method {id} from the wrong side")]
    WrongDirection {
        /// What was sent.
        id: MethodId,
    },
    /// The arguments are not what the method has; without its ids, `id` is 0.0.
    #[error("method {id}: {reason}")]
    Malformed {
        /// What was sent.
        id: MethodId,
        /// What is wrong with it.
        reason: Malformation,
    },
}

impl MethodError {
    /// What the peer is told.
    pub fn reply_code(self) -> ReplyCode {
        match self {
            Self::Unknown { .. } | Self::WrongDirection { .. } => ReplyCode::CommandInvalid,
            // RabbitMQ's code for arguments that are too short or too long.
            Self::Malformed {
                reason: Malformation::Truncated | Malformation::TrailingBytes,
                ..
            } => ReplyCode::FrameError,
            Self::Malformed { .. } => ReplyCode::SyntaxError,
        }
    }

    /// The method, for the peer's close.
    pub fn id(self) -> MethodId {
        match self {
            Self::Unknown { id } | Self::WrongDirection { id } | Self::Malformed { id, .. } => id,
        }
    }
}

/// What is wrong with the arguments of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformation {
    /// An argument reaches beyond the frame.
    #[error("arguments end too early")]
    Truncated,
    /// A short string is not UTF-8.
    #[error("short string is not UTF-8")]
    NotUtf8,
    /// A table is not legal.
    #[error("{0}")]
    Table(#[from] FieldError),
    /// The frame goes on after the last argument.
    #[error("bytes after the last argument")]
    TrailingBytes,
}
