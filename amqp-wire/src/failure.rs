//! What ends a channel or a connection: a refusal, and the method that it answers.
//!
//! Owns RabbitMQ's texts for frames that cannot be understood; never decides what happens next.

use std::fmt::Write;

use leveret_core::refusal::Refusal;
use leveret_core::reply_code::{ReplyCode, Scope};

use crate::content::ContentError;
use crate::frame::{FRAME_END, FRAME_HEAD_BYTES, Frame, FrameError, FrameKind};
use crate::limits::SHORT_STRING_BYTES_MAX;
use crate::method::{BasicPublish, Malformation, MethodError, MethodId};

/// A refusal on its way to `channel.close` or `connection.close`.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) refusal: Refusal,
    /// The method that failed, or 0.0.
    pub(crate) method: MethodId,
}

impl Failure {
    pub(crate) fn new(code: ReplyCode, text: impl Into<Box<str>>, method: MethodId) -> Self {
        Self {
            refusal: Refusal::new(code, text),
            method,
        }
    }

    /// A refusal of `method`.
    pub(crate) fn of(method: MethodId, refusal: Refusal) -> Self {
        Self { refusal, method }
    }

    /// Whether it ends the channel alone, if it happened on one.
    pub(crate) fn is_soft(&self) -> bool {
        self.refusal.code.scope() == Scope::Channel
    }

    /// A stream that cannot be cut into frames any more. `input` begins with the bad frame.
    pub(crate) fn bad_frame(error: FrameError, input: &[u8]) -> Self {
        let kind = input.first().copied().unwrap_or_default();
        let (octets, reason) = match error {
            FrameError::UnknownType { .. } => (whole_payload(input), "unknown_frame".to_owned()),
            FrameError::TooLarge { size, size_max } => {
                (&[][..], format!("{{frame_too_large,{size},{size_max}}}"))
            }
            FrameError::BadEnd { end } => {
                let reason = format!("{{invalid_frame_end_marker,{end}}}");
                (payload(input), reason)
            }
        };
        let text = format!("type {kind}, {}: {reason}", snippet(octets));
        Self::new(ReplyCode::FrameError, text, MethodId::default())
    }

    /// A frame whose payload does not begin as its kind's does, or a heartbeat with a payload.
    pub(crate) fn unknown_frame(frame: &Frame<'_>) -> Self {
        let octets = snippet(frame.payload);
        let text = format!("type {}, {octets}: unknown_frame", frame.kind as u8);
        Self::new(ReplyCode::FrameError, text, MethodId::default())
    }

    /// A frame where a method must come.
    pub(crate) fn no_method() -> Self {
        let text = "expected method frame, got non method frame instead";
        Self::new(ReplyCode::UnexpectedFrame, text, MethodId::default())
    }

    /// A frame where no such frame may come.
    pub(crate) fn unexpected_frame(frame: &Frame<'_>) -> Self {
        let text = format!("type {}, {}", frame.kind as u8, snippet(frame.payload));
        Self::new(ReplyCode::UnexpectedFrame, text, MethodId::default())
    }

    /// A frame of another kind than the message being assembled needs.
    pub(crate) fn out_of_sequence(text: &str) -> Self {
        Self::new(ReplyCode::UnexpectedFrame, text, BasicPublish::ID)
    }

    /// A method frame whose payload is no method of a client.
    pub(crate) fn bad_method(error: MethodError, frame: &Frame<'_>) -> Self {
        let arguments = frame.payload.get(4..).unwrap_or_default();
        let text = match error {
            MethodError::Unknown { .. } | MethodError::WrongDirection { .. } => {
                "unimplemented method".to_owned()
            }
            MethodError::Malformed {
                reason: Malformation::Truncated | Malformation::TrailingBytes,
                ..
            } => cannot_decode(arguments),
            MethodError::Malformed { .. } => error.to_string(),
        };
        Self::new(error.reply_code(), text, error.id())
    }

    /// A content header that cannot be read.
    pub(crate) fn bad_header(error: ContentError, payload: &[u8]) -> Self {
        match error {
            ContentError::Truncated => {
                let text = format!("type 2, {}: unknown_frame", snippet(payload));
                Self::new(ReplyCode::FrameError, text, MethodId::default())
            }
            ContentError::Weight { .. } => Self::out_of_sequence(NO_HEADER),
        }
    }

    /// A known method that has no place here.
    pub(crate) fn unimplemented(method: MethodId) -> Self {
        Self::new(ReplyCode::CommandInvalid, "unimplemented method", method)
    }
}

/// The payload of a frame of an unknown type, if it is there as a whole.
fn whole_payload(input: &[u8]) -> &[u8] {
    let octets = payload(input);
    let end = input.get(FRAME_HEAD_BYTES + octets.len());
    if end == Some(&FRAME_END) { octets } else { &[] }
}

/// The payload of a frame that is there as a whole.
fn payload(input: &[u8]) -> &[u8] {
    match input.get(3..FRAME_HEAD_BYTES) {
        Some(&[s0, s1, s2, s3]) => {
            let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
            let rest = &input[FRAME_HEAD_BYTES..];
            &rest[..size.min(rest.len())]
        }
        _ => &[],
    }
}

/// The first octets of a payload, written as RabbitMQ does.
fn snippet(octets: &[u8]) -> String {
    let shown = &octets[..octets.len().min(SNIPPET_BYTES)];
    let which = if octets.len() > SNIPPET_BYTES {
        "first 16"
    } else {
        "all"
    };
    format!("{which} octets = {}", term(shown))
}

/// Octets as Erlang writes them: as text if all of them are.
fn term(octets: &[u8]) -> String {
    let is_text = |octet: &u8| matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\');
    if !octets.is_empty() && octets.iter().all(is_text) {
        return format!("<<\"{}\">>", String::from_utf8_lossy(octets));
    }
    numbers(octets)
}

fn numbers(octets: &[u8]) -> String {
    let mut text = String::from("<<");
    for (place, octet) in octets.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{octet}");
    }
    text.push_str(">>");
    text
}

/// Arguments that are not those of their method; a reply text has no room for more of them.
fn cannot_decode(arguments: &[u8]) -> String {
    let shown = &arguments[..arguments.len().min(SHORT_STRING_BYTES_MAX)];
    format!("cannot decode {}", numbers(shown))
}

/// What RabbitMQ calls a frame of that kind in its texts for frames out of sequence.
pub(crate) fn sequence_text(expects_header: bool, kind: FrameKind) -> Option<&'static str> {
    match (expects_header, kind) {
        (true, FrameKind::Header) | (false, FrameKind::Body) => None,
        (true, _) => Some(NO_HEADER),
        (false, _) => Some("expected content body, got non content body frame instead"),
    }
}

const NO_HEADER: &str =
    "expected content header for class 60, got non content header frame instead";

const SNIPPET_BYTES: usize = 16;
