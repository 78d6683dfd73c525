//! The real program on a small file system that fills up: run by `cargo xtask faults`, which mounts
//! one. Not part of `cargo test`: mounting takes root.
//!
//! `LEVERET_FAULTS` is the empty file system, of about 200 MiB.

#[path = "../e2e/program.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use parking_lot::Mutex;
use program::{Program, code, run, stderr, stdout};
use rustix::process::Signal;
use tokio::task::{JoinHandle, spawn, spawn_blocking};

const DEADLINE: Duration = Duration::from_secs(120);

/// Only a disk that is really full stops anybody.
const LIMIT: [&str; 1] = ["disk_free_limit.absolute=1MB"];

const BODY_BYTES: usize = 60_000;

const FILLER_BYTES: usize = 48 * 1_024 * 1_024;

type Confirmed = Arc<Mutex<BTreeSet<String>>>;

async fn within<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.expect("it happens before the deadline")
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let waited = tokio::time::timeout(DEADLINE, async {
        while !is_so() {
            ticks.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn connect(program: &Program) -> Connection {
    let uri = format!("amqp://guest:guest@{}/%2f", program.address("AMQP 0-9-1"));
    let connected = Connection::connect(&uri, ConnectionProperties::default());
    within(connected).await.expect("connects")
}

async fn channel(connection: &Connection) -> Channel {
    within(connection.create_channel())
        .await
        .expect("there is room")
}

/// A channel with confirms.
async fn publisher(connection: &Connection) -> Channel {
    let channel = channel(connection).await;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    within(select).await.expect("confirms");
    channel
}

async fn set_up(program: &Program) {
    let connection = connect(program).await;
    let channel = channel(&connection).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare("kept".into(), durable, FieldTable::default());
    within(declared).await.expect("may be declared");
    let (queue, exchange, key) = ("kept".into(), "amq.topic".into(), "full.#".into());
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue, exchange, key, options, FieldTable::default());
    within(bound).await.expect("may be bound");
}

fn body(name: &str) -> Vec<u8> {
    let mut body = format!("{name} ").into_bytes();
    body.resize(BODY_BYTES, b'.');
    body
}

fn name(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Publishes with confirms for as long as the broker lives.
fn publish_amqp(channel: Channel, who: &'static str, confirmed: Confirmed) -> JoinHandle<()> {
    spawn(async move {
        for number in 0.. {
            let name = format!("{who}-{number}");
            let properties = BasicProperties::default().with_delivery_mode(2);
            let (exchange, key) = ("amq.topic".into(), "full.amqp".into());
            let options = BasicPublishOptions::default();
            let body = body(&name);
            let sent = channel.basic_publish(exchange, key, options, &body, properties);
            let Ok(confirm) = sent.await else { return };
            match confirm.await {
                Ok(Confirmation::Ack(_)) => confirmed.lock().insert(name),
                _ => return,
            };
        }
    })
}

/// Publishes with QoS 1 for as long as the broker lives, one at a time.
fn publish_mqtt(address: String, confirmed: Confirmed) -> JoinHandle<()> {
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let connect = b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05fills";
        stream.write_all(connect).expect("it reads");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer, [0x20, 2, 0, 0]);
        for number in 0.. {
            let name = format!("mqtt-{number}");
            let mut rest = b"\0\x09full/mqtt\0\x01".to_vec();
            rest.extend_from_slice(&body(&name));
            // Below 2 to the 21st: three bytes of length.
            let length = rest.len();
            let digits = [length & 127 | 128, length >> 7 & 127 | 128, length >> 14];
            let mut packet = vec![0x32];
            packet.extend(digits.map(|digit| digit as u8));
            packet.extend_from_slice(&rest);
            if stream.write_all(&packet).is_err() || stream.read_exact(&mut answer).is_err() {
                return;
            }
            assert_eq!(answer, [0x40, 2, 0, 1]);
            confirmed.lock().insert(name);
        }
    })
}

fn alarms(directory: &Path) -> (Option<i32>, String) {
    let checked = run(&["ctl", "check_alarms"], directory);
    (code(&checked), stdout(&checked) + &stderr(&checked))
}

