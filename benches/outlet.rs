//! Out-buffers: a publication's way through a remembered route into the bytes that its consumer is
//! sent, MQTT and AMQP 0-9-1, and their way out to the driver.
//!
//! The machines are logged in by hand; no socket, no driver.

use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_amqp::method::{
    BasicConsume, ChannelOpen, ClientMethod, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk,
    LongString, QueueBind, QueueDeclare,
};
use leveret_core::broker::Broker;
use leveret_core::definitions::Volatile;
use leveret_core::exchange::Memo;
use leveret_core::journal::MemoryJournal;
use leveret_core::key::Form;
use leveret_core::link::Link;
use leveret_core::login::{Reply, Verdict};
use leveret_core::message::{AmqpOrigin, Head, MessageRef};
use leveret_core::options::Options;
use leveret_core::peer::{Accepted, Origin};
use leveret_core::time::Time;
use leveret_core::turn::Turn;
use leveret_mqtt::packet::connect::{Connect, ConnectProperties};
use leveret_mqtt::packet::subscribe::{self, SubscriptionOptions};
use leveret_mqtt::packet::{ProtocolVersion, QoS};
use leveret_net::machine::Machine;

/// Deliveries of one iteration: what one read batch may bring.
const BATCH: usize = 16;

struct Bench<M> {
    link: Arc<Link>,
    turn: Turn,
    memo: Memo,
    machine: M,
    out: Vec<u8>,
}

fn broker() -> Arc<Broker> {
    Broker::open(
        Options::default(),
        Arc::new(Volatile::default()),
        Arc::new(MemoryJournal::default()),
        Time(1),
        || "unused".to_owned(),
    )
    .expect("an empty broker opens")
}

fn accepted() -> Accepted {
    let address = ([127, 0, 0, 1], 1).into();
    Accepted {
        peer: address,
        local: address,
        origin: Origin::new("bench", None),
    }
}

impl<M: Machine> Bench<M> {
    /// A machine that has taken the client's bytes and was logged in.
    fn new(broker: &Arc<Broker>, machine: M, input: &[u8]) -> Self {
        let vhost = broker.vhost("/").expect("the default vhost");
        let mut bench = Self {
            link: broker.owner_link(&vhost),
            turn: Turn::new(),
            memo: Memo::default(),
            machine,
            out: Vec::new(),
        };
        let mut rest = input;
        while !rest.is_empty() {
            let taken = bench.machine.handle_input(&mut bench.turn, rest);
            rest = &rest[taken..];
            if bench.machine.poll_request().is_some() {
                let reply = Reply::Login(Verdict::Accepted);
                bench.machine.handle_reply(&mut bench.turn, reply);
            } else {
                assert!(taken > 0, "whole packets are taken");
            }
            bench.drain();
        }
        bench
    }

    fn drain(&mut self) {
        if self.machine.doorbell().answer() {
            self.machine.handle_wake(&mut self.turn);
        }
        self.out.clear();
        self.machine.poll_output(&mut self.out);
    }

    /// Publishes a batch and takes what it became.
    fn round(&mut self, payload: &[u8]) {
        for _ in 0..BATCH {
            let message = MessageRef {
                head: Head {
                    origin: &AmqpOrigin,
                    form: Form::Dotted,
                    persistent: false,
                    retain: false,
                    exactly_once: false,
                    publisher: 1,
                    received: Time(1),
                    expires: None,
                },
                exchange: "amq.topic",
                key: b"cities.london",
                properties: b"\0\0",
                payload: black_box(payload),
            };
            self.link
                .publish(&mut self.turn, &mut self.memo, &message)
                .expect("it is allowed");
        }
        self.turn.ring();
        self.drain();
        assert!(self.out.len() > BATCH * payload.len(), "all of it is there");
    }
}

fn mqtt() -> Bench<leveret_mqtt::Connection> {
    let broker = broker();
    let node = leveret_mqtt::Node::new(
        Arc::clone(&broker),
        leveret_mqtt::options::Options::default(),
    );
    let machine = leveret_mqtt::Connection::new(&node, accepted(), Time(1));
    let mut input = Vec::new();
    let version = ProtocolVersion::V4;
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "subscriber",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
    .encode(&mut input)
    .expect("it fits");
    let filters = [subscribe::Subscription {
        filter: "cities/+",
        options: SubscriptionOptions::new(QoS::AtMostOnce),
    }];
    subscribe::encode(&mut input, version, NonZeroU16::MIN, &[], &filters).expect("it fits");
    Bench::new(&broker, machine, &input)
}

fn amqp() -> Bench<leveret_amqp::Connection> {
    let broker = broker();
    let node = leveret_amqp::Node::new(
        Arc::clone(&broker),
        leveret_amqp::options::Options::default(),
    );
    let machine = leveret_amqp::Connection::new(&node, accepted(), Time(1));
    let mut input = b"AMQP\x00\x00\x09\x01".to_vec();
    let connection = [
        ClientMethod::ConnectionStartOk(ConnectionStartOk {
            mechanism: "PLAIN",
            response: LongString(b"\0guest\0guest"),
            locale: "en_US",
            ..ConnectionStartOk::default()
        }),
        ClientMethod::ConnectionTuneOk(ConnectionTuneOk {
            channel_max: 2_047,
            frame_max: 131_072,
            heartbeat: 0,
        }),
        ClientMethod::ConnectionOpen(ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        }),
    ];
    let queue = "readings";
    let channel = [
        ClientMethod::ChannelOpen(ChannelOpen::default()),
        ClientMethod::QueueDeclare(QueueDeclare {
            queue,
            ..QueueDeclare::default()
        }),
        ClientMethod::QueueBind(QueueBind {
            queue,
            exchange: "amq.topic",
            routing_key: "cities.*",
            ..QueueBind::default()
        }),
        ClientMethod::BasicConsume(BasicConsume {
            queue,
            consumer_tag: "reader",
            no_ack: true,
            ..BasicConsume::default()
        }),
    ];
    connection.iter().for_each(|m| m.encode(0, &mut input));
    channel.iter().for_each(|m| m.encode(1, &mut input));
    Bench::new(&broker, machine, &input)
}

fn outlets(criterion: &mut Criterion) {
    let payload = [7; 4_096];
    let mut group = criterion.benchmark_group("outlet");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (size, bytes) in [("64B", 64), ("4KiB", 4_096)] {
        let payload = &payload[..bytes];
        let mut bench = mqtt();
        group.bench_function(format!("mqtt_{size}"), |criterion| {
            criterion.iter(|| bench.round(payload));
        });
        let mut bench = amqp();
        group.bench_function(format!("amqp_{size}"), |criterion| {
            criterion.iter(|| bench.round(payload));
        });
    }
    group.finish();
}

criterion_group!(out_buffers, outlets);
criterion_main!(out_buffers);
