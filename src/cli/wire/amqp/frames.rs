//! Frames of a server, put together to what happened: what the reading thread hands over.
//!
//! Owns the assembly of contents. A content is bounded by what it announces, and that by
//! [`BODY_BYTES_MAX`]; memory is taken for what came only.

use std::net::TcpStream;

use leveret_amqp::content::ContentHeader;
use leveret_amqp::frame::{self, Frame, FrameKind};
use leveret_amqp::method::*;
use leveret_core::field::ValueRef;
use leveret_core::properties::BasicProperties;
use leveret_management::protocol::Failure;
use leveret_mqtt::topic::translate;

use super::super::reader::Buffered;
use super::super::{Extras, Message, broken};
use super::{FRAME_BYTES_MAX, refused};

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    Delivered(Message),
    /// A mandatory message that no queue got.
    Returned(String),
    Confirmed {
        tag: u64,
        multiple: bool,
        taken: bool,
    },
    /// The queue was deleted.
    Cancelled,
    /// The broker closed channel or connection.
    Closed(String),
    /// The answer to a method, with the name in it if it has one.
    Done(String),
    Beat,
}

/// Frames as they come.
pub(super) struct Frames {
    buffer: Buffered,
    pending: Option<Pending>,
}

/// A content that is not complete.
struct Pending {
    kind: Kind,
    key: String,
    tag: u64,
    properties: Vec<u8>,
    /// Bytes of the body; known once the header was there.
    body_bytes: Option<u64>,
    body: Vec<u8>,
}

enum Kind {
    Delivery,
    /// With the reason.
    Return(String),
}

impl Frames {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            buffer: Buffered::new(stream),
            pending: None,
        }
    }

    /// Waits for the next method, which must be the one that is picked; for the handshake.
    pub(super) fn next_method<T>(
        &mut self,
        pick: impl Fn(&ServerMethod<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            let bytes = self.buffer.unread();
            let found = frame::decode(bytes, FRAME_BYTES_MAX)
                .map_err(|why| broken(format!("the broker sent: {why}")))?;
            let Some((found, taken)) = found else {
                self.buffer.more()?;
                continue;
            };
            if found.kind == FrameKind::Heartbeat {
                self.buffer.take(taken);
                continue;
            }
            let method = ServerMethod::decode(found.payload)
                .map_err(|why| broken(format!("the broker sent: {why}")))?;
            let picked = match &method {
                ServerMethod::ConnectionClose(close) => {
                    return Err(refused(&format!(
                        "{} {}",
                        close.reply_code, close.reply_text
                    )));
                }
                other => {
                    pick(other).ok_or_else(|| broken(format!("an unexpected {}", other.name())))?
                }
            };
            self.buffer.take(taken);
            return Ok(picked);
        }
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self) -> Result<Event, Failure> {
        loop {
            let bytes = self.buffer.unread();
            let found = frame::decode(bytes, FRAME_BYTES_MAX)
                .map_err(|why| broken(format!("the broker sent: {why}")))?;
            let Some((found, taken)) = found else {
                self.buffer.more()?;
                continue;
            };
            let event = take_frame(&mut self.pending, found)?;
            self.buffer.take(taken);
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }
}

fn take_frame(pending: &mut Option<Pending>, found: Frame<'_>) -> Result<Option<Event>, Failure> {
    match (found.kind, pending.as_mut()) {
        (FrameKind::Heartbeat, _) => Ok(Some(Event::Beat)),
        (FrameKind::Method, _) => {
            let method = ServerMethod::decode(found.payload)
                .map_err(|why| broken(format!("the broker sent: {why}")))?;
            take_method(pending, &method)
        }
        (FrameKind::Header, Some(content)) => {
            let header = ContentHeader::decode(found.payload)
                .map_err(|why| broken(format!("the broker sent: {why}")))?;
            if header.body_size > BODY_BYTES_MAX {
                return Err(broken(format!("a message of {} bytes", header.body_size)));
            }
            content.properties = header.properties.to_vec();
            content.body_bytes = Some(header.body_size);
            complete(pending)
        }
        (FrameKind::Body, Some(content)) => {
            let left = content.body_bytes.unwrap_or_default() - content.body.len() as u64;
            if found.payload.len() as u64 > left {
                return Err(broken("a body longer than its header says"));
            }
            content.body.extend_from_slice(found.payload);
            complete(pending)
        }
        _ => Err(broken("a content without its method")),
    }
}

