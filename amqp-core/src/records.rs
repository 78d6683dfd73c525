//! Definitions as records: each is a key of length-prefixed parts and a field table. The codec is
//! the wire's own.

use crate::definitions::{Change, Kind};
use crate::field::{Table, Value};
use crate::limits::ARGUMENTS_BYTES_MAX;
use crate::refusal::Refusal;

/// A key from its parts, each with its length before it, so that no name can be mistaken for two.
pub(crate) fn key(parts: &[&[u8]]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
    }
    out.into()
}

/// The parts of a key, or `None` if it was not made by [`key`].
pub(crate) fn parts(mut key: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !key.is_empty() {
        let (length, rest) = key.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        parts.push(rest.get(..length)?);
        key = &rest[length..];
    }
    Some(parts)
}

/// Refuses arguments that a record could not hold: a record nests them one level deeper than the
/// wire did.
pub(crate) fn check_arguments(arguments: &Table) -> Result<(), Refusal> {
    if arguments.is_empty() {
        return Ok(());
    }
    let wrapped = table([("arguments", Value::Table(arguments.clone()))]);
    let mut encoded = Vec::new();
    wrapped
        .encode(&mut encoded)
        .map_err(|why| Refusal::precondition(format!("arguments cannot be kept: {why}")))?;
    if encoded.len() > ARGUMENTS_BYTES_MAX {
        return Err(Refusal::precondition(format!(
            "arguments have {} bytes, at most {ARGUMENTS_BYTES_MAX} can be kept",
            encoded.len()
        )));
    }
    Ok(())
}

/// A table from names and values that are known to be short enough.
pub(crate) fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    let mut table = Table::new();
    for (name, value) in entries {
        // Our own names are far below the limit of 255 bytes.
        let _ = table.insert(name, value);
    }
    table
}

/// The change that writes a record.
pub(crate) fn put(kind: Kind, parts: &[&[u8]], value: &Table) -> Change {
    let mut out = Vec::new();
    // What came off the wire, or was made here, fits the wire again.
    let _ = value.encode(&mut out);
    Change::Put {
        kind,
        key: key(parts),
        value: out.into(),
    }
}

/// The change that removes a record.
pub(crate) fn delete(kind: Kind, parts: &[&[u8]]) -> Change {
    Change::Delete {
        kind,
        key: key(parts),
    }
}

/// A text field, empty if it is not there.
pub(crate) fn text(table: &Table, name: &str) -> Box<str> {
    table
        .lookup(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .into()
}

/// A boolean field, false if it is not there.
pub(crate) fn flag(table: &Table, name: &str) -> bool {
    table
        .lookup(name)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

/// A nested table, empty if it is not there.
pub(crate) fn nested(table: &Table, name: &str) -> Table {
    match table.lookup(name) {
        Some(Value::Table(nested)) => nested.clone(),
        _ => Table::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_parts_apart() {
        let (one, other) = (key(&[b"a", b"bc"]), key(&[b"ab", b"c"]));
        assert_ne!(one, other);
        assert_eq!(parts(&one), Some(vec![&b"a"[..], b"bc"]));
        assert_eq!(parts(&one[..5]), Some(vec![&b"a"[..]]));
        assert_eq!(parts(&one[..6]), None);
    }
}
