//! A message that arrives in pieces: method, content header, bodies.
//!
//! Owns the order of the pieces and the memory for them, which grows with what has arrived
//! and never with what was announced. AMQP 0-9-1 §4.2.6:
//!
//! ```text
//! content = basic.publish header *body
//! ```

use leveret_core::refusal::Refusal;
use leveret_core::reply_code::ReplyCode;
use leveret_core::turn::Turn;

use super::Channel;
use super::publish::Publication;
use crate::content::{CLASS_BASIC, ContentHeader};
use crate::failure::{Failure, sequence_text};
use crate::frame::{self, Frame, FrameKind};
use crate::limits::ASSEMBLING_BYTES_MAX;
use crate::method::{BasicPublish, MethodId};
use crate::session::Session;

/// A `basic.publish` whose content is not there yet.
pub(super) struct Assembly {
    exchange: Box<str>,
    routing_key: Box<str>,
    mandatory: bool,
    immediate: bool,
    header: Option<Header>,
    body: Vec<u8>,
}

struct Header {
    properties: Box<[u8]>,
    /// Bytes of the body that are still to come.
    missing: u64,
}

impl Assembly {
    /// Begins with the method; content must follow.
    fn new(method: &BasicPublish<'_>) -> Box<Self> {
        Box::new(Self {
            exchange: method.exchange.into(),
            routing_key: method.routing_key.into(),
            mandatory: method.mandatory,
            immediate: method.immediate,
            header: None,
            body: Vec::new(),
        })
    }

    /// Bytes of the message that have arrived.
    pub(super) fn kept_bytes(&self) -> usize {
        let properties = self.header.as_ref().map(|header| header.properties.len());
        self.exchange.len() + self.routing_key.len() + properties.unwrap_or(0) + self.body.len()
    }
}

impl Channel {
    /// Begins a message whose content is not there yet.
    #[inline(never)]
    pub(super) fn begin(
        &mut self,
        session: &mut Session,
        method: &BasicPublish<'_>,
    ) -> Result<(), Failure> {
        check_room(session, method.exchange.len() + method.routing_key.len())?;
        let assembly = Assembly::new(method);
        session.assembling_bytes += assembly.kept_bytes();
        self.assembly = Some(assembly);
        Ok(())
    }

    /// Adds a frame to the message, and publishes it when it is whole.
    pub(super) fn assemble(
        &mut self,
        session: &mut Session,
        turn: &mut Turn,
        frame: &Frame<'_>,
    ) -> Result<(), Failure> {
        let Some(mut assembly) = self.assembly.take() else {
            return Ok(());
        };
        session.assembling_bytes -= assembly.kept_bytes();
        let missing = assembly.add(session, frame)?;
        if missing > 0 {
            session.assembling_bytes += assembly.kept_bytes();
            self.assembly = Some(assembly);
            return Ok(());
        }
        let header = assembly.header.as_ref();
        let publication = Publication {
            exchange: &assembly.exchange,
            routing_key: &assembly.routing_key,
            mandatory: assembly.mandatory,
            immediate: assembly.immediate,
            properties: header.map(|header| &*header.properties).unwrap_or_default(),
            body: &assembly.body,
        };
        self.publish(session, turn, &publication)
            .map_err(|refusal| Failure::of(BasicPublish::ID, refusal))
    }
}

impl Assembly {
    /// Adds a frame; says how many bytes of the body are missing then.
    fn add(&mut self, session: &Session, frame: &Frame<'_>) -> Result<u64, Failure> {
        if frame.kind == FrameKind::Heartbeat {
            return Err(Failure::unexpected_frame(frame));
        }
        if let Some(text) = sequence_text(self.header.is_none(), frame.kind) {
            return Err(Failure::out_of_sequence(text));
        }
        let kept_bytes = self.kept_bytes();
        let Some(header) = &mut self.header else {
            let header = content_header(session, frame.payload)?;
            let missing = header.body_size;
            if missing > 0 {
                check_room(session, kept_bytes + header.properties.len())?;
            }
            self.header = Some(Header {
                properties: header.properties.into(),
                missing,
            });
            return Ok(missing);
        };
        let bytes = frame.payload.len();
        if bytes as u64 > header.missing {
            return Err(Failure::out_of_sequence(&format!(
                "expected content body of {} more bytes, got {bytes} bytes instead",
                header.missing
            )));
        }
        header.missing -= bytes as u64;
        check_room(session, kept_bytes + bytes)?;
        self.body.extend_from_slice(frame.payload);
        Ok(header.missing)
    }
}

/// Reads a content header and refuses a message that is too large, before memory is taken for it.
fn content_header<'a>(session: &Session, payload: &'a [u8]) -> Result<ContentHeader<'a>, Failure> {
    let header =
        ContentHeader::decode(payload).map_err(|error| Failure::bad_header(error, payload))?;
    if header.class_id != CLASS_BASIC {
        return Err(Failure::out_of_sequence(&format!(
            "expected content header for class 60, got one for class {} instead",
            header.class_id
        )));
    }
    let max = session.link.broker().options().max_message_size_bytes;
    if header.body_size > max {
        let text = format!(
            "message size {} is larger than configured max size {max}",
            header.body_size
        );
        return Err(Failure::of(BasicPublish::ID, Refusal::precondition(text)));
    }
    Ok(header)
}

/// Bounds the unfinished messages of all channels together; the one at hand has `bytes`.
fn check_room(session: &Session, bytes: usize) -> Result<(), Failure> {
    let largest = session.link.broker().options().max_message_size_bytes;
    let max = largest.saturating_add(ASSEMBLING_BYTES_MAX as u64);
    if (session.assembling_bytes + bytes) as u64 <= max {
        return Ok(());
    }
    Err(Failure::new(
        ReplyCode::ResourceError,
        format!("unfinished messages on this connection exceed {max} bytes"),
        BasicPublish::ID,
    ))
}

/// The content at the start of `input` if it is there as a whole, in one body frame at most, and
/// nothing is wrong with it: header, body and how many bytes they take. Whatever is not so is
/// found again by the slow way.
#[inline]
pub(super) fn whole_content<'a>(
    session: &Session,
    channel: u16,
    input: &'a [u8],
) -> Option<(ContentHeader<'a>, &'a [u8], usize)> {
    let (first, taken) = frame::decode(input, session.frame_max).ok()??;
    if first.kind != FrameKind::Header || first.channel != channel {
        return None;
    }
    let header = content_header(session, first.payload).ok()?;
    if header.body_size == 0 {
        return Some((header, &[], taken));
    }
    let (second, more) = frame::decode(&input[taken..], session.frame_max).ok()??;
    let fits = second.kind == FrameKind::Body
        && second.channel == channel
        && second.payload.len() as u64 == header.body_size;
    fits.then_some((header, second.payload, taken + more))
}

const _: () = assert!(matches!(
    BasicPublish::ID,
    MethodId {
        class: CLASS_BASIC,
        method: 40
    }
));
