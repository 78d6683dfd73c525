//! The specification as rows of data: bytes and their decoding, and flows of packets between
//! clients and one broker, in memory and over TCP. Owns the list of files; must never read a clock
//! or wait. OASIS MQTT 3.1.1 and 5.0; the rows name their statements.

mod amqp;
mod classes;
mod decode;
mod packets;
mod steps;
mod tcp;
mod text;
mod verbs;
mod world;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use tcp::{Rig, TcpWorld};
use world::World;

/// One flow; [`steps`] has the language.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Begins with a statement's id or a feature's.
    name: String,
    /// Options that differ from the defaults.
    #[serde(default)]
    options: Value,
    /// Why it does not run over TCP; without one it does.
    memory_only: Option<String>,
    steps: Vec<String>,
}

const FLOWS: &[(&str, &str)] = &[
    ("connect", include_str!("flows/connect.json")),
    ("publish", include_str!("flows/publish.json")),
    ("subscribe", include_str!("flows/subscribe.json")),
    ("session", include_str!("flows/session.json")),
    ("retain", include_str!("flows/retain.json")),
    ("will", include_str!("flows/will.json")),
    ("shared", include_str!("flows/shared.json")),
    ("keepalive", include_str!("flows/keepalive.json")),
    ("auth", include_str!("flows/auth.json")),
    ("bad_input", include_str!("flows/bad_input.json")),
    ("alarms", include_str!("flows/alarms.json")),
    ("identity", include_str!("flows/identity.json")),
    ("connack", include_str!("flows/connack.json")),
    ("limits", include_str!("flows/limits.json")),
    ("lifetime", include_str!("flows/lifetime.json")),
    ("takeover", include_str!("flows/takeover.json")),
    ("request", include_str!("flows/request.json")),
    ("auth_exchange", include_str!("flows/auth_exchange.json")),
    ("windows", include_str!("flows/windows.json")),
    ("caps", include_str!("flows/caps.json")),
    ("ledger", include_str!("flows/ledger.json")),
    ("retained_more", include_str!("flows/retained_more.json")),
    ("statements_311", include_str!("flows/statements_311.json")),
    ("statements_5", include_str!("flows/statements_5.json")),
    ("strict", include_str!("flows/strict.json")),
    ("states", include_str!("flows/states.json")),
    ("listeners", include_str!("flows/listeners.json")),
    ("many_sessions", include_str!("flows/many_sessions.json")),
    ("reauthorise", include_str!("flows/reauthorise.json")),
];

#[test]
fn every_flow_goes_as_expected() {
    check_flows(|row| {
        let mut world = World::new(&row.options, usize::MAX);
        Some(steps::run(&mut world, &row.steps))
    });
}

/// However a stream is cut, the same comes of it.
#[test]
fn every_flow_goes_as_expected_byte_by_byte() {
    check_flows(|row| {
        let mut world = World::new(&row.options, 1);
        Some(steps::run(&mut world, &row.steps))
    });
}

/// A socket, the driver and the login backend between client and broker change nothing. TCP is a
/// transport as MQTT wants it: [MQTT-4.2.0-1], 3.1.1 [MQTT-7.1.1-1].
#[test]
fn every_flow_goes_as_expected_over_tcp() {
    let rig = Rig::new();
    check_flows(|row| {
        if row.memory_only.is_some() {
            return None;
        }
        let mut world = TcpWorld::new(&rig, &row.options);
        Some(steps::run(&mut world, &row.steps))
    });
}

fn flows() -> impl Iterator<Item = (&'static str, Row)> {
    FLOWS.iter().flat_map(|(file, text)| {
        let rows: Vec<Row> =
            serde_json::from_str(text).unwrap_or_else(|why| panic!("flows/{file}.json: {why}"));
        rows.into_iter().map(move |row| (*file, row))
    })
}

/// A row that repeats another proves nothing.
#[test]
fn no_two_flows_are_alike() {
    let mut known = BTreeMap::new();
    for (file, row) in flows() {
        let key = (row.options.to_string(), row.steps);
        if let Some(other) = known.insert(key, format!("{file}: {}", row.name)) {
            panic!("{file}: {} is {other}", row.name);
        }
    }
}

/// docs/conformance.md says so.
#[test]
fn there_are_more_than_2_000_rows() {
    let rows = flows().count() + decode::rows().count();
    println!("{rows} rows");
    assert!(rows > 2_000, "{rows}");
}

/// Runs every row; `None` is that this one is not for it.
fn check_flows(run: impl Fn(&Row) -> Option<Result<(), steps::Failure>>) {
    let mut problems = Vec::new();
    let (mut ran, mut left) = (0, 0);
    for (file, row) in flows() {
        let Some(outcome) = run(&row) else {
            left += 1;
            continue;
        };
        ran += 1;
        if let Err(failure) = outcome {
            let step: String = row.steps[failure.step].chars().take(200).collect();
            problems.push(format!(
                "{file}: {}\n  step {}: {step}\n    {}",
                row.name,
                failure.step + 1,
                failure.why
            ));
        }
    }
    println!("{ran} rows ran, {left} did not");
    let count = problems.len();
    assert!(problems.is_empty(), "{count} rows\n{}", problems.join("\n"));
}
