//! Contents: the header frame and the body frames that follow a method which carries a message.
//!
//! Owns the header's fixed part and the cutting of a body into frames; never the properties,
//! which pass as bytes (see [`leveret_core::properties`]). AMQP 0-9-1 §4.2.6:
//!
//! ```text
//!   0          2            4             12                            payload end
//!   ┌──────────┬────────────┬─────────────┬──────────────────────────────┐
//!   │ class-id │ weight = 0 │ body-size   │ property-flags u16, values   │
//!   │ u16      │ u16        │ u64         │ properties                   │
//!   └──────────┴────────────┴─────────────┴──────────────────────────────┘
//! ```

#[cfg(test)]
mod tests;

use leveret_core::reply_code::ReplyCode;
use thiserror::Error;

use crate::frame::{self, FRAME_END, FRAME_HEAD_BYTES, FRAME_OVERHEAD_BYTES, FrameKind};

/// The payload of a content header frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method before it; only class basic has contents.
    pub class_id: u16,
    /// How many bytes the body frames will hold together. Unchecked: any number can be written
    /// here, so no memory may be taken for it.
    pub body_size: u64,
    /// Flags and values, for `BasicProperties::parse`; unchecked.
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads the fixed part of a content header frame's payload.
    ///
    /// # Errors
    ///
    /// Any [`ContentError`]; the connection ends with [`ContentError::reply_code`].
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, ContentError> {
        let Some((&fixed, properties)) = payload.split_first_chunk::<HEADER_FIXED_BYTES>() else {
            return Err(ContentError::Truncated);
        };
        let [c0, c1, w0, w1, size @ ..] = fixed;
        let weight = u16::from_be_bytes([w0, w1]);
        // AMQP 0-9-1 §4.2.6.1: the weight field is unused and must be zero.
        if weight != 0 {
            return Err(ContentError::Weight { weight });
        }
        let class_id = u16::from_be_bytes([c0, c1]);
        Ok(Self {
            class_id,
            body_size: u64::from_be_bytes(size),
            properties,
        })
    }
}

/// Appends a message of class basic: the header frame, and its body in as many frames as
/// `frame_max` asks for (0: no limit). An empty body takes no frame.
///
/// `properties` are flags and values as `BasicProperties::encode` writes them; a header frame
/// cannot be cut, so it alone may be larger than `frame_max`.
pub fn encode(out: &mut Vec<u8>, channel: u16, properties: &[u8], body: &[u8], frame_max: u32) {
    out.reserve(encoded_bytes(properties, body, frame_max));
    append(out, channel, properties, body, frame_max);
}

/// How many bytes [`encode`] appends.
#[inline]
pub(crate) fn encoded_bytes(properties: &[u8], body: &[u8], frame_max: u32) -> usize {
    let body_frames = body.len().div_ceil(chunk_bytes(frame_max));
    let header = FRAME_OVERHEAD_BYTES + HEADER_FIXED_BYTES + properties.len();
    header + body_frames * FRAME_OVERHEAD_BYTES + body.len()
}

/// [`encode`] without the reservation.
#[inline]
pub(crate) fn append(
    out: &mut Vec<u8>,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    let mut start = [0; FRAME_HEAD_BYTES + HEADER_FIXED_BYTES];
    let payload_bytes = HEADER_FIXED_BYTES + properties.len();
    start[..7].copy_from_slice(&frame::head(FrameKind::Header, channel, payload_bytes));
    start[7..9].copy_from_slice(&CLASS_BASIC.to_be_bytes());
    // Octets 9 and 10 are the weight, zero.
    start[11..].copy_from_slice(&(body.len() as u64).to_be_bytes());
    out.extend_from_slice(&start);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
    for chunk in body.chunks(chunk_bytes(frame_max)) {
        out.extend_from_slice(&frame::head(FrameKind::Body, channel, chunk.len()));
        out.extend_from_slice(chunk);
        out.push(FRAME_END);
    }
}

/// How much of a body goes into one frame. At least one byte, whatever was negotiated.
#[inline]
fn chunk_bytes(frame_max: u32) -> usize {
    let frame_max = if frame_max == 0 {
        frame::FRAME_BYTES_MAX
    } else {
        frame_max
    };
    (frame_max as usize)
        .saturating_sub(FRAME_OVERHEAD_BYTES)
        .max(1)
}

/// Why a content header frame is refused. Ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentError {
    /// The payload is shorter than its fixed part.
    #[error("content header of less than 12 bytes")]
    Truncated,
    /// The weight is not zero.
    #[error("content header with weight {weight}")]
    Weight {
        /// The weight.
        weight: u16,
    },
}

impl ContentError {
    /// What the peer is told.
    pub fn reply_code(self) -> ReplyCode {
        match self {
            Self::Truncated => ReplyCode::FrameError,
            Self::Weight { .. } => ReplyCode::UnexpectedFrame,
        }
    }
}

/// The class-id of class basic, the only one with contents.
pub const CLASS_BASIC: u16 = 60;

const HEADER_FIXED_BYTES: usize = 12;
