//! The specification as rows of data: bytes and their decoding, and flows of packets between
//! clients and one broker in memory. Owns the list of files; must never open a socket, read a clock
//! or wait. OASIS MQTT 3.1.1 and 5.0; the rows name their statements.

mod amqp;
mod decode;
mod packets;
mod steps;
mod text;
mod world;

use serde::Deserialize;
use serde_json::Value;

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
    ("reauthorise", include_str!("flows/reauthorise.json")),
];

#[test]
fn every_flow_goes_as_expected() {
    check_flows(usize::MAX);
}

/// However a stream is cut, the same comes of it.
#[test]
fn every_flow_goes_as_expected_byte_by_byte() {
    check_flows(1);
}

fn check_flows(chunk: usize) {
    let mut problems = Vec::new();
    for (file, text) in FLOWS {
        let rows: Vec<Row> =
            serde_json::from_str(text).unwrap_or_else(|why| panic!("flows/{file}.json: {why}"));
        for row in rows {
            let mut world = World::new(&row.options, chunk);
            if let Err(failure) = steps::run(&mut world, &row.steps) {
                let step: String = row.steps[failure.step].chars().take(200).collect();
                problems.push(format!(
                    "{file}: {}\n  step {}: {step}\n    {}",
                    row.name,
                    failure.step + 1,
                    failure.why
                ));
            }
        }
    }
    let count = problems.len();
    assert!(problems.is_empty(), "{count} rows\n{}", problems.join("\n"));
}
