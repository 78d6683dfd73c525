//! Properties of MQTT 5.0, and who published, as AMQP's basic properties and headers.
//!
//! They are written as they stand on the wire: nothing is allocated for a message that has no
//! properties of its own.

use std::collections::HashSet;

use leveret_core::field::{ValueRef, encode_entry};
use leveret_core::identity::Reserved;
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
    if !raw.is_empty() {
        properties.iter().for_each(|property| own.take(property));
    }
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
    put_identity(message, &block, out);
    put_headers(&own, properties, block.reserved, headers + 4, out);
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
    if block.reserved.headers && matches!(block.user.len(), 1..=255) {
        flags |= USER_ID;
        put_short(out, block.user);
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

/// The names of the headers that say who published, as they are encoded before their values.
mod entry {
    pub(super) const VHOST: &[u8] = b"\x0cx-mqtt-vhostS";
    pub(super) const USERNAME: &[u8] = b"\x0fx-mqtt-usernameS";
    pub(super) const CLIENT_ID: &[u8] = b"\x10x-mqtt-client-idS";
    pub(super) const PEER: &[u8] = b"\x0bx-mqtt-peerS";
    pub(super) const ANNOTATION: &[u8] = b"\x14x-opt-mqtt-client-idS";
    pub(super) const QOS: &[u8] = b"\x0ax-mqtt-qosI\0\0\0";
    pub(super) const RETAIN: &[u8] = b"\x0dx-mqtt-retaint";
    pub(super) const TOPIC: &[u8] = b"\x0cx-mqtt-topicS";
    pub(super) const RECEIVED: &[u8] = b"\x0fx-mqtt-receivedl";
}

/// What the broker says of the message and of who published it. Every delivery to AMQP has it, so
/// it is copied rather than encoded.
fn put_identity(message: &MessageRef<'_>, block: &Block<'_>, out: &mut Vec<u8>) {
    let texts = block.vhost.len() + block.user.len() + block.peer.len() + message.key.len();
    out.reserve(IDENTITY_NAMES_BYTES + texts + 2 * block.client_id.len());
    let put = |name: &[u8], text: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(name);
        // Our own are short, and a topic is at most 65,535 bytes.
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(text);
    };
    let put_some = |name: &[u8], text: &[u8], out: &mut Vec<u8>| {
        if !text.is_empty() {
            put(name, text, out);
        }
    };
    if block.reserved.headers {
        put_some(entry::VHOST, block.vhost, out);
        put_some(entry::USERNAME, block.user, out);
        put_some(entry::CLIENT_ID, block.client_id, out);
        put_some(entry::PEER, block.peer, out);
    }
    if block.reserved.annotation {
        put_some(entry::ANNOTATION, block.client_id, out);
    }
    if !block.reserved.headers {
        return;
    }
    let head = &message.head;
    let qos = match (head.persistent, head.exactly_once) {
        (_, true) => 2,
        (true, false) => 1,
        (false, false) => 0,
    };
    out.extend_from_slice(entry::QOS);
    out.push(qos);
    out.extend_from_slice(entry::RETAIN);
    out.push(u8::from(head.retain));
    put(entry::TOPIC, message.key, out);
    out.extend_from_slice(entry::RECEIVED);
    out.extend_from_slice(&head.received.0.cast_signed().to_be_bytes());
}

/// Bytes that all of these take without their texts.
const IDENTITY_NAMES_BYTES: usize = 256;

/// Names that were used, so that the first user property of each counts.
#[derive(Default)]
struct Seen<'a> {
    few: Vec<&'a str>,
    /// The rest: looking through a list of all that fit into a packet would take seconds.
    many: HashSet<&'a str>,
}

impl<'a> Seen<'a> {
    /// Names that are looked through.
    const FEW: usize = 16;

    /// Whether the name is new.
    fn add(&mut self, name: &'a str) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }
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
    let mut names = Seen::default();
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
                    && names.add(name) =>
            {
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

#[cfg(test)]
mod tests {
    use leveret_core::identity::{
        ANNOTATION, CLIENT_ID, PEER, QOS, RECEIVED, RETAIN, TOPIC, USERNAME, VHOST,
    };

    use super::*;

    #[test]
    fn i3_names_are_encoded_as_they_are_written() {
        let text = ValueRef::LongString(b"");
        let (qos, retain, received) = (ValueRef::I32(7), ValueRef::Bool(true), ValueRef::I64(-1));
        let entries: [(&str, ValueRef<'_>, &[u8], usize); 9] = [
            (VHOST, text, entry::VHOST, 4),
            (USERNAME, text, entry::USERNAME, 4),
            (CLIENT_ID, text, entry::CLIENT_ID, 4),
            (PEER, text, entry::PEER, 4),
            (ANNOTATION, text, entry::ANNOTATION, 4),
            (TOPIC, text, entry::TOPIC, 4),
            (QOS, qos, entry::QOS, 1),
            (RETAIN, retain, entry::RETAIN, 1),
            (RECEIVED, received, entry::RECEIVED, 8),
        ];
        let mut all = 0;
        for (name, value, encoded, value_bytes) in entries {
            let mut out = Vec::new();
            encode_entry(&mut out, name.as_bytes(), value).expect("it fits");
            assert_eq!(&out[..out.len() - value_bytes], encoded, "{name}");
            all += out.len();
        }
        assert!(all <= IDENTITY_NAMES_BYTES, "{all}");
    }
}
