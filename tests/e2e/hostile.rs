//! Peers that lie, wait or never read: they are cut, and nobody else notices.

use std::net::SocketAddr;

use leveret_core::sink::Loss;
use leveret_net::options::Protocol;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::amqp::{channel, connect, consume_no_ack, next_text, publish};
use crate::broker::{TestBroker, eventually, within};
use crate::mqtt::{Mqtt4, Mqtt5, options4, options5};

/// CONNECT of an MQTT 3.1.1 client `x`, clean session, keep alive 60 s.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x";

async fn open(address: SocketAddr) -> TcpStream {
    within(TcpStream::connect(address))
        .await
        .expect("it listens")
}

/// Everything until the end; a reset is an end.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = within(stream.read_to_end(&mut all)).await;
    all
}

/// Reads until the end, or until connection.close (class 10, method 50), whose answer AMQP 0-9-1
/// §1.4.2.10 has the broker wait for.
async fn rest_or_close(stream: &mut TcpStream) {
    let mut all = Vec::new();
    let told = |all: &[u8]| all.windows(4).any(|bytes| bytes == [0, 10, 0, 50]);
    while !told(&all) && matches!(within(stream.read_buf(&mut all)).await, Ok(1..)) {}
}

/// Both protocols work, by a message from each to the other.
async fn works(broker: &TestBroker) {
    let connection = connect(broker).await;
    let channel = channel(&connection).await;
    let queue = crate::amqp::bound_queue(&channel, "amq.topic", "to.amqp").await;
    let mut consumer = consume_no_ack(&channel, &queue).await;
    let mut client = Mqtt4::connect(options4(broker.mqtt(), "works"))
        .await
        .expect("connects");
    client.subscribe("to/mqtt", 1).await;
    client.publish("to/amqp", 1, b"ping").await;
    assert_eq!(next_text(&mut consumer).await, "ping");
    publish(&channel, "amq.topic", "to.mqtt", b"pong").await;
    assert_eq!(client.next().await.text(), "pong");
    within(connection.close(200, "bye".into()))
        .await
        .expect("closes");
    client.disconnect().await;
}

/// FEATURES D7: bytes that mean nothing, first and after a good beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d7_garbage_closes_one_connection() {
    let broker = TestBroker::start().await;
    let random: Vec<u8> = (0..4_096_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let table: [(Protocol, &[&[u8]]); 13] = [
        (Protocol::Amqp, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]),
        (Protocol::Mqtt, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]),
        (Protocol::Amqp, &[&[0; 64]]),
        (Protocol::Mqtt, &[&[0; 64]]),
        (Protocol::Amqp, &[&[255; 64]]),
        (Protocol::Mqtt, &[&[255; 64]]),
        (Protocol::Amqp, &[&random]),
        (Protocol::Mqtt, &[&random]),
        (Protocol::Mqtt, &[CONNECT, &[255; 64]]),
        (Protocol::Mqtt, &[CONNECT, CONNECT]),
        (Protocol::Mqtt, &[CONNECT, b"\x82\x02\x00\x01"]),
        (Protocol::Amqp, &[b"AMQP\x00\x00\x09\x01", &random]),
        // A method frame of 4 GiB.
        (
            Protocol::Amqp,
            &[b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00\xff\xff\xff\xff"],
        ),
    ];
    for (row, (protocol, parts)) in table.into_iter().enumerate() {
        let mut stream = open(broker.port(protocol, 0)).await;
        for part in parts {
            // It may be closed before the last part is sent.
            let _ = stream.write_all(part).await;
        }
        rest_or_close(&mut stream).await;
        drop(stream);
        eventually(&format!("row {row} is cut"), || {
            broker.core().peer_count() == 0
        })
        .await;
    }
    works(&broker).await;
}

/// Each protocol on the other's port is told what is spoken here, or just cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_the_wrong_protocol_is_told() {
    let broker = TestBroker::start().await;
    let mut mqtt_to_amqp = open(broker.amqp()).await;
    mqtt_to_amqp.write_all(CONNECT).await.expect("room");
    // AMQP 0-9-1 §4.2.2: the server's version, then the end.
    assert_eq!(rest(&mut mqtt_to_amqp).await, b"AMQP\x00\x00\x09\x01");
    let mut amqp_to_mqtt = open(broker.mqtt()).await;
    amqp_to_mqtt
        .write_all(b"AMQP\x00\x00\x09\x01")
        .await
        .expect("room");
    assert_eq!(rest(&mut amqp_to_mqtt).await, b"");

    assert!(Mqtt4::connect(options4(broker.amqp(), "c")).await.is_err());
    let wrong = crate::amqp::try_connect(broker.mqtt(), "guest:guest", "%2f").await;
    assert!(wrong.is_err());
    works(&broker).await;
}

