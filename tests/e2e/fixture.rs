//! A small data directory of each format that was ever written, kept in the repository: every later
//! version must open it and find everything.
//!
//! `cargo xtask fixture` makes the file of the format that is written now.

mod pack;

use std::path::Path;

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};
use rustix::process::Signal;

use crate::amqp::{bind, channel, try_connect};
use crate::broker::within;
use crate::program::{Program, code, run, stderr, stdout};
use crate::survive::{Connect, DUP, QOS1, QOS2, RETAIN, Raw};

/// Where `cargo xtask fixture` wants the file.
const OUT: &str = "LEVERET_FIXTURE";

/// The bytes of each format, by the journal's version.
const KEPT: [(&str, &[u8]); 1] = [("2", include_bytes!("../fixtures/journal-2.pack"))];

/// The file is part of every clone.
const PACK_BYTES_MAX: usize = 200 * 1_024;

/// Sessions never end, however old the file is.
const FOR_EVER: [&str; 1] = ["mqtt.max_session_expiry_interval_seconds=infinity"];

const SESSION: Connect<'_> = Connect {
    clean_start: false,
    session_s: u32::MAX,
    will: None,
};

async fn connected(program: &Program) -> Channel {
    let address = program.address("AMQP 0-9-1").parse().expect("an address");
    let connection = try_connect(address, "guest:guest", "%2f").await;
    channel(&connection.expect("connects")).await
}

fn ctl(directory: &Path, arguments: &[&str]) -> String {
    let arguments = [&["ctl"], arguments].concat();
    let output = run(&arguments, directory);
    assert_eq!(code(&output), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// One of each kind of what is kept.
async fn fill(directory: &Path) {
    let program = Program::start_with(directory, &FOR_EVER);
    for command in [
        &["add_user", "anna", "secret"][..],
        &["set_user_tags", "anna", "monitoring"],
        &["add_vhost", "red"],
        &["set_permissions", "-p", "red", "anna", "^a", "^b", "^c"],
        &[
            "set_topic_permissions",
            "-p",
            "red",
            "anna",
            "amq.topic",
            "^w",
            "^r",
        ],
        &["set_global_parameter", "colour", "\"green\""],
    ] {
        ctl(directory, command);
    }
    fill_amqp(&connected(&program).await).await;
    let (mut sensor, _) = Raw::connect(&program, "sensor", SESSION);
    sensor.subscribe("s/#");
    drop(sensor);
    let (mut exact, _) = Raw::connect(&program, "exact", SESSION);
    exact.publish(RETAIN | QOS1, "r/topic", 1, "kept");
    exact.publish(RETAIN | QOS1, "r/gone", 2, "cleared");
    exact.publish(RETAIN | QOS1, "r/gone", 3, "");
    exact.publish(QOS1, "s/one", 4, "one");
    exact.publish(QOS2, "s/exact", 7, "exactly once");
    let wish = Connect {
        will: Some(("s/will", 3_600)),
        ..SESSION
    };
    let (mourner, _) = Raw::connect(&program, "mourner", wish);
    mourner.leave_with_will();
    program.stop(Signal::TERM);
    // What the segment has room for and does not use goes.
    let repaired = run(&["store", "repair"], directory);
    assert_eq!(code(&repaired), Some(0), "{}", stderr(&repaired));
}

async fn fill_amqp(channel: &Channel) {
    let exchange = channel.exchange_declare(
        "orders".into(),
        ExchangeKind::Direct,
        ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        },
        FieldTable::default(),
    );
    within(exchange).await.expect("may be declared");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1_000));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare("work".into(), durable, arguments);
    within(declared).await.expect("may be declared");
    bind(channel, "work", "orders", "new").await;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    for body in ["settled", "two", "three"] {
        let mut headers = FieldTable::default();
        headers.insert("weight".into(), AMQPValue::LongInt(7));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(ShortString::from("text/plain"))
            .with_headers(headers);
        let (exchange, key) = ("orders".into(), "new".into());
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        within(within(sent).await.expect("is sent"))
            .await
            .expect("is confirmed");
    }
    let got = channel.basic_get("work".into(), BasicGetOptions::default());
    let got = within(got).await.expect("may").expect("is there");
    assert_eq!(got.delivery.data, b"settled");
    within(got.delivery.ack(BasicAckOptions::default()))
        .await
        .expect("is sent");
    // Its answer is behind the acknowledgement.
    bind(channel, "work", "orders", "old").await;
}

