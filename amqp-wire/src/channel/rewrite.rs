//! Properties that are read for more than themselves: the headers CC and BCC, a reply-to that
//! stands for the channel's pseudo queue, and headers that the broker alone sets.
//!
//! Owns the further routing keys of a message and what its consumers see instead. RabbitMQ's
//! sender-selected distribution and direct reply-to.

use leveret_core::field::{RawTable, ValueRef, encode_entry};
use leveret_core::identity::Reserved;
use leveret_core::limits::KEY_BYTES_MAX;
use leveret_core::properties::BasicProperties;
use leveret_core::refusal::Refusal;
use leveret_core::replies::REPLY_TO;
use leveret_core::reply_code::ReplyCode;

use crate::limits::MORE_KEYS_MAX;

/// Whether the properties ask for more than to be carried.
#[inline]
pub(super) fn asks_for_more(properties: &BasicProperties<'_>, reserved: Reserved) -> bool {
    properties.reply_to == Some(REPLY_TO.as_bytes())
        || properties.headers.is_some_and(|headers| {
            headers
                .entries()
                .any(|(name, _)| matches!(name, b"CC" | b"BCC") || reserved.has(name))
        })
}

/// The routing keys in the headers CC and BCC.
pub(super) fn more_keys<'a>(properties: &BasicProperties<'a>) -> Result<Vec<&'a [u8]>, Refusal> {
    let mut keys = Vec::new();
    let Some(headers) = properties.headers else {
        return Ok(keys);
    };
    for name in ["CC", "BCC"] {
        let values = match headers.lookup(name) {
            None => continue,
            Some(ValueRef::Array(values)) => values,
            Some(other) => {
                return Err(Refusal::precondition(format!(
                    "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                    other.to_value().type_name()
                )));
            }
        };
        for value in values.values() {
            let ValueRef::LongString(key) = value else {
                continue;
            };
            if keys.len() >= MORE_KEYS_MAX || key.len() > KEY_BYTES_MAX {
                return Err(Refusal::precondition(format!(
                    "more than {MORE_KEYS_MAX} routing keys in the headers CC and BCC, or one of \
                     more than {KEY_BYTES_MAX} bytes"
                )));
            }
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The properties as consumers see them: without BCC and the headers that the broker alone sets,
/// and with the name of the pseudo queue.
/// `None` if that changes nothing.
pub(super) fn rewritten(
    properties: &BasicProperties<'_>,
    reply_name: Option<&str>,
    reserved: Reserved,
) -> Result<Option<Vec<u8>>, Refusal> {
    let mut headers = Vec::new();
    let hidden = without_hidden(properties.headers, reserved, &mut headers);
    if !hidden && reply_name.is_none() {
        return Ok(None);
    }
    let mut changed = *properties;
    if hidden {
        // What was a table is one without some of its entries.
        changed.headers = RawTable::parse(&headers).ok();
    }
    if let Some(name) = reply_name {
        changed.reply_to = Some(name.as_bytes());
    }
    let mut encoded = Vec::new();
    let error =
        |error: &dyn std::fmt::Display| Refusal::new(ReplyCode::SyntaxError, error.to_string());
    changed.encode(&mut encoded).map_err(|e| error(&e))?;
    Ok(Some(encoded))
}

/// Copies headers but for BCC and the reserved ones; says whether there was any of those.
fn without_hidden(headers: Option<RawTable<'_>>, reserved: Reserved, into: &mut Vec<u8>) -> bool {
    let is_hidden = |name: &[u8]| name == b"BCC" || reserved.has(name);
    let Some(headers) = headers.filter(|all| all.entries().any(|(name, _)| is_hidden(name))) else {
        return false;
    };
    for (name, value) in headers.entries() {
        if !is_hidden(name) {
            // It was in a table, and fits one again.
            let _ = encode_entry(into, name, value);
        }
    }
    true
}
