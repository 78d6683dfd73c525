//! Field tables with their types: `[["x-expires","long",2000]]`, as RabbitMQ's JSON shows them.
//!
//! Arrays are lists of `[type, value]`; RabbitMQ makes objects of them, which lose all but one
//! value of each type.

use leveret_core::field::{Table, Value};
use serde_json::{Value as Json, json};

use crate::parameter::scalar;

/// A table as a list of `[name, type, value]`. Nesting is bounded by the codec that read it.
pub(crate) fn typed_table(table: &Table) -> Json {
    let entry = |(name, value): (&[u8], &Value)| {
        json!([
            String::from_utf8_lossy(name),
            kind(value),
            typed_value(value)
        ])
    };
    Json::Array(table.iter().map(entry).collect())
}

fn typed_value(value: &Value) -> Json {
    match value {
        Value::Table(table) => typed_table(table),
        Value::Array(values) => {
            let entry = |value: &Value| json!([kind(value), typed_value(value)]);
            Json::Array(values.iter().map(entry).collect())
        }
        other => scalar(other),
    }
}

/// RabbitMQ's name of a field's type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::LongString(_) => "longstr",
        Value::Array(_) => "array",
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => "table",
        Value::Bytes(_) => "binary",
        Value::Void => "void",
    }
}
