//! The two protocols' properties into each other: lazily, only when the other protocol needs them.
//!
//! | MQTT 5.0 | AMQP basic property or header |
//! |---|---|
//! | QoS 0 / 1, 2 | delivery_mode 1 / 2 |
//! | Content Type | content_type, if ASCII and at most 255 bytes; dropped otherwise |
//! | Correlation Data | correlation_id, if short text; else header `x-correlation-id` |
//! | Response Topic | header `x-reply-to-topic`, in dotted form |
//! | User Property | a header, the first of each name; 64 KiB of them, names up to 255 bytes |
//! | Message Expiry Interval | expiration in milliseconds, and timestamp |
//!
//! Back: long strings that are UTF-8, numbers, booleans and void become User Properties; tables,
//! arrays and bytes are dropped, whatever is in them.

use std::fmt::Write as _;

use leveret_core::field::{ValueRef, encode_entry};
use leveret_core::message::{MessageRef, Origin};
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use crate::limits::{STRING_BYTES_MAX, USER_PROPERTIES_MAX};
use crate::property::{Properties, Property};
use crate::topic;

/// Bytes of headers that user properties become: a content header must fit one frame, and frames
/// have 131,072 bytes unless a client asks for less. What is beyond is dropped.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// MQTT publishers, of all versions: the properties are a property block of 5.0, without Topic
/// Alias.
#[derive(Debug)]
pub(crate) struct MqttOrigin;

/// The one instance.
pub(crate) static MQTT: MqttOrigin = MqttOrigin;

/// Whether a message came from an MQTT client: its properties are a property block.
pub(crate) fn is_mqtt(message: &MessageRef<'_>) -> bool {
    message.head.form == leveret_core::key::Form::Slashed
}

impl Origin for MqttOrigin {
    fn tag(&self) -> u8 {
        1
    }

    fn append_basic_properties(&self, message: &MessageRef<'_>, out: &mut Vec<u8>) {
        let delivery_mode = Some(if message.head.persistent { 2 } else { 1 });
        let expires = message.head.expires;
        if message.properties.is_empty() && expires.is_none() {
            let properties = BasicProperties {
                delivery_mode,
                ..BasicProperties::default()
            };
            // A delivery mode alone always fits.
            let _ = properties.encode(out);
            return;
        }
        let mut properties = BasicProperties {
            delivery_mode,
            ..BasicProperties::default()
        };
        let mut headers = Vec::new();
        let mut names: Vec<&[u8]> = Vec::new();
        for property in Properties::from_checked(message.properties).iter() {
            match property {
                Property::ContentType(text) if text.is_ascii() && text.len() <= 255 => {
                    properties.content_type = Some(text.as_bytes());
                }
                Property::CorrelationData(data) => {
                    let text = std::str::from_utf8(data).is_ok() && !data.contains(&0);
                    if text && data.len() <= 255 {
                        properties.correlation_id = Some(data);
                    } else {
                        put_header(&mut headers, "x-correlation-id", data);
                    }
                }
                Property::ResponseTopic(topic) => {
                    let mut key = String::new();
                    topic::translate::to_key(topic, &mut key);
                    put_header(&mut headers, "x-reply-to-topic", key.as_bytes());
                }
                Property::UserProperty(name, value)
                    if name.len() <= 255
                        && headers.len() + name.len() + value.len() <= HEADERS_BYTES_MAX
                        && !names.contains(&name.as_bytes()) =>
                {
                    names.push(name.as_bytes());
                    put_header(&mut headers, name, value.as_bytes());
                }
                _ => {}
            }
        }
        let expiration = expires.map(|at| at.since_ms(message.head.received).to_string());
        if let Some(text) = &expiration {
            properties.expiration = Some(text.as_bytes());
            properties.timestamp = Some(message.head.received.seconds());
        }
        let table = leveret_core::field::RawTable::parse(&headers).ok();
        properties.headers = table.filter(|table| !table.is_empty());
        // Every part was checked against its limit above.
        let _ = properties.encode(out);
    }
}

fn put_header(headers: &mut Vec<u8>, name: &str, value: &[u8]) {
    // Names and values were limited by their packet to less than a table may hold.
    let _ = encode_entry(headers, name.as_bytes(), ValueRef::LongString(value));
}

