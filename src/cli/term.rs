//! Cells of tables: JSON values as RabbitMQ's tools print them.

use std::fmt::Write;

use serde_json::Value;

/// Columns whose lists are field tables: `[name, type, value]`.
const TYPED_COLUMNS: [&str; 2] = ["arguments", "client_properties"];

/// The text of one cell. What would end the cell or steer a terminal is shown as `\ooo`: names come
/// from clients.
pub(super) fn cell(column: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        Value::Array(entries) if TYPED_COLUMNS.contains(&column) => table(entries),
        Value::Array(entries) => {
            let entries: Vec<String> = entries.iter().map(|entry| cell(column, entry)).collect();
            format!("[{}]", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A field table as Erlang's terms, without its types: `[{"x-expires",2000}]`.
fn table(entries: &[Value]) -> String {
    let entry = |entry: &Value| format!("{{{},{}}}", term("", &entry[0]), typed(entry, 1));
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!("[{}]", entries.join(","))
}

/// The value that follows its type at `place` of an entry.
fn typed(entry: &Value, place: usize) -> String {
    term(entry[place].as_str().unwrap_or_default(), &entry[place + 1])
}

fn term(kind: &str, value: &Value) -> String {
    match (kind, value) {
        ("table", Value::Array(entries)) => table(entries),
        (_, Value::Array(entries)) => {
            let entries: Vec<String> = entries.iter().map(|entry| typed(entry, 0)).collect();
            format!("[{}]", entries.join(","))
        }
        (_, Value::String(text)) => quoted(text),
        (_, Value::Null) => "undefined".to_owned(),
        (_, other) => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        escaped(&text.replace('\\', "\\\\").replace('"', "\\\""))
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for next in text.chars() {
        if next.is_control() {
            // Writing to a string does not fail.
            let _ = write!(out, "\\{:03o}", u32::from(next));
        } else {
            out.push(next);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn o2_cells() {
        let table = [
            ("name", json!("q 1"), "q 1"),
            ("name", json!("a\tb\u{1b}[2J\u{9b}"), "a\\011b\\033[2J\\233"),
            ("messages", json!(5), "5"),
            ("durable", json!(true), "true"),
            ("policy", json!(null), ""),
            ("tags", json!([]), "[]"),
            (
                "tags",
                json!(["administrator", "monitoring"]),
                "[administrator, monitoring]",
            ),
            ("arguments", json!([]), "[]"),
            (
                "arguments",
                json!([
                    ["x-expires", "signedint", 86_400_000],
                    ["x-s", "longstr", "a\"bc"],
                    ["x-b", "bool", true],
                    ["x-t", "table", [["a", "long", 1]]],
                    ["x-a", "array", [["long", 1], ["longstr", "z"]]],
                    ["x-v", "void", null]
                ]),
                "[{\"x-expires\",86400000},{\"x-s\",\"a\\\"bc\"},{\"x-b\",true},\
                 {\"x-t\",[{\"a\",1}]},{\"x-a\",[1,\"z\"]},{\"x-v\",undefined}]",
            ),
        ];
        for (column, value, expected) in table {
            assert_eq!(cell(column, &value), expected);
        }
    }
}