/// FEATURES L9: a peer that says hello and no more is cut when its time is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_silent_peers_are_cut() {
    let broker = TestBroker::start_with(|config| {
        config.amqp.handshake_timeout_ms = 200;
        config.mqtt.login_timeout_ms = 200;
    })
    .await;
    let beginnings: [(Protocol, &[u8]); 4] = [
        (Protocol::Amqp, b""),
        (Protocol::Amqp, b"AMQP\x00\x00\x09\x01"),
        (Protocol::Mqtt, b""),
        (Protocol::Mqtt, &CONNECT[..5]),
    ];
    for (protocol, beginning) in beginnings {
        let mut stream = open(broker.port(protocol, 0)).await;
        stream.write_all(beginning).await.expect("room");
        let answer = rest(&mut stream).await;
        let starts = protocol == Protocol::Amqp && !beginning.is_empty();
        // connection.start is class 10, method 10.
        assert_eq!(
            answer.get(7..11) == Some(&[0, 10, 0, 10]),
            starts,
            "{answer:?}"
        );
    }
}

/// FEATURES M17: lengths are believed only as far as they are allowed, before memory is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m17_announced_lengths_take_no_memory() {
    raise_open_files();
    let broker = TestBroker::start().await;
    let mut liars = Vec::new();
    for _ in 0..1_000 {
        let mut stream = open(broker.mqtt()).await;
        // CONNECT with Remaining Length 268,435,455, and nothing more.
        stream
            .write_all(b"\x10\xff\xff\xff\x7f")
            .await
            .expect("room");
        liars.push(stream);
    }
    works(&broker).await;
    for stream in &mut liars {
        rest(stream).await;
    }

    // After login as well: PUBLISH with the same length.
    let mut stream = open(broker.mqtt()).await;
    stream.write_all(CONNECT).await.expect("room");
    stream
        .write_all(b"\x30\xff\xff\xff\x7f")
        .await
        .expect("room");
    assert_eq!(rest(&mut stream).await, [0x20, 2, 0, 0]);
    works(&broker).await;
}

/// The largest length that is allowed, announced by many who then wait: nothing is reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m17_slow_packets_hold_what_arrived_only() {
    raise_open_files();
    let broker = TestBroker::start().await;
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut stream = open(broker.mqtt()).await;
        // CONNECT with Remaining Length 65,536, of which 16 bytes come.
        stream.write_all(b"\x10\x80\x80\x04").await.expect("room");
        stream.write_all(&CONNECT[2..]).await.expect("room");
        slow.push(stream);
    }
    works(&broker).await;
    drop(slow);
}

/// FEATURES D4, D5: 50 MB for two subscribers, of whom one never reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_subscriber_that_never_reads_hurts_nobody() {
    const BODIES: u32 = 500;
    const BODY_BYTES: usize = 100_000;
    let broker = TestBroker::start().await;
    let mut deaf = open(broker.mqtt()).await;
    deaf.write_all(CONNECT).await.expect("room");
    deaf.write_all(b"\x82\x06\x00\x01\x00\x01a\x00")
        .await
        .expect("room");
    let mut answers = [0; 9];
    within(deaf.read_exact(&mut answers))
        .await
        .expect("CONNACK and SUBACK");
    assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]);

    let mut subscriber = Mqtt5::connect(options5(broker.mqtt(), "s"))
        .await
        .expect("connects");
    subscriber.subscribe("a", 0).await;
    let mut publisher = Mqtt5::connect(options5(broker.mqtt(), "p"))
        .await
        .expect("connects");
    for number in 0..BODIES {
        let mut body = vec![0; BODY_BYTES];
        body[..4].copy_from_slice(&number.to_be_bytes());
        publisher.publish("a", 0, &body).await;
        let message = subscriber.next().await;
        assert_eq!(message.payload, body, "message {number}");
    }
    let peers = broker.core().peers();
    let views = peers.iter().map(|(_, peer)| peer.view());
    let waiting = views
        .map(|view| view.pending_bytes)
        .max()
        .unwrap_or_default();
    let max = leveret_mqtt::options::Options::default().output_bytes_max;
    assert!(
        waiting <= max + BODY_BYTES as u64,
        "{waiting} bytes wait for one client"
    );
    let queue = broker
        .queue("mqtt-subscription-xqos0")
        .expect("it is there");
    let dropped = queue.losses().of(Loss::Overflow);
    assert!(dropped > 0, "what was dropped is counted");
    drop(deaf);
    works(&broker).await;
}

/// The tests hold both ends of every socket.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum it may be");
}
