//! AMQP's basic properties and headers as properties of MQTT 5.0.

use std::fmt::Write as _;

use leveret_core::field::ValueRef;
use leveret_core::identity::Reserved;
use leveret_core::message::MessageRef;
use leveret_core::properties::BasicProperties;
use leveret_core::time::Time;

use super::seconds_left;
use crate::limits::{STRING_BYTES_MAX, USER_PROPERTIES_MAX};
use crate::property::Property;
use crate::reply;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

/// Appends AMQP's properties as a property block.
pub(super) fn append(
    properties: &BasicProperties<'_>,
    message: &MessageRef<'_>,
    reserved: Reserved,
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
        put(Property::MessageExpiryInterval(seconds_left(at, now)));
    }
    let mut correlation = properties.correlation_id;
    let mut response = None;
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
                response = response.or(text(key).and_then(reply::topic_of_key));
                continue;
            }
            _ if reserved.has(name) => continue,
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
    let reply_to = || properties.reply_to.and_then(text);
    if let Some(topic) = response.or_else(|| reply_to().and_then(reply::topic_of)) {
        put(Property::ResponseTopic(&topic));
    }
    if let Some(data) = correlation.filter(|data| data.len() <= STRING_BYTES_MAX) {
        put(Property::CorrelationData(data));
    }
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
