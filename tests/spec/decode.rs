//! Runs the decode rows of `tests/spec/mqtt`: bytes in, the kind of packet or the name of the
//! violation out. Owns no row; must never accept a row it cannot read. OASIS MQTT 3.1.1 and 5.0,
//! chapters 2 and 3.
//!
//! A row: `name` starts with a statement id or section; `version` is 3, 4 or 5, or null for the
//! first packet of a connection; `from` is `server` where a server sends it; `send` is hex, white
//! space showing fields; `expect` is a packet's name, a variant of `Violation`, or `incomplete`.

mod over_tcp;

use std::collections::BTreeMap;

use leveret_mqtt::codec::{FixedHeader, decode_header};
use leveret_mqtt::packet::{ProtocolVersion, decode, decode_first, decode_server};
use leveret_mqtt::violation::Violation;
use serde::Deserialize;

use crate::text::hex;

const FILES: [(&str, &str); 11] = [
    ("header", include_str!("mqtt/header.json")),
    ("connect", include_str!("mqtt/connect.json")),
    ("publish", include_str!("mqtt/publish.json")),
    ("ack", include_str!("mqtt/ack.json")),
    ("subscribe", include_str!("mqtt/subscribe.json")),
    ("unsubscribe", include_str!("mqtt/unsubscribe.json")),
    ("disconnect", include_str!("mqtt/disconnect.json")),
    ("auth", include_str!("mqtt/auth.json")),
    ("properties", include_str!("mqtt/properties.json")),
    ("truncated", include_str!("mqtt/truncated.json")),
    ("directions", include_str!("mqtt/directions.json")),
];

/// One packet; see the module.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    name: String,
    version: Option<u8>,
    from: Option<String>,
    send: String,
    expect: String,
}

impl Row {
    fn version(&self) -> Option<ProtocolVersion> {
        self.version.map(|level| match level {
            3 => ProtocolVersion::V3,
            4 => ProtocolVersion::V4,
            5 => ProtocolVersion::V5,
            _ => panic!("{}: level {level}", self.name),
        })
    }

    fn bytes(&self) -> Vec<u8> {
        hex(&self.send)
    }

    fn is_of_server(&self) -> bool {
        self.from.as_deref().is_some_and(|from| {
            assert_eq!(from, "server", "{}", self.name);
            true
        })
    }
}

/// All rows, with their files.
pub(crate) fn rows() -> impl Iterator<Item = (&'static str, Row)> {
    FILES.into_iter().flat_map(|(file, text)| {
        let rows: Vec<Row> =
            serde_json::from_str(text).unwrap_or_else(|why| panic!("mqtt/{file}.json: {why}"));
        assert!(!rows.is_empty(), "{file}");
        rows.into_iter().map(move |row| (file, row))
    })
}

/// The rows of a PUBLISH of 5.0 that breaks a rule by its properties.
pub(crate) fn refused_publishes() -> impl Iterator<Item = Vec<u8>> {
    let publishes = rows().filter(|(file, row)| {
        let refused = row.expect.starts_with("Property") || row.expect.ends_with("Invalid");
        let whole = refused || row.expect.starts_with("String");
        *file == "properties" && row.version == Some(5) && whole && row.bytes()[0] >> 4 == 3
    });
    publishes.map(|(_, row)| row.bytes())
}

#[test]
fn every_row_decodes_as_expected() {
    let mut problems = Vec::new();
    for (file, row) in rows() {
        assert!(row.name.starts_with("MQTT-"), "{file}: {}", row.name);
        let got = run(&row);
        if got != row.expect {
            problems.push(format!("{file}: {}: {got}", row.name));
        }
    }
    let count = problems.len();
    assert!(problems.is_empty(), "{count} rows\n{}", problems.join("\n"));
}

/// A row that repeats another proves nothing.
#[test]
fn no_two_rows_are_alike() {
    let mut known = BTreeMap::new();
    for (file, row) in rows() {
        let key = (row.version, row.is_of_server(), row.bytes());
        if let Some(other) = known.insert(key, format!("{file}: {}", row.name)) {
            panic!("{file}: {} is {other}", row.name);
        }
    }
}

fn run(row: &Row) -> String {
    let bytes = row.bytes();
    let done = match (row.version(), row.is_of_server()) {
        (Some(version), true) => outcome(&bytes, |header, body| {
            decode_server(version, header, body).map(|packet| variant(&packet))
        }),
        (version, _) => decoded(version, &bytes),
    };
    done.unwrap_or_else(|violation| {
        assert!(violation.reason_code().is_failure());
        assert!(!violation.to_string().is_empty());
        variant(&violation)
    })
}

/// What a server makes of a client's packet.
fn decoded(version: Option<ProtocolVersion>, bytes: &[u8]) -> Result<String, Violation> {
    outcome(bytes, |header, body| match version {
        None => decode_first(header, body).map(|packet| variant(&packet)),
        Some(version) => decode(version, header, body).map(|packet| variant(&packet)),
    })
}

fn outcome(
    bytes: &[u8],
    decode: impl Fn(FixedHeader, &[u8]) -> Result<String, Violation>,
) -> Result<String, Violation> {
    let Some((header, len)) = decode_header(bytes)? else {
        return Ok("incomplete".to_owned());
    };
    let Some(body) = bytes.get(len..len + header.remaining_length as usize) else {
        return Ok("incomplete".to_owned());
    };
    assert_eq!(len + body.len(), bytes.len(), "one packet a row");
    decode(header, body)
}

/// The name in front of what `Debug` prints.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}