fn take_method(
    pending: &mut Option<Pending>,
    method: &ServerMethod<'_>,
) -> Result<Option<Event>, Failure> {
    let begin = |kind, key: &str, tag| Pending {
        kind,
        key: key.to_owned(),
        tag,
        properties: Vec::new(),
        body_bytes: None,
        body: Vec::new(),
    };
    let done = |name: &str| Ok(Some(Event::Done(name.to_owned())));
    match method {
        ServerMethod::BasicDeliver(deliver) => {
            let (key, tag) = (deliver.routing_key, deliver.delivery_tag);
            *pending = Some(begin(Kind::Delivery, key, tag));
            Ok(None)
        }
        ServerMethod::BasicReturn(returned) => {
            let why = format!("{} {}", returned.reply_code, returned.reply_text);
            *pending = Some(begin(Kind::Return(why), returned.routing_key, 0));
            Ok(None)
        }
        ServerMethod::BasicAck(ack) => Ok(Some(Event::Confirmed {
            tag: ack.delivery_tag,
            multiple: ack.multiple,
            taken: true,
        })),
        ServerMethod::BasicNack(nack) => Ok(Some(Event::Confirmed {
            tag: nack.delivery_tag,
            multiple: nack.multiple,
            taken: false,
        })),
        ServerMethod::BasicCancel(_) => Ok(Some(Event::Cancelled)),
        ServerMethod::ChannelClose(close) => Ok(Some(Event::Closed(format!(
            "{} {}",
            close.reply_code, close.reply_text
        )))),
        ServerMethod::ConnectionClose(close) => Ok(Some(Event::Closed(format!(
            "{} {}",
            close.reply_code, close.reply_text
        )))),
        // The broker takes no messages now; they wait in the socket.
        ServerMethod::ConnectionBlocked(_) | ServerMethod::ConnectionUnblocked(_) => Ok(None),
        ServerMethod::QueueDeclareOk(declared) => done(declared.queue),
        ServerMethod::ConnectionCloseOk(_)
        | ServerMethod::BasicQosOk(_)
        | ServerMethod::BasicConsumeOk(_)
        | ServerMethod::QueueBindOk(_)
        | ServerMethod::ConfirmSelectOk(_) => done(""),
        other => Err(broken(format!("an unexpected {}", other.name()))),
    }
}

fn complete(pending: &mut Option<Pending>) -> Result<Option<Event>, Failure> {
    let whole = pending.take_if(|content| content.body_bytes == Some(content.body.len() as u64));
    let Some(content) = whole else {
        return Ok(None);
    };
    Ok(Some(match content.kind {
        Kind::Return(why) => Event::Returned(format!("{why} (routing key '{}')", content.key)),
        Kind::Delivery => Event::Delivered(message(content)?),
    }))
}

fn message(content: Pending) -> Result<Message, Failure> {
    let properties = BasicProperties::parse(&content.properties)
        .map_err(|why| broken(format!("the broker sent: {why}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut extras = Extras {
        content_type: properties.content_type.map(text),
        correlation_data: properties.correlation_id.map(<[u8]>::to_vec),
        response_topic: properties.reply_to.map(text),
        expiry_s: properties
            .expiration
            .and_then(|ms| text(ms).parse::<u32>().ok())
            .map(|ms| ms.div_ceil(1_000)),
        ..Extras::default()
    };
    for (name, value) in properties.headers.unwrap_or_default().entries() {
        extras.user.push((text(name), shown(value)));
    }
    let mut topic = String::new();
    translate::to_topic(&content.key, &mut topic);
    Ok(Message {
        topic,
        payload: content.body,
        qos: u8::from(properties.delivery_mode == Some(2)),
        retain: false,
        id: content.tag,
        extras,
    })
}

/// A header as text; of what is no text or number, its type.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::LongString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Bool(value) => value.to_string(),
        ValueRef::F32(value) => value.to_string(),
        ValueRef::F64(value) => value.to_string(),
        ValueRef::Timestamp(seconds) => seconds.to_string(),
        other => {
            let value = other.to_value();
            let number = value.as_integer().map(|number| number.to_string());
            number.unwrap_or_else(|| value.type_name().to_owned())
        }
    }
}

/// The largest body that is read, in bytes: RabbitMQ's largest `max_message_size`.
const BODY_BYTES_MAX: u64 = 512 * 1_024 * 1_024;