/// FEATURES D1, D3: on a full file system nothing is confirmed, publishers are blocked, consumers
/// go on; when there is room again everybody goes on; what was confirmed survives kill -9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_a_full_file_system_is_waited_for() {
    let mounted = std::env::var_os("LEVERET_FAULTS").map(PathBuf::from);
    let mounted = mounted.expect("run `cargo xtask faults`");
    let (directory, filler) = (mounted.join("data"), mounted.join("filler"));
    fs::write(&filler, vec![1; FILLER_BYTES]).expect("there is room");
    let program = Program::start_with(&directory, &LIMIT);
    set_up(&program).await;
    let confirmed = Confirmed::default();
    let connection = connect(&program).await;
    let amqp = publish_amqp(publisher(&connection).await, "amqp", Arc::clone(&confirmed));
    let mqtt = publish_mqtt(program.address("MQTT"), Arc::clone(&confirmed));

    eventually("it is full and says so", || {
        alarms(&directory).0 == Some(69)
    })
    .await;
    let (_, text) = alarms(&directory);
    println!("full after {} messages: {text}", confirmed.lock().len());
    // It is told to whoever publishes now.
    let second = connect(&program).await;
    let late = publish_amqp(publisher(&second).await, "late", Arc::clone(&confirmed));
    let status = second.status();
    eventually("AMQP publishers are blocked", || status.blocked()).await;
    let at_most = confirmed.lock().len();
    let reader_connection = connect(&program).await;
    let reader = channel(&reader_connection).await;
    for _ in 0..20 {
        let got = reader.basic_get("kept".into(), BasicGetOptions::default());
        let got = within(got).await.expect("may").expect("is there");
        let settled = name(&got.delivery.data);
        within(got.delivery.ack(BasicAckOptions::default()))
            .await
            .expect("is sent");
        confirmed.lock().remove(&settled);
    }
    let held = confirmed.lock().len();
    assert!(
        held + 20 <= at_most + 2,
        "nothing is confirmed meanwhile: {held}, {at_most}"
    );

    fs::remove_file(&filler).expect("is removed");
    eventually("there is room again", || alarms(&directory).0 == Some(0)).await;
    eventually("publishers go on", || confirmed.lock().len() > held + 20).await;
    program.stop(Signal::KILL);
    amqp.abort();
    late.abort();
    mqtt.await.expect("it ends well");
    let wanted = std::mem::take(&mut *confirmed.lock());
    all_are_there(&directory, wanted).await;
}

/// What was confirmed and not settled is there after a start.
async fn all_are_there(directory: &Path, mut wanted: BTreeSet<String>) {
    let checked = run(&["store", "check"], directory);
    assert_eq!(
        code(&checked),
        Some(0),
        "{}{}",
        stdout(&checked),
        stderr(&checked)
    );
    let program = Program::start_with(directory, &LIMIT);
    let all = wanted.len();
    let connection = connect(&program).await;
    let reader = channel(&connection).await;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consume = reader.basic_consume("kept".into(), "".into(), options, FieldTable::default());
    let mut consumer = within(consume).await.expect("may be consumed");
    while !wanted.is_empty() {
        let delivery = within(consumer.next())
            .await
            .expect("more")
            .expect("is fine");
        wanted.remove(&name(&delivery.data));
    }
    println!("all of {all} confirmed messages are there after a kill");
    program.stop(Signal::TERM);
}

/// FEATURES D3: on a file system that may only be read a broker does not start and says why; it can
/// be looked at, and starts when it may be written again.
#[test]
fn d3_a_read_only_file_system_is_named() {
    let mounted = std::env::var_os("LEVERET_FAULTS_READ_ONLY").map(PathBuf::from);
    let mounted = mounted.expect("run `cargo xtask faults`");
    let directory = mounted.join("data");
    let refused = run(&["server"], &directory);
    assert_eq!(code(&refused), Some(69), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("not writable"),
        "{}",
        stderr(&refused)
    );
    let checked = run(&["store", "check"], &directory);
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));
    println!("read-only: {}", stderr(&refused).trim());
}

/// FEATURES D3: what could only be read for a while is whole.
#[test]
fn d3_a_store_that_may_be_written_again_starts() {
    let mounted = std::env::var_os("LEVERET_FAULTS").map(PathBuf::from);
    let directory = mounted.expect("run `cargo xtask faults`").join("data");
    let program = Program::start_with(&directory, &LIMIT);
    let listed = run(&["ctl", "list_queues", "name", "-s"], &directory);
    assert_eq!(stdout(&listed), "kept\n");
    assert_eq!(program.stop(Signal::TERM), Some(0));
}
