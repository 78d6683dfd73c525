//! Frames: the cutting of the stream into them, and the octets around their payloads.
//!
//! Owns type, channel, size and end octet; never looks into a payload, never holds on to bytes.
//! AMQP 0-9-1 §2.3.5 and §4.2.3:
//!
//! ```text
//!   0      1         3             7                  size+7     size+8
//!   ┌──────┬─────────┬─────────────┬──────────────────┬──────────┐
//!   │ type │ channel │ size        │ payload          │ end 0xCE │
//!   │ u8   │ u16     │ u32         │ size octets      │ u8       │
//!   └──────┴─────────┴─────────────┴──────────────────┴──────────┘
//!     1 method: class-id u16, method-id u16, arguments
//!     2 content header: class-id u16, weight u16 = 0, body-size u64, property-flags, values
//!     3 content body
//!     8 heartbeat: channel 0, no payload
//! ```

#[cfg(test)]
mod tests;

use thiserror::Error;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A method, see [`crate::method`].
    Method = 1,
    /// A content header, see [`crate::content`].
    Header = 2,
    /// A piece of a content body.
    Body = 3,
    /// Nothing; the peer is alive.
    Heartbeat = 8,
}

/// One frame, borrowed from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What lies between size and end octet.
    pub payload: &'a [u8],
}

/// Takes the first frame off `input`. Answers it and how many bytes it took, or `None` while it
/// is not there as a whole; the same bytes and more are to be given again then.
///
/// `frame_max` is the negotiated size of a whole frame in bytes; 0, no limit negotiated, means
/// [`FRAME_BYTES_MAX`], as does anything above it. Frames up to 8 bytes larger are taken.
/// Everything wrong in the first 7 bytes is found as soon as these are there, so that `input` never
/// need grow beyond `frame_max` + 8 bytes.
///
/// # Errors
///
/// Any [`FrameError`]; the connection cannot go on, for the next frame's place is unknown.
#[inline]
pub fn decode(input: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[kind, c0, c1, s0, s1, s2, s3], rest)) = input.split_first_chunk() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let kind = match kind {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        _ => return Err(FrameError::UnknownType { kind }),
    };
    // AMQP 0-9-1 §4.2.3; a payload may fill frame_max alone, as RabbitMQ allows.
    let size_max = match frame_max {
        0 => FRAME_BYTES_MAX,
        negotiated => negotiated.min(FRAME_BYTES_MAX),
    };
    if size > size_max {
        return Err(FrameError::TooLarge {
            size,
            // What the specification would have taken.
            size_max: size_max - FRAME_OVERHEAD_BYTES as u32,
        });
    }
    let size = size as usize;
    let Some(&end) = rest.get(size) else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(FrameError::BadEnd { end });
    }
    Ok(Some((
        Frame {
            kind,
            channel,
            payload: &rest[..size],
        },
        size + FRAME_OVERHEAD_BYTES,
    )))
}

/// Appends a heartbeat frame.
pub fn heartbeat(out: &mut Vec<u8>) {
    // AMQP 0-9-1 §4.2.7: heartbeats travel on channel 0.
    out.extend_from_slice(&[FrameKind::Heartbeat as u8, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends a frame whose payload is what `write` appends.
pub(crate) fn with_payload(
    out: &mut Vec<u8>,
    kind: FrameKind,
    channel: u16,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&head(kind, channel, 0));
    write(out);
    let size = out.len() - start - FRAME_HEAD_BYTES;
    out[start..start + FRAME_HEAD_BYTES].copy_from_slice(&head(kind, channel, size));
    out.push(FRAME_END);
}

/// The octets before a payload of `size` bytes.
#[inline]
pub(crate) fn head(kind: FrameKind, channel: u16, size: usize) -> [u8; FRAME_HEAD_BYTES] {
    // What we send is cut by frame_max or was received in a frame: it has room in 32 bits.
    let size = u32::try_from(size).expect("a payload below 4 GiB");
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [kind as u8, c0, c1, s0, s1, s2, s3]
}

/// Why the stream cannot be cut into frames any more. Ends the connection with
/// [`ReplyCode::FrameError`](leveret_core::reply_code::ReplyCode::FrameError).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The type octet is none of 1, 2, 3 and 8.
    #[error("unknown frame type {kind}")]
    UnknownType {
        /// The octet.
        kind: u8,
    },
    /// The frame is larger than negotiated.
    #[error("frame payload of {size} bytes is larger than {size_max}")]
    TooLarge {
        /// The size of the payload in bytes, as announced.
        size: u32,
        /// What would have been taken.
        size_max: u32,
    },
    /// The octet after the payload is not 0xCE.
    #[error("frame ends with octet {end:#04x} instead of 0xce")]
    BadEnd {
        /// The octet.
        end: u8,
    },
}

/// The octets of a frame before its payload.
pub const FRAME_HEAD_BYTES: usize = 7;

/// The octets of a frame around its payload.
pub const FRAME_OVERHEAD_BYTES: usize = FRAME_HEAD_BYTES + 1;

/// The octet after each payload: it shows at once when sizes and payloads are out of step.
pub const FRAME_END: u8 = 0xCE;

/// The largest payload of a frame, whatever frame-max is negotiated: RabbitMQ's largest message,
/// 128 MiB. Nobody gains by larger frames, and a buffer must end somewhere.
pub const FRAME_BYTES_MAX: u32 = 128 * 1024 * 1024;
