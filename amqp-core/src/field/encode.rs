//! Field tables into wire bytes.
//!
//! Owns the writing of entries and values; never leaves half an entry behind on an error.
//! AMQP 0-9-1 §4.2.5.5.

use super::{
    FieldError, KEPT_NESTING_MAX, NAME_BYTES_MAX, RawArray, RawTable, Table, Value, ValueRef,
};

/// Appends one entry, name and value, to the table body in `out`. For tables that are written
/// piece by piece; the caller writes the length prefix and answers for the nesting, which is one
/// level deeper than that of `value`. On an error `out` is as it was.
///
/// # Errors
///
/// [`FieldError::NameTooLong`] for a name above [`NAME_BYTES_MAX`]; [`FieldError::TooLong`] for
/// a value whose length does not fit its prefix.
pub fn encode_entry(out: &mut Vec<u8>, name: &[u8], value: ValueRef<'_>) -> Result<(), FieldError> {
    undo_on_error(out, |out| {
        put_name(out, name)?;
        put_ref(out, value)
    })
}

pub(super) fn table(table: &Table, out: &mut Vec<u8>) -> Result<(), FieldError> {
    undo_on_error(out, |out| put_entries(out, table, 1))
}

fn undo_on_error(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    let start = out.len();
    write(out).inspect_err(|_| out.truncate(start))
}

/// Writes the entries of a table that is the `level`th, counted from 1.
fn put_entries(out: &mut Vec<u8>, table: &Table, level: usize) -> Result<(), FieldError> {
    for (name, value) in table.iter() {
        put_name(out, name)?;
        put_value(out, value, level)?;
    }
    Ok(())
}

/// Writes a value that lies in a table or array of the given level.
fn put_value(out: &mut Vec<u8>, value: &Value, level: usize) -> Result<(), FieldError> {
    let value = match value {
        Value::Table(table) => {
            return put_nested(out, b'F', level, |out| put_entries(out, table, level + 1));
        }
        Value::Array(values) => {
            return put_nested(out, b'A', level, |out| {
                values
                    .iter()
                    .try_for_each(|value| put_value(out, value, level + 1))
            });
        }
        Value::Bool(value) => ValueRef::Bool(*value),
        Value::I8(value) => ValueRef::I8(*value),
        Value::U8(value) => ValueRef::U8(*value),
        Value::I16(value) => ValueRef::I16(*value),
        Value::U16(value) => ValueRef::U16(*value),
        Value::I32(value) => ValueRef::I32(*value),
        Value::U32(value) => ValueRef::U32(*value),
        Value::I64(value) => ValueRef::I64(*value),
        Value::F32(value) => ValueRef::F32(*value),
        Value::F64(value) => ValueRef::F64(*value),
        Value::Decimal { scale, value } => ValueRef::Decimal {
            scale: *scale,
            value: *value,
        },
        Value::LongString(bytes) => ValueRef::LongString(bytes),
        Value::Timestamp(seconds) => ValueRef::Timestamp(*seconds),
        Value::Bytes(bytes) => ValueRef::Bytes(bytes),
        Value::Void => ValueRef::Void,
    };
    put_ref(out, value)
}

fn put_nested(
    out: &mut Vec<u8>,
    letter: u8,
    level: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    if level == KEPT_NESTING_MAX {
        return Err(FieldError::NestingTooDeep);
    }
    out.push(letter);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = length_prefix(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&length);
    Ok(())
}

fn put_ref(out: &mut Vec<u8>, value: ValueRef<'_>) -> Result<(), FieldError> {
    match value {
        ValueRef::Bool(value) => put(out, b't', &[value.into()]),
        ValueRef::I8(value) => put(out, b'b', &value.to_be_bytes()),
        ValueRef::U8(value) => put(out, b'B', &[value]),
        ValueRef::I16(value) => put(out, b's', &value.to_be_bytes()),
        ValueRef::U16(value) => put(out, b'u', &value.to_be_bytes()),
        ValueRef::I32(value) => put(out, b'I', &value.to_be_bytes()),
        ValueRef::U32(value) => put(out, b'i', &value.to_be_bytes()),
        ValueRef::I64(value) => put(out, b'l', &value.to_be_bytes()),
        ValueRef::F32(value) => put(out, b'f', &value.to_be_bytes()),
        ValueRef::F64(value) => put(out, b'd', &value.to_be_bytes()),
        ValueRef::Decimal { scale, value } => {
            put(out, b'D', &[scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        ValueRef::LongString(bytes) => put_long(out, b'S', bytes)?,
        ValueRef::Array(array) => put_long(out, b'A', RawArray::as_bytes(array))?,
        ValueRef::Timestamp(seconds) => put(out, b'T', &seconds.to_be_bytes()),
        ValueRef::Table(table) => put_long(out, b'F', RawTable::as_bytes(table))?,
        ValueRef::Bytes(bytes) => put_long(out, b'x', bytes)?,
        ValueRef::Void => out.push(b'V'),
    }
    Ok(())
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) -> Result<(), FieldError> {
    let too_long = FieldError::NameTooLong { bytes: name.len() };
    const { assert!(NAME_BYTES_MAX == u8::MAX as usize) };
    out.push(u8::try_from(name.len()).map_err(|_| too_long)?);
    out.extend_from_slice(name);
    Ok(())
}

fn put(out: &mut Vec<u8>, letter: u8, data: &[u8]) {
    out.push(letter);
    out.extend_from_slice(data);
}

fn put_long(out: &mut Vec<u8>, letter: u8, bytes: &[u8]) -> Result<(), FieldError> {
    let length = length_prefix(bytes.len())?;
    put(out, letter, &length);
    out.extend_from_slice(bytes);
    Ok(())
}

fn length_prefix(bytes: usize) -> Result<[u8; 4], FieldError> {
    let length = u32::try_from(bytes).map_err(|_| FieldError::TooLong { bytes })?;
    Ok(length.to_be_bytes())
}
