//! The decode rows over TCP: each on a connection of its own, behind a CONNECT where it needs one.
//!
//! A violation ends that connection with the right words, and a second client is none the worse.
//! Must never judge what a packet that was understood leads to.

use leveret_mqtt::codec::decode_header;
use leveret_mqtt::packet::{ProtocolVersion, connect};
use leveret_mqtt::violation::Violation;
use serde_json::json;

use super::{Row, decoded, rows};
use crate::packets;
use crate::tcp::{Rig, TcpWorld};
use crate::text::code;
use crate::verbs::Verbs;

#[test]
fn every_row_decodes_as_expected_over_tcp() {
    let mut world = TcpWorld::new(&Rig::new(), &json!({}));
    let login = connect(&mut world, "second", ProtocolVersion::V5);
    assert_eq!(login[0].split(' ').nth(1), Some("0"), "{login:?}");
    let mut problems = Vec::new();
    let mut ran = 0;
    for (file, row) in rows().filter(|(_, row)| !row.is_of_server()) {
        ran += 1;
        if let Err(why) = run(&mut world, &row) {
            problems.push(format!("{file}: {}: {why}", row.name));
        }
        let alive = say(&mut world, "second", ProtocolVersion::V5, "PINGREQ");
        assert_eq!(alive, ["PINGRESP"], "{file}: {}", row.name);
    }
    println!("{ran} rows ran");
    let count = problems.len();
    assert!(problems.is_empty(), "{count} rows\n{}", problems.join("\n"));
}

fn run(world: &mut TcpWorld, row: &Row) -> Result<(), String> {
    let version = row.version();
    match version {
        None => world.open("first", ""),
        Some(version) => drop(connect(world, "first", version)),
    }
    let bytes = row.bytes();
    let wanted = decoded(version, &bytes);
    let shape = match (version, &wanted) {
        (Some(version), _) => version,
        (None, Err(violation)) => violation.connack_version().unwrap_or(ProtocolVersion::V4),
        (None, Ok(_)) => asked(&bytes),
    };
    world.speak("first", shape);
    world.feed("first", &bytes);
    let got = taken(world, "first", shape);
    let wanted = match wanted {
        Ok(packet) => return understood(world, &packet, shape, &got),
        Err(violation) => last_words(&violation, version),
    };
    let words: Vec<&str> = got.iter().map(|packet| head(packet)).collect();
    if words != wanted.iter().map(String::as_str).collect::<Vec<_>>() {
        return Err(format!("got: {got:?}, expected: {wanted:?}"));
    }
    match world.is_open("first") {
        true => Err("the connection is open".to_owned()),
        false => Ok(()),
    }
}

/// The version that a whole CONNECT asks for.
fn asked(bytes: &[u8]) -> ProtocolVersion {
    let header = decode_header(bytes).ok().flatten();
    let body = header.and_then(|(_, len)| bytes.get(len..));
    let version = body.and_then(|body| connect::protocol_version(body).ok());
    version.unwrap_or(ProtocolVersion::V4)
}

/// What the server says before it closes. Who sends a CONNECT that cannot be read gets no answer.
fn last_words(violation: &Violation, version: Option<ProtocolVersion>) -> Option<String> {
    let reason = code(violation.reason_code() as u8);
    match version {
        // [MQTT-3.1.2-2], [MQTT-3.14.0-1], 3.1.1 [MQTT-3.1.4-1]
        None => violation.connack_version().map(|shape| match shape {
            ProtocolVersion::V5 => format!("CONNACK {reason}"),
            _ => "CONNACK 1".to_owned(),
        }),
        // [MQTT-4.13.1-1], 3.1.1 [MQTT-4.8.0-1]
        Some(ProtocolVersion::V5) => Some(format!("DISCONNECT {reason}")),
        Some(_) => None,
    }
}

/// A packet that was understood is not called malformed, whatever comes of it.
fn understood(
    world: &mut TcpWorld,
    packet: &str,
    version: ProtocolVersion,
    got: &[String],
) -> Result<(), String> {
    let open = world.is_open("first");
    let malformed = got.iter().any(|packet| head(packet) == "DISCONNECT 0x81");
    let right = match packet {
        "incomplete" => open && got.is_empty(),
        // A client that takes packets of one byte gets nothing.
        "Connect" if got.is_empty() => !open,
        "Connect" => got.len() == 1 && got[0].starts_with("CONNACK"),
        "Disconnect" => !open && !malformed,
        _ if open => say(world, "first", version, "PINGREQ") == ["PINGRESP"],
        _ => !malformed,
    };
    match right {
        true => Ok(()),
        false => Err(format!("{packet}, open: {open}, got: {got:?}")),
    }
}

/// A packet's name and code.
fn head(packet: &str) -> &str {
    let end = packet.match_indices(' ').nth(1);
    end.map_or(packet, |(end, _)| &packet[..end])
}

fn connect(world: &mut TcpWorld, name: &str, version: ProtocolVersion) -> Vec<String> {
    world.open(name, "");
    let words = format!("CONNECT v{} id={name} clean", version as u8);
    say(world, name, version, &words)
}

/// The client sends a packet; what came, and nothing more comes.
fn say(world: &mut TcpWorld, name: &str, version: ProtocolVersion, words: &str) -> Vec<String> {
    world.feed(name, &packets::encode(version, words));
    taken(world, name, version)
}

fn taken(world: &mut TcpWorld, name: &str, version: ProtocolVersion) -> Vec<String> {
    let received = world.received(name);
    let mut all = Vec::new();
    while let Some((bytes, shown)) = packets::show(version, received) {
        received.drain(..bytes.len());
        all.push(shown);
    }
    all
}