/// Everything that [`fill`] made is there, and works.
async fn check(directory: &Path) {
    let checked = run(&["store", "check"], directory);
    assert_eq!(
        code(&checked),
        Some(0),
        "{}{}",
        stdout(&checked),
        stderr(&checked)
    );
    let program = Program::start_with(directory, &FOR_EVER);
    for (command, expected) in [
        (&["list_users", "-s"][..], "anna\t[monitoring]"),
        (&["list_permissions", "-p", "red", "-s"], "anna\t^a\t^b\t^c"),
        (
            &["list_topic_permissions", "-p", "red", "-s"],
            "anna\tamq.topic\t^w\t^r",
        ),
        (&["list_global_parameters", "-s"], "colour\t"),
        (&["list_exchanges", "-s"], "orders\tdirect"),
        (
            &["list_bindings", "-s"],
            "orders\texchange\twork\tqueue\tnew",
        ),
        (
            &["list_queues", "name", "messages", "arguments", "-s"],
            "work\t2\t[{\"x-max-length\",1000}]",
        ),
    ] {
        let listed = ctl(directory, command);
        assert!(listed.contains(expected), "{command:?}: {listed}");
    }
    ctl(directory, &["authenticate_user", "anna", "secret"]);
    check_amqp(&connected(&program).await).await;
    check_mqtt(&program);
    program.stop(Signal::TERM);
}

async fn check_amqp(channel: &Channel) {
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume("work".into(), "".into(), options, FieldTable::default());
    let mut consumer = within(consume).await.expect("may be consumed");
    for body in ["two", "three"] {
        let delivery = within(consumer.next())
            .await
            .expect("more")
            .expect("is fine");
        assert_eq!(delivery.data, body.as_bytes());
        assert!(delivery.redelivered);
        assert_eq!(
            (delivery.exchange.as_str(), delivery.routing_key.as_str()),
            ("orders", "new")
        );
        let properties = &delivery.properties;
        assert_eq!(
            properties.content_type().as_ref().map(ShortString::as_str),
            Some("text/plain")
        );
        let headers = properties.headers().as_ref().expect("it has headers");
        assert_eq!(headers.inner().get("weight"), Some(&AMQPValue::LongInt(7)));
    }
}

fn check_mqtt(program: &Program) {
    let (mut fresh, _) = Raw::connect(program, "fresh", Connect::default());
    fresh.subscribe("r/#");
    let kept = (RETAIN | QOS1, "r/topic".to_owned(), "kept".to_owned());
    assert_eq!(fresh.message(), kept);
    let (mut exact, present) = Raw::connect(program, "exact", SESSION);
    assert!(present, "its identifier is kept");
    exact.publish(QOS2 | DUP, "s/exact", 7, "exactly once");
    exact.release(7);
    // A clean start ends the session: its will is published if it was not due before.
    let anew = Connect {
        clean_start: true,
        ..SESSION
    };
    Raw::connect(program, "mourner", anew);
    exact.publish(QOS1, "s/end", 8, "end");
    let (mut sensor, present) = Raw::connect(program, "sensor", SESSION);
    assert!(present, "its subscription is kept");
    let mut topics = Vec::new();
    while topics.last().is_none_or(|last| last != "s/end") {
        topics.push(sensor.message().1);
    }
    assert_eq!(
        topics,
        ["s/one", "s/exact", "s/will", "s/end"],
        "in order, each once"
    );
}

/// FEATURES D2: this version opens what earlier ones left, and everything is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_kept_stores_open() {
    for (version, packed) in KEPT {
        assert!(packed.len() < PACK_BYTES_MAX, "version {version}");
        let directory = tempfile::tempdir().expect("a data directory");
        pack::unpack(packed, directory.path());
        check(directory.path()).await;
    }
}

/// What `cargo xtask fixture` keeps is what [`check`] looks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_fresh_store_is_as_the_kept_ones() {
    let directory = tempfile::tempdir().expect("a data directory");
    fill(directory.path()).await;
    let packed = pack::pack(directory.path());
    if let Some(out) = std::env::var_os(OUT) {
        std::fs::write(out, &packed).expect("is written");
    }
    let copy = tempfile::tempdir().expect("a data directory");
    pack::unpack(&packed, copy.path());
    check(copy.path()).await;
}
