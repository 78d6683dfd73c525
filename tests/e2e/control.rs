//! The program itself: exit codes, its command line against a running broker, signals.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use rustix::process::Signal;

use crate::amqp::{channel, try_connect};
use crate::broker::{eventually, within};
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
        let next = stdout(&added);
        assert!(
            next.contains("See 'leveret ctl help set_permissions'"),
            "{next}"
        );
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

/// FEATURES A4, O9: what is taken and has no effect is told to who runs the broker, once for many
/// queues, and for each policy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a4_arguments_without_effect_are_logged() {
    let directory = tempfile::tempdir().expect("a data directory");
    let data_dir = directory.path();
    let log = data_dir.join("log");
    let file = std::fs::File::create(&log).expect("is made");
    let broker = Program::start_logging(data_dir, file);
    let address = broker.address("AMQP 0-9-1").parse().expect("an address");
    let connection = try_connect(address, "guest:guest", "%2f").await;
    let channel = channel(&connection.expect("connects")).await;
    for queue in ["first", "second"] {
        let text = |word: &str| AMQPValue::LongString(word.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-delayed-retry-type".into(), text("all"));
        arguments.insert("x-delayed-retry-min".into(), AMQPValue::LongLongInt(1_000));
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(queue.into(), options, arguments);
        within(declared).await.expect("it is taken");
    }
    let policy = r#"{"delayed-retry-type":"all","delayed-retry-min":1000}"#;
    let set = run(&["ctl", "set_policy", "slowly", ".*", policy], data_dir);
    assert_eq!(code(&set), Some(0), "{}", stderr(&set));
    assert_eq!(broker.stop(Signal::TERM), Some(0));
    let log = std::fs::read_to_string(&log).expect("is text");
    let told: Vec<_> = log
        .lines()
        .filter(|line| line.contains("is accepted and has no effect"))
        .collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(
        told[0].contains("x-delayed-retry-type") && told[0].contains("first"),
        "{log}"
    );
    assert!(
        told[1].contains(" delayed-retry-type") && told[1].contains("slowly"),
        "{log}"
    );
}

/// FEATURES M16: what is dropped is listed by reason and QoS, and a line of the log says whose it
/// was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m16_what_is_dropped_is_listed_and_logged() {
    let directory = tempfile::tempdir().expect("a data directory");
    let data_dir = directory.path();
    let log = data_dir.join("log");
    let file = std::fs::File::create(&log).expect("is made");
    let broker = Program::start_logging(data_dir, file);
    let listed = || {
        let listed = run(&["ctl", "list_losses", "--formatter", "json"], data_dir);
        assert_eq!(code(&listed), Some(0), "{}", stderr(&listed));
        let rows = serde_json::from_slice::<serde_json::Value>(&listed.stdout);
        rows.expect("is JSON")
    };
    assert_eq!(listed(), serde_json::json!([]));
    let mut client = TcpStream::connect(broker.address("MQTT")).expect("it listens");
    client
        .write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c")
        .expect("room");
    // Two of QoS 0 and one of QoS 1 to `$SYS/x`.
    client
        .write_all(b"\x30\x08\x00\x06$SYS/x\x30\x08\x00\x06$SYS/x")
        .expect("room");
    client
        .write_all(b"\x32\x0a\x00\x06$SYS/x\x00\x01")
        .expect("room");
    let mut answers = [0; 8];
    client.read_exact(&mut answers).expect("CONNACK and PUBACK");
    assert_eq!(answers, [0x20, 2, 0, 0, 0x40, 2, 0, 1]);
    let row = |qos: u8, count: u64| {
        serde_json::json!({
            "vhost": "/", "reason": "reserved_topic", "qos": qos, "count": count,
        })
    };
    assert_eq!(listed(), serde_json::json!([row(0, 2), row(1, 1)]));
    let status = stdout(&run(&["ctl", "status"], data_dir));
    let told = "Messages dropped: 3 (reserved_topic 3)\n";
    assert!(status.contains(told), "{status}");
    let dropped = || {
        let text = std::fs::read_to_string(&log).expect("is text");
        let mut lines = text
            .lines()
            .filter(|line| line.contains("messages dropped"));
        lines.next().map(str::to_owned)
    };
    eventually("the log tells of it", || dropped().is_some()).await;
    let line = dropped().unwrap_or_default();
    let parts = ["WARN", "reason=\"reserved_topic\"", "client 'c'", "$SYS/x"];
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    assert_eq!(broker.stop(Signal::TERM), Some(0));
}
