//! Runs the decode rows of `tests/spec/mqtt`: bytes of a client in, the kind of packet or the
//! name of the violation out. Owns no row; must never accept a row it cannot read. OASIS MQTT
//! 3.1.1 and 5.0, chapters 2 and 3.
//!
//! A row: `name` starts with a statement id or section; `version` is 3, 4 or 5, or null for the
//! first packet of a connection; `send` is hex, white space showing fields; `expect` is a packet's
//! name, a variant of `Violation`, or `incomplete`.

use leveret_mqtt::codec::decode_header;
use leveret_mqtt::packet::{ProtocolVersion, decode, decode_first};
use leveret_mqtt::violation::Violation;
use serde_json::Value;

use crate::text::hex;

const FILES: [(&str, &str); 8] = [
    ("header", include_str!("mqtt/header.json")),
    ("connect", include_str!("mqtt/connect.json")),
    ("publish", include_str!("mqtt/publish.json")),
    ("ack", include_str!("mqtt/ack.json")),
    ("subscribe", include_str!("mqtt/subscribe.json")),
    ("unsubscribe", include_str!("mqtt/unsubscribe.json")),
    ("disconnect", include_str!("mqtt/disconnect.json")),
    ("auth", include_str!("mqtt/auth.json")),
];

#[test]
fn every_row_decodes_as_expected() {
    for (file, text) in FILES {
        let rows: Vec<Value> = serde_json::from_str(text).unwrap();
        assert!(!rows.is_empty(), "{file}");
        for row in rows {
            let field = |key: &str| row[key].as_str().unwrap();
            assert!(field("name").starts_with("MQTT-"), "{file}: {row}");
            let got = run(version(&row["version"]), &hex(field("send")));
            assert_eq!(got, field("expect"), "{file}: {row}");
        }
    }
}

fn version(value: &Value) -> Option<ProtocolVersion> {
    match value {
        Value::Null => None,
        _ => Some(match value.as_u64() {
            Some(3) => ProtocolVersion::V3,
            Some(4) => ProtocolVersion::V4,
            Some(5) => ProtocolVersion::V5,
            _ => panic!("version {value}"),
        }),
    }
}

fn run(version: Option<ProtocolVersion>, bytes: &[u8]) -> String {
    outcome(version, bytes).unwrap_or_else(|violation| {
        assert!(violation.reason_code().is_failure());
        assert!(!violation.to_string().is_empty());
        variant(&violation)
    })
}

fn outcome(version: Option<ProtocolVersion>, bytes: &[u8]) -> Result<String, Violation> {
    let Some((header, len)) = decode_header(bytes)? else {
        return Ok("incomplete".to_owned());
    };
    let Some(body) = bytes.get(len..len + header.remaining_length as usize) else {
        return Ok("incomplete".to_owned());
    };
    assert_eq!(len + body.len(), bytes.len(), "one packet a row");
    match version {
        None => decode_first(header, body).map(|packet| variant(&packet)),
        Some(version) => decode(version, header, body).map(|packet| variant(&packet)),
    }
}

/// The name in front of what `Debug` prints.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}
