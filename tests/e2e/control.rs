//! The program itself: exit codes, its command line against a running broker, signals.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::program::{Program, code, run, stderr, stdout};

/// FEATURES O2: starts, answers `ctl`, ends with 0 on SIGTERM and SIGINT.
#[test]
fn o2_ctl_asks_a_running_broker() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().expect("a data directory");
        let data_dir = directory.path();
        let broker = Program::start(data_dir);
        let status = run(&["ctl", "status"], data_dir);
        assert_eq!(code(&status), Some(0), "{}", stderr(&status));
        let text = stdout(&status);
        assert!(
            text.contains("AMQP 0-9-1") && text.contains("Messages dropped: 0\n"),
            "{text}"
        );

        let added = run(&["ctl", "add_user", "anna", "secret"], data_dir);
        assert_eq!(code(&added), Some(0), "{}", stderr(&added));
        let again = run(&["ctl", "add_user", "anna", "secret"], data_dir);
        assert_eq!(code(&again), Some(70), "{}", stderr(&again));
        let users = run(&["ctl", "list_users", "--formatter", "json"], data_dir);
        let users: serde_json::Value = serde_json::from_slice(&users.stdout).expect("is JSON");
        assert_eq!(users.as_array().map(Vec::len), Some(2), "{users}");
        let queues = run(&["ctl", "list_queues", "-p", "none"], data_dir);
        assert_eq!(code(&queues), Some(65), "{}", stderr(&queues));
        let plugins = run(&["plugins", "list", "-e", "-m"], data_dir);
        assert!(
            stdout(&plugins).contains("rabbitmq_mqtt"),
            "{}",
            stdout(&plugins)
        );

        // An MQTT client that is connected does not keep it from ending.
        let mut client = TcpStream::connect(broker.address("MQTT")).expect("it listens");
        client
            .write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c")
            .expect("room");
        let mut connack = [0; 4];
        client.read_exact(&mut connack).expect("a CONNACK");
        assert_eq!(connack, [0x20, 2, 0, 0]);
        assert_eq!(broker.stop(signal), Some(0));
        let status = run(&["ctl", "status"], data_dir);
        assert_eq!(code(&status), Some(69), "nobody is there");
    }
}

/// FEATURES O3: a wrong configuration is 78, wherever it comes from.
#[test]
fn o3_wrong_configuration_ends_with_78() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = directory.path().join("good.toml");
    std::fs::write(&good, "[mqtt]\nprefetch = 7\n").expect("is written");
    let bad = directory.path().join("bad.conf");
    std::fs::write(&bad, "# fine\nmqtt.prefetsh = 7\n").expect("is written");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let data_dir = directory.path();

    let checked = run(&["config", "check", "--config", &good], data_dir);
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));
    let checked = run(&["config", "check", "--config", &bad], data_dir);
    assert_eq!(code(&checked), Some(78));
    let text = stderr(&checked);
    assert!(
        text.contains("bad.conf:2") && text.contains("mqtt.prefetch'"),
        "{text}"
    );
    let shown = run(&["config", "show", "--config", &good], data_dir);
    assert!(
        stdout(&shown).contains("mqtt.prefetch = 7"),
        "{}",
        stdout(&shown)
    );

    let started = run(&["server", "--config", &bad], data_dir);
    assert_eq!(code(&started), Some(78));
    let text = stderr(&started);
    assert!(
        text.starts_with("leveret: ") && text.lines().count() == 1,
        "{text}"
    );
}

/// What is taken is 69, in one sentence on standard error.
#[test]
fn o2_what_is_in_use_ends_with_69() {
    let directory = tempfile::tempdir().expect("a data directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let amqp = format!("listeners.tcp.default={address}");
    let arguments = ["server", "--log-level", "none", "--set", &amqp];
    let refused = run(&arguments, directory.path());
    assert_eq!(code(&refused), Some(69));
    let text = stderr(&refused);
    assert!(
        text.contains("listeners.tcp.default") && text.lines().count() == 1,
        "{text}"
    );

    let broker = Program::start(directory.path());
    let refused = run(&["server", "--log-level", "none"], directory.path());
    assert_eq!(code(&refused), Some(69));
    let text = stderr(&refused);
    assert!(
        text.contains("in use") && text.lines().count() == 1,
        "{text}"
    );
    assert_eq!(broker.stop(Signal::TERM), Some(0));
}

/// Arguments that nobody understands are 64, and nothing is started.
#[test]
fn o2_arguments_without_sense_end_with_64() {
    let directory = tempfile::tempdir().expect("a data directory");
    for arguments in [
        &["ctl", "list_queuess"][..],
        &["ctl", "add_user"],
        &["plugins", "enabel"],
        &["--no-such-flag"],
    ] {
        let output = run(arguments, directory.path());
        assert_eq!(
            code(&output),
            Some(64),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let version = run(&["--version"], directory.path());
    assert_eq!(code(&version), Some(0));
    assert!(stdout(&version).contains(env!("CARGO_PKG_VERSION")));
}