/// Appends the property block of a message for a 5.0 subscriber.
pub(crate) fn append_properties(message: &MessageRef<'_>, now: Time, out: &mut Vec<u8>) {
    if is_mqtt(message) {
        match message.head.expires {
            None => out.extend_from_slice(message.properties),
            Some(at) => {
                // [MQTT-3.3.2-6]: what remains of it, in whole seconds, rounded up so that it never
                // says 0 too early.
                let left = at.since_ms(now).div_ceil(1000).min(u64::from(u32::MAX)) as u32;
                for property in Properties::from_checked(message.properties).iter() {
                    if !matches!(property, Property::MessageExpiryInterval(_)) {
                        // It was decoded from a packet, so it fits into one.
                        let _ = property.encode(out);
                    }
                }
                let _ = Property::MessageExpiryInterval(left).encode(out);
            }
        }
        return;
    }
    let mut raw = Vec::new();
    let properties = if message.properties.is_empty() {
        message
            .head
            .origin
            .append_basic_properties(message, &mut raw);
        BasicProperties::parse(&raw)
    } else {
        BasicProperties::parse(message.properties)
    };
    if let Ok(properties) = properties {
        append_from_basic(&properties, message, now, out);
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn append_from_basic(
    properties: &BasicProperties<'_>,
    message: &MessageRef<'_>,
    now: Time,
    out: &mut Vec<u8>,
) {
    // Whatever does not fit is left out: a publisher's odd property must not hurt a subscriber.
    let mut put = |property: Property<'_>| {
        let _ = property.encode(out);
    };
    if let Some(content_type) = properties.content_type.and_then(text) {
        put(Property::ContentType(content_type));
    }
    if let Some(at) = message.head.expires {
        let left = at.since_ms(now).div_ceil(1000).min(u64::from(u32::MAX)) as u32;
        put(Property::MessageExpiryInterval(left));
    }
    let mut correlation = properties.correlation_id;
    let mut user_properties = 0;
    let mut rendered = String::new();
    for (name, value) in properties
        .headers
        .into_iter()
        .flat_map(|table| table.entries())
    {
        match (name, &value) {
            (b"x-correlation-id", ValueRef::LongString(data)) => {
                correlation = correlation.or(Some(data));
                continue;
            }
            (b"x-reply-to-topic", ValueRef::LongString(key)) => {
                if let Some(topic) = text(key).and_then(response_topic) {
                    put(Property::ResponseTopic(&topic));
                }
                continue;
            }
            _ => {}
        }
        let (Some(name), true) = (text(name), user_properties < USER_PROPERTIES_MAX) else {
            continue;
        };
        rendered.clear();
        if render(&value, &mut rendered) {
            user_properties += 1;
            put(Property::UserProperty(name, &rendered));
        }
    }
    if let Some(data) = correlation.filter(|data| data.len() <= STRING_BYTES_MAX) {
        put(Property::CorrelationData(data));
    }
}

/// A dotted key as a topic to answer to, if it is one.
fn response_topic(key: &str) -> Option<String> {
    let mut topic = String::new();
    topic::translate::to_topic(key, &mut topic);
    let usable = !topic.is_empty() && !topic.contains(['+', '#']);
    (usable && topic.len() <= STRING_BYTES_MAX).then_some(topic)
}

/// Writes a header's value as text; `false` for those that have none.
fn render(value: &ValueRef<'_>, out: &mut String) -> bool {
    // Writing to a String cannot fail.
    let written = match value {
        ValueRef::Bool(value) => write!(out, "{value}"),
        ValueRef::I8(value) => write!(out, "{value}"),
        ValueRef::U8(value) => write!(out, "{value}"),
        ValueRef::I16(value) => write!(out, "{value}"),
        ValueRef::U16(value) => write!(out, "{value}"),
        ValueRef::I32(value) => write!(out, "{value}"),
        ValueRef::U32(value) => write!(out, "{value}"),
        ValueRef::I64(value) => write!(out, "{value}"),
        ValueRef::F32(value) => write!(out, "{value}"),
        ValueRef::F64(value) => write!(out, "{value}"),
        ValueRef::Timestamp(value) => write!(out, "{value}"),
        ValueRef::Void => Ok(()),
        ValueRef::LongString(bytes) => match text(bytes) {
            Some(text) if text.len() <= STRING_BYTES_MAX => {
                out.push_str(text);
                Ok(())
            }
            _ => return false,
        },
        ValueRef::Decimal { .. } | ValueRef::Array(_) | ValueRef::Table(_) | ValueRef::Bytes(_) => {
            return false;
        }
    };
    written.is_ok()
}
