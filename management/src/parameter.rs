//! Global parameters: JSON as field values, and field values as JSON.
//!
//! Owns the conversion and its bounds. Never judges what a parameter means.

use leveret_core::field::{FieldError, NESTING_MAX, Table, Value};
use leveret_core::limits;
use serde_json::{Map, Number, Value as Json};

/// Why a text cannot be a parameter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ParameterError {
    /// RabbitMQ's words.
    #[error("JSON decoding error. Reason: {0}")]
    NotJson(String),
    #[error("parameter is larger than {} bytes", limits::PARAMETER_BYTES_MAX)]
    TooLarge,
    #[error("parameter is nested deeper than {LEVELS_MAX} levels")]
    TooDeep,
    #[error("parameter cannot be kept: {0}")]
    NotAField(#[from] FieldError),
}

/// Levels of objects and arrays: the record around the value takes one of the codec's.
const LEVELS_MAX: usize = NESTING_MAX - 1;

/// Bytes that the record around the value may take.
const RECORD_BYTES: usize = 64;

/// The value that a JSON text stands for.
pub(crate) fn parse(text: &str) -> Result<Value, ParameterError> {
    if text.len() > limits::PARAMETER_BYTES_MAX {
        return Err(ParameterError::TooLarge);
    }
    let json: Json =
        serde_json::from_str(text).map_err(|why| ParameterError::NotJson(why.to_string()))?;
    let value = from_json(&json, LEVELS_MAX)?;
    // Some JSON is shorter than the fields it becomes, and the record has the same limit.
    let mut record = Table::new();
    record.insert("value", value.clone())?;
    let mut bytes = Vec::new();
    record.encode(&mut bytes)?;
    if bytes.len() + RECORD_BYTES > limits::PARAMETER_BYTES_MAX {
        return Err(ParameterError::TooLarge);
    }
    Ok(value)
}

fn from_json(json: &Json, levels: usize) -> Result<Value, ParameterError> {
    Ok(match json {
        Json::Null => Value::Void,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number_value(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => {
            let levels = levels.checked_sub(1).ok_or(ParameterError::TooDeep)?;
            let values = values.iter().map(|value| from_json(value, levels));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Json::Object(members) => {
            let levels = levels.checked_sub(1).ok_or(ParameterError::TooDeep)?;
            let mut table = Table::new();
            for (name, value) in members {
                table.insert(name, from_json(value, levels)?)?;
            }
            Value::Table(table)
        }
    })
}

fn number_value(number: &Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Value::I64(whole),
        (None, Some(float)) => Value::F64(float),
        (None, None) => Value::Void,
    }
}

/// The JSON of a value, whoever made it: what JSON has no word for becomes text or null.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Table(table) => Json::Object(to_object(table)),
        Value::Array(values) => Json::Array(values.iter().map(to_json).collect()),
        other => scalar(other),
    }
}

/// The JSON of a table.
pub(crate) fn object(table: &Table) -> Json {
    Json::Object(to_object(table))
}

fn to_object(table: &Table) -> Map<String, Json> {
    let member = |(name, value): (&[u8], &Value)| {
        (String::from_utf8_lossy(name).into_owned(), to_json(value))
    };
    table.iter().map(member).collect()
}

/// The JSON of a value that holds no others.
pub(crate) fn scalar(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::F32(value) => Json::from(*value),
        Value::F64(value) => Json::from(*value),
        Value::Timestamp(seconds) => Json::from(*seconds),
        Value::LongString(bytes) | Value::Bytes(bytes) => {
            Json::from(String::from_utf8_lossy(bytes).into_owned())
        }
        Value::Decimal { scale, value } => {
            Json::from(f64::from(*value) / 10_f64.powi(i32::from(*scale)))
        }
        Value::Table(_) | Value::Array(_) | Value::Void => Json::Null,
        whole => whole.as_integer().map_or(Json::Null, Json::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_parameters_survive_the_round_trip() {
        for text in [
            r#"{"1883":"vhost1","8883":"vhost1"}"#,
            r#"[1,2.5,true,null,"s",[],{}]"#,
            r#"{"O=client,CN=guest":"vhost7"}"#,
            "-9223372036854775808",
            "\"ü\"",
        ] {
            let value = parse(text).expect(text);
            assert_eq!(to_json(&value).to_string(), text);
        }
    }

    #[test]
    fn o2_impossible_parameters_are_refused() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(&nested(LEVELS_MAX)).is_ok());
        assert_eq!(parse(&nested(LEVELS_MAX + 1)), Err(ParameterError::TooDeep));
        let grows = format!("[{}1]", "1,".repeat(200_000));
        assert_eq!(parse(&grows), Err(ParameterError::TooLarge));
        let long = format!("\"{}\"", "x".repeat(limits::PARAMETER_BYTES_MAX));
        assert_eq!(parse(&long), Err(ParameterError::TooLarge));
        assert!(matches!(parse("{x"), Err(ParameterError::NotJson(_))));
        let name = format!("{{\"{}\":1}}", "n".repeat(256));
        assert!(matches!(parse(&name), Err(ParameterError::NotAField(_))));
    }
}
