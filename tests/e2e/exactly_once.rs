//! QoS 2 from a publisher to a subscriber, over a broker that is killed after each step.

use std::path::Path;

use rustix::process::Signal;

use crate::packet::{PUBCOMP, PUBLISH, PUBREC, PUBREL};
use crate::program::Program;
use crate::survive::{Connect, DUP, QOS2, Raw};

const SETS: [&str; 1] = ["mqtt.max_qos=2"];

fn again(program: Program, directory: &Path) -> Program {
    program.stop(Signal::KILL);
    Program::start_with(directory, &SETS)
}

/// The subscriber comes back to its session.
fn back(program: &Program) -> Raw {
    let (client, present) = Raw::connect(program, "s", Connect::SESSION);
    assert!(present);
    client
}

/// A PUBLISH of QoS 2: its DUP flag, packet identifier and payload.
fn publish_of(client: &mut Raw) -> (u8, u16, String) {
    let (first, body) = client.next();
    assert_eq!(first & 0xf6, PUBLISH | QOS2, "{body:?}");
    let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let id = u16::from_be_bytes([body[at], body[at + 1]]);
    let payload = String::from_utf8(body[at + 3..].to_vec());
    (first & DUP, id, payload.expect("is text"))
}

fn released(client: &mut Raw) -> u16 {
    let (first, body) = client.next();
    assert_eq!(first, PUBREL, "{body:?}");
    u16::from_be_bytes([body[0], body[1]])
}

fn publish(program: &Program, id: u16, payload: &str) {
    let (mut client, _) = Raw::connect(program, "p", Connect::SESSION);
    client.publish(QOS2, "t", id, payload);
    client.release(id);
}

/// FEATURES M7: with `mqtt.max_qos = 2` a message comes exactly once, however often the broker is
/// killed between PUBLISH and PUBCOMP ([MQTT-4.3.3-1] to [MQTT-4.3.3-6], [MQTT-4.4.0-1]).
#[test]
fn m7_qos_2_is_delivered_once_across_kills() {
    let directory = tempfile::tempdir().expect("a data directory");
    let directory = directory.path();
    let program = Program::start_with(directory, &SETS);
    let (mut client, _) = Raw::connect(&program, "s", Connect::SESSION);
    client.subscribe_with("t", 2);
    publish(&program, 1, "first");
    publish(&program, 2, "second");
    assert_eq!(publish_of(&mut client), (0, 1, "first".to_owned()));
    assert_eq!(publish_of(&mut client), (0, 2, "second".to_owned()));

    // Neither was acknowledged: both come again as they were.
    let program = again(program, directory);
    let mut client = back(&program);
    assert_eq!(publish_of(&mut client), (DUP, 1, "first".to_owned()));
    assert_eq!(publish_of(&mut client), (DUP, 2, "second".to_owned()));
    client.send(PUBREC, &[0, 2]);
    assert_eq!(released(&mut client), 2);

    // One was received: it is released again, and does not come.
    let program = again(program, directory);
    let mut client = back(&program);
    assert_eq!(released(&mut client), 2);
    assert_eq!(publish_of(&mut client), (DUP, 1, "first".to_owned()));
    client.send(PUBREC, &[0, 1]);
    assert_eq!(released(&mut client), 1);
    publish(&program, 1, "third");
    // The identifiers of both are in use still.
    assert_eq!(publish_of(&mut client), (0, 3, "third".to_owned()));

    let program = again(program, directory);
    let mut client = back(&program);
    let mut both = [released(&mut client), released(&mut client)];
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    assert_eq!(publish_of(&mut client), (DUP, 3, "third".to_owned()));
    client.send(PUBCOMP, &[0, 1]);
    client.send(PUBCOMP, &[0, 2]);
    client.send(PUBREC, &[0, 3]);
    assert_eq!(released(&mut client), 3);
    client.send(PUBCOMP, &[0, 3]);
    // What is published now is behind the last PUBCOMP in the journal.
    publish(&program, 1, "fourth");
    let (_, id, payload) = publish_of(&mut client);
    assert_eq!(payload, "fourth");

    let program = again(program, directory);
    let mut client = back(&program);
    assert_eq!(publish_of(&mut client), (DUP, id, payload));
}

/// FEATURES M7: a session that begins anew has no identifier of before, also after a kill
/// ([MQTT-3.1.2-4]).
#[test]
fn m7_a_clean_start_after_a_kill_releases_nothing() {
    let directory = tempfile::tempdir().expect("a data directory");
    let directory = directory.path();
    let program = Program::start_with(directory, &SETS);
    let (mut client, _) = Raw::connect(&program, "s", Connect::SESSION);
    client.subscribe_with("t", 2);
    publish(&program, 1, "first");
    assert_eq!(publish_of(&mut client).1, 1);
    client.send(PUBREC, &[0, 1]);
    assert_eq!(released(&mut client), 1);

    let program = again(program, directory);
    let anew = Connect {
        clean_start: true,
        ..Connect::SESSION
    };
    let (mut client, present) = Raw::connect(&program, "s", anew);
    assert!(!present);
    client.subscribe_with("t", 2);

    let program = again(program, directory);
    let mut client = back(&program);
    publish(&program, 1, "second");
    assert_eq!(publish_of(&mut client), (0, 1, "second".to_owned()));
}
