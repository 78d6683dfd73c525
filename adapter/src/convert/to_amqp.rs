//! Properties of MQTT 5.0, and who published, as AMQP's basic properties and headers.
//!
//! They are written as they stand on the wire: nothing is allocated for a message that has no
//! properties of its own.

use leveret_core::field::{ValueRef, encode_entry};
use leveret_core::identity::{QOS, RECEIVED, RETAIN, Reserved, TOPIC};
use leveret_core::message::MessageRef;

use crate::identity::{self, Block};
use crate::limits::{HEADERS_BYTES_MAX, USER_HEADERS_BYTES_MAX};
use crate::property::{Properties, Property};
use crate::{reply, topic};

// AMQP 0-9-1 §4.2.6.1: the first property of the class has the highest bit.
const CONTENT_TYPE: u16 = 1 << 15;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const TIMESTAMP: u16 = 1 << 6;
const USER_ID: u16 = 1 << 4;

/// Appends flags and values.
pub(super) fn append(message: &MessageRef<'_>, out: &mut Vec<u8>) {
    let (block, raw) = identity::split(message);
    let properties = Properties::from_checked(raw);
    let mut own = Own::default();
    properties.iter().for_each(|property| own.take(property));
    let head = &message.head;
    let mut flags = DELIVERY_MODE;
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    if let Some(text) = own.content_type {
        flags |= CONTENT_TYPE;
        put_short(out, text);
    }
    let headers = out.len();
    out.extend_from_slice(&[0; 4]);
    put_identity(message, block, out);
    put_headers(&own, properties, block.reserved(), headers + 4, out);
    let headers_bytes = out.len() - headers - 4;
    if headers_bytes == 0 {
        out.truncate(headers);
    } else {
        flags |= HEADERS;
        // They are at most `HEADERS_BYTES_MAX`.
        out[headers..headers + 4].copy_from_slice(&(headers_bytes as u32).to_be_bytes());
    }
    out.push(if head.persistent { 2 } else { 1 });
    if let Some(data) = own.correlation.filter(|data| is_correlation_id(data)) {
        flags |= CORRELATION_ID;
        put_short(out, data);
    }
    if let Some(name) = own.response.and_then(reply::name_of) {
        flags |= REPLY_TO;
        put_short(out, name.as_bytes());
    }
    if let Some(at) = head.expires {
        flags |= EXPIRATION | TIMESTAMP;
        put_short(out, at.since_ms(head.received).to_string().as_bytes());
        out.extend_from_slice(&head.received.seconds().to_be_bytes());
    }
    if let Some(user) = block.user().filter(|user| user.len() <= 255) {
        flags |= USER_ID;
        put_short(out, user);
    }
    out[start..start + 2].copy_from_slice(&flags.to_be_bytes());
}

/// What is no header, or one that the broker names.
#[derive(Default)]
struct Own<'a> {
    content_type: Option<&'a [u8]>,
    correlation: Option<&'a [u8]>,
    response: Option<&'a str>,
    has_headers: bool,
}

impl<'a> Own<'a> {
    fn take(&mut self, property: Property<'a>) {
        match property {
            Property::ContentType(text) if text.is_ascii() && text.len() <= 255 => {
                self.content_type = Some(text.as_bytes());
            }
            Property::CorrelationData(data) => {
                self.correlation = Some(data);
                self.has_headers |= !is_correlation_id(data);
            }
            Property::ResponseTopic(topic) => {
                self.response = Some(topic);
                // A queue is no topic, under no name.
                self.has_headers |= reply::queue_of(topic).is_none();
            }
            Property::UserProperty(..) => self.has_headers = true,
            _ => {}
        }
    }
}

fn is_correlation_id(data: &[u8]) -> bool {
    data.len() <= 255 && !data.contains(&0) && std::str::from_utf8(data).is_ok()
}

/// What the broker says of the message and of who published it.
fn put_identity(message: &MessageRef<'_>, block: Block<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(block.as_bytes());
    if !block.reserved().headers {
        return;
    }
    let head = &message.head;
    let qos = match (head.persistent, head.exactly_once) {
        (_, true) => 2,
        (true, false) => 1,
        (false, false) => 0,
    };
    let mut put = |name: &str, value: ValueRef<'_>| {
        // Our own names are short, and a topic is at most 65,535 bytes.
        let _ = encode_entry(out, name.as_bytes(), value);
    };
    put(QOS, ValueRef::I32(qos));
    put(RETAIN, ValueRef::Bool(head.retain));
    put(TOPIC, ValueRef::LongString(message.key));
    put(RECEIVED, ValueRef::I64(head.received.0.cast_signed()));
}

/// The headers that the publisher has a say in, in its order; the table begins at `start`.
fn put_headers(
    own: &Own<'_>,
    properties: Properties<'_>,
    taken: Reserved,
    start: usize,
    out: &mut Vec<u8>,
) {
    if !own.has_headers {
        return;
    }
    let mut user_bytes = 0;
    let mut names: Vec<&str> = Vec::new();
    let mut put = |name: &str, value: &[u8]| {
        let bytes = name.len() + value.len();
        if out.len() - start + bytes <= HEADERS_BYTES_MAX {
            // Name and value came in a packet, or the name is ours: they fit.
            let _ = encode_entry(out, name.as_bytes(), ValueRef::LongString(value));
        }
        bytes
    };
    for property in properties.iter() {
        match property {
            Property::CorrelationData(data) if !is_correlation_id(data) => {
                put("x-correlation-id", data);
            }
            Property::ResponseTopic(topic) if reply::queue_of(topic).is_none() => {
                let mut key = String::new();
                topic::translate::to_key(topic, &mut key);
                put("x-reply-to-topic", key.as_bytes());
            }
            Property::UserProperty(name, value)
                if name.len() <= 255
                    && user_bytes + name.len() + value.len() <= USER_HEADERS_BYTES_MAX
                    && !taken.has(name.as_bytes())
                    && !names.contains(&name) =>
            {
                names.push(name);
                // A name's length, a type and a value's length come on top.
                user_bytes += put(name, value.as_bytes()) + 6;
            }
            _ => {}
        }
    }
}

fn put_short(out: &mut Vec<u8>, text: &[u8]) {
    // All that come here are at most 255 bytes.
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}
